"""Cancellation of running statements: when a client disconnects, or the server stops."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import psycopg
from sqlalchemy import Engine, event

_RETRY_SECONDS = 0.1
"""Time between attempts to cancel: the next statement may be about to begin."""


class Work:
    """The connections that a request holds at this moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[psycopg.Connection[Any]] = []

    def add(self, connection: psycopg.Connection[Any]) -> None:
        """Add a connection that left the pool."""
        with self._lock:
            self._held.append(connection)

    def remove(self, connection: psycopg.Connection[Any]) -> None:
        """Remove a connection that returns to the pool."""
        with self._lock:
            if connection in self._held:
                self._held.remove(connection)

    @property
    def is_held(self) -> bool:
        """Whether it holds a connection."""
        return bool(self._held)

    def cancel(self) -> None:
        """Cancel the statements on its connections; meanwhile, none returns to the pool and to another request."""
        with self._lock:
            for connection in self._held:
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=1)


_current: ContextVar[Work | None] = ContextVar("work", default=None)
_everything: set[Work] = set()


def watch(engine: Engine) -> None:
    """Record which connections of the engine's pool each request holds."""
    if not event.contains(engine, "checkout", _checkout):
        event.listen(engine, "checkout", _checkout)
        event.listen(engine, "checkin", _checkin)
        event.listen(engine, "invalidate", _checkin)  # a lost connection is checked in as None


@contextlib.contextmanager
def working(work: Work | None = None) -> Iterator[Work]:
    """All connections taken inside the block, also by threads started in it, belong to one `Work`."""
    work = work or Work()
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


def cancel_everything(patience: float) -> None:
    """Cancel all running statements, repeatedly, until no request holds a connection or after `patience` seconds."""
    until = time.monotonic() + patience
    while (held := [work for work in list(_everything) if work.is_held]) and time.monotonic() < until:
        for work in held:
            work.cancel()
        time.sleep(_RETRY_SECONDS)


def _checkout(connection: psycopg.Connection[Any], *_: object) -> None:
    if (work := _current.get()) is not None:
        _everything.add(work)
        work.add(connection)


def _checkin(connection: psycopg.Connection[Any] | None, *_: object) -> None:
    if connection is not None and (work := _current.get()) is not None:
        work.remove(connection)
        if not work.is_held:
            _everything.discard(work)
