"""Spans of time around a period: before it, its days, the part that can be complete."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Column, ColumnElement, DateTime, Integer, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.query import buckets, validators
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Examination

INSTANT = timedelta(microseconds=1)
"""The resolution of times: from the last event of a span to the span's end."""

_MAX_DAYS = 100_000
"""Days; there are fewer between the earliest and the latest time of a query."""


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


def has_column(examination: Examination, name: str, period: Period | None = None) -> bool:
    """Whether any event of the period has the column; by default any event of the organization at any time."""
    table = examination.table
    where = conditions(table, period or organization_period(examination.period))
    there = select(table.c[name]).where(*where, table.c[name].is_not(None)).limit(1)
    return examination.connection.execute(there).first() is not None


def day_edges(period: Period) -> tuple[datetime, ...]:
    """The edges of each local day that the resolved period touches, one more than there are days."""
    return buckets.edges(*period.span, "day", period.zone, _MAX_DAYS)


def day_number(timestamp: Column[datetime], edges: tuple[datetime, ...]) -> ColumnElement[int]:
    """The day of these edges that an event lies in, from 0."""
    times = ARRAY(DateTime(timezone=True))
    found: ColumnElement[int] = func.width_bucket(timestamp, cast(literal(list(edges), times), times), type_=Integer())
    return found - 1
