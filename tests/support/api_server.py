"""HTTP doors for tests: the API behind a real server on 127.0.0.1."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette

from support.waiting import PATIENCE
from usage_explore import Store
from usage_explore.api import create_app
from usage_explore.cli.uvicorn_server import standalone
from usage_explore.db import ddl

EVENTS = "/v1/usage-events"
AGGREGATE = f"{EVENTS}/aggregate"
EXPORT = f"{EVENTS}/export"
LEADERBOARDS = f"{EVENTS}/leaderboards"
VALIDATIONS = "/v1/validations"


def command(word: str, port: int, *options: str) -> list[str]:
    """The command line that serves the app or the API on the port."""
    return [sys.executable, "-P", "-m", "usage_explore", word, "--port", str(port), *options]


@contextlib.contextmanager
def running(app: Starlette, request_line: int = 65_536) -> Iterator[str]:
    """A real server on 127.0.0.1, its address."""
    config = uvicorn.Config(app, port=0, log_config=None, lifespan="off", h11_max_incomplete_event_size=request_line)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join(PATIENCE)


@contextlib.contextmanager
def asking(store: Store | Callable[[], Store], request_line: int = 65_536, **options: Any) -> Iterator[httpx.Client]:
    """A client of a real server on the store."""
    with (
        running(standalone(create_app(store, **options)), request_line) as address,
        httpx.Client(base_url=f"{address}/api", timeout=PATIENCE) as client,
    ):
        yield client


def raw(client: httpx.Client, target: bytes, version: bytes = b"1.1") -> tuple[int, dict[str, str], bytes]:
    """The status, headers and body of a GET for a target that no well-behaved client would send."""
    address = (client.base_url.host, client.base_url.port or 80)
    with socket.create_connection(address, timeout=PATIENCE) as connection:
        connection.sendall(b"GET /api%s HTTP/%s\r\nHost: localhost\r\nConnection: close\r\n\r\n" % (target, version))
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


def working(connection: ddl.Connection) -> list[int]:
    """The server processes of stores whose statement has come to a `pg_sleep` in this database."""
    found = connection.execute(
        """
        SELECT pid FROM pg_stat_activity
        WHERE datname = current_database() AND application_name = 'usage-explore' AND state = 'active'
          AND wait_event = 'PgSleep' ORDER BY pid
        """
    ).fetchall()
    connection.rollback()
    return [pid for (pid,) in found]
