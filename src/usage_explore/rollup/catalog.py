"""What the rollup keeps: its catalogue, its tables, and the statements that fill them from the events.

One statement makes the rows for refreshing, rebuilding, loading and verifying.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from usage_explore.db import ddl
from usage_explore.db.catalog import check_instants, relation
from usage_explore.db.ddl import Connection
from usage_explore.db.schema import events_table
from usage_explore.errors import TableMismatch
from usage_explore.sql import filters
from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import COLUMNS as DIMENSIONS
from usage_explore.sql.rollup_plan import (
    DAY,
    HOUR,
    INSTANT,
    KEYS,
    SUMMARY,
    Kept,
    kept_table,
    rollup_index,
    rollup_table,
)

EVERY = UUID(int=0)
"""Whose line of the catalogue says what a person wants of every organization, those to come included."""

UNFIT = "cannot be kept: "
"""How the reason begins where the events hold what the rollup cannot, such as a value too long for its index."""

_OWN_COLUMNS = " ".join(f"WHEN '{name}' THEN e.{name}::text" for name in DIMENSIONS)

_SLOTS = """
       date_bin(p.grain, e.timestamp, timestamptz '1970-01-01 00:00:00+00') AS slot,
       date_bin(CASE WHEN e.ingested_at < p.days_until THEN interval '1 day' ELSE interval '1 hour' END,
                e.ingested_at, timestamptz '1970-01-01 00:00:00+00') AS ingested,
       count(*) AS events, sum(e.quantity) AS quantity
"""

_FROM = """
FROM pieces p JOIN {events} e
  ON e.organization_id = p.organization_id AND e.ingested_at >= p.since AND e.ingested_at < p.until
 AND e.ingested_at >= timestamptz '1970-01-01 00:00:00+00'
 AND e.timestamp >= timestamptz '1970-01-01 00:00:00+00' AND e.timestamp < timestamptz '2200-01-01 00:00:00+00'
"""
"""As in `statements.within_bounds`; before 2200 `until`, which is no later than now, bounds what was ingested."""

_WITHIN = """
  AND e.organization_id = ANY (%(organizations)s)
  AND e.ingested_at >= %(first)s::timestamptz AND e.ingested_at < %(last)s::timestamptz
GROUP BY 1, 2, 3, 4, 5, 6
"""

_SUMMARY = f"""
SELECT r.organization_id, '{SUMMARY}' || r.dimension, r.value,
       CASE WHEN p.grain < interval '1 day' THEN r.metric_key ELSE '' END,
       date_bin('1 day', r.slot, timestamptz '1970-01-01 00:00:00+00'), r.ingested,
       sum(r.events)::bigint, sum(r.quantity)
"""
"""Of rows `r` and a piece `p`, whose dimension tells the grain: days, and of days the same without the metric."""

ROWS = f"""
WITH pieces AS MATERIALIZED (
    SELECT * FROM unnest(%(owners)s::uuid[], %(dimensions)s::text[], %(grains)s::interval[], %(since)s::timestamptz[],
                         %(until)s::timestamptz[], %(days_until)s::timestamptz[], %(summaries)s::boolean[])
        AS p (organization_id, dimension, grain, since, until, days_until, summary)
), rows AS (
SELECT e.organization_id, p.dimension,
       CASE p.dimension WHEN 'none' THEN NULL {_OWN_COLUMNS} ELSE e.dimensions ->> substr(p.dimension, 5) END AS value,
       e.metric_key, {_SLOTS} {_FROM}
WHERE p.dimension <> '{KEYS}' {_WITHIN}
UNION ALL
SELECT e.organization_id, p.dimension, keys.value, e.metric_key, {_SLOTS} {_FROM}
CROSS JOIN LATERAL
    jsonb_object_keys(CASE jsonb_typeof(e.dimensions) WHEN 'object' THEN e.dimensions END) AS keys (value)
WHERE p.dimension = '{KEYS}' {_WITHIN}
)
SELECT * FROM rows
UNION ALL {_SUMMARY}
FROM rows r JOIN pieces p ON p.organization_id = r.organization_id AND p.dimension = r.dimension
WHERE p.summary GROUP BY 1, 2, 3, 4, 5, 6
"""  # noqa: S608 - our own column names
"""The rollup's rows for some pieces, from `{events}`; parameters as `parameters` gives them."""

