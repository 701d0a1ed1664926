"""Engines on PostgreSQL and its kin: usage-explore by the extract and without it, and the panel's plain statement."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from benchmarks import plain
from benchmarks.answers import board, folded, leaders, ours
from benchmarks.database import PAGING, TABLE
from benchmarks.questions import Aggregated, Paged, Picked, Query, Ranked
from usage_explore import Aggregate, EventQuery, Store, connect
from usage_explore.answers import Leaderboards
from usage_explore.db.schema import indexes
from usage_explore.query.queries import Position, encode_cursor


class UsageExplore:
    """The package itself: a question in, an answer object out. Without a `home`, from the events alone."""

    def __init__(self, url: str, organization_id: UUID, home: Path | None = None) -> None:
        opened = connect(url, organization_id, home=home, statement_timeout=600)
        self.store: Store = opened if home else dataclasses.replace(opened, extracts=None)
        self.cursors: dict[Paged, EventQuery] = {}

    def ask(self, question: Query) -> Any:
        match question:
            case Aggregated():
                return self.store.aggregate(question.query)
            case Ranked():
                return self.store.leaderboards(question.query, question.query.top)
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
            case Ranked():
                return {group: leaders(found[group]) for group in question.groups}
            case Paged():
                return [event.id for event in found.events]
            case Picked():
                return [(choice.value, choice.events) for choice in found]

    def after(self) -> None:
        pass

    def how(self, found: Any) -> str | None:
        """Which path answered."""
        return found.served.path if isinstance(found, Aggregate | Leaderboards) else None

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
            for statement in self._statements(question):
                self.connection.execute(f"EXPLAIN {statement}".encode())  # look at the table anew

    def ask(self, question: Query) -> Any:
        return [self.connection.execute(each.encode()).fetchall() for each in self._statements(question)]

    def after(self) -> None:
        self.connection.rollback()

    def _statements(self, question: Query) -> list[str]:
        match question:
            case Aggregated():
                return [plain.aggregate(question.query, plain.Postgres())]
            case Ranked():
                return [plain.board(question.query, group, plain.Postgres()) for group in question.groups]
            case Paged():
                return [plain.page(question, plain.Postgres())]
            case Picked():
                return [plain.values(question, self.organization_id, plain.Postgres())]

    def read(self, question: Query, found: Any) -> Any:
        match question:
            case Aggregated():
                return folded(found[0], question.query)
            case Ranked():
                pairs = zip(question.groups, found, strict=True)
                return {group: board(rows, question.query.replace(group_by=group)) for group, rows in pairs}
            case Paged():
                return [row[0] for row in found[0]]
            case Picked():
                return [(str(value), events) for value, events in found[0]]

    def how(self, found: Any) -> str | None:
        return None

    def close(self) -> None:
        self.connection.close()
