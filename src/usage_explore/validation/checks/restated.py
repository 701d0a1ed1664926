"""Rows of an export that were loaded again with other amounts, such as a month's costs after a correction.

Rows without an idempotency key get a hash of the row as theirs, so that a row whose cost changed is a new event. Such
an event is like one of an earlier load in time, customer, metric and all else but amounts: quantity, cost, and
dimensions that are numbers and named like an amount, or have decimals.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Select, Table, Text, and_, extract, func, literal, not_, or_, select
from sqlalchemy.dialects.postgresql import JSONB

from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.batches import batch_columns, batched

RESTATED = "restated"

GRID = 900
"""Exports tell usage by the hour or the day; a time that is no multiple of this many seconds is of no export."""

_ROW_HASH = r"^row:[0-9a-f]{32}(#[0-9]+)?$"
_NUMBER = r"^[+-]?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$"
_AMOUNT = "cost|price|quantity|amount|rate|fee|charge|tax|discount|usage|total"


def exported(table: Table) -> ColumnElement[bool]:
    """Whether an event is a row of an export: its key a hash of the row, its time on the grid."""
    c = table.c
    on_grid = func.mod(extract("epoch", c.timestamp), GRID) == 0
    return and_(c.idempotency_key.like("row:%"), c.idempotency_key.regexp_match(_ROW_HASH), on_grid)


def statement(table: Table, period: Period) -> Select[Any]:
    """The restated rows of a resolved period whose quantity or dimensions differ, see `batched`.

    Those that differ in cost alone are look-alikes. Of each identity as many rows of a later load as the first load
    has are restated; further ones are new.
    """
    c = table.c
    within = [*conditions(table, period), exported(table)]
    covered = [c.timestamp, c.customer_id, c.metric_key]
    loaded_again = (
        select(*covered)
        .where(*within)
        .group_by(*covered)
        .having(func.min(c.ingested_at) < func.max(c.ingested_at))
        .cte("loaded_again")
    )
    identity = [*covered, c.product_id, c.subscription_id, c.price_key, c.external_cost_currency, c.wallet_currency]
    again = loaded_again.c
    each = (
        select(
            *batch_columns(table),
            *(c[name] for name in ("product_id", "subscription_id", "price_key", "wallet_currency", "id")),
            c.dimensions,
            _without_amounts(table).label("named"),
        )
        .join(
            loaded_again,
            and_(c.timestamp == again.timestamp, c.customer_id == again.customer_id, c.metric_key == again.metric_key),
        )
        .where(*within)
        .cte("each")
    )
    e = each.c
    identified = [*(e[column.name] for column in identity), e.named]
    first = func.min(e.ingested_at).over(partition_by=identified)
    placed = select(
        each,
        first.label("first_load"),
        func.row_number()
        .over(partition_by=[*identified, e.quantity, e.dimensions], order_by=[e.ingested_at, e.id])
        .label("of_content"),
        func.row_number().over(partition_by=[*identified, e.ingested_at], order_by=[e.id]).label("of_load"),
    ).cte("placed")
    m = placed.c
    sized = select(
        placed,
        func.count()
        .filter(m.ingested_at == m.first_load)
        .over(partition_by=[*(m[column.name] for column in identity), m.named])
        .label("size"),
    ).cte("sized")
    s = sized.c
    found = (
        select(*(s[column.name] for column in batch_columns(table)), literal(RESTATED).label("kind"))
        .where(s.ingested_at > s.first_load, s.of_content == 1, s.of_load <= s.size)
        .cte("restated")
    )
    return batched(found)


def _without_amounts(table: Table) -> ColumnElement[Any]:
    """The dimensions of an event that are no amounts; NULL where none is left."""
    each = func.jsonb_each_text(table.c.dimensions).table_valued("key", "value").render_derived(name="each")
    number = each.c.value.cast(Text).regexp_match(_NUMBER)
    amount = and_(
        number, or_(each.c.value.cast(Text).contains("."), each.c.key.cast(Text).regexp_match(_AMOUNT, flags="i"))
    )
    kept = select(func.jsonb_object_agg(each.c.key, each.c.value, type_=JSONB)).where(
        or_(each.c.value.is_(None), not_(amount))
    )
    return kept.scalar_subquery()
