"""Read-write connections, for `init`, `demo` and `load` only, and the DDL of the events table."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from usage_explore.db import DEFAULT_STORAGE, StorageOptions, citus, timeouts, timescale
from usage_explore.db import indexes as indexed
from usage_explore.db.catalog import Relation, misfits, relation
from usage_explore.db.error_mapping import translated
from usage_explore.db.schema import events_table, indexes
from usage_explore.errors import ConfigurationError, TableMismatch
from usage_explore.sql.identifiers import identifier

Connection = psycopg.Connection[tuple[Any, ...]]

_COMMENT = "One row per metered usage event, append-only; made by usage-explore"


def connect(url: str) -> Connection:
    """A read-write psycopg connection with the settings of `timeouts.SESSION`; autocommit off, no transaction begun.

    Raises `ConfigurationError` for an invalid URL, `DatabaseUnavailable` if no server answers.
    """
    given = timeouts.parameters(url)
    if "," in given.get("host", ""):  # of several servers, the primary
        given.setdefault("target_session_attrs", "read-write")
    try:
        connection = psycopg.connect(**given | {"application_name": "usage-explore"})
    except psycopg.OperationalError as error:
        raise translated(error, broken=True) from None
    connection.isolation_level = (
        psycopg.IsolationLevel.READ_COMMITTED
    )  # a statement that waited for a lock sees the changes
    for setting in timeouts.SESSION.items():  # not as connection options, which poolers refuse
        connection.execute("SELECT set_config(%s, %s, false)", setting)
    connection.commit()
    return connection


def ensure_schema(connection: Connection, table_name: str, options: StorageOptions = DEFAULT_STORAGE) -> bool:
    """Create the events table with its indexes and statistics; False if it exists.

    With TimescaleDB it becomes a hypertable with a columnstore, with `distribute` it is distributed over Citus's
    workers. One transaction, safe if several processes do it at once. An existing table with the documented columns is
    not changed.

    Raises `TableMismatch` for a view, a table with other columns, or a role that may not create tables;
    `ConfigurationError` for an option that this server does not support, or a read-only database.
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
            _create(connection, table, options)
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
            " and was not changed; `usage-explore doctor` says what differs; or choose another --table"
        )


def _create(connection: Connection, table: Table, options: StorageOptions) -> None:
    if table.schema:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(table.schema)))
    made: list[ExecutableDDLElement] = [CreateTable(table), *map(CreateIndex, indexes(table))]
    for statement in made:
        connection.execute(str(statement.compile(dialect=postgresql.dialect())))  # type: ignore[no-untyped-call]
    name = identifier(table)
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(_COMMENT)))
    if options.distribute:
        citus.distribute(connection, name)
    elif timescale.available(connection):
        timescale.settle(connection, name, options)
    found = relation(connection, table.fullname)
    assert found is not None  # noqa: S101 - created above
    for creation in indexed.create_statistics(found, indexed.missing_statistics(connection, found)):
        connection.execute(creation)
