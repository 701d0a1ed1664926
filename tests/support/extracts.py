"""Extracts of a test's events, and events to put into them."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from psycopg.types.json import Jsonb

from usage_explore.db import catalog, ddl
from usage_explore.db.schema import events_table
from usage_explore.extract import folder, refresh, watermark
from usage_explore.extract.connection import Resources

ORGANIZATION = UUID("0a0a0a0a-0000-4000-8000-000000000001")


def target(connection: ddl.Connection, url: str, home: Path, organization_id: UUID = ORGANIZATION) -> refresh.Target:
    """The extract of an organization below `home`."""
    table = events_table()
    place = folder.source(connection, url, table).folder(home, organization_id)
    connection.commit()
    return refresh.Target(
        table=table, organization_id=organization_id, folder=place, resources=Resources(memory=200_000_000, threads=1)
    )


def build(url: str, home: Path, *, until: datetime | None = None) -> dict[UUID, refresh.Report]:
    """Refresh the extract of every organization: up to now, or to a time of ingestion."""
    reports = {}
    with ddl.connect(url) as connection, pytest.MonkeyPatch.context() as patched:
        if until is not None:
            patched.setattr(watermark, "safe", lambda *_: watermark.Safe(until=until))
        for organization_id in catalog.organizations(connection, events_table()):
            connection.commit()
            reports[organization_id] = refresh.refresh(
                connection,
                target(connection, url, home, organization_id),
                settle=timedelta(0),
                timeout=timedelta(minutes=1),
            )
    return reports


def add(connection: ddl.Connection, *instants: datetime, number: int = 1, **columns: Any) -> None:
    """Events at the instants, ingested at once unless `ingested_at` is given."""
    for instant in instants:
        values = {
            "organization_id": ORGANIZATION,
            "customer_id": ORGANIZATION,
            "metric_key": "tokens",
            "quantity": Decimal(1),
            "timestamp": instant,
            "ingested_at": instant,
            "dimensions": {"model": "large"},
        } | columns
        values["dimensions"] = Jsonb(values["dimensions"])
        connection.execute(
            f"INSERT INTO usage_events (id, idempotency_key, {', '.join(values)})"
            f" SELECT gen_random_uuid(), gen_random_uuid()::text, {', '.join(f'%({name})s' for name in values)}"
            " FROM generate_series(1, %(number)s)".encode(),
            values | {"number": number},
        )
    connection.commit()
