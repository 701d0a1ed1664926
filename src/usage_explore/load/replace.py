"""`load --replace`: a restated export replaces the events loaded from an earlier export of the same scope.

A scope is an organization with one value in each of the columns that name source and period, such as
(ProviderName, BillingAccountId, BillingPeriodStart) of a FOCUS export. Columns that name no period are completed by the
calendar month of each event's timestamp, in the zone of the file's times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS
from usage_explore.errors import LoadError
from usage_explore.formatting import counted, listed, path_text
from usage_explore.sql.identifiers import identifier

PERIOD_COLUMNS = frozenset({"BillingPeriodStart", "bill/BillingPeriodStartDate", "bill_billing_period_start_date"})
"""Scope columns that name a period, so that the calendar month is not needed."""

STORED_ID = (
    "coalesce({0}.id, md5(concat_ws(' ', {0}.organization_id, extract(epoch FROM {0}.timestamp), {0}.occurrence, "
    "{0}.idempotency_key))::uuid)"
)
"""SQL for the id of a staged row: its own, else a hash of (organization, time, key, occurrence)."""

_MAX_LISTED_MONTHS = 6

_EDGE = timedelta(days=1)
"""Part of a month that a file made in another time zone may have beside its own months: more than any offset."""

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


@dataclass(frozen=True)
class Scope:
    """What a file replaces: the events with its values in these columns and, unless one names a period, of its months.

    The months are those of `timezone`, the zone of the file's times without an offset.
    """

    path: Path
    columns: tuple[str, ...]
    timezone: str

    @property
    def is_monthly(self) -> bool:
        """Whether the calendar months of the file are its period."""
        return PERIOD_COLUMNS.isdisjoint(self.columns)

    def period(self, months: Sequence[str]) -> str:
        """The months in words: "2026-09 (Europe/Berlin)"; "" if a column names the period."""
        if not self.is_monthly or not months:
            return ""
        listed_ones = listed(months) if len(months) <= _MAX_LISTED_MONTHS else f"{months[0]} to {months[-1]}"
        return f"{listed_ones} ({self.timezone})"

    def sentence(self, first: datetime, last: datetime) -> str:
        """What a load of events between two times replaces: "replaces … in its months, 2026-09 (UTC)"."""
        zone = ZoneInfo(self.timezone)
        months = dict.fromkeys(f"{time.astimezone(zone):%Y-%m}" for time in (first, last))
        period = " to ".join(months)
        of_months = f" in its months, {period} ({self.timezone})" if self.is_monthly else ""
        return f"replaces the stored events with its values of {listed(self.columns)}{of_months}"


@dataclass(frozen=True)
class _Month:
    """A month of the staged rows: its bounds, and the first and last of them."""

    name: str
    since: datetime
    until: datetime
    first: datetime
    last: datetime


def without_scope(connection: Connection, stage: sql.Identifier, columns: Sequence[str]) -> tuple[str, int] | None:
    """(column, number of rows) for the first scope column that is null in staged rows; None where none is."""
    for column in columns:
        statement = sql.SQL("SELECT count(*) FROM {} s WHERE {} IS NULL").format(stage, _value("s", column))
        row = connection.execute(statement).fetchone()
        if row and row[0]:
            return column, int(row[0])
    return None


def supersede(
    connection: Connection, events: Table, stage: sql.Identifier, scope: Scope, span: Mapping[str, Any]
) -> tuple[int, dict[UUID, tuple[datetime, datetime]]]:
    """Delete the stored events of the staged rows' scopes that equal no staged row.

    Returns their number, and the first and last `ingested_at` of them by organization. Runs in the transaction that
    loads the file: other sessions see the old events or the new ones. `span["organizations"]` are the staged rows'
    organizations. Raises `LoadError` if the file has but an edge of a month beside the next one.
    """
    values = {f"c{index}": (_value("s", column), _value("t", column)) for index, column in enumerate(scope.columns)}
    bounds: dict[str, Any] = {"since": "1970-01-01Z", "until": "2200-01-01Z"}  # no query reads events outside
    months = _months(connection, stage, scope)
    if months:
        values["month"] = (_month("s", scope), _month("t", scope))
        bounds = {"since": months[0].since, "until": months[-1].until}
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
    _check_edges(scope, months, [row[1] for row in superseded])
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


def _month(alias: str, scope: Scope) -> sql.Composable:
    time = sql.Identifier(alias, "timestamp")
    return sql.SQL("date_trunc('month', {}, {})").format(time, sql.Literal(scope.timezone))


def period(connection: Connection, stage: sql.Identifier, scope: Scope) -> str:
    """The months of the staged rows in words, see `Scope.period`."""
    return scope.period([month.name for month in _months(connection, stage, scope)])


def _months(connection: Connection, stage: sql.Identifier, scope: Scope) -> list[_Month]:
    """The months of the staged rows; none if a column names the period."""
    if not scope.is_monthly:
        return []
    rows = connection.execute(
        sql.SQL(
            "SELECT to_char(since AT TIME ZONE {zone}, 'YYYY-MM'), since,"
            " date_trunc('month', since + interval '32 days', {zone}), min(timestamp), max(timestamp)"
            " FROM (SELECT timestamp, {month} AS since FROM {stage} s) staged GROUP BY since ORDER BY since"
        ).format(zone=sql.Literal(scope.timezone), month=_month("s", scope), stage=stage)
    ).fetchall()
    return [_Month(*row) for row in rows]


def _check_edges(scope: Scope, months: Sequence[_Month], superseded: Sequence[datetime]) -> None:
    """Refuse to delete the rest of a month of which the file has the day beside another of its months alone.

    September of Berlin begins on 31 August in UTC. Raises `LoadError`.
    """
    for one, other in pairwise(months):
        if one.until != other.since:
            continue
        for day, month, is_edge, since, until in (
            ("last", one, one.first >= one.until - _EDGE, one.since, one.until - _EDGE),
            ("first", other, other.last < other.since + _EDGE, other.since + _EDGE, other.until),
        ):
            lost = sum(since <= time < until for time in superseded) if is_edge else 0
            if lost:
                raise LoadError(
                    f"{path_text(scope.path)}: has of {month.name} ({scope.timezone}) nothing but its {day} day, beside"
                    f" another month, and --replace would delete {counted(lost, 'stored event')} of the rest of it."
                    " Name the zone of the file's months with --timezone, such as --timezone Europe/Berlin, or load"
                    " each month as a file of its own; nothing was loaded or replaced"
                )
