"""Times without a zone are refused at every door in the same words, and what `doctor` prints makes them answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking
from support.interface_answers import WHOLE, doors
from usage_explore import AggregateQuery, EventQuery, Period, Store, connect
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.doctor import Finding, examine
from usage_explore.errors import TableMismatch

WORDS = "timestamp, which does not say which instant it is; it must be timestamptz"

DOORS: dict[str, Callable[[Store, Path], object]] = {
    "events": lambda store, folder: store.events(),
    "count": lambda store, folder: store.count(EventQuery()),
    "aggregate": lambda store, folder: store.aggregate(AggregateQuery(**WHOLE)),
    "values": lambda store, folder: store.values("metric_key"),
    "keys": lambda store, folder: store.dimension_keys(),
    "extent": lambda store, folder: store.extent(),
    "export": lambda store, folder: store.export(EventQuery(), folder / "all.csv", progress=False),
    "csv page": lambda store, folder: store.events_csv(EventQuery()),
    "csv stream": lambda store, folder: next(store.export_csv(EventQuery())),
    "validate": lambda store, folder: store.validate(Period(**WHOLE)),
    "explain": lambda store, folder: store.explain(AggregateQuery(**WHOLE), since=WHOLE["since"], until=WHOLE["until"]),
    "sql": lambda store, folder: store.sql(AggregateQuery(**WHOLE)),
    "pin": lambda store, folder: store.pin(EventQuery()),
}

TIMEOUT = timedelta(seconds=30)


@pytest.fixture(params=[("timestamp",), ("ingested_at",), ("timestamp", "ingested_at")], ids=" and ".join)
def naive(request: pytest.FixtureRequest, events_connection: ddl.Connection) -> tuple[str, ...]:
    """Some of the times are without a zone; which."""
    generated_events.insert(events_connection, generated_events.generate(per_scene=8))
    columns = ", ".join(f"{column} AT TIME ZONE 'UTC' AS {column}" for column in request.param)
    others = ", ".join(c.name for c in events_table().columns if c.name not in request.param)
    events_connection.execute(f"CREATE TABLE naive AS SELECT {others}, {columns} FROM usage_events".encode())
    for column in events_table().columns:
        if not column.nullable:
            events_connection.execute(f"ALTER TABLE naive ALTER {column.name} SET NOT NULL".encode())
    events_connection.commit()
    return tuple(request.param)


@pytest.fixture
def store(events_database_url: str, naive: tuple[str, ...]) -> Iterator[Store]:
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION, table="naive") as opened:
        yield opened


def test_every_door_says_the_same(
    store: Store, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    for name, door in DOORS.items():
        with pytest.raises(TableMismatch, match=WORDS):
            pytest.fail(f"{name} answered {door(store, tmp_path)!r}")
    with asking(store) as client:
        for path in (EVENTS, AGGREGATE, EXPORT, "/readyz"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()["type"]) == (503, "urn:usage-explore:problem:mismatch"), path
    for command in (["export", str(tmp_path / "all.csv")], ["extract"], ["validate"]):
        options = ["--database-url", events_database_url, "--table", "naive"]
        result = CliRunner().invoke(
            main, [*command, *options], env={"USAGE_EXPLORE_ORGANIZATION_ID": str(generated_events.ORGANIZATION)}
        )
        assert result.exit_code != 0
        assert "must be timestamptz" in " ".join(result.stderr.split()), command


def cures(url: str, table: str) -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(url, table, TIMEOUT) if finding.state != "ok"}


def test_what_the_doctor_prints_makes_it_answer(
    store: Store,
    naive: tuple[str, ...],
    events_connection: ddl.Connection,
    events_database_url: str,
    tmp_path: Path,
) -> None:
    found = cures(events_database_url, "naive")
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION) as original:
        expected = doors(original, tmp_path)
    events_connection.execute(found["view"].fix.encode())
    events_connection.commit()
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION, table="naive_usage") as viewed:
        assert doors(viewed, tmp_path) == expected
        if "timestamp" in naive:
            for path in ("seqscan", "sort", "bitmapscan"):
                events_connection.execute(f"SET enable_{path} = off".encode())
            plan = "\n".join(
                line for (line,) in events_connection.execute(f"EXPLAIN {viewed.sql(EventQuery())}".encode())
            )
            assert "Index Cond: ((organization_id =" in plan, plan
            assert "Sort" not in plan.replace("Sort Key", ""), plan
    events_connection.execute("DROP VIEW naive_usage")
    for column in naive:
        alter = found[f"column {column}"].fix.removeprefix("It should be timestamptz. ")
        events_connection.execute(alter.encode())
    events_connection.commit()
    assert "view" not in cures(events_database_url, "naive")
    with connect(events_database_url, organization_id=generated_events.ORGANIZATION, table="naive") as mended:
        assert doors(mended, tmp_path) == expected


def test_a_table_without_any_time_gets_no_view(connection: ddl.Connection, database_url: str) -> None:
    connection.execute("CREATE TABLE other (id uuid, account_id uuid, amount numeric, region text)")
    connection.commit()
    view = cures(database_url, "other")["view"]
    assert "no column holds the time" in view.message
    assert "CREATE VIEW" not in view.fix


def test_a_type_that_was_mended_is_noticed(store: Store, events_connection: ddl.Connection) -> None:
    with pytest.raises(TableMismatch):
        store.events()
    for column in ("timestamp", "ingested_at"):
        kind = events_connection.execute(f"SELECT pg_typeof({column})::text FROM naive LIMIT 1".encode()).fetchone()
        if kind == ("timestamp without time zone",):
            events_connection.execute(
                f"ALTER TABLE naive ALTER {column} TYPE timestamptz USING {column} AT TIME ZONE 'UTC'".encode()
            )
    events_connection.commit()
    assert store.events().events[0].timestamp.tzinfo is not None
    assert store.events().events[0].timestamp <= datetime.now(UTC)
