"""The two paths to a number: the rollup where it serves exactly, else the events. Both give the same.

A transaction that sees one snapshot is needed: what the rollup keeps and its rows must belong together.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Select, Table, select, text

from usage_explore.errors import NotExact
from usage_explore.query.base import Query
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.results.types import Series, Served, series
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters
from usage_explore.sql.aggregate import has_metric_keys, rollup_choices, rollup_count
from usage_explore.sql.filters import scope
from usage_explore.sql.identifiers import quoted
from usage_explore.sql.rollup_plan import NONE, Kept, Serving, kept_table, rollup_table, serving, serving_choices

_UNUSABLE = text("""
SELECT CASE
  WHEN NOT (has_table_privilege(k.oid, 'SELECT') AND has_table_privilege(r.oid, 'SELECT'))
    THEN 'the database role may not read the rollup'
  WHEN row_security_active(e.oid) AND NOT row_security_active(r.oid)
    THEN 'row-level security holds for the events, and the rollup has no policies'
  WHEN NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = k.oid AND attname = 'summary')
    THEN 'another version made the rollup, and it has not been refreshed since'
  ELSE '' END
FROM pg_class e, pg_class k, pg_class r
WHERE e.oid = to_regclass(:events) AND k.oid = to_regclass(:kept) AND r.oid = to_regclass(:rows)
  AND k.relnamespace = e.relnamespace AND r.relnamespace = e.relnamespace
""")
"""Why the rollup beside this very table cannot be used by this role, to whom it must show no more than the events do;
blank where it can, no row where there is none."""

NO_ROLLUP = "there is no rollup of these events"
NOTHING_KEPT = "the rollup holds nothing of this organization yet"


def path(
    connection: Connection,
    table: Table,
    query: AggregateQuery,
    edges: tuple[datetime, ...],
    now: datetime,
    *,
    metrics: bool = False,
) -> Serving | str:
    """How the rollup serves the resolved question, else why the events do, in words that follow "because".

    With `metrics` each metric by itself. Belongs into the snapshot that answers the question then.
    """
    found = kept(connection, table, query)
    if isinstance(found, str):
        return found
    return serving(query, edges, now, found, metrics=metrics) if NONE in found else NOTHING_KEPT


def aggregate_paths(
    connection: Connection, table: Table, query: AggregateQuery, edges: tuple[datetime, ...], now: datetime
) -> tuple[Serving | str, Serving | None]:
    """The `path` of an aggregate, and how the rollup serves its number of metrics where that is a path of its own.

    It is where the rows of the first path hold all metrics together, and where the events answer but the rollup keeps
    enough for the metrics: reading each event's metric would cost more.
    """
    found = kept(connection, table, query)
    if isinstance(found, str):
        return found, None
    if NONE not in found:
        return NOTHING_KEPT, None
    first = serving(query, edges, now, found)
    if has_metric_keys(query) or (isinstance(first, Serving) and not first.together):
        return first, None
    metrics = serving_choices(query, "metric_key", now, found)
    if isinstance(metrics, Serving):
        return first, metrics
    return (first if isinstance(first, str) else serving(query, edges, now, found, metrics=True)), None


def choices_path(connection: Connection, table: Table, query: Query, group: str, now: datetime) -> Serving | str:
    """The same for how many of the question's events have each value of a group, or each dimension key (`keys`)."""
    found = kept(connection, table, query)
    return found if isinstance(found, str) else serving_choices(query, group, now, found)


def kept(connection: Connection, table: Table, query: Query) -> dict[str, Kept] | str:
    """What the rollup keeps of the question's organization, by dimension, else why this role is answered without it."""
    catalogue, rows = kept_table(table), rollup_table(table)
    names = {
        name: quoted(relation.name, relation.schema)
        for name, relation in (("events", table), ("kept", catalogue), ("rows", rows))
    }
    unusable: str | None = connection.execute(_UNUSABLE, names).scalar()
    if unusable != "":
        return unusable or NO_ROLLUP
    c = catalogue.c
    lines = connection.execute(
        select(c.dimension, c.grain, c.watermark, c.days_until, c.summary).where(
            scope(c.organization_id, query), c.grain.is_not(None), c.watermark.is_not(None)
        )
    )
    return {line.dimension: Kept(*line) for line in lines}


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
            path, metrics = aggregate_paths(self.connection, self.table, query, edges, self.now)
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
        path = choices_path(self.connection, self.table, query, group, self.now)
        return path if isinstance(path, Serving) else None
