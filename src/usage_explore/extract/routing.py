"""The two paths to a number: the extract with the newest events from the database, or the events alone.

Both give the same. The extract has what was ingested before its watermark; the database adds up the tail, what was
ingested since, and both are ranked, folded and filled with zeros once. The connection's transaction must see one
snapshot: a refresh that ends after it began only moves events from the tail to the extract.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache, partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

import psycopg
from sqlalchemy import Connection, FromClause, Select, Table, select, true

from usage_explore.extract import changes, folder, ranking, retention, statement
from usage_explore.extract import manifest as manifests
from usage_explore.extract.engine import Extracts, ExtractUnusable
from usage_explore.extract.manifest import DAY, Manifest, Segment, instant, micros
from usage_explore.extract.ranking import Row
from usage_explore.extract.scans import Scan, Span, named_groups, overlaps, planned_scans, span_of, unit_of
from usage_explore.extract.statement import Measure, Tail
from usage_explore.extract.visibility import fingerprint, state
from usage_explore.query.base import EventFilters, Query
from usage_explore.query.filters import CURRENCY
from usage_explore.query.queries import COST_METRICS, SUMS, AggregateQuery, EventQuery
from usage_explore.results.currencies import Currencies, CurrencyCost, check_currencies, check_folded, in_order
from usage_explore.results.types import Series, Served, series
from usage_explore.results.units import AddedMetrics
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters

_NO_TIMEOUT = timedelta(days=1)

_MAX_TIMES = 2_000
"""Different times of the events of a key that the database is given to find them by; more are read by its own plan."""

_MAX_POINTS_IN_PYTHON = 20_000
"""Points (keys × buckets) from which ranking and folding by DuckDB take less time than in Python."""

_SERIES_AT_ONCE = 4
"""Series, of up to 2,400 points each, that DuckDB makes into Python's objects before other threads run."""

_MAX_STATEMENTS = 256
"""Statements without the query's values that are kept: making one takes up to a millisecond."""

_MANY_ROWS, _MANY_TIMES = 50_000, 3
"""Rows of a scan from which points and metric keys may be found apart, and how many times as many as for metric keys
alone they must be."""

_MIN_FLOAT = 1e-150
"""What the events' path takes for 0 in a float, too."""


class MetricSeries(NamedTuple):
    """The sums of a key and a metric key in the buckets that have events; a quantity is None where it is no number."""

    key: str | None
    metric_key: str
    buckets: Sequence[int]
    counts: Sequence[int]
    quantities: Sequence[float | None]


@dataclass(frozen=True, slots=True)
class Held:
    """An extract that can answer: its folder, manifest and watermark, and the first event that the table still has.

    `timeout` bounds a statement: that of the database's session.
    """

    folder: Path
    manifest: Manifest
    watermark: int
    first: int | None
    timeout: timedelta

    def scans(
        self, query: Query, group: str, edges: tuple[datetime, ...] | None, *, metrics: bool = False
    ) -> list[Scan]:
        """The scans of a resolved query."""
        unit = DAY if edges is None else unit_of(edges)
        named = named_groups(query, group) | ({"metric_key"} if metrics else set())
        return self.scans_of(self.manifest.segments, query, span_of(query), unit, named)

    def scans_of(
        self, segments: Iterable[Segment], query: Query, span: Span, unit: int, named: Iterable[str]
    ) -> list[Scan]:
        """The scans of some segments over a span, no earlier than the table's first event; see `planned_scans`."""
        if self.first is not None:
            span = replace(span, since=max(self.first, span.since if span.since is not None else self.first))
        if span.since is not None and span.until is not None and span.since >= span.until:
            return []
        folder = str(self.folder)
        return planned_scans(segments, query, span, unit, named, lambda name: os.path.join(folder, name))  # noqa: PTH118 - many


