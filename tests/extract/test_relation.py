"""SQL of one's own over the organization's events: every event exactly, and nothing else on the machine."""

from __future__ import annotations

import dataclasses
import gc
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

from support import generated_events
from support.extracts import add, build
from usage_explore import EventQuery, Store, connect
from usage_explore.db import ddl

LATE = datetime(2026, 11, 25, tzinfo=UTC)
FEW = [row for row in generated_events.generate(per_scene=40) if len(row.quantity.as_tuple().digits) < 20]


@pytest.fixture
def filled(events_connection: ddl.Connection, events_database_url: str, tmp_path: Path) -> Iterator[Store]:
    """A store of one of two organizations with extracts, and events that arrived after them."""
    generated_events.insert(events_connection, FEW)
    events_connection.commit()
    build(events_database_url, tmp_path, until=LATE - timedelta(days=1))
    add(events_connection, LATE, number=3, quantity=Decimal("0.123456789"))
    events_connection.commit()
    with connect(events_database_url, generated_events.ORGANIZATION, home=tmp_path) as store:
        yield store


@pytest.mark.parametrize("source", ["extract", "events"])
def test_it_has_every_event_exactly(filled: Store, source: str) -> None:
    store = filled if source == "extract" else dataclasses.replace(filled, extracts=None)
    assert filled.read(EventQuery(limit=1)).served.path == "extract"
    relation = store.relation()
    gc.collect()
    table = store.read(EventQuery()).table
    assert relation.columns == [name for name in table.column_names if not name.endswith("_name")]
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    assert (types["id"], types["timestamp"], types["dimensions"]) == ("UUID", "TIMESTAMP WITH TIME ZONE", "JSON")
    assert types["quantity"].startswith("DECIMAL(38")
    found = relation.query(
        "e",
        "SELECT id::VARCHAR, customer_id::VARCHAR, metric_key, quantity, epoch_us(timestamp), epoch_us(ingested_at),"
        " external_cost_amount, dimensions::VARCHAR, organization_id::VARCHAR, product_id::VARCHAR, wallet_currency"
        " FROM e ORDER BY timestamp DESC, e.id DESC",
    ).fetchall()
    instants = [[int(value.timestamp() * 10**6) for value in table[name].to_pylist()] for name in ("timestamp",)]
    columns = ["id", "customer_id", "metric_key", "quantity"]
    assert [row[:4] for row in found] == list(zip(*(table[name].to_pylist() for name in columns), strict=True))
    assert [row[4] for row in found] == instants[0]
    rest = ["external_cost_amount", "dimensions", "organization_id", "product_id", "wallet_currency"]
    texts = [re.sub(r'": (-?\d[^,}]*)', r'": "\1"', text) for text in table["dimensions"].to_pylist()]
    expected = table.set_column(table.column_names.index("dimensions"), "dimensions", pa.array(texts))
    assert [row[6:] for row in found] == list(zip(*(expected[name].to_pylist() for name in rest), strict=True))
    assert len(found) == store.count(EventQuery()) > 100
    first = relation.query("e", "SELECT timestamp, quantity FROM e ORDER BY timestamp DESC, e.id DESC LIMIT 5")
    assert [at for at, _ in first.fetchall()] == table["timestamp"].to_pylist()[:5]
    newest = first.to_arrow_table()
    assert newest["timestamp"].to_pylist() == table["timestamp"].to_pylist()[:5]
    assert newest["quantity"].to_pylist() == table["quantity"].to_pylist()[:5]
    models = relation.query("e", "SELECT count(*) FROM e WHERE dimensions->>'model' = 'large'").fetchall()[0]
    assert models == (store.count(EventQuery(dimensions={"model": "large"})),)


NUMBERS = ["1.50", "1.5", "0", "-0.0", "12345678901234567890.123", "0.1234567890123456789"]
TEXTS = {'say "x": 5, ok': "a", 'ends with "': "b", "a\\": "c", "": "d"}


@pytest.mark.parametrize("source", ["extract", "events"])
def test_numbers_in_dimensions_keep_their_digits(filled: Store, events_connection: ddl.Connection, source: str) -> None:
    """DuckDB's ->> makes floats of JSON's numbers: 1.50 was counted as 1.5."""
    for number in NUMBERS:
        add(events_connection, LATE, metric_key="numbers", dimensions={"n": "@", **TEXTS})
        events_connection.execute(
            "UPDATE usage_events SET dimensions = replace(dimensions::text, '\"@\"', %s)::jsonb"
            " WHERE metric_key = 'numbers' AND dimensions->>'n' = '@'",
            [number],
        )
    events_connection.commit()
    store = filled if source == "extract" else dataclasses.replace(filled, extracts=None)
    query = "SELECT dimensions->>'n', dimensions::VARCHAR FROM e WHERE metric_key = 'numbers'"
    found = store.relation().query("e", query).fetchall()
    assert sorted(number for number, _ in found) == sorted(choice.value for choice in store.dimension_values("n"))
    assert {key: value for _, text in found for key, value in json.loads(text).items() if key != "n"} == TEXTS


