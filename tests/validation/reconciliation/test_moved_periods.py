"""Another period is the reason of a line only if all lines of the customer say so: no coincidence is stated as fact."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, event
from support.query_oracle import Row, utc
from usage_explore import Store
from usage_explore.query.queries import Period
from usage_explore.validation import Validation

Make = Callable[[list[Row]], Store]
METRICS = ("calls", "bytes", "seats")
BERLIN, NEW_YORK, UTC = ZoneInfo("Europe/Berlin"), ZoneInfo("America/New_York"), ZoneInfo("UTC")
OCTOBER = Period(
    since="2026-09-30T22:00:00Z", until="2026-10-31T23:00:00Z", timezone="Europe/Berlin", as_of=utc(2026, 11, 20)
)
"""October of Berlin, whose clocks change in it."""


def events(seed: int, customers: int = 2, per_day: int = 12, *, unit: bool = True) -> list[Row]:
    """Events of three metrics at any time of 29 September to 2 November."""
    draw = random.Random(seed)
    minutes = 35 * 24 * 60
    return [
        event(
            who,
            utc(2026, 9, 29) + timedelta(minutes=draw.randrange(minutes)),
            metric,
            quantity=Decimal(1) if unit else Decimal(draw.randrange(1, 10**6)).scaleb(-3),
        )
        for who in range(customers)
        for metric in METRICS
        for _ in range(35 * per_day)
    ]


def lines(rows: list[Row], zone: ZoneInfo) -> list[dict[str, Any]]:
    """An invoice of the October of a zone."""
    quantities: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        if (local := row.timestamp.astimezone(zone)).month == 10 and local.year == 2026:
            key = str(row.customer_id), row.metric_key
            quantities[key] = quantities.get(key, Decimal(0)) + row.quantity
    names = ("customer_id", "metric_key", "quantity")
    return [dict(zip(names, (*key, quantity), strict=True)) for key, quantity in sorted(quantities.items())]


def causes(store: Store, invoice: list[dict[str, Any]], **given: Any) -> tuple[Validation, dict[tuple[str, str], str]]:
    """The validation, and the cause of each total that differs."""
    frame = pd.DataFrame([{**line, "quantity": str(line["quantity"])} for line in invoice], dtype="str")
    validation = store.validate(OCTOBER, checks=["reconciliation"], invoices=frame, **given)
    table = validation.sheet("reconciliation")
    assert table is not None
    differing = table[table["status"] != "matched"]
    keys = zip(differing["customer_id"], differing["metric_key"], strict=True)
    return validation, dict(zip(keys, differing["explained_by"], strict=True))


@pytest.mark.parametrize("seed", range(2))
def test_one_wrong_line_among_exact_ones_has_no_other_period(make: Make, seed: int) -> None:
    """Any small number is the usage between some two periods; the exact lines of the invoice contradict it."""
    rows = events(seed)
    store, right = make(rows), lines(rows, BERLIN)
    for off in (-8, -2, -1, 1, 3, 8):
        wrong = [{**line, "quantity": line["quantity"] + off * (number == 2)} for number, line in enumerate(right)]
        validation, found = causes(store, wrong)
        assert [*found.values()] == [""], (off, validation.findings[0].sentence)


def test_the_only_line_of_a_customer_has_no_other_period_by_coincidence(make: Make) -> None:
    rows = [row for row in events(3) if row.metric_key == "calls"]
    store, right = make(rows), lines(rows, BERLIN)
    for off in (-8, -1, 1, 2, 5):
        validation, found = causes(store, [{**line, "quantity": line["quantity"] + off} for line in right])
        assert {*found.values()} == {""}, (off, validation.findings[0].sentence)


@pytest.mark.parametrize("aggregation", [None, "count"])
@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize(("zone", "words"), [(UTC, "1 Oct 2026 02:00 to 1 Nov 2026 01:00, the period in UTC"),
                                             (NEW_YORK, "1 Oct 2026 06:00 to 1 Nov 2026 05:00")])  # fmt: skip
def test_an_invoice_of_another_zone_names_that_and_no_other_period(
    make: Make, zone: ZoneInfo, words: str, unit: bool, aggregation: str | None
) -> None:
    """Berlin's clocks change in October: the period of the other zone begins and ends by other hours later."""
    rows = events(5, per_day=40, unit=unit)
    prices = [{"metric_key": m, "unit_amount": 1, "currency": "USD", "aggregation": "count"} for m in METRICS]
    billed = [replace(row, quantity=Decimal(1)) for row in rows] if aggregation else rows
    invoice = lines(billed, zone)
    validation, found = causes(make(rows), invoice, prices=prices if aggregation else None)
    assert len(found) > 2
    assert {*found.values()} == {"another period"}
    assert all(words in finding.sentence for finding in validation.findings)


