"""Bucket edges, and relative times and calendar windows as absolute times, on the clock of a time zone.

PostgreSQL's `date_trunc(…, zone)` puts an ambiguous midnight after the events of its first hour, so edges are computed
here, once per query, and passed to the statement as an array parameter.

- A day starts at the first instant whose local time is on its date or a later one: the first of two midnights, or the
  end of the gap if midnight is skipped. A date that the zone skipped has no bucket.
- A week starts with its Monday, a month with its first day.
- An hour starts where the local time is :00. If the clock shifts by less than an hour, the offset in force decides and
  the bucket is cut at the shift.

`-30d` is exactly 30 × 24 hours before now. `-30d/d` is rounded down to the start of the local day 30 days before
today: 31 days with today. `/h`, `/d`, `/w` and `/M` round down to hour, day, week and month.

All instants are aware datetimes in UTC.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Literal, get_args
from zoneinfo import ZoneInfo

from usage_explore.query.limits import MAX_AGGREGATE_BUCKETS

Bucket = Literal["hour", "day", "week", "month"]
BUCKETS: tuple[Bucket, ...] = get_args(Bucket)

_HOUR = timedelta(hours=1)
_MICROSECOND = timedelta(microseconds=1)
_YEAR_OF_WEEKS = 364  # days

CALENDAR_WINDOWS = ("this_week", "last_week", "this_month", "last_month", "this_quarter", "last_quarter")
"""The windows that have a name, beside any month such as `2026-09`. Weeks are ISO weeks."""

_UNITS = {"h": timedelta(hours=1), "d": timedelta(days=1), "w": timedelta(weeks=1)}

ROUNDING: dict[Bucket, str] = {"hour": "h", "day": "d", "week": "w", "month": "M"}
"""The letter after `/` that rounds a relative time down to the start of a bucket."""

_ROUNDED = {letter: bucket for bucket, letter in ROUNDING.items()}


_LONGEST: dict[Bucket, timedelta] = {
    "hour": timedelta(days=4),
    "day": timedelta(days=366),
    "week": timedelta(days=3_660),
}
"""Length of a window up to which a bucket is fine enough to see its course, and coarse enough to see its bars."""


def fitting(length: timedelta) -> Bucket:
    """The bucket in which a window of this length is shown, unless another is asked for: at most 523 buckets."""
    return next((bucket for bucket, longest in _LONGEST.items() if length <= longest), "month")


def floor(instant: datetime, bucket: Bucket, zone: ZoneInfo) -> datetime:
    """The start of the bucket with `instant`."""
    if bucket == "hour":
        return _hour_floor(instant, zone)
    day = local_date(instant, zone)
    return day_start(_first_day(day, bucket), zone)


def following(edge: datetime, bucket: Bucket, zone: ZoneInfo) -> datetime:
    """The end of the bucket that starts at `edge`, which is the start of the next."""
    if bucket == "hour":
        return _hour_end(edge, zone)
    day = local_date(edge, zone)
    return day_start(_next_first_day(day, bucket), zone)


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


def edge_instant(edge: date | datetime, zone: ZoneInfo) -> datetime:
    """The instant of an edge; a date is its midnight in `zone`."""
    return edge if isinstance(edge, datetime) else day_start(edge, zone)


def local_date(instant: datetime, zone: ZoneInfo) -> date:
    """The date whose day bucket has `instant`; not the clock's date after a fall back over midnight."""
    day = _wall(instant, zone).date()
    tomorrow = day + timedelta(days=1)
    return tomorrow if day_start(tomorrow, zone) <= instant else day


def absolute(moment: datetime | str, now: datetime, zone: ZoneInfo) -> datetime:
    """The instant of an absolute or relative time at `now`. Raises `OverflowError` before the year 1."""
    if isinstance(moment, datetime):
        return moment
    distance, _, rounding = moment.partition("/")
    if distance == "now":
        unit, back = "h", timedelta(0)
    else:
        unit, back = distance[-1], int(distance[1:-1]) * _UNITS[distance[-1]]
    if not rounding:
        return now - back
    bucket = _ROUNDED[rounding]
    if unit == "h":
        then = now - back
    elif bucket == "hour":
        then = _same_clock(now, back, zone)
    else:
        then = day_start(local_date(now, zone) - back, zone)
    return floor(then, bucket, zone)


