"""A database with an extract that tests drive by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from extract.small_extract import Extract
from usage_explore.db import ddl


@pytest.fixture
def extract(events_database_url: str, events_connection: ddl.Connection, tmp_path: Path) -> Extract:
    return Extract(events_database_url, events_connection, tmp_path)
