"""The mapping of PostgreSQL's errors to ours, with the cause and a hint."""

from __future__ import annotations

import re
from typing import Any

import psycopg

from usage_explore.errors import DatabaseError, DatabaseUnavailable, NotExact, StatementTimeout, TableMismatch

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
    psycopg.errors.CannotConnectNow,
    psycopg.errors.IdleSessionTimeout,
    psycopg.errors.IdleInTransactionSessionTimeout,
)
_TOO_MANY_CONNECTIONS = re.compile(
    "too many (clients|connections)|connection slots are reserved|no more connections allowed"
)
"""Messages of PostgreSQL and pgbouncer when they refuse a connection: libpq gives no SQLSTATE then."""


def translated(error: Any, *, broken: bool) -> DatabaseError:
    """The error for psycopg's `error`; `broken`: the connection was lost or never made."""
    message = server_message(error)
    match error:
        case psycopg.errors.QueryCanceled() if "user request" in message:
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
        case psycopg.errors.TooManyConnections():
            return _too_many_connections(message)
        case psycopg.DataError() if not error.sqlstate:
            return DatabaseError(
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
    state = error.sqlstate or ""
    if broken or isinstance(error, _UNAVAILABLE) or state.startswith("08"):
        return DatabaseUnavailable(f"The database does not answer: {message}")
    if not state:
        return DatabaseError(f"The statement could not be sent to the database: {message}")
    return DatabaseError(f"The database refused the statement: {message}")


def server_message(error: psycopg.Error) -> str:
    """The primary message of the database, in one line."""
    return " ".join((error.diag.message_primary or str(error)).split())


def _too_many_connections(message: str) -> DatabaseUnavailable:
    return DatabaseUnavailable(
        f"The database has too many connections and takes no more: {message}. Try again shortly; if it persists, "
        "raise max_connections or the role's CONNECTION LIMIT.",
        "The database has too many connections right now; try again shortly.",
    )
