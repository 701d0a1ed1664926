"""Another period is the reason of a line only if all lines of the customer say so: no coincidence is stated as fact."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import timedelta
from decimal import ROUND_HALF_UP, Decimal
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


def causes(
    store: Store, invoice: list[dict[str, Any]], period: Period = OCTOBER, **given: Any
) -> tuple[Validation, dict[tuple[str, str], str]]:
    """The validation, and the cause of each total that differs."""
    frame = pd.DataFrame([{**line, "quantity": str(line["quantity"])} for line in invoice], dtype="str")
    validation = store.validate(period, checks=["reconciliation"], invoices=frame, **given)
    table = validation.sheet("reconciliation")
    assert table is not None
    differing = table[table["status"] != "matched"]
    keys = zip(differing["customer_id"], differing["metric_key"], strict=True)
    return validation, dict(zip(keys, differing["explained_by"], strict=True))


@pytest.mark.parametrize(
    ("invoiced", "billed", "usage"),
    [
        ("UTC", "Asia/Kolkata", "1 Oct 2026 05:30 to 1 Nov 2026 05:30, the period in UTC"),
        ("Asia/Kathmandu", "UTC", "30 Sep 2026 18:15 to 31 Oct 2026 18:15"),
        ("America/St_Johns", "Asia/Kathmandu", "1 Oct 2026 08:15 to 1 Nov 2026 08:15"),
    ],
)
def test_a_period_is_recognized_by_parts_of_an_hour(make: Make, invoiced: str, billed: str, usage: str) -> None:
    """India's month in UTC: each customer had another cause, and some a period that is not the invoice's."""
    rows = events(1, customers=4)
    until = pd.Timestamp(2026, 11, 1, tz=billed).to_pydatetime()
    period = Period(since=utc(2026, 10, 1).replace(tzinfo=ZoneInfo(billed)), until=until, timezone=billed)
    validation, found = causes(make(rows), lines(rows, ZoneInfo(invoiced)), period.replace(as_of=OCTOBER.as_of))
    assert set(found.values()) == {"another period"}
    assert [finding.sentence.rpartition("each is the usage of ")[2] for finding in validation.findings] == [f"{usage}."]


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


def test_a_quantity_of_another_period_that_is_billed_of_the_period_by_chance_is_part_of_it(make: Make) -> None:
    """251 of 256 seats were invoiced, of a day before; 5 are included, so that the line seemed exact."""
    rows = events(7, customers=3)
    late = [replace(row, timestamp=row.timestamp - timedelta(days=1)) for row in rows]
    invoice, right = lines(late, BERLIN), lines(rows, BERLIN)
    off = {(own["metric_key"], own["customer_id"]): own["quantity"] - line["quantity"]
           for own, line in zip(right, invoice, strict=True)}  # fmt: skip
    metric, customer = max(off, key=lambda key: off[key])
    included = off[metric, customer]
    assert included > 0
    prices = [{"metric_key": m, "unit_amount": 1, "currency": "USD", "included_quantity": included * (m == metric)}
              for m in METRICS]  # fmt: skip
    charged = [
        {**line, "amount": str(line["quantity"] - included * (line["metric_key"] == metric)), "currency": "USD"}
        for line in invoice
    ]
    validation, found = causes(make(rows), charged, prices=prices)
    assert found[customer, metric] == "another period"
    assert {*found.values()} == {"another period"}
    assert len(validation.findings) == 1


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


AGGREGATIONS = {"calls": "sum", "seats": "max", "level": "latest", "users": "unique:dim:user"}


@pytest.mark.parametrize(("factor", "more"), [(10, 0), (Decimal("0.1"), 0), (2, 0), (1, 100), (1, Decimal("0.5"))])
def test_a_wrong_amount_of_a_line_of_another_period_is_a_finding_of_its_own(
    make: Make, factor: Decimal, more: Decimal
) -> None:
    """Up to twice the amount, all was "the usage of the period in UTC", and nothing named what it charged more."""
    rows = events(1)
    invoice = [{**line, "amount": line["quantity"] * 2, "currency": "USD"} for line in lines(rows, UTC)]
    right = invoice[1]["amount"]
    invoice[1]["amount"] = right * factor + more
    frame = pd.DataFrame(invoice).astype({"quantity": "str", "amount": "str"})
    prices = [{"metric_key": metric, "unit_amount": 2, "currency": "USD"} for metric in METRICS]
    found = make(rows).validate(OCTOBER, checks=["reconciliation"], invoices=frame, prices=prices).findings
    (of_period,) = (finding for finding in found if finding.kind == "another period")
    (other,) = (finding for finding in found if finding is not of_period)
    assert (str(other.customer_id), other.metric_key) == (invoice[1]["customer_id"], invoice[1]["metric_key"])
    assert (other.severity, other.kind.partition(",")[0]) == ("high", "wrong amount")
    assert other.amounts == (("USD", abs(right * factor + more - right)),)
    assert "the usage of 1 Oct 2026 02:00 to 1 Nov 2026 01:00" in other.sentence
    used = {(line["customer_id"], line["metric_key"]): line["quantity"] for line in lines(rows, BERLIN)}
    off = [2 * (line["quantity"] - used[line["customer_id"], line["metric_key"]]) for line in invoice]
    assert of_period.amounts == (("USD", sum(map(abs, off))),)
    assert of_period.too_high == (("USD", sum(max(number, 0) for number in off)),)


def test_a_factor_of_all_amounts_of_another_period_is_one_finding_beside_it(make: Make) -> None:
    rows = events(1)
    invoice = [{**line, "amount": line["quantity"] * Decimal("2.38"), "currency": "USD"} for line in lines(rows, UTC)]
    frame = pd.DataFrame(invoice).astype({"quantity": "str", "amount": "str"})
    prices = [{"metric_key": metric, "unit_amount": 2, "currency": "USD"} for metric in METRICS]
    found = make(rows).validate(OCTOBER, checks=["reconciliation"], invoices=frame, prices=prices).findings
    assert sorted(finding.kind for finding in found) == ["another period", "factor 1.19"]


def test_without_prices_another_period_is_the_cause_of_quantities_alone(make: Make) -> None:
    rows = events(1, customers=4)
    invoice = [{**line, "amount": line["quantity"] * 2, "currency": "USD"} for line in lines(rows, UTC)]
    invoice[1]["amount"] += 100
    frame = pd.DataFrame(invoice).astype({"quantity": "str", "amount": "str"})
    found = make(rows).validate(OCTOBER, checks=["reconciliation"], invoices=frame).findings
    (of_period,) = (finding for finding in found if finding.kind == "another period")
    (other,) = (finding for finding in found if finding is not of_period)
    assert "each quantity is the usage of 1 Oct 2026 02:00" in of_period.sentence
    assert "about " in of_period.sentence
    assert other.kind == "unit price"


@pytest.mark.parametrize(
    ("days", "words", "aggregation"),
    [(-31, "1–30 Sep 2026", None), (-31, "1–30 Sep 2026", "max"), (30, "1–30 Nov 2026", "sum")],
)
def test_an_invoice_of_another_month_is_one_finding(make: Make, days: int, words: str, aggregation: str | None) -> None:
    """Each of several customers was findings of its own, too much and too little. One has usage in one month alone."""
    rows = events(5, customers=5)
    rows += [replace(row, timestamp=row.timestamp + timedelta(days=days), quantity=Decimal(2 + number % 997))
             for number, row in enumerate(rows) if row.customer_id != CUSTOMERS[1] and row.timestamp.month == 10
             if number % 5]  # fmt: skip
    take = max if aggregation == "max" else sum
    billed: dict[tuple[str, str], list[Decimal]] = {}
    for row in rows:
        if row.timestamp.astimezone(BERLIN).month == (11 if days > 0 else 9):
            billed.setdefault((str(row.customer_id), row.metric_key), []).append(row.quantity)
    invoice = [{"customer_id": who, "metric_key": metric, "quantity": take(quantities)}
               for (who, metric), quantities in billed.items()]  # fmt: skip
    prices = [{"metric_key": m, "unit_amount": 1, "currency": "USD", "aggregation": aggregation} for m in METRICS]
    period = OCTOBER.replace(as_of=utc(2027, 1, 1))
    frame = pd.DataFrame([{**line, "quantity": str(line["quantity"])} for line in invoice], dtype="str")
    book = prices if aggregation else None
    (found,) = make(rows).validate(period, checks=["reconciliation"], invoices=frame, prices=book).findings
    assert (found.severity, found.kind) == ("high", "another period")
    assert f"{4 if aggregation == 'max' else 5} customers" in found.sentence  # one has the same largest quantity
    assert f"each is the usage of {words}." in found.sentence


@pytest.mark.parametrize(
    ("customers", "prices", "words"),
    [
        (1, False, "the amounts of these lines cannot be checked without a price book."),
        (2, False, ""),
        (1, True, "the amounts of lines 1 and 2 cannot be checked without a price for it."),
    ],
)
def test_amounts_of_another_period_that_nothing_judges_are_named(
    make: Make, customers: int, prices: bool, words: str
) -> None:
    """One line of a price has no other to be compared with: a thousandfold amount was named nowhere."""
    rows = events(1, customers=customers)
    invoice = [{**line, "amount": line["quantity"] * 2, "currency": "USD"} for line in lines(rows, UTC)]
    if not prices:
        invoice[1]["amount"] *= 1000 if customers == 1 else 1
    frame = pd.DataFrame(invoice).astype({"quantity": "str", "amount": "str"})
    book = [{"metric_key": METRICS[2], "unit_amount": 2, "currency": "USD"}] if prices else None
    (found,) = make(rows).validate(OCTOBER, checks=["reconciliation"], invoices=frame, prices=book).findings
    assert found.kind == "another period"
    assert "each quantity is the usage of 1 Oct 2026 02:00" in found.sentence
    assert found.sentence.endswith(words or "the period in UTC.")


BOOK = [{"metric_key": m, "unit_amount": 1, "currency": "USD", "aggregation": a} for m, a in AGGREGATIONS.items()]


def aggregated(seed: int, per_day: int, customers: int = 8) -> list[Row]:
    """Events of metrics that are billed by several aggregations, of which seats grow."""
    draw = random.Random(seed)
    made = []
    for who in range(customers):
        for metric in AGGREGATIONS:
            for _ in range(int(35 * per_day * draw.uniform(0.2, 1.5))):
                minute = draw.randrange(35 * 24 * 60)
                seats = 5 + minute // 4000 + draw.randrange(6)
                quantity = {"seats": Decimal(seats), "users": Decimal(1)}.get(metric, Decimal(draw.randrange(1, 10**5)))
                dimensions = {"user": f"u{draw.randrange(60)}"} if metric == "users" else {}
                at = utc(2026, 9, 29) + timedelta(minutes=minute)
                made.append(event(who, at, metric, quantity=quantity, dimensions=dimensions))
    return made


def billed(rows: list[Row], zone: ZoneInfo, metrics: Collection[str] = AGGREGATIONS) -> list[dict[str, Any]]:
    """An invoice of the October of a zone by these aggregations."""
    totals: dict[tuple[str, str], list[Row]] = {}
    for row in sorted(rows, key=lambda row: (row.timestamp, row.ingested_at, row.id)):
        if (local := row.timestamp.astimezone(zone)).month == 10 and local.year == 2026 and row.metric_key in metrics:
            totals.setdefault((str(row.customer_id), row.metric_key), []).append(row)
    take: dict[str, Callable[[list[Row]], Decimal]] = {
        "calls": lambda members: sum((row.quantity for row in members), Decimal(0)),
        "seats": lambda members: max(row.quantity for row in members),
        "level": lambda members: members[-1].quantity,
        "users": lambda members: Decimal(len({row.dimensions for row in members})),
    }
    return [
        {"customer_id": customer, "metric_key": metric, "quantity": take[metric](members)}
        for (customer, metric), members in totals.items()
    ]


@pytest.mark.each_value
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize(
    ("zone", "days", "words", "per_day"),
    [
        (BERLIN, 1, "2 Oct – 1 Nov 2026", 1),
        (BERLIN, -1, "30 Sep – 30 Oct 2026", 4),
        (UTC, 0, "1 Oct 2026 02:00 to 1 Nov 2026 01:00, the period in UTC", 12),
        (NEW_YORK, 0, "1 Oct 2026 06:00 to 1 Nov 2026 05:00", 12),
    ],
)
def test_what_is_no_sum_is_part_of_the_one_finding_of_another_period(
    make: Make, zone: ZoneInfo, days: int, words: str, per_day: int, seed: int
) -> None:
    """Maxima, latest quantities and users are often those of several periods: that of the sums is named."""
    rows = aggregated(seed, per_day)
    late = [replace(row, timestamp=row.timestamp - timedelta(days=days)) for row in rows]
    validation, found = causes(make(rows), billed(late, zone), prices=BOOK)
    assert {metric for _, metric in found} >= {"calls", "level"}
    assert {*found.values()} == {"another period"}
    (finding,) = validation.findings
    assert f"each is the usage of {words}." in finding.sentence


def test_a_further_error_of_what_is_no_sum_stays_beside_the_other_period(make: Make) -> None:
    rows = aggregated(3, 12)
    invoice = billed(rows, UTC)
    (wrong,) = (line for line in invoice if (line["customer_id"], line["metric_key"]) == (str(CUSTOMERS[1]), "users"))
    wrong["quantity"] += 100
    _, found = causes(make(rows), invoice, prices=BOOK)
    assert found.pop((str(CUSTOMERS[1]), "users")) == ""
    assert {*found.values()} == {"another period"}


def test_the_latest_quantity_of_one_line_names_no_period_that_leaves_the_others_wrong(make: Make) -> None:
    """Of an invoice of New York without sums, a few lines are alike in UTC: most are not."""
    rows = aggregated(4, 4)
    metrics = ("seats", "level", "users")
    store = make([row for row in rows if row.metric_key in metrics])
    _, found = causes(store, billed(rows, NEW_YORK, metrics), prices=BOOK)
    assert len(found) > 3
    assert {*found.values()} == {""}


CENT = Decimal("0.01")


def charged(rows: list[Row], zone: ZoneInfo) -> list[dict[str, Any]]:
    """An invoice of the October of a zone, in which calls cost 0.10, from its midnight of the 15th on 0.12 USD."""
    amounts: dict[tuple[str, str], dict[Decimal, Decimal]] = {}
    for row in rows:
        local = row.timestamp.astimezone(zone)
        if (local.year, local.month) == (2026, 10):
            calls = Decimal("0.12" if local.day >= 15 else "0.10")
            price = calls if row.metric_key == "calls" else Decimal("0.07")
            parts = amounts.setdefault((str(row.customer_id), row.metric_key), {})
            parts[price] = parts.get(price, Decimal(0)) + row.quantity
    return [
        {
            "customer_id": customer,
            "metric_key": metric,
            "quantity": str(sum(parts.values())),
            "amount": str(sum((price * used).quantize(CENT, ROUND_HALF_UP) for price, used in parts.items())),
            "currency": "USD",
        }
        for (customer, metric), parts in sorted(amounts.items())
    ]


CHANGING = [
    {"metric_key": "calls", "unit_amount": "0.10", "currency": "USD", "valid_to": "2026-10-15"},
    {"metric_key": "calls", "unit_amount": "0.12", "currency": "USD", "valid_from": "2026-10-15"},
    *({"metric_key": metric, "unit_amount": "0.07", "currency": "USD"} for metric in METRICS if metric != "calls"),
]
OF_UTC = Period(since="2026-10-01", until="2026-11-01", timezone="UTC", as_of=utc(2026, 11, 20))


@pytest.mark.parametrize(("invoiced", "period"), [(BERLIN, OF_UTC), (UTC, OCTOBER)])
def test_amounts_of_a_price_that_changes_at_the_midnight_of_the_other_zone_are_of_its_period(
    make: Make, invoiced: ZoneInfo, period: Period
) -> None:
    """The quantities of two customers are those of both months, but an evening's part of it has the other price."""
    rows = events(5, customers=3)
    evenings = [(3, 9), (14, 22), (14, 23), (20, 9)]
    rows += [event(who, utc(2026, 10, day, hour, 30), quantity=Decimal(99 * who)) for who in (3, 4)
             for day, hour in evenings]  # fmt: skip
    store, invoice = make(rows), charged(rows, invoiced)
    right = {(line["customer_id"], line["metric_key"]): line for line in charged(rows, period.zone)}
    wrong = [line for line in invoice if line != right[line["customer_id"], line["metric_key"]]]
    assert {str(CUSTOMERS[who]) for who in (3, 4)} <= {line["customer_id"] for line in wrong}
    given = {"invoices": pd.DataFrame(invoice, dtype="str"), "prices": CHANGING}
    (finding,) = store.validate(period, checks=["reconciliation"], **given).findings
    amounts = [(line["amount"], right[line["customer_id"], line["metric_key"]]["amount"]) for line in wrong]
    assert finding.amounts == (("USD", sum(abs(Decimal(one) - Decimal(other)) for one, other in amounts)),)
    assert f"{len(wrong)} totals of 5 customers" in finding.sentence
    assert "invoiced other quantities or amounts than were used" in finding.sentence
    assert finding.kind == "another period"


