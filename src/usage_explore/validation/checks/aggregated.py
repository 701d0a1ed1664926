"""The rows of a load that has the usage of other events of the period, summed up to days or split into finer times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    CTE,
    Boolean,
    ColumnElement,
    Select,
    Table,
    Text,
    and_,
    case,
    exists,
    func,
    literal,
    literal_column,
    not_,
    or_,
    select,
    tuple_,
)
from sqlalchemy.dialects.postgresql import JSONB

from usage_explore.load.aggregated import IS_AGGREGATED, LABELS
from usage_explore.load.loaded_again import MIN_EVIDENCE
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.batches import batch_columns, batched
from usage_explore.validation.check import Examination

AGGREGATED = "aggregated"


def aggregated(examination: Examination) -> Sequence[Any]:
    """The rows of `aggregated_rows`; labels are read where sums are equal."""
    table, period = examination.table, examination.period
    if not list(examination.rows(aggregated_rows(table, period, with_labels=False))):
        return ()
    return list(examination.rows(aggregated_rows(table, period)))


def aggregated_rows(table: Table, period: Period, *, with_labels: bool = True) -> Select[Any]:
    """The rows of loads without keys with the sums of all other events by customer, metric and day, see `batched`.

    Days are those of the period's time zone. Of two such loads it is the later one. `loads` has their arrivals. A load
    that names other products, servers or the like than all other events of a customer's metric is not compared there,
    `with_labels`.
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
        .add_columns(func.nullif(func.max(func.abs(c.quantity)), 0).label("largest"))
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
        .add_columns(func.min(b.largest).over(**of_day).label("finest"))
        .cte("days")
        .prefix_with("MATERIALIZED", dialect="postgresql")
    )
    d = days.c
    of_same: list[ColumnElement[bool]] = []
    if with_labels:
        apart = _apart(table, load, within).c
        series = select(apart.customer_id, apart.metric_key, apart.load)
        of_same.append(tuple_(d.customer_id, d.metric_key, d.load).not_in(series))
    found = (
        select(d.load, func.bool_or(d.is_later).label("is_later"))
        .where(d.load.is_not(None), d.others > 0, or_(d.total != 0, d.other != 0), *of_same)
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
        .where(*within, d.total == d.other, *of_same)
        .cte("aggregated")
    )
    loads = select(func.array_agg(chosen.c.load)).scalar_subquery()
    return batched(rows).add_columns(loads.label("loads"))


def _apart(table: Table, load: ColumnElement[Any], within: Sequence[ColumnElement[bool]]) -> CTE:
    """The customers' metrics of loads which have, of a label that the other events have, too, none of their values."""
    c = table.c
    labelled = (
        select(c.customer_id, c.metric_key, load.label("load"), literal_column(LABELS, JSONB()).label("labels"))
        .where(*within)
        .cte("labelled")
    )
    r = labelled.c
    label = func.jsonb_each_text(r.labels).table_valued("key", "value").render_derived(name="label")
    key, value = label.c.key.cast(Text).label("key"), label.c.value.cast(Text).label("value")
    series = [r.customer_id, r.metric_key, key]
    rows = func.count()
    of_all = func.sum(rows)
    values = (
        select(*series, r.load, value, rows.label("rows"))
        .add_columns(of_all.over(partition_by=series).label("of_key"))
        .add_columns((of_all.over(partition_by=[*series, value]) > rows).label("is_shared"))
        .select_from(labelled.join(label, literal(True)))
        .group_by(*series, r.load, value)
        .cte("of_values")
    )
    v = values.c
    return (
        select(v.customer_id, v.metric_key, v.load)
        .where(v.load.is_not(None))
        .group_by(v.customer_id, v.metric_key, v.load, v.key)
        .having(and_(func.max(v.of_key) > func.sum(v.rows), not_(func.bool_or(v.is_shared))))
        .cte("apart")
    )
