"""The statement of an aggregate: buckets, ranks, folds and fills with zeros in the database, exactly.

It returns one row per series, with its points as an array in bucket order. If the answer would have more than
`MAX_POINTS` points, it returns one row without a series, with the number of series. Its steps:

    points   events, or rows of the rollup, by bucket and key
    ranked   keys by total, descending; ties by key in code-point order, the missing key last among equals
    series   the first `top` keys, and all others folded into one position
    cells    points by series
    filled   every series × every bucket, zero where nothing happened
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Dialect,
    FromClause,
    Integer,
    Interval,
    Label,
    Numeric,
    Select,
    Table,
    Text,
    and_,
    case,
    func,
    literal,
    null,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.sql.expression import CTE, CompoundSelect
from sqlalchemy.types import UserDefinedType

from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_POINTS
from usage_explore.query.queries import AggregateQuery, EventQuery, Metric
from usage_explore.sql.filters import conditions, expression, filters, object_keys, scope, within_bounds
from usage_explore.sql.rollup_plan import COLUMNS, DAY, KEYS, NONE, Edge, Serving, Slots, rollup_table

_STEPS = (timedelta(weeks=1), timedelta(days=1), timedelta(hours=1), timedelta(minutes=15))
_INSTANT = DateTime(timezone=True)
_MAX_PROBED_SLOTS = 1_000
"""Slots of a window up to which a filtered query looks up each slot in the index instead of scanning all values."""


@dataclass(frozen=True, slots=True)
class Points:
    """The points of an answer, and the number of different metrics of its events (a scalar subquery)."""

    points: CTE
    metrics: ColumnElement[int]


def events_points(table: Table, query: AggregateQuery, metrics: Serving | None = None) -> Points:
    """The points from the events: summed by slots of equal length first, then the few slots by bucket."""
    edges = query.edges()
    key = _key(partial(expression, table), query.group_by)
    slot = _slot(table.c.timestamp, edges).label("slot")
    measured = func.count() if query.metric == "count" else func.sum(table.c.quantity)
    by = [slot, *key, *([] if metrics or has_metric_keys(query) else [table.c.metric_key])]
    slots = select(*by, measured.label("value")).where(*conditions(table, query)).group_by(*by).cte("slots")
    bucket = _bucket(slots.c.slot, _instants(edges))
    keys = [slots.c.key] if key else []
    points = select(bucket, *keys, func.sum(slots.c.value).label("value")).group_by(bucket, *keys).cte("points")
    return Points(points, _metrics(table, query, points, slots, metrics))


def rollup_points(table: Table, query: AggregateQuery, serving: Serving, metrics: Serving | None = None) -> Points:
    """The points from the rollup's whole slots; the window's edges and recent arrivals from the events."""
    by_metric = not (metrics or has_metric_keys(query))
    measure = _Measure(query.group_by, query.metric, _instants(query.edges()), metrics=by_metric)
    pieces = _pieces(table, query, serving, measure).cte("pieces")
    keys = [pieces.c.key] if query.group_by != NONE else []
    measured = pieces.c.events if query.metric == "count" else pieces.c.quantity
    points = (
        select(pieces.c.bucket, *keys, func.sum(measured).label("value"))
        .group_by(pieces.c.bucket, *keys)
        .having(func.sum(pieces.c.events) != 0)
        .cte("points")
    )
    return Points(points, _metrics(table, query, points, pieces, metrics))


def has_metric_keys(query: AggregateQuery) -> bool:
    """Whether the points tell the number of metrics: the filter has one metric key, or the query groups by it."""
    return query.group_by == "metric_key" or len(query.metric_key) == 1


def _metrics(
    table: Table, query: AggregateQuery, points: CTE, measured: CTE, metrics: Serving | None
) -> ColumnElement[int]:
    """The number of metrics: from the points if they tell it, else from the rollup, else from `measured`."""
    if query.group_by == "metric_key":
        metric_keys = select(points.c.key).distinct()
    elif has_metric_keys(query):
        metric_keys = select(literal(1)).select_from(points).limit(1)
    elif metrics:
        metric_keys = rollup_choices(table, query, "metric_key", None, metrics)
    else:
        metric_keys = select(measured.c.metric_key).group_by(measured.c.metric_key)
        if "events" in measured.c:  # rows of the rollup that other rows subtract again
            metric_keys = metric_keys.having(func.sum(measured.c.events) != 0)
    return select(func.count()).select_from(metric_keys.subquery()).scalar_subquery()


def metric_points(
    table: Table,
    query: AggregateQuery,
    edges: tuple[datetime, ...],
    serving: Serving | None,
    only: ColumnElement[bool],
) -> CTE:
    """The points of each metric key, of both measures.

    From the rollup with the plan `serving`, else from the events that satisfy `only`.
    Columns: `bucket` integer (of these `edges`), `key` text (if the query groups), `metric_key` text, `events` bigint,
    `quantity` numeric.
    """
    measure = _Measure(query.group_by, "sum_quantity", _instants(edges), metrics=True)
    if serving is None:
        return _piece(table, query, only, measure).cte("points")
    pieces = _pieces(table, query, serving, measure).subquery("pieces")
    by = [pieces.c.bucket, *([pieces.c.key] if query.group_by != NONE else []), pieces.c.metric_key]
    events, quantity = func.sum(pieces.c.events), func.sum(pieces.c.quantity)
    return (
        select(*by, events.cast(BigInteger).label("events"), quantity.label("quantity"))
        .group_by(*by)
        .having(events != 0)
        .cte("points")
    )


def rollup_choices(table: Table, query: Query, group: str, most: int | None, serving: Serving) -> Select[Any]:
    """`filters.values`, or `filters.dimension_keys` for the group `keys`, from the rollup."""
    pieces = _pieces(table, query, serving, _Measure(group, "count")).subquery("pieces")
    events = func.sum(pieces.c.events)
    offered = pieces.c.key != "" if group == KEYS else pieces.c.key.is_not(None)
    return (
        select(pieces.c.key.label("value"), events.cast(BigInteger).label("events"))
        .where(offered)
        .group_by(pieces.c.key)
        .having(events != 0)
        .order_by(events.desc(), pieces.c.key.collate("C"))
        .limit(most)
    )


@dataclass(frozen=True, slots=True)
class _Measure:
    """The columns of a piece: a measure by group, by bucket if there are edges, by metric key if `metrics`."""

    group: str
    metric: Metric
    edges: ColumnElement[Any] | None = None
    metrics: bool = False

    def buckets(self, instant: ColumnElement[datetime]) -> list[Label[Any]]:
        return [_bucket(instant, self.edges)] if self.edges is not None else []

    def keys(self, metric_key: ColumnElement[str]) -> list[ColumnElement[Any]]:
        return [metric_key] if self.metrics else []

    def columns(self, events: ColumnElement[int], quantity: ColumnElement[Decimal]) -> list[Label[Any]]:
        counted = [events.label("events")]
        return counted if self.metric == "count" else [*counted, quantity.label("quantity")]


def rollup_count(table: Table, query: EventQuery, serving: Serving) -> Select[Any]:
    """`filters.count` from the rollup."""
    pieces = _pieces(table, query, serving, _Measure(NONE, "count")).subquery("pieces")
    return select(func.coalesce(func.sum(pieces.c.events), 0).cast(BigInteger))


def _pieces(table: Table, query: Query, serving: Serving, measure: _Measure) -> CompoundSelect[Any]:
    """The pieces of the answer, to be summed.

    Columns: `bucket` if there are edges, `key` if there is a group, `metric_key` if the measure is by metric key,
    `events`, and `quantity` if it is measured.
    """
    known = table.c.ingested_at < serving.known
    return union_all(
        *(_whole(rollup_table(table), query, slots, serving.known, measure) for slots in serving.slots),
        _piece(table, query, table.c.ingested_at >= serving.known, measure),
        *(_piece(table, _within(query, edge), known, measure, edge.sign) for edge in serving.edges),
    )


def _whole(rows: Table, query: Query, slots: Slots, known: datetime, measure: _Measure) -> Select[Any]:
    """Rows of the rollup."""
    c = rows.c

    def column(group: str) -> ColumnElement[Any]:
        return c.metric_key if group == "metric_key" else c.value

    key = [c.value.label("key")] if measure.group == KEYS else _key(column, measure.group)
    by = [*measure.buckets(c.slot), *key, *measure.keys(c.metric_key)]
    return select(*by, *measure.columns(c.events, c.quantity)).where(
        scope(c.organization_id, query),
        c.dimension == slots.dimension,
        *_within_slots(c.slot, query, slots),
        *within_bounds(c.ingested, until=known),
        *filters(column, query),
    )


def _within_slots(slot: ColumnElement[datetime], query: Query, slots: Slots) -> list[ColumnElement[bool]]:
    """The whole slots: as a range, or one by one for a filtered query, which can use the index then."""
    first, last, grain = slots.first, slots.last, slots.grain
    some = bool(query.dimensions) or any(getattr(query, name) for name in COLUMNS)
    if first and last and some and grain == DAY and (last - first) // grain <= _MAX_PROBED_SLOTS:
        starts = [first + index * grain for index in range((last - first) // grain)]
        return [slot == func.any(_instants(starts))]
    return within_bounds(slot, first, last)


def _piece(table: Table, query: Query, condition: ColumnElement[bool], measure: _Measure, sign: int = 1) -> Select[Any]:
    """Events that satisfy a condition, added (`sign` 1) or subtracted (-1)."""
    source: FromClause = table
    key = _key(partial(expression, table), measure.group)
    if measure.group == KEYS:
        keys = object_keys(table)
        source, key = table.join(keys, true()), [keys.c.key.label("key")]
    by = [*measure.buckets(table.c.timestamp), *key, *measure.keys(table.c.metric_key)]
    return (
        select(*by, *measure.columns(func.count() * literal(sign), func.sum(table.c.quantity) * literal(sign)))
        .select_from(source)
        .where(*conditions(table, query), condition)
        .group_by(*by)
    )


def _within(query: Query, edge: Edge) -> Query:
    if isinstance(query, AggregateQuery):
        return query.replace(since=edge.since, until=edge.until, as_of=None)
    return query.replace(occurred_after=edge.since, occurred_before=edge.until, as_of=None)


def _key(column: Callable[[str], ColumnElement[Any]], group: str) -> list[Label[Any]]:
    return [] if group in (NONE, KEYS) else [column(group).cast(Text).label("key")]


def _bucket(instant: ColumnElement[datetime], edges: ColumnElement[Any]) -> Label[Any]:
    return func.width_bucket(instant, edges).label("bucket")


def _instants(instants: Iterable[datetime]) -> ColumnElement[Any]:
    """Instants as one array parameter; bound as text, because thousands of parameters are slow."""
    return literal("{" + ",".join(instant.isoformat() for instant in instants) + "}", _Array()).cast(ARRAY(_INSTANT))


class _Array(UserDefinedType[str]):
    """An array literal without a type, which PostgreSQL parses once per statement, not once per row."""

    cache_ok = True

    def literal_processor(self, dialect: Dialect) -> Callable[[str], str]:
        return "'{}'".format


def _slot(timestamp: ColumnElement[datetime], edges: tuple[datetime, ...]) -> ColumnElement[datetime]:
    """The slot of equal length with the event, or its exact time if no length fits all edges.

    `date_bin` on every server: TimescaleDB's `time_bucket` is no faster, on the rowstore or the columnstore.
    """
    for step in _STEPS:
        if all((edge - edges[0]) % step == timedelta(0) for edge in edges):
            return func.date_bin(literal(step, Interval), timestamp, literal(edges[0], _INSTANT), type_=_INSTANT)
    return timestamp


def aggregate(
    table: Table, query: AggregateQuery, serving: Serving | None = None, metrics: Serving | None = None
) -> Select[Any]:
    """The statement of a resolved query, from the rollup with the plan `serving`, else from the events.

    `metrics` is the plan to count the metrics from the rollup.

    Columns: `now` timestamptz, `series_count` bigint, `metrics` bigint (the number of different metrics), then NULL or
    `kind` text (all, value, missing, other), `key` text, `total`, `members` bigint (how many keys the series holds),
    `points` array; ordered by rank. Counts are bigint, sums numeric. Raises `ValueError` on a relative window,
    `ScopeError` without an organization.
    """
    size = len(query.edges()) - 1
    number = BigInteger() if query.metric == "count" else Numeric()
    grouped = query.group_by != "none"
    source = rollup_points(table, query, serving, metrics) if serving else events_points(table, query, metrics)
    points = source.points

    if grouped:
        ranked, series = _ranked(points, query.top)
        same_key = and_(
            func.coalesce(points.c.key, "") == func.coalesce(ranked.c.key, ""),
            points.c.key.is_(None) == ranked.c.key.is_(None),
        )
        cells = (
            select(ranked.c.position, points.c.bucket, func.sum(points.c.value).label("value"))
            .join_from(points, ranked, same_key)
            .group_by(ranked.c.position, points.c.bucket)
            .cte("cells")
        )
    else:
        series = select(
            literal(1, Integer).label("position"),
            literal("all", Text).label("kind"),
            null().cast(Text).label("key"),
            func.coalesce(func.sum(points.c.value), 0).label("total"),
            literal(1, Integer).label("members"),
        ).cte("series")
        cells = select(literal(1, Integer).label("position"), points.c.bucket, points.c.value).cte("cells")

    series_count = select(func.count()).select_from(series).scalar_subquery()
    numbered = func.generate_series(1, size).table_valued("at").render_derived(name="numbered")
    at = numbered.c.at
    value = func.coalesce(cells.c.value, 0).cast(number)
    filled = (
        select(series.c.position, func.array_agg(aggregate_order_by(value, at)).label("points"))
        .select_from(series)
        .join(numbered, true())
        .outerjoin(cells, and_(cells.c.position == series.c.position, cells.c.bucket == at))
        .where(series_count * size <= MAX_POINTS)
        .group_by(series.c.position)
        .cte("filled")
    )
    head = select(
        func.transaction_timestamp().label("now"), series_count.label("series_count"), source.metrics.label("metrics")
    ).cte("head")
    body = series.join(filled, filled.c.position == series.c.position)
    return (
        select(
            head.c.now,
            head.c.series_count,
            head.c.metrics,
            series.c.kind,
            series.c.key,
            series.c.total.cast(number).label("total"),
            series.c.members,
            filled.c.points,
        )
        .select_from(head.outerjoin(body, true()))
        .order_by(series.c.position)
    )


def _ranked(points: Any, top: int) -> tuple[Any, Any]:
    total = func.sum(points.c.value)
    rank = func.row_number().over(order_by=[total.desc(), points.c.key.is_(None), points.c.key.collate("C")])
    position = func.least(rank, top + 1) if top else rank
    ranked = select(points.c.key, total.label("total"), position.label("position")).group_by(points.c.key).cte("ranked")
    folded: ColumnElement[bool] = ranked.c.position > top if top else literal(False)
    only = func.max(ranked.c.key.collate("C"))
    series = (
        select(
            ranked.c.position,
            case((folded, "other"), (only.is_(None), "missing"), else_="value").label("kind"),
            case((~folded, only)).label("key"),
            func.sum(ranked.c.total).label("total"),
            func.count(ranked.c.key).label("members"),
        )
        .group_by(ranked.c.position)
        .cte("series")
    )
    return ranked, series