def test_an_evening_at_the_other_price_is_of_the_period_in_utc_though_all_quantities_are_right(make: Make) -> None:
    rows = [event(who, utc(2026, 10, day, 22, 30), quantity=Decimal(99 * who)) for who in (3, 4)
            for day in (3, 14, 20)]  # fmt: skip
    store, invoice = make(rows), charged(rows, UTC)
    given = {"invoices": pd.DataFrame(invoice, dtype="str"), "prices": CHANGING}
    (finding,) = store.validate(OCTOBER, checks=["reconciliation"], **given).findings
    assert "are charged 221.76 USD, but 235.62 USD is expected" in finding.sentence
    assert "the period in UTC" in finding.sentence
    for line in invoice:
        line["amount"] = str(Decimal(line["amount"]) + 1)
    given = {"invoices": pd.DataFrame(invoice, dtype="str"), "prices": CHANGING}
    assert "the period in UTC" not in str(store.validate(OCTOBER, checks=["reconciliation"], **given).findings)


def test_late_events_between_both_periods_are_of_the_period_and_others_are_late(make: Make) -> None:
    """All that the UTC month lacks of one line arrived after finalization: late, but it would lack it anyway."""
    final = utc(2026, 11, 3)
    between = utc(2026, 9, 30, 22), utc(2026, 10, 1)
    alone, apart = (CUSTOMERS[0], "seats"), (CUSTOMERS[3], "calls")
    rows = [
        replace(row, ingested_at=final + timedelta(days=2))
        if (row.customer_id, row.metric_key) == alone and between[0] <= row.timestamp < between[1]
        else row
        for row in events(5, customers=3, unit=False)
        if (row.customer_id, row.metric_key) != alone or row.timestamp < utc(2026, 10, 31, 23)
    ]
    rows += [event(3, utc(2026, 10, 9)), event(3, utc(2026, 10, 15), ingested_at=final + timedelta(days=2))]
    known = [row for row in rows if row.ingested_at <= final]
    price = Decimal("0.07")
    invoice = [{**line, "amount": (line["quantity"] * price).quantize(CENT, ROUND_HALF_UP)}
               for line in lines(known, UTC)]  # fmt: skip
    given = {"prices": [{"metric_key": metric, "unit_amount": price, "currency": "USD"} for metric in METRICS],
             "invoices": pd.DataFrame([{**line, "currency": "USD"} for line in invoice]).astype("str")}  # fmt: skip
    store = make(rows)
    period, late = store.validate(OCTOBER.replace(finalized_at=final), checks=["reconciliation"], **given).findings
    assert (period.kind, period.severity) == ("another period", "high")
    assert (late.kind, late.severity, late.customer_id) == ("under-billed, late events", "medium", apart[0])
    right = {(line["customer_id"], line["metric_key"]): line["quantity"] for line in lines(rows, BERLIN)}
    off = [abs((right[line["customer_id"], line["metric_key"]] * price).quantize(CENT, ROUND_HALF_UP) - line["amount"])
           for line in invoice]  # fmt: skip
    assert period.amounts == (("USD", sum(off) - price),)
    assert late.amounts == (("USD", price),)
    assert f"{sum(map(bool, off)) - 1} totals of 3 customers" in period.sentence


