"""What usage is rated by, and how much of whose usage lacks it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Interval, Select, Table, cast, func, literal, select

from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.totals import part

DAY = timedelta(days=1)

COLUMNS = {"price_key": "price", "product_id": "product", "subscription_id": "subscription"}
"""What usage is rated by, and what people call it."""

DAY_FLOOR = 3
"""Fewer events missing it on a day do not make that day conspicuous."""

MOSTLY = Decimal("0.5")
"""A metric has something where at least this part of its customers have it on at least this part of their events;
from this part of a customer's events on, what is missing there, or on a day, is that customer's own finding."""

FLOOR = 10
"""Fewer events of a customer's metric are told together with those of others."""


@dataclass(frozen=True, slots=True)
class Usage:
    """A customer's usage of a metric: `events`, how many are `missing` a column, and how many of these on some days.

    `burst` are missing on days when at least half are, from the day that begins at `since` to the one at `until`.
    """

    customer_id: UUID
    metric_key: str
    events: int
    missing: int
    burst: int
    since: datetime | None
    until: datetime | None

    @property
    def mostly_there(self) -> bool:
        """Whether at least half of the events have it."""
        return part(self.missing, self.events) <= MOSTLY

    @property
    def own(self) -> bool:
        """Whether so much is missing that it is a finding of its own."""
        return self.burst >= FLOOR or (self.missing >= FLOOR and not self.mostly_there)

    @classmethod
    def of(cls, row: Any, column: str) -> Usage:
        """A row of `statement` seen for one column."""
        counts = (getattr(row, f"{column}_{what}") for what in ("missing", "burst", "since", "until"))
        return cls(row.customer_id, row.metric_key, row.events, *counts)


def statement(table: Table, period: Period) -> Select[Any]:
    """Usage by `customer_id` and `metric_key`: `events`, and for each of `COLUMNS` how many are missing it.

    Further columns, bigint and timestamptz: `<column>_missing`, `<column>_burst` (missing on days when at least half
    are), `<column>_since` and `<column>_until` (the first and the last of those days). Days are of 24 hours from the
    period's start.
    """
    c = table.c
    day = func.date_bin(literal(DAY, Interval), c.timestamp, literal(period.span[0], c.timestamp.type)).label("day")
    events = func.count()
    days = (
        select(c.customer_id, c.metric_key, day, events.label("events"))
        .add_columns(*((events - func.count(c[name])).label(name) for name in COLUMNS))
        .where(*conditions(table, period))
        .group_by(c.customer_id, c.metric_key, day)
        .cte("days")
    )
    d = days.c
    found = [cast(func.sum(d.events), BigInteger).label("events")]
    for name in COLUMNS:
        missing = d[name]
        conspicuous = (missing >= DAY_FLOOR) & (missing * 2 >= d.events)
        found += [
            cast(func.sum(missing), BigInteger).label(f"{name}_missing"),
            cast(func.coalesce(func.sum(missing).filter(conspicuous), 0), BigInteger).label(f"{name}_burst"),
            func.min(d.day).filter(conspicuous).label(f"{name}_since"),
            func.max(d.day).filter(conspicuous).label(f"{name}_until"),
        ]
    return select(d.customer_id, d.metric_key, *found).group_by(d.customer_id, d.metric_key)


def never(usages: Iterable[Usage]) -> frozenset[UUID]:
    """The customers none of whose events has it."""
    there = {each.customer_id for each in usages if each.missing < each.events}
    return frozenset(each.customer_id for each in usages) - there


def having(usages: Iterable[Usage]) -> frozenset[str]:
    """The metrics that have it: half of their customers on half of their events."""
    customers: dict[str, list[bool]] = {}
    for each in usages:
        customers.setdefault(each.metric_key, []).append(each.mostly_there)
    return frozenset(metric for metric, there in customers.items() if part(sum(there), len(there)) >= MOSTLY)
