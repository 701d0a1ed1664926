"""The server's disk is full: what would spill there says so, what would be written is not there by halves."""

from __future__ import annotations

import csv
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking
from support.breakable_server import Server, refused
from usage_explore import connect
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.errors import DatabaseUnavailable, LoadError
from usage_explore.load import load_files

SPILLING = """
    CREATE VIEW spilling AS SELECT * FROM usage_events
    WHERE (SELECT count(*) FROM (SELECT FROM generate_series(1, 200000) g ORDER BY md5(g::text) OFFSET 0) AS sorted) > 0
"""


@pytest.fixture(scope="module")
def spilling(primary: Server) -> Iterator[str]:
    """The name of a view whose reading needs several MB of temporary files."""
    primary.execute(SPILLING)
    yield "spilling"
    primary.execute("DROP VIEW spilling")


@pytest.fixture
def small_disk(primary: Server) -> Iterator[Path]:
    """A disk of 3 MB that the server can write to."""
    disk = primary.folder("small")
    account = primary.account
    owner = f",uid={account.pw_uid},gid={account.pw_gid}" if account else ""
    mount = ["mount", "-t", "tmpfs", "-o", f"size=3m,mode=700{owner}", "none", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        disk.rmdir()
        pytest.skip("needs the right to mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)
        disk.rmdir()


@pytest.fixture
def tablespace(primary: Server, small_disk: Path) -> Iterator[str]:
    """The name of a tablespace on the small disk."""
    primary.execute(f"CREATE TABLESPACE small LOCATION '{small_disk}'")
    yield "small"
    primary.execute("DROP TABLESPACE small")


def test_what_spills_on_a_full_disk_says_so_and_what_fits_is_answered(
    primary: Server, tablespace: str, spilling: str, small_disk: Path
) -> None:
    url = f"{primary.url}?options=-c%20temp_tablespaces%3D{tablespace}"
    with (
        connect(url, generated_events.ORGANIZATION, table=spilling) as store,
        connect(url, generated_events.ORGANIZATION) as other,
        asking(store) as client,
    ):
        for ask in (store.events, store.aggregate):
            with pytest.raises(DatabaseUnavailable, match=r"disk is full: .*No space left"):
                ask()
        for path in (EVENTS, AGGREGATE, EXPORT):
            said = refused(client.get(path))
            assert "disk is full" in said
            assert "pgsql_tmp" not in said
        assert other.events().events
        subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
        assert client.get(EVENTS).status_code == 200
        assert store.events().events


def test_a_limit_of_temporary_files_says_what_helps(primary: Server, spilling: str) -> None:
    url = f"{primary.url}?options=-c%20temp_file_limit%3D1MB"
    with connect(url, generated_events.ORGANIZATION, table=spilling) as store, asking(store) as client:
        with pytest.raises(DatabaseUnavailable, match=r"more room .*temp_file_limit.* Narrow the window"):
            store.events()
        assert "narrow the window" in refused(client.get(EVENTS))
        assert store.now()


def test_a_load_into_a_full_disk_writes_nothing(primary: Server, tablespace: str, tmp_path: Path) -> None:
    small, large = tmp_path / "small.csv", tmp_path / "large.csv"
    for path, number in ((small, 10), (large, 20_000)):
        with path.open("w", newline="") as opened:
            writer = csv.writer(opened)
            writer.writerow(["customer_id", "metric_key", "quantity", "timestamp", "idempotency_key"])
            for each in range(number):
                writer.writerow([uuid.UUID(int=1), "m" * 200, each, "2026-01-01T00:00:00Z", f"{number}-{each}"])
    table = events_table("small_events")
    with ddl.connect(f"{primary.url}?options=-c%20default_tablespace%3D{tablespace}") as connection:
        try:
            load_files(connection, table, [small], organization_id=generated_events.ORGANIZATION)
            with pytest.raises(LoadError, match=r"large\.csv: the database server's disk is full, so nothing"):
                load_files(connection, table, [large], organization_id=generated_events.ORGANIZATION)
            assert connection.execute("SELECT count(*) FROM small_events").fetchone() == (10,)
            (again,) = load_files(connection, table, [small], organization_id=generated_events.ORGANIZATION)
            assert (again.loaded, again.already_there) == (0, 10)
        finally:
            connection.rollback()
            connection.execute("DROP TABLE small_events")
            connection.commit()
