"""What usually comes at each hour of a week, by the days before a silence."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import DateTime, Interval, Select, func, literal, select

from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Examination
from usage_explore.validation.checks.data_end import DAY
from usage_explore.validation.periods import INSTANT, earlier

_HOUR, _WEEK_HOURS = timedelta(hours=1), 168

EDGE = timedelta(hours=3)
"""Time by which a batch comes earlier or later than usual: what came beyond the usual so near a silence came for it."""


@dataclass(frozen=True, slots=True)
class UsualHours:
    """The mean events in each hour of a week, the first of which begins at `began`.

    `before` and `after` came in the `EDGE` before a silence and after it.
    """

    began: datetime
    hours: Sequence[Decimal]
    before: int
    after: int

    def between(self, since: datetime, until: datetime) -> Decimal:
        """The events that usually come in a time; 0 if it is empty."""
        first, end = (Decimal((at - self.began) // INSTANT) / (_HOUR // INSTANT) for at in (since, until))
        return sum(
            (
                self.hours[hour % _WEEK_HOURS] * (min(end, Decimal(hour + 1)) - max(first, Decimal(hour)))
                for hour in range(math.floor(first), math.ceil(end))
            ),
            Decimal(0),
        )

    def beyond_before(self, last: datetime) -> Decimal:
        """The events just before a silence that are more than usual."""
        return max(self.before - self.between(last - EDGE, last), Decimal(0))

    def beyond_after(self, end: datetime) -> Decimal:
        """The events just after a silence that are more than usual."""
        return max(self.after - self.between(end, end + EDGE), Decimal(0))


def usual_by_hour(
    examination: Examination,
    customer_id: UUID,
    metric_key: str | None,
    last: datetime,
    end: datetime,
    days: int,
) -> UsualHours:
    """What the days before a silence say of the hours of a week, which begin as these days do."""
    # ended so that no batch is cut, neither the last one nor that of the day before these days
    table, began = examination.table, earlier(last + EDGE, days * DAY)
    instant, time = DateTime(timezone=True), examination.table.c.timestamp
    hour = func.date_bin(literal(_HOUR, Interval), time, literal(began, instant), type_=instant)
    read = examination.period.replace(since=began, until=end + EDGE)
    whose = [table.c.customer_id == customer_id]
    whose += [] if metric_key is None else [table.c.metric_key == metric_key]
    hours: Select[*tuple[Any, ...]] = select(
        hour.label("hour"),
        func.count().filter(time < last).label("usual"),
        func.count().filter(time >= last - EDGE, time < end).label("before"),
        func.count().filter(time >= end).label("after"),
    )
    events, before, after = [0] * _WEEK_HOURS, 0, 0
    for row in examination.extracted_rows(hours.where(*conditions(table, read), *whose).group_by(hour)):
        events[(row.hour - began) // _HOUR % _WEEK_HOURS] += row.usual
        before, after = before + row.before, after + row.after
    # how often each hour of the week occurs from `began` to the last event
    times = Counter(hour % _WEEK_HOURS for hour in range(days * 24 - EDGE // _HOUR))
    means = [Decimal(number) / times[index] for index, number in enumerate(events)]
    return UsualHours(began, means, before, after)
