"""The HTTP door on the generated rows, behind a real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from support import generated_events
from support.api_server import asking
from support.waiting import SLEEP
from usage_explore import Store
from usage_explore.db import ddl
from usage_explore.db.schema import COLUMNS


@pytest.fixture(scope="session")
def client(store: Store) -> Iterator[httpx.Client]:
    """Asks the door of one organization."""
    with asking(store) as opened:
        yield opened


@pytest.fixture(scope="session")
def stranger(everyone: Store) -> Iterator[httpx.Client]:
    """Asks the door of a store that holds two organizations and was not told which."""
    with asking(everyone) as opened:
        yield opened


@pytest.fixture
def slow() -> Callable[[str], None]:
    """Makes a view `slow` that takes minutes to read, in a database with the events table."""

    def make(url: str) -> None:
        columns = ", ".join(f"e.{name}" for name in COLUMNS if name != "quantity")
        with ddl.connect(url) as connection:
            generated_events.insert(connection, generated_events.generate(per_scene=1))
            connection.execute(
                f"""
                CREATE VIEW slow AS SELECT {columns}, e.quantity
                FROM usage_events e
                CROSS JOIN LATERAL (SELECT pg_sleep({SLEEP}) WHERE e.id IS NOT NULL OFFSET 0) AS pause
                """
            )

    return make
