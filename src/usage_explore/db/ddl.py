"""Read-write connections, for `init`, `demo` and `load` only; creation and migration of the events table.

Citus distributes the table by organization. Every statement is about one organization, so the coordinator sends it to
the one worker with its rows: no results are merged, all statements are supported, and the unique index on
(organization, time, id) holds for the whole cluster. But the queries of the largest organization have the processors of
one worker. Distributed by `id` they have all, but even a small query runs on every shard. Measured on 1.5 million
events, 80 % of them of one organization, 32 shards on 2 workers of a busy 2-core machine, in ms:

                              by organization_id    by id
    first page                        5               54
    one customer's quarter            8              109
    30 days by day, by metric       242              180
    90 days by hour, sums          1189              474

`id` is faster for wide aggregates, which an extract answers, and slower for what happens on every click.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy import Index, Table, quoted_name
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable, ExecutableDDLElement

from usage_explore.db import DEFAULT_STORAGE, StorageOptions, catalog, timeouts, timescale
from usage_explore.db.catalog import Relation, misfits, relation
from usage_explore.db.engine import translated
from usage_explore.db.names import add_units, lacks_units
from usage_explore.db.schema import INDEX_BYTES, events_table, indexes, names_index, names_table, split_name
from usage_explore.errors import ConfigurationError, DatabaseUnavailable, TableMismatch
from usage_explore.formatting import duration, size
from usage_explore.sql.identifiers import identifier

Connection = psycopg.Connection[tuple[Any, ...]]

_COMMENT = "One row per metered usage event, append-only; made by usage-explore"
_NAMES_COMMENT = "Names of organizations, customers, products and subscriptions; made by usage-explore"

_MAY_LOAD = """
SELECT has_database_privilege(current_database(), 'TEMPORARY'),
       CASE WHEN %(table)s::oid IS NOT NULL
            THEN has_table_privilege(%(table)s::oid, 'SELECT') AND has_table_privilege(%(table)s::oid, 'INSERT')
            WHEN to_regnamespace(coalesce(quote_ident(%(schema)s), quote_ident(current_schema()))) IS NOT NULL
            THEN has_schema_privilege(coalesce(%(schema)s, current_schema()), 'CREATE')
            ELSE has_database_privilege(current_database(), 'CREATE') END