COLUMNS = sql.SQL("organization_id, dimension, value, metric_key, slot, ingested, events, quantity")

BEGINNING = "-infinity"
"""Before everything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of the catalogue: a dimension that is kept, or was left out (`grain` None) for a `reason`.

    `share` is how many rollup rows an event needs, as measured; `watermark` and `days_until`
    (see `Kept`, as for `summary`) are None before the first refresh.
    """

    organization_id: UUID
    dimension: str
    grain: timedelta | None
    watermark: datetime | None = None
    days_until: datetime | None = None
    summary: bool = False
    by_hand: bool
    share: Decimal | None = None
    reason: str | None = None
    chosen_at: datetime

    @property
    def kept(self) -> Kept | None:
        """The dimension as answers are served from it; None while there is nothing to serve."""
        if self.grain is None or self.watermark is None or self.days_until is None:
            return None
        return Kept(self.dimension, self.grain, self.watermark, self.days_until, self.summary)

    @property
    def is_fixed(self) -> bool:
        """Whether measuring leaves it as it is: it is kept, was set by hand, or has proved not to fit."""
        return self.by_hand or self.grain is not None or (self.reason or "").startswith(UNFIT)


def placed(connection: Connection, events: Table) -> Table:
    """The events table with the schema it is in, so that its rollup is beside it.

    Raises `TableMismatch` where there is none, or its times are without a zone.
    """
    found = relation(connection, events.fullname)
    if found is None:
        raise TableMismatch(
            f"{events.fullname}: does not exist; `usage-explore init` makes it, or name another --table"
        )
    check_instants(connection, f"{found.schema}.{found.name}")
    return events_table(f"{found.schema}.{found.name}")


def exists(connection: Connection, events: Table) -> bool:
    """Whether the table has a rollup."""
    name = identifier(kept_table(events)).as_string(connection)
    row = connection.execute("SELECT to_regclass(%s) IS NOT NULL", [name]).fetchone()
    return bool(row and row[0])


def _is_of_today(connection: Connection, events: Table) -> bool:
    """Whether the table has a rollup whose catalogue has every column."""
    kept = kept_table(events)
    row = connection.execute(
        "SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attname = ANY (%s)",
        [identifier(kept).as_string(connection), list(kept.columns.keys())],
    ).fetchone()
    return row == (len(kept.columns),)


def organizations(connection: Connection, events: Table) -> list[UUID]:
    """Every organization that has events."""
    try:
        with connection.transaction():
            return _organizations(connection, events, distributed=False)
    except psycopg.errors.FeatureNotSupported:  # by Citus
        return _organizations(connection, events, distributed=True)


def _organizations(connection: Connection, events: Table, *, distributed: bool) -> list[UUID]:
    statement = filters.to_sql(filters.organizations(events, distributed=distributed))
    return [owner for (owner,) in connection.execute(statement.encode())]


def create(connection: Connection, events: Table) -> None:
    """Make the tables where they are missing, on Citus spread as the events are; give those of before summaries.

    Raises `TableMismatch` when the role may not.
    """
    rows = rollup_table(events)
    with connection.transaction():
        if _is_of_today(connection, events):
            return
        lock(connection, events)
        if exists(connection, events):
            name = identifier(kept_table(events))
            connection.execute(
                sql.SQL("ALTER TABLE {} ADD COLUMN IF NOT EXISTS summary boolean NOT NULL DEFAULT false").format(name)
            )
            return
        made: list[ExecutableDDLElement] = [
            CreateTable(rows),
            CreateIndex(rollup_index(rows)),
            CreateTable(kept_table(events)),
        ]
        try:
            for statement in made:
                connection.execute(str(statement.compile(dialect=postgresql.dialect())).encode())  # type: ignore[no-untyped-call]
            found = relation(connection, events.fullname)
            if found and found.distributed == ddl.DISTRIBUTION_COLUMN:
                for table in (rows, kept_table(events)):
                    ddl.distribute_beside(connection, identifier(table), identifier(events))
        except psycopg.errors.InsufficientPrivilege as error:
            raise TableMismatch(
                f"{rows.fullname}: this role may not create it ({error.diag.message_primary}); run "
                "`usage-explore rollup` with the role that owns the events table"
            ) from error


