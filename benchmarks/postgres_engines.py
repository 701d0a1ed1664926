"""Engines on PostgreSQL and its kin: usage-explore by the rollup and without it, and the panel's plain statement."""

from __future__ import annotations

import dataclasses
from typing import Any
from uuid import UUID

import psycopg

from benchmarks import plain
from benchmarks.answers import folded, ours
from benchmarks.database import PAGING, TABLE
from benchmarks.questions import Aggregated, Paged, Picked, Query
from usage_explore import Aggregate, EventQuery, Store, connect
from usage_explore.db.schema import indexes
from usage_explore.query.queries import Position, encode_cursor


class UsageExplore:
    """The package itself: a question in, an answer object out."""

    def __init__(self, url: str, organization_id: UUID, *, rollup: bool = True) -> None:
        opened = connect(url, organization_id, statement_timeout=600)
        self.store: Store = dataclasses.replace(opened, rollup=rollup)
        self.cursors: dict[Paged, EventQuery] = {}

    def ask(self, question: Query) -> Any:
        match question:
            case Aggregated():
                return self.store.aggregate(question.query)
            case Paged():
                return self.store.events(self.cursors.get(question, question.query))
            case Picked(group="keys"):
                return self.store.dimension_keys()
            case Picked():
                return self.store.values(question.group)

    def before(self, question: Query) -> None:
        """Find the cursor of a deep page, which a person would have come to by reading on."""
        if isinstance(question, Paged) and question.depth and question not in self.cursors:
            with psycopg.connect(
                self.store.engine.url.set(drivername="postgresql").render_as_string(False)
            ) as connection:
                row = connection.execute(
                    f"SELECT timestamp, id FROM {TABLE.name} WHERE organization_id = %s"
                    " ORDER BY timestamp DESC, id DESC OFFSET %s LIMIT 1",
                    [question.query.organization_id, question.depth - 1],
                ).fetchone()
            if row:
                position = Position(*row)
                after = encode_cursor(position, question.query)
                self.cursors[question] = question.query.replace(cursor=after)

    def read(self, question: Query, found: Any) -> Any:
        match question:
            case Aggregated():
                return ours(found)
            case Paged():
                return [event.id for event in found.events]
            case Picked():
                return [(choice.value, choice.events) for choice in found]

    def after(self) -> None:
        pass

    def how(self, found: Any) -> str | None:
        """Which path answered."""
        return found.served.path if isinstance(found, Aggregate) else None

    def close(self) -> None:
        self.store.close()


class Panel:
    """What a dashboard's panel sends to the same server and table.

    With `paging_only` the other indexes are hidden while it asks: dropped in a transaction that is rolled back.
    """

    def __init__(self, url: str, organization_id: UUID, *, paging_only: bool = True) -> None:
        self.connection = psycopg.connect(url, prepare_threshold=None)
        self.connection.execute("SET TIME ZONE 'UTC'")
        self.connection.execute("SET jit = off")
        self.connection.commit()
        self.organization_id = organization_id
        self.paging_only = paging_only

    def before(self, question: Query) -> None:
        if self.paging_only:
            for index in indexes(TABLE):
                if index.name != PAGING:
                    self.connection.execute(f"DROP INDEX {index.name}".encode())
            self.connection.execute(f"EXPLAIN {self._statement(question)}".encode())  # look at the table anew

    def ask(self, question: Query) -> Any:
        return self.connection.execute(self._statement(question).encode()).fetchall()

    def after(self) -> None:
        self.connection.rollback()

    def _statement(self, question: Query) -> str:
        match question:
            case Aggregated():
                return plain.aggregate(question.query, plain.Postgres())
            case Paged():
                return plain.page(question, plain.Postgres())
            case Picked():
                return plain.values(question, self.organization_id, plain.Postgres())

    def read(self, question: Query, found: Any) -> Any:
        match question:
            case Aggregated():
                return folded(found, question.query)
            case Paged():
                return [row[0] for row in found]
            case Picked():
                return [(str(value), events) for value, events in found]

    def how(self, found: Any) -> str | None:
        return None

    def close(self) -> None:
        self.connection.close()
