"""How large each customer's quantities of a metric are in a period and before it, for the checks that compare them."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Double, Numeric, Select, Table, case, func, literal, select

from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import earlier

BOUNDS = CheckBounds("common")

# fmt: off
SIZE_HISTORY = BOUNDS.add("size_history", timedelta(weeks=8), "weeks", 1, 52,
    "Time before the period that says how large a customer's quantities are.")

MIN_HISTORY_QUANTITIES = BOUNDS.add("min_history_quantities", 20, "events", 1, 1000000,
    "Positive quantities of a customer's metric before the period, at least, that say how large they are.")

MIN_HISTORY_SPAN = BOUNDS.add("min_history_span", timedelta(days=5), "days", 0, 400,
    "Time from the first to the last of these quantities, at least.")

SMALLEST_DEVIATION = BOUNDS.add("smallest_deviation", 0.05, "logarithm", 0.001, 10,
    "The least standard deviation of logarithms: many customers send the same quantity every time.")
# fmt: on


def sizes(table: Table, period: Period) -> Select[Any]:
    """How large the positive quantities of a resolved period are, and those of the weeks before it.

    Columns: `customer_id`, `metric_key`, `largest` numeric (NULL without any in the period), then of those before:
    `before` bigint, `usual` (the largest) and `quantity_before` numeric, `began`, `ended` timestamptz, and of their
    natural logarithms the number `logs` bigint, the sum `log_sum` and the sum of squares `log_squares` double
    precision; the same of those in the period as `period_logs`, `period_log_sum` and `period_log_squares`.
    """
    c = table.c
    since = literal(period.span[0], c.timestamp.type)
    before = c.timestamp < since
    # beyond these a cast to double precision could fail
    in_range = c.quantity.between(literal(Decimal("1E-150"), Numeric), literal(Decimal("1E150"), Numeric))
    logarithm = case((in_range, func.ln(c.quantity.cast(Double)))).cast(Double)
    return (
        select(
            c.customer_id,
            c.metric_key,
            func.max(c.quantity).filter(~before).label("largest"),
            func.count().filter(before).label("before"),
            func.max(c.quantity).filter(before).label("usual"),
            func.coalesce(func.sum(c.quantity).filter(before), 0).label("quantity_before"),
            func.min(c.timestamp).filter(before).label("began"),
            func.max(c.timestamp).filter(before).label("ended"),
            func.count(logarithm).filter(before).label("logs"),
            func.coalesce(func.sum(logarithm).filter(before), 0.0).label("log_sum"),
            func.coalesce(func.sum(logarithm * logarithm).filter(before), 0.0).label("log_squares"),
            func.count(logarithm).filter(~before).label("period_logs"),
            func.coalesce(func.sum(logarithm).filter(~before), 0.0).label("period_log_sum"),
            func.coalesce(func.sum(logarithm * logarithm).filter(~before), 0.0).label("period_log_squares"),
        )
        .where(*conditions(table, period.replace(since=earlier(period.span[0], SIZE_HISTORY()))), *countable(table))
        .group_by(c.customer_id, c.metric_key)
    )


def countable(table: Table) -> list[ColumnElement[bool]]:
    """Positive and finite: in PostgreSQL's order infinity and NaN follow every number."""
    quantity = table.c.quantity
    return [quantity > 0, quantity < literal(Decimal("Infinity"), Numeric)]


def size_rows(examination: Examination) -> list[Any]:
    """The rows of `sizes`, computed once for all checks of an examination."""
    if "sizes" not in examination.shared:
        examination.shared["sizes"] = list(examination.extracted_rows(sizes(examination.table, examination.period)))
    result: list[Any] = examination.shared["sizes"]
    return result
