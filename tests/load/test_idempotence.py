"""Loading twice is loading once; what is in the file is in the table; half a file is never there."""

from __future__ import annotations

import io
import json
import random
import re
import subprocess
import sys
import threading
import time
import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.thoroughness import cases
from usage_explore.db import ddl
from usage_explore.db.schema import COLUMNS
from usage_explore.errors import DatabaseUnavailable, LoadError
from usage_explore.load.joined_columns import currency_text

BASE = datetime(2026, 1, 31, 8, tzinfo=UTC)


def test_loading_twice_adds_nothing_and_says_so(load, table_of):
    text = table_of({}, {"idempotency_key": "k2"}, {"idempotency_key": ""}, {"idempotency_key": ""})
    first = load.csv(text)
    rows = load.rows()
    again = load.csv(text)
    assert (first.loaded, first.already_there) == (4, 0)
    assert (again.loaded, again.already_there) == (0, 4)
    assert "every row was in the table already; nothing was added" in str(again)
    assert load.rows() == rows


FULL = {
    "quantity": "1.50",
    "external_cost_amount": "2",
    "external_cost_currency": "USD",
    "wallet_currency": "USD",
    "product_id": "disk",
    "subscription_id": "s1",
    "price_key": "p1",
    "region": "EU",
    "seats": "3.0",
}


@pytest.mark.parametrize(
    ("changed", "differing"),
    [
        ({"customer_id": str(uuid.uuid4())}, ("customer_id",)),
        ({"metric_key": "calls"}, ("metric_key",)),
        ({"quantity": "1.6"}, ("quantity",)),
        (
            {"external_cost_amount": "3", "external_cost_currency": "EUR"},
            ("external_cost_amount", "external_cost_currency"),
        ),
        ({"external_cost_currency": "EUR"}, ("external_cost_currency",)),
        ({"wallet_currency": "EUR"}, ("wallet_currency",)),
        ({"wallet_currency": ""}, ("wallet_currency",)),
        ({"product_id": "tape"}, ("product_id",)),
        ({"subscription_id": "s2"}, ("subscription_id",)),
        ({"price_key": "p2"}, ("price_key",)),
        ({"region": "US"}, ("region",)),
        ({"team": "ops", "region": ""}, ("region", "team")),
        ({"seats": "30"}, ("seats",)),
        ({"region": "eu", "seats": "3", "quantity": "1.5"}, ()),  # written otherwise
    ],
)
def test_another_value_under_the_same_key_and_time_is_said(load_again, table_of, changed, differing):
    """A corrected customer or wallet was "in the table already", and nothing else was said."""
    one, other = ({**FULL, "idempotency_key": key} for key in ("k1", "k2"))
    load_again.csv(table_of(one, other))
    report = load_again.csv(table_of(one, {**other, **changed}))
    assert (report.loaded, report.already_there) == (0, 2)
    assert (report.changed, report.changed_columns) == (int(bool(differing)), differing)
    assert ("every row was in the table already" in str(report)) == (not differing)
    assert (f"other values in {' and '.join(differing)}; not loaded: load the file again" in str(report)) == bool(
        differing
    )


def test_two_files_are_as_good_as_one(load, load_again, table_of):
    rows = [{"idempotency_key": f"k{i}", "timestamp": (BASE + timedelta(seconds=i % 7)).isoformat()} for i in range(40)]
    a, b = load.file("a.csv", table_of(*rows[:25])), load.file("b.csv", table_of(*rows[25:]))
    load(a)
    load(b)
    load_again(load_again.file("ab.csv", table_of(*rows)))
    columns = ("organization_id", "id", "idempotency_key", "timestamp")
    assert load.rows(*columns) == load_again.rows(*columns)
    assert load.count() == 40


