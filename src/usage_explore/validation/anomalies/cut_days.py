"""The first day of a period that begins within it: what differs before the period is none of its findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from usage_explore.errors import NotExact
from usage_explore.validation.anomalies.deviations import MIN_CHANGE, MIN_EVENTS, Deviation
from usage_explore.validation.anomalies.series import Grid, exact_series
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import earlier

_WEEK, _WEEKS = timedelta(weeks=1), 4


def of_the_period(
    examination: Examination, days: Grid, first: int, candidates: Iterable[Deviation]
) -> Iterator[Deviation]:
    """The deviations by the day, those of a cut first day with what differs on it within the period.

    That is compared with the same hours of the four weeks before. A spike or drop that is none without what lies before
    the period is left out. `first` is the column of the first day.
    """
    since = examination.period.span[0]
    start, end = (days.starts[first], days.ends[first]) if first < len(days.starts) else (None, None)
    for one in candidates:
        if start is None or end is None or start >= since or one.lasts or not one.since <= start < one.until:
            yield one
            continue
        try:
            value = _measured(examination, one, since, end)
            before = [
                _measured(examination, one, earlier(since, week), end - week) for week in _weeks_before(since, days)
            ]
        except NotExact:  # a quantity that is no number
            yield one
            continue
        normal = sum(before) / len(before) if before else 0.0
        differs = value - normal
        in_period = one.in_period - one.on_first + differs
        least = max(MIN_CHANGE() * normal, MIN_EVENTS() if one.measure == "count" else 0.0)
        is_known = one.until > end and abs(one.in_period - one.on_first) >= least
        if is_known or (in_period * one.excess > 0 and abs(differs) >= least):
            yield replace(one, in_period=in_period, usual=one.usual + one.in_period - in_period)


def _weeks_before(since: datetime, days: Grid) -> Iterator[timedelta]:
    """The weeks back to the same hours before, as far as the data goes."""
    begin = next((at for at in days.starts if at is not None), since)
    yield from (number * _WEEK for number in range(1, _WEEKS + 1) if since - number * _WEEK >= begin)


def _measured(examination: Examination, one: Deviation, since: datetime, until: datetime) -> float:
    found = exact_series(examination, one.customer_id, (one.metric_key,), one.measure, "day", since, until)
    return float(sum(point.number for own in found for point in own.points))