def calendar_window(window: str, now: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The half-open window of a month such as `2026-09`, or of one of `CALENDAR_WINDOWS`, which count from `now`."""
    if window not in CALENDAR_WINDOWS:
        first = month_of(window)
        return day_start(first, zone), day_start(_months_after(first, 1), zone)
    which, _, unit = window.partition("_")
    first = _first_day(local_date(now, zone), unit)
    if which == "last":
        first = _first_day(first - timedelta(days=1), unit)
    return day_start(first, zone), day_start(_next_first_day(first, unit), zone)


def month_of(window: str) -> date:
    """The first day of the month of a window such as `2026-09`."""
    return date.fromisoformat(f"{window}-01")


def whole_month(since: datetime, until: datetime, zone: ZoneInfo) -> date | None:
    """The first day of the month if `[since, until)` is exactly one local calendar month, else None."""
    return _whole(since, until, zone, "month")


def whole_quarter(since: datetime, until: datetime, zone: ZoneInfo) -> date | None:
    """The first day of the quarter if `[since, until)` is exactly one local calendar quarter, else None."""
    return _whole(since, until, zone, "quarter")


def _whole(since: datetime, until: datetime, zone: ZoneInfo, unit: str) -> date | None:
    first = local_date(since, zone)
    if first != _first_day(first, unit) or since != day_start(first, zone):
        return None
    return first if until == day_start(_next_first_day(first, unit), zone) else None


def whole_days(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The window up to the end of its last local day, if it begins at local midnight: an unfinished `-7d/d` is 8 days.

    A window that begins at another time of day is returned as it is.
    """
    if since != floor(since, "day", zone):
        return since, until
    return since, following(floor(until - _MICROSECOND, "day", zone), "day", zone)


def previous(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The whole window to compare with, which ends at `since`.

    As many calendar months before whole ones, as many local days before `whole_days`, else the same duration before. It
    is longer than `[since, until)` if that ends within a day: the caller cuts both to the same elapsed time.
    """
    months = _whole_months(since, until, zone)
    if months:
        return day_start(_months_after(local_date(since, zone), -months), zone), since
    if since != floor(since, "day", zone):
        return since - (until - since), since
    days = local_date(until - _MICROSECOND, zone) - local_date(since, zone) + timedelta(days=1)
    return day_start(local_date(since, zone) - days, zone), since


def year_before(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The same window one year earlier, on the zone's clock.

    Whole calendar months: the same months of the year before. Else 364 days earlier, so that weekdays agree.
    """
    months = _whole_months(since, until, zone)
    if months:
        first = _months_after(local_date(since, zone), -12)
        return day_start(first, zone), day_start(_months_after(first, months), zone)
    return days_before(since, _YEAR_OF_WEEKS, zone), days_before(until, _YEAR_OF_WEEKS, zone)


def days_before(instant: datetime, days: int, zone: ZoneInfo) -> datetime:
    """The same time on the zone's clock whole days before, or with a minus after; a day's first instant stays one."""
    day, back = local_date(instant, zone), timedelta(days=days)
    if instant == day_start(day, zone):
        return day_start(day - back, zone)
    local = instant.astimezone(zone)
    return (local.replace(tzinfo=None) - back).replace(tzinfo=zone, fold=local.fold).astimezone(UTC)


def _whole_months(since: datetime, until: datetime, zone: ZoneInfo) -> int:
    """The number of local calendar months that `[since, until)` is exactly, 0 if it is not."""
    first, last = local_date(since, zone), local_date(until, zone)
    if first.day != 1 or last.day != 1 or since != day_start(first, zone) or until != day_start(last, zone):
        return 0
    return (last.year - first.year) * 12 + last.month - first.month


def _months_after(first: date, months: int) -> date:
    number = first.year * 12 + first.month - 1 + months
    return date(number // 12, number % 12 + 1, 1)


def _same_clock(now: datetime, back: timedelta, zone: ZoneInfo) -> datetime:
    """The same local time whole days before, which may have 23 or 25 hours."""
    return (now.astimezone(zone).replace(tzinfo=None, fold=0) - back).replace(tzinfo=zone).astimezone(UTC)


def _first_day(day: date, unit: str) -> date:
    """The first day of the week, month or quarter with a day; the day itself for `day`."""
    match unit:
        case "week":
            return day - timedelta(days=day.weekday())
        case "month":
            return day.replace(day=1)
        case "quarter":
            return day.replace(month=(day.month - 1) // 3 * 3 + 1, day=1)
    return day


def _next_first_day(day: date, unit: str) -> date:
    """The first day of the week, month or quarter after the one with a day; the next day for `day`."""
    first = _first_day(day, unit)
    if unit in ("month", "quarter"):
        return _months_after(first, 1 if unit == "month" else 3)
    return first + timedelta(days=7 if unit == "week" else 1)


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
