"""Days with zeros at hours of the week at which a customer's metric usually has none.

Where zero is usual at night or at weekends, a day on which a meter reports nothing but zero has few more zeros than
others. It is compared with the same hours of the weeks before.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Double,
    Integer,
    Numeric,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    cast,
    extract,
    func,
    literal,
    select,
)

from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import day_edges, day_number, preceding

BOUNDS = CheckBounds("quantities")

# fmt: off
CHANCE_DEVIATIONS = BOUNDS.add("chance_deviations", 6, "deviations", 1, 100,
    "Square roots of the expected number by which a day must exceed it; and by half as many events beside.")

HISTORY = BOUNDS.add("history", timedelta(weeks=8), "weeks", 1, 52,
    "Time before the period that says what quantities a customer's metric has.")

MIN_HISTORY_EVENTS = BOUNDS.add("min_history_events", 20, "events", 1, 1000000,
    "Events of a customer's metric before the period, at least, that say how many are zero or negative.")

MAX_USUAL_ZERO_SHARE = BOUNDS.add("max_usual_zero_share", Decimal("0.5"), "share", 0, 1,
    "Share of a customer's events of the metric at an hour of the week, before the period, below which zero is "
    "unusual.")

MIN_HOUR_EVENTS = BOUNDS.add("min_hour_events", 3, "events", 1, 100000,
    "Events of a customer's metric at an hour of the week before the period, at least, that say what is usual then.")
# fmt: on


def chance_bound(expected: ColumnElement[Any]) -> ColumnElement[Any]:
    """The number of events that chance does not exceed."""
    return expected + CHANCE_DEVIATIONS() * func.sqrt(expected) + CHANCE_DEVIATIONS() / 2


def zero_series(table: Table, period: Period) -> Select[Any]:
    """The `customer_id` and `metric_key` of zeros of the period."""
    c = table.c
    return select(c.customer_id, c.metric_key).where(*conditions(table, period), c.quantity == 0).distinct()


def zero_hours(table: Table, period: Period, before: Period, series: Sequence[tuple[UUID, str]]) -> Select[Any]:
    """The days of these customers' metrics with more zeros than the same hours of the week have in the time `before`.

    Only the hours are compared at which zero is not usual, and only if it is at others. Columns: `customer_id`,
    `metric_key`, `day` integer (of `day_edges`), `events` bigint: the zeros of the day, `expected` double precision.
    """
    c = table.c
    wanted = (
        func.unnest(
            array((customer for customer, _ in series), Uuid()), array((metric for _, metric in series), Text())
        )
        .table_valued("customer", "metric")
        .render_derived(name="wanted")
    )
    local = func.timezone(period.zone.key, c.timestamp)
    hour = cast(extract("isodow", local) * 24 + extract("hour", local), Integer).label("hour")
    of_series = and_(c.customer_id == wanted.c.customer, c.metric_key == wanted.c.metric)
    counts = func.count().label("events"), func.count().filter(c.quantity == 0).label("zeros")
    history = (
        select(c.customer_id, c.metric_key, hour, *counts)
        .join_from(table, wanted, of_series)
        .where(*conditions(table, before))
        .group_by(c.customer_id, c.metric_key, hour)
        .cte("zero_history")
    )
    day = day_number(c.timestamp, day_edges(period)).label("day")
    now = (
        select(c.customer_id, c.metric_key, day, hour, *counts)
        .join_from(table, wanted, of_series)
        .where(*conditions(table, period))
        .group_by(c.customer_id, c.metric_key, day, hour)
        .cte("zero_now")
    )
    h, n = history.c, now.c
    is_busy = and_(h.events >= MIN_HOUR_EVENTS(), h.zeros < MAX_USUAL_ZERO_SHARE() * h.events)
    days = (
        select(
            n.customer_id,
            n.metric_key,
            n.day,
            func.sum(n.zeros).label("events"),
            func.coalesce(func.sum(n.zeros).filter(is_busy), 0).cast(Double).label("busy_zeros"),
            func.coalesce(func.sum(n.events).filter(is_busy), 0).cast(Double).label("busy_events"),
            (func.sum(h.zeros).filter(is_busy) + 1).cast(Double).label("zeros_before"),
            (func.sum(h.events).filter(is_busy) + 2).cast(Double).label("events_before"),
        )
        .join_from(now, history, and_(n.customer_id == h.customer_id, n.metric_key == h.metric_key, n.hour == h.hour))
        .group_by(n.customer_id, n.metric_key, n.day)
        .cte("zero_days")
    )
    usual = (
        select(h.customer_id, h.metric_key)
        .group_by(h.customer_id, h.metric_key)
        .having(func.sum(h.events) >= MIN_HISTORY_EVENTS(), func.bool_or(h.zeros >= MAX_USUAL_ZERO_SHARE() * h.events))
        .cte("usual_zeros")
    )
    d, u = days.c, usual.c
    expected = d.busy_events * d.zeros_before / d.events_before
    return (
        select(
            d.customer_id,
            d.metric_key,
            d.day,
            d.events,
            literal(Decimal(0), Numeric).label("quantity"),
            (d.events - d.busy_zeros + expected).label("expected"),
        )
        .join_from(days, usual, and_(d.customer_id == u.customer_id, d.metric_key == u.metric_key))
        .where(d.busy_zeros > chance_bound(expected))
        .order_by(d.customer_id, d.metric_key, d.day)
    )


def zeros_at_busy_hours(examination: Examination) -> list[Any]:
    """The rows of `zero_hours` of all customers' metrics with zeros."""
    table, period = examination.table, examination.period
    before = preceding(period, HISTORY())
    series = [(row.customer_id, row.metric_key) for row in examination.extracted_rows(zero_series(table, period))]
    return list(examination.rows(zero_hours(table, period, before, series))) if before and series else []
