"""Databases that tests use one after the other: to empty one takes a quarter of the CPU of dropping and copying it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from support.database_servers import at, copying, end_sessions, fresh_database, kind

_CATALOGS = """
    SELECT relname FROM pg_class
    WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' AND NOT relisshared
      AND relname NOT IN ('pg_class', 'pg_namespace', 'pg_statistic', 'pg_statistic_ext_data') ORDER BY relname
"""
"""Catalogs of a database whose rows only DDL writes. TRUNCATE writes `pg_class`, temporary tables `pg_namespace`."""

_DEFINITIONS = """
    SELECT 'pg_class', count(*), md5(string_agg(concat_ws(
        '|', c.oid, relname, relnamespace, relowner, relkind, relpersistence, relnatts, relchecks, relhasindex,
        relhasrules, relhastriggers, relhassubclass, relrowsecurity, relforcerowsecurity, relacl, reloptions,
        relreplident, relispartition, reltablespace, relam
    ), ',' ORDER BY c.oid))
    FROM pg_class c WHERE relpersistence <> 't'
    UNION ALL
    SELECT 'pg_namespace', count(*), md5(string_agg(concat_ws('|', nspname, nspowner, nspacl), ',' ORDER BY oid))
    FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
    UNION ALL
    SELECT 'pg_database', count(*), md5(string_agg(concat_ws('|', datdba, datallowconn, datconnlimit, datacl), ','))
    FROM pg_database WHERE datname = current_database()
    UNION ALL
    SELECT 'pg_db_role_setting', count(*), ''
    FROM pg_db_role_setting JOIN pg_database d ON d.oid = setdatabase WHERE datname = current_database()
"""

_WRITTEN = """
    SELECT coalesce(sum(pg_stat_get_tuples_inserted(oid) + pg_stat_get_tuples_updated(oid)
                        + pg_stat_get_tuples_deleted(oid)), 0) > 0
    FROM pg_class
    WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' AND NOT relisshared
      AND relname NOT IN ('pg_class', 'pg_namespace', 'pg_statistic', 'pg_statistic_ext_data')
"""
"""Whether the catalogs that only DDL writes were written since `_FORGET`, for a tenth of what it takes to read them. A
session counts what it wrote before it leaves `pg_stat_activity`."""

_TABLES = """
    SELECT array_agg(oid), string_agg(oid::regclass::text, ', ') FILTER (WHERE oid <> ALL(%(own)s)),
           string_agg(oid::regclass::text, ', ')
               FILTER (WHERE oid = ANY(%(own)s) AND (pg_relation_size(oid) > 0 OR reltuples <> -1))
    FROM pg_class
    WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND relnamespace::regnamespace::text !~ '^(pg_|information_)'
"""
"""The OIDs of the tables, which a copy keeps; those that the template does not have, such as tables of records; and
those of the template that rows were written to: to truncate an empty table takes 5 ms as well."""

_FORGET = """
    DELETE FROM pg_statistic
    WHERE starelid IN (SELECT oid FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_');
    DELETE FROM pg_statistic_ext_data;
    SELECT pg_stat_reset()
"""
"""What ANALYZE learned of the rows, and the counters of the rows written since, which outlive TRUNCATE."""


class ReusedDatabases:
    """Databases with the empty tables of a template, for one test at a time.

    After a test the database is emptied, and the next one gets it under another name, as names are the keys of caches.
    `spare` stay free, and the one that was emptied first is next: PostgreSQL would wait 0.1 s for the end of a session
    to rename the last one.
    Tables that a test made, such as those of records, are dropped. The database itself is dropped if its definitions
    (tables, indexes, functions, permissions, settings, …) are no longer those of the template then. TimescaleDB and
    Citus keep definitions in tables of their own: there each test gets a fresh copy.
    """

    def __init__(self, server_url: str, template: str, spare: int = 1) -> None:
        self._server_url = server_url
        self._template = template
        self._spare = spare
        self._admin = psycopg.connect(server_url, autocommit=True)
        self._definitions: list[Any] = []
        self._free: list[str] = []
        if kind(server_url) == "postgresql":
            with psycopg.connect(at(server_url, template)) as connection:
                catalogs = [row[0] for row in connection.execute(_CATALOGS)]
                self._catalogs = " UNION ALL ".join(
                    f"SELECT '{name}', count(*), max(xmin::text::bigint)::text FROM pg_catalog.{name}"
                    for name in catalogs
                )
                self._contents = _read(connection, self._catalogs)
                self._definitions = _read(connection, _DEFINITIONS)
                self._own = _tables(connection, [])[0]

    @contextlib.contextmanager
    def one(self) -> Iterator[str]:
        """The URL of a database like the template."""
        if not self._definitions:
            with fresh_database(self._server_url, self._template) as url:
                yield url
            return
        name = f"test_{uuid.uuid4().hex[:16]}"
        if len(self._free) > self._spare:
            self._execute("ALTER DATABASE {} RENAME TO {}", self._free.pop(0), name)
        else:
            self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY {}", name, self._template, copying(self._server_url))
        try:
            yield at(self._server_url, name)
        finally:
            end_sessions(self._admin, name)
            if self._emptied(name):
                self._free.append(name)
            else:
                self._execute("DROP DATABASE {} WITH (FORCE)", name)

    def close(self) -> None:
        """Drop the databases."""
        for name in self._free:
            self._execute("DROP DATABASE {} WITH (FORCE)", name)
        self._admin.close()

    def _emptied(self, name: str) -> bool:
        with contextlib.suppress(psycopg.Error), psycopg.connect(at(self._server_url, name)) as connection:
            _, others, filled = _tables(connection, self._own)
            if others:
                connection.execute(f"DROP TABLE {others} CASCADE".encode())
            is_written = others or connection.execute(_WRITTEN).fetchone() != (False,)
            if _read(connection, _DEFINITIONS) == self._definitions and (
                not is_written or _read(connection, self._catalogs) == self._contents
            ):
                if filled:
                    connection.execute(f"TRUNCATE {filled} RESTART IDENTITY CASCADE".encode())
                connection.execute(_FORGET)
                return True
        return False

    def _execute(self, statement: LiteralString, *names: str) -> None:
        self._admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _read(connection: psycopg.Connection[Any], statement: str) -> list[Any]:
    return sorted(connection.execute(statement.encode()))


def _tables(connection: psycopg.Connection[Any], own: list[int]) -> Any:
    return connection.execute(_TABLES, {"own": own}).fetchone()
