"""The events that a check objects to, summed exactly: how many, how much, at what cost, and the question for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, data_value, listed
from usage_explore.query.queries import EventQuery
from usage_explore.validation.check import Examination
from usage_explore.validation.customer_usage import part

_FILTERED = 20
"""Metrics a finding's question names; beyond, it shows all of the customer's."""
LONGEST = 1_000
"""Characters of a metric's key, or another value, that a question can surely name."""


@dataclass(slots=True, kw_only=True)
class Affected:
    """Events that a check objects to.

    `since` and `until` bound when they occurred, `arrived` when they arrived, `lags` the time in between.
    """

    kind: str
    since: datetime
    until: datetime
    arrived: tuple[datetime, datetime]
    lags: tuple[timedelta, timedelta]
    metrics: dict[str, tuple[int, Decimal]]
    costs: dict[str | None, Decimal]
    customers: set[UUID]

    @property
    def events(self) -> int:
        """How many events these are."""
        return sum(events for events, _ in self.metrics.values())

    @property
    def customer_id(self) -> UUID:
        """The one customer whose batch it is."""
        (customer,) = self.customers
        return customer

    @property
    def scattered(self) -> str:
        """Whose they are: `of customer <id>`, or over how many customers they are scattered."""
        if len(self.customers) == 1:
            return f"of customer {self.customer_id}"
        return f"scattered over {counted(len(self.customers), 'customer')}"

    @property
    def amounts(self) -> tuple[tuple[str, Decimal], ...]:
        """What they cost by currency; cost without a currency is among the facts."""
        return tuple(sorted((currency, cost) for currency, cost in self.costs.items() if currency is not None))

    @property
    def quantity(self) -> Decimal | None:
        """How much they meter, None where it is of several metrics."""
        return next(iter(self.metrics.values()))[1] if len(self.metrics) == 1 else None

    def arrival(self, zone: tzinfo) -> tuple[tuple[str, str], ...]:
        """When they arrived, as facts."""
        first, last = (arrived.astimezone(zone).isoformat() for arrived in self.arrived)
        return (("first arrival", first), ("last arrival", last))

    @property
    def metric_words(self) -> str:
        """Their metrics, as words."""
        return listed(self.metrics)

    @property
    def metric_key(self) -> str | None:
        """Their metric, None where there are several."""
        return next(iter(self.metrics)) if len(self.metrics) == 1 else None

    def facts(self) -> tuple[tuple[str, str], ...]:
        """The events and the quantity of each metric, and the cost that has no currency."""
        found = [
            (f"affected {data_value(metric)}", f"{counted(events, 'event')}, quantity {plain(quantity)}")
            for metric, (events, quantity) in sorted(self.metrics.items())
        ]
        if None in self.costs:
            found.append(("cost without a currency", plain(self.costs[None])))
        return tuple(found)

    def add(self, other: Affected) -> None:
        """Take in what is told together with it."""
        self.since, self.until = min(self.since, other.since), max(self.until, other.until)
        self.arrived = min(self.arrived[0], other.arrived[0]), max(self.arrived[1], other.arrived[1])
        self.lags = min(self.lags[0], other.lags[0]), max(self.lags[1], other.lags[1])
        for metric, (more, worth) in other.metrics.items():
            events, quantity = self.metrics.get(metric, (0, Decimal(0)))
            self.metrics[metric] = events + more, total((quantity, worth))
        for currency, cost in other.costs.items():
            self.costs[currency] = total((self.costs.get(currency, Decimal(0)), cost))
        self.customers |= other.customers


def affected_share(examination: Examination, metrics: Mapping[str, tuple[int, Decimal]]) -> Decimal:
    """The largest part of what one of the metrics came to in the period."""
    return max(
        (
            part(quantity, examination.totals.metrics.get(metric, (0, quantity))[1])
            for metric, (_, quantity) in metrics.items()
        ),
        default=Decimal(0),
    )


def shown_by(examination: Examination, metrics: Iterable[str], **parameters: object) -> EventQuery:
    """The events of these metrics; of all where the query language cannot name them."""
    return examination.events_question(**shown_with(metrics), **parameters)


def shown_with(metrics: Iterable[str], most: int = _FILTERED) -> dict[str, Any]:
    """The filter by these metrics; none where they are more than `most`, or a question cannot name one."""
    keys = sorted(metrics)
    nameable = len(keys) <= most and all(0 < len(key) <= LONGEST for key in keys)
    return {"metric_key": keys} if nameable else {}
