"""`load --replace`: a restated export replaces the events loaded from an earlier export of the same scope.

A scope is an organization with one value in each of the columns that name source and period, such as
(ProviderName, BillingAccountId, BillingPeriodStart) of a FOCUS export. Columns that name no period are completed by the
calendar month, in UTC, of each event's timestamp.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.schema import COLUMNS
from usage_explore.sql.identifiers import identifier

PERIOD_COLUMNS = frozenset({"BillingPeriodStart", "bill/BillingPeriodStartDate", "bill_billing_period_start_date"})
"""Scope columns that name a period, so that the calendar month is not needed."""

STORED_ID = (
    "coalesce({0}.id, md5(concat_ws(' ', {0}.organization_id, extract(epoch FROM {0}.timestamp), {0}.occurrence, "
    "{0}.idempotency_key))::uuid)"
)
"""SQL for the id of a staged row: its own, else a hash of (organization, time, key, occurrence)."""

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


def supersede(
    connection: Connection, events: Table, stage: sql.Identifier, columns: Sequence[str], span: Mapping[str, Any]
) -> tuple[int, dict[UUID, tuple[datetime, datetime]]]:
    """Delete the stored events of the staged rows' scopes that equal no staged row.

    Returns their number, and the first and last `ingested_at` of them by organization. Runs in the transaction that
    loads the file: other sessions see the old events or the new ones. `span["organizations"]` are the staged rows'
    organizations.
    """
    monthly = PERIOD_COLUMNS.isdisjoint(columns)
    values = {f"c{index}": (_value("s", column), _value("t", column)) for index, column in enumerate(columns)}
    if monthly:
        values["month"] = (_month("s"), _month("t"))
    bounds = {"since": "1970-01-01Z", "until": "2200-01-01Z"}  # no query reads events outside
    if monthly:
        row = connection.execute(
            sql.SQL("SELECT min({0}), max({0}) + interval '32 days' FROM {1} s").format(_month("s"), stage)
        ).fetchone()
        if row and row[0]:
            bounds = {"since": row[0], "until": row[1]}
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
    return sql.SQL("date_trunc('month', {}, 'UTC')").format(sql.Identifier(alias, "timestamp"))
