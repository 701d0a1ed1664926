"""A damaged value in a row of records is an error in words at every reading, never another exception."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.plain_events import beside, event
from support.record_places import as_role
from support.thoroughness import THOROUGH
from usage_explore import AggregateQuery, Period, Store
from usage_explore.db import ddl
from usage_explore.errors import RecordError, UsageExploreError
from usage_explore.records.tables import RECORD_TABLES

SEPTEMBER = Period(since="2026-09-01T00:00:00Z", until="2026-10-01T00:00:00Z")
DAMAGED = [None, "", b"\x00\xff", 0, 10**18, "null", "[null]", '{"lines":[[1]]}', "2026-13-45 00:00:00.000000"]
DAMAGED += ["0001-01-01 00:00:00.000000", "9999-12-31 23:59:59.999999", "NaN", "since=zz", "[" * 3000, "Europe/Berlim"]


def _changes(store: Store, _: Any) -> None:
    for signoff in store.signoffs():
        store.changes_since(signoff).sentence  # noqa: B018 - a property that computes


READINGS: dict[str, list[Callable[[Store, Any], object]]] = {
    "usage_views": [lambda store, _: [(view.query, view.page) for view in store.views()]],
    "usage_links": [lambda store, _: [(link.query, link.to_dict()) for link in store.links()]],
    "usage_validation_runs": [
        lambda store, _: [run.to_dict() for run in store.runs()],
        lambda store, _: store.closest_run((datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC))),
        lambda store, validation: store.review(validation),
    ],
    "usage_signoffs": [lambda store, _: [signoff.to_dict() for signoff in store.signoffs()], _changes],
    "usage_decisions": [lambda store, _: store.decisions(), lambda store, validation: store.review(validation)],
}


@pytest.fixture(params=["file"])
def store(
    request: pytest.FixtureRequest, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> Iterator[Store]:
    """A store that keeps a record of each kind in a file, or in tables."""
    day = datetime(2026, 9, 10, 12, tzinfo=UTC)
    rows = [event(day), *(event(day, idempotency_key="the same") for _ in range(3))]
    with as_role(request.param, events_connection, events_database_url, tmp_path, [*rows, *beside(rows)]) as opened:
        query = AggregateQuery(window="2026-09")
        opened.save_view("a view", query)
        opened.share(query)
        validation = opened.validate(SEPTEMBER)
        opened.sign_off(validation, by="ana")
        opened.decide(validation.findings[0], "mute", until="2027-01-01T00:00:00Z")
        yield opened


@pytest.mark.parametrize("table", [one.name for one in RECORD_TABLES])
def test_a_damaged_value_is_an_error_in_words(store: Store, tmp_path: Path, table: str) -> None:
    validation = store.validate(SEPTEMBER, checks=["duplicates"])
    (path,) = tmp_path.rglob("*.sqlite")
    refused = 0
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        (before,) = connection.execute(f"SELECT * FROM {table}").fetchall()
        for column, whole in zip(columns, before, strict=True):
            for value in DAMAGED if THOROUGH else DAMAGED[columns.index(column) % 2 :: 2]:
                with suppress(sqlite3.IntegrityError):
                    connection.execute(f'UPDATE {table} SET "{column}" = ?', [value])
                for reading in READINGS[table]:
                    try:
                        reading(store, validation)
                    except UsageExploreError:
                        refused += 1
                connection.execute(f'UPDATE {table} SET "{column}" = ?', [whole])
    assert refused > len(columns)
    for reading in READINGS[table]:
        reading(store, validation)


@pytest.mark.parametrize(
    ("table", "column", "change"),
    [
        ("usage_signoffs", "usage", lambda usage: usage["lines"][0].__setitem__(5, "1e999999999")),
        ("usage_signoffs", "usage", lambda usage: usage["lines"][0].__setitem__(6, "1e-999999999")),
        ("usage_signoffs", "usage", lambda usage: usage["lines"][0].__setitem__(0, "=cmd")),
        ("usage_signoffs", "usage", lambda usage: usage["lines"][0].__setitem__(1, ["m"])),
        ("usage_signoffs", "open", lambda _: [{"check": "a", "kind": "", "events": 1, "severity": "high"}]),
        ("usage_validation_runs", "findings", lambda findings: findings[0].update(customer_id=["a"])),
        ("usage_validation_runs", "findings", lambda findings: findings[0].update(kind={"a": 1})),
        ("usage_validation_runs", "findings", lambda findings: findings[0].update(amounts={"USD": "1e999999999"})),
        ("usage_decisions", "finding", lambda finding: finding.update(id=5)),
        ("usage_decisions", "finding", lambda finding: finding.update(events="x")),
    ],
)
def test_a_damaged_value_within_a_row_names_the_row(
    store: Store, tmp_path: Path, table: str, column: str, change: Callable[[Any], Any]
) -> None:
    """A number of a billion digits filled the memory; a list in place of an id ended every validation."""
    validation = store.validate(SEPTEMBER, checks=["duplicates"])
    (path,) = tmp_path.rglob("*.sqlite")
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        ((text,),) = connection.execute(f"SELECT {column} FROM {table}").fetchall()
        content = json.loads(text)
        content = change(content) or content
        connection.execute(f"UPDATE {table} SET {column} = ?", [json.dumps(content)])
    for reading in READINGS[table]:
        with pytest.raises(RecordError, match=rf"The row .* of {table} in .* cannot be read: .*Restore it from"):
            reading(store, validation)


@pytest.mark.each_value
@pytest.mark.parametrize("store", ["table"], indirect=True)
@pytest.mark.parametrize("table", [one.name for one in RECORD_TABLES])
@pytest.mark.parametrize("value", ["infinity", "0044-03-15 BC", "20000-01-01"])
def test_a_time_that_python_has_not_names_its_row(
    store: Store, events_connection: ddl.Connection, table: str, value: str
) -> None:
    """An administrator may write "never expires" so; the error named no row and sent to a command that saw none."""
    validation = store.validate(SEPTEMBER, checks=["duplicates"])
    times = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND atttypid = 'timestamptz'::regtype"
    ((id_,),) = events_connection.execute(f"SELECT id FROM {table}".encode()).fetchall()
    for (column,) in events_connection.execute(times, [table]).fetchall():
        events_connection.execute(f"CREATE TABLE whole AS TABLE {table}".encode())
        events_connection.execute(f'UPDATE {table} SET "{column}" = %s'.encode(), [value])
        events_connection.commit()
        with pytest.raises(
            RecordError, match=rf"The row {id_} of {table} in the table .* cannot be read: \"{column} is"
        ):
            READINGS[table][0](store, validation)
        events_connection.execute(f'UPDATE {table} SET "{column}" = (SELECT "{column}" FROM whole)'.encode())
        events_connection.execute("DROP TABLE whole")
        events_connection.commit()
    READINGS[table][0](store, validation)
