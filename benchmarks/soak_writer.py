"""Append events without end, as an ingesting system does: a process of its own, ended by SIGTERM.

    python benchmarks/soak_writer.py DATABASE_URL EVENTS_PER_SECOND ORGANIZATION_ID...

Each batch is one COPY in one transaction, into every organization in turn. The events are copies of the organization's
own with new ids, occurred just now, or, one in twenty, up to three days ago. They carry the organization's mark in
the dimension `soak` and in the idempotency key. At the end one line of JSON says how many were committed for each.
"""

from __future__ import annotations

import json
import random
import signal
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from usage_explore.db import ddl

PERIOD = 0.5
"""Seconds from batch to batch."""

LATE = 0.05
LATEST = timedelta(days=3)

_COPIED = (
    *("customer_id", "product_id", "subscription_id", "metric_key", "price_key", "quantity"),
    *("external_cost_amount", "external_cost_currency", "wallet_currency", "dimensions"),
)
_MADE = ("id", "organization_id", "timestamp", "idempotency_key")
_COPY = f"COPY usage_events ({', '.join((*_MADE, *_COPIED))}) FROM STDIN"


def mark(organization_id: UUID) -> str:
    """What every event that is written for the organization carries."""
    return f"soak-{organization_id.hex[:12]}"


def patterns(connection: ddl.Connection, organization_id: UUID) -> list[tuple[Any, ...]]:
    """The columns of some of the organization's latest events, to be copied."""
    return connection.execute(
        f"""
        SELECT {", ".join(_COPIED[:-1])}, (dimensions || jsonb_build_object('soak', %s::text))::text
        FROM usage_events WHERE organization_id = %s ORDER BY timestamp DESC, id DESC LIMIT 2000
        """,
        [mark(organization_id), organization_id],
    ).fetchall()


def append(
    connection: ddl.Connection,
    organization_id: UUID,
    kinds: list[tuple[Any, ...]],
    number: int,
    draw: random.Random,
) -> None:
    now = datetime.now(UTC)
    with connection.transaction(), connection.cursor() as cursor, cursor.copy(_COPY) as copy:
        for _ in range(number):
            occurred = now - (LATEST * draw.random() if draw.random() < LATE else timedelta(seconds=2 * draw.random()))
            key = f"{mark(organization_id)}-{draw.getrandbits(64):x}"
            copy.write_row([uuid4(), organization_id, occurred, key, *draw.choice(kinds)])


def main() -> None:
    url, rate, *names = sys.argv[1:]
    organizations = [UUID(name) for name in names]
    share = max(1, round(float(rate) * PERIOD / len(organizations)))
    ending: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: ending.append(number))
    draw = random.Random(3)
    committed = dict.fromkeys(organizations, 0)
    with ddl.connect(url) as connection:
        kinds = {each: patterns(connection, each) for each in organizations}
        connection.commit()
        due = time.monotonic()
        while not ending:
            for each in organizations:
                append(connection, each, kinds[each], share, draw)
                committed[each] += share
            due = max(due + PERIOD, time.monotonic() - PERIOD)
            time.sleep(max(0.0, due - time.monotonic()))
    print(json.dumps({str(each): number for each, number in committed.items()}))


if __name__ == "__main__":
    main()
