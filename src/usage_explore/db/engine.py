"""Read-only connections: the pool, READ ONLY transactions, and the mapping of PostgreSQL's errors to ours."""

from __future__ import annotations

import json
import random
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from typing import Any

import psycopg
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.dialects.postgresql.base import PGTypeCompiler
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool
from sqlalchemy.util.queue import Empty, Queue

from usage_explore.db import timeouts, timescale
from usage_explore.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailable,
    NotExact,
    SettingsMismatch,
    StatementTimeout,
    TableMismatch,
)


class TypeCompiler(PGTypeCompiler):
    """Binds texts as TEXT: the server's operators have no VARCHAR, and one that a role created would precede them."""

    def visit_VARCHAR(self, type_: Any, **_: Any) -> str:  # noqa: N802 - SQLAlchemy's name
        """TEXT for every text without a length."""
        return "TEXT"


@dataclass(eq=False, slots=True)
class _Turn:
    """A thread that waits, and the connection that it is given."""

    served: threading.Event = field(default_factory=threading.Event)
    item: ConnectionPoolEntry | None = None


class _OrderedQueue(Queue[ConnectionPoolEntry]):
    def __init__(self, maxsize: int = 0, use_lifo: bool = False) -> None:
        super().__init__(maxsize, use_lifo)
        self._waiting: deque[_Turn] = deque()

    def get(self, block: bool = True, timeout: float | None = None) -> ConnectionPoolEntry:
        with self.mutex:
            if not self._waiting and not self._empty():
                return self._get()
            if not block:
                raise Empty()
            turn = _Turn()
            self._waiting.append(turn)
        try:
            turn.served.wait(timeout)
        except BaseException:  # such as KeyboardInterrupt
            if (item := self._leave(turn)) is not None:
                self.put(item)
            raise
        if (item := self._leave(turn)) is None:
            raise Empty()
        return item

    def _leave(self, turn: _Turn) -> ConnectionPoolEntry | None:
        with self.mutex:
            if turn.item is None:
                self._waiting.remove(turn)
            return turn.item

    def put(self, item: ConnectionPoolEntry, block: bool = True, timeout: float | None = None) -> None:
        with self.mutex:  # an RLock
            if not self._waiting:
                super().put(item, block, timeout)
                return
            turn = self._waiting.popleft()
            turn.item = item
            turn.served.set()


class OrderedPool(QueuePool):
    """A pool of connections that serves threads in the order in which they began to wait.

    SQLAlchemy's pool does not: a thread that returns a connection and asks for the next one at once gets it, and a
    thread that waits may starve until it times out.
    """

    _queue_class = _OrderedQueue


_MAX_JSON_DEPTH = 100
"""Levels of nested dimensions that are parsed; deeper ones stay text."""

_CONNECTION_LIFETIME_SECONDS = (150, 450)
"""Bounds of a connection's lifetime, randomized. PostgreSQL backends never return the memory of their largest result,
so connections are recycled."""

_LONG_STATEMENT_MEMORY_BYTES = 128 * 2**20
"""`work_mem` of statements with a time limit of their own, for each sort or hash."""

_LONG_STATEMENT_SETTINGS = """
SELECT set_config('statement_timeout', %(timeout)s, true),
       set_config('enable_incremental_sort', 'off', true),
       set_config('work_mem',
                  (greatest(pg_size_bytes(current_setting('work_mem')), %(memory)s) / 1024)::text || 'kB'::text, true)
"""
"""Incremental sorts read the whole table by an index, row by row: 35 s instead of 9 for 10 million events."""

_MAX_IDLE_IN_TRANSACTION_MS = 300_000
"""Milliseconds that a transaction may be idle: longer than the pauses of an export to a slow client."""