def test_repeats_are_loaded_and_counted_aloud(load, table_of):
    later = "2026-01-31T09:00:00Z"
    load.csv(table_of({"idempotency_key": "old"}, {"idempotency_key": "k0"}))
    text = table_of(
        {"idempotency_key": "k0"},  # there already
        {"idempotency_key": "k1"},
        {"idempotency_key": "k1", "quantity": "2"},  # repeats a key and time of the file
        {"idempotency_key": "k1"},
        {"idempotency_key": "k2"},
        {"idempotency_key": "k2", "timestamp": later},  # also at another time, in the file
        {"idempotency_key": "old", "timestamp": later},  # also at another time, in the table
        {"idempotency_key": ""},
        {"idempotency_key": ""},  # equal rows without a key
    )
    report = load.csv(text)
    assert (report.loaded, report.already_there, report.rejected) == (8, 1, 0)
    assert (report.repeats, report.other_times, report.identical, report.generated_keys) == (2, 2, 1, 2)
    said = str(report)
    assert "loaded 8 events (1 already there, 0 rejected)" in said
    assert "2 rows repeat an idempotency key and time of the same file; loaded" in said
    assert "2 idempotency keys also at another time; loaded" in said
    assert "1 row equals an earlier row of the file, without a key; loaded" in said
    assert len({row[0] for row in load.rows("id")}) == 10


def test_a_growing_export_adds_only_what_is_new(load, table_of):
    load.csv(table_of({"idempotency_key": ""}))
    report = load.csv(
        table_of({"idempotency_key": ""}, {"idempotency_key": ""}, {"idempotency_key": "", "quantity": "2"})
    )
    assert (report.loaded, report.already_there, load.count()) == (2, 1, 3)
    keys = sorted(key for (key,) in load.rows("idempotency_key"))
    assert all(re.fullmatch(r"row:[0-9a-f]{32}(#2)?", key) for key in keys)


def test_the_generated_key_does_not_depend_on_the_file_type(load, table_of):
    load.csv(table_of(idempotency_key=None, quantity="1.50", timestamp="2026-01-31T09:00:00+01:00"))
    event = {
        "customer_id": "00000000-0000-4000-8000-0000000000C1",
        "quantity": 1.5,
        "metric_key": "tokens",
        "timestamp": "2026-01-31T08:00:00Z",
    }
    report = load(load.file("events.jsonl", json.dumps(event)))
    assert (report.loaded, report.already_there) == (0, 1)


def test_a_given_ingested_at_is_kept_and_old_ones_are_warned_of(load, table_of):
    future = datetime.now(UTC) + timedelta(days=30)
    old = datetime.now(UTC) - timedelta(minutes=6)
    recent = datetime.now(UTC) - timedelta(minutes=4)
    before = datetime.now(UTC)
    report = load.csv(
        table_of(
            *[
                {"idempotency_key": f"k{i}", "ingested_at": at.isoformat() if at else ""}
                for i, at in enumerate([future, old, recent, None, None])
            ]
        )
    )
    after = datetime.now(UTC)
    by_key = dict(load.rows("idempotency_key", "ingested_at"))
    assert [by_key[f"k{i}"] for i in range(3)] == [future, old, recent]
    assert by_key["k3"] == by_key["k4"]
    assert before <= by_key["k3"] <= after
    assert report.backdated == 1
    assert "warning: 1 row says ingested_at more than 5 minutes ago" in str(report)
    late = table_of(ingested_at=recent.isoformat(), idempotency_key="late")
    assert load.csv(late, settle=timedelta(seconds=30)).backdated == 1


def test_a_given_id_is_kept_and_a_taken_one_is_refused(load, table_of):
    mine = str(uuid.uuid4())
    load.csv(table_of(id=mine))
    assert load.rows("id") == [(uuid.UUID(mine),)]
    text = table_of({"id": mine, "idempotency_key": "other"}, {"id": "", "idempotency_key": "free"})
    with pytest.raises(LoadError, match=f"line 2, id: {mine} is the id of an event in the table at the same time"):
        load.csv(text)
    twice = table_of({"id": mine.upper(), "timestamp": "2026-02-01T00:00:00Z", "idempotency_key": "a"}).strip()
    twice = f"{twice}\n{twice.splitlines()[1]}\n"
    with pytest.raises(LoadError, match=r"line 3, id: .* is the id of an earlier row of the file"):
        load.csv(twice)
    assert load.count() == 1
    report = load.csv(text, skip_bad=True)
    assert (report.loaded, report.rejected, load.count()) == (1, 1, 2)


