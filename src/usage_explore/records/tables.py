"""The tables of records as SQLAlchemy Core, the same in PostgreSQL and SQLite; without a connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Dialect,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    Uuid,
)

VIEWS_TABLE = "usage_views"
DECISIONS_TABLE = "usage_decisions"
RUNS_TABLE = "usage_validation_runs"
SIGNOFFS_TABLE = "usage_signoffs"
LINKS_TABLE = "usage_links"

_MAX_SCHEMAS = 16
"""Schemas whose tables are kept: SQLAlchemy compiles a statement again for another object of the same table."""


class Instant(TypeDecorator[datetime]):
    """An aware time in UTC: timestamptz in PostgreSQL, text without a zone in SQLite, which has no type for it."""

    impl = DateTime(timezone=True)
    cache_ok = True

    @property
    def python_type(self) -> type[datetime]:
        """The type of its values."""
        return datetime

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The value for the database."""
        return value if value is None or dialect.name == "postgresql" else value.astimezone(UTC).replace(tzinfo=None)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> Any:
        """The value from the database; one that is no time as it is."""
        if not isinstance(value, datetime):
            return value
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


@lru_cache(maxsize=_MAX_SCHEMAS)
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


@lru_cache(maxsize=_MAX_SCHEMAS)
def decisions_table(schema: str | None = None) -> Table:
    """The decisions on findings, one row per decision, never changed: the history is all rows.

    `action` is acknowledge, mute, assign, note or reopen; `until` is that of a mute, `assignee` that of an assign.
    `finding_id` is the finding's id when it was decided on, `finding` its identity and size then, as JSON.
    """
    return Table(
        DECISIONS_TABLE,
        MetaData(schema=schema),
        Column("organization_id", Uuid[UUID](), primary_key=True),
        Column("id", Uuid[UUID](), primary_key=True),
        Column("made_at", Instant, nullable=False),
        Column("author", Text, nullable=False),
        Column("action", Text, nullable=False),
        Column("finding_id", Text, nullable=False),
        Column("finding", Text, nullable=False),
        Column("until", Instant),
        Column("assignee", Text, nullable=False),
        Column("note", Text, nullable=False),
    )


@lru_cache(maxsize=_MAX_SCHEMAS)
def runs_table(schema: str | None = None) -> Table:
    """The runs of validations, one row per run, never changed.

    `period` is the query string of the window and the filters, without organization, zone and `as_of`: runs of one
    period are compared. `checks` and `findings` are JSON: the checks that ran to their end, and each finding's identity
    and size. `versions` is JSON: that of the package, and the hash of the bounds.
    """
    return Table(
        RUNS_TABLE,
        MetaData(schema=schema),
        Column("organization_id", Uuid[UUID](), primary_key=True),
        Column("id", Uuid[UUID](), primary_key=True),
        Column("made_at", Instant, nullable=False),
        Column("author", Text, nullable=False),
        Column("since", Instant, nullable=False),
        Column("until", Instant, nullable=False),
        Column("timezone", Text, nullable=False),
        Column("period", Text, nullable=False),
        Column("as_of", Instant, nullable=False),
        Column("events", BigInteger, nullable=False),
        Column("high", BigInteger, nullable=False),
        Column("medium", BigInteger, nullable=False),
        Column("low", BigInteger, nullable=False),
        Column("report_hash", Text, nullable=False),
        Column("versions", Text, nullable=False),
        Column("checks", Text, nullable=False),
        Column("findings", Text, nullable=False),
    )


@lru_cache(maxsize=_MAX_SCHEMAS)
def signoffs_table(schema: str | None = None) -> Table:
    """The sign-offs, one row per signature, never changed.

    `run_id` names the run that was signed; `params` is the period's query string with its `as_of`. `usage` is JSON: the
    events, quantity and cost of each customer, metric, wallet and currency of costs that were signed, and the hashes of
    their events by these and by day, by which later changes are computed. `amounts` is JSON: the expected amounts by
    customer, metric, wallet and currency, with the name and hash of the price book, the preferred currencies and the
    number of events without a price; an empty list without a price book. `open` is JSON: the findings of high severity
    that were open.
    """
    return Table(
        SIGNOFFS_TABLE,
        MetaData(schema=schema),
        Column("organization_id", Uuid[UUID](), primary_key=True),
        Column("id", Uuid[UUID](), primary_key=True),
        Column("signed_at", Instant, nullable=False),
        Column("author", Text, nullable=False),
        Column("note", Text, nullable=False),
        Column("run_id", Uuid[UUID](), nullable=False),
        Column("since", Instant, nullable=False),
        Column("until", Instant, nullable=False),
        Column("timezone", Text, nullable=False),
        Column("params", Text, nullable=False),
        Column("as_of", Instant, nullable=False),
        Column("events", BigInteger, nullable=False),
        Column("report_hash", Text, nullable=False),
        Column("versions", Text, nullable=False),
        Column("open", Text, nullable=False),
        Column("usage", Text, nullable=False),
        Column("amounts", Text, nullable=False),
    )


@lru_cache(maxsize=_MAX_SCHEMAS)
def links_table(schema: str | None = None) -> Table:
    """The short links, one row per link; revoking deletes it.

    `id` has the 128 random bits of the link's address. `params` is the pinned query string of `page`, without the
    organization. `access` is "sign-in", or "anyone" for a link that opens without sign-in. `expires_at` is NULL for
    a link that does not expire, `opened_at` the last time that it was opened, NULL if it never was.
    """
    return Table(
        LINKS_TABLE,
        MetaData(schema=schema),
        Column("organization_id", Uuid[UUID](), primary_key=True),
        Column("id", Uuid[UUID](), primary_key=True),
        Column("author", Text, nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("page", Text, nullable=False),
        Column("params", Text, nullable=False),
        Column("access", Text, nullable=False),
        Column("expires_at", Instant),
        Column("opened_at", Instant),
        UniqueConstraint("id"),
    )


@dataclass(frozen=True, slots=True)
class RecordTable:
    """A kind of record: its table, the comment on it, and whether rows are only ever added (`is_history`)."""

    name: str
    table: Callable[..., Table]
    comment: str
    is_history: bool = True

    @property
    def privileges(self) -> tuple[str, ...]:
        """What a role needs on the table in PostgreSQL."""
        return ("SELECT", "INSERT") if self.is_history else ("SELECT", "INSERT", "UPDATE", "DELETE")


VIEWS = RecordTable(VIEWS_TABLE, views_table, "Views saved in usage-explore, one row per view", is_history=False)
DECISIONS = RecordTable(DECISIONS_TABLE, decisions_table, "Decisions on findings, one row per decision, never changed")
RUNS = RecordTable(RUNS_TABLE, runs_table, "Runs of validations, one row per run, never changed")
SIGNOFFS = RecordTable(SIGNOFFS_TABLE, signoffs_table, "Sign-offs of billing periods, one row each, never changed")
LINKS = RecordTable(LINKS_TABLE, links_table, "Short links, one row per link that can be opened", is_history=False)

RECORD_TABLES = (VIEWS, DECISIONS, RUNS, SIGNOFFS, LINKS)
"""Every kind of record, in the order in which `usage-explore init` creates the tables."""
