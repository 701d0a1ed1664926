"""`load --replace`: a restated export replaces the events loaded from an earlier export of the same scope.

A scope is an organization with one value in each of the columns that name source and period, such as
(ProviderName, BillingAccountId, BillingPeriodStart) of a FOCUS export. Columns that name no period are completed by the
calendar month of each event's timestamp, in the time zone of the file's times.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS
from usage_explore.errors import LoadError
from usage_explore.files.values import EARLIEST, LATEST
from usage_explore.formatting import counted, span_in, zoned
from usage_explore.query import buckets
from usage_explore.sql.identifiers import identifier

PERIOD_COLUMNS = frozenset({"BillingPeriodStart", "bill/BillingPeriodStartDate", "bill_billing_period_start_date"})
"""Scope columns that name a period, so that the calendar month is not needed."""

STORED_ID = (
    "coalesce({0}.id, md5(concat_ws(' ', {0}.organization_id, extract(epoch FROM {0}.timestamp), {0}.occurrence, "
    "{0}.idempotency_key))::uuid)"
)
"""SQL for the id of a staged row: its own, else a hash of (organization, time, key, occurrence)."""

_EDGE = timedelta(hours=14)
"""Time at a month's border that other time zones may have in the neighbouring month."""

_MAX_MONTHS = 12 * (LATEST.year - EARLIEST.year) + 1
"""Calendar months that have events in any time zone."""

_MAX_EVENTS_PER_DELETE = 50_000
"""Events that one DELETE statement removes, which bounds the size of its parameters."""

_SUPERSEDED = """
WITH scope AS MATERIALIZED (SELECT DISTINCT s.organization_id, {staged} FROM {stage} s)
SELECT t.organization_id, t.timestamp, t.id, t.ingested_at
FROM {table} t
JOIN scope ON t.organization_id = scope.organization_id AND {same_scope}
LEFT JOIN {stage} s ON s.organization_id = t.organization_id AND s.timestamp = t.timestamp
     AND {stored_id} = t.id AND {same_content}
WHERE t.organization_id = ANY (%(organizations)s) AND t.timestamp >= %(since)s AND t.timestamp < %(until)s
  AND t.ingested_at >= '1970-01-01Z' AND t.ingested_at < '2200-01-01Z' AND s.line IS NULL
"""

_DELETE = """
DELETE FROM {table} t USING unnest(%s::uuid[], %s::timestamptz[], %s::uuid[]) AS gone (organization_id, timestamp, id)
WHERE t.organization_id = gone.organization_id AND t.timestamp = gone.timestamp AND t.id = gone.id
"""


def without_scope(connection: Connection, stage: sql.Identifier, columns: Sequence[str]) -> tuple[str, int] | None:
    """(column, number of rows) for the first scope column that is null in staged rows; None where none is."""
    for column in columns:
        statement = sql.SQL("SELECT count(*) FROM {} s WHERE {} IS NULL").format(stage, _value("s", column))
        row = connection.execute(statement).fetchone()
        if row and row[0]:
            return column, int(row[0])
    return None


def months(first: datetime, last: datetime, zone: ZoneInfo) -> list[datetime]:
    """The starts of the calendar months from that of the first instant to that of the last, and the end of the last."""
    return [*buckets.edges(first, last + timedelta(microseconds=1), "month", zone, _MAX_MONTHS)]


def replaced_words(columns: Sequence[str], first: datetime, last: datetime, zone: ZoneInfo) -> str:
    """What a file with these scope columns and events replaces: "of the same source, 1–30 Sep 2026 (Europe/Berlin)"."""
    if not PERIOD_COLUMNS.isdisjoint(columns):
        return "of the same source and period"
    starts = months(first, last, zone)
    return f"of the same source, {span_in(starts[0], starts[-1], zone)} ({zone})"


def replace_notes(
    columns: Sequence[str], first: datetime | None, last: datetime | None, zone: ZoneInfo
) -> Iterator[str]:
    """The note on what a load with these scope columns deletes; none without them, or without events."""
    if columns and first and last:
        words = replaced_words(columns, first, last, zone)
        yield f"--replace deletes the stored events {words} that the file does not have"