"""

_Say = Callable[[str], object]

Fill = Callable[[bool], object]
"""Inserts the first rows of a new table; called with whether COPY may write them frozen, for no VACUUM to visit."""

DISTRIBUTION_COLUMN = "organization_id"


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
    timescale.expect_all_rows(connection)
    return connection


def ensure_schema(
    connection: Connection,
    table_name: str,
    options: StorageOptions = DEFAULT_STORAGE,
    names_table_name: str | None = None,
    fill: Fill | None = None,
) -> bool:
    """Create the events table with its indexes and statistics; False if it exists. Create the table of names, too.

    If an existing events table lacks the table of names and this role may not create it, there are no names. A table
    of names without the column of units gains it, if this role owns the table.

    `fill` is called in the same transaction to insert the first rows: into a plain table before its indexes exist,
    which are created faster from rows than row by row. Other sessions see the table only when it is complete.

    With TimescaleDB it becomes a hypertable with a columnstore, with `distribute` it is distributed over Citus's
    workers. One transaction, safe if several processes do it at once. An existing table with the documented columns is
    not changed.

    Raises `TableMismatch` for a view, a table with other columns, or a role that may not create tables;
    `ConfigurationError` for an option that this server does not support, or a read-only database.
    """
    table = events_table(table_name)
    with connection.transaction():
        _check_writable(connection)
        connection.execute("SELECT pg_advisory_xact_lock(hashtext('usage-explore ensure_schema')::bigint)")
        existing = relation(connection, table_name)
        if existing is not None:
            _check(existing, table_name)
            table.schema = existing.schema  # the names lie beside it, wherever the search path finds it
            with suppress(psycopg.errors.InsufficientPrivilege), connection.transaction():
                _create_names(connection, names_table(names_table_name, table))
            return False
        try:
            _create(connection, table, options, fill)
            _create_names(connection, names_table(names_table_name, table))
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


def check_loadable(connection: Connection, table_name: str) -> None:
    """Raise `TableMismatch` or `ConfigurationError` if this role cannot load events into the table, or create it."""
    with connection.transaction():
        _check_writable(connection)
        existing = relation(connection, table_name)
        if existing is not None:
            _check(existing, table_name)
        oid = None if existing is None else existing.oid
        schema = split_name(table_name)[0]
        row = connection.execute(_MAY_LOAD, {"table": oid, "schema": schema}).fetchone()
        if not (row and all(row)):
            raise TableMismatch(
                f"{table_name}: this database role may only read; loading needs SELECT and INSERT on the table and"
                " TEMPORARY on the database"
                if existing
                else f"{table_name}: there is no such table, and this database role may not create it"
            )


def is_hypertable(connection: Connection, table_name: str) -> bool:
    """Whether the events table is a TimescaleDB hypertable."""
    current = relation(connection, table_name)
    return current is not None and current.hypertable


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


def _create(connection: Connection, table: Table, options: StorageOptions, fill: Fill | None) -> None:
    if table.schema:
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(table.schema)))
    is_plain = not options.distribute and not timescale.available(connection)
    _run(connection, CreateTable(table))
    if fill and is_plain:
        fill(True)
    for index in indexes(table):
        _run(connection, CreateIndex(index))
    name = identifier(table)
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(name, sql.Literal(_COMMENT)))
    if options.distribute:
        distribute(connection, name)
    elif not is_plain:
        timescale.settle(connection, name, options)
    current = relation(connection, table.fullname)
    assert current is not None  # noqa: S101 - created above
    for creation in catalog.create_statistics(current, catalog.missing_statistics(connection, current)):
        connection.execute(creation)
    if fill and not is_plain:
        fill(False)


def _run(connection: Connection, statement: ExecutableDDLElement) -> None:
    connection.execute(str(statement.compile(dialect=postgresql.dialect())))  # type: ignore[no-untyped-call]


def _create_names(connection: Connection, names: Table) -> None:
    """Create the table of names; one that exists gains the column of units, if this role may add it at once."""
    existing = relation(connection, names.fullname)
    if existing is not None:
        owns = "SELECT FROM pg_class WHERE oid = %s::oid AND pg_has_role(relowner, 'USAGE')"
        if lacks_units(connection, names, existing) and connection.execute(owns, [existing.oid]).rowcount:
            # a statement that waits for its lock would make all later readers wait
            with suppress(psycopg.errors.LockNotAvailable), connection.transaction():
                lock = sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE NOWAIT")
                connection.execute(lock.format(identifier(names)))
                connection.execute(add_units(names))
        return
    _run(connection, CreateTable(names))
    _run(connection, CreateIndex(names_index(names)))
    connection.execute(sql.SQL("COMMENT ON TABLE {} IS {}").format(identifier(names), sql.Literal(_NAMES_COMMENT)))


def migrate_table(connection: Connection, table_name: str, options: StorageOptions, say: _Say) -> None:
    """Create what is missing and apply the given options; `say` is called with each step before it begins.

    Writers continue while indexes are created, unless `say` announces otherwise. The connection must be in no
    transaction; each step is a transaction, so that an interrupted run can be repeated. Other settings are unchanged.

    Raises `ConfigurationError` for an option that this server does not support, `DatabaseUnavailable` while another
    `init` runs on this database.
    """
    connection.autocommit = True
    try:
        _alone(connection)
        current = _existing(connection, table_name)
        for step in (_storage, _settings, _spread, _indexes, _statistics):
            step(connection, current, options, say)
            current = _existing(connection, table_name)
    finally:
        connection.execute("SELECT pg_advisory_unlock_all()")
        connection.autocommit = False


def _alone(connection: Connection) -> None:
    # without waiting: CREATE INDEX CONCURRENTLY would wait for the statement that waits for the lock
    row = connection.execute("SELECT pg_try_advisory_lock(hashtext('usage-explore init')::bigint)").fetchone()
    if not (row and row[0]):
        raise DatabaseUnavailable("Another `usage-explore init` is running on this database; wait until it ends.")


def _existing(connection: Connection, table_name: str) -> Relation:
    current = relation(connection, table_name)
    assert current is not None  # noqa: S101 - ensure_schema has created it
    return current


def _name(current: Relation) -> sql.Identifier:
    return sql.Identifier(current.schema, current.name)


def _storage(connection: Connection, current: Relation, options: StorageOptions, say: _Say) -> None:
    """With `migrate`: make a hypertable of a plain table."""
    if not options.migrate or current.hypertable:
        return
    if not timescale.available(connection):
        raise ConfigurationError("--migrate: this database has no TimescaleDB; leave the option out, or install it")
    say("Moving the rows into chunks; the table is locked meanwhile.")
    with connection.transaction():
        interval = timescale.settle(connection, _name(current), options, migrate=True)
    connection.execute(sql.SQL("ANALYZE {}").format(_name(current)))
    say(f"Each chunk holds {duration(interval)}.")


def _settings(connection: Connection, current: Relation, options: StorageOptions, say: _Say) -> None:
    """With `events_per_day` or `columnstore_after`: change the settings of a hypertable."""
    if not current.hypertable:
        return
    now = timescale.state(connection, current.schema, current.name)
    if options.events_per_day is not None:
        interval = timescale.interval_for(connection, options.events_per_day)
        if interval != now.interval:
            say(f"New chunks are {duration(interval)} long instead of {duration(now.interval)}; existing ones stay.")
            timescale.set_interval(connection, _name(current), interval)
    if options.columnstore_after is not None:
        _columnstore(connection, current, now, options.columnstore_after, say)


def _columnstore(
    connection: Connection, current: Relation, now: timescale.Hypertable, after: timedelta, say: _Say
) -> None:
    if after and not timescale.has_columnstore(connection):
        raise ConfigurationError(
            "--columnstore-after: this TimescaleDB has no columnstore; it comes with 2.18 under the Timescale licence"
        )
    if after == now.after or not (after or now.segment_by is not None):
        return
    with connection.transaction():
        if after and now.segment_by is None:
            timescale.enable_columnstore(connection, _name(current))
        timescale.set_policy(connection, _name(current), after)
        if not after and not now.columnar:
            timescale.disable_columnstore(connection, _name(current))
    if after:
        say(f"Chunks move to the columnstore once their events are older than {duration(after)}.")
    else:
        say(f"Chunks no longer move to the columnstore; {now.columnar:,} are there and stay.")


def _spread(connection: Connection, current: Relation, options: StorageOptions, say: _Say) -> None:
    """With `distribute`: distribute the table over Citus's workers."""
    if not options.distribute or current.distributed == DISTRIBUTION_COLUMN:
        return
    if current.distributed is not None:
        raise ConfigurationError(
            f"--distribute: {current.name} is distributed by {current.distributed} already and was not changed; to"
            f" change it: SELECT alter_distributed_table('{current.schema}.{current.name}', '{DISTRIBUTION_COLUMN}');"
        )
    say(f"Spreading the table over Citus's workers by {DISTRIBUTION_COLUMN}; writers wait meanwhile.")
    distribute(connection, _name(current))


