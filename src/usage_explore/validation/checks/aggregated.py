"""The rows of a load that has the usage of other events of the period, summed up to days or split into finer times."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Boolean, Select, Table, and_, case, exists, func, literal, literal_column, not_, or_, select

from usage_explore.load.aggregated import IS_AGGREGATED
from usage_explore.load.loaded_again import MIN_EVIDENCE
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.batches import batch_columns, batched

AGGREGATED = "aggregated"


def aggregated_rows(table: Table, period: Period) -> Select[Any]:
    """The rows of loads without keys with the sums of all other events by customer, metric and day, see `batched`.

    Days are those of the period's time zone. Of two such loads it is the later one. `loads` has their arrivals.
    """
    c = table.c
    within = conditions(table, period)
    exported = (
        select(c.ingested_at)
        .where(*within, c.idempotency_key.like("row:%"))
        .group_by(c.ingested_at)
        .having(func.count() >= MIN_EVIDENCE)
    )
    load = case((c.ingested_at.in_(exported), c.ingested_at))
    day = func.date_trunc("day", c.timestamp, period.timezone)
    by_load = (
        select(c.customer_id, c.metric_key, day.label("day"), load.label("load"))
        .add_columns(func.sum(c.quantity).label("total"), func.count().label("rows"))
        .add_columns(func.min(c.ingested_at).label("arrived"))
        .where(*within)
        .group_by(c.customer_id, c.metric_key, day, load)
        .cte("by_load")
    )
    b = by_load.c
    of_day: dict[str, Any] = {"partition_by": [b.customer_id, b.metric_key, b.day]}
    days = (
        select(by_load)
        .add_columns((func.sum(b.total).over(**of_day) - b.total).label("other"))
        .add_columns((func.sum(b.rows).over(**of_day) - b.rows).label("others"))
        .add_columns((b.arrived > func.min(b.arrived).over(**of_day)).label("is_later"))
        .cte("days")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    d = days.c
    found = (
        select(d.load, func.bool_or(d.is_later).label("is_later"))
        .where(d.load.is_not(None), d.others > 0, or_(d.total != 0, d.other != 0))
        .group_by(d.load)
        .having(literal_column(IS_AGGREGATED, Boolean()))
        .cte("found")
    )
    later = found.alias("later")
    chosen = (
        select(found.c.load)
        .where(or_(found.c.is_later, not_(exists().where(later.c.is_later).select_from(later))))
        .cte("chosen")
    )
    of_days = and_(c.ingested_at == d.load, c.customer_id == d.customer_id, c.metric_key == d.metric_key, day == d.day)
    rows = (
        select(*batch_columns(table), literal(AGGREGATED).label("kind"))
        .join(days, of_days)
        .join(chosen, chosen.c.load == d.load)
        .where(*within, d.total == d.other)
        .cte("aggregated")
    )
    loads = select(func.array_agg(chosen.c.load)).scalar_subquery()
    return batched(rows).add_columns(loads.label("loads"))
