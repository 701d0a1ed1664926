"""Give an existing events table what it lacks: indexes, statistics, and what `init` was asked to change."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Index, quoted_name

from usage_explore.db import citus, indexes, timescale
from usage_explore.db.catalog import Relation, relation
from usage_explore.db.schema import INDEX_BYTES, events_table
from usage_explore.db.storage_options import Wishes
from usage_explore.errors import ConfigurationError, DatabaseUnavailable
from usage_explore.formatting import duration, size
from usage_explore.sql.rollup_tables import kept_table, rollup_table

Connection = psycopg.Connection[tuple[Any, ...]]
Say = Callable[[str], object]


def arrange(connection: Connection, table_name: str, wishes: Wishes, say: Say) -> None:
    """Make what is missing and change what was asked for, saying each step before it begins.

    Writers go on while indexes are made, except where it is said. The connection must be in no transaction; each
    step is one of its own, so that an interrupted run can be repeated. Settings not asked for stay as they are.

    Raises `ConfigurationError` for a wish this server cannot grant, `DatabaseUnavailable` when another `init` is at
    work on this database.
    """
    connection.autocommit = True
    try:
        _alone(connection)
        found = _found(connection, table_name)
        for step in (_storage, _settings, _spread, _indexes, _statistics):
            step(connection, found, wishes, say)
            found = _found(connection, table_name)
    finally:
        connection.execute("SELECT pg_advisory_unlock_all()")
        connection.autocommit = False


def _alone(connection: Connection) -> None:
    # not waiting for the lock: CREATE INDEX CONCURRENTLY waits for everyone who waits in a statement
    row = connection.execute("SELECT pg_try_advisory_lock(hashtext('usage-explore init'))").fetchone()
    if not (row and row[0]):
        raise DatabaseUnavailable("Another `usage-explore init` is at work on this database; wait until it is done.")


def _found(connection: Connection, table_name: str) -> Relation:
    found = relation(connection, table_name)
    assert found is not None  # noqa: S101 - made before
    return found


def _name(found: Relation) -> sql.Identifier:
    return sql.Identifier(found.schema, found.name)


def _storage(connection: Connection, found: Relation, wishes: Wishes, say: Say) -> None:
    """A hypertable of a plain table, where that was asked for."""
    if not wishes.migrate or found.hypertable:
        return
    if not timescale.available(connection):
        raise ConfigurationError("--migrate: this database has no TimescaleDB; leave the option out, or install it")
    say("Moving the rows into chunks; nobody can use the table meanwhile.")
    with connection.transaction():
        interval = timescale.settle(connection, _name(found), wishes, migrate=True)
    connection.execute(sql.SQL("ANALYZE {}").format(_name(found)))
    say(f"Each chunk holds {duration(interval)}.")


def _settings(connection: Connection, found: Relation, wishes: Wishes, say: Say) -> None:
    """A hypertable's settings, where others were asked for."""
    if not found.hypertable:
        return
    now = timescale.state(connection, found.schema, found.name)
    if wishes.events_per_day is not None:
        interval = timescale.interval_for(connection, wishes.events_per_day)
        if interval != now.interval:
            say(f"New chunks are {duration(interval)} long instead of {duration(now.interval)}; those there stay.")
            timescale.set_interval(connection, _name(found), interval)
    if wishes.columnstore_after is not None:
        _columnstore(connection, found, now, wishes.columnstore_after, say)


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


def _spread(connection: Connection, found: Relation, wishes: Wishes, say: Say) -> None:
    """The table on Citus's workers, where that was asked for."""
    if not wishes.distribute or found.distributed == citus.COLUMN:
        return
    if found.distributed is not None:
        raise ConfigurationError(
            f"--distribute: {found.name} is distributed by {found.distributed} already and was left so; to change it:"
            f" SELECT alter_distributed_table('{found.schema}.{found.name}', '{citus.COLUMN}');"
        )
    say(f"Spreading the table over Citus's workers by {citus.COLUMN}; writers wait meanwhile.")
    citus.distribute(connection, _name(found))
    events = events_table(f"{found.schema}.{found.name}")
    for name in (sql.Identifier(found.schema, table.name) for table in (rollup_table(events), kept_table(events))):
        if connection.execute("SELECT WHERE to_regclass(%s) IS NOT NULL", [name.as_string(connection)]).rowcount:
            citus.distribute_beside(connection, name, _name(found))


def _indexes(connection: Connection, found: Relation, wishes: Wishes, say: Say) -> None:
    there = indexes.existing(connection, found)
    for index in indexes.wanted(found):
        if not any(each.serves(index) for each in there):
            if any(each.falls_short_of(index) for each in there):
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
    if row is not None:  # an interrupted run's
        connection.execute(sql.SQL("DROP INDEX {}").format(name))
    room = f", about {size(found.rows * INDEX_BYTES[indexes.purpose(index)])}" if found.rows > 0 else ""
    waiting = "writers wait meanwhile" if indexes.blocks(index, found) else "writers go on"
    say(f"Making the index {index.name}{room}; {waiting}.")
    try:
        connection.execute(indexes.create(index, found))
    except psycopg.errors.UniqueViolation:
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(name))
        say(
            f"Not made: {index.name}, since events share organization, time and id; remove the doubles, then run again."
        )


def _replace(connection: Connection, found: Relation, index: Index, say: Say) -> None:
    """A fuller index in the place of one that an older version made, which serves until the new one is there."""
    name = str(index.name)
    fuller = f"{found.name}_new_{indexes.purpose(index)}"
    index.name = quoted_name(fuller, quote=None)
    _make(connection, found, index, say)
    say(f"Dropping {name}, whose place the new index takes.")
    connection.execute(indexes.drop(name, found))
    connection.execute(
        sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(found.schema, fuller), sql.Identifier(name))
    )


def _statistics(connection: Connection, found: Relation, wishes: Wishes, say: Say) -> None:
    missing = indexes.missing_statistics(connection, found)
    if not missing:
        return
    say("Telling the planner which organization has which values.")
    for statement in indexes.create_statistics(found, missing):
        connection.execute(statement)
    connection.execute(sql.SQL("ANALYZE {}").format(_name(found)))
