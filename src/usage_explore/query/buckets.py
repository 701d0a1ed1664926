"""Bucket edges: the starts of hours, days and weeks in a time zone.

PostgreSQL's `date_trunc(…, zone)` puts an ambiguous midnight after the events of its first hour, so edges are computed
here, once per query, and passed to the statement as an array parameter.

- A day starts at the first instant whose local time is on its date or a later one: the first of two midnights, or the
  end of the gap if midnight is skipped. A date that the zone skipped has no bucket.
- A week starts with its Monday.
- An hour starts where the local time is :00. If the clock shifts by less than an hour, the offset in force decides and
  the bucket is cut at the shift.

All instants are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo

from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS

Bucket = Literal["hour", "day", "week"]

_HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)


def floor(instant: datetime, bucket: Bucket, zone: ZoneInfo) -> datetime:
    """The start of the bucket with `instant`."""
    if bucket == "hour":
        return _hour_floor(instant, zone)
    day = local_date(instant, zone)
    return day_start(_monday(day) if bucket == "week" else day, zone)


def following(edge: datetime, bucket: Bucket, zone: ZoneInfo) -> datetime:
    """The end of the bucket that starts at `edge`, which is the start of the next."""
    if bucket == "hour":
        return _hour_end(edge, zone)
    day = local_date(edge, zone)
    return day_start(_monday(day) + timedelta(days=7) if bucket == "week" else day + timedelta(days=1), zone)


@lru_cache(maxsize=32)  # needed three times per query: for the cap, the statement, and its rows
def edges(
    since: datetime, until: datetime, bucket: Bucket, zone: ZoneInfo, max_buckets: int = MAX_AGGREGATE_BUCKETS
) -> tuple[datetime, ...]:
    """The edges of all buckets that overlap `[since, until)`, one more than there are buckets.

    Only the last `max_buckets` are kept: if there are more, the first edge lies after `since`.
    """
    start = floor(until - _MICROSECOND, bucket, zone)
    edges_backwards = [following(start, bucket, zone), start]
    while start > since and len(edges_backwards) <= max_buckets:
        start = floor(start - _MICROSECOND, bucket, zone)
        edges_backwards.append(start)
    return tuple(reversed(edges_backwards))


def day_start(day: date, zone: ZoneInfo) -> datetime:
    """The first instant whose local time in `zone` is on `day` or later."""
    midnight = datetime.combine(day, time())
    instant = midnight.replace(tzinfo=zone).astimezone(UTC)
    if _wall(instant, zone) == midnight:
        return instant
    return _first(instant - timedelta(hours=25), instant, lambda t: _wall(t, zone) >= midnight)


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """The date whose day bucket has `instant`; not the clock's date after a fall back over midnight."""
    day = _wall(instant, zone).date()
    tomorrow = day + timedelta(days=1)
    return tomorrow if day_start(tomorrow, zone) <= instant else day


def _monday(day: date) -> date:
    return day - timedelta(days=day.weekday())


def _hour_floor(instant: datetime, zone: ZoneInfo) -> datetime:
    phase = _phase(instant, zone)
    start = instant - _past_hour(instant, phase)
    if _phase(start, zone) == phase:
        return start
    return _first(start, _whole_second(instant), lambda t: _phase(t, zone) == phase)


def _hour_end(edge: datetime, zone: ZoneInfo) -> datetime:
    phase = _phase(edge, zone)
    end = edge - _past_hour(edge, phase) + _HOUR
    if _phase(end - _MICROSECOND, zone) == phase:
        return end
    return _first(edge, end, lambda t: _phase(t, zone) != phase)


def _phase(instant: datetime, zone: ZoneInfo) -> timedelta:
    """The time by which the zone's :00 precedes UTC's at `instant`: 45 minutes at +05:45."""
    offset = instant.astimezone(zone).utcoffset()
    assert offset is not None  # noqa: S101 - a ZoneInfo always knows its offset
    return offset % _HOUR


def _past_hour(instant: datetime, phase: timedelta) -> timedelta:
    return (timedelta(minutes=instant.minute, seconds=instant.second, microseconds=instant.microsecond) + phase) % _HOUR


def _wall(instant: datetime, zone: ZoneInfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None)


def _whole_second(instant: datetime) -> datetime:
    return instant.replace(microsecond=0)


def _first(before: datetime, holds: datetime, test: Callable[[datetime], bool]) -> datetime:
    """The first whole second after `before` and up to `holds` from which on `test` is true, by bisection."""
    while holds - before > timedelta(seconds=1):
        middle = _whole_second(before + (holds - before) / 2)
        if test(middle):
            holds = middle
        else:
            before = middle
    return holds