def test_two_loads_of_one_file_at_once_add_it_once(load, table_of, database_url):
    from usage_explore.db.schema import events_table
    from usage_explore.load import load_files

    path = load.file("events.csv", table_of(*[{"idempotency_key": f"k{i}"} for i in range(3000)]))
    reports = []

    def work() -> None:
        with ddl.connect(database_url) as connection:
            reports.extend(load_files(connection, events_table(), [path], organization_id=uuid.UUID(int=1)))

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(report.loaded for report in reports) == [0, 0, 3000]
    assert load.count() == 3000


# Round trips ------------------------------------------------------------------------------------------------

texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=12)
numbers = st.decimals(-(10**20), 10**20, allow_nan=False, places=12) | st.decimals(-(10**30), 10**30, places=3)
times = st.datetimes(datetime(1970, 1, 2), datetime(2199, 12, 30)).flatmap(  # noqa: DTZ001 - a zone is put on
    lambda at: st.integers(-14 * 60, 14 * 60).map(lambda m: at.replace(tzinfo=timezone(timedelta(minutes=m))))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=5,
)
events = st.fixed_dictionaries(
    {
        "id": st.uuids(),
        "organization_id": st.uuids(),
        "customer_id": st.uuids(),
        "product_id": st.none() | st.uuids(),
        "subscription_id": st.none() | st.uuids(),
        "metric_key": texts.map(str.strip).filter(bool),
        "price_key": st.none() | texts.filter(bool),
        "quantity": numbers,
        "timestamp": times,
        "ingested_at": times,
        "idempotency_key": texts.filter(bool),
        "external_cost_amount": st.none() | numbers,
        "external_cost_currency": st.none() | texts.filter(str.strip).map(currency_text),
        "wallet_currency": st.none() | texts.filter(bool),
        "dimensions": st.dictionaries(texts, json_values, max_size=3),
    }
)


def as_csv(rows: list[dict]) -> bytes:
    lines = [",".join(COLUMNS)]
    for row in rows:
        given = [json.dumps(row[name]) if name == "dimensions" else row[name] for name in COLUMNS]
        lines.append(",".join("" if value is None else '"' + str(value).replace('"', '""') + '"' for value in given))
    return "\r\n".join(lines).encode()


def as_jsonl(rows: list[dict]) -> bytes:
    return b"".join(json.dumps(row, default=str).encode() + b"\n" for row in rows)


def as_parquet(rows: list[dict]) -> bytes:
    kinds = {"timestamp": pa.timestamp("us", "UTC"), "ingested_at": pa.timestamp("us", "UTC")}
    decimals = {"quantity": pa.decimal256(60, 12), "external_cost_amount": pa.decimal256(60, 12)}
    columns = {}
    for name in COLUMNS:
        values = [row[name] for row in rows]
        if name in kinds:
            columns[name] = pa.array(values, kinds[name])
        elif name in decimals:
            columns[name] = pa.array(values, decimals[name])
        elif name == "dimensions":
            columns[name] = pa.array([json.dumps(value) for value in values], pa.string())
        else:
            columns[name] = pa.array([None if value is None else str(value) for value in values], pa.string())
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("name", "write", "files", "least", "most"),
    [("e.csv", as_csv, 25, 1, 6), ("e.jsonl", as_jsonl, 25, 1, 6), ("e.parquet", as_parquet, 8, 9, 18)],
    ids=["e.csv-as_csv", "e.jsonl-as_jsonl", "e.parquet-as_parquet"],
)
def test_what_is_in_the_file_is_in_the_table(load, name, write, files, least, most):
    """Of a type that a process of its own decodes, fewer files hold as many rows."""

    @settings(max_examples=cases(files), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(events, min_size=least, max_size=most, unique_by=lambda event: event["id"]))
    def law(rows: list[dict]) -> None:
        report = load(load.file(name, write(rows)), organization_id=None)
        assert report.loaded == len(rows)
        found = {row["id"]: row for row in (dict(zip(COLUMNS, values, strict=True)) for values in load.rows())}
        assert found == {row["id"]: row for row in rows}
        load.connection.execute("TRUNCATE usage_events")
        load.connection.commit()

    law()


