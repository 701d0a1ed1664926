"""Stores for the checks: a demo database with its planted incidents, and one on the events that a test makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from support.database_servers import fresh_database
from support.demo_database import ACME, UNTIL
from support.plain_events import stores_of
from support.query_oracle import Row
from usage_explore import Store, connect, demo
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.demo import Incident
from usage_explore.query.queries import Period

DAYS, PER_DAY = 75, 1_500


@pytest.fixture(scope="session")
def planted_demo(server_url: str, _template: str) -> Iterator[tuple[Store, Period, list[Incident]]]:
    """A store on the demo's main organization, its last 60 days, and the incidents planted in them."""
    with fresh_database(server_url, template=_template) as url:
        with ddl.connect(url) as connection:
            demo.append(connection, events_table(), until=UNTIL, days=DAYS, per_day=PER_DAY)
            found = demo.incidents(connection)
        period = Period(since="2026-08-01T00:00:00Z", until="2026-09-30T00:00:00Z")
        since, until = period.span
        with connect(url, organization_id=ACME) as store:
            yield store, period, [each for each in found if since <= each.starts and each.ends <= until]


@pytest.fixture
def make(events_connection: ddl.Connection, events_database_url: str) -> Iterator[Callable[[list[Row]], Store]]:
    """A store on these events, closed at the end."""
    with stores_of(events_connection, events_database_url) as made:
        yield made
