"""A period: spans of time around it, its days, its totals and shares of them."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any
from zoneinfo import available_timezones

from sqlalchemy import ColumnElement, DateTime, Integer, Select, Table, Text, any_, func, select

from usage_explore.decimals import ratio, total
from usage_explore.query import buckets, validators
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions

INSTANT = timedelta(microseconds=1)
"""The resolution of times: from the last event of a span to the span's end."""

_MAX_DAYS = 100_000
"""Days; there are fewer between the earliest and the latest time of a query."""


_USUAL = (
    "UTC", "America/New_York", "America/Chicago", "America/Denver", "America/Los_Angeles", "America/Sao_Paulo",
    "Europe/London", "Europe/Berlin", "Europe/Athens", "Asia/Kolkata", "Asia/Shanghai", "Asia/Tokyo",
    "Australia/Sydney",
)  # fmt: skip
"""Time zones that are named where others have the same days."""


def closed(period: Period) -> datetime:
    """The time until which a resolved period's usage can be complete, as `Examination.closed_until` without a clock."""
    until = period.span[1]
    return min(until, period.as_of or until)


def earlier(instant: datetime, by: timedelta) -> datetime:
    """The instant moved back, but not before the earliest time of a query."""
    return max(instant - by, validators.EARLIEST)


def preceding(period: Period, length: timedelta | None = None) -> Period | None:
    """The time before a resolved period, of this length or all, with its filters; None if there is none."""
    since = period.span[0]
    if since == validators.EARLIEST:
        return None
    return period.replace(since=validators.EARLIEST if length is None else earlier(since, length), until=since)


def organization_period(
    period: Period, since: datetime = validators.EARLIEST, until: datetime = validators.LATEST
) -> Period:
    """All usage of the period's organization in a span, as known at its `as_of`, without its filters."""
    return Period(
        organization_id=period.organization_id,
        since=max(since, validators.EARLIEST),
        until=min(until, validators.LATEST),
        as_of=period.as_of,
    )


def surroundings(period: Period, margin: timedelta) -> Period:
    """All usage of the organization in the period and within the margin before and after it."""
    return organization_period(period, period.span[0] - margin, period.span[1] + margin)


def day_edges(period: Period) -> tuple[datetime, ...]:
    """The edges of each local day that the resolved period touches, one more than there are days."""
    return buckets.edges(*period.span, "day", period.zone, _MAX_DAYS)


def day_number(timestamp: ColumnElement[datetime], edges: tuple[datetime, ...]) -> ColumnElement[int]:
    """The day of these edges that an event lies in, from 0."""
    number: ColumnElement[int] = func.width_bucket(timestamp, array(edges, DateTime(timezone=True)), type_=Integer())
    return number - 1


def at_times(timestamp: ColumnElement[datetime], times: Sequence[datetime] | None) -> list[ColumnElement[bool]]:
    """The condition that events lie at one of these times; none for None."""
    return [] if times is None else [timestamp == any_(array(times, DateTime(timezone=True)))]


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """Events, (events, quantity) by metric, and cost by currency (None: of costs without one).

    `spellings` has the events of each currency by how it is written: {"USD": {"USD": 900, "usd": 3}}.
    """

    events: int
    metrics: Mapping[str, tuple[int, Decimal]]
    costs: Mapping[str | None, Decimal]
    spellings: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


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


def totals_statement(table: Table, period: Period) -> Select[Any]:
    """What `totals` adds up: usage of a resolved period by customer, metric and currency of costs, as it is written."""
    c = table.c
    return (
        select(
            c.customer_id,
            c.metric_key,
            c.external_cost_currency,
            func.count().label("events"),
            func.sum(c.quantity).label("quantity"),
            func.sum(c.external_cost_amount).label("cost"),
        )
        .where(*conditions(table, period))
        .group_by(c.customer_id, c.metric_key, c.external_cost_currency)
    )


def totals(rows: Iterable[Any]) -> Totals:
    """The totals of the rows of `totals_statement`, exact."""
    metrics: dict[str, tuple[int, Decimal]] = {}
    costs: dict[str | None, Decimal] = {}
    spellings: dict[str, Counter[str]] = {}
    for _, metric, spelling, events, quantity, cost in rows:
        before = metrics.get(metric, (0, Decimal(0)))
        metrics[metric] = before[0] + events, total((before[1], quantity))
        currency = currency_code(spelling)
        if currency is not None:
            spellings.setdefault(currency, Counter())[spelling] += events
        if cost is not None:
            costs[currency] = total((costs.get(currency, Decimal(0)), cost))
    events = sum(events for events, _ in metrics.values())
    return Totals(events=events, metrics=metrics, costs=costs, spellings=spellings)


@lru_cache(maxsize=1)
def zone_names() -> tuple[str, ...]:
    """The names of the zones of cities, after the usual ones."""
    others = sorted(name for name in available_timezones() if "/" in name and not name.startswith(("Etc/", "posix/")))
    return tuple(dict.fromkeys((*_USUAL, *others)))