def test_a_late_invoice_of_all_customers_is_one_finding(make: Make) -> None:
    rows = events(7, customers=3)
    late = [replace(row, timestamp=row.timestamp - timedelta(days=1)) for row in rows]
    validation, found = causes(make(rows), lines(late, BERLIN))
    assert {*found.values()} == {"another period"}
    (finding,) = validation.findings
    assert finding.severity == "high"
    assert f"{len(found)} totals of 3 customers" in finding.sentence
    assert "each is the usage of 2 Oct – 1 Nov 2026" in finding.sentence


def test_a_further_error_of_an_invoice_of_another_zone_stays_without_a_reason(make: Make) -> None:
    rows = events(9, per_day=60)
    invoice = lines(rows, UTC)
    invoice[4]["quantity"] += 100
    _, found = causes(make(rows), invoice)
    wrong = invoice[4]["customer_id"], invoice[4]["metric_key"]
    assert found.pop(wrong) == ""
    assert {*found.values()} == {"another period"}
    assert str(CUSTOMERS[1]) in wrong


FIRST, AFTER = utc(2026, 10, 1, 9), utc(2026, 11, 1, 9)
"""A time of the first day of October, and of the day after it: an invoice a day late has the one and not the other."""


@pytest.mark.parametrize("aggregation", [None, "sum", "count"])
def test_what_a_late_invoice_lacks_or_has_beside_is_part_of_its_one_finding(
    make: Make, aggregation: str | None
) -> None:
    """Usage of the first day alone, of the day after alone, and two customers whose wrong numbers look like a swap."""
    at = {3: [FIRST], 4: [AFTER], 5: [FIRST, utc(2026, 10, 9)], 6: [utc(2026, 10, 9), AFTER]}
    extra = [event(who, time, "calls", quantity=Decimal(7)) for who, times in at.items() for time in times]
    rows = [*events(7, customers=3), *extra]
    late = [replace(row, timestamp=row.timestamp - timedelta(days=1)) for row in rows]
    billed = [replace(row, quantity=Decimal(1)) if aggregation == "count" else row for row in late]
    prices = [{"metric_key": m, "unit_amount": 1, "currency": "USD", "aggregation": aggregation} for m in METRICS]
    validation, found = causes(make(rows), lines(billed, BERLIN), prices=prices if aggregation else None)
    assert {*found.values()} == {"another period"}
    assert {str(CUSTOMERS[who]) for who in at} <= {customer for customer, _ in found}
    (finding,) = validation.findings
    assert f"{len(found)} totals of 7 customers" in finding.sentence
    assert "each is the usage of 2 Oct – 1 Nov 2026" in finding.sentence


def test_what_another_period_does_not_explain_exactly_stays_beside_a_late_invoice(make: Make) -> None:
    """Usage of other days without a line, and a customer with an exact line that the period would change."""
    right = [event(4, utc(2026, 10, 9) + timedelta(hours=hour), "calls") for hour in range(3)]
    right += [event(4, FIRST, metric) for metric in ("calls", "bytes")]
    rows = [*events(7, customers=3), *(event(3, utc(2026, 10, 9 * day), "calls") for day in (1, 2)), *right]
    late = [
        replace(row, timestamp=row.timestamp - timedelta(days=1)) for row in rows if row.customer_id in CUSTOMERS[:3]
    ]
    exact = [line for line in lines(right, BERLIN) if line["metric_key"] == "calls"]
    _, found = causes(make(rows), [*lines(late, BERLIN), *exact])
    assert found.pop((str(CUSTOMERS[3]), "calls")) == ""
    assert found.pop((str(CUSTOMERS[4]), "bytes")) == ""
    assert {*found.values()} == {"another period"}


def test_the_period_of_one_customer_explains_nothing_of_others(make: Make) -> None:
    rows = [*events(7, customers=3), event(3, FIRST, "calls")]
    late = [
        replace(row, timestamp=row.timestamp - timedelta(days=1)) for row in rows if row.customer_id == CUSTOMERS[0]
    ]
    others = [
        {**line, "quantity": line["quantity"] + 10_000 + number} for number, line in enumerate(lines(rows, BERLIN))
    ]
    others = [line for line in others if line["customer_id"] in map(str, CUSTOMERS[1:3])]
    _, found = causes(make(rows), [*lines(late, BERLIN), *others])
    assert found[str(CUSTOMERS[3]), "calls"] == ""
    assert {cause for (customer, _), cause in found.items() if customer == str(CUSTOMERS[0])} == {"another period"}
