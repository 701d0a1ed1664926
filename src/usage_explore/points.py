"""Events to points: (bucket, key, value), the first step of an aggregate, from the events or from the rollup.

Both give the same points to the last digit, as common table expressions with the columns `bucket` integer (from 1),
`key` text (where the question groups) and `value` (bigint for counts, else numeric).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, cast

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    DateTime,
    Integer,
    Interval,
    Label,
    Select,
    Table,
    Text,
    func,
    literal,
    select,
    union_all,
)
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.expression import CTE

from usage_explore.filters import ID_COLUMNS
from usage_explore.query import AggregateQuery
from usage_explore.rollup.serving import DAY, Serving
from usage_explore.rollup.tables import rollup_table
from usage_explore.statements import conditions, expression, filters, scope

_STEPS = (timedelta(weeks=1), timedelta(days=1), timedelta(hours=1), timedelta(minutes=15))
_INSTANT = DateTime(timezone=True)
_PROBES = 1_000
"""Slots that are looked up one by one for a value, rather than all values of all slots read."""


def events_points(table: Table, query: AggregateQuery) -> CTE:
    """The points from the events: first to even slots of time, then the few slots to buckets."""
    edges = query.edges()
    key = _key(lambda group: expression(table, group), query)
    slot = _slot(table.c.timestamp, edges).label("slot")
    measured = func.count() if query.metric == "count" else func.sum(table.c.quantity)
    slots = (
        select(slot, *key, measured.label("value")).where(*conditions(table, query)).group_by(slot, *key).cte("slots")
    )
    bucket = _bucket(slots.c.slot, edges)
    keys = [slots.c.key] if key else []
    return select(bucket, *keys, func.sum(slots.c.value).label("value")).group_by(bucket, *keys).cte("points")


def rollup_points(table: Table, query: AggregateQuery, serving: Serving) -> CTE:
    """The points from the rollup's whole slots, with the window's edges and the tail from the events."""
    pieces = union_all(
        _whole(rollup_table(table), query, serving),
        _piece(table, query, 1, table.c.ingested_at >= serving.known),
        *(
            _piece(
                table,
                query.replace(since=edge.since, until=edge.until, as_of=None),
                edge.sign,
                table.c.ingested_at < serving.known,
                query.edges(),
            )
            for edge in serving.edges
        ),
    ).subquery("pieces")
    keys = [pieces.c.key] if query.group_by != "none" else []
    value = func.sum(pieces.c.value).label("value")
    return (
        select(pieces.c.bucket, *keys, value)
        .group_by(pieces.c.bucket, *keys)
        .having(func.sum(pieces.c.events) != 0)
        .cte("points")
    )


def _whole(rows: Table, query: AggregateQuery, serving: Serving) -> Select[Any]:
    c = rows.c

    def column(group: str) -> ColumnElement[Any]:
        return c.metric_key if group == "metric_key" else c.value

    events = cast("ColumnElement[int]", func.sum(c.events)).cast(BigInteger)
    value = events if query.metric == "count" else func.sum(c.quantity)
    key = _key(column, query)
    bucket = _bucket(c.slot, query.edges())
    return (
        select(bucket, *key, events.label("events"), value.label("value"))
        .where(
            scope(c.organization_id, query),
            c.dimension == serving.kept.dimension,
            *_slots(c.slot, query, serving),
            c.ingested < serving.known,
            *filters(column, query),
        )
        .group_by(bucket, *key)
    )


def _slots(slot: ColumnElement[datetime], query: AggregateQuery, serving: Serving) -> list[ColumnElement[bool]]:
    """The whole slots: as a range, or one by one where only some values are asked for, which the index finds then."""
    found = [slot >= serving.first, slot < serving.last]
    grain = serving.kept.grain
    number = (serving.last - serving.first) // grain
    columns = (*ID_COLUMNS, "price_key", "wallet_currency")
    some = bool(query.dimensions) or any(getattr(query, name) for name in columns)
    if some and grain == DAY and number <= _PROBES:
        every = [serving.first + place * grain for place in range(number)]
        found.append(slot == func.any(literal(every, ARRAY(_INSTANT)).cast(ARRAY(_INSTANT))))
    return found


def _piece(
    table: Table,
    query: AggregateQuery,
    sign: int,
    condition: ColumnElement[bool],
    edges: tuple[datetime, ...] | None = None,
) -> Select[Any]:
    """Some of the events, added or taken away."""
    key = _key(lambda group: expression(table, group), query)
    events = func.count() * literal(sign, Integer)
    value = events if query.metric == "count" else func.sum(table.c.quantity) * literal(sign, Integer)
    bucket = _bucket(table.c.timestamp, edges or query.edges())
    return (
        select(bucket, *key, events.label("events"), value.label("value"))
        .where(*conditions(table, query), condition)
        .group_by(bucket, *key)
    )


def _key(column: Callable[[str], ColumnElement[Any]], query: AggregateQuery) -> list[Label[Any]]:
    return [column(query.group_by).cast(Text).label("key")] if query.group_by != "none" else []


def _bucket(instant: ColumnElement[datetime], edges: tuple[datetime, ...]) -> Label[Any]:
    bounds = literal(list(edges), ARRAY(_INSTANT)).cast(ARRAY(_INSTANT))
    return func.width_bucket(instant, bounds).label("bucket")


def _slot(timestamp: ColumnElement[datetime], edges: tuple[datetime, ...]) -> ColumnElement[datetime]:
    """The even slot of time an event falls into, or its very time where no even slot fits the edges."""
    for step in _STEPS:
        if all((edge - edges[0]) % step == timedelta(0) for edge in edges):
            return func.date_bin(literal(step, Interval), timestamp, literal(edges[0], _INSTANT), type_=_INSTANT)
    return timestamp
