"""How many events of a customer's metric agree in time and content, by day: the statements that `coincidences` judges.

Their columns are the fields of `coincidences.Counts`.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Interval,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    any_,
    case,
    distinct,
    extract,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import array as pg_array

from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions

DAY = timedelta(days=1)

GRIDS_SECONDS = tuple(map(Decimal, ("60", "1", "0.1", "0.01", "0.001", "0.000001")))
"""Seconds; grids of times from coarse to fine. A time is of the first that it lies on."""

_NEAR_STEPS = 10
"""Steps of a grid, one of which a coarser grid has: times within them say how many agree by chance."""

Series = tuple[UUID, str]


def statement(table: Table, period: Period, series: Sequence[Series], prompt: timedelta) -> Select[Any]:
    """The `Counts` of these customers' metrics by day of 24 hours.

    Columns: `customer_id`, `metric_key`, `day` timestamptz, and the fields of `Counts`, bigint, numeric or arrays of
    them. Events with one idempotency key count once. What arrives later than `prompt` after something is `slow`, or
    `apart` from it.
    """
    c = table.c
    wanted = (
        func.unnest(
            array((customer for customer, _ in series), Uuid()),
            array((metric for _, metric in series), Text()),
        )
        .table_valued("customer", "metric")
        .render_derived(name="wanted")
    )
    content = [c.customer_id, c.metric_key, c.timestamp, c.quantity, c.dimensions]
    cells = (
        select(*content, func.count(distinct(c.idempotency_key)).label("number"), day(c.timestamp, period).label("day"))
        .add_columns(func.min(c.ingested_at).label("first"), func.max(c.ingested_at).label("last"))
        .join_from(table, wanted, and_(c.customer_id == wanted.c.customer, c.metric_key == wanted.c.metric))
        .where(*conditions(table, period))
        .group_by(*content)
        .cte("cells")
    )
    x = cells.c
    whose = [x.customer_id, x.metric_key]
    placed = select(cells, func.dense_rank().over(partition_by=whose, order_by=x.timestamp).label("place")).cte(
        "placed"
    )
    p = placed.c
    same: dict[str, Any] = {
        "partition_by": [p.customer_id, p.metric_key, p.quantity, p.dimensions],
        "order_by": p.timestamp,
    }
    linked = select(
        placed,
        func.lag(p.place).over(**same).label("place_before"),
        func.lag(p.number).over(**same).label("number_before"),
    ).cte("linked")
    k = linked.c
    by_time = [k.customer_id, k.metric_key, k.day, k.timestamp]
    times = (
        select(
            *by_time,
            func.sum(k.number).label("events"),
            func.count().label("cells"),
            func.count().filter(k.number == 2).label("twins"),
            func.count().filter(k.first > k.timestamp + literal(prompt)).label("slow"),
            func.count().filter(k.number > 1, k.last > k.first + literal(prompt)).label("apart"),
            func.count().filter(k.number > 1).label("repeated"),
            func.sum(k.number * (k.number - 1) / 2).label("equal"),
            func.bool_and(func.mod(k.number, 2) == 0).label("is_even"),
            func.sum(k.number * k.number_before).filter(k.place_before == k.place - 1).label("partners"),
        )
        .group_by(*by_time)
        .cte("times")
    )
    t = times.c
    before = func.lag(t.events).over(partition_by=[t.customer_id, t.metric_key], order_by=t.timestamp)
    seconds = extract("epoch", t.timestamp)
    grid = case(*((func.mod(seconds, step) == 0, number) for number, step in enumerate(GRIDS_SECONDS)))
    timed = select(times, before.label("events_before"), seconds.label("seconds"), grid.label("grid")).cte("timed")
    w = timed.c
    span = case(*((w.grid == number, _NEAR_STEPS * step) for number, step in enumerate(GRIDS_SECONDS)))
    near = func.count().over(partition_by=[w.customer_id, w.metric_key, w.grid, func.div(w.seconds, span)])
    m = select(timed, near.label("near")).cte("spaced").c
    steps = _NEAR_STEPS - 1
    # pairs of n events in s steps: n² / 2s; n from the steps k that have any, n ≈ k where these are few
    chance = (m.near - 1) * steps / (2 * (steps - 1) * (func.greatest(steps - m.near, 0) + Decimal("0.5")))

    def by_grid(number: ColumnElement[Any]) -> ColumnElement[Any]:
        sums = (func.sum(number).filter(m.grid == place) for place in range(len(GRIDS_SECONDS)))
        return pg_array([func.coalesce(each, 0) for each in sums])

    by_day = [m.customer_id, m.metric_key, m.day]
    days = (
        select(
            *by_day,
            func.sum(m.events).label("events"),
            func.count().label("times"),
            func.sum(m.events * (m.events - 1) / 2).label("pairs"),
            func.sum(m.equal).label("equal"),
            func.coalesce(func.sum(m.events).filter(m.events > 1), 0).label("together"),
            func.count().filter(m.events > 1).label("shared"),
            func.count().filter(m.is_even).label("even"),
            func.sum(m.cells).label("cells"),
            func.sum(m.twins).label("twins"),
            func.sum(m.slow).label("slow"),
            func.sum(m.apart).label("apart"),
            func.sum(m.repeated).label("repeated"),
            func.sum(m.events * func.coalesce(m.events_before, 0)).label("neighbours"),
            func.sum(func.coalesce(m.partners, 0)).label("partners"),
            func.count(distinct(func.mod(m.seconds, 60))).label("offsets"),
            by_grid(literal(1)).label("grid_times"),
            by_grid(m.events * (m.events - 1) / 2).label("grid_pairs"),
            by_grid(chance).label("grid_chance"),
        )
        .group_by(*by_day)
        .cte("days")
    )
    by_content = (
        select(x.customer_id, x.metric_key, x.day, func.sum(x.number).label("events"))
        .group_by(x.customer_id, x.metric_key, x.day, x.quantity, x.dimensions)
        .cte("by_content")
    )
    b = by_content.c
    contents = (
        select(
            b.customer_id,
            b.metric_key,
            b.day,
            func.count().label("contents"),
            func.max(b.events).label("commonest"),
        )
        .group_by(b.customer_id, b.metric_key, b.day)
        .cte("contents")
    )
    d, n = days.c, contents.c
    return select(days, n.contents, n.commonest).join(
        contents, and_(d.customer_id == n.customer_id, d.metric_key == n.metric_key, d.day == n.day)
    )


def day(timestamp: ColumnElement[Any], period: Period) -> ColumnElement[Any]:
    """The start of the day of 24 hours, from the period's start, that an event lies in."""
    kind = timestamp.type
    return func.date_bin(literal(DAY, Interval), timestamp, literal(period.span[0], kind), type_=kind)


def shared_times(table: Table, period: Period, days: Sequence[datetime]) -> Select[Any]:
    """The events of times that a customer's metric has several events of, by `day`, of these days, of all series.

    Columns: `day` timestamptz, `pairs` and `together` numeric, see `Counts`.
    """
    c = table.c
    start = day(c.timestamp, period)
    times = (
        select(start.label("day"), func.count(distinct(c.idempotency_key)).label("events"))
        .where(*conditions(table, period), start == any_(array(days, c.timestamp.type)))
        .group_by(start.label("day"), c.customer_id, c.metric_key, c.timestamp)
        .having(func.count() > 1)
        .cte("times")
    )
    t = times.c
    return select(
        t.day,
        func.sum(t.events * (t.events - 1) / 2).label("pairs"),
        func.sum(t.events).filter(t.events > 1).label("together"),
    ).group_by(t.day)
