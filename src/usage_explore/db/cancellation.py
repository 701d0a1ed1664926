"""What runs in the database for whom, so that it can be cancelled: the asker went away, or the server stops."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import psycopg
from sqlalchemy import Engine, event

_AGAIN = 0.1
"""Seconds between attempts to cancel: a statement may just be about to begin."""


class Work:
    """The connections that one question's work holds at this moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[psycopg.Connection[Any]] = []

    def took(self, connection: psycopg.Connection[Any]) -> None:
        """A connection left the pool for this work."""
        with self._lock:
            self._held.append(connection)

    def gave(self, connection: psycopg.Connection[Any]) -> None:
        """A connection goes back to the pool."""
        with self._lock:
            if connection in self._held:
                self._held.remove(connection)

    @property
    def is_held(self) -> bool:
        """Whether there is a connection that this work holds."""
        return bool(self._held)

    def cancel(self) -> None:
        """Cancel what runs on the connections; none returns to the pool meanwhile, so nobody else is hit."""
        with self._lock:
            for connection in self._held:
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=1)


_current: ContextVar[Work | None] = ContextVar("work", default=None)
_everything: set[Work] = set()


def watch(engine: Engine) -> None:
    """Let the engine's pool tell each work which connections it holds."""
    if not event.contains(engine, "checkout", _checkout):
        event.listen(engine, "checkout", _checkout)
        event.listen(engine, "checkin", _checkin)


@contextlib.contextmanager
def working(work: Work | None = None) -> Iterator[Work]:
    """Everything that is asked inside, in threads started from here too, belongs to one work."""
    work = work or Work()
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


def cancel_everything(patience: float) -> None:
    """Cancel whatever holds a connection, again and again until nothing does or `patience` seconds have passed."""
    until = time.monotonic() + patience
    while (held := [work for work in list(_everything) if work.is_held]) and time.monotonic() < until:
        for work in held:
            work.cancel()
        time.sleep(_AGAIN)


def _checkout(connection: psycopg.Connection[Any], *_: object) -> None:
    if (work := _current.get()) is not None:
        _everything.add(work)
        work.took(connection)


def _checkin(connection: psycopg.Connection[Any] | None, *_: object) -> None:
    if connection is not None and (work := _current.get()) is not None:
        work.gave(connection)
        if not work.is_held:
            _everything.discard(work)
