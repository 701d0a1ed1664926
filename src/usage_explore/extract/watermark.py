"""Up to when every transaction has ended: what was ingested before can no longer be joined by a late commit.

A transaction that inserts with `ingested_at` = now() stamps its rows with the moment it began, and they appear when it
commits. So the watermark stays behind the oldest transaction in progress, and behind the settle time, for writers that
take `ingested_at` from a clock of their own.

Counting ahead also needs events that are visible, dated and not rewritten, which the checks here find in the catalog.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.errors import TableMismatch
from usage_explore.sql.identifiers import identifier

LEAST_SETTLE = timedelta(seconds=1)
"""Between taking its time and being seen, a transaction may take this long."""

_PATIENCE = 10.0
_PAUSE = 0.1

OLDEST = """
SELECT now(), since, pid, role FROM (
    SELECT xact_start, pid, usename::text FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL
      AND backend_type NOT LIKE 'autovacuum%%' AND backend_type <> 'walsender'
    UNION ALL
    SELECT prepared - %(settle)s, NULL, owner::text FROM pg_prepared_xacts WHERE database = current_database()
) AS open (since, pid, role) RIGHT JOIN (SELECT) AS one ON true ORDER BY since LIMIT 1
"""

HIDDEN = """
SELECT virtualtransaction, pid FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'virtualxid' AND mode = 'ExclusiveLock' AND granted
  AND datname = current_database() AND pid <> pg_backend_pid() AND state IS NULL
"""
"""Transactions of other roles, whose beginning this role may not see."""

_REWRITTEN = """
WITH places (oid) AS (
    SELECT to_regclass(%(events)s)::oid UNION SELECT relid::oid FROM pg_partition_tree(to_regclass(%(events)s))
)
SELECT EXISTS (SELECT FROM pg_trigger JOIN places ON tgrelid = places.oid
               WHERE tgtype & 7 = 7 AND tgenabled <> 'D' AND NOT tgisinternal AND tgname <> 'ts_insert_blocker')
    OR EXISTS (SELECT FROM pg_rewrite JOIN places ON ev_class = places.oid WHERE ev_type = '3')
"""
"""Triggers that run for each row before it is inserted, but TimescaleDB's own, and rules for inserting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """Up to when every transaction has ended: `until`, None while those of other roles are too long to wait for.

    What it stays behind, where that is a transaction and not the settle time: its beginning `since`, its process
    `pid`, its `role`; the pids alone, `hidden`, where this role may not see more.
    """

    until: datetime | None
    since: datetime | None = None
    pid: int | None = None
    role: str | None = None
    hidden: tuple[int, ...] = ()

    def __str__(self) -> str:
        if self.hidden:
            return (
                f"Transactions of other roles have been open for {_PATIENCE:g} seconds or more (pid "
                f"{', '.join(map(str, self.hidden))}), and this role may not see since when: GRANT pg_read_all_stats TO"
                " CURRENT_USER lets the rollup go on as far as is safe, ending them lets it go on at once."
            )
        if self.since is None:
            return "No open transaction holds the rollup back."
        who = f"by pid {self.pid}" if self.pid is not None else "prepared for a two-phase commit"
        return (
            f"A transaction of {self.role} has been open since {self.since:%Y-%m-%d %H:%M:%S} UTC ({who}); what was"
            " ingested since then is counted ahead once it has ended."
        )


def safe(connection: Connection, settle: timedelta) -> Safe:
    """The latest such moment, at least `settle` ago.

    The connection must not be in a transaction. A role with `pg_read_all_stats` sees when each began and never waits.
    """
    settle = max(settle, LEAST_SETTLE)
    with connection.transaction():
        found = connection.execute(OLDEST, {"settle": settle}).fetchone()
    assert found is not None  # noqa: S101 - the join leaves one row at least
    now, since, pid, role = found
    waiting = _hidden(connection)
    deadline = time.monotonic() + _PATIENCE
    while waiting:
        if time.monotonic() > deadline:
            return Safe(until=None, hidden=tuple(sorted({pid for _, pid in waiting})))
        time.sleep(_PAUSE)
        waiting &= _hidden(connection)
    settled: datetime = now - settle
    if since is None or settled <= since:
        return Safe(until=settled)
    return Safe(until=since, since=since, pid=pid, role=role)


def _hidden(connection: Connection) -> set[tuple[str, int]]:
    with connection.transaction():
        return {(transaction, pid) for transaction, pid in connection.execute(HIDDEN)}


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