@dataclass(frozen=True, slots=True)
class Paths:
    """The paths at one moment, `now`, of one table; without `extracts` only the events.

    `state` is the row of `_state` where it was read with `now`.
    """

    connection: Connection
    table: Table
    now: datetime
    extracts: Extracts | None
    state: Any = None
    _held: dict[UUID, Held | ExtractUnusable] = field(default_factory=dict)

    def aggregate(
        self,
        query: AggregateQuery,
        kept: Sequence[str | None] | None = None,
        *,
        one_currency: bool = True,
        beside: Callable[[], object] | None = None,
    ) -> tuple[tuple[Series, ...], AddedMetrics, Currencies, Served]:
        """The series of a resolved query, the metrics that they add up, the currencies, and the path.

        With `kept`, the series are those keys (None for missing) that have events, and Other. Without `one_currency`
        a series may add up costs in several. `beside` is called while the extract is read, if there is time.

        Raises `QueryError`, for costs in several currencies too, and `NotExact`.
        """
        began = time.perf_counter()
        because = None
        costs = self.costs(query) if query.metric in COST_METRICS else []
        if one_currency and query.group_by != CURRENCY:
            check_currencies(costs)
        try:
            rows: Sequence[Any] = self._from_extract(query, kept, beside)
        except ExtractUnusable as error:
            because = str(error)
            rows = self.connection.execute(aggregation.aggregate(self.table, query, kept)).all()
        since = self.exists_since(query)
        result = series(rows, query, query.edges(), query.closed_until(self.now), since)
        if one_currency and query.group_by == CURRENCY:
            check_folded(costs, result)
        took = timedelta(seconds=time.perf_counter() - began)
        metrics = AddedMetrics(rows[0].metrics, tuple(rows[0].metric_keys or ()))
        return result, metrics, tuple(cost.currency for cost in costs), Served(because, took, since)

    def costs(self, query: Query, group: str = CURRENCY) -> list[CurrencyCost]:
        """The currencies, or other keys, of the costs of a resolved query's events, that of most events first."""
        try:
            held = self.held(query)
            measure = Measure(group=group, sums=("cost",), costed=True)
            scans = held.scans(query, group, None)
            tail = self.tail(held, query, measure)
            measure = _scaled(measure, scans, tail)
            rows: Sequence[Any] = self.run(held, *statement.currencies(query, scans, tail, measure))
        except ExtractUnusable:
            rows = self.connection.execute(aggregation.currencies(self.table, query, group)).all()
        return in_order(CurrencyCost(*row) for row in rows)

    def exists_since(self, query: Query) -> datetime | None:
        """The time of the first event, if older ones were removed and the query's window begins before; else None."""
        if retention.window_start(query) is None:
            return None
        try:
            held = self.held(query)
        except ExtractUnusable:
            return retention.exists_since(self.connection, self.table, query, self.now, self._unusable(query))
        first = None if held.first is None else instant(held.first)
        return retention.exists_since(self.connection, self.table, query, self.now, held.manifest, first)

    def _unusable(self, query: Query) -> Manifest | None:
        """What an extract that cannot answer says of removed events; its own may be others than those of the table."""
        if self.extracts is None or query.organization_id is None:
            return None
        row = self.state or self.connection.execute(state(self.table)).one()
        place = self._source(row.role).folder(self.extracts.home, query.organization_id)
        manifest = self.extracts.manifest(place) or manifests.removal(place, row.relation)
        if manifest is None or manifest.relation != row.relation:
            return None
        put_back = row.transaction is not None and row.transaction < manifest.transaction
        return None if put_back else replace(manifest, segments=())

    def times(self, query: EventQuery) -> list[datetime] | None:
        """The times of the events of a few ids or idempotency keys; None if there are many, or no extract."""
        try:
            held = self.held(query)
            self.check(held, query)
            scans = held.scans(query, "none", None)
            selected = statement.times(query, scans, _MAX_TIMES + 1)
            found = {instant(time_) for (time_,) in self.run(held, *selected)} if scans else set()
        except ExtractUnusable:
            return None
        if (late := self.late(held, query, [])) is not None:
            newest = select(late.c.timestamp).where(*filters.conditions(late, query)).distinct().limit(_MAX_TIMES + 1)
            found |= {*self.connection.execute(newest).scalars()}
        return sorted(found) if len(found) <= _MAX_TIMES else None

    def count(self, query: Query, *, indexed: bool = False) -> int:
        """The number of events of a query; of the database's alone where an index finds them."""
        try:
            if indexed:
                raise ExtractUnusable("an index finds the events")
            held = self.held(query)
            scans = held.scans(query, "none", None)
            tail = self.tail(held, query, Measure())
            return int(self.run(held, *statement.count(query, scans, tail))[0][0])
        except ExtractUnusable:
            return int(self.connection.execute(filters.count(self.table, query)).scalar_one())

    def choices(
        self, query: Query, group: str, most: int | None, events: Callable[[Table, Query], Select[Any]]
    ) -> list[tuple[str, int]]:
        """(value, events) of a group, most frequent first; `events` makes the statement for the events' path."""
        try:
            held = self.held(query)
            scans = held.scans(query, group, None)
            tail = self.tail(held, query, Measure(group=group))
            return [
                (value, int(number))
                for value, number in self.run(held, *statement.choices(query, scans, tail, group, most))
            ]
        except ExtractUnusable:
            return [(row.value, row.events) for row in self.connection.execute(events(self.table, query))]

    def metric_series(
        self, query: AggregateQuery, edges: tuple[datetime, ...], size: int, events: Select[Any]
    ) -> Iterator[Sequence[Any]]:
        """`MetricSeries` of a resolved query, `size` at a time; `events` is the statement for the events' path."""
        try:
            held = self.held(query)
            measure = Measure(group=query.group_by, edges=edges, metrics=True, sums=("quantity",))
            scans = held.scans(query, query.group_by, edges, metrics=True)
            tail = self.tail(held, query, measure)
            measure = _scaled(measure, scans, tail)
            rows = self.run(held, *statement.metric_series(query, scans, tail, measure))
        except ExtractUnusable:
            yield from self.connection.execute(events).partitions(size)
            return
        for start in range(0, len(rows), size):
            yield [
                MetricSeries(key, metric_key, buckets, counts, [_as_float(text) for text in quantities])
                for key, metric_key, buckets, counts, quantities in rows[start : start + size]
            ]

    def held(self, query: Query) -> Held:
        """The extract of the query's organization. Raises `ExtractUnusable` if there is none for this role."""
        if self.extracts is None:
            raise ExtractUnusable("the extract is switched off")
        assert query.organization_id is not None  # noqa: S101 - the store resolves the organization first
        found = self._held.get(query.organization_id)
        if found is None:
            try:
                found = self._look_up(self.extracts, query.organization_id)
            except ExtractUnusable as error:
                found = error
            self._held[query.organization_id] = found
        if isinstance(found, ExtractUnusable):
            raise found
        return found

    def _look_up(self, extracts: Extracts, organization_id: UUID) -> Held:
        row = self.state or self.connection.execute(state(self.table)).one()
        place = self._source(row.role).folder(extracts.home, organization_id)
        manifest = extracts.manifest(place)
        if manifest is None:
            if manifests.is_unreadable(place):
                raise ExtractUnusable("the manifest of the extract is damaged, or of another folder, version or user")
            raise ExtractUnusable("there is no extract of these events")
        if changes.pending(place):
            raise ExtractUnusable("events behind its watermark were changed, and it has not been refreshed since")
        if manifest.unfit:
            raise ExtractUnusable(manifest.unfit)
        if manifest.watermark is None:
            raise ExtractUnusable("the extract of these events is not built yet")
        if manifest.watermark > micros(row.now):
            raise ExtractUnusable("the database's clock was put back behind its watermark")
        if row.transaction is not None and row.transaction < manifest.transaction:
            raise ExtractUnusable("the database was put back to a time before the extract's last refresh")
        if manifest.relation != row.relation:
            raise ExtractUnusable("the table was created anew after the extract")
        if manifest.fingerprint != (row.fingerprint or fingerprint(self._driver, row.relation)):
            raise ExtractUnusable(
                "the table, its definition, privileges or row-level security was changed after the extract"
            )
        first: int | None = None
        if row.is_table:  # a statement of its own, as Citus joins no catalog with a distributed table
            earliest = self.connection.execute(_first(self.table, organization_id)).scalar_one()
            if earliest is None:
                raise ExtractUnusable("the table has no events of the organization")
            first = micros(earliest)
            if any(segment.rows.rows for segment in manifest.segments):
                first = self._first_kept(organization_id, manifest, first)
        timeout = timedelta(seconds=row.timeout_seconds) if row.timeout_seconds else _NO_TIMEOUT
        return Held(place, manifest, manifest.watermark, first, timeout)

    def _first_kept(self, organization_id: UUID, manifest: Manifest, first: int) -> int:
        """The time of the first event that the extract has and the table, too, which begins at `first`.

        An event that came late does not bring back the extract's events after it that were removed from the table.
        """
        if first == min(segment.first for segment in manifest.segments):
            return first
        assert manifest.watermark is not None  # noqa: S101 - checked before
        kept = _first(self.table, organization_id).where(self.table.c.ingested_at < instant(manifest.watermark))
        earliest = self.connection.execute(kept).scalar_one()
        if earliest is None:  # all were removed
            return max(first, *(segment.last + 1 for segment in manifest.segments))
        return micros(earliest)

    def _source(self, role: str) -> folder.Source:
        """The table as the role sees it, looked up once for each connection."""
        sources: dict[tuple[str, str], folder.Source] = self.connection.info.setdefault("extract_sources", {})
        key = self.table.fullname, role
        if key not in sources:
            assert self.extracts is not None  # noqa: S101 - `held` raises without
            sources[key] = folder.source(self._driver, self.extracts.url, self.table)
        return sources[key]

    @property
    def _driver(self) -> psycopg.Connection[Any]:
        driver = self.connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)  # noqa: S101 - the only driver
        return driver

    def _from_extract(
        self, query: AggregateQuery, kept: Sequence[str | None] | None, beside: Callable[[], object] | None
    ) -> list[Row]:
        held = self.held(query)
        edges = query.edges()
        by_metric = not aggregation.has_metric_keys(query)
        measure = Measure(
            group=query.group_by,
            edges=edges,
            metrics=by_metric,
            sums=SUMS[query.metric],
            costed=query.metric in COST_METRICS,
        )
        scans = held.scans(query, query.group_by, edges, metrics=by_metric)
        every_scan = scans
        assert self.extracts is not None  # noqa: S101 - `held` raises without
        self.check(held, query)
        in_python = len(measure.sums) < 2  # a ratio has two
        size, group = len(edges) - 1, (held.folder, query.group_by)
        if in_python and not scans:
            tail = self._tail(held, query, measure)
            measure = _scaled(measure, scans, tail)
            return ranking.ranked(ranking.tail_points(tail, measure), query, size, measure, kept)
        with_metrics: list[Scan] = []
        if by_metric:
            scans, with_metrics = _apart(held, query, edges, scans)
        with self.extracts.cursor(held.timeout) as cursor:
            found: Iterable[ranking.Point] | None = None
            if in_python and size < self.extracts.many_points.get(group, size + 1):
                of_scans = _scaled(measure, every_scan, Tail())
                points = statement.points(scans, query, Tail(), of_scans, with_metrics)
                with cursor.beside(partial(cursor.rows_up_to, _MAX_POINTS_IN_PYTHON, *points)) as read:
                    tail = self._tail(held, query, measure)
                    if beside:
                        beside()
                    found = read()
            else:
                tail = self._tail(held, query, measure)
            measure = _scaled(measure, every_scan, tail)
            late = list(ranking.tail_points(tail, measure)) if in_python else []
            if found is None:  # a table costs little where there are many points, and much where there are few
                text, parameters = statement.points(scans, query, Tail() if in_python else tail, measure, with_metrics)
                ((number,),) = cursor.run(f"CREATE TEMP TABLE points AS {text}", parameters)
                if in_python and number <= _MAX_POINTS_IN_PYTHON:
                    found = cursor.run("SELECT bucket, key, value FROM points", [])
            if found is not None:
                return ranking.ranked(chain(found, late), query, size, measure, kept)
            if in_python:
                self.extracts.many_points[group] = min(size, self.extracts.many_points.get(group, size))
            if late:
                text, parameters = statement.points([], query, tail, measure)
                cursor.run(f"INSERT INTO points {text}", parameters)
            return [Row(*row) for row in cursor.run(*statement.ranked(query, measure, kept), _SERIES_AT_ONCE)]

    def run(self, held: Held, text: str, parameters: list[Any]) -> list[Any]:
        """The rows of a statement of the extract."""
        assert self.extracts is not None  # noqa: S101 - `held` raises without
        return self.extracts.run(text, parameters, held.timeout)

    def tail(self, held: Held, query: Query, measure: Measure) -> Tail:
        """The sums of what was ingested at the watermark or later.

        Raises `ExtractUnusable` for a damaged file, and for a sum that is no number.
        """
        self.check(held, query)
        return self._tail(held, query, measure)

    def _tail(self, held: Held, query: Query, measure: Measure) -> Tail:
        late = self.late(held, query, [measure.group])
        if late is None:
            return Tail()
        selected = aggregation.sums(
            late,
            query,
            true(),
            measure.group,
            measure.edges,
            metrics=measure.metrics,
            sums=measure.sums,
            costed=measure.costed,
        )
        rows = [row for row in self.connection.execute(selected) if row.events]
        sums = {name: [getattr(row, name) for row in rows] for name in measure.sums}
        return Tail(
            buckets=[row.bucket for row in rows] if measure.edges is not None else (),
            keys=[row.key for row in rows] if measure.grouped else (),
            metric_keys=[row.metric_key for row in rows] if measure.metrics else (),
            events=[row.events for row in rows],
            costed=[row.costed for row in rows] if measure.costed else (),
            sums={name: list(statement.texts(values)) for name, values in sums.items()},
            scales={name: scale_of(values) for name, values in sums.items()},
        )

    def late(self, held: Held, query: Query, groups: Iterable[str]) -> FromClause | None:
        """The events ingested at the watermark or later, as a source with the columns that the groups need.

        None if the query's `as_of` or `ingested_before` excludes them all.
        """
        watermark = instant(held.watermark)
        if query.as_of is not None and query.as_of < watermark:
            return None
        if isinstance(query, EventFilters) and query.ingested_before and query.ingested_before <= watermark:
            return None
        named = {*groups} | named_groups(query, "none")
        return aggregation.ingested_since(self.table, query, watermark, named)

    def check(self, held: Held, query: Query) -> None:
        """Check the files that the query may read. Raises `ExtractUnusable` for a damaged one."""
        assert self.extracts is not None  # noqa: S101 - `held` raises without
        span = span_of(query)
        used = [segment for segment in held.manifest.segments if overlaps(segment, span)]
        self.extracts.check(held.folder, used)


