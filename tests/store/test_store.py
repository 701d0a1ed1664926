"""How the store reaches its database, and what it says when it cannot."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text

from support import generated_events
from support.query_oracle import Row
from usage_explore import AggregateQuery, EventQuery, LeaderboardQuery, Store, config, connect
from usage_explore.db import ddl, engine
from usage_explore.errors import (
    ConfigurationError,
    DatabaseError,
    DatabaseUnavailable,
    ScopeError,
    StatementTimeout,
    TableMismatch,
)


def test_transactions_are_read_only_bounded_and_in_utc(store: Store) -> None:
    with store.engine.connect() as connection:
        shown = [
            connection.execute(text(f"SHOW {name}")).scalar_one()
            for name in ("transaction_read_only", "default_transaction_read_only", "statement_timeout", "TimeZone")
        ]
    assert shown == ["on", "on", "30s", "UTC"]


def test_the_same_query_has_an_equal_answer_at_any_time(store: Store) -> None:
    window = {"since": "2026-10-01T00:00:00Z", "until": "2026-11-01T00:00:00Z"}
    query = AggregateQuery(**window, group_by="metric_key", compare="previous")
    leaders = LeaderboardQuery(**window)
    elsewhere = replace(store, app_url="https://usage.example.com")
    first, again = store.aggregate(query), elsewhere.aggregate(query)
    assert again.now > first.now
    assert first == again
    assert store.compare(first) == store.compare(again) == first.comparison
    assert store.leaderboards(leaders) == elsewhere.leaderboards(leaders)
    assert store.events() == elsewhere.events()


def test_a_statement_that_takes_too_long_is_cut_off_with_advice(events_database_url: str, own: list[Row]) -> None:
    with ddl.connect(events_database_url) as connection:
        generated_events.insert(connection, own[:3])
        connection.execute("ALTER TABLE usage_events RENAME TO slow_events")
        connection.execute("CREATE VIEW usage_events AS SELECT e.* FROM slow_events e, LATERAL pg_sleep(0.4)")
        connection.commit()
    with connect(
        events_database_url, generated_events.ORGANIZATION, statement_timeout=timedelta(milliseconds=200)
    ) as store:
        with pytest.raises(StatementTimeout, match="narrow the window"):
            store.aggregate(AggregateQuery(since="2000-01-01T00:00:00Z", bucket="week"))
        assert store.now()


def test_a_missing_table_is_named_with_its_cure(database_url: str) -> None:
    with (
        connect(database_url, generated_events.ORGANIZATION) as store,
        pytest.raises(TableMismatch, match="usage-explore init"),
    ):
        store.events()


def test_an_empty_table_says_what_to_run(events_database_url: str) -> None:
    with connect(events_database_url) as store:
        assert store.organizations() == ()
        with pytest.raises(ScopeError, match="usage-explore demo"):
            store.aggregate()


def test_a_single_organization_is_taken_without_asking(events_database_url: str, own: list[Row]) -> None:
    with ddl.connect(events_database_url) as connection:
        generated_events.insert(connection, own[:5])
    with connect(events_database_url) as store:
        page = store.events()
        assert page.query.organization_id == generated_events.ORGANIZATION
        assert len(page.events) == 5


def test_another_table_or_view_can_be_named(events_database_url: str, own: list[Row]) -> None:
    with ddl.connect(events_database_url) as connection:
        generated_events.insert(connection, own[:5])
        connection.execute("CREATE SCHEMA metering")
        connection.execute("CREATE VIEW metering.raw AS SELECT * FROM usage_events")
        connection.commit()
    with connect(events_database_url, table="metering.raw") as store:
        assert store.count(EventQuery()) == 5


def test_nobody_answering_is_said_in_one_sentence() -> None:
    with (
        connect("postgresql://127.0.0.1:9/none", generated_events.ORGANIZATION) as store,
        pytest.raises(DatabaseUnavailable, match="does not answer"),
    ):
        store.now()


@pytest.mark.parametrize("url", ["mysql://x/y", "not a url", "postgresql://[::1/x"])
def test_an_unreadable_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="database_url"):
        connect(url)


def test_a_database_of_few_letters_says_which_it_lacks(server_url: str, own: list[Row]) -> None:
    name = f"latin_{uuid4().hex[:8]}"
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
        try:
            url = urlunsplit(urlsplit(server_url)._replace(path=f"/{name}"))
            with ddl.connect(url) as connection:
                ddl.ensure_schema(connection, "usage_events")
                generated_events.insert(connection, [replace(own[0], price_key="größe")])
            with connect(url) as store:
                assert store.events(EventQuery(price_key="größe")).events[0].price_key == "größe"
                with pytest.raises(DatabaseError, match="no equivalent in encoding"):
                    store.count(EventQuery(price_key="😀"))
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def test_a_broken_connection_is_replaced(events_database_url: str, own: list[Row]) -> None:
    with ddl.connect(events_database_url) as connection:
        generated_events.insert(connection, own[:5])
        with connect(events_database_url) as store:
            assert store.count(EventQuery()) == 5
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            assert store.count(EventQuery()) == 5


def test_connections_leave_when_their_time_is_over(events_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def processes() -> set[int]:
        with connect(events_database_url) as opened:
            return {_process(opened) for _ in range(3)}

    assert len(processes()) == 1
    monkeypatch.setattr(engine, "_CONNECTION_LIFETIME_SECONDS", (0, 0))
    assert len(processes()) == 3


def test_a_statement_may_be_given_more_time(events_database_url: str) -> None:
    with connect(events_database_url, statement_timeout=0.2) as opened:
        for given, allowed in ((None, "200ms"), (timedelta(minutes=10), "10min")):
            with engine.transaction(opened.engine, statement_timeout=given) as connection:
                assert connection.execute(text("SHOW statement_timeout")).scalar_one() == allowed
        with engine.transaction(opened.engine, statement_timeout=timedelta(minutes=10)) as connection:
            connection.execute(text("SELECT pg_sleep(0.3)"))
        with engine.transaction(opened.engine) as connection:
            assert connection.execute(text("SHOW statement_timeout")).scalar_one() == "200ms"


def _process(store: Store) -> int:
    with engine.transaction(store.engine) as connection:
        found: int = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
    return found


def test_an_embedded_server_that_was_killed_is_started_again(home: Path) -> None:
    url = config.database_url(config.settings(home=home))
    with ddl.connect(url) as connection:
        ddl.ensure_schema(connection, "usage_events")
    with connect(home=home) as store:
        assert store.organizations() == ()
        postmaster = int((home / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(postmaster, signal.SIGKILL)
        for _ in range(2):
            try:
                assert store.organizations() == ()
                break
            except DatabaseUnavailable:  # the connection died in our hands; the next one is new
                continue
        else:
            pytest.fail("the store did not come back")
