"""Hours without an event of any customer or metric, at times of the week that otherwise had some.

A metering outage of a few hours hardly shows in the sums of days, nor in the hours of a single metric with few events.
All events together say more: none of those that would have come is evidence, however they are distributed over metrics.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timedelta

import numpy as np
import numpy.typing as npt

from usage_explore.detector.breaks import MIN_SILENCE_DAYS
from usage_explore.detector.ordering import runs
from usage_explore.validation.anomalies.deviations import BESIDE_HOURS
from usage_explore.validation.anomalies.series import Block, Floats, Grid
from usage_explore.validation.anomalies.zero_days import MAX_CHANCE, Beside, ZeroDays
from usage_explore.validation.bounds import CheckBounds

BOUNDS = CheckBounds("shifts")

# fmt: off
MIN_LOST_EVENTS = BOUNDS.add("min_lost_events", 50, "events", 1, 1000000,
    "Events that would have come in the hours, at least.")

MIN_KNOWN_WEEKS = BOUNDS.add("min_known_weeks", 4, "weeks", 1, 52,
    "Weeks before the hours of which something is known, at least, that say what is usual at that time of the week.")

MIN_PAUSE_RATIO = BOUNDS.add("min_pause_ratio", 2, "factor", 1, 100,
    "Times as many events as in any hours without events before, at least, would have come: nights are no outage.")
# fmt: on

_MAX_WEEKS, _HISTORY_DAYS, _MIN_DAYS_SHARE = 8, 28, 0.25
_WEEK, _DAY, _LEVEL_DAYS = 168, 24, 3

_MAX_MOVED = 1.5
"""Times the events expected in hours without any, up to which those beside count as theirs."""


def lost_hours(
    blocks: Iterable[Block], grid: Grid, first: int, is_empty: Callable[[datetime, datetime], bool]
) -> list[ZeroDays]:
    """The runs of hours without events from column `first` on, by the hourly series of all customers together.

    `is_empty` says whether a half-open span has no event: asked of hours whose clock time comes twice.
    """
    counts = np.zeros(len(grid.starts))
    for block in blocks:
        counts += np.nansum(block.values["count"], axis=0)
    counts[grid.unknown] = np.nan
    result, before, longest = [], 0.0, 0
    usual = _usual(counts)
    zero = counts == 0
    for column, length in _empty_between(zero, grid, is_empty):
        zero[column], usual[column] = True, usual[column] * length
    for _, start, end in runs(zero[np.newaxis]):
        expected = float(np.nansum(usual[start:end]))
        came = _came_beside(counts, usual, start, end)
        expected -= came if came <= _MAX_MOVED * expected else 0.0  # more is a spike beside an outage
        if end <= first:
            before, longest = max(before, expected), max(longest, end - start)
            continue
        is_pause = end - start < MIN_PAUSE_RATIO() * longest or _share_of_days(counts[:start]) < _MIN_DAYS_SHARE
        is_long = end - start >= MIN_SILENCE_DAYS * _DAY
        if is_long and is_pause:
            continue  # between batches
        is_end = is_long and end == len(counts)  # left to the check of silences
        weight = _weight(counts[:start], usual[:start])
        is_chance = expected * weight < -math.log(MAX_CHANCE())
        if is_end or is_chance or expected < max(MIN_LOST_EVENTS(), MIN_PAUSE_RATIO() * before):
            continue
        week = min(end, start + _WEEK)
        if 2 * _median(counts, start, week) < float(np.nansum(usual[start:week])):
            continue
        since, until = grid.span(start, end)
        counted = float(np.nansum(counts[first:]))
        missing = usual[max(start, first) : end]
        if end - start >= _WEEK:  # what is usual there declines with the outage itself
            phases = [counts[column % _WEEK : start : _WEEK] for column in range(max(start, first), end)]
            missing = np.array([np.nan if np.isnan(phase).all() else np.nanmean(phase) for phase in phases])
        beside = [
            Beside.of(float(usual[hour]), float(counts[hour])) if first <= hour < len(counts) else Beside()
            for hour in (start - 1, end)
        ]
        lost, length = float(np.nansum(missing)), end - start
        density = _density(usual, start, end)
        result.append(ZeroDays(None, since, until, 0, lost, counted, length, density, (beside[0], beside[1])))
    return result


def _came_beside(counts: Floats, usual: Floats, start: int, end: int) -> float:
    """The events beyond the usual in the hours just before some without events and just after: a job came earlier or
    later than usual, for one by the clock of another zone each day from a clock change on.
    """
    beside = (slice(max(0, start - BESIDE_HOURS), start), slice(end, end + BESIDE_HOURS))
    return sum(max(0.0, float(np.nansum(counts[part] - usual[part]))) for part in beside)


def _empty_between(
    zero: npt.NDArray[np.bool_], grid: Grid, is_empty: Callable[[datetime, datetime], bool]
) -> Iterator[tuple[int, float]]:
    """The unknown columns between two hours without events that have none either, and their length in hours."""
    for column in np.flatnonzero(grid.unknown[1:-1] & zero[:-2] & zero[2:]) + 1:
        since, until = grid.ends[column - 1], grid.starts[column + 1]
        if since is not None and until is not None and (since >= until or is_empty(since, until)):
            yield int(column), (until - since) / timedelta(hours=1)


def _density(usual: Floats, start: int, end: int) -> float:
    """How many times as many events usually come in some hours as in others of the day around; 1 from a day on."""
    middle = (start + end) // 2
    around = usual[max(0, middle - _DAY // 2) : middle + _DAY // 2]
    day, hours = float(np.nansum(around)), float(np.nansum(usual[start:end]))
    return hours / day * len(around) / (end - start) if day and end - start < _DAY else 1.0


def _share_of_days(counts: Floats) -> float:
    """The share of days with events among the known ones of the four weeks before."""
    days = counts[len(counts) % _DAY :].reshape(-1, _DAY)[-_HISTORY_DAYS:]
    known = ~np.isnan(days).all(axis=1)
    return float(np.mean(np.nansum(days, axis=1)[known] > 0)) if known.any() else 0.0


def _usual(counts: Floats) -> Floats:
    """The usual events of each hour: the mean of the same hours of the week in the weeks before; NaN where too few are
    known.
    """
    usual = np.full(len(counts), np.nan)
    for column in range(MIN_KNOWN_WEEKS() * _WEEK, len(counts)):
        same = counts[column % _WEEK : column : _WEEK][-_MAX_WEEKS:]
        known = same[~np.isnan(same)]
        if len(known) >= MIN_KNOWN_WEEKS():
            usual[column] = float(np.mean(known))
    return usual


def _levels(sums: Floats, means: Floats, steps: int) -> Floats:
    """The ratio of actual to usual events in the `steps` steps before each one; NaN where no usual ones are known."""
    levels = np.full(len(sums), np.nan)
    both = np.where(np.isnan(sums) | np.isnan(means), 0.0, np.stack([sums, means]))
    totals = np.concatenate([np.zeros((2, 1)), np.cumsum(both, axis=1)], axis=1)
    came, expected = totals[:, steps:-1] - totals[:, : -steps - 1]
    np.divide(came, expected, out=levels[steps:], where=expected > 0)
    return levels


def _median(counts: Floats, start: int, end: int) -> float:
    """The median of the events in up to a week's hours in the weeks before: one week of tests makes none usual."""
    before = [counts[start - back : end - back] for back in range(_WEEK, start + 1, _WEEK)][:_MAX_WEEKS]
    known = [float(np.nansum(hours)) for hours in before if not np.isnan(hours).all()]
    return float(np.median(known)) if known else 0.0


def _weight(counts: Floats, usual: Floats) -> float:
    """The evidence of each missing event: 1 for Poisson's distribution, less the more hours and days differ.

    They differ from what is usual, or from that at the level of the three days before them if this is less: weeks at
    another level are no reason why there should be no event at all.
    """
    dispersion = 1.0
    for steps in (1, _DAY):
        size = len(counts) // steps * steps
        sums, means = (values[len(values) - size :].reshape(-1, steps).sum(axis=1) for values in (counts, usual))
        known = ~np.isnan(sums) & ~np.isnan(means) & (means > 0)
        if np.count_nonzero(known) >= MIN_KNOWN_WEEKS():
            levels = means * _levels(sums, means, _LEVEL_DAYS * _DAY // steps)
            least = [
                float(np.mean((sums[is_known] - expected[is_known]) ** 2 / expected[is_known]))
                for expected in (means, levels)
                if np.count_nonzero(is_known := known & (expected > 0)) >= MIN_KNOWN_WEEKS()
            ]
            dispersion = max(dispersion, min(least))
    return math.log(dispersion) / (dispersion - 1) if dispersion > 1 else 1.0
