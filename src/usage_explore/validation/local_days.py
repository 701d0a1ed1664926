"""The local days of a period, and which of them an event lies in."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Column, ColumnElement, DateTime, Integer, cast, func, literal
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.query import buckets
from usage_explore.query.queries import Period

_MOST = 100_000
"""More days than lie between the earliest and the latest time there may be."""


def day_edges(period: Period) -> tuple[datetime, ...]:
    """The edges of each local day that the resolved period touches, one more than there are days."""
    return buckets.edges(*period.span, "day", period.zone, _MOST)


def day_number(timestamp: Column[datetime], edges: tuple[datetime, ...]) -> ColumnElement[int]:
    """Which day of these edges an event lies in, from 0."""
    times = ARRAY(DateTime(timezone=True))
    found: ColumnElement[int] = func.width_bucket(timestamp, cast(literal(list(edges), times), times), type_=Integer())
    return found - 1
