"""A store on the events that a test makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.plain_events import store_of
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.db import ddl


@pytest.fixture
def make(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Callable[[list[Row]], Store]]:
    """A store on these events, closed at the end."""
    stores: list[Store] = []

    def made(events: list[Row]) -> Store:
        stores.append(store_of(events_connection, events_database_url, events))
        return stores[-1]

    yield made
    for opened in stores:
        opened.close()
