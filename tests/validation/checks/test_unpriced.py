"""Usage that the price book has no price for is a finding with its quantity, with invoices or without."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal

import pandas as pd
import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, event
from support.check_results import examine, shown
from support.query_oracle import Row
from usage_explore import Store

Make = Callable[[list[Row]], Store]
BOOK = [{"metric_key": "calls", "unit_amount": "0.10", "currency": "USD"}]


def test_it_is_found_by_metric_with_its_quantity_and_events(make: Make) -> None:
    later = SINCE + timedelta(hours=1)
    events = [event(0, SINCE), event(0, SINCE, "other", quantity=Decimal("2.5")), event(1, later, "other")]
    store = make([*events, event(1, SINCE, "seats", price_key=None)])
    result = examine(store, "unpriced", SEPTEMBER, prices=BOOK)
    assert result.outcome is not None
    assert result.outcome.looked_at == 4
    seats, other = sorted(result.outcome.findings, key=lambda finding: finding.events)
    assert "1 event of seats of customer" in seats.sentence
    assert "has no price in the price book, quantity 1: no price covers it." in seats.sentence
    assert (seats.customer_id, seats.metric_key, seats.price_key) == (CUSTOMERS[1], "seats", None)
    assert "2 events of other of 2 customers" in other.sentence
    assert (other.quantity, other.severity) == (Decimal("3.5"), "high")
    assert all(shown(store, finding) == finding.events for finding in result.outcome.findings)


def test_many_metrics_of_one_reason_are_one_finding(make: Make) -> None:
    result = examine(make([event(0, SINCE, f"m{number}") for number in range(6)]), "unpriced", SEPTEMBER, prices=BOOK)
    assert result.outcome is not None
    (finding,) = result.outcome.findings
    assert "6 events of 6 metrics of customer" in finding.sentence
    assert dict(finding.facts)["without a price: m3"] == "1"


def test_a_book_for_all_usage_is_clean_and_without_a_book_nothing_is_judged(make: Make) -> None:
    store = make([event(0, SINCE)])
    assert examine(store, "unpriced", SEPTEMBER, prices=BOOK).is_clean
    assert examine(store, "unpriced", SEPTEMBER).skipped == "prices was not given"


def test_a_wallet_that_is_unknown_or_has_no_price_is_the_reason(make: Make) -> None:
    book = [*BOOK, {**BOOK[0], "currency": "EUR"}]
    store = make([event(0, SINCE), event(1, SINCE, wallet_currency="GBP"), event(2, SINCE, wallet_currency="EUR")])
    result = examine(store, "unpriced", SEPTEMBER, prices=book)
    assert result.outcome is not None
    sentences = sorted(finding.sentence for finding in result.outcome.findings)
    assert len(sentences) == 2
    assert any("and its wallet is unknown." in sentence for sentence in sentences)
    assert any("but its wallet is GBP." in sentence for sentence in sentences)
    assert examine(store, "unpriced", SEPTEMBER, prices=book[:1]).is_clean


@pytest.mark.parametrize(
    ("without", "severities"),
    [("a", ["medium"]), ("ab", ["high", "medium"]), ("aabb", ["high", "high"])],  # of 20 events
)
def test_a_tenth_of_all_events_without_a_price_is_high_in_one_finding_at_least(
    make: Make, without: str, severities: list[str]
) -> None:
    priced = [event(0, SINCE + timedelta(minutes=minute)) for minute in range(20 - len(without))]
    result = examine(
        make([*priced, *(event(0, SINCE, metric) for metric in without)]), "unpriced", SEPTEMBER, prices=BOOK
    )
    assert result.outcome is not None
    assert [finding.severity for finding in result.outcome.findings] == severities


@pytest.mark.parametrize(
    ("line", "severity"),
    [
        ({"metric_key": "a", "amount": "0.30"}, "high"),
        ({"price_key": "p1", "amount": "0.30"}, "high"),
        ({"metric_key": "a", "price_key": "p1", "amount": "0.30"}, "high"),
        ({"metric_key": "a", "price_key": "p2", "amount": "0.30"}, "medium"),
        ({"metric_key": "calls", "amount": "2.00"}, "medium"),
        ({"metric_key": "a", "amount": None}, "medium"),
        ({"metric_key": "a", "amount": "0.30", "customer_id": str(CUSTOMERS[1])}, "medium"),
        ({"metric_key": "a", "amount": "0.30", "wallet_currency": "EUR"}, "medium"),
        ({"metric_key": "a", "amount": "0.30", "wallet_currency": "USD"}, "high"),
    ],
)
def test_usage_without_a_price_that_is_invoiced_is_high(make: Make, line: dict[str, str | None], severity: str) -> None:
    priced = [event(0, SINCE + timedelta(minutes=minute)) for minute in range(20)]
    lines = pd.DataFrame([{"customer_id": str(CUSTOMERS[0]), "quantity": "1", "currency": "USD", **line}], dtype="str")
    store = make([*priced, event(0, SINCE, "a", price_key="p1", wallet_currency="USD")])
    result = examine(store, "unpriced", SEPTEMBER, prices=BOOK, invoices=lines)
    assert result.outcome is not None
    (finding,) = result.outcome.findings
    assert finding.severity == severity
    assert ("though invoice lines have amounts for it" in finding.sentence) == (severity == "high")