_MISMATCH = (
    psycopg.errors.UndefinedTable,
    psycopg.errors.UndefinedColumn,
    psycopg.errors.UndefinedFunction,
    psycopg.errors.DatatypeMismatch,
    psycopg.errors.InvalidSchemaName,
    psycopg.errors.InsufficientPrivilege,
)
_UNAVAILABLE = (
    psycopg.errors.AdminShutdown,
    psycopg.errors.CrashShutdown,
    psycopg.errors.IdleSessionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
_TOO_MANY_CONNECTIONS = re.compile(
    "too many (clients|connections)|connection slots are reserved|no more connections allowed"
)
"""Messages of PostgreSQL and pgbouncer when they refuse a connection: libpq gives no SQLSTATE then. In another language
the error is that of a refusal, without advice."""

_SETTING = "--database-url or USAGE_EXPLORE_DATABASE_URL"
_REFUSALS = (
    (
        r'database ".*" does not exist|no such database',
        f"The server answers: create the database there, or name another one in {_SETTING}",
    ),
    (
        r'role ".*" does not exist|no such user',
        f"The server answers: create the role there, or name another one in {_SETTING}",
    ),
    (
        r"no pg_hba\.conf entry|pg_hba\.conf rejects",
        "Let this host, role and database in there, or name others in " + _SETTING,
    ),
    (
        r"no password supplied|password authentication failed|authentication failed",
        f"Correct role and password in {_SETTING}",
    ),
    (r"not permitted to log in", "Let it: ALTER ROLE … LOGIN"),
    (r"permission denied for database", "Let this role in: GRANT CONNECT ON DATABASE … TO …"),
)
"""Messages of servers that refuse a connection for its parameters, and what to do about each.

libpq gives no SQLSTATE of a connection that was not made. A server that speaks another language than English (its
`lc_messages`) is recognized by `_ANSWER`: its message is said without a fix.
"""

_ANSWER = re.compile(r"(?:^|: )\S+:  \S")
"""A server's answer in the messages of libpq, in any language: the severity, two spaces, the message."""

_NOT_YET = re.compile(r"the database system is |not yet accepting connections")
"""Messages of a server that starts, recovers or shuts down."""

_REFUSED_PUBLIC = "The database refuses the connection of this service; its administrator has to correct the settings."


def engine(url: str, statement_timeout: timedelta, revive: Callable[[], object] | None = None) -> Engine:
    """A pool of at most 10 connections to `url`, each checked before use, that can only read.

    `statement_timeout` bounds every statement; a connection whose server is still silent shortly after it is closed.
    `revive` is called before each new connection, to restart an embedded server. The pool connects at first use.
    Raises `ConfigurationError` for an invalid URL.
    """
    settings = {
        "statement_timeout": int(statement_timeout.total_seconds() * 1000),
        "idle_in_transaction_session_timeout": _MAX_IDLE_IN_TRANSACTION_MS,
        "idle_session_timeout": 0,  # connections of the pool are idle; it ends them itself
        "tcp_keepalives_idle": 60,  # the server also closes the connections of lost clients
        "tcp_keepalives_interval": 10,
        "tcp_keepalives_count": 6,
        "default_transaction_read_only": "on",
        "jit": "off",
        "parallel_setup_cost": "5000",  # the tail beside an extract is read before a worker has started
    }
    given = timeouts.parameters(url, settings) | {
        "application_name": "usage-explore",
        "prepare_threshold": None,  # plans for the actual values, not generic ones
    }
    made = create_engine(
        _address(url, given),
        json_deserializer=parsed_json,
        poolclass=OrderedPool,
        pool_pre_ping=True,
        pool_size=10,  # connecting takes longer than a query
        max_overflow=0,
        pool_timeout=10,
        execution_options={"postgresql_readonly": True},
        use_native_hstore=False,
    )

    made.dialect.type_compiler_instance = TypeCompiler(made.dialect)

    def connected(_dialect: object, _record: object, _arguments: object, more: dict[str, Any]) -> timeouts.Connection:
        if revive is not None:
            try:
                revive()
            except ConfigurationError as error:  # its disk is full: retry later, the settings are valid
                raise DatabaseUnavailable(str(error)) from error
        return timeouts.Connection.connect(**given, context=more["context"])

    def opened(connection: timeouts.Connection, record: ConnectionPoolEntry) -> None:
        timescale.expect_all_rows(connection)
        record.info["leaves"] = time.monotonic() + random.uniform(*_CONNECTION_LIFETIME_SECONDS)  # noqa: S311 - so that they do not all end at once

    def taken(connection: timeouts.Connection, *_: object) -> None:
        connection.allow(statement_timeout)

    def returned(connection: timeouts.Connection | None, record: ConnectionPoolEntry) -> None:
        if connection is not None:  # the check whether it is alive returns at once
            connection.max_silence_seconds = timeouts.MAX_SILENCE_SECONDS
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

    With a `statement_timeout` of its own, its statements also get more memory, for reading whole periods.

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
    except psycopg.Error as error:  # from direct use of the driver
        raise translated(error, broken=error.sqlstate is None) from error
    except NotImplementedError as error:
        raise unparsed_style(error) from error
    except SQLAlchemyError as error:
        raise DatabaseError(f"The database could not be queried: {error}") from error


def unparsed_style(error: NotImplementedError) -> SettingsMismatch:
    """The error in words where psycopg raises this for a style of times or intervals that it does not parse."""
    style = "IntervalStyle" if "interval" in str(error).casefold() else "DateStyle"
    variable = "If the environment variable PGDATESTYLE is set, unset it: it goes before every other setting. Else"
    return SettingsMismatch(
        f"The session's {style} is one in which values cannot be parsed: {error}."
        f" {variable if style == 'DateStyle' else 'Here'} a pooler has dropped the connection options: let it pass"
        f" them on, or run ALTER ROLE … SET {style} = '{_PARSED_STYLES[style]}'."
    )


def _allow(connection: Connection, statement_timeout: timedelta) -> None:
    """Set the time limit of the transaction's statements, and planner settings for large reads and sorts."""
    milliseconds = int(statement_timeout.total_seconds() * 1000)
    connection.exec_driver_sql(
        _LONG_STATEMENT_SETTINGS, {"timeout": str(milliseconds), "memory": _LONG_STATEMENT_MEMORY_BYTES}
    )
    driver = connection.connection.driver_connection
    if isinstance(driver, timeouts.Connection):
        driver.allow(statement_timeout)


_PARSED_STYLES = {"DateStyle": "ISO", "IntervalStyle": "postgres"}
"""The styles that psycopg parses."""


def parsed_json(given: bytes | str) -> Any:
    """JSON with exact numbers; text if it is nested deeper than `_MAX_JSON_DEPTH`."""
    text = given if isinstance(given, str) else given.decode()
    try:
        value = _EXACT_JSON.decode(text)
    except RecursionError:
        return text
    if text.count("{") + text.count("[") <= 1:
        return value
    level = [value]
    for _ in range(_MAX_JSON_DEPTH):
        nested = [item for item in level if isinstance(item, dict | list)]
        if not nested:
            return value
        level = [inner for item in nested for inner in (item.values() if isinstance(item, dict) else item)]
    return text


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:  # Python parses no integers of more than 4,300 digits
        return Decimal(digits)


_EXACT_JSON = json.JSONDecoder(parse_float=Decimal, parse_int=_integer)
"""Made once: `json.loads` with these arguments makes a decoder for each text."""


def _address(url: str, given: dict[str, Any]) -> URL:
    """The URL for SQLAlchemy, which supports one host: the first of several."""
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


def translated(error: Any, *, broken: bool) -> DatabaseError:
    """The error for psycopg's `error`; `broken`: the connection was lost or never made."""
    message = server_message(error)
    match error:
        case psycopg.errors.QueryCanceled() if timeouts.ended_early(error):
            return DatabaseUnavailable("The statement was cancelled in the database; ask again.")
        case psycopg.errors.QueryCanceled():
            return StatementTimeout(
                "The statement took longer than the statement timeout and was cancelled; narrow the window, "
                "add a filter, or raise the timeout (USAGE_EXPLORE_STATEMENT_TIMEOUT, in seconds)."
            )
        case psycopg.errors.TransactionTimeout():
            return StatementTimeout(
                "The transaction took longer than the role's or the database's transaction_timeout and was ended; "
                "narrow the window, add a filter, or raise it: ALTER ROLE … SET transaction_timeout = 0."
            )
        case psycopg.errors.SerializationFailure() | psycopg.errors.DeadlockDetected():
            return DatabaseUnavailable(
                "The database is a replica and cancelled the statement to keep up with its primary; ask again. "
                "If it happens often, max_standby_streaming_delay or hot_standby_feedback gives more time.",
                "The database cancelled the statement to keep up with its primary; ask again.",
            )
        case psycopg.errors.NumericValueOutOfRange():
            return NotExact(
                "The numbers add up to more than the database can hold (131,072 digits before the decimal point), so "
                "there is no exact answer; counting still works, and a narrower window or a filter may."
            )
        case psycopg.errors.DiskFull():
            return DatabaseUnavailable(
                f"The database server's disk is full: {message}. Make room there, or narrow the window meanwhile.",
                "The database server's disk is full; narrow the window, or try again when there is room.",
            )
        case psycopg.errors.ConfigurationLimitExceeded() | psycopg.errors.OutOfMemory():
            return DatabaseUnavailable(
                f"The statement needs more room than the database server gives it: {message}. Narrow the window, "
                "add a filter, or ask the administrator for more.",
                "The statement needs more room than the database server gives it; narrow the window or add a filter.",
            )
        case psycopg.errors.CannotConnectNow():
            return _not_yet(message)
        case psycopg.errors.TooManyConnections():
            return _too_many_connections(message)
        case psycopg.DataError() if not error.sqlstate:
            return TableMismatch(
                f"The database holds a value that cannot be read here: {message}. `usage-explore doctor` counts and"
                " names rows with impossible times; correct or delete them."
            )
        case psycopg.Error() if isinstance(error, _MISMATCH):
            return TableMismatch(
                f"The table does not fit: {message}. Run `usage-explore doctor` to see what to do, "
                "or `usage-explore init` if there is no table yet."
            )
    if broken and _TOO_MANY_CONNECTIONS.search(message):
        return _too_many_connections(message)
    if broken and (refusal := _refusal(message, is_answered=_ANSWER.search(str(error)) is not None)):
        return refusal
    state = error.sqlstate or ""
    if broken and "closed the connection unexpectedly" in message:  # all that is seen of a transaction_timeout
        return DatabaseUnavailable(
            f"The database does not answer: {message}. If every query ends so, the role's or the database's"
            " transaction_timeout may be too short: `usage-explore doctor` says what it is.",
            "The database closed the connection; try again shortly. If it persists, its administrator has to correct"
            " the settings.",
        )
    if broken or isinstance(error, _UNAVAILABLE) or state.startswith("08"):
        return DatabaseUnavailable(f"The database does not answer: {message}")
    if not state:
        return DatabaseError(f"The statement could not be sent to the database: {message}")
    return DatabaseError(f"The database refused the statement: {message}")


def _refusal(message: str, *, is_answered: bool) -> DatabaseUnavailable | None:
    """The error for a server that answers and refuses the connection; None where none answered."""
    if is_answered and _NOT_YET.search(message):
        return _not_yet(message)
    for pattern, fix in _REFUSALS:
        if re.search(pattern, message):
            return DatabaseUnavailable(f"The database refuses the connection: {message}. {fix}.", _REFUSED_PUBLIC)
    if not is_answered:
        return None
    return DatabaseUnavailable(
        f"The database refuses the connection: {message}",
        "The database refuses the connection of this service at the moment; try again shortly. If it persists, its"
        " administrator has to correct the settings.",
    )


def _not_yet(message: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"The database takes no connections at the moment, while it starts, recovers or shuts down: {message}."
        " Try again shortly.",
        "The database is starting, recovering or shutting down; try again shortly.",
    )


def server_message(error: psycopg.Error) -> str:
    """The primary message of the database, in one line."""
    return " ".join((error.diag.message_primary or str(error)).split())


def _too_many_connections(message: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"The database has too many connections and takes no more: {message}. Try again shortly; if it persists, "
        "raise max_connections or the role's CONNECTION LIMIT.",
        "The database has too many connections right now; try again shortly.",
    )
