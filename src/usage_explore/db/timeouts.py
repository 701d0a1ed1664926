"""Connection parameters, time limits and cancellation: every statement ends, whatever network, server and client do."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any, TypeVar
from weakref import WeakSet

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Engine, event
from sqlalchemy.pool import QueuePool

from usage_explore.errors import ConfigurationError

_T = TypeVar("_T")

MAX_SILENCE_SECONDS = 5.0
"""Seconds without a byte after which a connection without a running statement is closed."""

_NETWORK_LIMITS: dict[str, Any] = {
    "connect_timeout": 10,  # seconds per address of a host
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds that sent bytes may stay unacknowledged
}


SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",  # the styles of times and intervals that psycopg parses
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "gin_fuzzy_search_limit": "0",  # else an index returns a random part of the events, about as many
    "row_security": "on",  # off: statements that a policy restricts are errors
    "default_transaction_isolation": "read committed",  # serializable transactions can fail or wait
    "default_transaction_deferrable": "off",
}
"""Session settings that results or errors depend on; they override those of the role and the database."""

_RETRY_SECONDS = 0.1
"""Time between attempts to cancel: the next statement may be about to begin."""


def parameters(url: str, settings: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The connection parameters of the URL, with default time limits for the network.

    With `settings`, these and `SESSION` follow the URL's own `options`, and override those of the role and the
    database. Several hosts (`host1:5432,host2:5432`) are tried in order. Raises `ConfigurationError` for a URL that
    libpq cannot parse.
    """
    try:
        given = _NETWORK_LIMITS | conninfo_to_dict(url) | {"client_encoding": "utf8"}  # independent of the database
        if settings is None:
            return given
        ours = " ".join(f"-c {name}={_escaped(value)}" for name, value in (SESSION | dict(settings)).items())
        return given | {"options": f"{given.get('options', '')} {ours}".strip()}
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"database_url: {' '.join(str(error).split())}; write postgresql://user:password@host:5432/database"
        ) from None


def _escaped(value: object) -> str:
    """A setting's value for `options`, in which spaces separate settings."""
    return str(value).replace("\\", "\\\\").replace(" ", "\\ ")


class Connection(psycopg.Connection[Any]):
    """A connection that is closed if the server is silent.

    TCP time-outs detect a lost host, but not a server, pooler or proxy that accepts a statement and never answers. So
    after `max_silence_seconds` without a byte in either direction the connection is closed, and the statement ends with
    `psycopg.OperationalError`.
    """

    max_silence_seconds: float = MAX_SILENCE_SECONDS

    def allow(self, statement_timeout: timedelta) -> None:
        """Wait for each statement as long as its timeout, and `MAX_SILENCE_SECONDS` for the message of its end."""
        self.max_silence_seconds = statement_timeout.total_seconds() + MAX_SILENCE_SECONDS

    def wait(self, gen: PQGen[_T], *args: Any, **options: Any) -> _T:
        """Psycopg's wait, with the limit of `max_silence_seconds`; see `ended_early`."""
        began = time.monotonic()
        try:
            return super().wait(self._patient(gen), *args, **options)
        except psycopg.errors.QueryCanceled as error:
            statement_timeout = self.max_silence_seconds - MAX_SILENCE_SECONDS
            error.ended_early = time.monotonic() - began < statement_timeout  # type: ignore[attr-defined]
            raise

    def _patient(self, gen: PQGen[_T]) -> PQGen[_T]:
        last_byte = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    last_byte = time.monotonic()
                elif time.monotonic() - last_byte > self.max_silence_seconds:
                    gen.close()
                    self.close()
                    raise psycopg.OperationalError(f"no byte was received for {self.max_silence_seconds:g} seconds")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: _T = done.value
            return result


def ended_early(error: BaseException) -> bool:
    """Whether a cancelled statement ran shorter than its statement timeout: then something else cancelled it.

    Both have the SQLSTATE 57014, and messages in the language of the server.
    """
    return bool(getattr(error, "ended_early", False))


class HeldConnections:
    """The connections that a request holds at this moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[psycopg.Connection[Any]] = []
        self._interrupts: list[Callable[[], object]] = []

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

    @contextlib.contextmanager
    def interruptible(self, interrupt: Callable[[], object]) -> Iterator[None]:
        """Call `interrupt` when the request is cancelled while the block runs."""
        with self._lock:
            self._interrupts.append(interrupt)
        try:
            yield
        finally:
            with self._lock:
                self._interrupts.remove(interrupt)

    def cancel(self) -> None:
        """Cancel the statements on its connections; meanwhile, none returns to the pool and to another request."""
        with self._lock:
            for interrupt in self._interrupts:
                interrupt()
            for connection in self._held:
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=1)


_current: ContextVar[HeldConnections | None] = ContextVar("held_connections", default=None)
_holders: set[HeldConnections] = set()
_watched: WeakSet[Engine] = WeakSet()


def watch(engine: Engine) -> None:
    """Record which connections of the engine's pool each request holds."""
    _watched.add(engine)
    if not event.contains(engine, "checkout", _checkout):
        event.listen(engine, "checkout", _checkout)
        event.listen(engine, "checkin", _checkin)
        event.listen(engine, "invalidate", _checkin)  # a lost connection is checked in as None


def pools() -> list[QueuePool]:
    """The pools of the watched engines of this process."""
    return [engine.pool for engine in list(_watched) if isinstance(engine.pool, QueuePool)]


@contextlib.contextmanager
def cancellable(held: HeldConnections | None = None) -> Iterator[HeldConnections]:
    """All connections taken inside the block, also by threads started in it, belong to one `HeldConnections`."""
    held = held or HeldConnections()
    token = _current.set(held)
    try:
        yield held
    finally:
        _current.reset(token)


def interruptible(interrupt: Callable[[], object]) -> contextlib.AbstractContextManager[None]:
    """Call `interrupt` when the current request, if there is one, is cancelled while the block runs."""
    held = _current.get()
    return held.interruptible(interrupt) if held is not None else contextlib.nullcontext()


def cancel_all(max_seconds: float) -> None:
    """Cancel all running statements, repeatedly, until no request holds a connection or after `max_seconds`."""
    until = time.monotonic() + max_seconds
    while (busy := [held for held in list(_holders) if held.is_held]) and time.monotonic() < until:
        for held in busy:
            held.cancel()
        time.sleep(_RETRY_SECONDS)


def _checkout(connection: psycopg.Connection[Any], *_: object) -> None:
    if (held := _current.get()) is not None:
        _holders.add(held)
        held.add(connection)


def _checkin(connection: psycopg.Connection[Any] | None, *_: object) -> None:
    if connection is not None and (held := _current.get()) is not None:
        held.remove(connection)
        if not held.is_held:
            _holders.discard(held)
