"""Connections that may write, for `init`, `demo` and `load` alone; everything else only reads."""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from usage_explore import network
from usage_explore.errors import ConfigurationError, TableMismatch
from usage_explore.schema import events_table, indexes
from usage_explore.shape import Relation, misfits, relation
from usage_explore.translation import translated

Connection = psycopg.Connection[tuple[Any, ...]]

_log = logging.getLogger(__name__)
_COMMENT = "One row per metered usage event, append-only; made by usage-explore"


def connect(url: str) -> Connection:
    """A psycopg connection that may write: session time zone UTC, autocommit off, nothing begun.

    Raises `ConfigurationError` for a URL that cannot be read, `DatabaseUnavailable` when nobody answers.
    """
    given = network.parameters(url)
    if "," in given.get("host", ""):  # of several servers, the one that takes writes
        given.setdefault("target_session_attrs", "read-write")
    try:
        connection = psycopg.connect(**given | {"application_name": "usage-explore"})
    except psycopg.OperationalError as error:
        raise translated(error, broken=True) from None
    connection.execute("SET TIME ZONE 'UTC'")
    connection.commit()
    return connection


def ensure_schema(connection: Connection, table_name: str) -> bool:
    """Create the events table, its indexes and, where TimescaleDB is there, its hypertable; True if created.

    All or nothing, in one transaction, and safe when several processes do it at once. An existing table with
    the documented columns is left as it is: False. Raises `TableMismatch` for a view or a table of another
    shape, and when the role may not create tables, `ConfigurationError` where the database takes no writes.
    """
    table = events_table(table_name)
    with connection.transaction():
        _check_writable(connection)
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('usage-explore ensure_schema'))")
        existing = relation(connection, table_name)
        if existing is not None:
            _check(existing, table_name)
            return False
        try:
            _create(connection, table)
        except psycopg.errors.InsufficientPrivilege as error:
            raise TableMismatch(
                f"{table_name}: this role may not create it ({error.diag.message_primary}); run"
                " `usage-explore init` with a role that may, or name an existing table with --table"
            ) from error
    return True


def _check_writable(connection: Connection) -> None:
    row = connection.execute("SELECT pg_is_in_recovery(), current_setting('transaction_read_only')").fetchone()
    replica, read_only = row or (False, "off")
    if replica or read_only == "on":
        raise ConfigurationError(
            f"database_url: this database is read-only ({'a replica' if replica else 'its default'}), so nothing can be"
            " written to it; name the primary with --database-url or USAGE_EXPLORE_DATABASE_URL. Reading works here."
        )


def is_hypertable(connection: Connection, table_name: str) -> bool:
    """Whether the events table is a TimescaleDB hypertable."""
    found = relation(connection, table_name)
    return found is not None and found.hypertable


def _check(existing: Relation, table_name: str) -> None:
    if existing.kind not in ("table", "partitioned table"):
        raise TableMismatch(
            f"{table_name}: is a {existing.kind}, which cannot be written to; load into the table behind"
            " it, or run `usage-explore doctor` to see whether it can be read"
        )
    wrong = misfits(existing)
    if wrong:
        raise TableMismatch(
            f"{table_name}: exists with other columns ({'; '.join(wrong[:3])}{'; …' if wrong[3:] else ''})"
            " and was left alone; `usage-explore doctor` says what differs; or choose another --table"
        )


def _create(connection: Connection, table: Table) -> None:
    if table.schema:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(table.schema)))
    made: list[ExecutableDDLElement] = [CreateTable(table), *map(CreateIndex, indexes(table))]
    for statement in made:
        connection.execute(str(statement.compile(dialect=postgresql.dialect())))  # type: ignore[no-untyped-call]
    name = sql.Identifier(*([table.schema] if table.schema else []), table.name)
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(_COMMENT)))
    if _timescaledb(connection):
        connection.execute(
            "SELECT create_hypertable(%s::regclass, by_range('timestamp'), create_default_indexes => false)",
            [name.as_string(connection)],
        )


def _timescaledb(connection: Connection) -> bool:
    """Whether this database has TimescaleDB, creating the extension where the server offers it."""
    row = connection.execute(
        "SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb'),"
        " EXISTS (SELECT FROM pg_available_extensions WHERE name = 'timescaledb')"
        " AND EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.max_background_workers')"  # it is preloaded
    ).fetchone()
    installed, offered = row or (False, False)
    if installed or not offered:
        return bool(installed)
    try:
        with connection.transaction():
            connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    except psycopg.errors.InsufficientPrivilege:
        _log.warning(
            "TimescaleDB is on this server, but this role may not create its extension; the events table is a plain one"
        )
        return False
    return True
