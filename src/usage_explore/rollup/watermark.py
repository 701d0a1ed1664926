"""Up to when every transaction has ended: what was ingested before can no longer be joined by a late commit.

A transaction that inserts with `ingested_at` = now() stamps its rows with the moment it began, and they appear when it
commits. So the watermark stays behind the oldest transaction in progress, and behind the settle time, for writers that
take `ingested_at` from a clock of their own.
"""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from usage_explore.writing import Connection

LEAST_SETTLE = timedelta(seconds=1)
"""Between taking its time and being seen, a transaction may take this long."""

_PATIENCE = 10.0
_PAUSE = 0.1

_OLDEST = """
SELECT clock_timestamp(), least(
    (SELECT min(xact_start) FROM pg_stat_activity
     WHERE datname = current_database() AND pid <> pg_backend_pid()
       AND backend_type NOT LIKE 'autovacuum%%' AND backend_type <> 'walsender'),
    (SELECT min(prepared) - %(settle)s FROM pg_prepared_xacts WHERE database = current_database()))
"""

_HIDDEN = """
SELECT virtualtransaction FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'virtualxid' AND mode = 'ExclusiveLock' AND granted
  AND datname = current_database() AND pid <> pg_backend_pid() AND state IS NULL
"""
"""Transactions of other roles, whose beginning this role may not see."""


def safe(connection: Connection, settle: timedelta) -> datetime | None:
    """The latest such moment, at least `settle` ago; None while transactions of other roles are too long to wait for.

    The connection must not be in a transaction. A role with `pg_read_all_stats` sees when each began and never waits.
    """
    settle = max(settle, LEAST_SETTLE)
    oldest: datetime | None
    now, oldest = _row(connection, _OLDEST, settle=settle)
    waiting = _hidden(connection)
    deadline = time.monotonic() + _PATIENCE
    while waiting:
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE)
        waiting &= _hidden(connection)
    settled: datetime = now - settle
    return min(settled, oldest) if oldest else settled


def _hidden(connection: Connection) -> set[str]:
    with connection.transaction():
        return {row[0] for row in connection.execute(_HIDDEN)}


def _row(connection: Connection, statement: str, **values: object) -> tuple[datetime, datetime | None]:
    with connection.transaction():
        found = connection.execute(statement.encode(), values).fetchone()
    assert found is not None  # noqa: S101 - a select without FROM has one row
    return found[0], found[1]
