"""Nobody waits for ever, and who goes away takes the statement along."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import httpx
import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking, working
from support.waiting import PATIENCE, SLEEP, eventually
from usage_explore import Store, connect
from usage_explore.api import Limits
from usage_explore.api.problems import Problem
from usage_explore.api.service import ConcurrencyLimit
from usage_explore.db import ddl

PATHS = [EVENTS, AGGREGATE, f"{AGGREGATE}.svg", EXPORT]


@pytest.fixture
def slow_store(events_database_url: str, slow: Callable[[str], None]) -> Iterator[Store]:
    slow(events_database_url)
    with connect(events_database_url, generated_events.ORGANIZATION, table="slow", statement_timeout=SLEEP) as store:
        yield store


@contextlib.contextmanager
def waiting(client: httpx.Client, path: str, headers: str = "") -> Iterator[socket.socket]:
    """A client that asked and waits."""
    with socket.create_connection((client.base_url.host, client.base_url.port or 80)) as connection:
        connection.sendall(f"GET /api{path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        yield connection


@pytest.mark.parametrize("path", PATHS)
def test_going_away_cancels_the_statement(slow_store: Store, events_connection: ddl.Connection, path: str) -> None:
    with asking(slow_store) as client:
        with waiting(client, path):
            eventually(lambda: working(events_connection))
        eventually(lambda: not working(events_connection))
        eventually(lambda: slow_store.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
        assert client.get("/readyz").status_code == 200


def test_a_cancelled_question_hits_nobody_else(slow_store: Store, events_connection: ddl.Connection) -> None:
    with asking(slow_store) as client, waiting(client, EVENTS):
        eventually(lambda: len(working(events_connection)) == 1)
        (kept,) = working(events_connection)
        with waiting(client, AGGREGATE):
            eventually(lambda: len(working(events_connection)) == 2)
        eventually(lambda: working(events_connection) == [kept])


def test_questions_beyond_the_limit_wait_a_bounded_time(slow_store: Store, events_connection: ddl.Connection) -> None:
    limits = Limits(queries=1, exports=1, wait_seconds=0.2)
    with asking(slow_store, limits=limits) as client:
        with waiting(client, EVENTS):
            eventually(lambda: working(events_connection))
            refused(client.get(AGGREGATE))
            assert client.get("/readyz").status_code == 200
            assert client.get("/healthz").status_code == 200
            with waiting(client, EXPORT):
                eventually(lambda: len(working(events_connection)) == 2)
                refused(client.get(EXPORT))
        eventually(lambda: not working(events_connection))


def test_one_organization_leaves_a_turn_to_another(
    events_database_url: str, slow: Callable[[str], None], events_connection: ddl.Connection
) -> None:
    slow(events_database_url)
    own, other = (str(one) for one in (generated_events.ORGANIZATION, generated_events.NEIGHBOUR))
    with (
        connect(events_database_url, table="slow", statement_timeout=SLEEP) as store,
        asking(
            store,
            access=lambda request: UUID(request.headers["x-organization"]),
            limits=Limits(queries=2, wait_seconds=0.2),
        ) as client,
        waiting(client, EVENTS, f"X-Organization: {own}\r\n"),
    ):
        eventually(lambda: len(working(events_connection)) == 1)
        refused(client.get(EVENTS, headers={"X-Organization": own}))
        with waiting(client, EVENTS, f"X-Organization: {other}\r\n"):
            eventually(lambda: len(working(events_connection)) == 2)


def test_of_an_organization_some_requests_wait_and_the_next_is_refused_at_once() -> None:
    """Those that waited took all connections, of other organizations too."""

    async def run() -> None:
        limit = ConcurrencyLimit(1, PATIENCE, max_waiting=2)

        async def hold(owner: str) -> None:
            async with limit.slot(owner):
                pass

        async def waits(number: int) -> None:
            while limit.load[1] < number:
                await asyncio.sleep(0)

        async with asyncio.TaskGroup() as tasks, asyncio.timeout(PATIENCE), limit.slot("own"):
            tasks.create_task(hold("own"))
            tasks.create_task(hold("own"))
            await waits(2)
            with pytest.raises(Problem, match="try again"):
                await hold("own")
            tasks.create_task(hold("other"))
            await waits(3)
        assert limit.load == (0, 0, 1)

    asyncio.run(run())


def test_a_pool_that_others_use_up_is_waited_for_a_bounded_time(events_database_url: str) -> None:
    with connect(events_database_url, generated_events.ORGANIZATION) as store, contextlib.ExitStack() as others:
        store.engine.pool._timeout = 0.2  # type: ignore[attr-defined]
        for _ in range(10):
            others.enter_context(store.engine.connect())
        with asking(store) as client:
            for path in [*PATHS, "/readyz"]:
                refused(client.get(path))
            others.close()
            assert client.get(EVENTS).status_code == 200


def test_lost_connections_are_replaced(client: httpx.Client, store: Store, server_url: str) -> None:
    assert client.get(EVENTS).status_code == 200
    with ddl.connect(server_url) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [store.engine.url.database],
        )
    assert client.get(EVENTS).status_code == 200


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:usage-explore:problem:unavailable"
    assert int(answer.headers["retry-after"]) > 0


def test_a_picture_waits_its_turn_and_holds_nobody_up(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, end = threading.Event(), threading.Event()

    def drawn(*_: object) -> bytes:
        begun.set()
        end.wait(PATIENCE)
        return b"<svg/>"

    monkeypatch.setattr("usage_explore.api.endpoints._drawn", drawn)
    with asking(store, limits=Limits(queries=1, pictures=1, wait_seconds=0.2)) as client:
        with waiting(client, f"{AGGREGATE}.svg"):
            assert begun.wait(PATIENCE)
            refused(client.get(f"{AGGREGATE}.svg"))
            assert client.get(AGGREGATE).status_code == 200
            end.set()
        assert client.get(f"{AGGREGATE}.svg").content == b"<svg/>"
