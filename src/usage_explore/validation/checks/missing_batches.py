"""Batches that did not come, of an organization or a customer whose events come on a few days at regular intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from statistics import median
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Integer, Interval, Select, Table, cast, extract, func, literal, select

from usage_explore.formatting import short
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.results.types import Point
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination, Finding, Severity
from usage_explore.validation.checks.data_end import DAY, HISTORY_DAYS, LOOK_BACK, NAME
from usage_explore.validation.periods import earlier, part
from usage_explore.validation.usage_sums import events_share

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_BATCHES = BOUNDS.add("min_batches", 6, "batches", 3, 100,
    "Batches at regular intervals before a missing one, at least.")

MIN_INTERVAL_DAYS = BOUNDS.add("min_interval_days", 5, "days", 2, 100,
    "Days from the begin of a batch to that of the next one, at least, of an organization without events on most days.")

MIN_OWN_BATCHES = BOUNDS.add("min_own_batches", 8, "batches", 3, 100,
    "Batches of one customer before a missing one, at least: of a thousand customers with few events some have six at "
    "regular intervals by chance.")

MAX_IRREGULARITY = BOUNDS.add("max_irregularity", 0.2, "share", 0, 1,
    "Part of the usual interval, or a day, by which others may differ from it; of one customer half of it.")

MIN_MISSING_EVENTS = BOUNDS.add("min_missing_events", 20, "events", 1, 1000000,
    "Events of a usual batch from which a missing one is high, else medium; of one customer by its share, too.")

HIGH_OWN_SHARE = BOUNDS.add("high_own_share", Decimal("0.01"), "share", 0, 1,
    "Share of the organization's events in the period from which one customer's missing batch is high.")

MEDIUM_OWN_SHARE = BOUNDS.add("medium_own_share", Decimal("0.001"), "share", 0, 1,
    "Share of the organization's events in the period from which one customer's missing batch is medium, else low.")
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


def missing(counts: Sequence[int], *, ended: bool = False, of_one: bool = False) -> Iterator[Missing]:
    """The missing batches, by the events of each day; without the last ones where the data `ended`.

    `of_one` customer of many is judged more strictly.
    """
    batches = _batches(counts)
    for place in range(MIN_OWN_BATCHES() if of_one else MIN_BATCHES(), len(batches) + (not ended)):
        before = batches[max(0, place - _MAX_KNOWN) : place]
        interval = _interval(before, MAX_IRREGULARITY() / 2 if of_one else MAX_IRREGULARITY())
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


def _interval(batches: Sequence[Batch], irregularity: float) -> float | None:
    """The usual time between two batches in days; None where it is irregular. One of `_MAX_KNOWN` may be missing."""
    intervals = [later.first - batch.first for batch, later in pairwise(batches)]
    usual = float(median(intervals))
    most = max(1.0, irregularity * usual)
    times = [max(1, round(interval / usual)) for interval in intervals]
    is_regular = all(abs(interval - number * usual) <= most for interval, number in zip(intervals, times, strict=True))
    is_whole = sum(number - 1 for number in times) <= (len(batches) == _MAX_KNOWN)
    return usual if usual >= MIN_INTERVAL_DAYS() and is_regular and is_whole else None


def statement(table: Table, period: Period, until: datetime) -> Select[Any]:
    """The days with events of the customers who have some on half of their days or fewer, in the months before `until`.

    Columns: `customer_id` uuid, `day` integer (24 hours, from 0), `events` bigint.
    """
    since, time = _since(period), table.c.timestamp
    begin = literal(since, DateTime(timezone=True))
    number = cast(
        extract("epoch", func.date_bin(literal(DAY, Interval), time, begin, type_=begin.type) - begin) / 86_400, Integer
    )
    read = period.replace(since=since, until=until)
    days = (
        select(table.c.customer_id, number.label("day"), func.count().label("events"))
        .where(*conditions(table, read))
        .group_by(table.c.customer_id, number)
        .cte("days")
    )
    d = days.c
    own: Any = {"partition_by": d.customer_id}
    known = select(
        days,
        func.count().over(**own).label("used"),
        (func.max(d.day).over(**own) - func.min(d.day).over(**own) + 1).label("known"),
    ).cte("known")
    k = known.c
    return select(k.customer_id, k.day, k.events).where(k.used >= MIN_OWN_BATCHES(), 2 * k.used <= k.known)


def of_customers(
    examination: Examination, until: datetime, *, ended: bool, known: Callable[[UUID, datetime], bool]
) -> Iterator[Finding]:
    """The missing batches of customers in the period, the largest first; `known` are those reported already."""
    period, since = examination.period, _since(examination.period)
    length = math.ceil((until - since) / DAY)
    counts: defaultdict[UUID, list[int]] = defaultdict(lambda: [0] * length)
    for row in examination.extracted_rows(statement(examination.table, period, until)):
        counts[row.customer_id][row.day] = row.events
    result = []
    for customer, events in counts.items():
        for one in missing(events, ended=ended, of_one=True):
            days = [since + day * DAY for day in one.days]
            days = [day for day in days if period.span[0] <= day < period.span[1] and not known(customer, day)]
            if days:
                back = min(since + one.end * DAY, until)
                last = since + (one.before[-1].last + 1) * DAY
                result.append(_finding(examination, one, days, last, back, customer))
    yield from sorted(result, key=lambda finding: (-finding.share, str(finding.customer_id), finding.since))


def _since(period: Period) -> datetime:
    """Since when events say what is usual before a period."""
    return earlier(period.span[0], HISTORY_DAYS() * DAY + LOOK_BACK())


def findings(examination: Examination, until: datetime, *, ended: bool) -> Iterator[Finding]:
    """The missing batches of the period, of all its usage together."""
    period = examination.period
    since = _since(period)
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


def _finding(
    examination: Examination,
    one: Missing,
    days: list[datetime],
    since: datetime,
    until: datetime,
    customer: UUID | None = None,
) -> Finding:
    zone = examination.period.zone
    usual = round(Decimal(sum(batch.events for batch in one.before)) / len(one.before)) * len(days)
    when = " and ".join(f"{day.astimezone(zone):%-d %b %Y}" for day in days)
    which = "The batch" if len(days) == 1 else "The batches"
    whose = "" if customer is None else f" of customer {customer}"
    severity: Severity = "high" if usual >= MIN_MISSING_EVENTS() else "medium"
    if customer is not None:
        share = part(usual, examination.totals.events)
        severity = severity if share >= HIGH_OWN_SHARE() else "medium" if share >= MEDIUM_OWN_SHARE() else "low"
    return Finding(
        check=NAME,
        kind="missing batch",
        severity=severity,
        sentence=f"{which}{whose} of about {when} did not come, after {len(one.before)} that came every"
        f" {one.interval:g} days: about {short(usual)} events stayed away.",
        since=max(since, examination.period.span[0]),
        until=until,
        events=0,
        question=examination.aggregate_question(
            since=earlier(days[0], HISTORY_DAYS() * DAY),
            until=max(until, min(until + 2 * one.interval * DAY, examination.closed_until)),
            bucket="day",
            metric="count",
            **({} if customer is None else {"customer_id": customer}),
        ),
        customer_id=customer,
        **events_share(examination, usual),
        facts=(("usual interval", f"{one.interval:g} days"), ("expected", f"{usual}")),
        is_general=customer is None,
    )
