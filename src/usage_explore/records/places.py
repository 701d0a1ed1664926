"""The two places of records: a table beside the events in PostgreSQL, and an SQLite file in the data folder.

New records go into the table if the database role may write it, or may create it, and its transactions are not
read-only by default, and if no code of a role in the table would get more rights by it (`db.owners`); else into the
file. Records are read from both, so that none vanishes when a table appears or a role changes. A record is changed
where it is.

Each kind of record has a place of its own: a role may write views into their table and decisions only into the file.
A table of decisions, runs or sign-offs that exists and may not be read is an error: what it holds is unknown.

What can be written is limited: a `Writer` runs only the statements that its one table allows (views: INSERT, UPDATE and
DELETE; histories: INSERT). In PostgreSQL it has a read-write connection of its own for one short transaction, with time
limits; the pool of the queries stays READ ONLY.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, TypeVar
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.pq import Format
from psycopg.types.datetime import TimestamptzLoader
from sqlalchemy import (
    Column,
    Connection,
    Delete,
    Insert,
    Row,
    Select,
    Table,
    Update,
    create_engine,
    func,
    inspect,
    select,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from usage_explore.db import ddl, owners
from usage_explore.db.engine import TypeCompiler, translated
from usage_explore.errors import RecordError, TableMismatch
from usage_explore.formatting import listed, path_text
from usage_explore.query import validators
from usage_explore.records.tables import LINKS_TABLE, RECORD_TABLES, VIEWS, RecordTable
from usage_explore.results.whole_file import make_folder
from usage_explore.sql.identifiers import quoted

PlaceName = Literal["table", "file"]

_Record = TypeVar("_Record")

_MAX_WAIT_SECONDS = 5
"""Time to wait for another writer."""

_MAX_STATEMENT_SECONDS = 10
"""Bound of each statement that writes to PostgreSQL."""

_STATE = f"""
SELECT n.nspname, e.relname, current_database(), pg_is_in_recovery(), has_schema_privilege(n.oid, 'CREATE'),
       v.oid IS NOT NULL, coalesce(v.relkind IN ('r', 'p'), false),
       ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS p
             WHERE has_table_privilege(v.oid, p)),
       ARRAY(SELECT attname::text || ' '::text || typname::text FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
             WHERE a.attrelid = v.oid AND a.attnum > 0 AND NOT a.attisdropped
               AND t.typnamespace = 'pg_catalog'::regnamespace::oid),
       coalesce((SELECT lower(split_part(setting, '=', 2)) IN ('on', 'true', 'yes', '1')
                 FROM pg_db_role_setting s CROSS JOIN unnest(s.setconfig) AS setting
                 WHERE s.setrole IN (0, (SELECT r.oid FROM pg_roles r WHERE r.rolname = session_user))
                   AND s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
                   AND starts_with(setting, 'default_transaction_read_only=')
                 ORDER BY s.setrole = 0, s.setdatabase = 0 LIMIT 1), false),
       {owners.UNTRUSTED},
       CASE WHEN v.relname = '{LINKS_TABLE}'::name THEN {owners.RESTRICTED_WRITER} END
FROM pg_class e JOIN pg_namespace n ON n.oid = e.relnamespace
LEFT JOIN pg_class v ON v.relnamespace = n.oid AND v.relname = %(records)s
WHERE e.oid = to_regclass(%(events)s)::oid
"""  # noqa: S608 - of constants

_READ_ONLY_OPTION = re.compile(r"default_transaction_read_only=(\w+)")
"""The default of transactions in the `options` of a connection, which precedes that of role and database."""

_DAMAGED = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, OSError, RecursionError)
"""What reading a damaged value may raise."""

_TYPES = {"Uuid": ("uuid",), "Text": ("text", "varchar"), "Instant": ("timestamptz",), "BigInteger": ("int8",)}
"""PostgreSQL's types for the columns' types here."""


_TIMESTAMPTZ = psycopg.adapters.types["timestamptz"].oid


class _AnyTime(TimestamptzLoader):
    """Loads a time that Python does not have, such as infinity, as its text: `records` names its row."""

    def load(self, data: Any) -> Any:
        try:
            return super().load(data)
        except psycopg.DataError:
            return bytes(data).decode()


@dataclass(frozen=True, slots=True)
class Writer:
    """One transaction that writes to one table."""

    connection: Connection
    table: Table
    is_history: bool = False

    def change(self, statement: Insert | Update | Delete) -> int:
        """Run a statement on the table: the number of rows. Raises `RecordError` for any other statement.

        Rows of a history are only added.
        """
        allowed = Insert if self.is_history else Insert | Update | Delete
        if not isinstance(statement, allowed) or statement.table is not self.table:
            raise RecordError(f"Only rows of {self.table.fullname} are written here.")
        return self.connection.execute(statement).rowcount

    def latest(self, organization_id: UUID, column: str) -> Any:
        """The largest value of a column among the organization's rows; None without rows."""
        c = self.table.c
        own = select(func.max(c[column])).where(c.organization_id == organization_id)
        return self.connection.execute(own).scalar_one()

    def row(self, organization_id: UUID, record_id: UUID) -> Row[Any] | None:
        """A row of the organization; None if there is none of that id."""
        c = self.table.c
        own = select(self.table).where(c.organization_id == organization_id, c.id == record_id)
        return self.connection.execute(own).first()

    def count(self, organization_id: UUID) -> int:
        """The number of the organization's rows."""
        own = self.table.c.organization_id == organization_id
        return int(self.connection.execute(select(func.count()).select_from(self.table).where(own)).scalar_one())


