"""What a period came to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection, Table, func, select

from usage_explore.numbers import exact_sum
from usage_explore.query import Period
from usage_explore.statements import conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Events, (events, quantity) by metric, and cost by currency (None: of costs without one)."""

    events: int
    metrics: Mapping[str, tuple[int, Decimal]]
    costs: Mapping[str | None, Decimal]


def totals(connection: Connection, table: Table, period: Period) -> Totals:
    """The totals of a resolved period, exact."""
    c = table.c
    statement = (
        select(
            c.metric_key, c.external_cost_currency, func.count(), func.sum(c.quantity), func.sum(c.external_cost_amount)
        )
        .where(*conditions(table, period))
        .group_by(c.metric_key, c.external_cost_currency)
    )
    metrics: dict[str, tuple[int, Decimal]] = {}
    costs: dict[str | None, Decimal] = {}
    for metric, currency, events, quantity, cost in connection.execute(statement):
        before = metrics.get(metric, (0, Decimal(0)))
        metrics[metric] = before[0] + events, _sum(before[1], quantity)
        if cost is not None:
            costs[currency] = _sum(costs.get(currency, Decimal(0)), cost)
    return Totals(events=sum(events for events, _ in metrics.values()), metrics=metrics, costs=costs)


def _sum(one: Decimal, other: Decimal) -> Decimal:
    return Decimal(exact_sum((one, other), Decimal(0)))
