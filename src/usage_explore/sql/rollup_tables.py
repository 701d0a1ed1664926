"""The rollup's two tables beside the events table, as SQLAlchemy Core."""

from __future__ import annotations

from functools import lru_cache
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Index,
    Interval,
    MetaData,
    Numeric,
    PrimaryKeyConstraint,
    Table,
    Text,
    Uuid,
    false,
)


@lru_cache  # SQLAlchemy knows a statement again by its very tables, and need not compile it
def rollup_table(events: Table) -> Table:
    """The rows, `<events>_rollup`.

    `organization_id` uuid, `dimension` text (`none`, `keys`, a column, `dim:<key>`, or `summary:` and one of these),
    `value` text (NULL where the event has none), `metric_key` text ('' where a summary adds all metrics up), `slot`
    timestamptz (start of the slot of `timestamp`), `ingested` timestamptz (start of the slot of `ingested_at`),
    `events` bigint, `quantity` numeric (their exact sum).
    """
    return Table(
        f"{events.name}_rollup",
        MetaData(schema=events.schema),
        Column("organization_id", Uuid[UUID](), nullable=False),
        Column("dimension", Text, nullable=False),
        Column("value", Text),
        Column("metric_key", Text, nullable=False),
        Column("slot", DateTime(timezone=True), nullable=False),
        Column("ingested", DateTime(timezone=True), nullable=False),
        Column("events", BigInteger, nullable=False),
        Column("quantity", Numeric, nullable=False),
    )


def rollup_index(rows: Table) -> Index:
    """The one index: a window of a dimension's slots, or the probes of one value in each of them."""
    c = rows.c
    return Index(
        f"{rows.name}_answer",
        c.organization_id,
        c.dimension,
        c.slot,
        c.value,
        postgresql_include=["ingested", "metric_key", "events", "quantity"],
    )


@lru_cache
def kept_table(events: Table) -> Table:
    """The catalogue, `<events>_rollup_kept`: one row for each dimension that is kept, or was left out.

    `organization_id` uuid, `dimension` text, `grain` interval (of the slots; NULL where it is left out), `watermark`
    timestamptz (what was ingested before is in the rows; NULL before the first refresh), `days_until` timestamptz
    (slots of ingestion are days before it, hours after), `summary` boolean (whether its rows are summarized
    beside it, see `serving.Kept`), `by_hand` boolean (set by a person, else measured), `share`
    numeric (rollup rows per event when it was measured), `reason` text (why it is left out), `chosen_at` timestamptz.
    """
    return Table(
        f"{events.name}_rollup_kept",
        MetaData(schema=events.schema),
        Column("organization_id", Uuid[UUID](), nullable=False),
        Column("dimension", Text, nullable=False),
        Column("grain", Interval),
        Column("watermark", DateTime(timezone=True)),
        Column("days_until", DateTime(timezone=True)),
        Column("summary", Boolean, nullable=False, server_default=false()),
        Column("by_hand", Boolean, nullable=False),
        Column("share", Numeric),
        Column("reason", Text),
        Column("chosen_at", DateTime(timezone=True), nullable=False),
        PrimaryKeyConstraint("organization_id", "dimension"),
    )