# Size and failure -------------------------------------------------------------------------------------------

LOADING = """
import resource, sys, uuid
from usage_explore.db import ddl as writing
from usage_explore.load import load_files
from usage_explore.db.schema import events_table
with writing.connect(sys.argv[1]) as connection:
    report = load_files(connection, events_table(), [sys.argv[2]], organization_id=uuid.UUID(int=1))[0]
print(report.loaded, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def big(load, rows: int):
    customer = uuid.UUID(int=7)
    path = load.folder / f"big{rows}.csv"
    rng = random.Random(1)
    with path.open("w") as file:
        file.write("customer_id,metric_key,quantity,timestamp,idempotency_key,dimensions\n")
        for number in range(rows):
            at = (BASE + timedelta(seconds=number)).isoformat()
            dimensions = f'"{{""api_key"": ""{rng.randrange(10**9)}""}}"'
            file.write(f"{customer},tokens,{number}.5,{at},k{number},{dimensions}\n")
    return path


def test_memory_does_not_grow_with_the_file(load, database_url):
    used = {}
    for rows in (2_000, 80_000):
        done = subprocess.run(
            [sys.executable, "-c", LOADING, database_url, str(big(load, rows))],
            check=True,
            capture_output=True,
            text=True,
        )
        loaded, used[rows] = map(int, done.stdout.split())
    assert loaded == 78_000
    assert used[80_000] < used[2_000] + 30


def test_a_connection_that_breaks_leaves_nothing_of_the_file(load, database_url):
    path = big(load, 60_000)
    load.csv("customer_id,metric_key,quantity,timestamp\n")
    done = threading.Event()

    def cut() -> None:
        with psycopg.connect(database_url, autocommit=True) as other:
            while not done.is_set():
                killed = other.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_progress_copy WHERE tuples_processed > 1000 "
                    "AND datname = current_database()"
                ).fetchall()
                if killed:
                    return
                time.sleep(0.005)

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        with pytest.raises(DatabaseUnavailable, match="broke, so nothing of the file was loaded; load it again"):
            load(path)
    finally:
        done.set()
        thread.join()
    with ddl.connect(database_url) as other:
        assert other.execute("SELECT count(*) FROM usage_events").fetchone() == (0,)


def test_an_interrupted_load_leaves_nothing_and_the_connection_works(load, table_of, monkeypatch):
    from usage_explore.files import csv_source

    load.csv(table_of())
    rows = table_of(*[{"idempotency_key": f"n{i}"} for i in range(50)])
    original = csv_source.CsvSource.__iter__

    def interrupted(self):
        for number, record in enumerate(original(self)):
            if number == 30:
                raise KeyboardInterrupt
            yield record

    monkeypatch.setattr(csv_source.CsvSource, "__iter__", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load.csv(rows)
    monkeypatch.undo()
    assert load.count() == 1
    assert load.csv(rows).loaded == 50


def test_a_failing_insert_leaves_nothing_and_says_what_the_database_said(load, table_of):
    load.csv(table_of())
    load.connection.execute("ALTER TABLE usage_events ADD CHECK (quantity < 100)")
    load.connection.commit()
    with pytest.raises(
        LoadError, match=r"the database refused it, so nothing of the file was loaded: .*check constraint"
    ):
        load.csv(table_of({"idempotency_key": "a"}, {"idempotency_key": "b", "quantity": "100"}))
    with suppress(psycopg.Error):
        load.connection.rollback()
    assert load.count() == 1
    assert load.rows("quantity") == [(Decimal(1),)]
