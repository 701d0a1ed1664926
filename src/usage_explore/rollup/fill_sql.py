"""From events to rollup rows, as SQL: the one statement that refreshing, rebuilding, loading and verifying share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from psycopg import sql
from sqlalchemy import Table

from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import COLUMNS as DIMENSIONS
from usage_explore.sql.rollup_plan import DAY, HOUR, INSTANT, KEYS, SUMMARY, Kept, kept_table, rollup_table

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
