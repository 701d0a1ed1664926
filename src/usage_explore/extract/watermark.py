"""Up to when every transaction has ended: what was ingested before can no longer be joined by a late commit.

A transaction that inserts with `ingested_at` = now() stamps its rows with the moment it began, and they appear when it
commits. So the watermark stays behind the oldest transaction in progress, and behind the settle time, for writers that
take `ingested_at` from a clock of their own.

A standby does not show the transactions of its primary, so there is no watermark on one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta

from usage_explore.db.ddl import Connection
from usage_explore.errors import TableMismatch
from usage_explore.extract.manifest import micros

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Safe:
    """Up to when every transaction has ended: `until`, None while those of other roles are too long to wait for.

    What it stays behind, where that is a transaction and not the settle time: its beginning `since`, its process
    `pid`, its `role`; the pids alone, `hidden`, where this role may not see more. `oldest` is the beginning of the
    oldest open transaction, whether it matters or not.
    """

    until: datetime | None
    since: datetime | None = None
    pid: int | None = None
    role: str | None = None
    hidden: tuple[int, ...] = ()
    oldest: datetime | None = None

    def has_ended(self, began: int) -> bool:
        """Whether a transaction that began at a time, in microseconds since 1970, was no longer open."""
        return not self.hidden and (self.oldest is None or began < micros(self.oldest))

    def __str__(self) -> str:
        if self.hidden:
            return (
                f"Transactions of other roles have been open for {_PATIENCE:g} seconds or more (pid "
                f"{', '.join(map(str, self.hidden))}), and this role may not see since when: GRANT pg_read_all_stats TO"
                " CURRENT_USER lets the extract go on as far as is safe, ending them lets it go on at once."
            )
        if self.since is None:
            return "No open transaction holds the extract back."
        who = f"by pid {self.pid}" if self.pid is not None else "prepared for a two-phase commit"
        return (
            f"A transaction of {self.role} has been open since {self.since:%Y-%m-%d %H:%M:%S} UTC ({who}); what was"
            " ingested since then enters the extract once it has ended."
        )


def safe(connection: Connection, settle: timedelta) -> Safe:
    """The latest such moment, at least `settle` ago.

    The connection must not be in a transaction. A role with `pg_read_all_stats` sees when each began and never waits.
    Raises `TableMismatch` on a standby.
    """
    settle = max(settle, LEAST_SETTLE)
    with connection.transaction():
        standby = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        if standby and standby[0]:
            raise TableMismatch(
                "This server is a standby, which does not show the open transactions of its primary: an extract is made"
                " from the primary; questions are answered from the events"
            )
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
        return Safe(until=settled, oldest=since)
    return Safe(until=since, since=since, pid=pid, role=role, oldest=since)


def _hidden(connection: Connection) -> set[tuple[str, int]]:
    with connection.transaction():
        return {(transaction, pid) for transaction, pid in connection.execute(HIDDEN)}