@dataclass(frozen=True)
class DatabasePlace:
    """The table beside the `events`. `connection` is the READ ONLY one of the query, `url` makes those that write.

    With `delegates` no role that sees less than others could have written its links.
    """

    connection: Connection
    url: str = field(repr=False)
    schema: str
    exists: bool
    kind: RecordTable
    events: Table
    delegates: bool
    name: PlaceName = "table"

    @property
    def table(self) -> Table:
        """The table of the records."""
        return self.kind.table(self.schema)

    def __str__(self) -> str:
        return f"the table {quoted(self.kind.name, self.schema)} of the database"

    def rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        """The rows of a statement, in the query's transaction."""
        if not self.exists:
            return ()
        driver = self.connection.connection.driver_connection
        assert driver is not None  # noqa: S101 - of a connection in use
        before = driver.adapters.get_loader(_TIMESTAMPTZ, Format.TEXT)
        driver.adapters.register_loader(_TIMESTAMPTZ, _AnyTime)
        try:
            return self.connection.execute(statement).all()
        finally:
            driver.adapters.register_loader(_TIMESTAMPTZ, before)

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """One read-write transaction; it creates the table if there is none. Raises `RecordError`, `DatabaseError`."""
        engine = create_engine(
            "postgresql+psycopg://",
            creator=lambda: ddl.connect(self.url),
            poolclass=NullPool,
            use_native_hstore=False,
        )
        engine.dialect.type_compiler_instance = TypeCompiler(engine.dialect)
        table = self.table
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(
                    "SELECT set_config('statement_timeout', %(statement)s, true),"
                    " set_config('lock_timeout', %(lock)s, true)",
                    {"statement": f"{_MAX_STATEMENT_SECONDS}s", "lock": f"{_MAX_WAIT_SECONDS}s"},
                )
                # one writer at a time: the number of an organization's views is bounded, histories are in order
                connection.exec_driver_sql("SELECT pg_advisory_xact_lock(hashtext('usage-explore records')::bigint)")
                if not self.exists:
                    for statement in _creation(self.kind, self.schema):
                        connection.exec_driver_sql(statement)
                driver: Any = connection.connection.driver_connection
                if why := owners.refusal(driver, self.events, table):
                    raise RecordError(f"Nothing was saved: {why}.")
                yield Writer(connection, table, self.kind.is_history)
        except IntegrityError:
            raise
        except DBAPIError as error:
            if isinstance(error.orig, psycopg.errors.LockNotAvailable):
                raise RecordError(
                    f"Another process has been writing to {self} for {_MAX_WAIT_SECONDS} s; try again shortly."
                ) from error
            if isinstance(error.orig, psycopg.errors.InsufficientPrivilege | psycopg.errors.ReadOnlySqlTransaction):
                raise RecordError(
                    f"Nothing was saved: this database role may not write to {self} ({_primary(error.orig)}). The"
                    f" administrator can grant it {listed(self.kind.privileges, most=4)} there."
                ) from error
            connecting = error.statement is None
            raise translated(error.orig, broken=error.connection_invalidated or connecting) from error
        finally:
            engine.dispose()


