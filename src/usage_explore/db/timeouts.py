"""Connection parameters and time limits: a silent network or server ends a statement with an error."""

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
    "row_security": "on",  # off: statements that a policy restricts are errors
    "default_transaction_isolation": "read committed",  # serializable transactions can fail or wait
    "default_transaction_deferrable": "off",
}
"""Session settings that results or errors depend on; they override those of the role and the database."""


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
    after `patience` seconds without a byte in either direction the connection is closed, and the statement ends with
    `psycopg.OperationalError`.
    """

    patience: float = PATIENCE

    def allow(self, statement_timeout: timedelta) -> None:
        """Wait for each statement as long as its timeout, and `PATIENCE` for the message that it was cancelled."""
        self.patience = statement_timeout.total_seconds() + PATIENCE

    def wait(self, gen: PQGen[_T], *args: Any, **options: Any) -> _T:
        """Psycopg's wait, with the limit of `patience`."""
        return super().wait(self._patient(gen), *args, **options)

    def _patient(self, gen: PQGen[_T]) -> PQGen[_T]:
        last_byte = time.monotonic()
        try:
            wanted = next(gen)
            while True:
                ready = yield wanted
                if ready:
                    last_byte = time.monotonic()
                elif time.monotonic() - last_byte > self.patience:
                    gen.close()
                    self.close()
                    raise psycopg.OperationalError(f"no byte was received for {self.patience:g} seconds")
                wanted = gen.send(ready)
        except StopIteration as done:
            result: _T = done.value
            return result
