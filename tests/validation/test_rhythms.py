"""Usage with a rhythm, such as monthly batches, weekends or business hours: no fault, and faults are counted by it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, store_of
from support.check_results import stayed_away
from support.query_oracle import Row, utc
from usage_explore.validation import Finding

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def findings(url: str, rows: Iterable[Row], *checks: str) -> tuple[Finding, ...]:
    with store_of(url, [*rows]) as store:
        return store.validate(SEPTEMBER, checks=checks or None).findings


def hourly(customer: int, holds: Callable[[datetime], int], weeks: int = 9) -> list[Row]:
    """A customer's events: in each hour the number that `holds` gives, from `weeks` weeks before September on."""
    hours = [SINCE - weeks * 7 * DAY + number * HOUR for number in range(weeks * 168 + 720)]
    return [event(customer, at + HOUR * number / 10) for at in hours for number in range(holds(at))]


def business(at: datetime) -> int:
    """Four events in each of nine hours of working days, one on Saturdays."""
    busy = 8 <= at.hour < 17
    return busy * (4 if at.weekday() < 5 else 1 if at.weekday() == 5 else 0)


@pytest.mark.parametrize("day", [1, 3, 15])
def test_a_batch_of_each_month_is_no_end_of_the_data(events_database_url: str, day: int) -> None:
    batches = [utc(2026, month, day, 2) for month in range(2, 10)]
    assert findings(events_database_url, [event(number, at) for at in batches for number in range(6)]) == ()


def test_a_batch_of_each_quarter_is_no_end_of_the_data(events_database_url: str) -> None:
    batches = [utc(2026, month, 5, 2) for month in (3, 6, 9)]
    assert findings(events_database_url, [event(number, at) for at in batches for number in range(6)]) == ()


def test_a_test_before_daily_usage_is_no_batch(events_database_url: str) -> None:
    rows = [event(0, SINCE - 60 * DAY), *hourly(0, lambda at: int(at < UNTIL - 6 * DAY), weeks=2)]
    (finding,) = findings(events_database_url, rows, "silence")
    assert finding.kind == "end of the data"


def test_a_batch_that_did_not_come_is_the_end_of_the_data(events_database_url: str) -> None:
    batches = [utc(2026, month, 3, 2) for month in range(2, 9)]
    (finding,) = findings(events_database_url, [event(number, at) for at in batches for number in range(6)], "silence")
    assert finding.kind == "end of the data"


def test_data_that_ended_is_found_beside_a_longer_outage_before(events_database_url: str) -> None:
    end, away = UNTIL - 6 * DAY, (SINCE - 50 * DAY, SINCE - 43 * DAY)
    rows = hourly(0, lambda at: int(at < end and not away[0] <= at < away[1]), weeks=16)
    (finding,) = findings(events_database_url, rows, "silence")
    assert finding.kind == "end of the data"


@pytest.mark.parametrize(("since", "hours"), [(utc(2026, 9, 14), 48), (utc(2026, 9, 14), 72), (utc(2026, 9, 3), 240)])
def test_a_silence_is_counted_by_the_hours_of_the_week(events_database_url: str, since: datetime, hours: int) -> None:
    until = since + hours * HOUR
    missing = [row for row in hourly(0, business) if since <= row.timestamp < until]
    rows = [row for row in hourly(0, business) if not since <= row.timestamp < until]
    beside = [row for number in range(1, 6) for row in hourly(number, business)]
    (finding,) = findings(events_database_url, [*rows, *beside], "silence")
    assert finding.customer_id == CUSTOMERS[0]
    assert stayed_away(finding) == pytest.approx(len(missing), rel=0.03)


def test_a_night_and_a_sunday_are_no_outage(events_database_url: str) -> None:
    since, until = utc(2026, 9, 12, 9), utc(2026, 9, 14, 8)  # 8 events of the Saturday
    rows = [row for row in hourly(0, business) if not since <= row.timestamp < until]
    assert findings(events_database_url, rows, "silence") == ()


def test_days_without_events_are_counted_by_their_weekday(events_database_url: str) -> None:
    def weekly(at: datetime) -> int:
        return int(at.weekday() < 5 or at.hour % 3 == 0)

    day = utc(2026, 9, 16)
    rows = [row for row in hourly(0, weekly) if row.timestamp.date() != day.date()]
    beside = [row for number in range(1, 4) for row in hourly(number, weekly)]
    (finding,) = findings(events_database_url, [*rows, *beside], "shifts")
    assert stayed_away(finding) == 24


@pytest.mark.parametrize("tests", [[(2026, 8, 18)], [(2026, 8, 4), (2026, 8, 20)]])
def test_one_busy_week_makes_no_hours_usual(events_database_url: str, tests: list[tuple[int, int, int]]) -> None:
    def weekend(at: datetime) -> int:
        is_tail = (at.weekday(), at.hour) in ((0, 0), (4, 23)) and at.isocalendar().week % 2
        return 2 * (at.weekday() > 4) + is_tail

    weekends = [row for number in range(4) for row in hourly(number, weekend)]
    busy = [event(number % 4, utc(*day) + number * timedelta(minutes=2)) for day in tests for number in range(600)]
    assert [each for each in findings(events_database_url, [*weekends, *busy], "shifts") if each.is_general] == []


def test_an_outage_of_all_is_one_finding_though_customers_stopped_the_evening_before(events_database_url: str) -> None:
    since, until = utc(2026, 9, 15, 5), utc(2026, 9, 16, 6)
    rows = [row for number in range(6) for row in hourly(number, business)]
    late = hourly(6, lambda at: int(at.hour in (3, 4, 22)))
    kept = [row for row in (*rows, *late) if not since <= row.timestamp < until]
    (finding,) = findings(events_database_url, kept, "shifts", "silence")
    assert finding.is_general
    assert finding.severity == "high"


