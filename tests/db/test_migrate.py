"""What `init` makes on each kind of server: whole, once, and never against what was chosen before."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg import sql

from support import generated_events
from support.database_servers import drop_role, kind
from support.query_oracle import Row
from usage_explore import AggregateQuery, EventQuery, connect
from usage_explore.config import DEFAULT_STATEMENT_TIMEOUT
from usage_explore.db import StorageOptions, catalog, ddl, timescale
from usage_explore.db.catalog import Relation, relation
from usage_explore.db.ddl import migrate_table
from usage_explore.doctor import examine, performance
from usage_explore.errors import ConfigurationError, DatabaseUnavailable

UNCHANGED = StorageOptions()
DAY = timedelta(days=1)


def table(connection: ddl.Connection) -> Relation:
    found = relation(connection, "usage_events")
    connection.commit()
    assert found is not None
    return found


def arranged(connection: ddl.Connection, options: StorageOptions = UNCHANGED) -> list[str]:
    """What `init` says on a table that is there."""
    said: list[str] = []
    connection.commit()
    migrate_table(connection, "usage_events", options, said.append)
    return said


def lacking(connection: ddl.Connection) -> list[str]:
    """The wanted indexes that nothing serves, and the statistics that are not there."""
    found = table(connection)
    there = catalog.existing_indexes(connection, found)
    lacks = [
        str(index.name) for index in catalog.wanted_indexes(found) if not any(each.serves(index) for each in there)
    ]
    lacks += catalog.missing_statistics(connection, found)
    connection.commit()
    return lacks


def undo(connection: ddl.Connection) -> None:
    """Leave the table with the index that keeps it unique alone, as an older version might have made it."""
    found = table(connection)
    for index in catalog.wanted_indexes(found):
        if not index.unique:
            connection.execute(f"DROP INDEX {index.name}")
    for (name,) in connection.execute("SELECT stxname FROM pg_statistic_ext").fetchall():
        connection.execute(f"DROP STATISTICS {name}")
    connection.commit()


@pytest.fixture
def filled(events_connection: ddl.Connection) -> ddl.Connection:
    generated_events.insert(events_connection, generated_events.generate(per_scene=20))
    return events_connection


@pytest.fixture
def on_timescaledb(server_url: str) -> None:
    if kind(server_url) != "timescaledb":
        pytest.skip("the server in USAGE_EXPLORE_TEST_DATABASE_URL has no TimescaleDB")


@pytest.fixture
def on_citus(server_url: str) -> None:
    if kind(server_url) != "citus":
        pytest.skip("the server in USAGE_EXPLORE_TEST_DATABASE_URL has no Citus")


def test_a_new_table_lacks_nothing(events_connection: ddl.Connection) -> None:
    assert lacking(events_connection) == []
    assert arranged(events_connection) == []


def test_what_an_older_table_lacks_is_made_once(filled: ddl.Connection) -> None:
    undo(filled)
    missing = lacking(filled)
    assert missing
    said = arranged(filled)
    assert [name for name in missing if not any(name in step for step in said)] == [
        name for name in missing if name.endswith("_pairs")
    ]
    assert lacking(filled) == []
    assert arranged(filled) == []


def test_an_interrupted_index_is_made_again(filled: ddl.Connection) -> None:
    undo(filled)
    filled.execute("CREATE INDEX usage_events_ingested ON usage_events (organization_id, ingested_at)")
    filled.execute("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'usage_events_ingested'::regclass")
    filled.commit()
    assert "usage_events_ingested" in lacking(filled)
    arranged(filled)
    assert lacking(filled) == []


def test_an_index_of_the_same_name_is_left_alone(filled: ddl.Connection) -> None:
    filled.execute("DROP INDEX usage_events_metric")
    filled.execute("CREATE INDEX usage_events_metric ON usage_events (quantity)")
    (said,) = arranged(filled)
    assert said.startswith("Left alone: usage_events_metric")
    keys = {index.name: index.keys for index in catalog.existing_indexes(filled, table(filled))}
    assert keys["usage_events_metric"] == ("quantity",)


def test_doubles_keep_the_paging_index_from_being_made(filled: ddl.Connection) -> None:
    filled.execute("DROP INDEX usage_events_page")
    filled.execute("INSERT INTO usage_events SELECT * FROM usage_events LIMIT 1")
    said = arranged(filled)
    assert said[-1].startswith("Not made: usage_events_page")
    assert lacking(filled) == ["usage_events_page"]


def test_one_at_a_time(filled: ddl.Connection, events_database_url: str) -> None:
    undo(filled)
    with ddl.connect(events_database_url) as other:
        other.execute("SELECT pg_advisory_lock(hashtext('usage-explore init'))")
        with pytest.raises(DatabaseUnavailable, match="Another"):
            arranged(filled)
        other.execute("SELECT pg_advisory_unlock_all()")
    arranged(filled)
    assert lacking(filled) == []


def test_the_planner_knows_what_only_a_neighbour_uses(events_connection: ddl.Connection) -> None:
    if table(events_connection).hypertable or table(events_connection).distributed:
        pytest.skip("a plain table's statistics")
    events_connection.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)"
        " SELECT gen_random_uuid(), CASE WHEN g % 2 = 0 THEN %s ELSE %s END, gen_random_uuid(),"
        " CASE WHEN g % 2 = 0 THEN 'mine' ELSE 'theirs' END, 1, now(), g FROM generate_series(1, 4000) g".replace(
            "% 2", "%% 2"
        ),
        [generated_events.ORGANIZATION, generated_events.NEIGHBOUR],
    )
    events_connection.execute("ANALYZE usage_events")
    plan = events_connection.execute(
        "EXPLAIN (FORMAT JSON) SELECT FROM usage_events WHERE organization_id = %s AND metric_key = 'theirs'",
        [generated_events.ORGANIZATION],
    ).fetchone()
    assert plan is not None
    assert plan[0][0]["Plan"]["Plan Rows"] < 10


@given(st.floats(1, 1e15), st.integers(1, 2**50))
def test_the_chunk_interval_is_the_longest_that_fits(per_day: float, room: int) -> None:
    chosen = timescale.fitting(per_day, room)
    assert timedelta(hours=1) <= chosen <= timedelta(days=28)
    assert per_day * (chosen / DAY) <= room or chosen == timedelta(hours=1)
    assert timescale.fitting(per_day * 2, room) <= chosen <= timescale.fitting(per_day, room * 2)


@pytest.mark.parametrize(
    ("options", "option"),
    [(StorageOptions(migrate=True), "--migrate"), (StorageOptions(distribute=True), "--distribute")],
)
def test_a_wish_the_server_cannot_grant_is_refused(
    server_url: str, filled: ddl.Connection, options: StorageOptions, option: str
) -> None:
    if kind(server_url) == {"--migrate": "timescaledb", "--distribute": "citus"}[option]:
        pytest.skip("this server grants it")
    before = table(filled)
    with pytest.raises(ConfigurationError, match=f"^{option}: "):
        arranged(filled, options)
    assert table(filled) == before


@pytest.mark.usefixtures("on_timescaledb")
def test_a_hypertable_fits_the_volume_and_uses_the_columnstore(connection: ddl.Connection) -> None:
    ddl.ensure_schema(connection, "usage_events", StorageOptions(events_per_day=10**9, columnstore_after=3 * DAY))
    connection.commit()
    state = timescale.state(connection, "public", "usage_events")
    assert (state.interval, state.segment_by, state.after) == (timedelta(hours=1), "organization_id", 3 * DAY)


@pytest.mark.usefixtures("on_timescaledb")
def test_a_hypertables_settings_change_only_when_asked(filled: ddl.Connection) -> None:
    filled.execute("SELECT set_chunk_time_interval('usage_events', interval '5 days')")
    filled.execute("CALL remove_columnstore_policy('usage_events')")
    before = timescale.state(filled, "public", "usage_events")
    assert arranged(filled) == []
    assert timescale.state(filled, "public", "usage_events") == before
    assert len(arranged(filled, StorageOptions(events_per_day=1, columnstore_after=9 * DAY))) == 2
    after = timescale.state(filled, "public", "usage_events")
    assert (after.interval, after.after) == (28 * DAY, 9 * DAY)
    assert len(arranged(filled, StorageOptions(columnstore_after=timedelta(0)))) == 1
    assert timescale.state(filled, "public", "usage_events").after is None


@pytest.mark.usefixtures("on_timescaledb")
def test_a_plain_tables_rows_move_into_chunks(connection: ddl.Connection, generated: list[Row]) -> None:
    connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
    ddl.ensure_schema(connection, "model")
    connection.execute("CREATE TABLE usage_events (LIKE model INCLUDING DEFAULTS)")
    generated_events.insert(connection, generated)
    assert arranged(connection, StorageOptions(migrate=True))
    found = table(connection)
    assert found.hypertable
    assert connection.execute("SELECT count(*) FROM usage_events").fetchone() == (len(generated),)
    assert lacking(connection) == []


@pytest.mark.usefixtures("on_timescaledb")
def test_the_doctor_knows_a_hypertable(filled: ddl.Connection, events_database_url: str) -> None:
    def troubles() -> dict[str, str]:
        filled.commit()
        findings = examine(events_database_url, "usage_events", DEFAULT_STATEMENT_TIMEOUT)
        return {finding.name: finding.fix for finding in findings if finding.state != "ok"}

    filled.execute(f"ALTER DATABASE {filled.info.dbname} SET effective_cache_size = '64kB'")
    cure = troubles()["chunks"].removeprefix("For chunks made from now on: ")
    filled.execute(cure)
    assert timescale.state(filled, "public", "usage_events").interval < 7 * DAY
    filled.execute(f"ALTER DATABASE {filled.info.dbname} RESET effective_cache_size")
    assert troubles() == {}
    filled.execute("CALL remove_columnstore_policy('usage_events')")
    assert troubles() == {"columnstore": "usage-explore init --columnstore-after 7"}
    filled.execute("ALTER TABLE usage_events SET (timescaledb.enable_columnstore = false)")
    assert troubles() == {"columnstore": "usage-explore init --columnstore-after 7"}
    arranged(filled, StorageOptions(columnstore_after=7 * DAY))
    assert troubles() == {}


@pytest.mark.usefixtures("on_citus")
def test_rows_spread_over_the_workers_by_organization(connection: ddl.Connection, generated: list[Row]) -> None:
    ddl.ensure_schema(connection, "usage_events")
    generated_events.insert(connection, generated)
    assert arranged(connection, StorageOptions(distribute=True))
    assert table(connection).distributed == "organization_id"
    assert connection.execute("SELECT count(*) FROM usage_events").fetchone() == (len(generated),)
    assert arranged(connection, StorageOptions(distribute=True)) == []
    assert lacking(connection) == []


@pytest.mark.parametrize(
    ("setting", "word"), [("work_mem = '4MB'", "work_mem"), ("random_page_cost = 4", "random_page_cost")]
)
def test_small_settings_matter_for_large_tables(
    filled: ddl.Connection, events_database_url: str, monkeypatch: pytest.MonkeyPatch, setting: str, word: str
) -> None:
    def said() -> str:
        filled.commit()
        findings = examine(events_database_url, "usage_events", DEFAULT_STATEMENT_TIMEOUT)
        return " ".join(finding.message for finding in findings if finding.name == "settings")

    filled.execute(f"ALTER DATABASE {filled.info.dbname} SET {setting}")
    assert said() == ""
    monkeypatch.setattr(performance, "_MIN_SIZE_FOR_SETTINGS_BYTES", 0)
    assert word in said()


@pytest.fixture
def reader(filled: ddl.Connection, events_database_url: str) -> Iterator[str]:
    """The URL for a role that may SELECT from the events, and nothing more."""
    role = f"reader_{uuid4().hex[:8]}"
    filled.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))
    filled.execute(sql.SQL("GRANT SELECT ON usage_events TO {}").format(sql.Identifier(role)))
    filled.commit()
    parts = urlsplit(events_database_url)
    yield urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
    drop_role(events_database_url, role)


def test_select_is_enough_for_every_question(reader: str, tmp_path: Path) -> None:
    whole = AggregateQuery(
        since=generated_events.LAST_INGESTED - 200 * DAY, until=generated_events.LAST_INGESTED, group_by="dim:model"
    )
    with connect(reader) as everyone:
        store = everyone.scoped(generated_events.ORGANIZATION)
        page = store.events(EventQuery(limit=5))
        assert page.next() is not None
        assert store.aggregate(whole).total == store.count(
            EventQuery(occurred_after=whole.span[0], occurred_before=whole.span[1])
        )
        assert store.export(EventQuery(), tmp_path / "all.parquet", progress=False).events == store.count(EventQuery())
        assert store.customers()
        assert store.dimension_values("model")
        assert "SELECT" in store.sql(whole)
    findings = examine(reader, "usage_events", DEFAULT_STATEMENT_TIMEOUT)
    assert [finding for finding in findings if finding.state == "fault"] == []
