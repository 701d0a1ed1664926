"""The tests' own databases: one that is used again is like a fresh one, or is not used again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from urllib.parse import urlsplit

import psycopg
import pytest

from support import generated_events
from support.database_servers import kind
from support.reused_databases import ReusedDatabases
from usage_explore.db import ddl

OID = "SELECT oid FROM pg_database WHERE datname = current_database()"
ROWS = """
    SELECT (SELECT count(*) FROM usage_events), (SELECT reltuples FROM pg_class WHERE relname = 'usage_events'),
      (SELECT count(*) FROM pg_stats WHERE tablename = 'usage_events'), (SELECT count(*) FROM pg_statistic_ext_data)
"""


@pytest.fixture
def databases(server_url: str, _template: str) -> Iterator[ReusedDatabases]:
    if kind(server_url) != "postgresql":
        pytest.skip("databases of this server are not used again")
    with contextlib.closing(ReusedDatabases(server_url, _template, spare=0)) as made:
        yield made


def used(databases: ReusedDatabases, *statements: str) -> tuple[str, int]:
    """The name and OID of a database whose rows are as in a fresh one, and in which the statements are run."""
    with databases.one() as url, psycopg.connect(url, autocommit=True) as connection:
        assert connection.execute(ROWS).fetchone() == (0, -1, 0, 0)
        (oid,) = connection.execute(OID).fetchone() or (0,)
        for statement in statements:
            connection.execute(statement.encode())
        return urlsplit(url).path[1:], oid


def test_a_database_is_emptied_and_renamed_even_if_connections_are_left_open(databases: ReusedDatabases) -> None:
    with databases.one() as url:
        left = ddl.connect(url)
        generated_events.insert(left, generated_events.generate())  # and analyzes
        left.execute("CREATE TEMPORARY TABLE parts (part text)")
        left.execute("LOCK TABLE usage_events")
        (oid,) = left.execute(OID).fetchone() or (0,)
    name, again = used(databases)
    assert again == oid
    assert name not in url
    with pytest.raises(psycopg.OperationalError):
        left.execute("SELECT 1")
    left.close()


def test_what_a_test_made_is_dropped_with_its_tables(databases: ReusedDatabases) -> None:
    """Again after that: the drops of one test are no changes of the next one."""
    before = used(
        databases,
        "CREATE TABLE other (id bigserial PRIMARY KEY, part text)",
        "CREATE VIEW parts AS SELECT part FROM other",
        "INSERT INTO other (part) VALUES ('a')",
    )
    left = "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relname ~ 'other|parts'"
    for _ in range(2):
        with databases.one() as url, psycopg.connect(url) as connection:
            assert connection.execute(left).fetchone() == (0,)
        assert used(databases)[1] == before[1]


@pytest.mark.parametrize(
    "statements",
    [
        ["DROP TABLE usage_events", "CREATE TABLE usage_events (id int)"],
        ["CREATE TABLE other (id int)", "ALTER TABLE usage_events DROP COLUMN quantity"],
        ["CREATE TYPE other AS ENUM ('a')"],
        ["CREATE SCHEMA other"],
        ["CREATE VIEW other AS SELECT 1 AS one"],
        ["CREATE FUNCTION other() RETURNS int LANGUAGE sql AS 'SELECT 1'"],
        [
            "DO $$ BEGIN EXECUTE (SELECT format('DROP INDEX %s', min(indexrelid)::regclass) FROM pg_index"
            " WHERE indrelid = 'usage_events'::regclass AND NOT indisprimary); END $$"
        ],
        ["ALTER TABLE usage_events DROP COLUMN quantity"],
        ["ALTER TABLE usage_events ALTER quantity SET DEFAULT 1"],
        ["ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY"],
        ["ALTER TABLE usage_events SET (fillfactor = 50)"],
        ["ALTER TABLE usage_events RENAME TO events", "ALTER TABLE events RENAME TO usage_events"],
        ["GRANT SELECT ON usage_events TO PUBLIC"],
        ["GRANT USAGE ON SCHEMA public TO pg_monitor"],
        ["COMMENT ON TABLE usage_events IS 'other'"],
        ["DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$"],
        ["DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$"],
        ["DO $$ BEGIN EXECUTE format('ALTER DATABASE %I CONNECTION LIMIT 5', current_database()); END $$"],
    ],
)
def test_a_database_with_other_definitions_is_not_used_again(databases: ReusedDatabases, statements: list[str]) -> None:
    before = used(databases, *statements)
    assert used(databases)[1] != before[1]
