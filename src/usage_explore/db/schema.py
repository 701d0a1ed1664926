"""The `usage_events` table as SQLAlchemy Core: its columns, indexes, name and storage options, without a connection.

The columns are those of the documented API's event. The indexes, with the bytes per event (`INDEX_BYTES`) measured on
3 million events in PostgreSQL 18:

    page           66   an organization's events, newest first; keeps (organization, time, id) unique
    cover          98   aggregates by time, metric, quantity and customer, `as_of` included, without visiting the table
    customer       75   one customer's events, newest first
    ingested       48   what an organization learned since an instant: the rows that an extract does not have
    subscription    7   ┐
    product         7   │ events of a rare value: read by this index, then sorted; a frequent value is read in the
    metric          7   │ order of the paging index
    price           7   ┘
    dimensions     10   the same for any dimension, with `@>`
    id             37   ┐ the event of an id, the copies of an idempotency key: hash indexes, which take keys of any
    key            37   ┘ length

The four small ones have no time: their keys repeat, so PostgreSQL stores each once with a list of rows. With the time
they would be six to seven times as large. None has the organization first and then another column than a time:
PostgreSQL 18 would use a skip scan of such an index for wide aggregates, read the table row by row, and take several
times as long. COPY wrote 80,000 rows/s with the first three indexes, 36,000 with all.

The planner assumes that organization and metric are independent, and would read one organization's whole history for a
metric that only another one has. `statistics` correct that: 0.1 ms instead of 136 in 600,000 events.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, MetaData, Numeric, Table, Text, Uuid, func, text
from sqlalchemy.dialects.postgresql import JSONB

from usage_explore.errors import ConfigurationError
from usage_explore.query import validators

DEFAULT_TABLE = "usage_events"
DEFAULT_NAMES_TABLE = "usage_names"

_NAME = re.compile(r"[^\W\d][\w$]*")

_MAX_NAME_BYTES = 63
"""PostgreSQL truncates longer names."""


@dataclass(frozen=True, kw_only=True)
class StorageOptions:
    """The options of `usage-explore init`; with None a new table has the default, an existing one stays as it is.

    `events_per_day` is the volume that the chunk interval is made for; `columnstore_after` the age of events that move
    to TimescaleDB's columnstore, zero for never; `migrate` makes a hypertable of a plain table with rows; `distribute`
    distributes the table over Citus's workers.
    """

    events_per_day: int | None = None
    columnstore_after: timedelta | None = None
    migrate: bool = False
    distribute: bool = False


DEFAULT_STORAGE = StorageOptions()
"""The options for tables that `load`, `demo` and the app create."""


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


def names_table(name: str | None, events: Table) -> Table:
    """The table or view called `name`, by default `usage_names` in the schema of the events table.

    One row per named id: `kind` is organization, customer, product or subscription, `external_id` the text that the id
    has elsewhere, `preferred_currency` the wallet of usage without one. The row of kind organization with the
    organization's own id names the organization. A row of kind metric has a metric key as `external_id`, and the
    `unit` of its quantities; a table or view may lack this column. `name` and `external_id` are NULL or not blank.
    """
    schema, table = (events.schema, DEFAULT_NAMES_TABLE) if name is None else split_name(name, "names_table")
    return Table(
        table,
        MetaData(schema=schema),
        Column("organization_id", Uuid[UUID](), primary_key=True),
        Column("kind", Text, primary_key=True),
        Column("id", Uuid[UUID](), primary_key=True),
        Column("external_id", Text),
        Column("name", Text),
        Column("preferred_currency", Text),
        Column("unit", Text),
        info={"events": events},
    )


def names_index(table: Table) -> Index:
    """The index that finds ids of the same name."""
    shown = func.coalesce(table.c.name, table.c.external_id)
    return Index(f"{table.name}_shown", table.c.organization_id, table.c.kind, func.md5(shown))


def split_name(name: str, parameter: str = "table") -> tuple[str | None, str]:
    """`schema.table` as (schema, table); `table` as (None, table)."""
    schema, dot, table = name.rpartition(".") if isinstance(name, str) else ("", "", "")
    if not _is_name(table) or (dot and not _is_name(schema)):
        raise ConfigurationError(
            f"{parameter}: {validators.shorten(name)} is not a table name; write name or schema.name, without quotes;"
            " of a table whose name has other characters make a view"
        )
    return schema or None, table


def indexes(table: Table) -> tuple[Index, ...]:
    """The indexes for the statements, the unique one first; the module's docstring has the reasons."""
    c = table.c

    def index(purpose: str, *columns: Any, **options: Any) -> Index:
        return Index(f"{table.name}_{purpose}", *columns, **options)

    return (
        index("page", c.organization_id, c.timestamp.desc(), c.id.desc(), unique=True),
        index("customer", c.customer_id, c.timestamp.desc(), c.id.desc()),
        index(
            "cover",
            c.organization_id,
            c.timestamp,
            postgresql_include=["metric_key", "quantity", "customer_id", "ingested_at"],
        ),
        index("ingested", c.organization_id, c.ingested_at),
        index("subscription", c.subscription_id),
        index("product", c.product_id, c.organization_id),
        index("metric", c.metric_key, c.organization_id),
        index("price", c.price_key, c.organization_id),
        index("id", c.id, postgresql_using="hash"),
        index("key", c.idempotency_key, postgresql_using="hash"),
        index("dimensions", c.dimensions, postgresql_using="gin", postgresql_ops={"dimensions": "jsonb_path_ops"}),
    )


def statistics(table: Table) -> dict[str, tuple[str, str]]:
    """The column pairs with extended statistics for the planner, by the name of the statistics object."""
    return {
        f"{table.name}_{column}_pairs": ("organization_id", column)
        for column in ("metric_key", "price_key", "product_id")
    }


def _is_name(word: str) -> bool:
    """Whether PostgreSQL uses the word unchanged: it would truncate a longer one and read another table."""
    return bool(_NAME.fullmatch(word)) and len(word.encode()) <= _MAX_NAME_BYTES


INDEX_BYTES = {
    "page": 66,
    "customer": 75,
    "cover": 98,
    "ingested": 48,
    "subscription": 7,
    "product": 7,
    "metric": 7,
    "price": 7,
    "id": 37,
    "key": 37,
    "dimensions": 10,
}
"""Approximate size of each index in bytes per event, by the last word of its name."""

COLUMNS = tuple(column.name for column in events_table().columns)
"""The documented column names, in order."""
