"""A store on the events that a test makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.plain_events import stores_of
from support.query_oracle import Row
from usage_explore import Store
from usage_explore.db import ddl


@pytest.fixture
def make(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Callable[[list[Row]], Store]]:
    """A store on these events, closed at the end."""
    with stores_of(events_connection, events_database_url) as made:
        yield made
