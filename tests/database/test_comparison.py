"""The period before: which one it is, where it is cut, and that its sums are the oracle's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from uuid import uuid4

import pytest

import rows
from oracle import Row, utc
from usage_explore import AggregateQuery, Store, connect, writing
from usage_explore.comparison import Change, compare


@pytest.fixture
def daily(events_database_url: str, events_connection: writing.Connection, own: list[Row]) -> Iterator[Store]:
    """One event every six hours of 2025 and 2026, its quantity the month's number; "b" only in even months."""
    start = utc(2025, 1, 1)
    events = []
    for number in range(4 * 730):
        at = start + timedelta(hours=6 * number)
        metric = "b" if at.month % 2 == 0 and number % 4 == 0 else "a"
        events.append(
            replace(
                own[0],
                id=uuid4(),
                timestamp=at,
                ingested_at=at,
                metric_key=metric,
                quantity=Decimal(at.month),
                dimensions="{}",
            )
        )
    rows.insert(events_connection, events)
    store = connect(events_database_url)
    yield store
    store.close()


def test_a_whole_month_is_compared_with_the_month_before(daily: Store) -> None:
    answer = daily.aggregate(AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1), metric="sum_quantity"))
    found = compare(daily, answer)
    assert found is not None
    assert (found.since, found.until) == (utc(2026, 2, 1), utc(2026, 3, 1))
    assert found.label == "vs February 2026"
    assert found.total == Change(Decimal(31 * 4 * 3), Decimal(28 * 4 * 2))
    assert found.total.ratio == Decimal(372 - 224) / 224


def test_any_other_window_is_compared_with_the_same_duration_before(daily: Store) -> None:
    answer = daily.aggregate(
        AggregateQuery(since=utc(2026, 3, 2), until=utc(2026, 3, 12), group_by="metric_key", top=1)
    )
    found = compare(daily, answer)
    assert found is not None
    assert (found.since, found.until) == (utc(2026, 2, 20), utc(2026, 3, 2))
    assert found.label == "vs the 10 days before"
    assert [change.before for change in found.series] == [31]
    assert found.total == Change(40, 40)


@pytest.mark.parametrize(
    ("duration", "label"),
    [
        (timedelta(days=1), "1 day"),
        (timedelta(hours=24, minutes=54), "24 hours 54 minutes"),
        (timedelta(hours=25), "25 hours"),
        (timedelta(days=7, hours=12, minutes=54), "7 days 12 hours"),
    ],
)
def test_the_label_says_how_long_the_period_is(daily: Store, duration: timedelta, label: str) -> None:
    query = AggregateQuery(since=utc(2026, 3, 2), until=utc(2026, 3, 2) + duration)
    found = compare(daily, daily.aggregate(query))
    assert found is not None
    assert found.label == f"vs the {label} before"


def test_an_unfinished_window_is_cut_on_both_sides(daily: Store) -> None:
    known = utc(2026, 3, 11, 12)
    query = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1), as_of=known, group_by="metric_key", top=1)
    found = compare(daily, daily.aggregate(query))
    assert found is not None
    assert (found.since, found.until) == (utc(2026, 2, 1), utc(2026, 2, 11, 12))
    assert found.label == "vs February 2026, each up to 10 days 12 hours in"
    assert found.total == Change(42, 42)


def test_a_long_month_is_never_compared_beyond_the_short_one(daily: Store) -> None:
    known = utc(2026, 3, 31, 12)
    query = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1), as_of=known)
    found = compare(daily, daily.aggregate(query))
    assert found is not None
    assert found.until == utc(2026, 3, 1)


def test_other_is_compared_with_everything_outside_the_kept_series(daily: Store) -> None:
    answer = daily.aggregate(AggregateQuery(since=utc(2026, 4, 5), until=utc(2026, 4, 9), group_by="metric_key", top=1))
    assert [series.label for series in answer.series] == ["a", "Other"]
    found = compare(daily, answer)
    assert found is not None
    assert [change.before for change in found.series] == [12, 4]
    month = daily.aggregate(AggregateQuery(since=utc(2026, 4, 1), until=utc(2026, 5, 1), group_by="metric_key", top=1))
    found = compare(daily, month)
    assert found is not None
    assert [change.before for change in found.series] == [124, 0]
    assert found.series[1].ratio is None


def test_there_is_nothing_before_a_window_that_has_not_begun(daily: Store) -> None:
    assert compare(daily, daily.aggregate(AggregateQuery(since=utc(2150, 1, 1), until=utc(2150, 2, 1)))) is None
    assert compare(daily, daily.aggregate(AggregateQuery(since=utc(1970, 1, 2), until=utc(1980, 1, 1)))) is None
