"""The database goes away and comes back, and the same store goes on."""

from __future__ import annotations

import threading
from typing import Literal

import httpx
import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, asking, working
from support.breakable_server import Server, refused
from support.waiting import PATIENCE, SLEEP, eventually
from usage_explore import EventQuery, Store, connect
from usage_explore.db import ddl
from usage_explore.errors import DatabaseUnavailable, UsageExploreError

Mode = Literal["fast", "immediate"]


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_idle_connections_and_a_running_statement_survive_a_restart(
    server: Server, store: Store, client: httpx.Client, mode: Mode
) -> None:
    before = store.count(EventQuery())
    caught: list[UsageExploreError] = []

    def ask(slow: Store) -> None:
        with pytest.raises(UsageExploreError) as failed:
            slow.events()
        caught.append(failed.value)

    with connect(server.url, generated_events.ORGANIZATION, table="slow", statement_timeout=SLEEP) as slow:
        waiting = threading.Thread(target=ask, args=[slow])
        waiting.start()
        with ddl.connect(server.url) as looking:
            eventually(lambda: working(looking))
        server.stop(mode)
        waiting.join(PATIENCE)
    assert isinstance(caught[0], DatabaseUnavailable)
    assert "does not answer" in str(caught[0])
    with pytest.raises(DatabaseUnavailable, match=r"does not answer: .*refused"):
        store.count(EventQuery())
    for path in (EVENTS, AGGREGATE, EXPORT, "/readyz"):
        said = refused(client.get(path))
        assert str(server.port) not in said
    assert client.get("/healthz").status_code == 200
    server.start()
    assert store.count(EventQuery()) == before
    for path in (EVENTS, AGGREGATE, EXPORT, "/readyz"):
        assert client.get(path).status_code == 200


def test_iterating_goes_on_where_it_was(server: Server, store: Store) -> None:
    whole = [event.id for event in store.events(EventQuery(limit=100))]
    starting = threading.Timer(2, server.start)
    found = []
    for event in store.events(EventQuery(limit=100)):
        if len(found) == 150:
            server.stop("immediate")
            starting.start()
        found.append(event.id)
    starting.join()
    assert found == whole


def test_iterating_says_where_it_stopped_when_the_database_stays_away(
    server: Server, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_explore.event_pages._MAX_OUTAGE_SECONDS", 1.0)
    query = EventQuery(limit=100)
    whole, found = [event.id for event in store.events(query)], []
    events = iter(store.events(query))
    found += [next(events).id for _ in range(150)]
    server.stop("immediate")
    with pytest.raises(DatabaseUnavailable, match="does not answer") as failed:
        found.extend(event.id for event in events)
    assert len(found) == 200
    assert failed.value.cursor is not None
    assert f"cursor={failed.value.cursor!r}" in failed.value.__notes__[0]
    server.start()
    rest = store.events(query.replace(cursor=failed.value.cursor))
    assert found + [event.id for event in rest] == whole


def test_an_export_half_way_says_that_it_is_not_whole(
    server: Server, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("usage_explore.export._PAGE_EVENTS", 100)
    whole = client.get(EXPORT).content
    with (
        connect(server.url, generated_events.ORGANIZATION, table="halfway", statement_timeout=SLEEP) as halfway,
        asking(halfway) as slow,
    ):
        received = []
        with slow.stream("GET", EXPORT) as answer, ddl.connect(server.url) as looking:
            eventually(lambda: working(looking))
            server.stop("immediate")
            with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
                received.extend(iter(answer.iter_bytes()))
    sound, mark, said = b"".join(received).rpartition(b"# error: ")
    assert mark
    assert b"not complete" in said
    assert len(sound) > 1_000
    assert whole.startswith(sound)
    server.start()
    assert client.get(EXPORT).content == whole
