"""What an invoice leaves out altogether is one finding: of a metric or price without any line."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, event
from support.check_results import shown
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.validation import Finding

Make = Callable[[list[Row]], Store]
PRICES = (("calls", "0.10", "USD"), ("bytes", "0.07", "EUR"), ("seats", "3", "USD"), ("seats", "350", "JPY"))
BOOK = [{"metric_key": metric, "unit_amount": price, "currency": code} for metric, price, code in PRICES]


def usage(customers: int, metrics: tuple[str, ...] = ("calls", "bytes", "seats")) -> list[Row]:
    """Three events of each metric; every third customer pays seats in JPY, the others in USD."""
    return [
        event(
            who,
            SINCE + timedelta(days=3 + day, hours=9),
            metric,
            quantity=Decimal(10 * who + day + 1),
            wallet_currency="EUR" if metric == "bytes" else "JPY" if metric == "seats" and who % 3 == 2 else "USD",
        )
        for who in range(customers)
        for metric in metrics
        for day in range(3)
    ]


def billed(rows: list[Row], *, by: str = "metric_key") -> pd.DataFrame:
    """Lines without amounts of all usage."""
    used: dict[tuple[str, str], Decimal] = {}
    for row in rows:
        key = str(row.customer_id), str(getattr(row, by))
        used[key] = used.get(key, Decimal(0)) + row.quantity
    lines = [(*key, str(quantity)) for key, quantity in used.items()]
    return pd.DataFrame(lines, columns=["customer_id", by, "quantity"], dtype="str")


def found(store: Store, invoices: pd.DataFrame, prices: Any = BOOK, **period: Any) -> tuple[Finding, ...]:
    given = {"invoices": invoices, "prices": prices}
    return store.validate(SEPTEMBER.replace(**period), checks=["reconciliation"], **given).findings


@pytest.mark.parametrize("customers", [2, 5, 12, 40])
def test_a_metric_on_no_line_is_one_finding_with_its_money_by_currency(make: Make, customers: int) -> None:
    rows = usage(customers)
    store = make(rows)
    seats = [row for row in rows if row.metric_key == "seats"]
    (finding,) = found(store, billed([row for row in rows if row.metric_key != "seats"]))
    expected: dict[str, Decimal] = {}
    for row in seats:
        code = str(row.wallet_currency)
        expected[code] = expected.get(code, Decimal(0)) + row.quantity * (350 if code == "JPY" else 3)
    assert dict(finding.amounts) == expected
    assert finding.too_high == ()
    assert (finding.severity, finding.kind, finding.metric_key) == ("high", "metric without a line", "seats")
    assert finding.quantity == sum(row.quantity for row in seats)
    assert finding.events == len(seats) == shown(store, finding)
    for words in ("Metric seats is on no line of the invoice", f"{customers} customers used", "USD is expected"):
        assert words in finding.sentence


def test_a_metric_of_one_customer_and_one_that_a_filtered_line_has_are_as_before(make: Make) -> None:
    rows = [*usage(3, ("calls",)), *usage(1, ("seats",))]
    store = make(rows)
    (finding,) = found(store, billed([row for row in rows if row.metric_key == "calls"]))
    assert finding.customer_id == CUSTOMERS[0]
    (other,) = found(store, billed([row for row in rows if row.customer_id != CUSTOMERS[0]]), customer_id=CUSTOMERS[0])
    assert other.kind == "missing"
    assert "on no line" not in other.sentence


@pytest.mark.parametrize("others", [1, 12])
def test_customers_who_used_nothing_else_are_part_of_it(make: Make, others: int) -> None:
    """They have no line at all, but not because the invoice has no line of theirs."""
    rows = [*usage(2), *[row for row in usage(2 + others, ("seats",)) if row.customer_id not in CUSTOMERS[:2]]]
    store = make(rows)
    (finding,) = found(store, billed([row for row in rows if row.metric_key != "seats"]))
    assert f"{2 + others} customers used" in finding.sentence
    assert finding.events == shown(store, finding) == 3 * (2 + others)


def test_a_price_on_no_line_is_one_finding(make: Make) -> None:
    rows = usage(4)
    store = make(rows)
    invoices = billed([row for row in rows if row.metric_key != "seats"], by="price_key")
    (finding,) = found(store, invoices, None)
    assert "Price seats.standard is on no line of the invoice" in finding.sentence
    assert finding.events == shown(store, finding) == 12
    assert finding.amounts == ()


def test_two_metrics_are_two_findings_and_a_customer_without_any_line_one_more(make: Make) -> None:
    rows = usage(4)
    invoices = billed([row for row in rows if row.metric_key == "calls" and row.customer_id != CUSTOMERS[3]])
    kinds = [finding.kind for finding in found(make(rows), invoices)]
    assert sorted(kinds) == ["metric without a line", "metric without a line", "missing"]


@pytest.mark.parametrize("customers", [2, 12])
@pytest.mark.parametrize("prices", [BOOK, None], ids=["book", "no book"])
def test_lines_of_a_metric_that_nobody_used_are_one_finding(make: Make, customers: int, prices: Any) -> None:
    """A monthly fee was a high finding for each customer."""
    rows = usage(customers, ("calls",))
    store, lines = make(rows), billed(rows)
    lines = lines.assign(amount=[str(Decimal(quantity) / 10) for quantity in lines.quantity], currency="USD")
    fees = lines.assign(metric_key="base fee", quantity="1", amount="49.90")
    (finding,) = found(store, pd.concat([lines, fees]), prices)
    assert (finding.severity, finding.kind, finding.metric_key) == ("high", "metric without usage", "base fee")
    assert (finding.customer_id, finding.events, finding.quantity) == (None, 0, customers)
    assert dict(finding.amounts) == dict(finding.too_high) == {"USD": customers * Decimal("49.90")}
    assert f"but {customers} lines of {customers} customers invoice {customers}, " in finding.sentence
    assert "a fee that no event counts" in finding.sentence
    one = fees[:1]
    (finding,) = found(store, pd.concat([lines, one]), prices)
    assert finding.customer_id == CUSTOMERS[0], "of one customer it is of that customer"


def test_a_misspelt_metric_is_one_finding_beside_that_of_the_usage(make: Make) -> None:
    rows = usage(5, ("calls", "bytes"))
    invoices = billed(rows).replace("bytes", "byte")
    kinds = {finding.metric_key: finding.kind for finding in found(make(rows), invoices)}
    assert kinds == {"bytes": "metric without a line", "byte": "metric without usage"}
