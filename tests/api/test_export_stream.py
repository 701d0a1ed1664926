"""A streamed export is the file export's bytes, whole; or it is visibly broken; and it holds nothing for nobody."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest
from psycopg import sql

from support import generated_events
from support.api_server import EVENTS, EXPORT, asking, working
from support.query_oracle import Row, newest_first
from support.waiting import SLEEP, eventually
from usage_explore import EventQuery, Store, connect
from usage_explore.api import Limits
from usage_explore.db import ddl

PAGE = 97


@pytest.fixture(autouse=True)
def _small_pages() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("usage_explore.export._PAGE_EVENTS", PAGE)
        yield


@pytest.fixture
def halfway(events_database_url: str, events_connection: ddl.Connection, own: list[Row]) -> str:
    """A view that takes a minute to read once it comes to a row in the middle; the URL of its database."""
    generated_events.insert(events_connection, own)
    events_connection.execute(
        f"""
        CREATE VIEW halfway AS SELECT e.* FROM usage_events e
        CROSS JOIN LATERAL (SELECT CASE WHEN e.id = '{newest_first(own)[len(own) // 2].id}' THEN pg_sleep({SLEEP}) END
                            OFFSET 0) AS pause
        """
    )
    for plan in ("seqscan", "bitmapscan", "sort"):  # read along the index, so that the row is met on its page
        events_connection.execute(
            sql.SQL("ALTER DATABASE {} SET {} = off").format(
                sql.Identifier(events_connection.info.dbname), sql.SQL(f"enable_{plan}")
            )
        )
    events_connection.commit()
    return events_database_url


def broken(answer: httpx.Response) -> bytes:
    """What comes of an answer before the client notices that it is cut short."""
    received = []
    with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
        received.extend(iter(answer.iter_bytes()))
    return b"".join(received)


@pytest.mark.parametrize("query_string", ["", "metric_key=a%5C,b&not:dim:model=large", "metric_key=nothing"])
def test_the_stream_is_the_file(client: httpx.Client, store: Store, tmp_path: Path, query_string: str) -> None:
    store.export(EventQuery.from_params(query_string), tmp_path / "events.csv", progress=False)
    answer = client.get(f"{EXPORT}?{query_string}")
    assert answer.content == (tmp_path / "events.csv").read_bytes()
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-disposition"] == 'attachment; filename="usage-events.csv"'


def test_the_head_of_an_export_names_no_length(client: httpx.Client) -> None:
    head, whole = client.head(EXPORT), client.get(EXPORT, headers={"Accept-Encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    assert "content-length" not in head.headers
    for name in ("content-type", "content-disposition", "cache-control"):
        assert head.headers[name] == whole.headers[name]


def test_the_head_of_an_export_is_refused_as_the_export_is(
    client: httpx.Client, stranger: httpx.Client, everyone: Store
) -> None:
    cursor = client.get(f"{EVENTS}?limit=1").json()["pagination"]["cursor"]
    hidden, other = f"organization_id={generated_events.NEIGHBOUR}", f"cursor={cursor}&metric_key=Other"
    wrong = [(client, hidden, 403), (stranger, f"organization_id={uuid4()}", 403), (stranger, "", 400)]
    for door, query_string, status in [*wrong, (client, other, 400), (client, "cursor=x", 400)]:
        address = f"{EXPORT}?{query_string}"
        assert (door.head(address).status_code, door.get(address).status_code) == (status, status), query_string
    with asking(everyone, access=lambda request: uuid4()) as without_events:  # as a key of such an organization
        assert without_events.head(EXPORT).status_code == without_events.get(EXPORT).status_code == 403
    assert client.head(f"{EXPORT}?cursor={cursor}").status_code == 200


def test_an_export_goes_on_from_a_cursor(client: httpx.Client) -> None:
    cursor = client.get(f"{EVENTS}?limit=60").json()["pagination"]["cursor"]
    whole, rest = client.get(EXPORT).content, client.get(f"{EXPORT}?cursor={cursor}").content
    header = whole[: whole.index(b"\n") + 1]
    assert whole.endswith(rest.removeprefix(header))
    assert len(whole.splitlines()) - len(rest.splitlines()) == 60


@pytest.mark.parametrize("coding", ["identity", "gzip"])
def test_a_broken_export_is_never_taken_for_whole(halfway: str, coding: str) -> None:
    with connect(halfway) as store, asking(store) as client:
        whole = client.get(EXPORT).content
    with connect(halfway, table="halfway", statement_timeout=0.5) as store, asking(store) as client:
        with client.stream("GET", EXPORT, headers={"Accept-Encoding": coding}) as answer:
            assert answer.status_code == 200
            received = broken(answer)
        assert store.engine.pool.checkedout() == 0  # type: ignore[attr-defined]
        sound, mark, said = received.rpartition(b"# error: ")
        assert mark
        assert b"took longer than allowed" in said
        assert answer.headers["x-request-id"].encode() in said
        assert said.endswith(b"\n")
        assert whole.startswith(sound)
        assert PAGE < sound.count(b"\n") < whole.count(b"\n")


def test_a_lost_database_breaks_the_export_visibly(halfway: str, events_connection: ddl.Connection) -> None:
    with connect(halfway, table="halfway", statement_timeout=SLEEP) as store, asking(store) as client:
        with client.stream("GET", EXPORT) as answer:
            eventually(lambda: working(events_connection))
            events_connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY (%s)",
                [working(events_connection)],
            )
            received = broken(answer)
        assert b"# error: The database does not answer" in received
        assert client.get("/readyz").status_code == 200


def test_who_goes_away_leaves_nothing_running(halfway: str, events_connection: ddl.Connection) -> None:
    with (
        connect(halfway, table="halfway", statement_timeout=SLEEP) as store,
        asking(store, limits=Limits(exports=1, wait_seconds=5)) as client,
    ):
        for _ in range(3):
            with client.stream("GET", EXPORT) as answer:
                pieces = answer.iter_bytes()
                assert next(pieces).startswith(b'"id"')
                eventually(lambda: working(events_connection))
                assert len(working(events_connection)) == 1
            eventually(lambda: not working(events_connection))
            eventually(lambda: store.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]


@pytest.fixture
def endless(events_database_url: str, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch) -> str:
    """A database with more events than the buffers between server and client take; its URL."""
    monkeypatch.setattr("usage_explore.export._PAGE_EVENTS", 5_000)
    events_connection.execute(
        """
        INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)
        SELECT gen_random_uuid(), owner.id::uuid, gen_random_uuid(), repeat('m', 200), i, now() - i * interval '1 s', i
        FROM generate_series(1, 60000) AS i
        CROSS JOIN LATERAL (SELECT CASE WHEN i = 1 THEN %s ELSE %s END AS id) AS owner
        """,
        [str(generated_events.NEIGHBOUR), str(generated_events.ORGANIZATION)],
    )
    events_connection.commit()
    return events_database_url


@contextlib.contextmanager
def idle_reader(client: httpx.Client, headers: str = "") -> Iterator[socket.socket]:
    """A client that asks for an export and reads nothing of it."""
    with socket.socket() as idle:
        idle.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        idle.connect((client.base_url.host, client.base_url.port))
        idle.sendall(f"GET /api{EXPORT} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        yield idle


def test_who_takes_nothing_is_left_after_a_while(endless: str) -> None:
    with (
        connect(endless, generated_events.ORGANIZATION) as store,
        asking(store, limits=Limits(stall_seconds=0.3)) as client,
    ):
        with idle_reader(client) as idle:
            eventually(lambda: store.engine.pool.checkedout() == 1)  # type: ignore[attr-defined]
            eventually(lambda: store.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]
            received = b"".join(iter(lambda: idle.recv(1_000_000), b""))
        assert not received.endswith(b"0\r\n\r\n")
        assert len(client.get(EXPORT).content.splitlines()) == 60_000


def test_a_slow_reader_keeps_its_turn_only_while_nobody_waits_for_it(endless: str) -> None:
    with connect(endless, generated_events.ORGANIZATION) as store:
        for limits, status in (
            (Limits(exports=1, wait_seconds=0.4, slow_bytes=0), 503),
            (Limits(exports=1, wait_seconds=6), 200),
        ):
            with asking(store, limits=limits) as client, idle_reader(client) as idle:
                eventually(lambda: store.engine.pool.checkedout() == 1)  # type: ignore[attr-defined]
                answer = client.get(EXPORT)
                assert answer.status_code == status
                idle.shutdown(socket.SHUT_RDWR)
            if status == 200:
                assert len(answer.content.splitlines()) == 60_000
            eventually(lambda: store.engine.pool.checkedout() == 0)  # type: ignore[attr-defined]


def test_one_organization_leaves_a_turn_to_another(endless: str) -> None:
    own, other = ({"X-Organization": str(one)} for one in (generated_events.ORGANIZATION, generated_events.NEIGHBOUR))
    with (
        connect(endless) as store,
        asking(
            store,
            access=lambda request: UUID(request.headers["x-organization"]),
            limits=Limits(exports=3, wait_seconds=0.5, slow_bytes=0),
        ) as client,
        contextlib.ExitStack() as readers,
    ):
        for _ in range(2):
            readers.enter_context(idle_reader(client, "".join(f"{name}: {value}\r\n" for name, value in own.items())))
        eventually(lambda: store.engine.pool.checkedout() == 2)  # type: ignore[attr-defined]
        assert client.get(EXPORT, headers=own).status_code == 503
        assert len(client.get(EXPORT, headers=other).content.splitlines()) == 2
