"""The statement of an aggregate: buckets, ranks, folds and fills with zeros in the database, exactly.

It returns one row per series, with its points as an array in bucket order. If the answer would have more than
`MAX_POINTS` points, it returns one row without a series, with the number of series. Its steps:

    points   events by bucket and key
    ranked   keys by total, descending; ties by key in code-point order, the missing key last among equals
    series   the first `top` keys, and all others folded into one position
    cells    points by series
    filled   every series × every bucket, zero where nothing happened
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    DateTime,
    Dialect,
    FromClause,
    Integer,
    Interval,
    Label,
    Numeric,
    Select,
    Subquery,
    Table,
    Text,
    and_,
    any_,
    case,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.sql.expression import CTE
from sqlalchemy.types import UserDefinedType

from usage_explore.query.base import Query
from usage_explore.query.filters import CURRENCY, DIMENSION
from usage_explore.query.limits import MAX_METRIC_KEYS, MAX_POINTS
from usage_explore.query.queries import COST_METRICS, SUMS, AggregateQuery, LeaderboardQuery
from usage_explore.sql.filters import NEWEST_EVENTS, array, conditions, expression, object_keys, scope, within_bounds

_STEPS = (timedelta(weeks=1), timedelta(days=1), timedelta(hours=1), timedelta(minutes=15))
_INSTANT = DateTime(timezone=True)

_DIMENSIONS = "dimensions"

KEYS = "keys"
"""The group whose values are the dimension keys that an event has with a value: an event counts once for each."""


@dataclass(frozen=True, slots=True)
class Points:
    """The points of an answer, and the different metrics that it adds up: a column `key`."""

    points: CTE
    metrics: CTE


def events_points(table: Table, query: AggregateQuery) -> Points:
    """The points from the events: summed by slots of equal length first, then the few slots by bucket."""
    edges = query.edges()
    key = _key(table, query.group_by)
    slot = _slot(table.c.timestamp, edges).label("slot")
    by = [slot, *key, *([] if has_metric_keys(query) else [table.c.metric_key])]
    measured = _measured(table, query.metric)
    if query.metric in COST_METRICS:
        measured.append(func.count(table.c.external_cost_amount).label("costed"))
    slots = select(*by, *measured).where(*conditions(table, query)).group_by(*by).cte("slots")
    bucket = _bucket(slots.c.slot, edges)
    keys = [slots.c.key] if key else []
    points = select(bucket, *keys, *_sums_of(slots)).group_by(bucket, *keys).cte("points")
    return Points(points, _metrics(query, points, slots))


def has_metric_keys(query: AggregateQuery) -> bool:
    """Whether the points suffice to count metrics: the filter has one metric key, or the query groups by it.

    Those of a cost do not, as events without one are in none of its metrics.
    """
    return query.metric not in COST_METRICS and (query.group_by == "metric_key" or len(query.metric_key) == 1)


def _metrics(query: AggregateQuery, points: CTE, slots: CTE) -> CTE:
    """The different metrics: of the points if their keys or the filter fix the metric, else of the slots."""
    if not has_metric_keys(query):
        metric_keys = select(slots.c.metric_key.label("key")).distinct()
        if "costed" in slots.c:
            metric_keys = metric_keys.where(slots.c.costed > 0)
    elif query.group_by == "metric_key":
        metric_keys = select(points.c.key).distinct()
    else:
        metric_keys = select(literal(query.metric_key[0], Text).label("key")).select_from(points).limit(1)
    return metric_keys.cte("metrics")


def ingested_since(table: Table, query: Query, since: datetime, groups: Iterable[str]) -> Subquery:
    """The organization's events ingested since a time, as a source for `sums`, with the columns that the groups need.

    PostgreSQL takes `timestamp` and `ingested_at` for independent, and would read the whole window of the query by
    `timestamp` to find the few events that were ingested late: 312 ms instead of 40 for 100,000 of 10 million. OFFSET
    keeps the query's conditions out of the subquery, as MATERIALIZED would, which first writes all rows down: 1.5 times
    the time.
    """
    named = {_DIMENSIONS if group.startswith(DIMENSION) or group == KEYS else group for group in groups}
    named |= {"organization_id", "timestamp", "ingested_at", "metric_key", "quantity", "external_cost_amount"}
    columns = [column for column in table.c if column.name in named]
    return (
        select(*columns)
        .where(scope(table.c.organization_id, query), *within_bounds(table.c.ingested_at, since))
        .offset(literal_column("0"))
        .subquery(NEWEST_EVENTS)
    )


def sums(
    table: FromClause,
    query: Query,
    condition: ColumnElement[bool],
    group: str = "none",
    edges: tuple[datetime, ...] | None = None,
    *,
    metrics: bool = False,
    sums: Sequence[str] = (),
    costed: bool = False,
) -> Select[Any]:
    """Sums of the query's events that also satisfy a condition.

    Columns: `bucket` integer (of these `edges`, if given), `key` text (if there is a group), `metric_key` text (with
    `metrics`), `events` bigint, for each of `sums`, such as `quantity`, numeric, and `costed` bigint
    (with `costed`), the events that have a cost.
    """
    source: FromClause = table
    if group == KEYS:
        keys = object_keys(table)
        source, key = table.join(keys, keys.c.value.is_not(None)), [keys.c.key.label("key")]
    else:
        key = _key(table, group)
    by: list[ColumnElement[Any]] = [
        *([_bucket(table.c.timestamp, edges)] if edges is not None else []),
        *key,
        *([table.c.metric_key] if metrics else []),
    ]
    measured = [func.count().label("events"), *(_sum(table, name).label(name) for name in sums)]
    if costed:
        measured.append(func.count(table.c.external_cost_amount).label("costed"))
    return select(*by, *measured).select_from(source).where(*conditions(table, query), condition).group_by(*by)


def sums_of_groups(table: FromClause, query: Query, groups: Sequence[str], sums: Sequence[str]) -> CompoundSelect[Any]:
    """Sums of the query's events for each of several groups; the table is read once.

    Columns: `board` integer (the index in `groups`), `key` text, `events` bigint, and for each sum numeric.
    """
    keys = [expression(table, group).cast(Text).label(f"g{index}") for index, group in enumerate(groups)]
    rows = select(*keys, table.c.quantity, table.c.external_cost_amount).where(*conditions(table, query)).cte("events")
    rows = rows.prefix_with("MATERIALIZED", dialect="postgresql")
    measured = [func.count().label("events"), *(_sum(rows, name).label(name) for name in sums)]
    return union_all(
        *(
            select(literal(index, Integer).label("board"), key.label("key"), *measured).group_by(key)
            for index, key in enumerate(rows.c[label.name] for label in keys)
        )
    )


def matching_sums(table: FromClause, query: Query, groups: Sequence[str], text: str, ids: Sequence[str]) -> Select[Any]:
    """`sums_of_groups` of the keys that have the text in any case, or are one of the ids, most frequent first."""
    found = sums_of_groups(table, query, groups, sums=()).subquery("found")
    key = found.c.key
    return (
        select(found.c.board, key, found.c.events)
        .where(or_(func.strpos(func.lower(key), text.lower()) > 0, key == any_(array(ids, Text()))))
        .order_by(found.c.board, found.c.events.desc(), key.collate("C"))
    )


def leaders(table: Table, query: LeaderboardQuery, group: str) -> Select[Any]:
    """The statement of one leaderboard of a resolved query, by rank.

    Columns: `kind`, `key`, `total`, `members`, `with_missing`, as those of `aggregate`.
    """
    key = expression(table, group).cast(Text).label("key")
    points = select(key, *_measured(table, query.metric)).where(*conditions(table, query)).group_by(key).cte("points")
    _, series = _ranked(points, query.top)
    total = series.c.total.cast(BigInteger() if query.metric == "count" else Numeric())
    columns = series.c.kind, series.c.key, total.label("total"), series.c.members, series.c.with_missing
    return select(*columns).order_by(series.c.position)


def currencies(table: FromClause, query: Query, group: str = CURRENCY) -> Select[Any]:
    """The currencies, or other keys, of the costs of the query's events.

    Columns: `key` text, `costed` bigint (their events), `cost` numeric.
    """
    amount = table.c.external_cost_amount
    key = expression(table, group).cast(Text).label("key")
    measured = [func.count().label("costed"), func.sum(amount).label("cost")]
    return select(key, *measured).where(*conditions(table, query), amount.is_not(None)).group_by(key)


def total_of(table: FromClause, metric: str) -> ColumnElement[Any]:
    """A measure of some events that is a sum, as an SQL aggregate."""
    return _sum(table, SUMS[metric][0]) if SUMS[metric] else func.count()


def _measured(table: FromClause, metric: str) -> list[Label[Any]]:
    """The measure of some events: `value`, of a ratio the dividend, and of a ratio also its `divisor`."""
    names = SUMS[metric]
    columns = [total_of(table, metric).label("value")]
    return [*columns, *(_sum(table, name).label("divisor") for name in names[1:])]


def _sum(table: FromClause, name: str) -> ColumnElement[Any]:
    if name == "quantity":
        return func.sum(table.c.quantity)
    amount = table.c.external_cost_amount
    if name == "cost":
        return func.coalesce(func.sum(amount), 0)
    return func.coalesce(func.sum(table.c.quantity).filter(amount.is_not(None)), 0)


def _sums_of(source: Any) -> list[Label[Any]]:
    """The sums of the columns `value` and, if there is one, `divisor`."""
    return [func.sum(source.c[name]).label(name) for name in ("value", "divisor") if name in source.c]


def _key(table: FromClause, group: str) -> list[Label[Any]]:
    return [] if group == "none" else [expression(table, group).cast(Text).label("key")]


def _bucket(instant: ColumnElement[datetime], edges: tuple[datetime, ...]) -> Label[Any]:
    return func.width_bucket(instant, _instants(edges)).label("bucket")


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


def aggregate(table: Table, query: AggregateQuery, kept: Sequence[str | None] | None = None) -> Select[Any]:
    """The statement of a resolved query; its series are the `kept` keys (None for missing) and Other, if given.

    Columns: `now` timestamptz, `series_count` bigint, `metrics` bigint (see `AggregateData`), `metric_keys` text[] (in
    the first row, NULL beyond `MAX_METRIC_KEYS`), then NULL or `kind` text (all, value, missing, other), `key` text,
    `total`, `members` bigint (how many keys the series holds), `with_missing` bool (whether Other also holds the events
    without a key), `points` array; of a ratio, whose `total` and `points` are the dividends, also `divisor` and
    `divisors` array; ordered by rank. Counts are bigint, sums numeric. Raises `ValueError` on a relative window,
    `ScopeError` without an organization.
    """
    size = len(query.edges()) - 1
    number = BigInteger() if query.metric == "count" else Numeric()
    grouped = query.group_by != "none"
    source = events_points(table, query)
    points = source.points

    if grouped:
        ranked, series = _ranked(points, query.top, kept)
        same_key = and_(
            func.coalesce(points.c.key, "") == func.coalesce(ranked.c.key, ""),
            points.c.key.is_(None) == ranked.c.key.is_(None),
        )
        cells = (
            select(ranked.c.position, points.c.bucket, *_sums_of(points))
            .join_from(points, ranked, same_key)
            .group_by(ranked.c.position, points.c.bucket)
            .cte("cells")
        )
    else:
        series = select(
            literal(1, Integer).label("position"),
            literal("all", Text).label("kind"),
            null().cast(Text).label("key"),
            *_totals(points, empty=True),
            literal(1, Integer).label("members"),
            literal(False).label("with_missing"),
        ).cte("series")
        columns = [points.c[name] for name in ("bucket", "value", "divisor") if name in points.c]
        cells = select(literal(1, Integer).label("position"), *columns).cte("cells")

    series_count = select(func.count()).select_from(series).scalar_subquery()
    numbered = func.generate_series(1, size).table_valued("at").render_derived(name="numbered")
    at = numbered.c.at
    lists = [
        func.array_agg(aggregate_order_by(func.coalesce(cells.c[name], 0).cast(number), at)).label(label)
        for name, label in (("value", "points"), ("divisor", "divisors"))
        if name in cells.c
    ]
    filled = (
        select(series.c.position, *lists)
        .select_from(series)
        .join(numbered, true())
        .outerjoin(cells, and_(cells.c.position == series.c.position, cells.c.bucket == at))
        .where(series_count * size <= MAX_POINTS)
        .group_by(series.c.position)
        .cte("filled")
    )
    metrics = select(func.count()).select_from(source.metrics).scalar_subquery()
    keys = func.array(select(source.metrics.c.key).limit(MAX_METRIC_KEYS).scalar_subquery())
    head = select(
        func.transaction_timestamp().label("now"),
        series_count.label("series_count"),
        metrics.label("metrics"),
        case((metrics <= MAX_METRIC_KEYS, keys)).label("metric_keys"),
    ).cte("head")
    body = series.join(filled, filled.c.position == series.c.position)
    return (
        select(
            head.c.now,
            head.c.series_count,
            head.c.metrics,
            case((func.coalesce(series.c.position, 1) == 1, head.c.metric_keys)).label("metric_keys"),
            series.c.kind,
            series.c.key,
            series.c.total.cast(number).label("total"),
            series.c.members,
            series.c.with_missing,
            filled.c.points,
            *([series.c.divisor.cast(number).label("divisor"), filled.c.divisors] if "divisor" in series.c else []),
        )
        .select_from(head.outerjoin(body, true()))
        .order_by(series.c.position)
    )


def _totals(points: Any, *, empty: bool = False) -> list[Label[Any]]:
    """The sums over points: `total`, and of a ratio its `divisor`; 0 without points, which are then `empty`."""
    sums = {"total": func.sum(points.c.value)}
    if "divisor" in points.c:
        sums["divisor"] = func.sum(points.c.divisor)
    return [(func.coalesce(added, 0) if empty else added).label(name) for name, added in sums.items()]


def _ranked(points: Any, top: int, kept: Sequence[str | None] | None = None) -> tuple[Any, Any]:
    total = func.sum(points.c.value)
    rank = func.row_number().over(order_by=[total.desc(), points.c.key.is_(None), points.c.key.collate("C")])
    position = func.least(rank, top + 1) if top else rank
    if kept is not None:  # array_position finds NULL, too
        top = len(kept)
        position = func.coalesce(func.array_position(literal(list(kept), ARRAY(Text)), points.c.key), top + 1)
    totals = _totals(points)
    ranked = select(points.c.key, *totals, position.label("position")).group_by(points.c.key).cte("ranked")
    folds = bool(top) or kept is not None
    folded: ColumnElement[bool] = ranked.c.position > top if folds else literal(False)
    only = func.max(ranked.c.key.collate("C"))
    series = (
        select(
            ranked.c.position,
            case((folded, "other"), (only.is_(None), "missing"), else_="value").label("kind"),
            case((~folded, only)).label("key"),
            *(func.sum(ranked.c[column.name]).label(column.name) for column in totals),
            func.count(ranked.c.key).label("members"),
            func.bool_or(and_(folded, ranked.c.key.is_(None))).label("with_missing"),
        )
        .group_by(ranked.c.position)
        .cte("series")
    )
    return ranked, series
