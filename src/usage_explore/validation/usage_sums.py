"""Usage that is told together: how much of it there is, whose, when, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Table, func, select

from usage_explore.decimals import exact_sum, plain
from usage_explore.formatting import data_value
from usage_explore.query import validators
from usage_explore.query.queries import EventQuery, Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Examination
from usage_explore.validation.customer_usage import part

INSTANT = timedelta(microseconds=1)
"""From the last event of a span to the span's end."""


def keys(table: Table) -> tuple[ColumnElement[Any], ...]:
    """What a statement groups by at least, for its rows to be added to a `Part`."""
    c = table.c
    return c.customer_id, c.metric_key, c.external_cost_currency.label("currency")


def measures(table: Table) -> tuple[ColumnElement[Any], ...]:
    """What a statement selects: `events` bigint, `quantity` and `cost` numeric, `first` and `last` timestamptz."""
    c = table.c
    return (
        func.count().label("events"),
        func.sum(c.quantity).label("quantity"),
        func.sum(c.external_cost_amount).label("cost"),
        func.min(c.timestamp).label("first"),
        func.max(c.timestamp).label("last"),
    )


@dataclass(slots=True)
class Part:
    """Some of a period's usage; `since` and `until` bound it, costs are by currency, None of costs without one."""

    since: datetime
    until: datetime
    events: int = 0
    quantities: dict[str, Decimal] = field(default_factory=dict)
    costs: dict[str | None, Decimal] = field(default_factory=dict)
    customers: set[UUID] = field(default_factory=set)

    @classmethod
    def of(cls, rows: Iterable[Any]) -> Part | None:
        """The rows together, None where there are none."""
        found: Part | None = None
        for row in rows:
            found = found or cls(row.first, row.last)
            found.add(row)
        return found

    def add(self, row: Any) -> None:
        """Take in a row that has the `keys` and the `measures`."""
        self.events += row.events
        self.customers.add(row.customer_id)
        self.quantities[row.metric_key] = total(self.quantities.get(row.metric_key), row.quantity)
        if row.cost is not None:
            self.costs[row.currency] = total(self.costs.get(row.currency), row.cost)
        self.since, self.until = min(self.since, row.first), max(self.until, row.last + INSTANT)

    def fields(self, examination: Examination) -> dict[str, Any]:
        """The fields of a `Finding` that say how much it is, and of which metric and customer where it is of one."""
        one = len(self.quantities) == 1
        return {
            "since": self.since,
            "until": self.until,
            "events": self.events,
            "quantity": next(iter(self.quantities.values())) if one else None,
            "metric_key": next(iter(self.quantities)) if one else None,
            "customer_id": next(iter(self.customers)) if len(self.customers) == 1 else None,
            "amounts": tuple(sorted((each, cost) for each, cost in self.costs.items() if each is not None)),
            "share": self.share(examination),
        }

    def share(self, examination: Examination) -> Decimal:
        """The largest part of what one of the metrics came to in the period."""
        return largest_share(examination, self.quantities)

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The quantity of each metric, and the cost that has no currency."""
        found = [(f"quantity of {data_value(metric)}", plain(each)) for metric, each in sorted(self.quantities.items())]
        if None in self.costs:
            found.append(("cost without a currency", plain(self.costs[None])))
        return tuple(found)

    @property
    def cost_words(self) -> str:
        """`12.5 EUR and 3 USD`."""
        known = sorted((each, cost) for each, cost in self.costs.items() if each is not None)
        return together([f"{plain(cost)} {data_value(currency)}" for currency, cost in known])


def largest_share(examination: Examination, quantities: Mapping[str, Decimal]) -> Decimal:
    """The largest part of what one of the metrics came to in the period; 1 where either is not finite."""
    metrics = examination.totals.metrics
    return max(part(quantity, metrics.get(metric, (0, quantity))[1]) for metric, quantity in quantities.items())


def has_ever(examination: Examination, name: str) -> bool:
    """Whether any event of the organization has the column, whatever the period and its filters."""
    period = Period(
        organization_id=examination.period.organization_id,
        since=validators.EARLIEST,
        until=validators.LATEST,
        as_of=examination.period.as_of,
    )
    return has(examination, name, period)


def has(examination: Examination, name: str, period: Period) -> bool:
    """Whether any event of the period has the column."""
    table = examination.table
    there = select(table.c[name]).where(*conditions(table, period), table.c[name].is_not(None)).limit(1)
    return examination.connection.execute(there).first() is not None


def count_series(examination: Examination, period: Period) -> int:
    """The number of customers' metrics with events in the period."""
    c = examination.table.c
    series = select(c.customer_id, c.metric_key).where(*conditions(examination.table, period)).distinct().subquery()
    return examination.connection.execute(select(func.count()).select_from(series)).scalar_one()


def closed(period: Period) -> datetime:
    """Until when a resolved period's usage can be complete, as `Examination.closed_until` without a clock."""
    until = period.span[1]
    return min(until, period.as_of or until)


def earlier(instant: datetime, by: timedelta) -> datetime:
    """So much earlier, but not before the earliest time that can be asked for."""
    return max(instant - by, validators.EARLIEST)


def preceding(period: Period, length: timedelta) -> Period | None:
    """The time of this length before a resolved period, with its filters; None if the period begins at the earliest."""
    since = period.span[0]
    return None if since == validators.EARLIEST else period.replace(since=earlier(since, length), until=since)


def asked(**values: object) -> dict[str, object]:
    """The filters that a query can have: none for None, nor for a text that no query can name; "" within a list."""
    found: dict[str, object] = {}
    for name, value in values.items():
        try:
            if value is not None:
                text = isinstance(value, str) and validators.text(value, blank=True)
                found[name] = [value] if text == "" else value
        except ValueError:
            continue
    return found


def together(words: list[str]) -> str:
    """`a, b and c`, in the order given; beyond five the others are counted."""
    if len(words) > 5:
        words = [*words[:4], f"{len(words) - 4:,} more"]
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def total(one: Decimal | None, other: Decimal) -> Decimal:
    """The exact sum, of nothing and a number too."""
    return other if one is None else Decimal(exact_sum((one, other), Decimal(0)))


def grouped(examination: Examination, statement: Select[Any]) -> Sequence[Any]:
    """The rows of a statement that groups many events to few rows, all at once.

    Through a cursor the database plans for the first rows: sorted, by one process. That took 20 times as long.
    """
    return examination.connection.execute(statement).all()


def of_question(examination: Examination, question: EventQuery, *further: ColumnElement[bool]) -> Part | None:
    """The events a question shows, told together; None where there are none."""
    statement = (
        select(*keys(examination.table), *measures(examination.table))
        .where(*conditions(examination.table, question), *further)
        .group_by(*keys(examination.table))
    )
    return Part.of(grouped(examination, statement))
