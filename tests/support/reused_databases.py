"""Databases that tests use one after the other: to empty one takes a quarter of the CPU of dropping and copying it."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from support.database_servers import at, copying, fresh_database, kind

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

_TABLES = """
    SELECT string_agg(format('%I.%I', nspname, relname), ', ')
    FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p') AND relpersistence <> 't' AND nspname NOT IN ('pg_catalog', 'information_schema')
"""

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
    It is dropped instead if its definitions (tables, indexes, functions, permissions, settings, …) are no longer those
    of the template. TimescaleDB and Citus keep definitions in tables of their own: there each test gets a fresh copy.
    """

    def __init__(self, server_url: str, template: str) -> None:
        self._server_url = server_url
        self._template = template
        self._admin = psycopg.connect(server_url, autocommit=True)
        self._catalogs = sql.SQL("")
        self._expected: list[Any] = []
        self._free: list[str] = []
        if kind(server_url) == "postgresql":
            with psycopg.connect(at(server_url, template)) as connection:
                catalogs = [row[0] for row in connection.execute(_CATALOGS)]
                self._catalogs = sql.SQL(" UNION ALL ").join(
                    sql.SQL("SELECT {}, count(*), max(xmin::text::bigint)::text FROM {}").format(
                        name, sql.Identifier("pg_catalog", name)
                    )
                    for name in catalogs
                )
                self._expected = self._definitions(connection)

    @contextlib.contextmanager
    def one(self) -> Iterator[str]:
        """The URL of a database like the template."""
        if not self._expected:
            with fresh_database(self._server_url, self._template) as url:
                yield url
            return
        name = f"test_{uuid.uuid4().hex[:16]}"
        if self._free:
            self._execute("ALTER DATABASE {} RENAME TO {}", self._free.pop(), name)
        else:
            self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY {}", name, self._template, copying(self._server_url))
        try:
            yield at(self._server_url, name)
        finally:
            self._admin.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", [name]
            )
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
            if self._definitions(connection) == self._expected:
                (tables,) = connection.execute(_TABLES).fetchone() or ("",)
                connection.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE".encode())
                connection.execute(_FORGET)
                return True
        return False

    def _definitions(self, connection: psycopg.Connection[Any]) -> list[Any]:
        return sorted(connection.execute(sql.SQL("{} UNION ALL {}").format(sql.SQL(_DEFINITIONS), self._catalogs)))

    def _execute(self, statement: LiteralString, *names: str) -> None:
        self._admin.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))
