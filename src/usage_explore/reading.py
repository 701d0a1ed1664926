"""Connections that only read: the pool, READ ONLY transactions, and the database's errors in our words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from usage_explore.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailable,
    StatementTimeout,
    TableMismatch,
)

_DEEPEST = 100
"""How many levels of nested dimensions are read as such."""

_MISMATCH = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
)
_AWAY = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.CannotConnectNow,
    psycopg.errors.TooManyConnections,
    psycopg.errors.IdleSessionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
)


def engine(url: str, statement_timeout: timedelta, revive: Callable[[], object] | None = None) -> Engine:
    """A pool of at most 10 connections to `url`, each checked before use, that can only read.

    Every statement is bounded by `statement_timeout`. `revive` is called before each new connection: it starts an
    embedded server that has gone. Nothing connects yet. Raises `ConfigurationError`
    when the URL cannot be read.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "database_url: cannot be read; write postgresql://user:password@host:5432/database"
        ) from None
    given = parsed.query.get("options", "")
    options = " ".join(
        [
            given if isinstance(given, str) else " ".join(given),
            f"-c statement_timeout={int(statement_timeout.total_seconds() * 1000)}",
            "-c default_transaction_read_only=on",
            "-c TimeZone=UTC",
            "-c jit=off",
        ]
    ).strip()
    made = create_engine(
        parsed.set(drivername="postgresql+psycopg").difference_update_query(["options"]),
        json_deserializer=_json,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=5,
        pool_timeout=10,
        execution_options={"postgresql_readonly": True},
        connect_args={
            "options": options,
            "connect_timeout": 10,
            "application_name": "usage-explore",
            "client_encoding": "utf8",  # whatever the database's own is
            "prepare_threshold": None,  # a plan made for the very values, not a generic one
        },
    )
    if revive is not None:

        def before(*_: object) -> None:
            revive()

        event.listen(made, "do_connect", before)
    return made


@contextmanager
def transaction(engine: Engine, *, snapshot: bool = False) -> Iterator[Connection]:
    """One READ ONLY transaction; with `snapshot` all its statements see the same rows (REPEATABLE READ).

    Raises `DatabaseUnavailable`, `StatementTimeout`, `TableMismatch` or `DatabaseError`.
    """
    try:
        with engine.connect() as connection:
            if snapshot:
                connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                yield connection
    except PoolTimeout:
        raise DatabaseUnavailable("The database is busy: all connections are in use; try again shortly.") from None
    except DBAPIError as error:
        raise _translated(error.orig, error.connection_invalidated) from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"The database could not be asked: {error}") from error


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


def _translated(error: Any, broken: bool) -> DatabaseError:
    words = " ".join(str(getattr(getattr(error, "diag", None), "message_primary", None) or error).split())
    if isinstance(error, psycopg.errors.QueryCanceled):
        return StatementTimeout(
            "The statement took longer than the statement timeout and was cancelled; narrow the window, "
            "add a filter, or raise the timeout (USAGE_EXPLORE_STATEMENT_TIMEOUT, in seconds)."
        )
    if isinstance(error, _MISMATCH):
        return TableMismatch(
            f"The table does not fit: {words}. Run `usage-explore doctor` to see what to do, "
            "or `usage-explore init` where there is no table yet."
        )
    if isinstance(error, _AWAY) or broken or _is_connection_error(error):
        return DatabaseUnavailable(f"The database does not answer: {words}")
    return DatabaseError(f"The database refused the statement: {words}")


def _is_connection_error(error: Any) -> bool:
    return isinstance(error, psycopg.OperationalError) and (error.sqlstate is None or error.sqlstate[:2] == "08")
