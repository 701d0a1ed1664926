"""The hashes of events by which a sign-off recognizes that they were edited, exchanged or removed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from sqlalchemy import BigInteger, ColumnElement, Connection, Interval, Table, Text, cast, func, literal, select

from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.query.validators import EARLIEST
from usage_explore.records.signoffs import SLOT, DayLine, SignOff, SlotLine
from usage_explore.sql.filters import conditions

_At = TypeVar("_At", bound=date)


def event_hash(table: Table) -> ColumnElement[int]:
    """The 64-bit hash of an event's columns; equal numbers hash alike, as 1 and 1.0."""
    columns = (cast(column, Text) if column.name == "dimensions" else column for column in table.columns)
    return _hash_of(*columns)


def _hash_of(*columns: ColumnElement[Any]) -> ColumnElement[int]:
    """PostgreSQL's hash of a row is linear in the hashes of its columns: sums of it miss values exchanged between rows.

    It is hashed once more, as text, which keeps 64 bits; the hash of a bigint has 32.
    """
    row = func.hash_record_extended(func.row(*columns), literal(0, BigInteger))
    return func.hashtextextended(cast(row, Text), literal(0, BigInteger))


def hash_probe(connection: Connection) -> int:
    """The hash of constants: where it differs, the database hashes otherwise, and hashes cannot be compared."""
    return int(connection.execute(select(_hash_of(cast("a", Text), literal(1, BigInteger)))).scalar_one())


def slots(connection: Connection, table: Table, period: Period, as_of: datetime) -> tuple[SlotLine, ...]:
    """The events of each slot of a resolved period as of a time, with the sum of their hashes, in order."""
    c = table.c
    start = func.date_bin(literal(SLOT, Interval), c.timestamp, literal(EARLIEST, c.timestamp.type)).label("start")
    events, digest = func.count().label("events"), func.sum(event_hash(table)).label("digest")
    by_slot = (
        select(start, events, digest)
        .where(*conditions(table, period.replace(as_of=None)), c.ingested_at <= as_of)
        .group_by(start)
        .order_by(start)
    )
    return tuple(SlotLine(row.start, row.events, int(row.digest)) for row in connection.execute(by_slot))


def days(lines: Iterable[SlotLine], zone: ZoneInfo) -> tuple[DayLine, ...]:
    """The slots of each local day, added up."""
    sums: dict[date, tuple[int, int]] = {}
    for line in lines:
        day = buckets.local_date(line.start, zone)
        events, digest = sums.get(day, (0, 0))
        sums[day] = events + line.events, digest + line.digest
    return tuple(DayLine(day, *sums[day]) for day in sorted(sums))


def changed_times(
    signoff: SignOff, now: Sequence[SlotLine], period: Period, first: datetime | None, policy: datetime | None
) -> tuple[tuple[date, ...], dict[datetime, int] | None]:
    """The days, and the slots with the change of their digest, whose events are no longer those that were signed.

    Slots are None if none were signed. `first` is the first event if older ones were removed: no days before it are
    given. Slots before `policy` are not, if a retention policy removed their events.
    """
    zone = period.zone
    by_day = ({line.day: line for line in lines} for lines in (signoff.days, days(now, zone)))
    changed_days = _differing(*by_day)
    if not signoff.slots:
        return tuple(day for day in changed_days if not first or buckets.day_start(day, zone) >= first), None
    before, after = ({line.start: line for line in lines} for lines in (signoff.slots, now))
    none = SlotLine(signoff.since, 0, 0)
    changed = {
        start: after.get(start, none).digest - before.get(start, none).digest
        for start in _differing(before, after)
        if not policy or start >= policy
    }
    after_first = {buckets.local_date(start, zone) for start in changed if first and start >= first}
    return tuple(sorted(after_first)) if first else changed_days, changed


def _differing(before: Mapping[_At, object], after: Mapping[_At, object]) -> tuple[_At, ...]:
    """The days or slots whose events are no longer those that were signed, in order."""
    return tuple(at for at in sorted({*before, *after}) if before.get(at) != after.get(at))
