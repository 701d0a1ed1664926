"""Days without events: found where usage is regular, a customer's with all its metrics, and nowhere else."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from support.billing_events import CUSTOMERS, SEPTEMBER, SINCE, UNTIL, event, store_of
from support.query_oracle import Row, utc
from usage_explore import AggregateQuery
from usage_explore.validation import Finding

DAY, INSTANT = timedelta(days=1), timedelta(microseconds=1)
Keep = Callable[[datetime], bool]


def regular(
    customer: int, per_day: int, keep: Keep = lambda at: True, metrics: Iterable[str] = ("calls", "tokens")
) -> list[Row]:
    """So many events a day of each metric, at random times, those of the kept ones."""
    draw = random.Random(customer)
    times = [
        (metric, SINCE + timedelta(days=day, seconds=86_400 / per_day * (number + draw.random())))
        for metric in metrics
        for day in range(-63, 30)
        for number in range(per_day)
    ]
    return [event(customer, at, metric) for metric, at in times if keep(at)]


def without(first: int, last: int | None = None) -> Keep:
    """All but these days of September, counted from 0."""
    return lambda at: not SINCE + first * DAY <= at < SINCE + ((last or first) + 1) * DAY


def findings(url: str, rows: list[Row], checks: list[str] | None = None) -> tuple[Finding, ...]:
    with store_of(url, rows) as store:
        validation = store.validate(SEPTEMBER, checks=checks)
        for finding in validation.findings:
            assert isinstance(finding.question, AggregateQuery)
            assert store.aggregate(finding.question).total > 0
        return validation.findings


def gap(rows: list[Row], day: int) -> tuple[datetime, datetime]:
    """From the last event before the middle of a day to the first one after it."""
    middle = SINCE + day * DAY + DAY / 2
    last = max(row.timestamp for row in rows if row.timestamp < middle)
    return last + INSTANT, min((row.timestamp for row in rows if row.timestamp > middle), default=UNTIL)


@pytest.mark.parametrize(("first", "last"), [(13, 13), (13, 14), (0, 0), (29, 29)])
def test_a_regular_customers_days_without_events_are_one_finding(
    events_database_url: str, first: int, last: int
) -> None:
    silent = regular(0, 12, without(first, last))
    (finding,) = findings(events_database_url, [*silent, *regular(1, 12), *regular(2, 12)])
    assert (finding.check, finding.severity, finding.customer_id) == ("shifts", "medium", CUSTOMERS[0])
    assert (finding.since, finding.until) == gap(silent, first)
    assert (finding.events, finding.quantity) == (0, None)
    missing = 24 * (last - first + 1)
    expected = int(dict(finding.facts)["expected"])
    assert expected == pytest.approx(missing, abs=2)  # the times vary, and the last event before and the next one with
    assert f"about {expected} events stayed away" in finding.sentence


@pytest.mark.parametrize(("first", "last"), [(13, 13), (13, 14), (29, 29)])
def test_a_complete_outage_is_one_high_finding(events_database_url: str, first: int, last: int) -> None:
    rows = [row for customer in range(3) for row in regular(customer, 12, without(first, last))]
    (finding,) = findings(events_database_url, rows)
    assert (finding.severity, finding.customer_id, finding.is_general) == ("high", None, True)
    assert (finding.since, finding.until) == gap(rows, first)
    assert finding.sentence.startswith("No customer has an event on ")


@pytest.mark.each_value
@pytest.mark.parametrize(("start", "end"), [(13.5, 15.5), (13.9, 15.1), (13.25, 15)])
@pytest.mark.parametrize("customers", [1, 3])
def test_the_hours_beside_days_without_events_count_too(
    events_database_url: str, start: float, end: float, customers: int
) -> None:
    rows = [row for customer in range(customers) for row in regular(customer, 24)]
    kept = [row for row in rows if not SINCE + start * DAY <= row.timestamp < SINCE + end * DAY]
    (finding,) = findings(events_database_url, kept)
    assert finding.is_general
    missing = len(rows) - len(kept)
    assert abs(Decimal(dict(finding.facts)["expected"]) - missing) <= missing * Decimal("0.05")


def test_a_long_outage_of_all_is_one_finding_that_silence_saw_too(events_database_url: str) -> None:
    rows = [row for customer in range(3) for row in regular(customer, 12, without(10, 14))]
    (finding,) = findings(events_database_url, rows)
    assert (finding.check, finding.severity, finding.also_seen_by) == ("shifts", "high", ("silence",))
    assert (finding.since, finding.until) == gap(rows, 12)


def test_where_the_data_ends_is_left_to_silence(events_database_url: str) -> None:
    rows = [row for customer in range(3) for row in regular(customer, 12, without(20, 29))]
    (first, *others) = findings(events_database_url, rows)
    assert (first.check, first.is_general, first.also_seen_by) == ("silence", True, ())
    assert not any(finding.is_general for finding in others)


def test_two_outages_of_one_customer_are_two_findings(events_database_url: str) -> None:
    first, second = without(10), without(20)
    rows = regular(0, 12, lambda at: first(at) and second(at))
    found = findings(events_database_url, [*rows, *regular(1, 12), *regular(2, 12)])
    assert sorted((one.since, one.until) for one in found) == [gap(rows, 10), gap(rows, 20)]


def weekdays(at: datetime) -> bool:
    return at.weekday() < 5


def holiday_before(at: datetime) -> bool:
    return not utc(2026, 8, 24) <= at < utc(2026, 8, 25)


_BURSTS = random.Random(4)
_BURST_DAYS = {SINCE.date() + number * DAY: _BURSTS.choice([8, 8, 24]) for number in range(-63, 30)}


def bursts(at: datetime) -> bool:
    """All events of some days, and those of eight hours of others."""
    return at.hour < _BURST_DAYS[at.date()]


@pytest.mark.parametrize(
    ("per_day", "keep"),
    [
        (12, weekdays),
        (12, lambda at: weekdays(at) and 8 <= at.hour < 18),
        (12, holiday_before),
        (6, lambda at: True),  # 12 events a day of both metrics: a day without may be chance
        (16, bursts),
        (12, lambda at: at >= SINCE),
    ],
    ids=["weekends", "office hours", "a holiday before", "few", "bursts", "new"],
)
def test_usage_with_days_off_or_little_of_it_is_not_reported(
    events_database_url: str, per_day: int, keep: Keep
) -> None:
    rows = regular(0, per_day, lambda at: keep(at) and without(16)(at))  # a Thursday
    assert not findings(events_database_url, [*rows, *regular(1, 48), *regular(2, 48)], ["shifts", "silence"])


def test_the_note_says_which_changes_are_not_reported(events_database_url: str) -> None:
    with store_of(events_database_url, regular(0, 12)) as store:
        (result,) = store.validate(SEPTEMBER, checks=["shifts"]).results
    assert result.outcome is not None
    assert result.outcome.note == (
        "of 4 series 4 with fewer than 50 events a day only the number of events was judged: neither a change of their"
        " quantity alone is reported, nor one by fewer than 30 events, but a day without events of a customer with 14"
        " or more on every other day"
    )
