"""Refreshing extracts beside the app: one at a time, when the events that they lack are many or old.

A first build of a large table on another server is offered instead, with an estimate of its size and time.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import psycopg
from psycopg import sql

from usage_explore import config
from usage_explore.config import Settings
from usage_explore.db import ddl
from usage_explore.db.catalog import relation
from usage_explore.db.schema import events_table
from usage_explore.errors import UsageExploreError
from usage_explore.extract import folder, manifest
from usage_explore.extract.connection import resources
from usage_explore.extract.folder import Source
from usage_explore.extract.manifest import instant, micros
from usage_explore.extract.refresh import Target, refresh
from usage_explore.sql.identifiers import identifier

MAX_TAIL_EVENTS = 20_000
"""Events that an extract may lack before it is refreshed."""

MAX_AGE = timedelta(minutes=10)
"""Time since the last refresh after which it is refreshed."""

MAX_ROWS_BUILT_UNASKED = 1_000_000
"""Events in a table of another server up to which a first extract is built without asking."""

LOOK_SECONDS = 60.0
"""Time between two looks at the same organization."""

_BYTES_PER_EVENT = 60
_EVENTS_PER_SECOND = 80_000
"""What an offer estimates with; `docs/extract.md` has the measurements."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Offer:
    """A first build of an extract that the user has to start: the approximate number of events in the table."""

    events: int

    @property
    def bytes(self) -> int:
        """The size of the files, about."""
        return self.events * _BYTES_PER_EVENT

    @property
    def time(self) -> timedelta:
        """How long the build takes, about."""
        return timedelta(seconds=max(1, self.events // _EVENTS_PER_SECOND))


def source(connection: ddl.Connection, settings: Settings) -> Source:
    """The events table as the connection's role sees it. The connection must not be in a transaction."""
    return folder.source(connection, config.database_url(settings), events_table(settings.table))


def target(source: Source, settings: Settings, organization_id: UUID) -> Target:
    """The extract of an organization under these settings."""
    return Target(
        table=events_table(settings.table),
        organization_id=organization_id,
        folder=source.folder(settings.home, organization_id),
        resources=resources(settings),
    )


def long_build(connection: ddl.Connection, settings: Settings) -> int | None:
    """About how many events the table has, None if a first build is quick enough to start unasked."""
    with connection.transaction():
        found = relation(connection, settings.table)
    rows = found.rows if found is not None else 0
    return None if settings.database_url is None or rows < MAX_ROWS_BUILT_UNASKED else rows


class Background:
    """Looks at organizations and refreshes their extracts in a thread of its own, which ends with the process."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._work: queue.SimpleQueue[tuple[UUID, bool]] = queue.SimpleQueue()
        self._looked: dict[UUID, float] = {}
        self._offers: dict[UUID, Offer] = {}
        self._building: set[UUID] = set()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def look(self, organization_id: UUID) -> Offer | None:
        """Have the extract refreshed soon if it is due; the offer of a first build, if it has to be started."""
        with self._lock:
            now = time.monotonic()
            if now - self._looked.get(organization_id, -LOOK_SECONDS) >= LOOK_SECONDS:
                self._looked[organization_id] = now
                self._put(organization_id, start=False)
            return self._offers.get(organization_id)

    def start(self, organization_id: UUID) -> None:
        """Start the first build that was offered."""
        with self._lock:
            if self._offers.pop(organization_id, None) is not None:
                self._building.add(organization_id)
                self._put(organization_id, start=True)

    def is_building(self, organization_id: UUID) -> bool:
        """Whether a build that was started has not ended."""
        return organization_id in self._building

    def _put(self, organization_id: UUID, *, start: bool) -> None:
        self._work.put((organization_id, start))
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="extract", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            organization_id, start = self._work.get()
            try:
                self._refresh(organization_id, start=start)
            except (UsageExploreError, psycopg.Error, OSError) as error:
                _log.warning("extract of %s not refreshed: %s", organization_id, " ".join(str(error).split()))
            finally:
                self._building.discard(organization_id)

    def _refresh(self, organization_id: UUID, *, start: bool) -> None:
        with closing(ddl.connect(config.database_url(self._settings))) as connection:
            wanted = target(source(connection, self._settings), self._settings, organization_id)
            if not start and not self._is_due(connection, wanted):
                return
            refresh(
                connection,
                wanted,
                settle=self._settings.settle_time,
                timeout=self._settings.long_statement_timeout,
            )

    def _is_due(self, connection: ddl.Connection, wanted: Target) -> bool:
        held = manifest.read(wanted.folder)
        if held is None:
            rows = long_build(connection, self._settings)
            if rows is not None:
                self._offers[wanted.organization_id] = Offer(rows)
            return rows is None
        self._offers.pop(wanted.organization_id, None)
        with connection.transaction():
            now = _value(connection, sql.SQL("SELECT now()"))
            if held.watermark is None or micros(now) - held.refreshed > MAX_AGE / timedelta(microseconds=1):
                return True
            tail = sql.SQL(
                "SELECT count(*) FROM"
                " (SELECT FROM {} WHERE organization_id = {} AND ingested_at >= {} LIMIT {}) AS tail"
            ).format(
                identifier(wanted.table),
                sql.Literal(wanted.organization_id),
                sql.Literal(instant(held.watermark)),
                sql.Literal(MAX_TAIL_EVENTS + 1),
            )
            return bool(_value(connection, tail) > MAX_TAIL_EVENTS)


def refresh_after_load(connection: ddl.Connection, settings: Settings, organizations: list[UUID]) -> str:
    """Refresh the extracts of organizations after a load; "", or the reason why one is not up to date.

    The events are in the database already, and queries read what an extract lacks from there.
    """
    connection.commit()
    try:
        seen = source(connection, settings)
        for organization_id in organizations:
            wanted = target(seen, settings, organization_id)
            if manifest.read(wanted.folder) is not None or long_build(connection, settings) is None:
                refresh(
                    connection, wanted, settle=settings.settle_time, timeout=settings.long_statement_timeout, wait=60.0
                )
    except (UsageExploreError, psycopg.Error) as error:
        words = " ".join(str(error).split())
        return f"The extract is not up to date, so queries read more events: {words}"
    return ""


def _value(connection: ddl.Connection, statement: sql.SQL | sql.Composed) -> Any:
    row = connection.execute(statement).fetchone()
    assert row is not None  # noqa: S101 - these statements have one row
    return row[0]
