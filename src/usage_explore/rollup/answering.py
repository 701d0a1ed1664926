"""Which path answers an aggregate: the rollup where it serves exactly, else the events."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Table, select, text
from sqlalchemy.dialects import postgresql

from usage_explore.query import AggregateQuery
from usage_explore.question import Question
from usage_explore.rollup.serving import NONE, Kept, Serving, serving, serving_choices
from usage_explore.rollup.tables import kept_table, rollup_table
from usage_explore.statements import scope

_READABLE = text("""
SELECT has_table_privilege(k.oid, 'SELECT') AND has_table_privilege(r.oid, 'SELECT')
   AND (row_security_active(r.oid) OR NOT row_security_active(e.oid))
FROM pg_class e, pg_class k, pg_class r
WHERE e.oid = to_regclass(:events) AND k.oid = to_regclass(:kept) AND r.oid = to_regclass(:rows)
  AND EXISTS (SELECT FROM pg_attribute WHERE attrelid = k.oid AND attname = 'summary')
  AND k.relnamespace = e.relnamespace AND r.relnamespace = e.relnamespace
""")
"""Whether the rollup beside this very table is there, as this version makes it, and shows this role no more than the
events do."""

NO_ROLLUP = "there is no rollup of these events"


def path(
    connection: Connection,
    table: Table,
    query: AggregateQuery,
    edges: tuple[datetime, ...],
    now: datetime,
    *,
    metrics: bool = False,
) -> Serving | str:
    """How the rollup serves the resolved question, else why the events do, in words that follow "because".

    With `metrics` each metric by itself. Belongs into the snapshot that answers the question then.
    """
    found = kept(connection, table, query)
    return serving(query, edges, now, found, metrics=metrics) if NONE in found else NO_ROLLUP


def choices_path(connection: Connection, table: Table, query: Question, group: str, now: datetime) -> Serving | str:
    """The same for how many of the question's events have each value of a group, or each dimension key (`keys`)."""
    return serving_choices(query, group, now, kept(connection, table, query))


def kept(connection: Connection, table: Table, query: Question) -> dict[str, Kept]:
    """What the rollup keeps of the question's organization, by dimension; nothing where this role may not read it."""
    catalogue, rows = kept_table(table), rollup_table(table)
    names = {"events": _quoted(table), "kept": _quoted(catalogue), "rows": _quoted(rows)}
    if not connection.execute(_READABLE, names).scalar():
        return {}
    c = catalogue.c
    lines = connection.execute(
        select(c.dimension, c.grain, c.watermark, c.days_until, c.summary).where(
            scope(c.organization_id, query), c.grain.is_not(None), c.watermark.is_not(None)
        )
    )
    return {line.dimension: Kept(*line) for line in lines}


def _quoted(table: Table) -> str:
    return postgresql.dialect().identifier_preparer.format_table(table)  # type: ignore[no-untyped-call]