def supersede(
    connection: Connection,
    events: Table,
    stage: sql.Identifier,
    columns: Sequence[str],
    span: Mapping[str, Any],
    zone: ZoneInfo,
) -> tuple[int, dict[UUID, tuple[datetime, datetime]]]:
    """Delete the stored events of the staged rows' scopes that equal no staged row; nothing without scope columns.

    Returns their number, and the first and last `ingested_at` of them by organization. Runs in the transaction that
    loads the file: other sessions see the old events or the new ones. `span` has the staged rows' `organizations`, and
    the `first` and `last` of their times. Raises `LoadError` where the file has only an edge of a month of which
    other events would be deleted.
    """
    if not columns:
        return 0, {}
    values = {f"c{index}": (_value("s", column), _value("t", column)) for index, column in enumerate(columns)}
    bounds: dict[str, Any] = {"since": "1970-01-01Z", "until": "2200-01-01Z"}  # no query reads events outside
    starts: list[datetime] = []
    if PERIOD_COLUMNS.isdisjoint(columns):
        values["month"] = (_month("s"), _month("t"))
        starts = months(span["first"], span["last"], zone)
        bounds = {"since": starts[0], "until": starts[-1], "months": starts}
    content = [name for name in COLUMNS if name not in ("id", "organization_id", "timestamp", "ingested_at")]
    superseded = connection.execute(
        sql.SQL(_SUPERSEDED).format(
            stage=stage,
            table=identifier(events),
            staged=sql.SQL(", ").join(
                sql.SQL("{} AS {}").format(staged, sql.Identifier(name)) for name, (staged, _) in values.items()
            ),
            same_scope=sql.SQL(" AND ").join(
                sql.SQL("{} = scope.{}").format(stored, sql.Identifier(name)) for name, (_, stored) in values.items()
            ),
            stored_id=sql.SQL(STORED_ID.format("s")),
            same_content=sql.SQL(" AND ").join(
                sql.SQL("s.{0} IS NOT DISTINCT FROM t.{0}").format(sql.Identifier(name)) for name in content
            ),
        ),
        {**span, **bounds},
    ).fetchall()
    if not superseded:
        return 0, {}
    if len(starts) > 2:
        _check_edges(connection, stage, starts, [at for _, at, *_ in superseded], zone)
    delete = sql.SQL(_DELETE).format(table=identifier(events))
    ingested: dict[UUID, tuple[datetime, datetime]] = {}
    for start in range(0, len(superseded), _MAX_EVENTS_PER_DELETE):
        part = superseded[start : start + _MAX_EVENTS_PER_DELETE]
        connection.execute(delete, [list(column) for column in zip(*(row[:3] for row in part), strict=True)])
        for organization_id, _, _, at in part:
            first, last = ingested.get(organization_id, (at, at))
            ingested[organization_id] = min(first, at), max(last, at)
    return len(superseded), ingested


def _value(alias: str, column: str) -> sql.Composable:
    """SQL for the column as text: a documented column, else the dimension of that name."""
    name = sql.Identifier(alias, column if column in COLUMNS else "dimensions")
    return sql.SQL("{}::text").format(name) if column in COLUMNS else sql.SQL("({} ->> {})").format(name, column)


def _month(alias: str) -> sql.Composable:
    """SQL for the number of the month of an event."""
    return sql.SQL("width_bucket({}, %(months)s::timestamptz[])").format(sql.Identifier(alias, "timestamp"))


def _check_edges(
    connection: Connection,
    stage: sql.Identifier,
    starts: Sequence[datetime],
    deleted: Sequence[datetime],
    zone: ZoneInfo,
) -> None:
    """Raise `LoadError` where the file's events of a month are all at its border, and `deleted` has others of it.

    The file is then one of the neighbouring month in another time zone, or has some rows of a month too many.
    """
    statement = sql.SQL("SELECT {month}, min(timestamp), max(timestamp) FROM {stage} s GROUP BY 1 ORDER BY 1")
    rows = connection.execute(statement.format(month=_month("s"), stage=stage), {"months": starts})
    spans = {number: (first, last) for number, first, last in rows}
    for number, (first, last) in spans.items():
        start, end = starts[number - 1], starts[number]
        is_end = number + 1 in spans and first >= end - _EDGE
        is_start = number - 1 in spans and last < start + _EDGE
        if is_end or is_start:
            since, until = (end - _EDGE, end) if is_end else (start, start + _EDGE)
            others = sum(start <= at < end and not since <= at < until for at in deleted)
            if others:
                month = f"{start.astimezone(zone):%B %Y}"
                edge = f"from {zoned(first, zone)} on" if is_end else f"until {zoned(last, zone)}"
                raise LoadError(
                    f"replace: of {month} ({zone}) the file has only events {edge}, and"
                    f" {counted(others, 'stored event')} of that month would be deleted; nothing was loaded. Name the"
                    " time zone of the file's months with --timezone, such as --timezone Europe/Berlin; or leave the"
                    f" rows of {month} out of the file"
                )
