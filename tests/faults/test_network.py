"""The network breaks, or swallows every byte without a word; nobody waits for ever, and the same store goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from support import generated_events, waiting
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking, working
from support.breakable_server import Network, Server, address, refused
from support.waiting import eventually
from usage_explore import EventQuery, Store, connect
from usage_explore.db import ddl, engine
from usage_explore.db import timeouts as connections
from usage_explore.errors import DatabaseError, DatabaseUnavailable

PATIENCE = 0.5
"""Seconds of silence that are waited here."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MAX_SILENCE_SECONDS", PATIENCE)
    monkeypatch.setattr(connections.Connection, "max_silence_seconds", PATIENCE)


@pytest.fixture
def far(network: Network) -> Iterator[Callable[..., Store]]:
    """Opens stores behind the network."""
    opened: list[Store] = []

    def open_store(table: str = "usage_events") -> Store:
        url = f"{address(network.port)}?connect_timeout=2"
        opened.append(connect(url, generated_events.ORGANIZATION, table=table, statement_timeout=1))
        return opened[-1]

    yield open_store
    for store in opened:
        store.close()


def failing(ask: Callable[[], object]) -> Callable[[], str]:
    """Ask in a thread; what the failure says, once it is there."""
    said: list[str] = []

    def run() -> None:
        with pytest.raises(DatabaseUnavailable) as failed:
            ask()
        said.append(str(failed.value))

    thread = threading.Thread(target=run)
    thread.start()

    def result() -> str:
        thread.join(waiting.PATIENCE)
        assert said, "it still waits"
        return said[0]

    return result


@pytest.mark.parametrize("cut", [Network.reset, Network.swallow])
def test_a_running_statement_ends_and_the_next_one_is_answered(
    far: Callable[..., Store], network: Network, primary: Server, cut: Callable[[Network], None]
) -> None:
    store = far("slow")
    with ddl.connect(primary.url) as looking:
        said = failing(store.events)
        eventually(lambda: working(looking))
        cut(network)
        assert "does not answer" in said()
        network.mend()
        eventually(lambda: not working(looking))  # the server, too, lets go
    assert store.now()


@pytest.mark.parametrize("cut", [Network.reset, Network.swallow])
def test_idle_connections_are_replaced(
    far: Callable[..., Store], network: Network, store: Store, cut: Callable[[Network], None]
) -> None:
    distant, here = far(), store
    with asking(distant) as client:
        assert distant.count(EventQuery()) == here.count(EventQuery())
        cut(network)
        if cut is Network.swallow:
            with pytest.raises(DatabaseUnavailable, match=r"does not answer: .*timeout"):
                distant.count(EventQuery())
            refused(client.get(EVENTS))
            assert client.get("/healthz").status_code == 200
            network.mend()
        assert distant.count(EventQuery()) == here.count(EventQuery())
        for path in (EVENTS, AGGREGATE, EXPORT, "/readyz"):
            assert client.get(path).status_code == 200


def test_an_export_into_silence_is_visibly_broken(
    far: Callable[..., Store], network: Network, primary: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_explore.export._PAGE_EVENTS", 100)
    received = []
    with (
        ddl.connect(primary.url) as looking,
        asking(far("halfway")) as client,
        client.stream("GET", EXPORT) as answer,
    ):
        assert answer.status_code == 200
        eventually(lambda: working(looking))
        network.swallow()
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            received.extend(iter(answer.iter_bytes()))
    assert b"# error: The database does not answer" in b"".join(received)


def test_many_bytes_may_take_longer_than_any_silence(primary: Server) -> None:
    with connections.Connection.connect(**connections.parameters(primary.url)) as connection:
        rows_of_it = "SELECT pg_sleep(0.1), repeat('x', 100000) FROM generate_series(1, 10)"
        assert len(connection.execute(rows_of_it).fetchall()) == 10


def test_nobody_waits_for_silence_to_write(network: Network) -> None:
    network.swallow()
    with pytest.raises(DatabaseUnavailable, match=r"does not answer: .*timeout"):
        ddl.connect(f"{address(network.port)}?connect_timeout=2")


def test_what_the_driver_cannot_send_is_no_silence(store: Store) -> None:
    many = 70_000
    statement = f"SELECT 1 WHERE 1 IN ({', '.join(['%s'] * many)})"
    with (
        pytest.raises(DatabaseError, match=r"could not be sent .*between 0 and 65535") as failed,
        engine.transaction(store.engine) as connection,
    ):
        connection.exec_driver_sql(statement, tuple(range(many)))
    assert not isinstance(failed.value, DatabaseUnavailable)
    assert store.now()
