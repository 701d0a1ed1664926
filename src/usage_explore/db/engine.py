"""Connections that only read: the pool, READ ONLY transactions, and the database's errors in our words."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry

from usage_explore.db import timeouts
from usage_explore.db.error_mapping import translated
from usage_explore.errors import ConfigurationError, DatabaseError, DatabaseUnavailable

_DEEPEST = 100
"""How many levels of nested dimensions are read as such."""

_KEPT = (150, 450)
"""Seconds that a connection is kept, drawn for each: a server process keeps the memory of its largest answer."""

_MEMORY = 128 * 2**20
"""Bytes that each sort or hash of a statement over whole periods may take."""

_WHOLE_PERIODS = """
SELECT set_config('statement_timeout', %(timeout)s, true),
       set_config('enable_incremental_sort', 'off', true),
       set_config('work_mem', greatest(pg_size_bytes(current_setting('work_mem')), %(memory)s) / 1024 || 'kB', true)
"""
"""Incremental sorts follow an index through the whole table, row by row: 35 s instead of 9 over 10 million events."""

_FORGOTTEN = 300_000
"""Milliseconds that a transaction of ours may lie idle: longer than a slow client may pause its export."""


def engine(url: str, statement_timeout: timedelta, revive: Callable[[], object] | None = None) -> Engine:
    """A pool of at most 10 connections to `url`, each checked before use, that can only read.

    Every statement is bounded by `statement_timeout`, and shortly after it a server that stays silent is given up.
    `revive` is called before each new connection: it starts an embedded server that has gone. Nothing connects yet.
    Raises `ConfigurationError` when the URL cannot be read.
    """
    settings = {
        "statement_timeout": int(statement_timeout.total_seconds() * 1000),
        "idle_in_transaction_session_timeout": _FORGOTTEN,
        "tcp_keepalives_idle": 60,  # the server, too, forgets a client that the network has lost
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 6,
        "default_transaction_read_only": "on",
        "jit": "off",
        "parallel_setup_cost": "5000",  # the rollup has answered before a worker would have started
    }
    given = timeouts.parameters(url, settings) | {
        "application_name": "usage-explore",
        "prepare_threshold": None,  # a plan made for the very values, not a generic one
    }
    made = create_engine(
        _address(url, given),
        json_deserializer=_json,
        pool_pre_ping=True,
        pool_size=10,  # kept, for opening one takes longer than an answer
        max_overflow=0,
        pool_timeout=10,
        execution_options={"postgresql_readonly": True},
    )

    def connected(_dialect: object, _record: object, _arguments: object, more: dict[str, Any]) -> timeouts.Connection:
        if revive is not None:
            try:
                revive()
            except ConfigurationError as error:  # its disk is full: the question can wait, the settings are fine
                raise DatabaseUnavailable(str(error)) from error
        return timeouts.Connection.connect(**given, context=more["context"])

    def opened(_connection: object, record: ConnectionPoolEntry) -> None:
        record.info["leaves"] = time.monotonic() + random.uniform(*_KEPT)  # noqa: S311 - so that not all leave at once

    def taken(connection: timeouts.Connection, *_: object) -> None:
        connection.allow(statement_timeout)

    def returned(connection: timeouts.Connection | None, record: ConnectionPoolEntry) -> None:
        if connection is not None:  # looking whether it is alive needs no work
            connection.patience = timeouts.PATIENCE
            if time.monotonic() > record.info["leaves"]:
                record.invalidate(soft=True)

    event.listen(made, "do_connect", connected)
    event.listen(made, "connect", opened)
    event.listen(made, "checkout", taken)
    event.listen(made, "checkin", returned)
    return made


@contextmanager
def transaction(
    engine: Engine, *, snapshot: bool = False, statement_timeout: timedelta | None = None
) -> Iterator[Connection]:
    """One READ ONLY transaction; with `snapshot` all its statements see the same rows (REPEATABLE READ).

    With a `statement_timeout` of its own its statements may work through whole periods.

    Raises `DatabaseUnavailable`, `StatementTimeout`, `TableMismatch` or `DatabaseError`.
    """
    try:
        with engine.connect() as connection:
            if snapshot:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                if statement_timeout is not None:
                    _allow(connection, statement_timeout)
                yield connection
    except PoolTimeout:
        raise DatabaseUnavailable("The database is busy: all connections are in use; try again shortly.") from None
    except DBAPIError as error:
        connecting = error.statement is None
        raise translated(error.orig, broken=error.connection_invalidated or connecting) from error
    except psycopg.Error as error:  # of who asks the driver itself
        raise translated(error, broken=error.sqlstate is None) from error
    except NotImplementedError as error:  # psycopg's, of a style that it does not read
        raise DatabaseError(
            f"The database writes values in a style that cannot be read: {error}. A pooler between has dropped the"
            " connection options; let it pass them on, or give the role the style: ALTER ROLE … SET DateStyle = 'ISO',"
            " and ALTER ROLE … SET IntervalStyle = 'postgres'."
        ) from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"The database could not be asked: {error}") from error


def _allow(connection: Connection, statement_timeout: timedelta) -> None:
    """Let each statement of the transaction take that long, and plan it to read and sort much."""
    milliseconds = int(statement_timeout.total_seconds() * 1000)
    connection.exec_driver_sql(_WHOLE_PERIODS, {"timeout": str(milliseconds), "memory": _MEMORY})
    driver = connection.connection.driver_connection
    if isinstance(driver, timeouts.Connection):
        driver.allow(statement_timeout)


def _json(given: bytes | str) -> Any:
    """JSON with its numbers exact; nested deeper than Python likes to go, it stays text."""
    text = given if isinstance(given, str) else given.decode()
    try:
        value = json.loads(text, parse_float=Decimal, parse_int=_integer)
    except RecursionError:
        return text
    level = [value]
    for _ in range(_DEEPEST):
        nested = [item for item in level if isinstance(item, dict | list)]
        if not nested:
            return value
        level = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
    return text


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:  # Python reads no integer of thousands of digits
        return Decimal(digits)


def _address(url: str, given: dict[str, Any]) -> URL:
    """The URL as SQLAlchemy shows it; of several hosts, which it cannot read, the first."""
    try:
        if "," not in given.get("host", ""):
            return make_url(url).set(drivername="postgresql+psycopg").difference_update_query(["options"])
        return URL.create(
            "postgresql+psycopg",
            username=given.get("user"),
            password=given.get("password"),
            host=given["host"].split(",")[0],
            port=int(given.get("port", "5432").split(",")[0]),
            database=given.get("dbname"),
        )
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "database_url: cannot be read; write postgresql://user:password@host:5432/database"
        ) from None
