"""The first day of a period that begins within it: what differs before the period is none of its findings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from usage_explore.errors import NotExact
from usage_explore.query.queries import Metric
from usage_explore.validation.anomalies.deviations import MIN_CHANGE, MIN_EVENTS, Deviation
from usage_explore.validation.anomalies.series import Grid
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import earlier
from usage_explore.validation.usage_sums import metric_filter

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
    metric: Metric = one.measure
    whose = {} if one.customer_id is None else {"customer_id": one.customer_id}
    all_series, *_ = examination.paths.aggregate(
        examination.aggregate_question(
            since=since,
            until=until,
            bucket="day",
            metric=metric,
            group_by="metric_key",
            top=0,
            **metric_filter([one.metric_key]),
            **whose,
        )
    )
    return float(sum(point.number for own in all_series if own.key == one.metric_key for point in own.points))
