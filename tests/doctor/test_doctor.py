"""The doctor finds what is wrong, keeps quiet about what is right, and its cures cure."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
from psycopg import sql

from support import extracts
from support.database_servers import drop_role
from support.timescale_layouts import without_columnstore
from usage_explore import EventQuery, connect
from usage_explore.db import ddl, timeouts
from usage_explore.db.catalog import Relation
from usage_explore.doctor import Finding, examination, examine
from usage_explore.errors import DatabaseError

TIMEOUT = timedelta(seconds=30)

INSERT = """
INSERT INTO usage_events
    (id, organization_id, customer_id, metric_key, quantity, timestamp, ingested_at, idempotency_key)
SELECT gen_random_uuid(), %s, gen_random_uuid(), 'tokens', %s, now(), now(), gen_random_uuid()::text
"""


def troubles(findings: list[Finding]) -> list[Finding]:
    return [finding for finding in findings if finding.state != "ok"]


def only(findings: list[Finding]) -> Finding:
    """The one trouble there is."""
    (trouble,) = troubles(findings)
    return trouble


def add(connection: ddl.Connection, quantity: str = "1", organization: int = 1) -> None:
    connection.execute(INSERT, [uuid.UUID(int=organization), quantity])
    connection.commit()


@pytest.fixture
def filled(events_database_url: str, events_connection: ddl.Connection) -> str:
    """The URL of a database with one event."""
    add(events_connection)
    return events_database_url


@pytest.fixture
def role(server_url: str, filled: str) -> Iterator[str]:
    """A role that may log in and nothing more."""
    name = f"reader_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'secret'").format(sql.Identifier(name)))
    yield name
    drop_role(filled, name)


def as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:secret@{parts.netloc.rpartition('@')[2]}"))


def test_own_table_has_no_troubles(filled: str) -> None:
    assert troubles(examine(filled, "usage_events", TIMEOUT)) == []


def test_nobody_answers() -> None:
    finding = only(examine("postgresql://127.0.0.1:1/nothing", "usage_events", TIMEOUT))
    assert (finding.name, finding.state) == ("server", "fault")
    assert "--database-url" in finding.fix


def test_missing_table_names_init_and_likely_ones(connection: ddl.Connection, database_url: str) -> None:
    connection.execute("CREATE TABLE metering_events (n int)")
    connection.commit()
    finding = only(examine(database_url, "usage_events", TIMEOUT))
    assert (finding.name, finding.state) == ("table", "fault")
    assert "usage-explore init" in finding.fix
    assert "public.metering_events" in finding.fix


def test_empty_table_says_how_to_fill_it(events_database_url: str) -> None:
    finding = only(examine(events_database_url, "usage_events", TIMEOUT))
    assert (finding.name, finding.state) == ("organizations", "warning")
    assert "usage-explore demo" in finding.fix


@pytest.mark.parametrize("quantity", ["NaN", "Infinity", "-Infinity"])
def test_quantity_without_an_exact_sum(filled: str, events_connection: ddl.Connection, quantity: str) -> None:
    add(events_connection, quantity)
    finding = only(examine(filled, "usage_events", TIMEOUT))
    assert finding.state == "fault"
    assert finding.message.startswith("1 quantities are NaN or infinite, such as id ")


def test_event_from_the_future_is_a_warning(filled: str, events_connection: ddl.Connection) -> None:
    events_connection.execute("UPDATE usage_events SET ingested_at = now() + interval '1 day'")
    events_connection.commit()
    assert only(examine(filled, "usage_events", TIMEOUT)).name == "contents: ingested_at"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ("price_key = ''", "contents: blank price_key"),
        ("wallet_currency = ''", "contents: blank wallet_currency"),
        ("metric_key = ''", "contents: blank metric_key"),
    ],
)
def test_what_no_question_could_name_is_a_warning(
    filled: str, events_connection: ddl.Connection, change: str, name: str
) -> None:
    events_connection.execute(f"UPDATE usage_events SET {change}")
    events_connection.commit()
    finding = only(examine(filled, "usage_events", TIMEOUT))
    assert (finding.name, finding.state) == (name, "warning")


def test_column_that_could_be_null_is_a_warning_and_null_a_fault(
    filled: str, events_connection: ddl.Connection
) -> None:
    events_connection.execute("ALTER TABLE usage_events ALTER metric_key DROP NOT NULL")
    events_connection.commit()
    loose = only(examine(filled, "usage_events", TIMEOUT))
    assert (loose.state, loose.message.split()[0]) == ("warning", "metric_key")
    events_connection.execute("UPDATE usage_events SET metric_key = NULL")
    events_connection.commit()
    assert [found.state for found in troubles(examine(filled, "usage_events", TIMEOUT))] == ["warning", "fault"]
    events_connection.execute("UPDATE usage_events SET metric_key = 'm'")
    events_connection.execute(loose.fix)
    events_connection.commit()
    assert troubles(examine(filled, "usage_events", TIMEOUT)) == []


@pytest.mark.parametrize("name", ["page", "customer", "cover", "key", "id"])
def test_missing_index_is_a_warning_whose_cure_cures(filled: str, events_connection: ddl.Connection, name: str) -> None:
    events_connection.execute(f"DROP INDEX usage_events_{name}")
    events_connection.commit()
    found = troubles(examine(filled, "usage_events", TIMEOUT))
    assert {finding.name for finding in found} == {"index"}
    hypertable = ddl.is_hypertable(events_connection, "usage_events")
    events_connection.rollback()
    assert (" CONCURRENTLY " in found[0].fix) is not hypertable
    events_connection.autocommit = True
    events_connection.execute(found[0].fix)
    assert troubles(examine(filled, "usage_events", TIMEOUT)) == []


@pytest.mark.parametrize(
    "columns", ["(idempotency_key)", "(organization_id, idempotency_key)", "USING hash (idempotency_key)"]
)
def test_any_index_that_finds_a_key_serves(filled: str, events_connection: ddl.Connection, columns: str) -> None:
    events_connection.execute("DROP INDEX usage_events_key")
    events_connection.execute(f"CREATE INDEX own ON usage_events {columns}".encode())
    events_connection.commit()
    found = examine(filled, "usage_events", TIMEOUT)
    assert any(finding.message == "own serves finding the copies of an idempotency key" for finding in found)


def test_index_of_the_other_direction_serves_too(filled: str, events_connection: ddl.Connection) -> None:
    events_connection.execute("DROP INDEX usage_events_page")
    events_connection.execute("CREATE UNIQUE INDEX ascending ON usage_events (organization_id, timestamp, id)")
    events_connection.commit()
    assert troubles(examine(filled, "usage_events", TIMEOUT)) == []


def test_index_that_invites_a_skip_scan(filled: str, events_connection: ddl.Connection) -> None:
    events_connection.execute("CREATE INDEX astray ON usage_events (organization_id, metric_key, timestamp)")
    events_connection.commit()
    found = troubles(examine(filled, "usage_events", TIMEOUT))
    if events_connection.info.server_version < 180_000:
        assert found == []
        return
    assert "skip scan" in found[0].message
    assert found[0].fix.endswith(" public.astray;")


def test_select_is_needed_and_enough(filled: str, events_connection: ddl.Connection, role: str) -> None:
    refused = only(examine(as_role(filled, role), "usage_events", TIMEOUT))
    assert (refused.name, refused.state) == ("permission", "fault")
    for statement in refused.fix.split("\n"):
        events_connection.execute(statement)
    events_connection.commit()
    findings = examine(as_role(filled, role), "usage_events", TIMEOUT)
    assert troubles(findings) == []
    assert f"{role} may SELECT" in [finding.message for finding in findings]


def test_a_price_book_that_may_not_be_read_is_said(filled: str, events_connection: ddl.Connection, role: str) -> None:
    events_connection.execute("CREATE TABLE usage_prices (number int)")
    events_connection.execute(sql.SQL("GRANT SELECT ON usage_events TO {}").format(sql.Identifier(role)))
    events_connection.commit()
    findings = examine(as_role(filled, role), "usage_events", TIMEOUT)
    assert troubles(findings) == []
    (said,) = (finding.message for finding in findings if finding.name == "prices")
    assert said == "public.usage_prices may not be read: ratings by its prices need GRANT SELECT on it"
    assert not [finding for finding in examine(filled, "usage_events", TIMEOUT) if finding.name == "prices"]


def test_row_level_security_is_said(filled: str, events_connection: ddl.Connection, role: str) -> None:
    without_columnstore(events_connection)
    events_connection.execute("ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY")
    events_connection.execute(sql.SQL("GRANT SELECT ON usage_events TO {}").format(sql.Identifier(role)))
    events_connection.commit()
    names = [finding.name for finding in troubles(examine(as_role(filled, role), "usage_events", TIMEOUT))]
    assert names == ["permission", "organizations"]


def test_shorter_time_out_of_the_role_is_said(filled: str, events_connection: ddl.Connection, role: str) -> None:
    events_connection.execute(sql.SQL("GRANT SELECT ON usage_events TO {}").format(sql.Identifier(role)))
    events_connection.execute(sql.SQL("ALTER ROLE {} SET statement_timeout = '10s'").format(sql.Identifier(role)))
    events_connection.commit()
    finding = only(examine(as_role(filled, role), "usage_events", TIMEOUT))
    assert finding.name == "time-out"
    assert finding.fix.endswith("USAGE_EXPLORE_STATEMENT_TIMEOUT=10")


@pytest.mark.parametrize("name", ["statement_timeout", "transaction_timeout"])
def test_a_time_out_that_ends_even_the_look_is_said(
    filled: str, events_connection: ddl.Connection, role: str, name: str
) -> None:
    if name == "transaction_timeout" and events_connection.info.server_version < 170_000:
        pytest.skip("PostgreSQL has it since 17")
    for words in ("GRANT SELECT ON usage_events TO {}", f"ALTER ROLE {{}} SET {name} = '1ms'"):
        events_connection.execute(sql.SQL(words).format(sql.Identifier(role)))
    events_connection.commit()
    finding = only(examine(as_role(filled, role), "usage_events", TIMEOUT))
    assert (finding.name, finding.state) == ("time-out", "fault" if name == "transaction_timeout" else "warning")
    assert "less time than it takes to read this setting" in finding.message or "0.001 s" in finding.message
    if name == "statement_timeout":
        with connect(as_role(filled, role)) as store:
            assert store.count(EventQuery())
        return
    # a time-out between two statements may show as a closed connection, so this one ends a statement that runs
    for words in (
        "CREATE VIEW sleeping AS SELECT e.* FROM usage_events e, "
        "LATERAL (SELECT e.id, pg_sleep(60) OFFSET 0) AS z WHERE z.id = e.id",
        "GRANT SELECT ON sleeping TO {}",
        "ALTER ROLE {} SET transaction_timeout = '2s'",
    ):
        events_connection.execute(sql.SQL(words).format(sql.Identifier(role)))
    events_connection.commit()
    with (
        connect(as_role(filled, role), table="sleeping") as store,
        pytest.raises(DatabaseError, match="transaction_timeout"),
    ):
        store.count(EventQuery())


def test_look_that_takes_too_long_says_so(connection: ddl.Connection, database_url: str) -> None:
    ddl.ensure_schema(connection, "stored")
    connection.execute(
        "INSERT INTO stored (id, organization_id, customer_id, metric_key, quantity, timestamp,"
        " idempotency_key) SELECT gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 'm', 1,"
        " now(), 'k'"
    )
    connection.execute(
        "CREATE VIEW slow AS SELECT s.* FROM stored s, "
        "LATERAL (SELECT s.id, pg_sleep(600) OFFSET 0) AS z WHERE z.id = s.id"
    )
    connection.commit()
    found = troubles(examine(database_url, "slow", timedelta(milliseconds=300)))
    assert {finding.name for finding in found} >= {"contents"}
    assert all("longer than the statement timeout" in finding.message for finding in found)


def test_nothing_is_written(filled: str, events_connection: ddl.Connection) -> None:
    before = events_connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    events_connection.commit()
    examine(filled, "usage_events", TIMEOUT)
    after = events_connection.execute("SELECT pg_current_xact_id()::text::bigint").fetchone()
    assert before is not None
    assert after is not None
    assert after[0] == before[0] + 1


OTHER_SHAPES = {
    "renamed": """
        CREATE TABLE other AS SELECT gen_random_uuid() AS event_id, gen_random_uuid() AS tenant_id,
        gen_random_uuid() AS client_id, 'tokens' AS event_name, 1.5::numeric AS value, now() AS occurred_at,
        now() AS created_at, 'k' AS transaction_id, '{"model": "m"}'::json AS properties, 3 AS shard
    """,
    "loose types": """
        CREATE TABLE other AS SELECT gen_random_uuid()::text AS id, 7 AS organization_id, 'cus_1' AS customer_id,
        'p'::char(8) AS product_id, 'tokens'::varchar AS metric_key, 0.1::float8 AS quantity,
        now()::timestamp AS timestamp, current_date AS ingested_at, gen_random_uuid() AS idempotency_key,
        12 AS external_cost_amount, '{}'::text AS dimensions
    """,
    "epochs": """
        CREATE TABLE other AS SELECT 1 AS id, 'a' AS account_id, 2::bigint AS user_id, 'x' AS metric, 5 AS qty,
        1790000000 AS ts, 1790000000123::bigint AS received_at
    """,
    "almost nothing": """CREATE TABLE other AS SELECT now() AS created_at, 'eu' AS "Region", 'it''s' AS "o'clock" """,
    "empty": "CREATE TABLE other (org_id text, time timestamp, amount float4, name text, attributes hstore_like)",
    "own name": """
        CREATE TABLE usage_events AS SELECT gen_random_uuid() AS id, gen_random_uuid() AS organization_id,
        now() AS timestamp, 1::float8 AS quantity, 'm' AS metric_key
    """,
}


@pytest.mark.parametrize("shape", OTHER_SHAPES)
def test_printed_view_runs_and_has_no_faults(connection: ddl.Connection, database_url: str, shape: str) -> None:
    if "hstore_like" in OTHER_SHAPES[shape]:
        connection.execute("CREATE DOMAIN hstore_like AS jsonb")
    connection.execute(OTHER_SHAPES[shape])
    connection.commit()
    name = "usage_events" if shape == "own name" else "other"
    findings = troubles(examine(database_url, name, TIMEOUT))
    assert any(finding.state == "fault" for finding in findings)
    (view,) = [finding for finding in findings if finding.name == "view"]
    assert f"--table public.{name}_usage" in view.message
    connection.execute(view.fix)
    connection.commit()
    after = troubles(examine(database_url, f"public.{name}_usage", TIMEOUT))
    assert [finding for finding in after if finding.name != "organizations"] == []
    rows = connection.execute(f"SELECT * FROM {name}_usage".encode()).fetchall()
    assert len(rows) == (0 if shape == "empty" else 1)


def test_view_keeps_the_values(connection: ddl.Connection, database_url: str) -> None:
    connection.execute(OTHER_SHAPES["epochs"])
    connection.commit()
    (view,) = [finding for finding in examine(database_url, "other", TIMEOUT) if finding.name == "view"]
    connection.execute(view.fix)
    row = connection.execute(
        "SELECT timestamp::text, ingested_at::text, quantity::text, metric_key, dimensions::text FROM other_usage"
    ).fetchone()
    assert row == (
        "2026-09-21 14:13:20+00",
        "2026-09-21 14:13:20.123+00",
        "5",
        "x",
        '{"user_id": 2, "account_id": "a"}',
    )


def about_the_extract(url: str, home: Path) -> list[Finding]:
    return [finding for finding in examine(url, "usage_events", TIMEOUT, home=home) if finding.name == "extract"]


def test_the_extract_is_missed_only_where_events_are_many(
    filled: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    assert troubles(about_the_extract(filled, tmp_path)) == []
    events_connection.execute(
        "UPDATE pg_class SET reltuples = 1e6 WHERE oid = 'usage_events'::regclass"
        " OR oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'usage_events'::regclass)"  # chunks
    )
    events_connection.commit()
    assert only(about_the_extract(filled, tmp_path)).fix == "usage-explore extract"


def test_an_extract_that_is_left_behind_or_damaged_is_said(
    filled: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    for _ in range(30):
        add(events_connection)
    extracts.build(filled, tmp_path)
    assert troubles(about_the_extract(filled, tmp_path)) == []
    extracts.build(filled, tmp_path, until=datetime.now(UTC) + timedelta(days=1))
    next(tmp_path.glob("extract/*/*/*.parquet")).write_bytes(b"PAR1")
    found = only(about_the_extract(filled, tmp_path))
    assert "damaged" in found.message
    assert found.fix == "usage-explore extract"


def test_what_the_rollup_left_is_dropped_by_what_is_printed(filled: str, events_connection: ddl.Connection) -> None:
    events_connection.execute("CREATE TABLE usage_events_rollup (a int)")
    events_connection.execute("CREATE TABLE usage_events_rollup_kept (a int)")
    events_connection.execute(
        "CREATE PROCEDURE usage_events_rollup_refresh (integer, jsonb) LANGUAGE sql AS 'SELECT 1'"
    )
    events_connection.commit()
    found = only([finding for finding in examine(filled, "usage_events", TIMEOUT) if finding.name == "rollup"])
    for statement in found.fix.splitlines():
        if "delete_job" not in statement:
            events_connection.execute(statement.encode())
    events_connection.commit()
    assert [finding for finding in examine(filled, "usage_events", TIMEOUT) if finding.name == "rollup"] == []


@pytest.mark.parametrize(
    ("change", "named", "said"),
    [
        ("SELECT 1", None, None),
        ("DROP TABLE usage_names", None, None),
        ("DROP TABLE usage_names", "crm.people", "crm.people does not exist"),
        ("ALTER TABLE usage_names DROP COLUMN name", None, "usage_names has other columns"),
    ],
)
def test_a_directory_of_names_that_cannot_be_used_is_a_warning(
    filled: str, events_connection: ddl.Connection, change: str, named: str | None, said: str | None
) -> None:
    events_connection.execute(change)
    events_connection.commit()
    findings = [finding for finding in examine(filled, "usage_events", TIMEOUT, named) if finding.name == "names"]
    assert [finding.message.split(", so ids")[0] for finding in findings] == [said] * bool(said)


def test_a_style_that_a_pooler_left_is_named(events_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind a pooler that drops the connection options, of a hypertable, it was a traceback."""
    monkeypatch.setitem(timeouts.SESSION, "IntervalStyle", "sql_standard")

    def read(connection: ddl.Connection, examined: Relation) -> list[Finding]:
        connection.execute("SELECT interval '7 days'").fetchone()
        return []

    monkeypatch.setattr(examination, "_CHECKS", (examination._Check("storage", read),))
    found = examine(events_database_url, "usage_events", TIMEOUT)
    (storage,) = (finding for finding in found if finding.name == "storage")
    assert "ALTER ROLE … SET IntervalStyle = 'postgres'" in storage.message