def opened(connection: Connection, table: Table, extracts: Extracts | None) -> Paths:
    """The paths now: the database's clock and what an extract depends on, in one statement."""
    if extracts is None:
        return Paths(connection, table, connection.execute(filters.now()).scalar_one(), None)
    row = connection.execute(state(table)).one()
    return Paths(connection, table, row.now, extracts, row)


@lru_cache(maxsize=_MAX_STATEMENTS)
def _first(table: Table, organization_id: UUID) -> Select[datetime | None]:
    """The time of the organization's first event."""
    return filters.first(table, EventQuery(organization_id=organization_id))


def scale_of(sums: Iterable[Decimal]) -> int:
    """The digits after the point that sums need. Raises `ExtractUnusable` for one that is no number."""
    scale = 0
    for total in sums:
        if not total.is_finite():
            raise ExtractUnusable("some quantities or costs are no numbers")
        scale = max(scale, -int(total.as_tuple().exponent))
    return scale


def _apart(
    held: Held, query: AggregateQuery, edges: tuple[datetime, ...], scans: list[Scan]
) -> tuple[list[Scan], list[Scan]]:
    """Scans for points without metric keys and for metric keys, if that is less work; else the scans and none.

    Of a group of many values, hardly any rows are of one point: grouped by metric key as well they would stay as many.
    """
    unit = unit_of(edges)
    if all(scan.rows < _MANY_ROWS or scan.unit not in (None, unit) for scan in scans):
        return scans, []
    for_metrics = held.scans(query, "metric_key", None)
    if sum(scan.rows for scan in for_metrics) * _MANY_TIMES > sum(scan.rows for scan in scans):
        return scans, []
    return held.scans(query, query.group_by, edges), for_metrics


def _scaled(measure: Measure, scans: Sequence[Scan], tail: Tail) -> Measure:
    """The measure with the digits after the point of its sums over scans and tail."""
    return replace(measure, scales=tuple(statement.scale(name, scans, tail.scales) for name in measure.sums))


def _as_float(text: str) -> float:
    """The float64 nearest to a decimal, 0 for one that is too small to matter to a float."""
    value = float(text)
    return value if abs(value) >= _MIN_FLOAT else 0.0
