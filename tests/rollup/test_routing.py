"""When the events answer instead: what the rollup must not tell, and what it cannot sum."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from psycopg import sql

from support.partial_rollup import ORGANIZATION, TABLE, Ahead
from support.query_oracle import utc
from support.timescale_layouts import without_columnstore
from usage_explore import AggregateQuery, Store, connect
from usage_explore.db import ddl
from usage_explore.errors import NotExact
from usage_explore.rollup import catalog, refresh_run

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = utc(2026, 3, 1)
NEIGHBOUR = UUID("0b0b0b0b-0000-4000-8000-000000000002")
DOCUMENTED = Path(__file__).parents[2] / "docs" / "rollup.md"
WEEK = AggregateQuery(since=FIRST, until=FIRST + 7 * DAY)


@pytest.fixture
def week(ahead: Ahead) -> Ahead:
    ahead.add(*(FIRST + number * HOUR for number in range(7 * 24)))
    ahead.keep(none=HOUR, dim__model=HOUR)
    ahead.advance(FIRST + 7 * DAY)
    return ahead


def served(store: Store, query: AggregateQuery = WEEK) -> str:
    """The path that answered, always the same answer as the events'."""
    answer = store.aggregate(query)
    assert answer.series == replace(store, rollup=False).aggregate(query).series
    assert answer.served is not None
    return answer.served.path


def because(store: Store) -> str | None:
    """Why the events answered, in the words that follow "because"."""
    return store.aggregate(WEEK).served.because


@pytest.mark.parametrize("quantity", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_beside_the_window_spoils_nothing(ahead: Ahead, fast: Store, quantity: str) -> None:
    edge = FIRST + 30 * timedelta(minutes=1)
    ahead.add(*(edge + number * HOUR for number in range(48)))
    ahead.add(FIRST + timedelta(minutes=5), quantity=Decimal(quantity))
    ahead.keep(none=HOUR, dim__model=HOUR)
    ahead.advance(FIRST + 3 * DAY)
    query = AggregateQuery(since=FIRST + timedelta(minutes=10), until=FIRST + 2 * DAY, metric="sum_quantity")
    assert fast.aggregate(query).total == 48
    assert served(fast, query) == "events"
    assert served(fast, query.replace(metric="count")) == "rollup"
    with pytest.raises(NotExact):
        fast.aggregate(query.replace(since=FIRST))


def test_a_role_needs_the_right_to_read_it(week: Ahead, fast: Store, other_role: str) -> None:
    role = sql.Identifier(urlsplit(other_role).username or "")
    with connect(other_role, organization_id=ORGANIZATION) as store:
        for table in ("usage_events", "usage_events_rollup", "usage_events_rollup_kept"):
            week.connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(table), role))
            week.connection.commit()
            assert served(store) == ("rollup" if table.endswith("kept") else "events")
            assert because(store) == (None if table.endswith("kept") else "the database role may not read the rollup")


def test_row_security_of_the_events_holds_for_the_rollup(week: Ahead, other_role: str) -> None:
    role = sql.Identifier(urlsplit(other_role).username or "")
    without_columnstore(week.connection)
    week.connection.execute("ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY")
    for table in ("usage_events", "usage_events_rollup", "usage_events_rollup_kept"):
        week.connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(sql.Identifier(table), role))
    week.connection.execute("CREATE POLICY early ON usage_events USING (timestamp < '2026-03-03')")
    week.connection.commit()
    with connect(other_role, organization_id=ORGANIZATION) as store:
        assert served(store) == "events"
        assert because(store) == "row-level security holds for the events, and the rollup has no policies"
        assert store.aggregate(WEEK).total == 48


def test_row_security_of_both_lets_the_rollup_answer(week: Ahead, other_role: str) -> None:
    role = urlsplit(other_role).username or ""
    without_columnstore(week.connection)
    documented = re.findall(r"```sql\n(.*?)```", DOCUMENTED.read_text(), re.DOTALL)
    granted, policies = (next(each for each in documented if word in each) for word in ("GRANT", "POLICY"))
    week.connection.execute(granted.replace("reader", role))
    for table in ("usage_events", "usage_events_rollup"):
        week.connection.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY".encode())
    week.connection.execute(f"CREATE POLICY own ON usage_events USING (organization_id = '{ORGANIZATION}')".encode())
    week.connection.commit()
    week.add(FIRST, organization_id=NEIGHBOUR)
    for statement in policies.replace("acme_reader", role).replace("…", str(ORGANIZATION)).split(";\n"):
        week.connection.execute(statement.encode())  # Citus takes one at a time
    week.connection.commit()
    with connect(other_role, organization_id=ORGANIZATION) as store:
        assert served(store) == "rollup"
        assert store.aggregate(WEEK).total == 7 * 24


