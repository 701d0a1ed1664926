"""Relative times and calendar windows as absolute times at a given now.

`-30d` is exactly 30 × 24 hours before now. `-30d/d` is rounded down to the start of the local day 30 days before
today, as in the preset "last 30 days". `/h`, `/d` and `/w` round down to hour, day and week.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

from usage_explore.query import buckets

CalendarWindow = Literal["this_month", "last_month"]

_UNITS: dict[str, tuple[buckets.Bucket, timedelta]] = {
    "h": ("hour", timedelta(hours=1)),
    "d": ("day", timedelta(days=1)),
    "w": ("week", timedelta(weeks=1)),
}


_MICROSECOND = timedelta(microseconds=1)


def absolute(moment: datetime | str, now: datetime, zone: ZoneInfo) -> datetime:
    """The instant of an absolute or relative time at `now`. Raises `OverflowError` before the year 1."""
    if isinstance(moment, datetime):
        return moment
    distance, _, rounding = moment.partition("/")
    if distance == "now":
        unit, back = "h", timedelta(0)
    else:
        unit, back = distance[-1], int(distance[1:-1]) * _UNITS[distance[-1]][1]
    if not rounding:
        return now - back
    bucket = _UNITS[rounding][0]
    if unit == "h":
        then = now - back
    elif bucket == "hour":
        then = _same_clock(now, back, zone)
    else:
        then = buckets.day_start(buckets.local_date(now, zone) - back, zone)
    return buckets.floor(then, bucket, zone)


def month(window: CalendarWindow, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The half-open window of the local month with `now`, or of the month before."""
    first = buckets.local_date(now, zone).replace(day=1)
    if window == "last_month":
        first = _months_after(first, -1)
    return buckets.day_start(first, zone), buckets.day_start(_months_after(first, 1), zone)


def whole_month(since: datetime, until: datetime, zone: ZoneInfo) -> date | None:
    """The first day of the month if `[since, until)` is exactly one local calendar month, else None."""
    first = since.astimezone(zone).date()
    if first.day != 1 or since != buckets.day_start(first, zone):
        return None
    return first if until == buckets.day_start(_months_after(first, 1), zone) else None


def whole_days(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The window up to the end of its last local day, if it begins at local midnight: an unfinished `-7d/d` is 8 days.

    A window that begins at another time of day is returned as it is.
    """
    if since != buckets.floor(since, "day", zone):
        return since, until
    return since, buckets.following(buckets.floor(until - _MICROSECOND, "day", zone), "day", zone)


def previous(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The whole window to compare with, which ends at `since`.

    The calendar month before a whole month, as many local days before `whole_days`, else the same duration before. It
    is longer than `[since, until)` if that ends within a day: the caller cuts both to the same elapsed time.
    """
    first = whole_month(since, until, zone)
    if first is not None:
        return buckets.day_start(_months_after(first, -1), zone), since
    if since != buckets.floor(since, "day", zone):
        return since - (until - since), since
    days = buckets.local_date(until - _MICROSECOND, zone) - buckets.local_date(since, zone) + timedelta(days=1)
    return buckets.day_start(buckets.local_date(since, zone) - days, zone), since


def _months_after(first: date, months: int) -> date:
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _same_clock(now: datetime, back: timedelta, zone: ZoneInfo) -> datetime:
    """The same local time whole days before, which may have 23 or 25 hours."""
    return (now.astimezone(zone).replace(tzinfo=None, fold=0) - back).replace(tzinfo=zone).astimezone(UTC)
