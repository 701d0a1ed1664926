"""Bucket edges equal those found by walking through time and watching the wall clock."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import generated_events, query_oracle
from support.query_oracle import utc
from usage_explore.query import buckets
from usage_explore.query.buckets import Bucket
from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS

BUCKETS: list[Bucket] = ["hour", "day", "week", "month"]


@given(
    scene=st.sampled_from(
        [*generated_events.SCENES, ("Pacific/Kwajalein", utc(1993, 8, 21)), ("America/Sao_Paulo", utc(2018, 11, 4))]
    ),
    bucket=st.sampled_from(BUCKETS),
    before=st.integers(0, 3 * 86_400_000_000),
    length=st.integers(1, 3 * 86_400_000_000),
)
def test_edges_are_where_the_wall_clock_says(
    scene: tuple[str, datetime], bucket: Bucket, before: int, length: int
) -> None:
    zone = ZoneInfo(scene[0])
    since = scene[1] - timedelta(microseconds=before)
    until = since + timedelta(microseconds=length)
    found = buckets.edges(since, until, bucket, zone)
    assert list(found) == query_oracle.edges(since, until, bucket, zone)
    for start, end in itertools.pairwise(found):
        assert buckets.floor(start, bucket, zone) == start
        assert buckets.floor(end - timedelta(microseconds=1), bucket, zone) == start
        assert buckets.following(start, bucket, zone) == end


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("Europe/Berlin", (2026, 3, 29), utc(2026, 3, 28, 23), 23),
        ("Europe/Berlin", (2026, 10, 25), utc(2026, 10, 24, 22), 25),
        ("America/Havana", (2026, 11, 1), utc(2026, 11, 1, 4), 25),
        ("America/Havana", (2026, 3, 8), utc(2026, 3, 8, 5), 23),
        ("America/St_Johns", (2010, 11, 7), utc(2010, 11, 7, 2, 30), 25),
        ("Australia/Lord_Howe", (2026, 4, 5), utc(2026, 4, 4, 13), 24.5),
    ],
)
def test_days_start_at_the_first_midnight(zone: str, day: tuple[int, int, int], start: datetime, hours: float) -> None:
    noon = datetime(*day, 12, tzinfo=ZoneInfo(zone)).astimezone(start.tzinfo)
    assert buckets.floor(noon, "day", ZoneInfo(zone)) == start
    assert buckets.following(start, "day", ZoneInfo(zone)) - start == timedelta(hours=hours)


def test_a_date_that_never_happened_has_no_bucket() -> None:
    zone = ZoneInfo("Pacific/Apia")
    found = buckets.edges(utc(2011, 12, 28, 12), utc(2012, 1, 1, 12), "day", zone)
    assert [edge.astimezone(zone).day for edge in found] == [28, 29, 31, 1, 2, 3]


def test_an_hour_is_cut_where_the_clock_shifts_by_half_an_hour() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    found = buckets.edges(utc(2026, 10, 3, 14, 30), utc(2026, 10, 3, 17), "hour", zone)
    assert [end - start for start, end in itertools.pairwise(found)] == [
        timedelta(hours=1),
        timedelta(minutes=30),
        timedelta(hours=1),
    ]


def test_the_cap_counts_back_from_the_last_bucket() -> None:
    found = buckets.edges(utc(1970, 1, 1), utc(2026, 1, 1), "day", ZoneInfo("UTC"))
    assert len(found) == MAX_AGGREGATE_BUCKETS + 1
    assert found[-1] == utc(2026, 1, 1)
    assert found[0] == utc(2026, 1, 1) - timedelta(days=2_400)
    exactly = buckets.edges(found[0], found[-1], "day", ZoneInfo("UTC"))
    assert exactly == found


@pytest.mark.parametrize(
    ("zone", "since", "until", "before"),
    [
        ("UTC", utc(2026, 7, 1), utc(2026, 10, 1), utc(2026, 4, 1)),
        ("Europe/Berlin", utc(2025, 12, 31, 23), utc(2026, 3, 31, 22), utc(2025, 9, 30, 22)),
        ("UTC", utc(2026, 3, 1), utc(2026, 4, 1), utc(2026, 2, 1)),
        ("Europe/Berlin", utc(2026, 10, 18, 22), utc(2026, 10, 25, 23), utc(2026, 10, 11, 22)),
        ("UTC", utc(2026, 6, 1), utc(2026, 9, 1), utc(2026, 3, 1)),  # three months, but no quarter: as many days
    ],
)
def test_a_quarter_follows_a_quarter_and_a_week_a_week(
    zone: str, since: datetime, until: datetime, before: datetime
) -> None:
    assert buckets.previous(since, until, ZoneInfo(zone)) == (before, since)


def test_months_are_capped_like_other_buckets() -> None:
    found = buckets.edges(utc(1970, 1, 1), utc(2200, 1, 1), "month", ZoneInfo("UTC"))
    assert len(found) == MAX_AGGREGATE_BUCKETS + 1
    assert (found[0], found[-1]) == (utc(2000, 1, 1), utc(2200, 1, 1))
