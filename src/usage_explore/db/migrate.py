"""Migration of an existing events table: missing indexes and statistics, and the storage options of `init`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Index, quoted_name

from usage_explore.db import citus, indexes, timescale
from usage_explore.db.catalog import Relation, relation
from usage_explore.db.schema import INDEX_BYTES, StorageOptions, events_table
from usage_explore.errors import ConfigurationError, DatabaseUnavailable
from usage_explore.formatting import duration, size
from usage_explore.sql.rollup_tables import kept_table, rollup_table

Connection = psycopg.Connection[tuple[Any, ...]]
Say = Callable[[str], object]


def migrate_table(connection: Connection, table_name: str, options: StorageOptions, say: Say) -> None:
    """Create what is missing and apply the given options; `say` is called with each step before it begins.

    Writers continue while indexes are created, unless `say` announces otherwise. The connection must be in no
    transaction; each step is a transaction, so that an interrupted run can be repeated. Other settings are unchanged.

    Raises `ConfigurationError` for an option that this server does not support, `DatabaseUnavailable` while another
    `init` runs on this database.
    """
    connection.autocommit = True
    try:
        _alone(connection)
        found = _found(connection, table_name)
        for step in (_storage, _settings, _spread, _indexes, _statistics):
            step(connection, found, options, say)
            found = _found(connection, table_name)
    finally:
        connection.execute("SELECT pg_advisory_unlock_all()")
        connection.autocommit = False


def _alone(connection: Connection) -> None:
    # without waiting: CREATE INDEX CONCURRENTLY would wait for the statement that waits for the lock
    row = connection.execute("SELECT pg_try_advisory_lock(hashtext('usage-explore init'))").fetchone()
    if not (row and row[0]):
        raise DatabaseUnavailable("Another `usage-explore init` is running on this database; wait until it ends.")


def _found(connection: Connection, table_name: str) -> Relation:
    found = relation(connection, table_name)
    assert found is not None  # noqa: S101 - ensure_schema has created it
    return found


def _name(found: Relation) -> sql.Identifier:
    return sql.Identifier(found.schema, found.name)


def _storage(connection: Connection, found: Relation, options: StorageOptions, say: Say) -> None:
    """With `migrate`: make a hypertable of a plain table."""
    if not options.migrate or found.hypertable:
        return
    if not timescale.available(connection):
        raise ConfigurationError("--migrate: this database has no TimescaleDB; leave the option out, or install it")
    say("Moving the rows into chunks; the table is locked meanwhile.")
    with connection.transaction():
        interval = timescale.settle(connection, _name(found), options, migrate=True)
    connection.execute(sql.SQL("ANALYZE {}").format(_name(found)))
    say(f"Each chunk holds {duration(interval)}.")


def _settings(connection: Connection, found: Relation, options: StorageOptions, say: Say) -> None:
    """With `events_per_day` or `columnstore_after`: change the settings of a hypertable."""
    if not found.hypertable:
        return
    now = timescale.state(connection, found.schema, found.name)
    if options.events_per_day is not None:
        interval = timescale.interval_for(connection, options.events_per_day)
        if interval != now.interval:
            say(f"New chunks are {duration(interval)} long instead of {duration(now.interval)}; existing ones stay.")
            timescale.set_interval(connection, _name(found), interval)
    if options.columnstore_after is not None:
        _columnstore(connection, found, now, options.columnstore_after, say)


def _columnstore(
    connection: Connection, found: Relation, now: timescale.Hypertable, after: timedelta, say: Say
) -> None:
    if after and not timescale.has_columnstore(connection):
        raise ConfigurationError(
            "--columnstore-after: this TimescaleDB has no columnstore; it comes with 2.18 under the Timescale licence"
        )
    if after == now.after or not (after or now.segment_by is not None):
        return
    with connection.transaction():
        if after and now.segment_by is None:
            timescale.enable_columnstore(connection, _name(found))
        timescale.set_policy(connection, _name(found), after)
        if not after and not now.columnar:
            timescale.disable_columnstore(connection, _name(found))
    if after:
        say(f"Chunks move to the columnstore once their events are older than {duration(after)}.")
    else:
        say(f"Chunks no longer move to the columnstore; {now.columnar:,} are there and stay.")


def _spread(connection: Connection, found: Relation, options: StorageOptions, say: Say) -> None:
    """With `distribute`: distribute the table over Citus's workers."""
    if not options.distribute or found.distributed == citus.COLUMN:
        return
    if found.distributed is not None:
        raise ConfigurationError(
            f"--distribute: {found.name} is distributed by {found.distributed} already and was not changed; to change"
            f" it: SELECT alter_distributed_table('{found.schema}.{found.name}', '{citus.COLUMN}');"
        )
    say(f"Spreading the table over Citus's workers by {citus.COLUMN}; writers wait meanwhile.")
    citus.distribute(connection, _name(found))
    events = events_table(f"{found.schema}.{found.name}")
    for name in (sql.Identifier(found.schema, table.name) for table in (rollup_table(events), kept_table(events))):
        if connection.execute("SELECT WHERE to_regclass(%s) IS NOT NULL", [name.as_string(connection)]).rowcount:
            citus.distribute_beside(connection, name, _name(found))


def _indexes(connection: Connection, found: Relation, options: StorageOptions, say: Say) -> None:
    existing = indexes.existing(connection, found)
    for index in indexes.wanted(found):
        if not any(other.serves(index) for other in existing):
            if any(other.falls_short_of(index) for other in existing):
                _replace(connection, found, index, say)
            else:
                _make(connection, found, index, say)


def _make(connection: Connection, found: Relation, index: Index, say: Say) -> None:
    name = sql.Identifier(found.schema, str(index.name))
    row = connection.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)", [name.as_string(connection)]
    ).fetchone()
    if row is not None and row[0]:
        say(f"Left alone: {index.name} exists with other columns; `usage-explore doctor` says which are wanted.")
        return
    if row is not None:  # from an interrupted run
        connection.execute(sql.SQL("DROP INDEX {}").format(name))
    room = f", about {size(found.rows * INDEX_BYTES[indexes.purpose(index)])}" if found.rows > 0 else ""
    waiting = "writers wait meanwhile" if indexes.blocks(index, found) else "writers continue"
    say(f"Making the index {index.name}{room}; {waiting}.")
    try:
        connection.execute(indexes.create(index, found))
    except psycopg.errors.UniqueViolation:
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(name))
        say(
            f"Not made: {index.name}, because events share organization, time and id; delete the duplicates and run"
            " this again."
        )


def _replace(connection: Connection, found: Relation, index: Index, say: Say) -> None:
    """Replace an index of an older version by one with more columns, which is created before the old one is dropped."""
    name = str(index.name)
    fuller = f"{found.name}_new_{indexes.purpose(index)}"
    index.name = quoted_name(fuller, quote=None)
    _make(connection, found, index, say)
    say(f"Dropping {name}, which the new index replaces.")
    connection.execute(indexes.drop(name, found))
    connection.execute(
        sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(found.schema, fuller), sql.Identifier(name))
    )


def _statistics(connection: Connection, found: Relation, options: StorageOptions, say: Say) -> None:
    missing = indexes.missing_statistics(connection, found)
    if not missing:
        return
    say("Creating statistics on which values occur together with which organization.")
    for statement in indexes.create_statistics(found, missing):
        connection.execute(statement)
    connection.execute(sql.SQL("ANALYZE {}").format(_name(found)))
