"""TimescaleDB as people run it: its functions in any schema, a root without rows, continuous aggregates."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result

from support import generated_events
from support.database_servers import kind
from support.timescale_layouts import to_columnstore
from usage_explore.cli.main import main
from usage_explore.db import StorageOptions, ddl, timescale
from usage_explore.db.catalog import relation
from usage_explore.db.ddl import migrate_table
from usage_explore.doctor import Finding, examine

DAY = timedelta(days=1)
TIMEOUT = timedelta(seconds=60)
MANY = 120_000

FILL = """
INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, ingested_at,
                          idempotency_key, dimensions)
SELECT gen_random_uuid(), %s, %s, 'm' || n %% 3, 1, now() - n * interval '1 minute' / 3,
       now() - n * interval '1 minute' / 3, n, '{"model": "large"}'
FROM generate_series(1, %s) AS n
"""


@pytest.fixture(autouse=True)
def _on_timescaledb(server_url: str) -> None:
    if kind(server_url) != "timescaledb":
        pytest.skip("the server in USAGE_EXPLORE_TEST_DATABASE_URL has no TimescaleDB")


def found(url: str, table: str = "usage_events") -> dict[str, Finding]:
    return {finding.name: finding for finding in examine(url, table, TIMEOUT)}


def fill(connection: ddl.Connection, number: int = MANY) -> None:
    connection.execute(FILL, [generated_events.ORGANIZATION, generated_events.CUSTOMERS[0], number])
    connection.commit()


def test_the_extension_may_be_in_any_schema(connection: ddl.Connection, database_url: str) -> None:
    connection.execute("CREATE SCHEMA ts")
    connection.execute("CREATE EXTENSION timescaledb SCHEMA ts")
    connection.commit()

    def command(*words: str) -> Result:
        result = CliRunner().invoke(main, [*words, "--database-url", database_url])
        assert result.exit_code == 0, (words, result.output, result.exception)
        return result

    command("init", "--events-per-day", "1000000000", "--columnstore-after", "3")
    fill(connection, 2_000)
    command("init", "--events-per-day", "1", "--columnstore-after", "9")
    assert timescale.state(connection, "public", "usage_events").after == 9 * DAY
    connection.commit()
    assert "fault" not in {finding.state for finding in examine(database_url, "usage_events", TIMEOUT)}
    command("doctor")
    command("extract")
    connection.execute(f"ALTER DATABASE {connection.info.dbname} SET effective_cache_size = '64kB'")
    connection.commit()
    connection.execute(found(database_url)["chunks"].fix.removeprefix("For chunks made from now on: ").encode())
    connection.execute("CREATE TABLE plain (LIKE usage_events INCLUDING DEFAULTS)")
    connection.execute("INSERT INTO plain SELECT * FROM usage_events")
    connection.commit()
    command("init", "--migrate", "--table", "plain")
    moved = relation(connection, "plain")
    assert moved is not None
    assert moved.hypertable


@pytest.mark.parametrize("analyzed", [False, True])
def test_the_chunks_are_asked_how_large_a_hypertable_is(
    events_connection: ddl.Connection, events_database_url: str, analyzed: bool
) -> None:
    fill(events_connection)
    if analyzed:
        events_connection.execute("ANALYZE usage_events")
        events_connection.commit()
    said = found(events_database_url)
    (about,) = re.findall(r"about ([\d,]+) rows", said["table"].message)
    assert MANY / (2 if analyzed else 10) < int(about.replace(",", "")) < MANY * 2
    if analyzed:
        assert said["extract"].fix == "usage-explore extract"
    events_connection.execute("DROP INDEX usage_events_cover")
    events_connection.commit()
    words: list[str] = []
    migrate_table(events_connection, "usage_events", StorageOptions(), words.append)
    (size,) = re.findall(r"usage_events_cover, about ([\d.]+) MB", words[0])
    assert (5 if analyzed else 1) < float(size) < 25


@pytest.mark.parametrize("analyzed", [False, True])
def test_the_size_of_a_columnstore_is_not_guessed(
    events_connection: ddl.Connection, events_database_url: str, analyzed: bool
) -> None:
    fill(events_connection)
    to_columnstore(events_connection)
    events_connection.commit()
    if analyzed:
        events_connection.execute("ANALYZE usage_events")
        events_connection.commit()
    said = found(events_database_url)["table"].message
    if analyzed:
        (about,) = re.findall(r"about ([\d,]+) rows", said)
        assert MANY / 2 < int(about.replace(",", "")) < MANY * 2
    else:
        assert said == "public.usage_events is a table, whose number of rows is not known before ANALYZE"


def test_the_doctor_refuses_a_continuous_aggregate(events_connection: ddl.Connection, events_database_url: str) -> None:
    fill(events_connection, 2_000)
    events_connection.autocommit = True
    events_connection.execute(
        "CREATE MATERIALIZED VIEW usage_daily WITH (timescaledb.continuous) AS"
        " SELECT organization_id, time_bucket('1 day', timestamp) AS bucket, count(*) FROM usage_events GROUP BY 1, 2"
    )
    events_connection.execute("CREATE VIEW usage_of_days AS SELECT * FROM usage_daily WHERE count > 0")
    for name in ("usage_daily", "usage_of_days"):
        said = found(events_database_url, name)
        assert said["columns"].state == "fault"
        assert "continuous aggregate of public.usage_events" in said["columns"].message
        assert said["columns"].fix.endswith("--table public.usage_events")
        refused = CliRunner().invoke(main, ["extract", "--database-url", events_database_url, "--table", name])
        assert refused.exit_code == 1
        assert "continuous aggregate of public.usage_events" in refused.output
        assert "view" not in said
