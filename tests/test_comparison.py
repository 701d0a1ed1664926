"""The period before: which one it is, where it is cut, and that its sums are the oracle's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from support import generated_events
from support.query_oracle import Row, utc
from usage_explore import AggregateQuery, Store, connect
from usage_explore.comparison import compare, length_note, lengths, per_day
from usage_explore.db import ddl
from usage_explore.results.types import Change, Comparison

HOUR = timedelta(hours=1)
MARCH, FEBRUARY = (utc(2026, 3, 1), utc(2026, 4, 1)), (utc(2026, 2, 1), utc(2026, 3, 1))


@pytest.mark.parametrize(
    ("zone", "now", "before", "words"),
    [
        ("UTC", MARCH, FEBRUARY, "31 days against 28"),
        ("UTC", MARCH, (utc(2026, 1, 1), utc(2026, 2, 1)), ""),
        ("UTC", (MARCH[0], MARCH[0] + 6 * HOUR), FEBRUARY, "6 hours against 28 days"),
        ("UTC", (MARCH[0] + HOUR, MARCH[1] + HOUR), (FEBRUARY[0], FEBRUARY[0] + 31 * 24 * HOUR), ""),
        # seven local days each, of 167 and 168 hours
        (
            "Europe/Berlin",
            (utc(2026, 3, 22, 23), utc(2026, 3, 29, 22)),
            (utc(2026, 3, 15, 23), utc(2026, 3, 22, 23)),
            "",
        ),
    ],
)
def test_compared_windows_of_different_lengths_are_named(
    zone: str, now: tuple[datetime, datetime], before: tuple[datetime, datetime], words: str
) -> None:
    assert lengths(AggregateQuery(timezone=zone), now, before) == words


@pytest.fixture
def daily(events_database_url: str, events_connection: ddl.Connection, own: list[Row]) -> Iterator[Store]:
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
    generated_events.insert(events_connection, events)
    store = connect(events_database_url)
    yield store
    store.close()


def add(connection: ddl.Connection, own: list[Row], since: datetime, until: datetime, **columns: Any) -> None:
    """One event an hour in `[since, until)`, each known when it occurred unless `ingested_at` is given."""
    instants = [since + number * HOUR for number in range((until - since) // HOUR)]
    events = [
        replace(
            own[0],
            **{"id": uuid4(), "timestamp": at, "ingested_at": at, "metric_key": "a", "dimensions": "{}"} | columns,
        )
        for at in instants
    ]
    generated_events.insert(connection, events)


@pytest.fixture
def hourly(events_database_url: str, events_connection: ddl.Connection, own: list[Row]) -> Iterator[Store]:
    """One event every hour from September 2025 to May 2026."""
    add(events_connection, own, utc(2025, 9, 1), utc(2026, 6, 1))
    with connect(events_database_url) as opened:
        yield opened


def test_a_whole_month_is_compared_with_the_month_before(daily: Store) -> None:
    answer = daily.aggregate(AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1), metric="sum_quantity"))
    found = compare(daily, answer)
    assert isinstance(found, Comparison)
    assert (found.since, found.until) == (utc(2026, 2, 1), utc(2026, 3, 1))
    assert found.label == "vs February 2026"
    assert found.total == Change(Decimal(31 * 4 * 3), Decimal(28 * 4 * 2))
    assert found.total.ratio == Decimal(372 - 224) / 224
    # 12 a day against 8
    assert length_note(answer.query, found) == "31 days against 28, +50.0 % per day"
    assert per_day(answer.query, MARCH, FEBRUARY, Change(0, 0)) == ""
    assert per_day(answer.query.replace(metric="unit_cost"), MARCH, FEBRUARY, found.total) == ""


def test_any_other_window_is_compared_with_the_same_duration_before(daily: Store) -> None:
    answer = daily.aggregate(
        AggregateQuery(since=utc(2026, 3, 2), until=utc(2026, 3, 12), group_by="metric_key", top=1)
    )
    found = compare(daily, answer)
    assert isinstance(found, Comparison)
    assert (found.since, found.until) == (utc(2026, 2, 20), utc(2026, 3, 2))
    assert found.label == "vs the 10 days before"
    assert [(change.label, change.now, change.before) for change in found.series] == [("a", 40, 31), ("Other", 0, 9)]
    assert found.total == Change(40, 40)


@pytest.mark.parametrize(
    ("duration", "label"),
    [
        (timedelta(days=1), "1 day"),
        (timedelta(hours=24, minutes=54), "1 day 54 minutes"),
        (timedelta(hours=25), "1 day 1 hour"),
        (timedelta(days=7, hours=12, minutes=54), "7 days 12 hours"),
    ],
)
def test_the_label_says_how_long_the_period_is(daily: Store, duration: timedelta, label: str) -> None:
    query = AggregateQuery(since=utc(2026, 3, 2, 6), until=utc(2026, 3, 2, 6) + duration)
    found = compare(daily, daily.aggregate(query))
    assert isinstance(found, Comparison)
    assert found.label == f"vs the {label} before"


def test_an_unfinished_window_is_cut_on_both_sides(daily: Store) -> None:
    known = utc(2026, 3, 11, 12)
    query = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1), as_of=known, group_by="metric_key", top=1)
    found = compare(daily, daily.aggregate(query))
    assert isinstance(found, Comparison)
    assert (found.since, found.until) == (utc(2026, 2, 1), utc(2026, 2, 11, 12))
    assert found.label == "vs February 2026, each up to 10 days 12 hours in"
    assert found.total == Change(42, 42)


@pytest.mark.parametrize(
    ("month", "known", "timezone", "label", "ratio"),
    [
        # 30 days 5 hours of March are 725 hours, the whole of February has 672
        ((2026, 3, 1), utc(2026, 3, 31, 5), "UTC", "vs February 2026, each up to 28 days in", "0"),
        ((2026, 5, 1), utc(2026, 5, 31, 12), "UTC", "vs April 2026, each up to 30 days in", "0"),
        ((2026, 4, 1), utc(2026, 4, 30, 12), "UTC", "vs March 2026, each up to 29 days 12 hours in", "0"),
        ((2026, 4, 1), utc(2026, 4, 11), "Europe/Berlin", "vs March 2026, each up to 10 days 2 hours in", "0"),
        # the March before has 743 hours in Berlin, the October 745
        ((2026, 4, 1), utc(2026, 4, 30, 21), "Europe/Berlin", "vs March 2026, each up to 29 days 23 hours in", "0"),
        ((2025, 11, 1), utc(2025, 11, 30, 22), "Europe/Berlin", "vs October 2025, each up to 29 days 23 hours in", "0"),
        ((2026, 3, 1), utc(2026, 4, 1), "UTC", "vs February 2026", "0.1071428571428571428571428571"),
    ],
)
def test_steady_usage_of_an_unfinished_month_has_not_changed(
    hourly: Store, month: tuple[int, int, int], known: datetime, timezone: str, label: str, ratio: str
) -> None:
    zone = ZoneInfo(timezone)
    since = datetime(*month, tzinfo=zone)
    until = datetime(month[0], month[1] + 1, 1, tzinfo=zone)
    query = AggregateQuery(since=since, until=until, timezone=timezone, as_of=known, group_by="metric_key")
    found = compare(hourly, hourly.aggregate(query))
    assert isinstance(found, Comparison)
    assert found.label == label
    assert found.total.ratio == Decimal(ratio)
    assert [change.ratio for change in found.series] == [Decimal(ratio)]
    if ratio == "0":
        assert found.now_until - since == found.until - found.since
        assert found.now_until <= known
        assert found.until <= since


@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin", "America/New_York"])
@pytest.mark.parametrize("days", [0, 1, 7, 30])
def test_whole_days_until_now_are_compared_with_the_same_hours_of_as_many_days(
    hourly: Store, days: int, timezone: str
) -> None:
    zone, now = ZoneInfo(timezone), utc(2026, 5, 20, 9)
    query = AggregateQuery(since=f"-{days}d/d" if days else "now/d", timezone=timezone).resolve(now)
    found = compare(hourly, hourly.aggregate(query))
    assert isinstance(found, Comparison)
    since, until = query.span
    assert found.until - found.since == until - since
    assert found.until <= since
    wall = (since.astimezone(zone).replace(tzinfo=None), found.since.astimezone(zone).replace(tzinfo=None))
    assert wall[0] - wall[1] == timedelta(days=days + 1)
    assert found.total.ratio == 0
    assert found.label.startswith(f"vs the {days + 1} day{'s' if days else ''} before, each up to ")


def test_a_pinned_window_is_compared_as_the_live_one_is(hourly: Store) -> None:
    now = utc(2026, 5, 20, 5) + timedelta(minutes=37)
    live = AggregateQuery(since="-7d/d").resolve(now)
    labels = []
    for query in (live, live.replace(as_of=now - timedelta(minutes=5))):
        found = compare(hourly, hourly.aggregate(query))
        assert isinstance(found, Comparison)
        assert found.since == utc(2026, 5, 5)
        labels.append(found.label)
    assert labels == ["vs the 8 days before, each up to 7 days 5 hours in"] * 2
    part = AggregateQuery(since=utc(2026, 5, 13, 1), until=now, as_of=now - timedelta(minutes=5))
    found = compare(hourly, hourly.aggregate(part))
    assert isinstance(found, Comparison)
    assert found.label == "vs the 7 days 4 hours before"


def test_local_days_over_a_clock_change_are_compared_with_whole_local_days(hourly: Store) -> None:
    zone = ZoneInfo("Europe/Berlin")
    week = {"since": datetime(2026, 3, 23, tzinfo=zone), "until": datetime(2026, 3, 30, tzinfo=zone)}
    found = compare(hourly, hourly.aggregate(AggregateQuery(**week, timezone="Europe/Berlin")))
    assert isinstance(found, Comparison)
    assert found.label == "vs the 7 days before"
    assert found.total == Change(167, 168)


@pytest.mark.parametrize("since", ["-30d", "-30d/d", "-7d"])
@pytest.mark.parametrize("timezone", ["UTC", "Europe/Berlin"])
def test_a_live_window_is_compared_with_as_long_a_one(hourly: Store, since: str, timezone: str) -> None:
    now = utc(2026, 4, 20, 9)  # the 30 days hold the night of 29 March, which has 23 hours in Berlin
    query = AggregateQuery(since=since, timezone=timezone).resolve(now)
    found = compare(hourly, hourly.aggregate(query))
    assert isinstance(found, Comparison)
    assert found.until - found.since == query.span[1] - query.span[0]
    assert found.total == Change((found.until - found.since) // HOUR, (found.until - found.since) // HOUR)


def test_a_quarter_is_compared_with_the_quarter_before(daily: Store) -> None:
    for month, label, days, before in ((1, "vs Q4 2025", 90, 92), (7, "vs Q2 2026", 92, 91)):
        query = AggregateQuery(window="this_quarter").resolve(utc(2026, month, 20))
        found = compare(daily, daily.aggregate(query))
        assert isinstance(found, Comparison)
        assert found.label == label
        assert found.total == Change(4 * days, 4 * before)


def test_this_month_is_cut_where_now_is(hourly: Store) -> None:
    query = AggregateQuery(window="this_month", timezone="Europe/Berlin")
    now = utc(2026, 3, 31, 20)
    resolved = query.resolve(now).replace(as_of=now)
    found = compare(hourly, hourly.aggregate(resolved))
    assert isinstance(found, Comparison)
    assert found.label == "vs February 2026, each up to 28 days in"
    assert found.total == Change(672, 672)


def test_a_day_of_25_hours_is_compared_with_its_length(hourly: Store) -> None:
    query = AggregateQuery(window=None, since="2025-10-26", until="2025-10-27", timezone="Europe/Berlin", bucket="hour")
    answer = hourly.aggregate(query)
    found = compare(hourly, answer)
    assert isinstance(found, Comparison)
    assert found.total == Change(25, 24)
    assert length_note(answer.query, found) == "1 day 1 hour against 1 day, 0 % per day"
    week = hourly.aggregate(query.replace(since="2025-10-20", until="2025-10-27", bucket="day"))
    weeks = compare(hourly, week)
    assert isinstance(weeks, Comparison)
    assert length_note(week.query, weeks) == ""


@pytest.mark.parametrize(
    ("since", "until", "reason"),
    [
        # the first event occurred at 12:00 on 10 January
        (utc(2026, 2, 1), utc(2026, 3, 1), "not compared with January 2026: events begin on 10 Jan 2026 13:00"),
        (utc(2026, 1, 16), utc(2026, 1, 23), "not compared with the 7 days before: events begin on 10 Jan 2026 13:00"),
        (utc(2026, 1, 13), utc(2026, 1, 15), None),
        (utc(2026, 1, 5), utc(2026, 1, 12), "not compared with the 7 days before: events begin on 10 Jan 2026 13:00"),
    ],
)
def test_a_period_before_the_first_event_is_not_compared(
    events_database_url: str,
    events_connection: ddl.Connection,
    own: list[Row],
    since: datetime,
    until: datetime,
    reason: str | None,
) -> None:
    add(events_connection, own, utc(2026, 1, 10, 12), utc(2026, 3, 1))
    with connect(events_database_url) as store:
        zone = ZoneInfo("Europe/Berlin")
        edges = {"since": since.replace(tzinfo=zone), "until": until.replace(tzinfo=zone)}
        for chosen in (None, "previous"):
            query = AggregateQuery(**edges, timezone="Europe/Berlin", group_by="metric_key", compare=chosen)
            found = compare(store, store.aggregate(query))
            assert (found if isinstance(found, str) else None) == reason


@pytest.mark.parametrize(("minutes", "is_compared"), [(44, True), (45, False)])
def test_a_period_whose_first_event_comes_minutes_after_midnight_is_compared(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row], minutes: int, is_compared: bool
) -> None:
    """The first month of any organization was not: no events begin at midnight. January has 44.64 thousandths."""
    add(events_connection, own, utc(2026, 1, 1, 0, minutes), utc(2026, 3, 1))
    with connect(events_database_url) as store:
        found = compare(store, store.aggregate(AggregateQuery(since=utc(2026, 2, 1), until=utc(2026, 3, 1))))
    if is_compared:
        assert isinstance(found, Comparison)
        assert found.partial
        assert found.label.endswith(f"(partial: events begin on 1 Jan 2026 00:{minutes})")
        assert found.total.before == 31 * 24
    else:
        assert found == f"not compared with January 2026: events begin on 1 Jan 2026 00:{minutes}"


def test_what_was_known_decides_where_the_events_begin(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row]
) -> None:
    add(events_connection, own, utc(2026, 2, 15), utc(2026, 4, 1))
    add(events_connection, own, utc(2026, 1, 1), utc(2026, 2, 15), ingested_at=utc(2026, 5, 1))
    march = AggregateQuery(since=utc(2026, 3, 1), until=utc(2026, 4, 1))
    with connect(events_database_url) as store:
        assert isinstance(compare(store, store.aggregate(march)), Comparison)
        known = compare(store, store.aggregate(march.replace(as_of=utc(2026, 4, 2))))
        assert known == "not compared with February 2026: events begin on 15 Feb 2026 00:00"


def test_other_is_compared_with_everything_outside_the_kept_series(daily: Store) -> None:
    answer = daily.aggregate(AggregateQuery(since=utc(2026, 4, 5), until=utc(2026, 4, 9), group_by="metric_key", top=1))
    assert [series.label for series in answer.series] == ["a", "Other"]
    found = compare(daily, answer)
    assert isinstance(found, Comparison)
    assert [change.before for change in found.series] == [12, 4]
    month = daily.aggregate(AggregateQuery(since=utc(2026, 4, 1), until=utc(2026, 5, 1), group_by="metric_key", top=1))
    found = compare(daily, month)
    assert isinstance(found, Comparison)
    assert [change.before for change in found.series] == [124, 0]
    assert found.series[1].ratio is None


def test_a_window_that_has_not_begun_is_not_compared(daily: Store) -> None:
    future = daily.aggregate(AggregateQuery(since=utc(2150, 1, 1), until=utc(2150, 2, 1)))
    assert compare(daily, future) == "nothing to compare: the window has not begun"
    early = daily.aggregate(AggregateQuery(since=utc(1970, 1, 2), until=utc(1980, 1, 1)))
    assert compare(daily, early) == "not compared with the 2,400 days before: it reaches before 1970"