@dataclass(frozen=True)
class FilePlace:
    """An SQLite file that only its owner can read, one for each events table. It is created at the first save."""

    path: Path
    kind: RecordTable
    delegates: bool = True
    name: PlaceName = "file"

    @property
    def table(self) -> Table:
        """The table of the records."""
        return self.kind.table()

    def __str__(self) -> str:
        return f"the file {path_text(self.path)}"

    @property
    def exists(self) -> bool:
        """Whether something was saved there, of any kind of record. Raises `RecordError` if another user's."""
        try:
            return self.path.exists()
        except OSError as error:
            raise RecordError(
                f"{path_text(self.path)} cannot be read ({error.strerror}); run this as the user whose folder it is."
            ) from error

    def rows(self, statement: Select[Any]) -> Sequence[Row[Any]]:
        """The rows of a statement. Raises `RecordError` for a damaged file."""
        if not self.exists:
            return ()
        with self._connected() as connection:
            return connection.execute(statement).all() if inspect(connection).has_table(self.kind.name) else ()

    @contextmanager
    def writing(self) -> Iterator[Writer]:
        """One transaction, which waits for other writers first. Raises `RecordError`."""
        table = self.table
        try:
            make_folder(self.path.parent, 0o700)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600))  # its -wal and -shm files get the same mode
        except OSError as error:
            raise RecordError(
                f"Nothing was saved: {path_text(self.path)} cannot be written ({error.strerror}); choose"
                " another folder with"
                " --home or USAGE_EXPLORE_HOME."
            ) from error
        with self._connected() as connection:
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                connection.execute(CreateTable(table, if_not_exists=True))
                yield Writer(connection, table, self.kind.is_history)
            except BaseException:
                connection.exec_driver_sql("ROLLBACK")
                raise
            connection.exec_driver_sql("COMMIT")

    @contextmanager
    def _connected(self) -> Iterator[Connection]:
        """A connection in autocommit; its errors as `RecordError`, except that of a name that exists."""
        engine = create_engine(
            "sqlite://",
            creator=lambda: sqlite3.connect(self.path, timeout=_MAX_WAIT_SECONDS, check_same_thread=False),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
        )
        try:
            with engine.connect() as connection:
                yield connection
        except IntegrityError:
            raise
        except DBAPIError as error:
            if _primary_code(error.orig) in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                message = (
                    f"Another process has been writing to {path_text(self.path)} for {_MAX_WAIT_SECONDS} s; try again."
                )
            else:
                message = (
                    f"{path_text(self.path)} cannot be read or written ({error.orig}); free space, or if it is"
                    " damaged, restore it"
                    " or move it away."
                )
            raise RecordError(message) from error
        finally:
            engine.dispose()


def records(
    place: DatabasePlace | FilePlace, statement: Select[Any], make: Callable[[Row[Any]], _Record]
) -> list[_Record]:
    """What `make` gives of each row of a statement. Raises `RecordError`, which names a row that is damaged."""
    columns = [column for column in statement.selected_columns if isinstance(column, Column)]
    made, which = [], ""
    try:
        for row in place.rows(statement):
            which = f" {row.id}"
            for column in columns:
                _check(column, row._mapping[column.name])
            made.append(make(row))
    except (RecordError, *_DAMAGED) as error:
        if isinstance(error, RecordError) and not which:
            raise  # the file or table as a whole
        what = f"The row{which} of {place.kind.name} in {place} cannot be read"
        why = validators.shorten(str(error).rstrip("."))
        raise RecordError(f"{what}: {why}. Restore it from a backup, or delete the row.") from None
    return made


def _check(column: Column[Any], value: object) -> None:
    """Raise `ValueError` for a value that the column cannot have; SQLite keeps any."""
    if value is None and column.nullable:
        return
    if not isinstance(value, column.type.python_type):
        raise ValueError(f"{column.name} is {value!r}")
    if isinstance(value, datetime):
        validators.instant(value)
    if column.name == "timezone":
        validators.zone_name(value)


@dataclass(frozen=True)
class Places:
    """Where the records of one kind are, for a table of events; new ones are saved in `saving`."""

    table: DatabasePlace | None
    file: FilePlace
    saving: DatabasePlace | FilePlace

    @property
    def all(self) -> tuple[DatabasePlace | FilePlace, ...]:
        """The places to read."""
        return (self.file,) if self.table is None else (self.table, self.file)

    def named(self, name: str) -> DatabasePlace | FilePlace:
        """The place of a record. Raises `RecordError` if it is gone."""
        for place in self.all:
            if place.name == name:
                return place
        raise RecordError("The table of these records is gone, or this database role may no longer read it.")


