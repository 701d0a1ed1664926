"""Bulk loads: events that were loaded together, whose arrival times are unknown.

A bulk load has events whose `ingested_at` is the time at which a file or a history was loaded, not their own arrival:
`load` stores it where a file has no `ingested_at`, as does one `INSERT` of a history. Events of several days share one
`ingested_at`, more than a day after they occurred, and are most of what occurred on those days. They arrived then at
the latest, so that what is not late by it is not late; how late the others were is unknown. A source that sends a batch
each night shares one `ingested_at` a day, too: where the nights before did so in time, arrival times are real.

Files of a few rows are no such load by themselves. Where bulk loads are most of a period, or a few late arrivals all
there is, these came with small loads if nothing shows a source that sends as events occur: hardly any arrival was in
time, neither in the period nor in the days before the late ones arrived.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Interval, Select, Table, any_, case, func, literal, null, select

from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import INSTANT, earlier, organization_period
from usage_explore.validation.usage_sums import UsageSum, sum_of_query

BOUNDS = CheckBounds("common")

# fmt: off
MIN_LATE_LAG = BOUNDS.add("min_late_lag", timedelta(hours=24), "hours", 1, 2400,
    "Time from an event to its arrival above which it may be late.")

MAX_LOAD_DURATION = BOUNDS.add("max_load_duration", timedelta(hours=2), "hours", 0.1, 48,
    "Time within which files that are loaded are one load.")

MIN_LOADED_DAYS = BOUNDS.add("min_loaded_days", 2, "days", 1, 60,
    "Days most of whose events came with one load, at least, or all days of the period: fewer may be a late batch.")

NIGHTS = BOUNDS.add("nights", 7, "days", 1, 60,
    "Days before those of a load that show whether the source sends in batches.")

MIN_NIGHTS = BOUNDS.add("min_nights", 3, "days", 1, 60,
    "Days among them whose events arrived together in time, at least, that show that the source sends in batches: "
    "sharing an arrival time is no sign of a load then.")

MIN_LIVE_ARRIVALS = BOUNDS.add("min_live_arrivals", 3, "arrivals", 1, 1000,
    "Different arrival times in the period, or in the `nights` before a late event arrived, whose events are all in "
    "time, at least, that show that events arrive as they occur: few late ones are then late, not loaded.")

MIN_NIGHTLY_SHARE = BOUNDS.add("min_nightly_share", 0.05, "share", 0, 1,
    "Share of a day's events from which those of one arrival time are a batch.")
# fmt: on

MAX_LOAD_TIMES = 1_000
"""Arrival times that are examined, those with the most late events."""

MAX_SMALL_LOADS = 100
"""Loads of a few rows that are recognized; a period with more late arrivals beside bulk loads is judged."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class BulkLoads:
    """The values of `ingested_at` of bulk loads, in order, and the period's usage that came with them, if any."""

    times: tuple[datetime, ...] = ()
    usage: UsageSum | None = None

    @property
    def events(self) -> int:
        """How many events of the period came with them."""
        return self.usage.events if self.usage else 0


def in_loads(ingested_at: ColumnElement[Any], times: Sequence[datetime]) -> ColumnElement[bool]:
    """Whether an event came with the loads of these times."""
    return ingested_at == any_(array(times, DateTime(timezone=True)))


def outside_loads(ingested_at: ColumnElement[Any], times: Sequence[datetime]) -> list[ColumnElement[bool]]:
    """The conditions that leave out what came with the loads of these times; none without any."""
    return [~in_loads(ingested_at, times)] if times else []


def bulk_loads(examination: Examination, *, small: bool = True) -> BulkLoads:
    """The bulk loads of the period, recognized by all of the organization's events whatever the period's filters.

    With the `small` ones beside them.
    """
    times = load_times(examination, examination.period, small=small)
    if not times:
        return BulkLoads()
    usage = sum_of_query(examination, examination.events_question(), in_loads(examination.table.c.ingested_at, times))
    return BulkLoads(times, usage) if usage else BulkLoads()


def load_times(examination: Examination, period: Period, *, small: bool = True) -> tuple[datetime, ...]:
    """The values of `ingested_at` that bulk loads of a resolved period have, and `small` ones beside them, in order."""
    table = examination.table
    every = organization_period(period, *period.span)
    late = list(examination.extracted_rows(late_times(table, every)))
    if not late:
        return ()
    suspects = sorted(row.ingested_at for row in late if row.events > 1)
    days: dict[datetime, dict[datetime | None, int]] = defaultdict(dict)
    for row in examination.extracted_rows(by_day(table, every, suspects)) if suspects else ():
        days[row.day][row.ingested_at] = row.events
    bulk = [load for load in _loads(suspects) if _is_bulk(load, days)]
    times = [time for load in bulk if not _is_of_nightly_source(examination, every, load, days) for time in load]
    others = sorted({row.ingested_at for row in late}.difference(times))
    if not others or not small or len(late) == MAX_LOAD_TIMES:
        return tuple(times)
    loaded = sum(events.get(time, 0) for events in days.values() for time in times)
    if 2 * loaded > sum(sum(events.values()) for events in days.values()):
        times += _small(examination, every, others, MIN_LIVE_ARRIVALS())
    elif not times and len(others) <= MIN_LIVE_ARRIVALS():  # perhaps all there is
        times = _small(examination, every, others, 1)
    return tuple(sorted(times))


