"""Runs that make demo data take turns, and show other sessions of the database how far they are.

The progress is the name of the run's session (`application_name`): other sessions see it at once, also from within a
transaction, and it ends with the session, even a killed one. Only one table of names is read, `pg_stat_activity`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import psycopg

from usage_explore.db.ddl import Connection

_NAME = re.compile(r"usage-explore demo (first|later) (\d+)/(\d+)")
_EXTRACT = "usage-explore demo extract"
_WAITING = "usage-explore demo waiting"

SESSIONS = (
    "SELECT application_name FROM pg_stat_activity"
    " WHERE datname = current_database() AND starts_with(application_name, 'usage-explore demo ')"
)
"""Statement for the names of the sessions that make demo data, for `progress`."""


@dataclass(frozen=True, kw_only=True)
class FillProgress:
    """A run that makes demo data: `done` of `total` days, both 0 while it starts.

    `first` until the demo's first run has committed: until then there is no whole demo. After the last day a first run
    creates the indexes.
    """

    done: int
    total: int
    first: bool


def progress(names: Iterable[str]) -> FillProgress | None:
    """The progress of the run among the `names` of sessions; None if none adds events any more."""
    waiting = False
    for name in names:
        if match := _NAME.fullmatch(name):
            return FillProgress(done=int(match[2]), total=int(match[3]), first=match[1] == "first")
        waiting = waiting or name == _WAITING
    return FillProgress(done=0, total=0, first=False) if waiting else None


def announce(connection: Connection, done: int, total: int, *, first: bool) -> None:
    """Show other sessions how many days are done. Belongs into a transaction."""
    _rename(connection, f"usage-explore demo {'first' if first else 'later'} {done}/{total}")


def announce_extract(connection: Connection) -> None:
    """Show other sessions that all events are there, and the extract is being made of them."""
    with connection.transaction():
        _rename(connection, _EXTRACT)


@contextmanager
def alone(connection: Connection, waiting: Callable[[], object]) -> Iterator[None]:
    """Wait until no other run makes demo data in this database, after calling `waiting`, and keep others waiting.

    The lock ends with the session at the latest. The connection must not be in a transaction.
    """
    with connection.transaction():
        _rename(connection, _WAITING)
        row = connection.execute("SELECT pg_try_advisory_lock(hashtext('usage-explore demo run')::bigint)").fetchone()
    try:
        if not (row and row[0]):
            waiting()
            with connection.transaction():
                connection.execute("SELECT set_config('statement_timeout', '0', true)")
                connection.execute("SELECT pg_advisory_lock(hashtext('usage-explore demo run')::bigint)")
        yield
    finally:
        with suppress(psycopg.Error):  # the session may have ended, and the lock with it
            connection.rollback()
            connection.execute("SELECT pg_advisory_unlock_all()")
            _rename(connection, "usage-explore")
            connection.commit()


def _rename(connection: Connection, name: str) -> None:
    connection.execute("SELECT set_config('application_name', %s, false)", [name])
