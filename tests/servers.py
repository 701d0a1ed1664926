"""Servers and databases that tests make and end."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from usage_explore import embedded


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


@contextlib.contextmanager
def fresh_database(server_url: str, template: str = "template0") -> Iterator[str]:
    """A new database on the server, a copy of the template; its URL."""
    name = f"test_{uuid.uuid4().hex[:16]}"
    create = sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
    with psycopg.connect(server_url, autocommit=True) as admin:
        for patience in range(20, -1, -1):
            try:
                admin.execute(create)
                break
            except psycopg.errors.ObjectInUse:  # TimescaleDB's scheduler looks into every database
                if not patience:
                    raise
    parts = urlsplit(server_url)
    try:
        yield urlunsplit(parts._replace(netloc=parts.netloc or "", path=f"/{name}"))
    finally:
        with psycopg.connect(server_url, autocommit=True) as admin:
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
