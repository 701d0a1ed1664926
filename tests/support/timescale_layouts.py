"""How events can lie in TimescaleDB: as rows, in the columnstore, and both in one table and one chunk."""

from __future__ import annotations

from datetime import timedelta

from support import generated_events
from support.query_oracle import Row
from usage_explore.db import StorageOptions
from usage_explore.db.ddl import Connection, migrate_table

LAYOUTS = ("rowstore", "columnstore", "mixed")


def insert_in_layout(connection: Connection, generated: list[Row], layout: str) -> None:
    """Insert the rows so that they lie as told; anything but rowstore needs a hypertable.

    In a mixed one every second chunk is in the columnstore, and half of the rows came after it had moved.
    """
    if layout == "mixed":
        generated_events.insert(connection, generated[::2])
        to_columnstore(connection, every=2)
        generated_events.insert(connection, generated[1::2])
        return
    generated_events.insert(connection, generated)
    if layout == "columnstore":
        to_columnstore(connection)


def to_columnstore(connection: Connection, every: int = 1) -> None:
    """Move every n-th chunk of usage_events to the columnstore."""
    chunks = [row[0] for row in connection.execute("SELECT show_chunks('usage_events')::text ORDER BY 1").fetchall()]
    for chunk in chunks[::every]:
        connection.execute("CALL convert_to_columnstore(%s::regclass)", [chunk])
    connection.commit()


def without_columnstore(connection: Connection) -> None:
    """Give up the columnstore, which TimescaleDB does not combine with row-level security."""
    connection.commit()
    migrate_table(connection, "usage_events", StorageOptions(columnstore_after=timedelta(0)), str)
