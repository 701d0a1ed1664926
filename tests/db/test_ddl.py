"""The events table is made once, whole, and never over somebody else's."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from usage_explore.db import ddl
from usage_explore.db.catalog import documented, relation
from usage_explore.errors import ConfigurationError, DatabaseUnavailable, TableMismatch


def tables(connection: ddl.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM pg_class WHERE relname LIKE 'usage_events%'").fetchone()
    assert row is not None
    return int(row[0])


def test_connection_is_in_utc_and_in_no_transaction(connection: ddl.Connection) -> None:
    assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert connection.autocommit is False
    assert connection.execute("SHOW TimeZone").fetchone() == ("UTC",)


@pytest.mark.parametrize("table", ["usage_events", "metering.usage_events", "metering.Übersicht"])
def test_table_is_made_once_with_the_documented_columns(connection: ddl.Connection, table: str) -> None:
    assert ddl.ensure_schema(connection, table) is True
    assert ddl.ensure_schema(connection, table) is False
    found = relation(connection, table)
    assert found is not None
    assert {name: (column.type, column.nullable) for name, column in found.columns.items()} == documented()


def test_defaults_fill_what_a_sender_does_not_know(connection: ddl.Connection) -> None:
    ddl.ensure_schema(connection, "usage_events")
    row = connection.execute(
        "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)"
        " SELECT g, g, g, 'm', 1, now(), 'k' FROM gen_random_uuid() g RETURNING dimensions, ingested_at = now()"
    ).fetchone()
    assert row == ({}, True)


def test_many_at_once_make_one_table(database_url: str) -> None:
    def make(_: int) -> bool:
        with ddl.connect(database_url) as connection:
            return ddl.ensure_schema(connection, "metering.usage_events")

    with ThreadPoolExecutor(6) as pool:
        assert sorted(pool.map(make, range(6))) == [False] * 5 + [True]


def test_all_or_nothing(connection: ddl.Connection) -> None:
    connection.execute("CREATE TABLE usage_events_cover ()")  # takes the name of the last index
    connection.commit()
    with pytest.raises(psycopg.errors.DuplicateTable):
        ddl.ensure_schema(connection, "usage_events")
    assert tables(connection) == 1


@pytest.mark.parametrize(
    "made",
    [
        "CREATE TABLE usage_events (id int)",
        "CREATE VIEW usage_events AS SELECT 1 AS id",
        "CREATE TABLE usage_events AS SELECT gen_random_uuid() AS id, 1.5::float8 AS quantity",
    ],
)
def test_table_of_another_shape_is_left_alone(connection: ddl.Connection, made: str) -> None:
    connection.execute(made)
    connection.commit()
    with pytest.raises(TableMismatch, match="doctor"):
        ddl.ensure_schema(connection, "usage_events")
    assert tables(connection) == 1


def test_further_columns_and_indexes_do_not_matter(events_connection: ddl.Connection) -> None:
    events_connection.execute("ALTER TABLE usage_events ADD COLUMN shard int")
    events_connection.execute("DROP INDEX usage_events_cover")
    assert ddl.ensure_schema(events_connection, "usage_events") is False


def test_role_that_may_not_create_is_told_so(connection: ddl.Connection) -> None:
    connection.execute("CREATE ROLE nobody_much")
    connection.execute("SET ROLE nobody_much")
    with pytest.raises(TableMismatch, match="may not create it"):
        ddl.ensure_schema(connection, "usage_events")
    connection.rollback()


def test_ordinary_role_that_may_create_makes_it(connection: ddl.Connection) -> None:
    connection.execute("CREATE ROLE somebody")
    connection.execute("GRANT CREATE ON SCHEMA public TO somebody")
    connection.execute("SET ROLE somebody")
    assert ddl.ensure_schema(connection, "usage_events") is True
    connection.rollback()


def test_outer_transaction_decides(connection: ddl.Connection, database_url: str) -> None:
    connection.execute("SELECT 1")
    ddl.ensure_schema(connection, "usage_events")
    connection.rollback()
    assert relation(connection, "usage_events") is None


def test_hypertable_where_timescaledb_is_there(connection: ddl.Connection) -> None:
    ddl.ensure_schema(connection, "usage_events")
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')").fetchone()
    assert row is not None
    assert ddl.is_hypertable(connection, "usage_events") is row[0]


def test_nobody_answers() -> None:
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        ddl.connect("postgresql://127.0.0.1:1/nothing")


def test_url_that_cannot_be_read() -> None:
    with pytest.raises(ConfigurationError, match=r"^database_url:"):
        ddl.connect("postgresql://host/db?no_such_option=1")
