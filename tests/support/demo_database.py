"""A small demo database whose last event lies in the past, the same whenever it is made."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime

from support.database_servers import fresh_database
from usage_explore import demo
from usage_explore.db import ddl
from usage_explore.db.schema import events_table

UNTIL = datetime(2026, 9, 30, 12, tzinfo=UTC)
DAYS, PER_DAY = 30, 400

ACME, BIRCH, CEDAR = (str(organization_id) for organization_id in demo.ORGANIZATIONS)

WINDOW = {"since": "2026-09-01T00:00:00Z", "until": "2026-09-29T00:00:00Z"}
"""Four whole weeks that hold events in every hour."""


@contextlib.contextmanager
def demo_database(server_url: str, template: str) -> Iterator[str]:
    with fresh_database(server_url, template=template) as url:
        with ddl.connect(url) as connection:
            demo.append(connection, events_table(), until=UNTIL, days=DAYS, per_day=PER_DAY)
        yield url
