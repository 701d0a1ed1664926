"""The statement of an aggregate: buckets, ranks, folds and fills with zeros in the database, exactly.

It returns one row per series, with its points as an array in bucket order. If the answer would have more than
`MAX_POINTS` points, it returns one row without a series, with the number of series. Its steps:

    points   events, or rows of the rollup, by bucket and key (module `buckets`)
    ranked   keys by total, descending; ties by key in code-point order, the missing key last among equals
    series   the first `top` keys, and all others folded into one position
    cells    points by series
    filled   every series × every bucket, zero where nothing happened
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Integer,
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
)
from sqlalchemy.dialects.postgresql import aggregate_order_by

from usage_explore.query.limits import MAX_POINTS
from usage_explore.query.queries import AggregateQuery
from usage_explore.sql.buckets import events_points, rollup_points
from usage_explore.sql.rollup_plan import Serving


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