def test_it_stays_what_it_was_when_the_extract_is_refreshed(filled: Store, events_database_url: str) -> None:
    relation = filled.relation()
    before = relation.aggregate("count(*), sum(quantity)").fetchall()
    build(events_database_url, filled.extracts.home)  # type: ignore[union-attr]
    for file in (filled.extracts.home / "extract").rglob("*.parquet"):  # type: ignore[union-attr]
        file.unlink()
    assert relation.aggregate("count(*), sum(quantity)").fetchall() == before


ATTACKS = [
    "SELECT * FROM read_parquet('{other}')",
    "SELECT * FROM '{other}'",
    "SELECT * FROM parquet_metadata('{other}')",
    "SELECT * FROM glob('{home}/**')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_blob('{other}')",
    "SELECT * FROM read_csv('{other}')",
    "SELECT * FROM sniff_csv('/etc/passwd')",
    "COPY (SELECT 1) TO '{home}/stolen.csv'",
    "COPY usage_events FROM '{other}'",
    "EXPORT DATABASE '{home}/stolen'",
    "IMPORT DATABASE '{home}/stolen'",
    "ATTACH '{home}/stolen.db'",
    "ATTACH 'postgresql://localhost' AS p (TYPE postgres)",
    "INSTALL httpfs",
    "LOAD httpfs",
    "LOAD '{home}/x.duckdb_extension'",
    "SELECT * FROM read_parquet('https://example.com/x.parquet')",
    "SELECT * FROM secret_frame",
    "SELECT * FROM others",
    "SET enable_external_access = true",
    "SET allowed_directories = ['/']",
    "SET allowed_paths = ['{other}']",
    "SET lock_configuration = false",
    "RESET lock_configuration",
    "SET python_enable_replacements = true",
    "SET temp_directory = '{home}'",
    "SET memory_limit = '100GB'",
    "CREATE SECRET (TYPE s3, KEY_ID 'a', SECRET 'b')",
    "SELECT getenv('HOME')",
    "CHECKPOINT '{home}/stolen'",
]


def test_no_sql_reaches_anything_else(filled: Store) -> None:
    home = filled.extracts.home  # type: ignore[union-attr]
    other = next(file for file in home.rglob("*.parquet") if str(generated_events.NEIGHBOUR) in str(file))
    secret_frame = filled.read(EventQuery(limit=1)).table  # what a look-up of Python's variables would find
    before = sorted(home.rglob("*"))
    relation = filled.relation()
    for attack in ATTACKS:
        with pytest.raises(duckdb.Error):
            relation.query("e", attack.format(other=other, home=home)).fetchall()
    assert sorted(home.rglob("*")) == before
    assert secret_frame.num_rows
    with duckdb.connect() as open_connection:  # the attack works where nothing forbids it
        assert open_connection.execute(ATTACKS[0].format(other=other)).fetchall()
        assert open_connection.execute("SELECT count(*) FROM secret_frame").fetchall()


def test_views_and_tables_that_sql_makes_show_no_other_organization(filled: Store) -> None:
    relation = filled.relation()
    owners = relation.query("e", "SELECT DISTINCT organization_id::VARCHAR FROM e").fetchall()
    assert owners == [(str(generated_events.ORGANIZATION),)]
    tables = relation.query("e", "SELECT database_name, view_name FROM duckdb_views() WHERE NOT internal").fetchall()
    for database, view in tables:
        assert database in ("memory", "temp")
        ((number,),) = relation.query("e", f'SELECT count(*) FROM "{view}"').fetchall()
        assert number <= filled.count(EventQuery())


def test_the_process_ends_without_a_report_of_leaks(filled: Store, events_database_url: str) -> None:
    home = filled.extracts.home  # type: ignore[union-attr]
    code = (
        "from usage_explore import connect\n"
        f"store = connect({events_database_url!r}, {str(generated_events.ORGANIZATION)!r}, home={str(home)!r})\n"
        "relation = store.relation()\nprint(relation.aggregate('count(*)').fetchall()[0][0])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == (f"{filled.count(EventQuery())}\n", "")
