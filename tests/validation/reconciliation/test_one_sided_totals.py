"""Totals with a line or usage alone: their amount counts, also where the quantity is 0 or within the tolerance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, SUBSCRIPTION, event
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.validation import Finding, Validation, read_invoices

Make = Callable[[list[Row]], Store]
SEATS = {"metric_key": "seats", "unit_amount": "2500", "currency": "EUR"}
CALLS = {"metric_key": "calls", "unit_amount": "0.10", "currency": "EUR"}


def used(who: int, *quantities: int, metric: str = "calls", **given: Any) -> list[Row]:
    times = (SINCE + timedelta(days=3 + day, hours=9) for day in range(len(quantities)))
    return [
        event(who, at, metric, quantity=Decimal(quantity), **given)
        for at, quantity in zip(times, quantities, strict=True)
    ]


def line(who: int, quantity: object, amount: object, metric: str = "calls", **more: str) -> dict[str, Any]:
    fields = {"customer_id": str(CUSTOMERS[who]), "metric_key": metric, "quantity": str(quantity)}
    return {**fields, "amount": None if amount is None else str(amount), "currency": "EUR", **more}


def validated(store: Store, lines: list[dict[str, Any]], *prices: dict[str, Any], tolerance: str = "0") -> Validation:
    invoices = read_invoices(pd.DataFrame(lines, dtype="str"), tolerance=tolerance)
    return store.validate(SEPTEMBER, checks=["reconciliation"], invoices=invoices, prices=list(prices) or None)


def only(validation: Validation) -> Finding:
    (finding,) = validation.findings
    return finding


@pytest.mark.parametrize("prices", [(), (CALLS,)], ids=["no book", "book"])
@pytest.mark.parametrize("amount", [500, -500])
@pytest.mark.parametrize(
    ("who", "more"),
    [
        (0, {"metric": "setup"}),
        (9, {}),  # a customer without events
        (0, {"wallet_currency": "USD"}),
        (0, {"subscription_id": "018f4e5c-0000-7000-8000-0000000000aa"}),
    ],
    ids=["metric", "customer", "wallet", "subscription"],
)
def test_a_charge_of_no_quantity_without_usage_is_as_high_as_one_of_quantity_1(
    make: Make, who: int, more: dict[str, str], amount: int, prices: tuple[dict[str, Any], ...]
) -> None:
    store = make([*used(0, 10, wallet_currency="EUR"), *used(1, 20, wallet_currency="EUR")])
    own = {"wallet_currency": "EUR", "subscription_id": str(SUBSCRIPTION)}
    own = {name: value for name, value in own.items() if name in more}
    right = [line(0, 10, 1, **own), line(1, 20, 2, **own)]
    validation = validated(store, [*right, line(who, 0, amount, **more)], *prices)
    finding = only(validation)
    assert (finding.severity, finding.kind, finding.customer_id) == ("high", "extra", CUSTOMERS[who])
    assert finding.amounts == (("EUR", Decimal(500)),)
    assert finding.too_high == ((("EUR", Decimal(500)),) if amount > 0 else ())
    side = "much" if amount > 0 else "little"
    assert f"but has no usage of it, 500.00 EUR too {side}" in finding.sentence
    assert "without a currency" not in finding.sentence
    assert "2 of 3 totals" in str(validation.results[0].outcome)
    found = validated(store, [*right, line(who, 1, amount, **more)], *prices).findings
    (one,) = [finding for finding in found if finding.kind == "extra"]  # without a book its unit price is one, too
    assert (one.severity, one.kind, one.amounts) == (finding.severity, finding.kind, finding.amounts)


@pytest.mark.parametrize(
    "lines",
    [
        [line(0, 0, 0, "setup"), line(0, 0, None, "fee")],
        [line(0, 0, 500, "setup"), line(0, 0, -500, "setup")],
        [line(0, 50, 600, "setup"), line(0, -50, -600, "setup")],
    ],
    ids=["of 0 or unknown", "reversed", "reversed with its quantity"],
)
def test_lines_that_come_to_nothing_charge_nothing(make: Make, lines: list[dict[str, Any]]) -> None:
    validation = validated(make(used(0, 10)), [line(0, 10, 1), *lines], CALLS)
    assert [finding for finding in validation.findings if finding.kind != "unit price"] == []


def test_quantities_that_cancel_out_leave_their_charge_and_two_equal_lines_are_charged_twice(make: Make) -> None:
    store = make(used(0, 10))
    net = validated(store, [line(0, 10, 1), line(0, 50, 600, "setup"), line(0, -50, -100, "setup")], CALLS)
    assert [finding.amounts for finding in net.findings if finding.kind == "extra"] == [(("EUR", Decimal(500)),)]
    twice = only(validated(store, [line(0, 10, 1), *[line(0, 0, 500, "setup")] * 2], CALLS))
    assert (twice.kind, twice.amounts) == ("extra", (("EUR", Decimal(1000)),))
    bare = [{**one, "currency": None} for one in (line(0, 10, 1), line(0, 0, 500, "setup"))]
    without = only(validated(store, bare, CALLS))
    assert without.sentence.endswith("has no usage of it, charged 500 without a currency.")
    euros_and_dollars = [line(0, 0, 500, "setup"), line(0, 0, 30, "setup", currency="USD")]
    both = [
        one for one in validated(store, [line(0, 10, 1), *euros_and_dollars], CALLS).findings if one.kind == "extra"
    ]
    assert [one.too_high for one in both] == [(("EUR", Decimal(500)), ("USD", Decimal(30)))]


def test_charges_of_no_quantity_are_of_no_other_period(make: Make) -> None:
    """A whole invoice of the month before is found as it is without a charge that no period accounts for."""
    rows = [
        event(who, SINCE + timedelta(days=day, hours=9), "calls", quantity=Decimal(1000 * who + 37 + day % 7))
        for who in range(3)
        for day in (-20, -9, 4, 11, 18)
    ]
    before = {
        who: sum(row.quantity for row in rows if row.customer_id == CUSTOMERS[who] and row.timestamp < SINCE)
        for who in range(3)
    }
    lines = [line(who, quantity, quantity / 10) for who, quantity in before.items()]
    store = make(rows)
    plain = validated(store, lines, CALLS).findings
    charged = validated(store, [*lines, line(0, 0, 500, "setup")], CALLS).findings
    assert {finding.kind for finding in plain} == {"another period"}
    (extra,) = [finding for finding in charged if finding.kind == "extra"]
    assert extra.amounts == (("EUR", Decimal(500)),)
    assert [finding.amounts for finding in charged if finding is not extra] == [finding.amounts for finding in plain]


MINIMUM = {"metric_key": "tokens", "unit_amount": "0.1", "minimum_amount": "50", "currency": "EUR"}


@pytest.mark.parametrize("prices", [(MINIMUM,), ({**MINIMUM, "aggregation": "max"},)], ids=["sum", "max"])
@pytest.mark.parametrize("quantities", [(0,), (7, -7)])
def test_a_minimum_of_no_quantity_needs_a_line(
    make: Make, quantities: tuple[int, ...], prices: tuple[dict[str, Any], ...]
) -> None:
    rows = [row for who in range(2) for row in (*used(who, *quantities, metric="tokens"), *used(who, 10))]
    store, book = make(rows), (*prices, CALLS)
    calls = [line(who, 10, 1) for who in range(2)]
    none = only(validated(store, calls, *book))
    assert (none.severity, none.kind, none.amounts) == ("high", "metric without a line", (("EUR", Decimal(100)),))
    expected = {(one.customer_id, one.metric_key): one for one in store.rate(SEPTEMBER, prices=list(book)).lines}
    of_first = expected[CUSTOMERS[0], "tokens"]
    one = only(validated(store, [*calls, line(0, of_first.billable_quantity, of_first.amount, "tokens")], *book))
    assert (one.severity, one.kind, one.customer_id) == ("high", "missing", CUSTOMERS[1])
    assert (one.amounts, one.too_high) == ((("EUR", Decimal(50)),), ())
    assert "has no invoice line for tokens" in one.sentence
    assert "for which 50.00 EUR is expected" in one.sentence


def test_a_minimum_that_late_events_bring_is_explained_by_them(make: Make) -> None:
    at = SINCE + timedelta(days=3)
    rows = [event(0, at, "tokens", quantity=Decimal(0), ingested_at=SINCE + timedelta(days=33)), *used(0, 10)]
    store, period = make(rows), SEPTEMBER.replace(finalized_at=SINCE + timedelta(days=31))
    invoices = pd.DataFrame([line(0, 10, 1)], dtype="str")
    found = store.validate(period, checks=["reconciliation"], invoices=invoices, prices=[MINIMUM, CALLS])
    finding = only(found)
    assert (finding.severity, finding.kind) == ("medium", "missing, late events")


def test_the_tolerance_is_of_quantities_and_hides_no_amount_of_the_book(make: Make) -> None:
    store = make([row for who in range(3) for row in used(who, 1, metric="seats")])
    right = [line(who, 1, 2500, "seats") for who in range(3)]
    assert not validated(store, right, SEATS, tolerance="1").findings
    missing = only(validated(store, right[1:], SEATS, tolerance="1"))
    assert (missing.severity, missing.kind, missing.customer_id) == ("high", "missing", CUSTOMERS[0])
    assert (missing.amounts, missing.too_high) == ((("EUR", Decimal(2500)),), ())
    stranger = only(validated(store, [*right, line(9, 1, 2500, "seats")], SEATS, tolerance="1"))
    assert (stranger.severity, stranger.kind, stranger.customer_id) == ("high", "extra", CUSTOMERS[9])
    assert stranger.too_high == (("EUR", Decimal(2500)),)
    assert not validated(store, right[1:], tolerance="1").findings  # what a seat costs is not known


@pytest.mark.parametrize(("amount", "is_found"), [(10, True), ("1.03", True), ("1.02", False), (1, False), (0, False)])
def test_a_blank_amount_hides_no_line_beyond_the_whole_expected_amount(
    make: Make, amount: object, is_found: bool
) -> None:
    validation = validated(make(used(0, 10)), [line(0, 6, amount), line(0, 4, None)], CALLS)
    assert bool(validation.findings) == is_found
    assert validation.unchecked
    if is_found:
        finding = only(validation)
        assert (finding.severity, finding.too_high) == ("high", (("EUR", Decimal(str(amount)) - 1),))
        assert finding.sentence.endswith(
            "but 1.00 EUR is expected for 10: that is without line 2, which has no amount."
        )
