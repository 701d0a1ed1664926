"""The totals of a period, shares of them, and its events that are not examined yet."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, Text, func, select

from usage_explore.decimals import ratio, total
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Events, (events, quantity) by metric, and cost by currency (None: of costs without one).

    `spellings` has the events of each currency by how it is written: {"USD": {"USD": 900, "usd": 3}}.
    """

    events: int
    metrics: Mapping[str, tuple[int, Decimal]]
    costs: Mapping[str | None, Decimal]
    spellings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexamined:
    """Events of the period that arrived after its `as_of`.

    `latest` is the last `ingested_at` of them. `settled_at` is the time from which a validation includes them all
    without an `as_of` of its own; None where the period was examined as of a given time.
    """

    events: int
    latest: datetime
    settled_at: datetime | None


_UPPER = str.maketrans(string.ascii_lowercase, string.ascii_uppercase)


def currency_code(text: str | None) -> str | None:
    """A currency with its ASCII letters in upper case: `usd` and `USD` are one."""
    return None if text is None else text.translate(_UPPER)


def currency_codes(column: ColumnElement[Any]) -> ColumnElement[Any]:
    """The `currency_code` of each value of a text column."""
    return func.upper(column.collate("C"), type_=Text)


def part(affected: int | Decimal, whole: int | Decimal) -> Decimal:
    """`affected` as a share of the whole, unsigned; 1 of nothing, and where either is NaN or infinite."""
    one, other = Decimal(affected), Decimal(whole)
    if not (one.is_finite() and other.is_finite()):
        return Decimal(1)  # shares are compared, which NaN cannot be
    return ratio(one, other).copy_abs() if other else Decimal(bool(one))


def unexamined(connection: Connection, table: Table, period: Period, settle: timedelta | None) -> Unexamined | None:
    """What arrived after the resolved period's `as_of`, None for nothing. `settle` is None where `as_of` was given."""
    if period.as_of is None:
        return None
    c = table.c
    statement = select(func.count(), func.max(c.ingested_at)).where(
        *conditions(table, period.replace(as_of=None)), c.ingested_at > period.as_of, c.ingested_at < validators.LATEST
    )
    events, latest = connection.execute(statement).one()
    return (
        Unexamined(events=events, latest=latest, settled_at=latest + settle if settle is not None else None)
        if events
        else None
    )


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
    spellings: dict[str, Counter[str]] = {}
    for metric, spelling, events, quantity, cost in connection.execute(statement):
        before = metrics.get(metric, (0, Decimal(0)))
        metrics[metric] = before[0] + events, total((before[1], quantity))
        currency = currency_code(spelling)
        if currency is not None:
            spellings.setdefault(currency, Counter())[spelling] += events
        if cost is not None:
            costs[currency] = total((costs.get(currency, Decimal(0)), cost))
    events = sum(events for events, _ in metrics.values())
    return Totals(events=events, metrics=metrics, costs=costs, spellings=spellings)
