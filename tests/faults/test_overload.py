"""Too many at once: connections, and slow questions. Each is told so in bounded time, and then all is as before."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking
from support.breakable_server import Server, refused
from support.waiting import eventually
from usage_explore import Store, connect, doctor
from usage_explore.api import Limits
from usage_explore.config import DEFAULT_STATEMENT_TIMEOUT
from usage_explore.db import ddl
from usage_explore.errors import DatabaseUnavailable, StatementTimeout, UsageExploreError


@pytest.fixture
def narrow(primary: Server) -> Iterator[str]:
    """The URL of a role that may connect once."""
    primary.execute("CREATE ROLE narrow LOGIN CONNECTION LIMIT 1", "GRANT SELECT ON usage_events TO narrow")
    yield primary.url.replace("postgres@", "narrow@")
    primary.execute("DROP OWNED BY narrow", "DROP ROLE narrow")


def test_too_many_connections_of_a_role(narrow: str) -> None:
    with connect(narrow, generated_events.ORGANIZATION) as store, asking(store) as client:
        with contextlib.closing(psycopg.connect(narrow)):
            with pytest.raises(DatabaseUnavailable, match=r"too many connections and takes no more: .*narrow"):
                store.events()
            with pytest.raises(DatabaseUnavailable, match="too many connections"):
                ddl.connect(narrow)
            said = refused(client.get(EVENTS))
            assert "too many connections right now" in said
            assert "narrow" not in said
            (finding,) = doctor.examine(narrow, "usage_events", DEFAULT_STATEMENT_TIMEOUT)
            assert "too many connections" in finding.message
        eventually(lambda: client.get(EVENTS).status_code == 200)
        assert store.events().events


def test_too_many_connections_to_the_server(server: Server) -> None:
    server.stop()
    server.settings |= {"max_connections": "4", "superuser_reserved_connections": "0", "max_wal_senders": "0"}
    try:
        server.start()
        with (
            connect(server.url, generated_events.ORGANIZATION) as store,
            asking(store) as client,
            contextlib.ExitStack() as others,
        ):
            for _ in range(4):
                others.enter_context(psycopg.connect(server.url))
            with pytest.raises(DatabaseUnavailable, match="too many connections and takes no more"):
                store.events()
            assert "too many connections right now" in refused(client.get(EVENTS))
            others.close()
            eventually(lambda: client.get(EVENTS).status_code == 200)
            assert store.events().events
        server.stop()
    finally:
        for name in ("max_connections", "superuser_reserved_connections", "max_wal_senders"):
            del server.settings[name]


def sessions(primary: Server) -> int:
    found = primary.execute("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'usage-explore'")
    assert isinstance(found, int)
    return found


def test_a_storm_of_slow_questions_passes(primary: Server, store: Store) -> None:
    eventually(lambda: sessions(primary) == 0)
    limits = Limits(queries=4, exports=1, wait_seconds=0.5)
    with (
        connect(primary.url, generated_events.ORGANIZATION, table="slow", statement_timeout=1.5) as slow,
        asking(slow, limits=limits) as client,
        asking(store) as other,
        ThreadPoolExecutor(30) as threads,
    ):
        asked = [threads.submit(client.get, path) for path in [EVENTS, AGGREGATE, EXPORT] * 10]
        eventually(lambda: sessions(primary) >= 4)
        most = 0
        while not all(each.done() for each in asked):
            most = max(most, sessions(primary))
            assert client.get("/healthz").status_code == 200
            assert client.get("/readyz").status_code == 200
            assert other.get(EVENTS).status_code == 200
        assert most <= 4 + 1 + 1 + 1  # questions, exports, readiness, the other store
        answers = [each.result() for each in asked]
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {503, 504}
        for answer in answers:
            said = refused(answer, answer.status_code)
            assert ("narrow the window" if answer.status_code == 504 else "try again shortly") in said
        assert statuses.count(504) >= 4
        eventually(lambda: primary.execute("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == 0)
        assert slow.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    store.close()
    eventually(lambda: sessions(primary) == 0)


def test_a_storm_on_a_plain_store_passes(primary: Server) -> None:
    def ask(store: Store) -> str:
        with pytest.raises(UsageExploreError) as failed:
            store.events()
        return type(failed.value).__name__

    with (
        connect(primary.url, generated_events.ORGANIZATION, table="slow", statement_timeout=1) as slow,
        ThreadPoolExecutor(25) as threads,
    ):
        slow.engine.pool._timeout = 0.3  # type: ignore[attr-defined]
        found = list(threads.map(ask, [slow] * 25))
        assert found.count(StatementTimeout.__name__) >= 10
        assert set(found) == {StatementTimeout.__name__, DatabaseUnavailable.__name__}
        assert sessions(primary) <= 10
        assert slow.now()
        assert slow.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    eventually(lambda: sessions(primary) == 0)
