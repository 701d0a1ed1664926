"""Batches that did not come, of an organization whose events come on a few days at regular intervals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from statistics import median

from usage_explore.formatting import short
from usage_explore.query import buckets
from usage_explore.results.types import Point
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination, Finding
from usage_explore.validation.checks.data_end import DAY, HISTORY_DAYS, LOOK_BACK, NAME
from usage_explore.validation.periods import earlier
from usage_explore.validation.usage_sums import events_share

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_BATCHES = BOUNDS.add("min_batches", 6, "batches", 3, 100,
    "Batches at regular intervals before a missing one, at least.")

MIN_INTERVAL_DAYS = BOUNDS.add("min_interval_days", 5, "days", 2, 100,
    "Days from the begin of a batch to that of the next one, at least, of an organization without events on most days.")

MAX_IRREGULARITY = BOUNDS.add("max_irregularity", 0.2, "share", 0, 1,
    "Part of the usual interval, or a day, by which others may differ from it.")

MIN_MISSING_EVENTS = BOUNDS.add("min_missing_events", 20, "events", 1, 1000000,
    "Events of a usual batch from which a missing one is high, else medium.")
# fmt: on

_MAX_KNOWN = 9
_LATE_SHARE, _LATE_DAYS = 0.35, 2  # of the usual interval, and at least, after which a batch is no longer only late


@dataclass(frozen=True, slots=True)
class Batch:
    """Events on one day or several that follow each other, as numbers of days."""

    first: int
    last: int
    events: int


@dataclass(frozen=True, slots=True)
class Missing:
    """A time without the batches that were expected at `days`; `before` are the ones that say what is usual."""

    days: tuple[int, ...]
    before: Sequence[Batch]
    interval: float
    end: int


def missing(counts: Sequence[int], *, ended: bool = False) -> Iterator[Missing]:
    """The missing batches, by the events of each day; without the last ones where the data `ended`."""
    batches = _batches(counts)
    for place in range(MIN_BATCHES(), len(batches) + (not ended)):
        before = batches[max(0, place - _MAX_KNOWN) : place]
        interval = _interval(before)
        if interval is None:
            continue
        is_last, last = place == len(batches), before[-1].first
        end = len(counts) if is_last else batches[place].first
        late = max(_LATE_DAYS, _LATE_SHARE * interval) if is_last else max(1.0, MAX_IRREGULARITY() * interval)
        until = end - late if is_last else end - interval + late
        expected = [last + number * interval for number in range(1, int((until - last) // interval) + 1)]
        if expected:
            yield Missing(tuple(map(round, expected)), before, interval, end)


def _batches(counts: Sequence[int]) -> list[Batch]:
    used = [day for day, events in enumerate(counts) if events]
    if not used or 2 * len(used) > used[-1] - used[0] + 1:
        return []
    firsts = [used[0], *(later for day, later in pairwise(used) if later > day + 1)]
    lasts = [*(day for day, later in pairwise(used) if later > day + 1), used[-1]]
    return [Batch(first, last, sum(counts[first : last + 1])) for first, last in zip(firsts, lasts, strict=True)]


def _interval(batches: Sequence[Batch]) -> float | None:
    """The usual time between two batches in days; None where it is irregular. One of `_MAX_KNOWN` may be missing."""
    intervals = [later.first - batch.first for batch, later in pairwise(batches)]
    usual = float(median(intervals))
    most = max(1.0, MAX_IRREGULARITY() * usual)
    times = [max(1, round(interval / usual)) for interval in intervals]
    is_regular = all(abs(interval - number * usual) <= most for interval, number in zip(intervals, times, strict=True))
    is_whole = sum(number - 1 for number in times) <= (len(batches) == _MAX_KNOWN)
    return usual if usual >= MIN_INTERVAL_DAYS() and is_regular and is_whole else None


def findings(examination: Examination, until: datetime, *, ended: bool) -> Iterator[Finding]:
    """The missing batches of the period, of all its usage together."""
    period = examination.period
    since = earlier(period.span[0], HISTORY_DAYS() * DAY + LOOK_BACK())
    inside = _days(examination, period.span[0], until)
    if 2 * sum(point.number > 0 for point in inside) > len(inside):
        return  # most organizations: no further months are read
    points = _days(examination, since, until)
    for one in missing([int(point.number) for point in points], ended=ended):
        days = [day for day in one.days if period.span[0] <= points[day].start < period.span[1]]
        if days:
            back = points[one.end].start if one.end < len(points) else until
            yield _finding(examination, one, [points[day].start for day in days], points[one.before[-1].last].end, back)


def _days(examination: Examination, since: datetime, until: datetime) -> Sequence[Point]:
    """The events of each day, the first one whole."""
    start = buckets.floor(since, "day", examination.period.zone)
    question = examination.aggregate_question(since=start, until=until, bucket="day", metric="count")
    series, *_ = examination.paths.aggregate(question)
    return series[0].points if series else ()


def _finding(examination: Examination, one: Missing, days: list[datetime], since: datetime, until: datetime) -> Finding:
    zone = examination.period.zone
    usual = round(Decimal(sum(batch.events for batch in one.before)) / len(one.before)) * len(days)
    when = " and ".join(f"{day.astimezone(zone):%-d %b %Y}" for day in days)
    which = "The batch" if len(days) == 1 else "The batches"
    return Finding(
        check=NAME,
        kind="missing batch",
        severity="high" if usual >= MIN_MISSING_EVENTS() else "medium",
        sentence=f"{which} of about {when} did not come, after {len(one.before)} that came every {one.interval:g} days:"
        f" about {short(usual)} events stayed away.",
        since=max(since, examination.period.span[0]),
        until=until,
        events=0,
        question=examination.aggregate_question(
            since=earlier(days[0], HISTORY_DAYS() * DAY),
            until=max(until, min(until + 2 * one.interval * DAY, examination.closed_until)),
            bucket="day",
            metric="count",
        ),
        **events_share(examination, usual),
        facts=(("usual interval", f"{one.interval:g} days"), ("expected", f"{usual}")),
        is_general=True,
    )
