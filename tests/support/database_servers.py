"""Servers and databases that tests make and end."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, LiteralString
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from usage_explore.db import StorageOptions, ddl, embedded
from usage_explore.db.schema import DEFAULT_TABLE


def short_folder() -> Path:
    """A temporary folder that PostgreSQL's own OS user can enter when the tests run as root."""
    folder = Path(tempfile.mkdtemp(prefix="usage-"))
    folder.chmod(0o755)
    return folder


def remove_server(home: Path) -> None:
    """Stop the server under the folder, whoever left it running, and remove the folder."""
    if (home / "data").exists():
        embedded.start(home)
        embedded.release(home)
    shutil.rmtree(home)


def forgo_durability(server_url: str) -> None:
    """Let the server wait for no disk: to create and drop a database takes 0.1 s instead of up to 2 s."""
    with psycopg.connect(server_url, autocommit=True) as admin:
        for name in ("fsync", "full_page_writes"):  # commits stay synchronous: VACUUM waits for those that are not
            admin.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        admin.execute("SELECT pg_reload_conf()")


def drop_role(url: str, role: str) -> None:
    """Drop a role and its permissions; again if the database was just gathering statistics, which may be a deadlock."""
    with psycopg.connect(url, autocommit=True) as admin:
        for attempt in range(3):
            try:
                admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
                break
            except psycopg.errors.DeadlockDetected:
                if attempt == 2:
                    raise
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))


def kind(server_url: str) -> str:
    """What the server is: postgresql, timescaledb or citus."""
    with psycopg.connect(server_url) as connection:
        if connection.execute("SELECT to_regclass('pg_dist_node')").fetchone() != (None,):
            return "citus"
        preloaded = connection.execute("SHOW shared_preload_libraries").fetchone()
    return "timescaledb" if preloaded and "timescaledb" in preloaded[0] else "postgresql"


def end_sessions(admin: psycopg.Connection[Any], database: str) -> None:
    """End the sessions in a database; PostgreSQL's own wait, of dropping it too, looks every 0.1 s alone."""
    ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"
    until = time.monotonic() + 10
    while admin.execute(ended, [database]).fetchone() and time.monotonic() < until:
        time.sleep(0.002)


@contextlib.contextmanager
def fresh_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """A new database on the server, a copy of the template; its URL.

    On Citus it is one with all its workers; a template has the events table there, which is made anew and distributed,
    since a copy would have no shards.
    """
    name = f"test_{uuid.uuid4().hex[:16]}"
    workers = _workers(server_url)
    for node in (*workers, server_url):
        _create(node, name, "template0" if workers else template)
    url = at(server_url, name)
    try:
        if workers:
            _join(url, [at(worker, name) for worker in workers])
            if template != "template0":
                with ddl.connect(url) as connection:
                    ddl.ensure_schema(connection, DEFAULT_TABLE, StorageOptions(distribute=True))
        yield url
    finally:
        for node in (server_url, *workers):
            with psycopg.connect(node, autocommit=True) as admin:
                end_sessions(admin, name)
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _create(node: str, name: str, template: str) -> None:
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY {}").format(
        sql.Identifier(name), sql.Identifier(template), sql.SQL(copying(node))
    )
    with psycopg.connect(node, autocommit=True) as admin:
        for patience in range(20, -1, -1):
            try:
                admin.execute(create)
                break
            except psycopg.errors.ObjectInUse:  # TimescaleDB's scheduler looks into every database
                if not patience:
                    raise


@functools.cache
def copying(server_url: str) -> LiteralString:
    """How the server copies a template soonest: by file where it waits for no disk, for half of the CPU."""
    with psycopg.connect(server_url) as connection:
        return "file_copy" if connection.execute("SHOW fsync").fetchone() == ("off",) else "wal_log"


def at(server_url: str, database: str) -> str:
    """The URL of a database on the server."""
    parts = urlsplit(server_url)
    return urlunsplit(parts._replace(netloc=parts.netloc or "", path=f"/{database}"))


@functools.cache
def _workers(server_url: str) -> list[str]:
    """The URLs of a Citus coordinator's workers; none where the server is something else."""
    parts = urlsplit(server_url)
    user = parts.netloc.rpartition("@")[0]
    with psycopg.connect(server_url) as connection:
        if connection.execute("SELECT to_regclass('pg_dist_node')").fetchone() == (None,):
            return []
        nodes = connection.execute("SELECT nodename, nodeport FROM pg_dist_node WHERE groupid > 0").fetchall()
    return [urlunsplit(parts._replace(netloc=f"{user}@{host}:{port}")) for host, port in nodes]


def _join(url: str, workers: list[str]) -> None:
    for node in (*workers, url):
        with psycopg.connect(node, autocommit=True) as connection:
            connection.execute("CREATE EXTENSION citus")
    with psycopg.connect(url, autocommit=True) as connection:
        database = sql.Identifier(connection.info.dbname)
        connection.execute(sql.SQL("ALTER DATABASE {} SET citus.shard_count = 4").format(database))  # quick to make
        connection.execute(
            "SELECT citus_set_coordinator_host(%s, %s)", [urlsplit(url).hostname, urlsplit(url).port or 5432]
        )
        for worker in workers:
            parts = urlsplit(worker)
            connection.execute("SELECT citus_add_node(%s, %s)", [parts.hostname, parts.port])
