"""Outages of all customers and new levels that began before the period: numbers are the period's, nothing is lost."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from support.billing_events import CUSTOMERS, steady, store_of
from support.query_oracle import Row, utc
from usage_explore.query.queries import Period
from usage_explore.validation import Finding

DAY = timedelta(days=1)
SINCE, UNTIL = utc(2026, 10, 1), utc(2026, 11, 1)
FIRST = utc(2026, 6, 1)


def found(url: str, events: list[Row], period: Period) -> tuple[Finding, ...]:
    with store_of(url, events) as store:
        return store.validate(period, checks=["silence", "shifts"]).findings


@pytest.mark.parametrize("gone", [utc(2026, 9, 15), utc(2026, 8, 25)])
def test_an_outage_of_all_counts_what_is_missing_in_the_period(events_database_url: str, gone: datetime) -> None:
    """From the second time on fewer than 28 days before are known, and hours of the week say what was usual."""
    back = utc(2026, 10, 20)
    events = [
        row
        for customer in range(4)
        for since, until in ((FIRST, gone), (back, UNTIL))
        for row in steady(customer, since, until, DAY / 24)
    ]
    (finding,) = found(events_database_url, events, Period(since=SINCE, until=UNTIL))
    assert (finding.check, finding.severity, finding.is_general) == ("shifts", "high", True)
    assert "about 1,824 events of the period stayed away" in finding.sentence  # 4 customers, 19 days, 24 events
    assert dict(finding.facts)["expected"] == "1824"
    assert finding.share == Decimal(1824) / (4 * 12 * 24)
    assert finding.since < gone < finding.until == back


@pytest.mark.parametrize("began", [28, 25, 24, 15])
def test_a_level_that_needs_a_week_to_be_known_is_reported_when_it_is(events_database_url: str, began: int) -> None:
    change = utc(2026, 9, began)
    events = steady(1, FIRST, UNTIL, DAY / 100)
    events += steady(0, FIRST, change, DAY / 200) + steady(0, change, UNTIL, DAY / 40)
    with store_of(events_database_url, events) as store:
        september, october = (
            [one for one in store.validate(period, checks=["shifts"]).findings if one.customer_id == CUSTOMERS[0]]
            for period in (Period(since=utc(2026, 9, 1), until=SINCE), Period(since=SINCE, until=UNTIL))
        )
    assert len(october) == (began > 24)
    for finding in october:
        assert f"to a new level on {began} Sep" in finding.sentence
        assert (finding.since, finding.events) == (SINCE, 31 * 40)  # September's are that month's
        assert dict(finding.facts)["excess"] == str(31 * (40 - 200))
    assert october or any("new level" in one.sentence for one in september)