def _small(examination: Examination, period: Period, others: Sequence[datetime], live: int) -> list[datetime]:
    """The late arrivals that came with small loads: those without `live` arrivals in time, in the period or before."""
    loads = _loads(others)
    if len(loads) > MAX_SMALL_LOADS or _in_time(examination, period) >= live:
        return []
    small = []
    for load in loads:
        since, until = earlier(load[0], NIGHTS() * _DAY), load[-1] + INSTANT
        if _in_time(examination, organization_period(period, since, until)) < live:
            small += load
    return small


def _in_time(examination: Examination, period: Period) -> int:
    (arrivals,) = examination.rows(in_time(examination.table, period))
    return int(arrivals.number)


def in_time(table: Table, period: Period) -> Select[Any]:
    """The `number` of arrival times in a period whose events are all in time, up to `MIN_LIVE_ARRIVALS`."""
    c = table.c
    arrivals = (
        select(c.ingested_at)
        .where(*conditions(table, period))
        .group_by(c.ingested_at)
        .having(func.max(c.ingested_at - c.timestamp) <= literal(_DAY + MIN_LATE_LAG()))
        .limit(MIN_LIVE_ARRIVALS())
        .cte("arrivals")
    )
    return select(func.count().label("number")).select_from(arrivals)


def _is_of_nightly_source(
    examination: Examination,
    period: Period,
    load: Sequence[datetime],
    days: Mapping[datetime, Mapping[datetime | None, int]],
) -> bool:
    """Whether most events of days before those that are late with a load arrived in batches, in time."""
    late = [day for day in _filled(load, days) if load[-1] > day + _DAY + MIN_LATE_LAG()]
    since = earlier(min(late, default=load[0]), NIGHTS() * _DAY)
    if not late or since >= min(late):
        return False
    before = period.replace(since=since, until=min(late))
    (nights,) = examination.rows(nightly(examination.table, before))
    return bool(nights.number >= MIN_NIGHTS())


def nightly(table: Table, period: Period) -> Select[Any]:
    """The `number` of the period's days of 24 hours most of whose events arrived in batches until a day after.

    A batch are events of one `ingested_at`, at least `MIN_NIGHTLY_SHARE` of the day's.
    """
    c = table.c
    instant = DateTime(timezone=True)
    day = func.date_bin(literal(_DAY, Interval), c.timestamp, literal(period.span[0], instant), type_=instant)
    arrivals = (
        select(day.label("day"), c.ingested_at, func.count().label("events"))
        .where(*conditions(table, period))
        .group_by(day.label("day"), c.ingested_at)
        .cte("arrivals")
    )
    a = arrivals.c
    sized = select(arrivals, func.sum(a.events).over(partition_by=a.day).label("of_day")).cte("sized")
    s = sized.c
    batches = (
        select(s.day)
        .where(
            s.events > 1,
            s.events >= MIN_NIGHTLY_SHARE() * s.of_day,
            s.ingested_at <= s.day + literal(_DAY + MIN_LATE_LAG()),
        )
        .group_by(s.day, s.of_day)
        .having(2 * func.sum(s.events) > s.of_day)
        .cte("nights")
    )
    return select(func.count().label("number")).select_from(batches)


def late_times(table: Table, period: Period) -> Select[Any]:
    """The values of `ingested_at` that late events of the period have, the most common first.

    Columns: `ingested_at`, `events` bigint.
    """
    c = table.c
    events = func.count()
    return (
        select(c.ingested_at, events.label("events"))
        .where(*conditions(table, period), c.ingested_at > c.timestamp + literal(MIN_LATE_LAG()))
        .group_by(c.ingested_at)
        .order_by(events.desc(), c.ingested_at)
        .limit(MAX_LOAD_TIMES)
    )


def by_day(table: Table, period: Period, times: Sequence[datetime]) -> Select[Any]:
    """The period's `events` by `day` of 24 hours and, for these times, `ingested_at` (else NULL)."""
    c = table.c
    instant = DateTime(timezone=True)
    day = func.date_bin(literal(_DAY, Interval), c.timestamp, literal(period.span[0], instant), type_=instant)
    arrived = case((in_loads(c.ingested_at, times), c.ingested_at), else_=null())
    statement = select(day.label("day"), arrived.label("ingested_at"), func.count().label("events"))
    return statement.where(*conditions(table, period)).group_by(day.label("day"), arrived.label("ingested_at"))


def _loads(times: Sequence[datetime]) -> list[list[datetime]]:
    """The times in order, those within `MAX_LOAD_DURATION` of a load's first one together."""
    loads: list[list[datetime]] = []
    for time in times:
        if loads and time - loads[-1][0] <= MAX_LOAD_DURATION():
            loads[-1].append(time)
        else:
            loads.append([time])
    return loads


def _is_bulk(load: Sequence[datetime], days: Mapping[datetime, Mapping[datetime | None, int]]) -> bool:
    return len(_filled(load, days)) >= min(MIN_LOADED_DAYS(), len(days))


def _filled(load: Sequence[datetime], days: Mapping[datetime, Mapping[datetime | None, int]]) -> list[datetime]:
    """The days most of whose events came with a load."""
    return [day for day, events in days.items() if 2 * sum(events.get(time, 0) for time in load) > sum(events.values())]