def test_prices_that_change_at_another_zone_s_midnight_are_one_finding_where_the_period_is_right(make: Make) -> None:
    """All quantities are right, and each amount was high: no other price, tier or factor gave it."""
    evening = utc(2026, 10, 15, 2, 30)
    times = [evening, *(utc(2026, 10, day, hour, 30) for day in (3, 14, 20) for hour in (2, 23))]
    rows = [
        event(who, at, quantity=Decimal(50 * (who + 1) if at == evening else 99)) for who in range(4) for at in times
    ]
    amounts: dict[Any, dict[str, Decimal]] = {}
    for row in rows:
        of_customer = amounts.setdefault(row.customer_id, {})
        price = "0.12" if row.timestamp >= utc(2026, 10, 15, 4) else "0.10"  # New York's midnight
        of_customer[price] = of_customer.get(price, Decimal(0)) + row.quantity
    invoice = [
        {"customer_id": str(customer), "metric_key": "calls", "quantity": str(sum(parts.values())), "currency": "USD",
         "amount": str(sum((used * Decimal(price)).quantize(CENT, ROUND_HALF_UP) for price, used in parts.items()))}
        for customer, parts in amounts.items()
    ]  # fmt: skip
    store = make(rows)
    given = {"invoices": pd.DataFrame(invoice, dtype="str"), "prices": CHANGING}
    (finding,) = store.validate(OF_UTC, checks=["reconciliation"], **given).findings
    assert (finding.kind, finding.severity) == ("price change", "high")
    assert "prices change on 15 Oct 2026 04:00, as at midnight of America/New_York" in finding.sentence
    assert finding.amounts == (("USD", Decimal("0.02") * 50 * (1 + 2 + 3 + 4)),)
    invoice[0]["amount"] = str(Decimal(invoice[0]["amount"]) + 5)
    given = {"invoices": pd.DataFrame(invoice, dtype="str"), "prices": CHANGING}
    found = store.validate(OF_UTC, checks=["reconciliation"], **given).findings
    assert sorted(one.kind for one in found) == ["price change", "wrong amount"]
