"""Exports hold every event exactly, appear whole or not at all, and come back through `load` unchanged."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from uuid import uuid4
from zoneinfo import ZoneInfo

import openpyxl
import pyarrow as pa
import pytest
from pyarrow import parquet

from support import generated_events, query_oracle
from support.query_oracle import Row, utc
from usage_explore import EventQuery, Store, connect
from usage_explore.db import ddl
from usage_explore.db.schema import COLUMNS
from usage_explore.decimals import plain, rfc3339
from usage_explore.errors import ConfigurationError, QueryError, StatementTimeout

QUERY = EventQuery(occurred_after=utc(2026, 10, 1), metric_key=["tokens_in", "a,b"])


@pytest.fixture(autouse=True)
def _small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usage_explore.export._PAGE_EVENTS", 97)
        yield


def wanted(own: list[Row]) -> list[Row]:
    return [
        row
        for row in query_oracle.newest_first(own)
        if row.timestamp >= utc(2026, 10, 1) and row.metric_key in ("tokens_in", "a,b")
    ]


def test_a_csv_export_is_every_event_exactly(store: Store, own: list[Row], tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = store.export(QUERY, tmp_path / "events.csv", progress=lambda done, total: seen.append((done, total)))
    expected = wanted(own)
    assert report.events == len(expected) > 200
    assert seen[0] == (0, len(expected))
    assert seen[-1] == (len(expected), len(expected))
    with (tmp_path / "events.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [line["id"] for line in written] == [str(row.id) for row in expected]
    assert [line["quantity"] for line in written] == [plain(row.quantity) for row in expected]
    assert [line["timestamp"] for line in written] == [
        row.timestamp.isoformat(timespec="microseconds").replace("+00:00", "Z") for row in expected
    ]
    assert [json.loads(line["dimensions"]) for line in written] == [json.loads(row.dimensions) for row in expected]
    assert list(tmp_path.iterdir()) == [tmp_path / "events.csv"]


def test_a_parquet_export_holds_decimals_exactly(store: Store, own: list[Row], tmp_path: Path) -> None:
    expected = wanted(own)
    store.export(QUERY, tmp_path / "events.parquet", progress=False)
    table = parquet.read_table(tmp_path / "events.parquet")
    assert table.schema.field("timestamp").type == pa.timestamp("us", tz="UTC")
    assert table["timestamp"].to_pylist() == [row.timestamp for row in expected]
    quantity = table.schema.field("quantity")
    assert quantity.type == pa.string()  # 29 + 15 digits: more than decimal128 holds
    assert quantity.metadata == {b"usage-explore": b"decimal kept as text: more than 38 digits"}
    assert [Decimal(value) for value in table["quantity"].to_pylist()] == [row.quantity for row in expected]


def test_parquet_scale_is_the_largest_there_is(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row], tmp_path: Path
) -> None:
    quantities = ["1.50", "-0.000000000000001", "12345678901234567890123", "0"]
    generated_events.insert(
        events_connection, [replace(own[0], id=uuid4(), quantity=Decimal(quantity)) for quantity in quantities]
    )
    store = connect(events_database_url)
    store.export(EventQuery(), tmp_path / "e.parquet", progress=False)
    column = parquet.read_table(tmp_path / "e.parquet")["quantity"]
    assert column.type == pa.decimal128(38, 15)
    assert sorted(column.to_pylist()) == sorted(map(Decimal, quantities))
    generated_events.insert(events_connection, [replace(own[0], id=uuid4(), quantity=Decimal("Infinity"))])
    store.export(EventQuery(), tmp_path / "e.parquet", progress=False)
    table = parquet.read_table(tmp_path / "e.parquet")
    assert b"NaN or infinite" in (table.schema.field("quantity").metadata or {})[b"usage-explore"]
    assert "Infinity" in table["quantity"].to_pylist()
    store.close()


def test_a_view_with_whole_quantities_is_exported(
    events_database_url: str, events_connection: ddl.Connection, own: list[Row], tmp_path: Path
) -> None:
    generated_events.insert(events_connection, [replace(own[0], quantity=Decimal(7))])
    columns = ", ".join(f"{name}::int" if name == "quantity" else name for name in COLUMNS)
    events_connection.execute(f"CREATE VIEW whole AS SELECT {columns} FROM usage_events")
    events_connection.commit()
    with connect(events_database_url, table="whole") as store:
        store.export(EventQuery(), tmp_path / "whole.parquet", progress=False)
    assert parquet.read_table(tmp_path / "whole.parquet")["quantity"].to_pylist() == [Decimal(7)]


def test_an_empty_export_is_a_file_with_its_columns(store: Store, tmp_path: Path) -> None:
    nothing = EventQuery(metric_key="nothing")
    assert store.export(nothing, tmp_path / "none.csv", progress=False).events == 0
    assert (tmp_path / "none.csv").read_text().startswith('"id","organization_id"')
    store.export(nothing, tmp_path / "none.parquet", progress=False)
    assert parquet.read_table(tmp_path / "none.parquet").num_rows == 0


def test_an_export_is_as_private_as_any_new_file(store: Store, tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        store.export(QUERY, tmp_path / "mine.csv", progress=False)
    finally:
        os.umask(before)
    assert (tmp_path / "mine.csv").stat().st_mode & 0o777 == 0o600


def test_an_export_goes_on_from_a_cursor(store: Store, own: list[Row], tmp_path: Path) -> None:
    page = store.events(QUERY.replace(limit=60))
    report = store.export(QUERY.replace(cursor=page.cursor), tmp_path / "rest.csv", progress=False)
    assert report.events == len(wanted(own)) - 60


def test_an_excel_export_is_every_event_exactly(store: Store, own: list[Row], tmp_path: Path) -> None:
    path = tmp_path / "events.xlsx"
    assert store.export(QUERY, path, progress=False, timezone="Asia/Kolkata").events == len(wanted(own))
    book = openpyxl.load_workbook(path, read_only=True)
    heading, *rows = book["Events"].iter_rows(values_only=True)
    written = [dict(zip(heading, row, strict=True)) for row in rows]
    zone = ZoneInfo("Asia/Kolkata")
    for line, row in zip(written, wanted(own), strict=True):
        assert line["id"] == str(row.id)
        number = line["quantity"]
        assert Decimal(number if isinstance(number, str) else repr(number)) == row.quantity
        assert line["timestamp, exact (UTC)"] == rfc3339(row.timestamp)
        local = row.timestamp.astimezone(zone).replace(tzinfo=None)
        assert abs(line["timestamp (Asia/Kolkata)"] - local) <= timedelta(milliseconds=1)
        assert json.loads(line["dimensions"]) == json.loads(row.dimensions)
    about = dict(book["Query"].iter_rows(values_only=True, max_col=2))
    assert about["Events"] == len(written)
    assert about["metric_key"] in ("tokens_in", "a,b")
    assert "Asia/Kolkata" in about["Times"]


def test_an_excel_export_is_bounded_and_says_so(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.export.MAX_XLSX_EVENTS", 10)
    with pytest.raises(QueryError, match=r"query: has \d+ events, more than the 10 of a .xlsx file"):
        store.export(QUERY, tmp_path / "events.xlsx")
    assert not [*tmp_path.iterdir()]
    with pytest.raises(ConfigurationError, match="timezone: is for"):
        store.export(QUERY, tmp_path / "events.csv", timezone="Asia/Kolkata")
    with pytest.raises(QueryError, match="timezone"):
        store.export(QUERY, tmp_path / "events.xlsx", timezone="Asia/Kolkatta")
    with pytest.raises(ConfigurationError, match="escape_formulas: is for"):
        store.export(QUERY, tmp_path / "events.xlsx", escape_formulas=True)


def test_a_broken_export_leaves_the_old_file_and_no_other(store: Store, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("what was there")

    def stop(done: int, total: int) -> None:
        if done:
            raise StatementTimeout("cut off")

    with pytest.raises(StatementTimeout):
        store.export(QUERY, path, progress=stop)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "said"),
    [("events.xls", "does not end in .csv, .parquet or .xlsx"), ("no/such/folder.csv", "cannot be written")],
)
def test_a_path_that_cannot_be_written_is_refused(store: Store, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"path: .*{said}"):
        store.export(QUERY, tmp_path / name)


def test_memory_stays_bounded(events_database_url: str, events_connection: ddl.Connection, tmp_path: Path) -> None:
    """150,000 events grow the process by no more than a fraction of what holding them all would take."""
    events_connection.execute(
        """
        INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key,
                                  dimensions)
        SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'm', i, now(), i,
               jsonb_build_object('model', repeat('x', 200))
        FROM generate_series(1, 1) AS i
        """
    )
    organization = events_connection.execute("SELECT organization_id FROM usage_events").fetchone()
    assert organization is not None
    events_connection.execute(
        """
        INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key,
                                  dimensions)
        SELECT gen_random_uuid(), %s, gen_random_uuid(), 'm', i, now() - i * interval '1 s', i,
               jsonb_build_object('model', repeat('x', 200))
        FROM generate_series(1, 150000) AS i
        """,
        organization,
    )
    events_connection.commit()
    program = f"""
import resource
from usage_explore import EventQuery, connect
store = connect({events_database_url!r})
store.export(EventQuery(occurred_after="2199-01-01T00:00:00Z"), {str(tmp_path / "few.csv")!r}, progress=False)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store.export(EventQuery(), {str(tmp_path / "all.csv")!r}, progress=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 100_000, "kilobytes"
    assert (tmp_path / "all.csv").stat().st_size > 50_000_000