@pytest.mark.parametrize("habit", [Decimal("-0.5"), None])
def test_a_credit_far_beyond_those_before_is_high(events_database_url: str, habit: Decimal | None) -> None:
    rows = [row for number in range(3) for row in hourly(number, lambda at: int(at.hour % 2))]
    if habit is not None:
        rows += [
            event(number, SINCE - 50 * DAY + day * DAY + HOUR / 2, quantity=habit)
            for number in range(3)
            for day in range(80)
        ]
    credit = event(0, SINCE + 20 * DAY, quantity=Decimal(-1000))
    (finding,) = findings(events_database_url, [*rows, credit], "quantities")
    assert (finding.severity, finding.quantity, finding.customer_id) == ("high", -1000 + (habit or 0), CUSTOMERS[0])


@pytest.mark.parametrize("share", ["0.1", "0.3"])
def test_first_credits_of_all_customers_are_high(events_database_url: str, share: str) -> None:
    rows = [row for number in range(3) for row in hourly(number, lambda at: 1)]
    own = sum(row.quantity for row in rows if row.customer_id == CUSTOMERS[0] and row.timestamp >= SINCE)
    credits = [event(number, UNTIL - HOUR, quantity=-own * Decimal(share)) for number in range(3)]
    found = findings(events_database_url, [*rows, *credits], "quantities")
    assert {(finding.severity, finding.customer_id) for finding in found} == {
        ("high", customer) for customer in CUSTOMERS[:3]
    }


@pytest.mark.parametrize(("number", "is_found"), [(1, False), (9, True)])
def test_credits_are_usual_for_a_customer_that_has_had_as_many_and_as_large_ones(
    events_database_url: str, number: int, is_found: bool
) -> None:
    """No other customer has any."""
    rows = [row for customer in range(3) for row in hourly(customer, lambda at: 2)]
    rows += [
        event(0, SINCE + day * DAY + HOUR / 4, quantity=Decimal(-number if day > 0 else -1)) for day in range(-60, 30)
    ]
    assert bool(findings(events_database_url, rows, "quantities")) is is_found


@pytest.mark.parametrize("days", [1, 5, 7])
def test_batches_on_the_first_days_of_a_month_are_no_end_and_no_spike(events_database_url: str, days: int) -> None:
    months = [(2026, month) for month in range(1, 10)]
    rows = [
        event(customer % 3, utc(*month, 1, 2) + day * DAY + customer * timedelta(seconds=1))
        for month in months
        for day in range(days)
        for customer in range(60)
    ]
    assert findings(events_database_url, rows, "silence", "shifts") == ()


@pytest.mark.parametrize("every", [6, 12])
def test_a_batch_every_half_year_is_no_end(events_database_url: str, every: int) -> None:
    times = [utc(2026 + (8 - ago) // 12, (8 - ago) % 12 + 1, 1, 2) for ago in range(0, 36, every)]
    rows = [event(customer, at) for at in times for customer in range(3)]
    assert findings(events_database_url, rows, "silence") == ()


@pytest.mark.parametrize(("habit", "credits", "is_found"), [("-60", 1, False), ("-60", 5, True), ("-60", 2, False)])
def test_daily_credits_that_grow_five_times_are_high(
    events_database_url: str, habit: str, credits: int, is_found: bool
) -> None:
    rows = [row for number in range(3) for row in hourly(number, lambda at: 1)]
    rows = [replace(row, quantity=Decimal(15)) for row in rows]
    rows += [
        event(
            number, SINCE + day * DAY + HOUR / 4, quantity=Decimal(habit) * (credits if number == 0 and day >= 0 else 1)
        )
        for number in range(3)
        for day in range(-60, 30)
    ]
    found = findings(events_database_url, rows, "quantities")
    assert [(finding.severity, finding.customer_id) for finding in found] == [("high", CUSTOMERS[0])] * is_found


def test_a_monthly_credit_that_is_five_times_as_large_is_high(events_database_url: str) -> None:
    rows = [replace(row, quantity=Decimal(25)) for number in range(3) for row in hourly(number, lambda at: 1)]
    months = [(month, 28) for month in (7, 8, 9)]
    usual = [event(number, utc(2026, *day, 5), quantity=Decimal(-2000)) for day in months for number in range(3)]
    larger = [replace(row, quantity=5 * row.quantity) if row.timestamp >= SINCE else row for row in usual]
    found = findings(events_database_url, [*rows, *larger], "quantities")
    assert {(finding.severity, finding.customer_id) for finding in found} == {
        ("high", customer) for customer in CUSTOMERS[:3]
    }


@pytest.mark.parametrize(("first", "last"), [(12, 19), (1, 8)])
def test_the_pause_between_batches_of_many_is_no_outage(events_database_url: str, first: int, last: int) -> None:
    rows = [
        event(customer % 6, utc(2026, month, day, 2) + customer * timedelta(seconds=1))
        for month in range(1, 10)
        for day in range(first, last + 1)
        for customer in range(31)
    ]
    assert findings(events_database_url, rows, "silence", "shifts") == ()


@pytest.mark.parametrize("months", [(3, 6, 9), (5, 7, 9), (2, 5, 8), (6, 8)])
def test_rare_batches_are_no_spike_and_no_end_where_none_is_due(
    events_database_url: str, months: tuple[int, ...]
) -> None:
    rows = [
        event(customer % 6, utc(2026, month, 15, 2) + customer * timedelta(seconds=1))
        for month in months
        for customer in range(60)
    ]
    assert findings(events_database_url, rows, "silence", "shifts") == ()