def drop(connection: Connection, events: Table) -> bool:
    """Take the rollup away; True if there was one. Questions are answered from the events then."""
    with connection.transaction():
        lock(connection, events)
        there = exists(connection, events)
        for table in (kept_table(events), rollup_table(events)):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(identifier(table)))
    return there


def lock(connection: Connection, events: Table) -> None:
    """Take turns: one transaction at a time changes this table's rollup, or loads behind its watermark.

    However long the others take: the statement timeout is for work, not for waiting.
    """
    before = connection.execute("SELECT current_setting('statement_timeout')").fetchone()
    connection.execute("SELECT set_config('statement_timeout', '0', true)")
    connection.execute(sql.SQL("SELECT {}").format(lock_call(connection, events)))
    connection.execute("SELECT set_config('statement_timeout', %s, true)", before)


def lock_call(connection: Connection, events: Table) -> sql.Composed:
    """What `lock` calls, for SQL that takes turns too."""
    return sql.SQL("pg_advisory_xact_lock(hashtext('usage-explore rollup'), to_regclass({})::oid::integer)").format(
        sql.Literal(identifier(events).as_string(connection))
    )


def entries(connection: Connection, events: Table) -> list[Entry]:
    """The catalogue's lines of organizations, by organization and dimension."""
    return [entry for entry in _lines(connection, events) if entry.organization_id != EVERY]


def wishes(connection: Connection, events: Table) -> list[Entry]:
    """The catalogue's lines that are for every organization, all of them by hand."""
    return [entry for entry in _lines(connection, events) if entry.organization_id == EVERY]


def choose(connection: Connection, events: Table, chosen: Iterable[Entry]) -> None:
    """Write lines of the catalogue; where the grain changes the rows go, to be built again.

    A dimension that is summarized stays so at its grain.
    """
    name = identifier(kept_table(events))
    for entry in chosen:
        before = connection.execute(
            sql.SQL("SELECT grain, summary FROM {} WHERE organization_id = %s AND dimension = %s").format(name),
            [entry.organization_id, entry.dimension],
        ).fetchone()
        if before and before[0] != entry.grain:
            _empty(connection, events, entry)
        connection.execute(
            sql.SQL(
                "INSERT INTO {} AS k (organization_id, dimension, grain, summary, by_hand, share, reason, chosen_at)"
                " VALUES (%(organization_id)s, %(dimension)s, %(grain)s, %(summary)s, %(by_hand)s, %(share)s,"
                " %(reason)s, %(chosen_at)s)"
                " ON CONFLICT (organization_id, dimension) DO UPDATE SET grain = excluded.grain,"
                " summary = excluded.summary OR k.summary AND k.grain IS NOT DISTINCT FROM excluded.grain,"
                " by_hand = excluded.by_hand, share = excluded.share, reason = excluded.reason,"
                " chosen_at = excluded.chosen_at,"
                " watermark = CASE WHEN k.grain IS NOT DISTINCT FROM excluded.grain THEN k.watermark END,"
                " days_until = CASE WHEN k.grain IS NOT DISTINCT FROM excluded.grain THEN k.days_until END"
            ).format(name),
            asdict(entry),
        )
        if before == (entry.grain, False) and entry.summary:
            connection.execute(summarize(events), asdict(entry))


def forget(connection: Connection, events: Table, forgotten: Iterable[Entry]) -> None:
    """Take lines of the catalogue away, and their rows."""
    for entry in forgotten:
        _empty(connection, events, entry)
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE organization_id = %s AND dimension = %s").format(
                identifier(kept_table(events))
            ),
            [entry.organization_id, entry.dimension],
        )


def _empty(connection: Connection, events: Table, entry: Entry) -> None:
    """Take a dimension's rows away."""
    connection.execute(
        sql.SQL("DELETE FROM {} WHERE organization_id = %s AND dimension = ANY (%s)").format(
            identifier(rollup_table(events))
        ),
        [entry.organization_id, [entry.dimension, SUMMARY + entry.dimension]],
    )