def _indexes(connection: Connection, current: Relation, options: StorageOptions, say: _Say) -> None:
    existing = catalog.existing_indexes(connection, current)
    for index in catalog.wanted_indexes(current):
        if not any(other.serves(index) for other in existing):
            if any(other.falls_short_of(index) for other in existing):
                _replace(connection, current, index, say)
            else:
                _make(connection, current, index, say)


def _make(connection: Connection, current: Relation, index: Index, say: _Say) -> None:
    name = sql.Identifier(current.schema, str(index.name))
    row = connection.execute(
        "SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(%s)::oid", [name.as_string(connection)]
    ).fetchone()
    if row is not None and row[0]:
        say(f"Left alone: {index.name} exists with other columns; `usage-explore doctor` says which are wanted.")
        return
    if row is not None:  # from an interrupted run
        connection.execute(sql.SQL("DROP INDEX {}").format(name))
    room = f", about {size(current.rows * INDEX_BYTES[catalog.index_purpose(index)])}" if current.rows > 0 else ""
    waiting = "writers wait meanwhile" if catalog.blocks_writers(index, current) else "writers continue"
    say(f"Making the index {index.name}{room}; {waiting}.")
    try:
        connection.execute(catalog.create_index(index, current))
    except psycopg.errors.UniqueViolation:
        connection.execute(sql.SQL("DROP INDEX IF EXISTS {}").format(name))
        say(
            f"Not made: {index.name}, because events share organization, time and id; delete the duplicates and run"
            " this again."
        )


def _replace(connection: Connection, current: Relation, index: Index, say: _Say) -> None:
    """Replace an index of an older version by one with more columns, which is created before the old one is dropped."""
    name = str(index.name)
    fuller = f"{current.name}_new_{catalog.index_purpose(index)}"
    index.name = quoted_name(fuller, quote=None)
    _make(connection, current, index, say)
    say(f"Dropping {name}, which the new index replaces.")
    connection.execute(catalog.drop_index(name, current))
    connection.execute(
        sql.SQL("ALTER INDEX {} RENAME TO {}").format(sql.Identifier(current.schema, fuller), sql.Identifier(name))
    )


def _statistics(connection: Connection, current: Relation, options: StorageOptions, say: _Say) -> None:
    missing = catalog.missing_statistics(connection, current)
    if not missing:
        return
    say("Creating statistics on which values occur together with which organization.")
    for statement in catalog.create_statistics(current, missing):
        connection.execute(statement)
    connection.execute(sql.SQL("ANALYZE {}").format(_name(current)))


def distribute(connection: Connection, name: sql.Identifier) -> None:
    """Distribute the table over the workers; its rows move, and writers wait meanwhile.

    Raises `ConfigurationError` if this database has no Citus.
    """
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')").fetchone()
    if not (row and row[0]):
        raise ConfigurationError(
            "--distribute: this database has no Citus; run CREATE EXTENSION citus in it on every node and add the"
            " workers with citus_add_node, or leave the option out"
        )
    connection.execute(
        "SELECT create_distributed_table(%s::regclass, %s)", [name.as_string(connection), DISTRIBUTION_COLUMN]
    )
