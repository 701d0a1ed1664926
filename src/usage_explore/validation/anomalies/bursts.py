"""Usage that comes in bursts: what it did before the period is no deviation in it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from usage_explore.query.queries import Metric
from usage_explore.validation.anomalies.deviations import HIGH_SPIKE_RATIO, Deviation
from usage_explore.validation.anomalies.series import Block, Floats, Grid
from usage_explore.validation.bounds import CheckBounds

BOUNDS = CheckBounds("shifts")

# fmt: off
MIN_RECORD_RATIO = BOUNDS.add("min_record_ratio", 1.5, "factor", 1, 1000,
    "Times the largest of as many steps before, at least, of a spike of irregular usage.")

MIN_VARIATION = BOUNDS.add("min_variation", 0.5, "factor", 0, 100,
    "Standard deviation of irregular usage as a part of its mean, at least, without the steps of `TRIMMED_SHARE`.")

MIN_DISPERSION = BOUNDS.add("min_dispersion", 5.0, "factor", 0, 10000,
    "Variance of irregular usage as a multiple of its mean, at least, without the steps of `TRIMMED_SHARE`: sessions "
    "of six events have about six.")

TRIMMED_SHARE = BOUNDS.add("trimmed_share", 0.05, "share", 0, 0.5,
    "Part of the steps, those that differ most, that do not count in whether usage is irregular.")
# fmt: on

_MONTH_DAYS = 26, 33
"""Days back to those that are compared as a month earlier, at least and at most."""

_MONTH_RATIO = 1.5
"""Times what a month earlier had, below which a spike is not high."""


def largest(values: Floats, length: int) -> float:
    """The largest sum of this many successive values; of fewer, their sum."""
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    return float(np.max(sums[length:] - sums[:-length])) if len(sums) > length else float(sums[-1])


def smallest(values: Floats, length: int) -> float:
    """The smallest sum of this many successive values; 0 of fewer."""
    sums = np.concatenate([[0.0], np.cumsum(np.nan_to_num(values))])
    return float(np.min(sums[length:] - sums[:-length])) if len(sums) > length else 0.0


def without_usual_bursts(block: Block, grid: Grid, first: int, candidates: Iterable[Deviation]) -> list[Deviation]:
    """The deviations without spikes and drops of irregular usage that its time before the period had as well.

    A spike stays from `MIN_RECORD_RATIO` times the largest sum of as many steps before on, and may be high from
    `HIGH_SPIKE_RATIO` times; a drop stays if no such sum was as small. A spike by the day is not high if there was one
    a month earlier, as of month-end closings.
    """
    rows = {
        (customer, metric): row
        for row, (customer, metric) in enumerate(zip(block.customers, block.metrics, strict=True))
    }
    irregular: dict[tuple[int, Metric], bool] = {}
    kept = []
    for deviation in candidates:
        row = rows[deviation.customer_id, deviation.metric_key]
        key = row, deviation.measure
        if key not in irregular:
            irregular[key] = is_irregular(block.values[deviation.measure][row, :first], grid.season)
        columns = columns_of(grid, deviation)
        if deviation.lasts or not columns:
            kept.append(deviation)
            continue
        values = block.values[deviation.measure][row]
        amount, length = float(np.nansum(values[columns[0] : columns[-1] + 1])), columns[-1] + 1 - columns[0]
        if not irregular[key]:
            of_month = (
                grid.step == "day" and deviation.rises and amount < _MONTH_RATIO * _a_month_before(values, columns)
            )
            kept.append(replace(deviation, used=0.0) if of_month else deviation)
            continue
        before = values[: min(first, columns[0])]
        if not deviation.rises:
            kept += [deviation] if amount < smallest(before, length) else []
        elif amount >= HIGH_SPIKE_RATIO() * largest(before, length):
            kept.append(deviation)
        elif amount >= MIN_RECORD_RATIO() * largest(before, length):
            kept.append(replace(deviation, used=0.0))
    return kept


def _a_month_before(values: Floats, columns: Sequence[int]) -> float:
    """The largest sum of as many days a month earlier, to within some days: at the end of each month usage may rise."""
    first, last = max(0, columns[0] - _MONTH_DAYS[1]), max(0, columns[-1] + 1 - _MONTH_DAYS[0])
    return largest(values[first:last], len(columns))


def is_irregular(values: Floats, season: int) -> bool:
    """Whether usage comes in bursts: its steps differ from the mean of their phase by half of it and more, and by
    `MIN_DISPERSION` times what chance makes of events, not counting the twentieth that differs most; or all of it is in
    that twentieth, such as a batch each month.
    """
    known = np.flatnonzero(~np.isnan(values))
    if len(known) < 2 * season:
        return False
    used = np.count_nonzero(values[known])
    if 0 < used <= TRIMMED_SHARE() * len(known):
        return True
    phases = known % season
    kept = np.arange(len(known))
    for _ in range(2):  # the second time the steps that differ most are in no mean
        sums, numbers = np.bincount(phases[kept], values[known[kept]], season), np.bincount(phases[kept], None, season)
        distances = (values[known] - (sums / np.maximum(1, numbers))[phases]) ** 2
        kept = np.argsort(distances, kind="stable")[: math.ceil(len(known) * (1 - TRIMMED_SHARE()))]
    squares = distances[kept]
    mean, variance = float(np.mean(values[known])), float(np.mean(squares))
    return mean > 0 and variance >= max((MIN_VARIATION() * mean) ** 2, MIN_DISPERSION() * mean)


def columns_of(grid: Grid, deviation: Deviation) -> list[int]:
    """The columns of a grid that a deviation lies in."""
    return [
        column
        for column, (start, end) in enumerate(zip(grid.starts, grid.ends, strict=True))
        if start is not None and end is not None and start < deviation.until and deviation.since < end
    ]
