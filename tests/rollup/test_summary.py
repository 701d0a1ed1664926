"""Summaries: fewer rows that say the same as a dimension's own, for the questions they suffice for."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from support.partial_rollup import ORGANIZATION, TABLE, Ahead
from support.query_oracle import utc
from usage_explore import AggregateQuery, EventQuery, Store
from usage_explore.rollup import catalog, choose_dimensions, refresh_run, routing
from usage_explore.rollup.status import verify
from usage_explore.sql.rollup_plan import Kept, Serving, Slots, serving

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = utc(2026, 3, 1)
WEEK = AggregateQuery(since=FIRST, until=FIRST + 7 * DAY, bucket="day")
BY_CUSTOMER = WEEK.replace(group_by="customer_id")
MARK = FIRST + 20 * DAY


@pytest.fixture
def week(ahead: Ahead) -> Ahead:
    """`none` by the hour and customers by the day, both with summaries, of two metrics."""
    for metric in ("tokens", "requests"):
        ahead.add(*(FIRST + number * HOUR for number in range(7 * 24)), metric_key=metric)
    ahead.keep(none=HOUR, customer_id=DAY)
    ahead.summarize("none")
    ahead.summarize("customer_id")
    ahead.advance(FIRST + 7 * DAY)
    return ahead


def spoil(ahead: Ahead, dimension: str) -> None:
    """Let a dimension's own rows say something wrong; what is answered from its summary does not notice."""
    ahead.connection.execute("UPDATE usage_events_rollup SET events = events + 1000 WHERE dimension = %s", [dimension])
    ahead.connection.commit()


@pytest.mark.parametrize(
    ("dimension", "query", "summarized"),
    [
        ("none", WEEK, True),
        ("none", WEEK.replace(group_by="metric_key"), True),
        ("none", WEEK.replace(metric_key=("tokens",)), True),
        ("none", WEEK.replace(bucket="week"), True),
        ("none", WEEK.replace(as_of=FIRST + 6 * DAY - timedelta(microseconds=1)), True),
        ("none", WEEK.replace(bucket="hour"), False),
        ("none", WEEK.replace(timezone="Europe/Berlin"), False),
        ("customer_id", BY_CUSTOMER, True),
        ("customer_id", WEEK.replace(customer_id=ORGANIZATION), True),
        ("customer_id", BY_CUSTOMER.replace(metric_key=("tokens",)), False),
        ("customer_id", BY_CUSTOMER.replace(exclude={"metric_key": ["requests"]}), False),
        ("customer_id", WEEK.replace(customer_id=ORGANIZATION, group_by="metric_key"), False),
    ],
)
def test_it_answers_what_it_suffices_for(
    week: Ahead, fast: Store, raw: Store, dimension: str, query: AggregateQuery, summarized: bool
) -> None:
    right = raw.aggregate(query).series
    assert fast.aggregate(query).series == right
    assert fast.aggregate(query).metrics == raw.aggregate(query).metrics
    spoil(week, dimension)
    assert (fast.aggregate(query).series == right) is summarized


@pytest.mark.parametrize("metric", ["count", "sum_quantity"])
def test_the_metrics_are_counted_beside_a_summary_of_all_of_them(week: Ahead, fast: Store, metric: str) -> None:
    week.add(FIRST + 30 * HOUR, metric_key="images", quantity=Decimal(0), ingested_at=FIRST + 7 * DAY)
    week.add(FIRST + 31 * HOUR, metric_key="late", ingested_at=FIRST + 8 * DAY)
    query = BY_CUSTOMER.replace(metric=metric)
    assert fast.aggregate(query).metrics == 4
    assert fast.aggregate(query.replace(as_of=FIRST + 7 * DAY)).metrics == 3
    assert fast.aggregate(query.replace(as_of=FIRST + 6 * DAY)).metrics == 2
    assert fast.aggregate(query.replace(until=FIRST + 30 * HOUR)).metrics == 2
    week.advance(FIRST + 9 * DAY)
    for asked in (query, query.replace(customer_id=ORGANIZATION), query.replace(group_by="none")):
        answer = fast.aggregate(asked)
        assert (answer.metrics, answer.served.path) == (4, "rollup")
    assert fast.aggregate(query.replace(since=FIRST + 32 * HOUR, until=FIRST + 6 * DAY)).metrics == 2
    assert fast.aggregate(query.replace(metric_key="images")).metrics == 1
    assert fast.aggregate(query.replace(metric_key="nothing")).metrics == 0
    assert fast.aggregate(query.replace(metric_key=["images", "nothing", "late"])).metrics == 2


