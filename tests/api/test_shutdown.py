"""Told to stop: what runs gets its grace, then says that it is not whole, and nothing is left running."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from sqlalchemy.exc import DBAPIError

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, command, working
from support.ports import free_port
from support.waiting import PATIENCE, SLEEP, eventually
from usage_explore import EventQuery, Store, config, connect
from usage_explore.db import ddl, timeouts
from usage_explore.errors import UsageExploreError

GRACE = (
    "import sys; from usage_explore.cli import main; from usage_explore.cli import uvicorn_server;"
    " uvicorn_server._GRACE_SECONDS = {}; sys.argv[0] = 'x'; main.main()"
)


@contextmanager
def serving(word: str, grace: float, url: str, folder: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """A server with another grace, on the view `slow`, and a client of it."""
    settings = config.settings(
        database_url=url,
        organization_id=generated_events.ORGANIZATION,
        table="slow",
        statement_timeout=SLEEP,
        home=folder,
    )
    port = free_port()
    line = [sys.executable, "-P", "-c", GRACE.format(grace), *command(word, port)[4:]]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(line, env=settings.environment(), stdout=log, stderr=log, cwd=folder)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=PATIENCE) as client:
            eventually(lambda: process.poll() is not None or _answers(client))
            yield process, client
    finally:
        process.kill()
        process.wait()


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def asked(client: httpx.Client, *paths: str) -> Iterator[list[httpx.Response | Exception]]:
    """Ask in the background; afterwards every answer is there, or why there is none."""
    found: list[httpx.Response | Exception] = []

    def ask(path: str) -> None:
        try:
            found.append(client.get(path))
        except httpx.TransportError as error:
            found.append(error)

    threads = [threading.Thread(target=ask, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    yield found
    for thread in threads:
        thread.join(PATIENCE)


def test_after_the_grace_everything_ends_and_says_so(
    events_database_url: str, events_connection: ddl.Connection, slow: Callable[[str], None], tmp_path: Path
) -> None:
    slow(events_database_url)
    with serving("app", 0.5, events_database_url, tmp_path) as (process, client):
        with asked(client, EVENTS, AGGREGATE, EXPORT) as answers:
            eventually(lambda: len(working(events_connection)) == 3)
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        assert not working(events_connection)
    for answer in answers:
        assert isinstance(answer, httpx.Response)
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert "being stopped" in answer.json()["detail"]
    assert "Traceback" not in (tmp_path / "log").read_text()


def test_an_export_that_does_not_end_in_time_says_that_it_is_not_whole(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    generated_events.insert(events_connection, generated_events.generate(per_scene=1))
    events_connection.execute(
        """
        INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)
        SELECT gen_random_uuid(), %s, gen_random_uuid(), 'm', i, now() - i * interval '1 s', i
        FROM generate_series(1, 30000) AS i
        """,
        [generated_events.ORGANIZATION],
    )
    events_connection.execute(
        f"""
        CREATE VIEW slow AS SELECT e.* FROM usage_events e
        CROSS JOIN LATERAL (SELECT CASE WHEN e.quantity = 25000 THEN pg_sleep({SLEEP}) END OFFSET 0) AS pause
        """
    )
    events_connection.execute("ANALYZE usage_events")
    events_connection.commit()
    with serving("api", 0.5, events_database_url, tmp_path) as (process, client):
        received = []

        def take(answer: httpx.Response) -> None:
            for piece in answer.iter_bytes():
                if not received:
                    process.send_signal(signal.SIGTERM)
                received.append(piece)

        with client.stream("GET", EXPORT, headers={"Accept-Encoding": "identity"}) as answer:
            assert answer.status_code == 200
            with pytest.raises(httpx.RemoteProtocolError):
                take(answer)
        assert b"# error: The server is being stopped" in b"".join(received[-2:])
        assert process.wait(PATIENCE) == 0
        assert not working(events_connection)


def test_an_export_that_its_client_does_not_read_is_closed_after_the_grace(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    events_connection.execute(
        """
        INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp, idempotency_key)
        SELECT gen_random_uuid(), %s, gen_random_uuid(), repeat('m', 1000), i, now() - i * interval '1 s', i
        FROM generate_series(1, 20000) AS i
        """,
        [generated_events.ORGANIZATION],
    )
    events_connection.execute("CREATE VIEW slow AS SELECT * FROM usage_events")
    events_connection.commit()
    with serving("api", 0.5, events_database_url, tmp_path) as (process, client), socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((client.base_url.host, client.base_url.port))
        stalled.sendall(f"GET /api{EXPORT} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert stalled.recv(12) == b"HTTP/1.1 200"
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
        eventually(lambda: not working(events_connection))
    log = (tmp_path / "log").read_text()
    assert "Traceback" not in log
    assert "timeout graceful shutdown exceeded" not in log  # which uvicorn logs after 5 more seconds
    assert log.count('"status": 200') >= 1


def test_what_ends_within_the_grace_is_whole(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    generated_events.insert(events_connection, generated_events.generate(per_scene=1))
    events_connection.execute(
        """
        CREATE VIEW slow AS SELECT e.* FROM usage_events e
        CROSS JOIN LATERAL (SELECT pg_sleep(0.003) WHERE e.id IS NOT NULL OFFSET 0) AS pause
        """
    )
    events_connection.commit()
    with serving("api", 30, events_database_url, tmp_path) as (process, client):
        with asked(client, EXPORT) as answers:
            eventually(lambda: working(events_connection))
            process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0
    (answer,) = answers
    assert isinstance(answer, httpx.Response)
    assert answer.status_code == 200
    own = sum(row.organization_id == generated_events.ORGANIZATION for row in generated_events.generate(per_scene=1))
    assert len(answer.text.splitlines()) == own + 1


def test_told_twice_it_ends_at_once(
    events_database_url: str, events_connection: ddl.Connection, slow: Callable[[str], None], tmp_path: Path
) -> None:
    slow(events_database_url)
    with serving("api", 600, events_database_url, tmp_path) as (process, client):
        with asked(client, EVENTS, EXPORT) as answers:
            eventually(lambda: len(working(events_connection)) == 2)
            process.send_signal(signal.SIGTERM)
            eventually(lambda: not _answers(client))
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        eventually(lambda: not working(events_connection))
    assert all(isinstance(each, Exception) or each.status_code == 504 for each in answers)


def test_everything_can_be_cancelled(
    events_database_url: str,
    events_connection: ddl.Connection,
    slow: Callable[[str], None],
) -> None:
    slow(events_database_url)
    said: list[Exception] = []

    def ask(store: Store) -> None:
        with timeouts.cancellable():
            try:
                store.events(EventQuery(limit=1))
            except UsageExploreError as error:
                said.append(error)

    with connect(events_database_url, generated_events.ORGANIZATION, table="slow", statement_timeout=SLEEP) as store:
        timeouts.watch(store.engine)
        thread = threading.Thread(target=ask, args=(store,))
        thread.start()
        eventually(lambda: working(events_connection))
        timeouts.cancel_all(PATIENCE)
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert len(said) == 1


def test_a_lost_connection_is_no_longer_held(events_database_url: str) -> None:
    """A server that stops would wait for its statement otherwise."""
    with connect(events_database_url) as store, timeouts.cancellable() as work:
        timeouts.watch(store.engine)
        with pytest.raises(DBAPIError), store.engine.connect() as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        assert not work.is_held
