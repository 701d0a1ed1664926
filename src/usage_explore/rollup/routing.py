"""The two paths to a number: the rollup where it serves exactly, else the events. Both give the same.

A transaction that sees one snapshot is needed: what the rollup keeps and its rows must belong together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Table

from usage_explore.errors import NotExact
from usage_explore.query.base import Query
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.results.types import Series, Served, series
from usage_explore.rollup import lookup
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters
from usage_explore.sql.aggregate import rollup_choices, rollup_count
from usage_explore.sql.rollup_plan import NONE, Serving


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths at one moment, `now`, of one table; with `rollup` False only the events."""

    connection: Connection
    table: Table
    now: datetime
    rollup: bool

    def aggregate(self, query: AggregateQuery) -> tuple[tuple[Series, ...], int, Served]:
        """The series of a resolved question, the number of metrics they add up, and the path.

        Raises `QueryError`, `NotExact`.
        """
        began = time.perf_counter()
        edges = query.edges()
        path: Serving | str = "the rollup is switched off"
        metrics: Serving | None = None
        if self.rollup:
            path, metrics = lookup.aggregate_paths(self.connection, self.table, query, edges, self.now)
        try:
            found = self._series(query, edges, path, metrics)
        except NotExact:
            if not isinstance(path, Serving):
                raise
            path = "quantities that are not numbers lie beside the window"
            found = self._series(query, edges, path, metrics)
        took = timedelta(seconds=time.perf_counter() - began)
        return *found, Served(None if isinstance(path, Serving) else path, took)

    def count(self, query: EventQuery) -> int:
        """How many events a question finds."""
        serving = self._serving(query, NONE)
        statement = rollup_count(self.table, query, serving) if serving else filters.count(self.table, query)
        found: int = self.connection.execute(statement).scalar_one()
        return found

    def choices(
        self, query: Query, group: str, most: int | None, events: Callable[[Table, Query], Select[Any]]
    ) -> list[tuple[str, int]]:
        """(value, events) of a group, most frequent first; `events` is the statement where the rollup cannot serve."""
        serving = self._serving(query, group)
        statement = rollup_choices(self.table, query, group, most, serving) if serving else events(self.table, query)
        return [(row.value, row.events) for row in self.connection.execute(statement)]

    def _series(
        self, query: AggregateQuery, edges: tuple[datetime, ...], path: Serving | str, metrics: Serving | None
    ) -> tuple[tuple[Series, ...], int]:
        serving = path if isinstance(path, Serving) else None
        rows = self.connection.execute(aggregation.aggregate(self.table, query, serving, metrics)).all()
        return series(rows, query, edges, min(self.now, query.as_of or self.now)), rows[0].metrics

    def _serving(self, query: Query, group: str) -> Serving | None:
        if not self.rollup:
            return None
        path = lookup.choices_path(self.connection, self.table, query, group, self.now)
        return path if isinstance(path, Serving) else None