def test_without_rows_that_count_the_metrics_the_summary_is_not_used(
    fast: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {"none": Kept("none", HOUR, FIRST, FIRST), "customer_id": Kept("customer_id", DAY, MARK, MARK, summary=True)}
    monkeypatch.setattr(routing, "kept", lambda *_: kept)
    with fast.engine.connect() as connection:
        found, metrics = routing.aggregate_paths(connection, TABLE, BY_CUSTOMER, BY_CUSTOMER.edges(), MARK)
    assert isinstance(found, Serving)
    assert (found.slots[0].dimension, metrics) == ("customer_id", None)


def test_the_days_that_the_window_cuts_are_answered_by_the_hour(week: Ahead, fast: Store, raw: Store) -> None:
    query = WEEK.replace(since=FIRST + 5 * HOUR, until=FIRST + 6 * DAY + timedelta(minutes=90))
    assert fast.aggregate(query).series == raw.aggregate(query).series
    spoil(week, "none")
    points = fast.aggregate(query).series[0].points
    assert [point.value > 1000 for point in points] == [True, *[False] * 5, True]


def test_counts_and_pickers_use_it(week: Ahead, fast: Store) -> None:
    spoil(week, "none")
    spoil(week, "customer_id")
    assert fast.count(EventQuery()) == 2 * 7 * 24
    assert [found.events for found in fast.customers()] == [2 * 7 * 24]
    assert fast.customers(EventQuery(metric_key=("tokens",)))[0].events > 1000


def test_one_that_comes_later_is_made_of_the_rows(ahead: Ahead, fast: Store) -> None:
    ahead.add(*(FIRST + number * HOUR for number in range(7 * 24)), quantity=Decimal("0.1"))
    ahead.keep(none=HOUR)
    ahead.advance(FIRST + 7 * DAY)
    ahead.summarize("none")
    assert verify(ahead.connection, TABLE, sample=None).differing == 0
    spoil(ahead, "none")
    assert fast.aggregate(WEEK.replace(metric="sum_quantity")).total == Decimal("16.8")
    assert fast.aggregate(WEEK).total == 7 * 24


def test_it_is_kept_where_it_is_much_shorter(ahead: Ahead, monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in ("MOST_HOURLY", "MOST_DAILY", "BUDGET"):
        monkeypatch.setattr(choose_dimensions, limit, Decimal(100))
    for metric in ("tokens", "requests"):
        ahead.add(*(FIRST + number * HOUR for number in range(48)), metric_key=metric)
    ahead.add(FIRST, product_id=ORGANIZATION, dimensions={"model": "large", "tier": "free"})
    catalog.create(ahead.connection, TABLE)
    refresh_run.choose(ahead.connection, TABLE, again=True)
    assert (ahead.entry("none").grain, ahead.entry("none").summary) == (HOUR, True)
    assert (ahead.entry("keys").grain, ahead.entry("keys").summary) == (DAY, False)  # 5 rows, 3 without the metric
    ahead.keep(customer_id=DAY)
    refresh_run.choose(ahead.connection, TABLE, again=True)
    assert ahead.entry("customer_id").summary
    assert ahead.entry("customer_id").share == Decimal("0.061856")  # 2 days of 2 metrics, and of all, by 97 events
    ahead.keep(none=DAY)
    assert not ahead.entry("none").summary


def test_a_rollup_of_before_is_not_asked_until_it_is_refreshed(week: Ahead, fast: Store) -> None:
    week.connection.execute("ALTER TABLE usage_events_rollup_kept DROP COLUMN summary")
    week.connection.execute("DELETE FROM usage_events_rollup WHERE dimension LIKE 'summary:%'")
    week.connection.commit()
    answer = fast.aggregate(WEEK)
    assert (answer.total, answer.served.path) == (2 * 7 * 24, "events")
    assert not week.entry("none").summary
    catalog.create(week.connection, TABLE)
    assert verify(week.connection, TABLE, sample=None).differing == 0
    answer = fast.aggregate(WEEK)
    assert (answer.total, answer.served.path) == (2 * 7 * 24, "rollup")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE usage_events_rollup SET quantity = 7 WHERE dimension = 'summary:none' AND metric_key = 'tokens'",
        "DELETE FROM usage_events_rollup WHERE dimension = 'summary:customer_id'",
        "UPDATE usage_events_rollup_kept SET summary = false WHERE dimension = 'none'",
    ],
)
def test_verifying_sees_it(week: Ahead, change: str) -> None:
    assert verify(week.connection, TABLE, sample=None).differing == 0
    week.connection.execute(change.encode())
    week.connection.commit()
    found = verify(week.connection, TABLE, sample=None)
    assert found.differing >= 7
    assert all(each.dimension.startswith("summary:") for each in found.differences)


def test_leaving_a_dimension_out_takes_it_along(week: Ahead) -> None:
    week.keep(customer_id=None)
    catalog.forget(week.connection, TABLE, [week.entry("none")])
    week.connection.commit()
    assert week.rows() == 0


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (FIRST, FIRST + 7 * DAY, [("summary:none", DAY, FIRST, FIRST + 7 * DAY)]),
        (FIRST + HOUR, FIRST + 23 * HOUR, [("none", HOUR, FIRST + HOUR, FIRST + 23 * HOUR)]),
        (FIRST + HOUR, FIRST + 25 * HOUR, [("none", HOUR, FIRST + HOUR, FIRST + 25 * HOUR)]),
        (
            FIRST - HOUR,
            FIRST + 2 * DAY,
            [("summary:none", DAY, FIRST, FIRST + 2 * DAY), ("none", HOUR, FIRST - HOUR, FIRST)],
        ),
        (
            FIRST,
            FIRST + 2 * DAY + HOUR,
            [("summary:none", DAY, FIRST, FIRST + 2 * DAY), ("none", HOUR, FIRST + 2 * DAY, FIRST + 2 * DAY + HOUR)],
        ),
    ],
)
def test_whole_days_are_its_own(since: datetime, until: datetime, expected: list[tuple[Any, ...]]) -> None:
    kept = {"none": Kept("none", HOUR, MARK, MARK - 8 * DAY, summary=True)}
    query = WEEK.replace(since=since, until=until)
    found = serving(query, query.edges(), MARK, kept)
    assert isinstance(found, Serving)
    assert found.slots == tuple(Slots(*each) for each in expected)
    assert found.edges == ()
