"""Silences that began before the period: found where usage came back, once more where it did not, else in the note."""

from __future__ import annotations

import random
import re
from datetime import datetime, timedelta

import pytest

from support.billing_events import CUSTOMERS, event, steady, store_of
from support.check_results import examine
from support.query_oracle import Row, utc
from usage_explore import Store
from usage_explore.query.queries import Period
from usage_explore.validation import Finding

DAY = timedelta(days=1)
EACH = DAY / 50
SINCE, UNTIL = utc(2026, 10, 1), utc(2026, 11, 1)
OCTOBER = Period(since=SINCE, until=UNTIL)
FIRST = utc(2026, 3, 1)


def others() -> list[Row]:
    """A customer that goes on."""
    return steady(1, FIRST, utc(2026, 12, 2), DAY / 4)


def away(gone: datetime, back: datetime | None, first: datetime = FIRST) -> list[Row]:
    """A customer with 50 events a day and a silence."""
    rows = others() + steady(0, first, gone, EACH)
    return rows + (steady(0, back, utc(2026, 12, 2), EACH) if back else [])


def examined(store: Store, period: Period = OCTOBER) -> tuple[tuple[Finding, ...], str, bool]:
    outcome = examine(store, "silence", period).outcome
    assert outcome is not None
    return outcome.findings, outcome.note, outcome.is_partial


@pytest.mark.parametrize(
    "days", [1, 11, 20, 40, 91, *(pytest.param(days, marks=pytest.mark.thorough) for days in (4, 14, 16, 28, 60))]
)
def test_usage_that_comes_back_was_missing_however_long_before_the_period_it_stopped(
    events_database_url: str, days: int
) -> None:
    gone, back = SINCE - days * DAY, utc(2026, 10, 20)
    with store_of(events_database_url, away(gone, back)) as store:
        (found,), note, _ = examined(store)
        assert (found.customer_id, found.severity, found.until) == (CUSTOMERS[0], "high", back)
        assert gone - EACH <= found.since <= gone
        assert f"days, {gone - EACH:%-d}" not in found.sentence  # the day of the month, never a number of days
        assert f"{days} day" in found.sentence
        assert "before the period: about 950 events stayed away in it." in found.sentence
        assert note == ""


def test_what_stopped_for_good_is_reported_when_it_stops_and_in_the_next_period(events_database_url: str) -> None:
    with store_of(events_database_url, away(utc(2026, 7, 10), None)) as store:
        by_month = {
            month: examined(store, Period(since=utc(2026, month, 1), until=utc(2026, month + 1, 1)))
            for month in range(6, 12)
        }
    assert [len(findings) for findings, _, _ in by_month.values()] == [0, 1, 1, 0, 0, 0]
    assert by_month[9][1] == "1 silence that began before 2 Aug 2026 and went on: left to earlier periods"
    assert not any(is_partial for _, _, is_partial in by_month.values())
    assert by_month[11][1] == ""
    (july,), (august,) = by_month[7][0], by_month[8][0]
    assert july.since == august.since  # the same finding: a decision on the one covers the other


@pytest.mark.parametrize("known", [10, 20])
def test_what_was_known_for_too_few_days_is_named_as_not_judged(events_database_url: str, known: int) -> None:
    gone = utc(2026, 9, 15)
    with store_of(events_database_url, away(gone, utc(2026, 10, 20), gone - known * DAY)) as store:
        findings, note, is_partial = examined(store)
    if known < 14:
        assert not findings
        assert note == "1 silence was not judged: fewer than 14 days of usage before are known"
        assert is_partial
    else:
        assert len(findings) == 1
        assert (note, is_partial) == ("", False)


def test_usage_begins_anew_after_a_long_absence(events_database_url: str) -> None:
    """20 days of usage after two months without are as much to go by as those of a new customer."""
    rows = away(utc(2026, 7, 1), None) + steady(0, utc(2026, 9, 5), utc(2026, 9, 25), EACH)
    with store_of(events_database_url, rows) as store:
        (found,), _, _ = examined(store)
    assert "regular (on 20 of 20 days before, 1,000 events)" in found.sentence


def test_a_monthly_meter_is_no_silence(events_database_url: str) -> None:
    monthly = [event(0, utc(2026, month, 1, hour)) for month in range(4, 12) for hour in range(24)]
    with store_of(events_database_url, others() + monthly) as store:
        assert examined(store) == ((), "", False)


@pytest.mark.each_value
@pytest.mark.parametrize("minutes", [0, 40])
@pytest.mark.parametrize(("gone", "back"), [((9, 28), (10, 3)), ((9, 29), (10, 4)), ((10, 12), (10, 16))])
def test_of_a_daily_batch_those_that_came_before_and_after_a_silence_are_not_missing(
    events_database_url: str, gone: tuple[int, int], back: tuple[int, int], minutes: int
) -> None:
    """60 events within a minute of 06:00, or up to 40 minutes earlier or later."""
    draw = random.Random(6)
    first, last = utc(2026, *gone), utc(2026, *back)
    days = [FIRST + number * DAY for number in range(270)]
    starts = [
        day + timedelta(hours=6, minutes=draw.uniform(-minutes, minutes)) for day in days if not first <= day < last
    ]
    rows = others() + [event(0, start + timedelta(seconds=second)) for start in starts for second in range(60)]
    with store_of(events_database_url, rows) as store:
        (found,), _, _ = examined(store)
    missing = 60 * sum(first <= day < last and day >= SINCE for day in days)
    said = re.search(r"about (\d+) events stayed away", found.sentence)
    assert said is not None
    assert abs(int(said[1]) - missing) <= 4
