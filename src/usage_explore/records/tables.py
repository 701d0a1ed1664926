"""The tables of records as SQLAlchemy Core, the same in PostgreSQL and SQLite; without a connection."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Dialect, MetaData, Table, Text, TypeDecorator, UniqueConstraint, Uuid

VIEWS_TABLE = "usage_views"


class Instant(TypeDecorator[datetime]):
    """An aware time in UTC: timestamptz in PostgreSQL, text without a zone in SQLite, which has no type for it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The value for the database."""
        return value if value is None or dialect.name == "postgresql" else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """The value from the database."""
        if not isinstance(value, datetime):
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def views_table(schema: str | None = None) -> Table:
    """The saved views. `params` and `pinned` are query strings without the organization; `total` is a plain decimal.

    `total` is the headline number of `pinned` when the view was saved, NULL without one, `currency` that of a cost;
    `as_of` is that of `pinned`. `saved_at` is the time of these columns, `changed_at` that of the newest change of any.
    """
    return Table(
        VIEWS_TABLE,
        MetaData(schema=schema),
        Column("organization_id", Uuid[UUID](), primary_key=True),
        Column("id", Uuid[UUID](), primary_key=True),
        Column("name", Text, nullable=False),
        Column("note", Text, nullable=False),
        Column("author", Text, nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("changed_at", Instant, nullable=False),
        Column("saved_at", Instant, nullable=False),
        Column("page", Text, nullable=False),
        Column("params", Text, nullable=False),
        Column("pinned", Text, nullable=False),
        Column("total", Text),
        Column("currency", Text),
        Column("as_of", Instant, nullable=False),
        UniqueConstraint("organization_id", "name"),
    )
