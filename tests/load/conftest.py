"""A loader bound to a fresh database, and files made of the text a test gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from support.database_servers import fresh_database
from usage_explore.db import ddl
from usage_explore.db.schema import COLUMNS, events_table
from usage_explore.load import FileReport, load_files

ORG = UUID("00000000-0000-4000-8000-000000000001")
CUSTOMER = UUID("00000000-0000-4000-8000-0000000000c1")


class Loader:
    """Loads files into `usage_events` of one database and reads the table back."""

    def __init__(self, connection: ddl.Connection, folder: Path) -> None:
        self.connection = connection
        self.folder = folder

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def __call__(self, *paths: Path, **options: Any) -> FileReport:
        options.setdefault("organization_id", ORG)
        return load_files(self.connection, events_table(), paths, **options)[-1]

    def csv(self, text: str, **options: Any) -> FileReport:
        return self(self.file("events.csv", text), **options)

    def rows(self, *columns: str) -> list[tuple[Any, ...]]:
        chosen = ", ".join(columns or COLUMNS)
        return self.connection.execute(f"SELECT {chosen} FROM usage_events ORDER BY timestamp, id").fetchall()

    def count(self) -> int:
        row = self.connection.execute("SELECT CASE WHEN to_regclass('usage_events') IS NULL THEN 0 END").fetchone()
        if row == (0,):
            return 0
        return self.connection.execute("SELECT count(*) FROM usage_events").fetchone()[0]


@pytest.fixture
def database_url(events_database_url: str) -> str:
    """A database with the empty events table, for less than a fresh one without."""
    return events_database_url


@pytest.fixture
def load(connection: ddl.Connection, tmp_path: Path) -> Loader:
    return Loader(connection, tmp_path)


@pytest.fixture(scope="module")
def _one_database(server_url: str) -> Iterator[ddl.Connection]:
    """One database for a module's many small tests, with the events table."""
    with fresh_database(server_url) as url, ddl.connect(url) as opened:
        ddl.ensure_schema(opened, "usage_events")
        yield opened


@pytest.fixture
def load_again(_one_database: ddl.Connection, tmp_path: Path) -> Loader:
    """Like `load`, quicker: a table that other tests have used, emptied."""
    _one_database.rollback()
    _one_database.execute("TRUNCATE usage_events")
    _one_database.commit()
    return Loader(_one_database, tmp_path)


@pytest.fixture
def table_of() -> Callable[..., str]:
    """CSV text with the columns every event needs, one default row, changed by keyword; None leaves a column out."""

    def made(*rows: dict[str, str], **columns: str | None) -> str:
        base = {
            "customer_id": str(CUSTOMER),
            "metric_key": "tokens",
            "quantity": "1",
            "timestamp": "2026-01-31T08:00:00Z",
            "idempotency_key": "k1",
        }
        names = {**base, **columns, **{name: None for row in rows for name in row if name not in base}}
        header = [name for name, value in names.items() if value is not None or name not in columns]
        lines = [",".join(header)]
        for row in rows or ({},):
            values = {**base, **columns, **row}
            lines.append(",".join(values.get(name) or "" for name in header))
        return "\n".join(lines) + "\n"

    return made
