"""Rows of a file that repeat stored events in the hour that a clock shows twice, when summer time ends.

A time without an offset in that hour is read with the offset before the change. So the second 02:00 of a file with
local times is the instant of the first, and that of the same file with offsets, or in UTC, an hour later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from psycopg import sql

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS

_STEP = timedelta(days=28)
"""Time between two looks at a zone's offset; clocks are changed at a longer distance."""

_REPEATED = """
SELECT coalesce(max(rows), 0) FROM (
    SELECT count(DISTINCT t.ordinal) AS rows
    FROM unnest(%(starts)s::timestamptz[], %(shifts)s::interval[]) AS hour (start, shift)
    JOIN {stage} s ON s.timestamp >= start AND s.timestamp < start + shift + shift
    LEFT JOIN LATERAL (
        SELECT s.ordinal FROM {table} t
        LEFT JOIN pg_temp.usage_explore_known k
          ON k.organization_id = t.organization_id AND k.timestamp = t.timestamp AND k.id = t.id
        WHERE k.id IS NULL AND t.organization_id = s.organization_id AND t.customer_id = s.customer_id
          AND t.timestamp = s.timestamp + CASE WHEN s.timestamp < start + shift THEN shift ELSE - shift END
          AND t.timestamp BETWEEN %(first)s AND %(last)s AND t.organization_id = ANY (%(organizations)s)
          AND {same}
          AND (NOT s.keyed OR t.idempotency_key LIKE 'row:%%' OR t.idempotency_key = s.idempotency_key)
    ) t ON true
    GROUP BY start, shift
    HAVING 2 * count(DISTINCT t.ordinal) >= count(DISTINCT s.ordinal)) AS hours
"""
"""The most staged rows of an hour, at least half of them, of which stored events that the file lacks are the twins."""

_SAME = [
    each for each in COLUMNS if each not in ("id", "organization_id", "timestamp", "ingested_at", "idempotency_key")
]


def repeated_hour(connection: Connection, stage: sql.Identifier, table: sql.Identifier, span: Mapping[str, Any]) -> int:
    """The number of staged rows that equal a stored event at the other of two instants that a clock shows alike.

    The file's rows that the table has already are in `pg_temp.usage_explore_known`, and no longer staged. `span` has
    the file's `organizations`, and the `first` and `last` of its times.
    """
    hours = sorted({*_repeated_hours(span["first"], span["last"])})
    if not hours:
        return 0
    starts, shifts = ([*each] for each in zip(*hours, strict=True))
    values = {**span, "starts": starts, "shifts": shifts}
    equal = (sql.SQL("t.{0} IS NOT DISTINCT FROM s.{0}").format(sql.Identifier(each)) for each in _SAME)
    same = sql.SQL(" AND ").join(equal)
    row = connection.execute(sql.SQL(_REPEATED).format(stage=stage, table=table, same=same), values).fetchone()
    return int(row[0]) if row else 0


def repeated_hour_notes(rows: int) -> Iterator[str]:
    """The warning of staged rows that repeat stored events in that hour."""
    if rows:
        be = "1 row equals a stored event" if rows == 1 else f"{rows:,} rows equal stored events"
        yield (
            f"warning: {be} at the other instant of the hour that a clock shows twice when summer time ends; loaded"
            " beside it. If one of the two files has local times and the other offsets or UTC, the usage of that hour"
            " is counted twice: load the one with offsets with --replace, and where no preset names the columns of its"
            " source, with --replace-by COLUMN"
        )


def _repeated_hours(first: datetime, last: datetime) -> Iterator[tuple[datetime, timedelta]]:
    """The first instant of each hour between the two that the clock of a zone shows twice, and how long it is."""
    for name in available_timezones():
        zone = ZoneInfo(name)
        at, before = first - _STEP, _offset(first - _STEP, zone)
        while at < last:
            later = at + _STEP
            after = _offset(later, zone)
            if after < before:
                since, until = at.replace(second=0, microsecond=0), later
                while until - since > timedelta(minutes=1):
                    middle = (since + (until - since) / 2).replace(second=0, microsecond=0)
                    middle = middle if middle > since else since + timedelta(minutes=1)
                    since, until = (middle, until) if _offset(middle, zone) == before else (since, middle)
                until = until.replace(second=0, microsecond=0)
                yield until - (before - after), before - after
            at, before = later, after


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()