def _lines(connection: Connection, events: Table) -> list[Entry]:
    cursor = connection.cursor(row_factory=psycopg.rows.class_row(Entry))
    return cursor.execute(
        sql.SQL("SELECT * FROM {} ORDER BY organization_id, dimension").format(identifier(kept_table(events)))
    ).fetchall()


@dataclass(frozen=True, slots=True)
class Piece:
    """What is ingested in `[since, until)` of one kept dimension; `since` None is the beginning.

    What is ingested before `days_until` goes into slots of days, the rest into slots of hours. With `summary` its
    summary is part of it.
    """

    organization_id: UUID
    dimension: str
    grain: timedelta
    since: datetime | None
    until: datetime
    days_until: datetime
    summary: bool


def parameters(pieces: Sequence[Piece]) -> dict[str, Any]:
    """What `ROWS` is run with. There must be a piece."""
    since = [piece.since.isoformat() if piece.since else BEGINNING for piece in pieces]
    return {
        "owners": [piece.organization_id for piece in pieces],
        "dimensions": [piece.dimension for piece in pieces],
        "grains": [piece.grain for piece in pieces],
        "since": since,
        "until": [piece.until for piece in pieces],
        "days_until": [piece.days_until for piece in pieces],
        "summaries": [piece.summary for piece in pieces],
        "organizations": sorted({piece.organization_id for piece in pieces}),
        "first": BEGINNING if BEGINNING in since else min(since),
        "last": max(piece.until for piece in pieces),
    }


def fill(events: Table, source: sql.Identifier | None = None) -> sql.Composed:
    """INSERT the rows of some pieces, from the events or another table with their columns."""
    rows = sql.SQL(ROWS).format(events=source or identifier(events))
    return sql.SQL("INSERT INTO {} ({}) {} ORDER BY organization_id, dimension, slot").format(
        identifier(rollup_table(events)), COLUMNS, rows
    )


def empty(events: Table) -> sql.Composed:
    """DELETE the rows of some pieces."""
    return sql.SQL(
        "DELETE FROM {} r USING unnest(%(owners)s::uuid[], %(dimensions)s::text[], %(since)s::timestamptz[],"
        " %(until)s::timestamptz[]) AS p (organization_id, dimension, since, until)"
        " WHERE r.organization_id = p.organization_id AND r.dimension IN (p.dimension, {} || p.dimension)"
        " AND r.ingested >= p.since AND r.ingested < p.until"
    ).format(identifier(rollup_table(events)), sql.Literal(SUMMARY))


def merge(events: Table) -> sql.Composed:
    """Merge the hours of ingestion of some pieces into days."""
    return sql.SQL(
        "WITH hours AS ({emptied} RETURNING r.*) "
        "INSERT INTO {rows} ({columns}) SELECT organization_id, dimension, value, metric_key, slot,"
        " date_bin('1 day', ingested, timestamptz '1970-01-01 00:00:00+00'), sum(events), sum(quantity)"
        " FROM hours GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 5"
    ).format(emptied=empty(events), rows=identifier(rollup_table(events)), columns=COLUMNS)


def summarize(events: Table) -> sql.Composed:
    """INSERT the summary of a dimension of which it was not kept so far; parameters `organization_id`, `dimension`."""
    return sql.SQL(
        "INSERT INTO {rows} ({columns}) {summary} FROM {rows} r JOIN {kept} p"
        " ON p.organization_id = r.organization_id AND p.dimension = r.dimension"
        " WHERE r.organization_id = %(organization_id)s AND r.dimension = %(dimension)s"
        " GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 5"
    ).format(
        rows=identifier(rollup_table(events)),
        columns=COLUMNS,
        summary=sql.SQL(_SUMMARY),
        kept=identifier(kept_table(events)),
    )


def piece_of(organization_id: UUID, kept: Kept, since: datetime | None, until: datetime) -> Piece:
    """What is ingested in `[since, until)` and kept already, widened to whole slots of ingestion."""
    last = kept.ingestion_slot(until - INSTANT)
    return Piece(
        organization_id=organization_id,
        dimension=kept.dimension,
        grain=kept.grain,
        since=kept.ingestion_slot(since) if since else None,
        until=min(last + (DAY if last < kept.days_until else HOUR), kept.watermark),
        days_until=kept.days_until,
        summary=kept.summary,
    )
