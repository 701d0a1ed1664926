"""A read-only replica serves whatever reads, goes on without its primary, and says what it cannot take."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import streamlit as st
from click.testing import CliRunner
from streamlit.testing.v1 import AppTest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking, working
from support.app_pages import MAIN, opened
from support.breakable_server import Server, address, refused
from support.waiting import PATIENCE, SLEEP, eventually
from usage_explore import AggregateQuery, EventQuery, connect, doctor
from usage_explore.cli.main import main
from usage_explore.config import DEFAULT_STATEMENT_TIMEOUT
from usage_explore.db import ddl
from usage_explore.errors import DatabaseUnavailable

WINDOW = AggregateQuery(since="2026-03-01T00:00:00Z", until="2026-06-10T00:00:00Z")


@pytest.fixture(scope="module")
def replica(primary: Server) -> Iterator[Server]:
    copy = primary.copy("replica")
    copy.settings |= {"max_standby_streaming_delay": "0", "wal_retrieve_retry_interval": "100ms"}
    copy.start()
    yield copy
    copy.end()
    shutil.rmtree(copy.data)


def follow(primary: Server, replica: Server) -> None:
    """Wait until the replica has seen what the primary has done."""
    done = primary.execute("SELECT pg_current_wal_flush_lsn()::text")
    eventually(lambda: replica.execute(f"SELECT pg_last_wal_replay_lsn() >= '{done}'"))


def test_what_reads_works_on_a_replica(primary: Server, replica: Server) -> None:
    with (
        connect(primary.url, generated_events.ORGANIZATION) as first,
        connect(replica.url, generated_events.ORGANIZATION) as second,
    ):
        assert second.aggregate(WINDOW).series == first.aggregate(WINDOW).series
        assert [event.id for event in second.events().events] == [event.id for event in first.events().events]
        with asking(second) as client:
            for path in (EVENTS, AGGREGATE, EXPORT, "/readyz"):
                assert client.get(path).status_code == 200
    findings = doctor.examine(replica.url, "usage_events", DEFAULT_STATEMENT_TIMEOUT)
    assert not [finding for finding in findings if finding.state == "fault"]
    assert any("a read-only replica" in finding.message for finding in findings)


def test_the_app_reads_a_replica_and_continues_when_it_returns(
    primary: Server, replica: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", replica.url)
    st.cache_resource.clear()
    asked = {"organization_id": str(generated_events.ORGANIZATION), **dict(WINDOW.to_params())}
    app = opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), asked)
    assert app.get("vega_lite_chart")
    assert not app.error
    replica.stop("immediate")
    st.cache_data.clear()
    app.run()
    assert "does not answer" in app.error[0].value
    assert not app.get("vega_lite_chart")
    replica.start()
    app.run()
    assert app.get("vega_lite_chart")
    assert not app.error
    st.cache_resource.clear()


@pytest.mark.each_value
@pytest.mark.parametrize("command", ["init", "demo", "load"])
@pytest.mark.parametrize("why", ["a replica", "its default"])
def test_what_writes_says_that_it_is_read_only(
    primary: Server, replica: Server, tmp_path: Path, command: str, why: str
) -> None:
    given = tmp_path / "events.csv"
    given.write_text("organization_id,customer_id,metric_key,quantity,timestamp,idempotency_key\n")
    url = replica.url if why == "a replica" else f"{primary.url}?options=-c%20default_transaction_read_only%3Don"
    arguments = [command, *([str(given)] if command == "load" else []), "--database-url", url]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 1, result.output
    assert result.stderr.startswith(f"Error: database_url: this database is read-only ({why})")
    assert "name the primary" in result.stderr


def test_the_same_store_goes_on_when_the_primary_ends(server: Server, replica: Server) -> None:
    both = address(server.port, replica.port)
    with connect(both, generated_events.ORGANIZATION) as store, asking(store) as client:
        before = store.count(EventQuery())
        assert client.get(EVENTS).status_code == 200
        server.stop()
        assert store.count(EventQuery()) == before
        assert client.get(EVENTS).status_code == 200
        with pytest.raises(DatabaseUnavailable, match=r"read-only|refused"):
            ddl.connect(both)
    server.start()
    with ddl.connect(address(replica.port, server.port)) as connection:  # the one that takes writes
        assert connection.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)


def test_a_statement_in_the_way_of_the_replica_can_be_asked_again(primary: Server, replica: Server) -> None:
    primary.execute("CREATE TABLE passing AS SELECT 1 AS n")
    follow(primary, replica)
    with (
        connect(replica.url, generated_events.ORGANIZATION, table="slow", statement_timeout=SLEEP) as store,
        asking(store) as client,
        ddl.connect(replica.url) as looking,
        ThreadPoolExecutor() as threads,
    ):
        answer, page = threads.submit(client.get, EVENTS), threads.submit(store.events)
        eventually(lambda: len(working(looking)) == 2)
        primary.execute("DELETE FROM passing", "VACUUM passing", "DROP TABLE passing")
        assert "keep up with its primary; ask again" in refused(answer.result())
        with pytest.raises(DatabaseUnavailable, match="keep up with its primary; ask again"):
            page.result()
        assert store.now()
