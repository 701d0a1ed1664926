"""Generated rows around the clocks' worst days, the same for every test of both operations."""

from __future__ import annotations

import dataclasses
import random
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

from support.query_oracle import Row, utc
from usage_explore.db.ddl import Connection

ORGANIZATION = uuid.UUID("0a0a0a0a-0000-4000-8000-000000000001")
NEIGHBOUR = uuid.UUID("0b0b0b0b-0000-4000-8000-000000000002")

CUSTOMERS = [uuid.UUID(int=0xC0 + number) for number in range(4)]
PRODUCTS = [uuid.UUID(int=0xD0 + number) for number in range(2)]
METRICS = ["tokens_in", "a,b", "back\\slash", "Other"]
DIMENSIONS = [
    "{}",
    '{"model": null}',
    '{"model": ""}',
    '{"model": "Other"}',
    '{"model": "(missing)"}',
    '{"model": "large", "region": "eu"}',
    '{"model": "größe", "region": "us"}',
    '{"model": "Zebra", "region": ""}',
    '{"model": "zebra"}',
    '{"model": 1.10}',
    '{"model": 7}',
    '{"model": true}',
    '{"model": "true"}',
    '{"model": {"a": 1}}',
]
QUANTITIES = ["1", "0", "-2.5", "0.000000000000001", "12345678901234567890123456789.5", "3", "100.10", "-0.0001"]

SCENES: list[tuple[str, datetime]] = [
    ("UTC", utc(2026, 6, 1)),
    ("Europe/Berlin", utc(2026, 3, 29, 1)),
    ("Europe/Berlin", utc(2026, 10, 25, 1)),
    ("America/Havana", utc(2026, 3, 8, 5)),
    ("America/Havana", utc(2026, 11, 1, 5)),
    ("Pacific/Apia", utc(2011, 12, 30, 10)),
    ("Asia/Kathmandu", utc(2026, 5, 5, 18)),
    ("Australia/Lord_Howe", utc(2026, 4, 4, 15)),
    ("Australia/Lord_Howe", utc(2026, 10, 3, 15, 30)),
]
"""A zone, and an instant at or near which its clock does something odd."""

LAST_INGESTED = utc(2026, 11, 20)


def generate(per_scene: int = 250, seed: int = 7) -> list[Row]:
    """Rows within two days of each scene, a third of them tied in time, of two organizations."""
    draw = random.Random(seed)
    rows: list[Row] = []
    for _, centre in SCENES:
        ticks = [
            centre + timedelta(microseconds=draw.randrange(-172_800_000_000, 172_800_000_000)) for _ in range(per_scene)
        ]
        ticks += [centre + timedelta(minutes=15 * draw.randrange(-40, 40)) for _ in range(per_scene // 3)]
        ticks += [centre, centre - timedelta(microseconds=1), centre + timedelta(microseconds=1)]
        for tick in ticks:
            rows += [_row(draw, tick) for _ in range(draw.choice([1, 1, 1, 3]))]
    return rows


Insert = Callable[[list[Row]], None]
"""The fixture `insert`: writes events and commits."""


def insert(connection: Connection, rows: list[Row]) -> None:
    columns = [field.name for field in dataclasses.fields(Row)]
    with connection.cursor() as cursor, cursor.copy(f"COPY usage_events ({', '.join(columns)}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row([getattr(row, name) for name in columns])
    if len(rows) >= 200:  # as a load does, of more rows: a plan without statistics joins them in nested loops
        connection.execute("ANALYZE usage_events")
    connection.commit()


def _row(draw: random.Random, tick: datetime) -> Row:
    return Row(
        id=uuid.UUID(int=draw.getrandbits(128)),
        organization_id=draw.choice([ORGANIZATION, ORGANIZATION, ORGANIZATION, NEIGHBOUR]),
        customer_id=draw.choice(CUSTOMERS),
        product_id=draw.choice([*PRODUCTS, None]),
        subscription_id=None,
        metric_key=draw.choice(METRICS),
        price_key=draw.choice(["p1", "p2", None]),
        quantity=Decimal(draw.choice(QUANTITIES)),
        timestamp=tick,
        ingested_at=min(tick + timedelta(minutes=draw.choice([0, 1, 5000])), LAST_INGESTED),
        idempotency_key=f"k{draw.getrandbits(32)}",
        external_cost_amount=None,
        external_cost_currency=None,
        wallet_currency=draw.choice(["EUR", "USD", None]),
        dimensions=draw.choice(DIMENSIONS),
    )
