"""A rollup beside a few events, kept by hand and refreshed up to any time."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.rollup import catalog, refresh, refresh_run

ORGANIZATION = UUID("0a0a0a0a-0000-4000-8000-000000000001")
TABLE = events_table()


class Ahead:
    """A database whose rollup is kept by hand: `add` writes events, `advance` counts what came before a time."""

    def __init__(self, url: str, connection: ddl.Connection) -> None:
        self.url, self.connection = url, connection

    def add(self, *instants: datetime, number: int = 1, **columns: Any) -> None:
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
            self.connection.execute(
                f"INSERT INTO usage_events (id, idempotency_key, {', '.join(values)})"
                f" SELECT gen_random_uuid(), gen_random_uuid()::text, {', '.join(f'%({name})s' for name in values)}"
                " FROM generate_series(1, %(number)s)".encode(),
                values | {"number": number},
            )
        self.connection.commit()

    def keep(self, **grains: timedelta | None) -> None:
        """Keep `none` and others, a double underscore standing for the colon of `dim:`."""
        catalog.create(self.connection, TABLE)
        wanted = {name.replace("__", ":"): grain for name, grain in grains.items()}
        refresh_run.set_overrides(self.connection, TABLE, wanted, None)

    def summarize(self, dimension: str) -> None:
        """Give a dimension that is kept a summary."""
        with self.connection.transaction():
            catalog.choose(self.connection, TABLE, [replace(self.entry(dimension), summary=True)])

    def advance(self, target: datetime) -> refresh.Refreshed:
        return refresh.advance(self.connection, TABLE, target)

    def entry(self, dimension: str) -> catalog.Entry:
        with self.connection.transaction():
            (found,) = (each for each in catalog.entries(self.connection, TABLE) if each.dimension == dimension)
        return found

    def rows(self) -> int:
        row = self.connection.execute("SELECT count(*) FROM usage_events_rollup").fetchone()
        self.connection.commit()
        assert row is not None
        return int(row[0])
