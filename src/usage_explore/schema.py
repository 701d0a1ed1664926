"""The `usage_events` table as SQLAlchemy Core: its columns, its indexes, its name.

Source: the documented API's event and `contract` section 1. Nothing here needs a connection.
"""

from __future__ import annotations

import re
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, MetaData, Numeric, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from usage_explore.errors import ConfigurationError

DEFAULT_TABLE = "usage_events"

_NAME = re.compile(r"[^\W\d][\w$]*")


def events_table(name: str = DEFAULT_TABLE) -> Table:
    """The events table or view called `name`, optionally `schema.name`.

    Columns are the documented ones, in the documented order; `quantity` and `external_cost_amount` are
    numeric (`Decimal`), `timestamp` and `ingested_at` are timestamptz, `dimensions` is jsonb.

    Raises `ConfigurationError` when the name is not `name` or `schema.name`.
    """
    schema, table = split_name(name)
    return Table(
        table,
        MetaData(schema=schema),
        Column("id", Uuid[UUID](), nullable=False),
        Column("organization_id", Uuid[UUID](), nullable=False),
        Column("customer_id", Uuid[UUID](), nullable=False),
        Column("product_id", Uuid[UUID]()),
        Column("subscription_id", Uuid[UUID]()),
        Column("metric_key", Text, nullable=False),
        Column("price_key", Text),
        Column("quantity", Numeric, nullable=False),
        Column("timestamp", DateTime(timezone=True), nullable=False),
        Column("ingested_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("idempotency_key", Text, nullable=False),
        Column("external_cost_amount", Numeric),
        Column("external_cost_currency", Text),
        Column("wallet_currency", Text),
        Column("dimensions", JSONB, nullable=False, server_default=text("'{}'::jsonb")),
    )


def split_name(name: str) -> tuple[str | None, str]:
    """`schema.table` as (schema, table); `table` as (None, table)."""
    schema, _, table = name.rpartition(".")
    if not _NAME.fullmatch(table) or (schema and not _NAME.fullmatch(schema)):
        raise ConfigurationError(f"table: {name!r} is not a table name; write name or schema.name")
    return schema or None, table


def indexes(table: Table) -> tuple[Index, ...]:
    """The indexes the statements are made for, none of which starts a skip scan on a wide aggregate.

    The first pages an organization's events and keeps (organization, time, id) unique, the second pages one
    customer's events, the third answers aggregates without visiting the table.
    """
    c = table.c
    name = table.name
    return (
        Index(f"{name}_page", c.organization_id, c.timestamp.desc(), c.id.desc(), unique=True),
        Index(f"{name}_customer", c.customer_id, c.timestamp.desc(), c.id.desc()),
        Index(
            f"{name}_cover",
            c.organization_id,
            c.timestamp,
            postgresql_include=["metric_key", "quantity", "customer_id"],
        ),
    )


COLUMNS = tuple(column.name for column in events_table().columns)
"""The documented column names, in order."""