def test_a_store_on_a_view_reads_the_views_own_rollup_alone(week: Ahead) -> None:
    week.connection.execute("CREATE VIEW early AS SELECT * FROM usage_events WHERE timestamp < '2026-03-03'")
    week.connection.commit()
    with connect(week.url, organization_id=ORGANIZATION, table="early") as store:
        assert served(store) == "events"
        assert store.aggregate(WEEK).total == 48


def test_a_rollup_in_another_schema_is_never_used(week: Ahead, other_role: str) -> None:
    role = sql.Identifier(urlsplit(other_role).username or "")
    week.connection.execute("CREATE SCHEMA elsewhere")
    for table in ("usage_events_rollup", "usage_events_rollup_kept"):
        week.connection.execute(f"CREATE TABLE elsewhere.{table} AS SELECT * FROM {table}".encode())
        week.connection.execute(f"DROP TABLE {table}".encode())
    week.connection.execute("UPDATE elsewhere.usage_events_rollup SET events = 7")
    week.connection.execute(sql.SQL("GRANT USAGE ON SCHEMA elsewhere TO {}").format(role))
    for table in ("usage_events", "elsewhere.usage_events_rollup", "elsewhere.usage_events_rollup_kept"):
        name = sql.Identifier(*table.split("."))
        week.connection.execute(sql.SQL("GRANT SELECT ON {} TO {}").format(name, role))
    week.connection.execute(sql.SQL("ALTER ROLE {} SET search_path = elsewhere, public").format(role))
    week.connection.commit()
    with connect(other_role, organization_id=ORGANIZATION) as store:
        assert served(store) == "events"
        assert store.aggregate(WEEK).total == 7 * 24


def test_a_rollup_of_another_version_or_of_others_is_named_as_such(week: Ahead, fast: Store) -> None:
    week.add(WEEK.since, organization_id=NEIGHBOUR)
    with connect(week.url, organization_id=NEIGHBOUR) as neighbour:
        assert because(neighbour) == "the rollup holds nothing of this organization yet"
    week.connection.execute("ALTER TABLE usage_events_rollup_kept DROP COLUMN summary")
    week.connection.commit()
    assert because(fast) == "another version made the rollup, and it has not been refreshed since"
    assert served(fast) == "events"


def test_the_rollup_is_made_beside_its_events(week: Ahead) -> None:
    week.connection.execute("CREATE SCHEMA first")
    week.connection.commit()
    catalog.drop(week.connection, TABLE)
    week.connection.execute("SET search_path = first, public")
    week.connection.commit()
    refresh_run.refresh(week.connection, TABLE, settle=timedelta(0))
    row = week.connection.execute("SELECT to_regclass('public.usage_events_rollup') IS NOT NULL").fetchone()
    assert row == (True,)


def test_windows_far_away_are_empty_either_way(week: Ahead, fast: Store) -> None:
    for since in (utc(1971, 1, 1), utc(2190, 1, 1)):
        query = AggregateQuery(since=since, until=since + 3 * DAY, group_by="dim:model")
        served(fast, query)
        assert fast.aggregate(query).series == ()


def test_known_at_an_instant_is_served_too(week: Ahead, fast: Store) -> None:
    week.add(FIRST + HOUR, ingested_at=FIRST + 9 * DAY)
    week.advance(FIRST + 10 * DAY)
    instant = timedelta(microseconds=1)
    totals = [
        fast.aggregate(WEEK.replace(as_of=FIRST + 9 * DAY + beside)).total
        for beside in (-instant, timedelta(0), instant)
    ]
    assert totals == [7 * 24, 7 * 24 + 1, 7 * 24 + 1]
    assert served(fast, WEEK.replace(as_of=FIRST + 9 * DAY)) == "rollup"


def test_reading_needs_no_rollup(events_database_url: str, events_connection: ddl.Connection) -> None:
    with connect(events_database_url, organization_id=ORGANIZATION) as store:
        assert served(store) == "events"
        assert because(store) == "there is no rollup of these events"
