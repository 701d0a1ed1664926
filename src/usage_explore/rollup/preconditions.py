"""What would make counting ahead wrong, found in the catalog: rows that are hidden, not dated, or rewritten."""

from __future__ import annotations

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.errors import TableMismatch
from usage_explore.sql.identifiers import identifier

_REWRITTEN = """
WITH places (oid) AS (
    SELECT to_regclass(%(events)s)::oid UNION SELECT relid::oid FROM pg_partition_tree(to_regclass(%(events)s))
)
SELECT EXISTS (SELECT FROM pg_trigger JOIN places ON tgrelid = places.oid
               WHERE tgtype & 7 = 7 AND tgenabled <> 'D' AND NOT tgisinternal AND tgname <> 'ts_insert_blocker')
    OR EXISTS (SELECT FROM pg_rewrite JOIN places ON ev_class = places.oid WHERE ev_type = '3')
"""
"""Triggers that run for each row before it is inserted, but TimescaleDB's own, and rules for inserting."""


def check_visible(connection: Connection, events: Table) -> None:
    """Raise `TableMismatch` where row-level security hides events from this role: all it counted would be too few."""
    name = identifier(events).as_string(connection)
    row = connection.execute("SELECT row_security_active(to_regclass(%s)::oid), current_user", [name]).fetchone()
    if row and row[0]:
        raise TableMismatch(
            f"{events.fullname}: row-level security decides which events {row[1]} sees, so it cannot count them for"
            " others; run `usage-explore rollup` with a role that sees all (the owner without FORCE, or BYPASSRLS)"
        )


def check_dated(connection: Connection, events: Table) -> None:
    """Raise `TableMismatch` where events have no `ingested_at`, which a view may show: no slot would hold them."""
    row = connection.execute(
        sql.SQL("SELECT EXISTS (SELECT 1 FROM {} WHERE ingested_at IS NULL)").format(identifier(events))
    ).fetchone()
    if row and row[0]:
        raise TableMismatch(
            f"{events.fullname}: ingested_at is NULL in some events, which then cannot be counted ahead; fill it, in a"
            " view with coalesce(ingested_at, timestamp) AS ingested_at"
        )


def is_rewritten(connection: Connection, events: Table) -> bool:
    """Whether the table may hold something else than what is inserted into it."""
    row = connection.execute(_REWRITTEN, {"events": identifier(events).as_string(connection)}).fetchone()
    return bool(row and row[0])
