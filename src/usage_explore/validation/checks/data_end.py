"""The ends of the data: an organization without any event for longer than usual before the end of the period, or whose
events of the period's beginning were removed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from sqlalchemy import DateTime, Interval, Select, Table, func, literal, select

from usage_explore.formatting import date_and_time, duration, without_fractions
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination, Finding
from usage_explore.validation.periods import INSTANT, earlier, organization_period, part

NAME = "silence"

DAY = timedelta(days=1)

BOUNDS = CheckBounds(NAME)

# fmt: off
MIN_SILENCE = BOUNDS.add("min_silence", timedelta(days=3), "days", 1, 400,
    "Time without events from which usage fell silent; at least this much of it lies in the period.")

HISTORY_DAYS = BOUNDS.add("history_days", 28, "days", 7, 400,
    "Days before a silence that say what is regular, and how long pauses are.")

LOOK_BACK = BOUNDS.add("look_back", timedelta(days=92), "days", 0, 4000,
    "Time before the period in which a silence that lasts into it may have begun; what is back after longer is new.")

MIN_PAUSE_RATIO = BOUNDS.add("min_pause_ratio", 2, "factor", 1, 100,
    "A silence is at least this many times as long as any pause in those days.")
# fmt: on

_MIN_BATCHES, _MAX_DAYS_READ = 2, timedelta(days=1200)
_DUE = 1.35  # times the usual time between two batches, after which a period without any has missed one


def last_event(examination: Examination, since: datetime, until: datetime) -> datetime | None:
    """When the organization's data ends, whatever the period's filters; None where it goes on, or there is none.

    It goes on where the time since the last event, in the period, is usual between two batches, such as of each month.
    """
    table, time = examination.table, examination.table.c.timestamp
    every = organization_period(examination.period, until=until)
    last: datetime | None = examination.connection.execute(
        select(func.max(time)).where(*conditions(table, every))
    ).scalar_one()
    if last is None or until - last < MIN_SILENCE():
        return None
    read = every.replace(since=earlier(last, HISTORY_DAYS() * DAY), until=last + INSTANT)
    known = examination.connection.execute(_days_with_events(table, read)).all()
    if until - last < MIN_PAUSE_RATIO() * max(_pauses(known), default=timedelta(0)):
        return None
    ratio = MIN_PAUSE_RATIO() if last >= since else _DUE
    for length in (HISTORY_DAYS() * DAY + LOOK_BACK(), _MAX_DAYS_READ):
        read = every.replace(since=earlier(last, length), until=last + INSTANT)
        batches = examination.connection.execute(_days_with_events(table, read)).all()
        pauses = _pauses(batches)
        usual = [pause for pause in pauses if until - last < ratio * pause]
        is_most = sum(usual, timedelta(0)) > (batches[-1].last - batches[0].first) / 2
        if is_most and len(usual) >= min(_MIN_BATCHES, len(pauses)):
            return None
        if len(batches) > HISTORY_DAYS():  # no batches every few months
            break
    return last


def removed(examination: Examination) -> Finding | None:
    """That events of the period's beginning were removed from the table; None where it is not known that any were."""
    period = examination.period
    since, end = period.span
    begins = examination.exists_since
    if begins is None:
        return None
    until = min(begins, end)
    at = without_fractions(date_and_time(begins.astimezone(period.zone)))
    return Finding(
        check=NAME,
        kind="removed events",
        severity="high",
        sentence=f"Events before {at} have been removed from the table, {duration(begins - since)} after the period"
        " begins: usage of that time is missing in all numbers here, and no check says anything about it.",
        since=since,
        until=until,
        events=0,
        question=examination.aggregate_question(since=since, until=end),
        share=part((until - since) // INSTANT, (end - since) // INSTANT),
        share_of="the period's time",
        facts=(("events exist since", begins.astimezone(period.zone).isoformat()),),
        is_general=True,
    )


def _pauses(days: Sequence[Any]) -> list[timedelta]:
    return [later.first - day.last for day, later in pairwise(days)]


def _days_with_events(table: Table, period: Period) -> Select[Any, Any]:
    """The `first` and the `last` event of each day that has any, in order."""
    time, instant = table.c.timestamp, DateTime(timezone=True)
    day = func.date_bin(literal(DAY, Interval), time, literal(period.span[1], instant))
    days = select(func.min(time).label("first"), func.max(time).label("last"))
    return days.where(*conditions(table, period)).group_by(day).order_by(day)


def finding(examination: Examination, last: datetime, until: datetime) -> Finding:
    """That the data ends; its share is the part of the period that has none for it."""
    period = examination.period
    since, end = period.span
    share = part((until - max(last, since)) // INSTANT, (end - since) // INSTANT)
    local = last.astimezone(period.zone)
    before = "the period does" if until == end else "the time as of which it is examined"
    return Finding(
        check=NAME,
        kind="end of the data",
        severity="high",
        sentence=f"The data ends on {local.day} {local:%b %Y at %H:%M}, {duration(until - last)} before {before}: no"
        " customer has an event after that. It was not sent, not taken in or not loaded.",
        since=last + INSTANT,
        until=until,
        events=0,
        question=examination.aggregate_question(since=earlier(last, HISTORY_DAYS() * DAY), until=until),
        share=share,
        share_of="the period's time",
        facts=(("last event", local.isoformat()),),
        is_general=True,
    )
