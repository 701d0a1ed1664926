"""Lasting changes of level in series of few events, which accumulate over weeks.

A customer with three events a day that has one a day from some day on has no day, and hardly a week, outside of its
band. All days from there on together are compared with the four weeks before: the logarithm of the likelihood ratio of
two Poisson rates and one, less the more the weeks before differ.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator

import numpy as np

from usage_explore.detector.breaks import MIN_SILENCE_DAYS, while_away
from usage_explore.validation.anomalies.bursts import is_irregular
from usage_explore.validation.anomalies.deviations import MIN_CHANGE, MIN_EVENTS, MIN_QUANTITY_EVENTS, Deviation
from usage_explore.validation.anomalies.series import Block, Floats, Grid
from usage_explore.validation.anomalies.zero_days import MAX_CHANCE
from usage_explore.validation.bounds import CheckBounds

BOUNDS = CheckBounds("shifts")

# fmt: off
HISTORY_DAYS = BOUNDS.add("level_history_days", 56, "days", 14, 400,
    "Days before a change, at most, all of them known, that say what the level was.")

RECENT_DAYS = BOUNDS.add("level_recent_days", 28, "days", 7, 400,
    "The latest of these days, from which the new level must differ as much: steady growth is no change of level.")

MIN_LEVEL_DAYS = BOUNDS.add("min_level_days", 7, "days", 1, 400,
    "Days from the change to the end of what is judged, at least.")
# fmt: on


def min_evidence() -> float:
    """Logarithm of the likelihood ratio, divided by the dispersion, from which a change is no chance."""
    return -math.log(MAX_CHANCE())


_WEEK = 7


def level_changes(
    block: Block, grid: Grid, first: int, known: Collection[tuple[object, str, bool]] = ()
) -> Iterator[Deviation]:
    """The changes from column `first` on that last to the end, of series of fewer than `MIN_QUANTITY_EVENTS` a day.

    Without those of `known`, by customer, metric and whether they rise.
    """
    # days without usage that the check of silences reports, or shorter ones, are no level
    for row, values in enumerate(while_away(block.values["count"], grid.season)):
        if first < RECENT_DAYS() or np.isnan(values[max(0, first - HISTORY_DAYS()) :]).any():
            continue
        if not MIN_EVENTS() <= np.nansum(values) < MIN_QUANTITY_EVENTS() * len(values):
            continue
        used = np.flatnonzero(values)
        if len(values) - 1 - used[-1] >= MIN_SILENCE_DAYS:  # a silence at the end is no level either
            values = values[: used[-1] + 1]
        change = _change(values, first)
        if change is None or is_irregular(values[:first], grid.season):
            continue
        place, before, after = change
        customer, metric, rises = block.customers[row], block.metrics[row], after > before
        start = grid.starts[place]
        if start is None or (customer, metric, rises) in known:
            continue
        since, until = grid.span(place, len(values))
        days = len(values) - place
        excess = (after - before) * days
        half = math.sqrt(2 * min_evidence() * _dispersion(values[:first]) * before / _WEEK)
        yield Deviation(
            customer_id=customer,
            metric_key=metric,
            measure="count",
            step="day",
            shape="rise" if rises else "fall",
            since=since,
            until=until,
            bucket=start,
            value=after,
            expected=before,
            low=max(0.0, before - half),
            high=before + half,
            excess=excess,
            usual=float(np.nansum(values[first:])) - excess,
            used=float(np.mean(values[:first] > 0)),
            reason=f"the mean of {days} days differs from that of the {min(HISTORY_DAYS(), place)} before",
            is_mean=True,
        )


def _change(values: Floats, first: int) -> tuple[int, float, float] | None:
    """The day of the likeliest change that is sure and lasts, and the means before and after."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(first, len(values) - MIN_LEVEL_DAYS() + 1)
    if not len(places):
        return None
    days, days_before = len(values) - places, np.minimum(places, HISTORY_DAYS())
    events_before, events_after = sums[places] - sums[places - days_before], sums[-1] - sums[places]
    before, after = events_before / days_before, events_after / days
    recent = (sums[places] - sums[places - RECENT_DAYS()]) / RECENT_DAYS()
    windows = np.lib.stride_tricks.sliding_window_view(values[places[0] - RECENT_DAYS() : places[-1]], RECENT_DAYS())
    largest_before = windows.max(axis=1)
    both = (events_before + events_after) / (days_before + days)
    largest = np.maximum.accumulate(values[::-1])[::-1][places]
    without_largest = (events_after - largest) / (days - 1)  # one day is no level
    ratio = _log(events_before, before, both) + _log(events_after, after, both)
    enough = np.ones(len(places), np.bool_)
    for level in (before, recent):
        difference = events_after - level * days
        enough &= np.abs(difference) >= np.maximum(MIN_EVENTS(), MIN_CHANGE() * level * days)
        enough &= (difference > 0) == (after > before)
        enough &= (difference < 0) | (without_largest >= (1 + MIN_CHANGE()) * level)
        enough &= (difference > 0) | (after <= (1 - MIN_CHANGE()) * (level - largest_before / RECENT_DAYS()))
    # usage that begins or ends altogether is left to the check of silences
    began = (sums[places - RECENT_DAYS() + _WEEK] > 0) & values[-_WEEK:].any()
    score = np.where(enough & began & (after > 0), ratio, 0.0)
    best = int(np.argmax(score))
    place = int(places[best])
    if score[best] < min_evidence() * max(_dispersion(values[:first]), _dispersion(values[place:])):
        return None
    middle = math.sqrt(before[best] * after[best]) * _WEEK
    weeks = _weeks(values[place:])
    lasts = (weeks > middle).all() if after[best] > before[best] else (weeks < middle).all()
    return (place, float(before[best]), float(after[best])) if lasts else None


def _log(events: Floats, mean: Floats, both: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Floats = np.where(
            events > 0, events * np.log(np.where(mean > 0, mean, 1) / np.where(both > 0, both, 1)), 0.0
        )
    return logs


def _weeks(values: Floats) -> Floats:
    """The sums of the whole weeks, counted from the first day."""
    size = len(values) // _WEEK * _WEEK
    sums: Floats = values[:size].reshape(-1, _WEEK).sum(axis=1)
    return sums


def _dispersion(values: Floats) -> float:
    """The variance of the weeks by their mean, at least 1, which is Poisson's."""
    weeks = _weeks(values[len(values) % _WEEK :])
    weeks = weeks[~np.isnan(weeks)]
    if len(weeks) < 3 or not weeks.mean():
        return 1.0
    return max(1.0, float(weeks.var(ddof=1) / weeks.mean()))