@dataclass(frozen=True)
class Records:
    """The records beside the events of the database at `url`; files are below `home`."""

    home: Path
    url: str = field(repr=False)

    def places(self, connection: Connection, events: Table, kind: RecordTable = VIEWS) -> Places:
        """The places for a table of events, on a connection that reads them.

        Raises `TableMismatch` if it is gone, `RecordError` for a table of decisions, runs or sign-offs that exists and
        that the role may not read: findings would count as open although they were acknowledged. Raises it
        for a table with policies of a role that is not to get this one's rights, too.
        """
        name = quoted(events.name, events.schema)
        row = connection.exec_driver_sql(_STATE, {"events": name, "records": kind.name}).first()
        if row is None:
            raise TableMismatch(f"{events.fullname}: there is no such table or view in this database")
        schema, relation, database, is_replica, may_create, exists, is_table, privileges, columns, *more = row
        is_read_only, untrusted, restricted_writer = more
        given = conninfo_to_dict(self.url)
        if chosen := _READ_ONLY_OPTION.findall(str(given.get("options") or "")):
            is_read_only = chosen[-1].lower() in ("on", "true", "yes", "1")
        identity = [str(given.get(part) or "") for part in ("host", "hostaddr", "port")]
        file = FilePlace(self.home / "records" / _file_name([*identity, database, schema, relation]), kind)
        if exists and is_table and untrusted is not None:
            driver: Any = connection.connection.driver_connection
            if why := owners.refusal(driver, events, kind.table(schema), reading=True):
                raise RecordError(f"{why}.")
        if exists and is_table and "SELECT" not in privileges and kind.is_history:
            raise RecordError(str(TableMismatch.unreadable(quoted(kind.name, schema), kind.privileges)))
        if exists and not (is_table and "SELECT" in privileges and _fits(columns, kind)):
            return Places(None, file, file)
        delegates = not exists or (untrusted is None and restricted_writer is None)
        table = DatabasePlace(connection, self.url, schema, exists, kind, events, delegates)
        is_writable = set(kind.privileges) <= set(privileges) if exists else may_create
        if is_writable and not is_replica and not is_read_only and untrusted is None:
            return Places(table, file, table)
        return Places(table if exists else None, file, file)


def _file_name(identity: list[str]) -> str:
    """A readable name, different for every table of events."""
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
    return f"{re.sub(r'[^A-Za-z0-9._-]', '_', '-'.join(identity[-3:]))[:80]}-{digest}.sqlite"


def _fits(columns: Sequence[str], kind: RecordTable) -> bool:
    """Whether a table has the columns of the records."""
    return all(
        any(f"{column.name} {type_}" in columns for type_ in _TYPES[type(column.type).__name__])
        for column in kind.table().columns
    )


def _primary_code(error: BaseException | None) -> int | None:
    """SQLite's result code without the details that an extended one adds."""
    code = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def _primary(error: Any) -> str:
    return str(error.diag.message_primary or error).strip()


def create_tables(connection: ddl.Connection, events: Table) -> tuple[str, ...]:
    """Create the tables of records beside the events, on a connection that writes; the names of the new ones.

    Raises `TableMismatch` if the events are gone, psycopg's `InsufficientPrivilege` if the role may not create them.
    """
    created = []
    for kind in RECORD_TABLES:
        values = {"events": quoted(events.name, events.schema), "records": kind.name}
        state = connection.execute(_STATE.encode(), values).fetchone()
        if state is None:
            raise TableMismatch(f"{events.fullname}: there is no such table or view in this database")
        schema, exists = state[0], state[5]
        if not exists:
            for statement in _creation(kind, schema):
                connection.execute(statement.encode())
            created.append(kind.name)
    return tuple(created)


def _creation(kind: RecordTable, schema: str) -> tuple[str, str]:
    """The statements that create the table in PostgreSQL."""
    create = CreateTable(kind.table(schema), if_not_exists=True)
    text = str(create.compile(dialect=postgresql.dialect()))  # type: ignore[no-untyped-call]
    return text, f"COMMENT ON TABLE {quoted(kind.name, schema)} IS '{kind.comment}; made by usage-explore'"
