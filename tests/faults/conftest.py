"""A server of our own to break, with the generated rows, and what asks it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator

import httpx
import pytest

from support import generated_events
from support.api_server import asking
from support.breakable_server import DATABASE, Network, Server
from support.database_servers import short_folder
from support.query_oracle import newest_first
from support.waiting import SLEEP
from usage_explore import Store, connect
from usage_explore.db import ddl
from usage_explore.db.schema import DEFAULT_TABLE


@pytest.fixture(scope="session")
def primary() -> Iterator[Server]:
    """A running server whose events table holds rows.

    Beside it the views `slow`, which takes minutes to read, and `halfway`, which does once it comes to the middle.
    """
    home = short_folder()
    server = Server(home)
    server.make()
    server.start()
    try:
        with ddl.connect(server.url) as connection:
            ddl.ensure_schema(connection, DEFAULT_TABLE)
            made = generated_events.generate(per_scene=40)
            generated_events.insert(connection, made)
            own = [row for row in made if row.organization_id == generated_events.ORGANIZATION]
            middle = newest_first(own)[len(own) // 2].id
            for name, test in (("slow", "e.id IS NOT NULL"), ("halfway", f"e.id = '{middle}'")):
                connection.execute(
                    f"CREATE VIEW {name} AS SELECT e.* FROM usage_events e"
                    f" CROSS JOIN LATERAL (SELECT CASE WHEN {test} THEN pg_sleep({SLEEP}) END OFFSET 0) AS pause"
                )
            for plan in ("seqscan", "bitmapscan", "sort"):  # read along the index, so that the middle is met there
                connection.execute(f"ALTER DATABASE {DATABASE} SET enable_{plan} = off")
        yield server
    finally:
        server.end()
        shutil.rmtree(home)


@pytest.fixture
def server(primary: Server) -> Iterator[Server]:
    """The server, running before the test and after it."""
    yield primary
    if not primary.runs():
        primary.start()


@pytest.fixture
def store(primary: Server) -> Iterator[Store]:
    with connect(primary.url, generated_events.ORGANIZATION) as opened:
        yield opened


@pytest.fixture
def client(store: Store) -> Iterator[httpx.Client]:
    """Asks the HTTP door on the store."""
    with asking(store) as opened:
        yield opened


@pytest.fixture
def network(primary: Server) -> Iterator[Network]:
    with contextlib.closing(Network(primary.port)) as opened:
        yield opened
