"""What a customer's own usage of each metric came to: the measure of how much of it an incident concerns."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, Uuid, any_, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.decimals import ratio
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Examination

Usage = Mapping[tuple[UUID, str], tuple[int, Decimal]]
"""(events, quantity) by customer and metric."""

LARGE = Decimal("0.1")
"""The part of a customer's own usage from which few events are as grave as many."""

_FEW = 200
"""Customers that are looked up in their index; more are met while reading the whole period."""


def statement(table: Table, period: Period, customers: Collection[UUID]) -> Select[Any]:
    """The usage of the customers in the period: `customer_id`, `metric_key`, `events` bigint, `quantity` numeric."""
    c = table.c
    found = select(c.customer_id, c.metric_key, func.count().label("events"), func.sum(c.quantity).label("quantity"))
    found = found.where(*conditions(table, period)).group_by(c.customer_id, c.metric_key)
    if len(customers) <= _FEW:
        found = found.where(c.customer_id == any_(cast(literal(list(customers), ARRAY(Uuid())), ARRAY(Uuid()))))
    return found


def own_usage(examination: Examination, customers: Collection[UUID]) -> Usage:
    """The usage of at least these customers in the period."""
    if not customers:
        return {}
    rows = examination.rows(statement(examination.table, examination.period, customers))
    return {(row.customer_id, row.metric_key): (row.events, row.quantity) for row in rows}


def part(affected: int | Decimal, whole: int | Decimal) -> Decimal:
    """What part of the whole that is, unsigned; of nothing, and where either is NaN or infinite, it is 1."""
    one, other = Decimal(affected), Decimal(whole)
    if not (one.is_finite() and other.is_finite()):
        return Decimal(1)
    return ratio(one, other).copy_abs() if other else Decimal(bool(one))
