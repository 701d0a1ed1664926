"""An extract of a table that tests fill by hand, and its rows as the files hold them."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import Table

from support import generated_events
from support.query_oracle import Row, utc
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.extract import folder, manifest, refresh, watermark
from usage_explore.extract.connection import Resources
from usage_explore.extract.manifest import Manifest, Segment

ORGANIZATION = generated_events.ORGANIZATION
TABLE = events_table()
NOON = utc(2026, 10, 22, 12)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TIMEOUT = timedelta(minutes=1)


def event(at: datetime = NOON, **columns: Any) -> Row:
    """An event ingested when it occurred, with other values for some columns."""
    row = Row(
        id=uuid.uuid4(),
        organization_id=ORGANIZATION,
        customer_id=uuid.UUID(int=7),
        product_id=None,
        subscription_id=None,
        metric_key="tokens",
        price_key=None,
        quantity=Decimal(1),
        timestamp=at,
        ingested_at=at,
        idempotency_key=uuid.uuid4().hex,
        external_cost_amount=None,
        external_cost_currency=None,
        wallet_currency=None,
        dimensions="{}",
    )
    return dataclasses.replace(row, **columns)


class Extract:
    """A table's extract, refreshed up to any time."""

    def __init__(self, url: str, connection: ddl.Connection, home: Path, table: Table = TABLE) -> None:
        self.url, self.connection, self.home = url, connection, home
        self.folder = folder.source(connection, url, table).folder(home, ORGANIZATION)
        self.target = refresh.Target(
            table=table,
            organization_id=ORGANIZATION,
            folder=self.folder,
            resources=Resources(memory=200_000_000, threads=2),
        )

    def add(self, *rows: Row) -> None:
        generated_events.insert(self.connection, list(rows))

    def execute(self, statement: str, *values: Any) -> None:
        self.connection.execute(statement.encode(), values)
        self.connection.commit()

    def refresh(self, until: datetime, **options: Any) -> refresh.Report:
        """Refresh up to a time, as if every transaction that began before it had ended."""
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(watermark, "safe", lambda *_: watermark.Safe(until=until))
            options = {"settle": timedelta(0), "timeout": TIMEOUT} | options
            return refresh.refresh(self.connection, self.target, **options)

    def verify(self, *, fix: bool = False) -> refresh.Verified:
        found = refresh.verify(self.connection, self.target, timeout=TIMEOUT, fix=fix)
        assert found is not None
        return found

    @property
    def manifest(self) -> Manifest:
        found = manifest.read(self.folder)
        assert found is not None
        return found

    def rows(self) -> list[dict[str, Any]]:
        """All rows as dictionaries, in order of their ids."""
        found = [row for segment in self.manifest.segments for row in self.rows_of(segment)]
        return sorted(found, key=lambda row: row["id"])

    def rows_of(self, segment: Segment) -> Iterator[dict[str, Any]]:
        """The rows of a segment, dimensions by their keys in place of `d0`."""
        with duckdb.connect() as engine:
            table = engine.execute("SELECT * FROM read_parquet(?)", [str(self.folder / segment.rows.name)])
            names = [column[0] for column in table.description or ()]
            for values in table.fetchall():
                row = dict(zip(names, values, strict=True))
                texts = {key: row.pop(f"d{number}") for number, key in enumerate(segment.layout.dimensions)}
                rare = json.loads(row.pop("rare") or "{}")
                assert not rare.keys() & texts.keys()
                row["texts"] = {key: text for key, text in {**texts, **rare}.items() if text is not None}
                yield row

    def expected(self) -> list[dict[str, Any]]:
        """What the rows must be, read from the table by other means."""
        cursor = self.connection.execute(
            "SELECT e.*, (SELECT coalesce(json_object_agg(key, e.dimensions ->> key), '{}') FROM jsonb_object_keys("
            " CASE jsonb_typeof(e.dimensions) WHEN 'object' THEN e.dimensions ELSE '{}' END) AS k (key)"
            " WHERE e.dimensions ->> key IS NOT NULL) AS texts, e.dimensions::text AS document"
            " FROM usage_events e WHERE organization_id = %s AND ingested_at < %s"
            " AND timestamp >= '1970-01-01Z' AND timestamp < '2200-01-01Z' ORDER BY id",
            [ORGANIZATION, manifest.instant(self.manifest.watermark or 0)],
        )
        names = [column.name for column in cursor.description or ()]
        found = []
        for values in cursor:
            row = dict(zip(names, values, strict=True))
            del row["organization_id"]
            row["ts"], row["ing"] = manifest.micros(row.pop("timestamp")), manifest.micros(row.pop("ingested_at"))
            row["slot"] = row["ts"] // 900_000_000
            row["dimensions"] = row.pop("document")
            found.append(row)
        self.connection.commit()
        return found

    def check(self) -> None:
        """The files are whole, and hold the events that the table has, each value of them."""
        assert folder.damaged(self.folder, self.manifest) == []
        assert self.rows() == self.expected()
        for segment in self.manifest.segments:
            own = list(self.rows_of(segment))
            assert (segment.rows.rows, segment.first, segment.last) == (len(own), own[0]["ts"], own[-1]["ts"])
            assert [row["ts"] for row in own] == sorted(row["ts"] for row in own)
            arrivals = [row["ing"] for row in own]
            assert (segment.first_ingested, segment.last_ingested) == (min(arrivals), max(arrivals))
            documents = [json.loads(row["dimensions"]) for row in own]
            assert set(segment.keys) == {key for each in documents if isinstance(each, dict) for key in each}


@contextmanager
def smaller(**limits: int) -> Iterator[None]:
    """Smaller limits of `build`, `segments` or `refresh`, so that few events make several segments."""
    from usage_explore.extract import build, key_columns, segments

    with pytest.MonkeyPatch.context() as patched:
        for name, value in limits.items():
            for module in (build, key_columns, segments, refresh):
                if hasattr(module, name):
                    patched.setattr(module, name, value)
        yield
