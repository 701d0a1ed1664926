"""Connections that notice when the network or the server has gone silent, instead of waiting for ever."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, TypeVar

import psycopg
from psycopg.abc import PQGen
from psycopg.conninfo import conninfo_to_dict

from usage_explore.errors import ConfigurationError

_T = TypeVar("_T")

PATIENCE = 5.0
"""Seconds of silence where a server has nothing to work on, as when it is asked whether it is still there."""

_BOUNDS: dict[str, Any] = {
    "connect_timeout": 10,  # seconds, each address of each host
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 15_000,  # milliseconds that sent bytes may stay unacknowledged
}


SESSION = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, MDY",  # psycopg reads times and intervals in these styles alone
    "IntervalStyle": "postgres",
    "extra_float_digits": "1",
    "standard_conforming_strings": "on",
    "array_nulls": "on",
    "row_security": "on",  # off makes an error of every statement that a policy would narrow
    "default_transaction_isolation": "read committed",  # serializable transactions can be refused, and wait
    "default_transaction_deferrable": "off",
}
"""Settings of a session that answers or errors depend on, whatever the role or the database sets for itself."""


def parameters(url: str, settings: Mapping[str, object] | None = None) -> dict[str, Any]:
    """The URL's connection parameters; where it does not bound what the network may take, we do.

    With `settings`, these and `SESSION` follow the URL's own `options`, and take the place of what the role or the
    database sets. Several hosts (`host1:5432,host2:5432`) are tried in order. Raises `ConfigurationError` for a URL
    that libpq cannot read.
    """
    try:
        given = _BOUNDS | conninfo_to_dict(url) | {"client_encoding": "utf8"}  # whatever the database's own is
        if settings is None:
            return given
        ours = " ".join(f"-c {name}={_escaped(value)}" for name, value in (SESSION | dict(settings)).items())
        return given | {"options": f"{given.get('options', '')} {ours}".strip()}
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(
            f"database_url: {' '.join(str(error).split())}; write postgresql://user:password@host:5432/database"
        ) from None


def _escaped(value: object) -> str:
    """A setting's value as `options` takes it, where blanks end a value."""
    return str(value).replace("\\", "\\\\").replace(" ", "\\ ")


class Connection(psycopg.Connection[Any]):
    """A connection that gives up on a silent server.

    TCP's own time-outs end a wait for a machine that is gone; a server, pooler or proxy that takes a statement and
    never answers looks alive to them. So when not a byte has come or gone for `patience` seconds, the connection is
    closed and the statement ends with `psycopg.OperationalError`.
    """

    patience: float = PATIENCE

    def allow(self, statement_timeout: timedelta) -> None:
        """Leave each statement its time, and the server a little more to say that it has cancelled one."""
        self.patience = statement_timeout.total_seconds() + PATIENCE

    def wait(self, gen: PQGen[_T], *args: Any, **options: Any) -> _T:
        """What psycopg waits for, no longer than `patience` at a time."""
        return super().wait(self._patient(gen), *args, **options)

    def _patient(self, gen: PQGen[_T]) -> PQGen[_T]:
        heard = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    heard = time.monotonic()
                elif time.monotonic() - heard > self.patience:
                    gen.close()
                    self.close()
                    raise psycopg.OperationalError(f"not a byte came for {self.patience:g} seconds")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: _T = done.value
            return result
