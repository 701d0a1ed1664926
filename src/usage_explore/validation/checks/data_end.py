"""The end of an organization's data, where it lies long before the end of the period."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import DateTime, Interval, Select, Table, func, literal, select

from usage_explore.formatting import duration
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Examination
from usage_explore.validation.finding import Finding
from usage_explore.validation.periods import INSTANT, earlier
from usage_explore.validation.totals import part

DAY = timedelta(days=1)

QUIET = timedelta(days=3)
"""The data ends where no event follows for at least this long."""

BEFORE = 28
"""How many days before the last event say how far apart events are."""

LONGER = 2
"""And for at least this many times the longest time without any event in those days."""


def last_event(examination: Examination, until: datetime) -> datetime | None:
    """When the organization's data ends, whatever the period's filters; None where it goes on, or there is none."""
    table, time = examination.table, examination.table.c.timestamp
    every = Period(
        organization_id=examination.period.organization_id,
        since=validators.EARLIEST,
        until=until,
        as_of=examination.period.as_of,
    )
    last: datetime | None = examination.connection.execute(
        select(func.max(time)).where(*conditions(table, every))
    ).scalar_one()
    if last is None or until - last < QUIET:
        return None
    read = every.replace(since=earlier(last, BEFORE * DAY), until=last + INSTANT)
    known = examination.connection.execute(days(table, read)).all()
    longest = max((later.first - day.last for day, later in pairwise(known)), default=timedelta(0))
    return last if until - last >= LONGER * longest else None


def days(table: Table, period: Period) -> Select[Any, Any]:
    """The `first` and the `last` event of each day that has any, in order."""
    time, instant = table.c.timestamp, DateTime(timezone=True)
    day = func.date_bin(literal(DAY, Interval), time, literal(period.span[1], instant))
    found = select(func.min(time).label("first"), func.max(time).label("last"))
    return found.where(*conditions(table, period)).group_by(day).order_by(day)


def finding(examination: Examination, check: str, last: datetime, until: datetime) -> Finding:
    """That the data ends; its share is the part of the period that has none for it."""
    period = examination.period
    since, end = period.span
    share = part((until - max(last, since)) // INSTANT, (end - since) // INSTANT)
    local = last.astimezone(period.zone)
    before = "the period does" if until == end else "the time as of which it is examined"
    return Finding(
        check=check,
        severity="high",
        sentence=f"The data ends on {local.day} {local:%b %Y at %H:%M}, {duration(until - last)} before {before}: no"
        " customer has an event after that. It was not sent, not taken in or not loaded.",
        since=last + INSTANT,
        until=until,
        events=0,
        question=examination.aggregate_question(since=earlier(last, BEFORE * DAY), until=until),
        share=share,
        share_of="the period's time",
        facts=(("last event", local.isoformat()),),
        is_general=True,
    )
