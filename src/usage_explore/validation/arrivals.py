"""Bulk loads: events whose `ingested_at` is the time at which a file or a history was loaded, not their own arrival.

`load` stores the time of loading where a file has no `ingested_at`; so does one `INSERT` of a history. Its mark: events
of several days share one `ingested_at`, more than a day after they occurred, and are most of what occurred on those
days. They arrived then at the latest, so that what is not late by it is not late; how late the others were is unknown.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, DateTime, Interval, Select, Table, any_, case, cast, func, literal, null, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Examination
from usage_explore.validation.usage_sums import UsageSum, sum_of_query

MIN_LATE_LAG = timedelta(hours=24)
"""Time from an event to its arrival above which it may be late."""

MAX_LOAD_DURATION = timedelta(hours=2)
"""Time within which files that are loaded are one load."""

MIN_LOADED_DAYS = 2
"""Days most of whose events came with one load, at least, or all days of the period: fewer may be a late batch."""

MAX_LOAD_TIMES = 1_000
"""Arrival times that are examined, those with the most late events."""

_DAY = timedelta(days=1)
_TIMES = ARRAY(DateTime(timezone=True))


@dataclass(frozen=True, slots=True)
class BulkLoads:
    """The values of `ingested_at` that bulk loads have, in order, and what of the period came with them, if any did."""

    times: tuple[datetime, ...] = ()
    found: UsageSum | None = None

    @property
    def events(self) -> int:
        """How many events of the period came with them."""
        return self.found.events if self.found else 0


def in_loads(ingested_at: ColumnElement[Any], times: Sequence[datetime]) -> ColumnElement[bool]:
    """Whether an event came with the loads of these times."""
    return ingested_at == any_(cast(literal(list(times), _TIMES), _TIMES))


def outside_loads(ingested_at: ColumnElement[Any], times: Sequence[datetime]) -> list[ColumnElement[bool]]:
    """The conditions that leave out what came with the loads of these times; none without any."""
    return [~in_loads(ingested_at, times)] if times else []


def bulk_loads(examination: Examination) -> BulkLoads:
    """The bulk loads of the period, recognized by all of the organization's events whatever the period's filters."""
    times = load_times(examination, examination.period)
    if not times:
        return BulkLoads()
    found = sum_of_query(examination, examination.events_question(), in_loads(examination.table.c.ingested_at, times))
    return BulkLoads(times, found) if found else BulkLoads()


def load_times(examination: Examination, period: Period) -> tuple[datetime, ...]:
    """The values of `ingested_at` that bulk loads of a resolved period have, in order."""
    table = examination.table
    every = Period(
        organization_id=period.organization_id, since=period.span[0], until=period.span[1], as_of=period.as_of
    )
    suspects = sorted(row.ingested_at for row in examination.rows(shared_times(table, every)))
    if not suspects:
        return ()
    days: dict[datetime, dict[datetime | None, int]] = defaultdict(dict)
    for row in examination.rows(by_day(table, every, suspects)):
        days[row.day][row.ingested_at] = row.events
    return tuple(time for load in _loads(suspects) if _is_bulk(load, days) for time in load)


def shared_times(table: Table, period: Period) -> Select[Any]:
    """The values of `ingested_at` that late events of the period share: `ingested_at`, `events` bigint."""
    c = table.c
    events = func.count()
    return (
        select(c.ingested_at, events.label("events"))
        .where(*conditions(table, period), c.ingested_at > c.timestamp + literal(MIN_LATE_LAG))
        .group_by(c.ingested_at)
        .having(events > 1)
        .order_by(events.desc(), c.ingested_at)
        .limit(MAX_LOAD_TIMES)
    )


def by_day(table: Table, period: Period, times: Sequence[datetime]) -> Select[Any]:
    """The period's `events` by `day` of 24 hours and, for these times, `ingested_at` (else NULL)."""
    c = table.c
    instant = DateTime(timezone=True)
    day = func.date_bin(literal(_DAY, Interval), c.timestamp, literal(period.span[0], instant), type_=instant)
    arrived = case((in_loads(c.ingested_at, times), c.ingested_at), else_=null())
    found = select(day.label("day"), arrived.label("ingested_at"), func.count().label("events"))
    return found.where(*conditions(table, period)).group_by(day.label("day"), arrived.label("ingested_at"))


def _loads(times: Sequence[datetime]) -> list[list[datetime]]:
    """The times in order, those within `MAX_LOAD_DURATION` of a load's first one together."""
    found: list[list[datetime]] = []
    for time in times:
        if found and time - found[-1][0] <= MAX_LOAD_DURATION:
            found[-1].append(time)
        else:
            found.append([time])
    return found


def _is_bulk(load: Sequence[datetime], days: dict[datetime, dict[datetime | None, int]]) -> bool:
    filled = sum(2 * sum(events.get(time, 0) for time in load) > sum(events.values()) for events in days.values())
    return filled >= min(MIN_LOADED_DAYS, len(days))
