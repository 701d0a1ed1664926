"""How far values usually lie from their expectation."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.ordering import Floats, Ordered, Places
from usage_explore.detector.settings import Settings

LEARNT = 14
"""Residuals that must be known before their spread is believed."""

_MEDIAN_NORMAL = 0.6745  # where a normal distribution of deviation 1 has the median of absolute residuals
_TAIL, _TAIL_NORMAL = 0.95, 1.96  # another quantile of them, likewise
_SHARED = 0.05  # of the unit of residuals is the size of the series, the rest that phase's expectation
_IRREGULAR = 0.15  # of the steps idle against expectation, or busy against it: use without a pattern
_FOREIGN = 5.0  # residuals beyond so many robust deviations are what is looked for: they teach nothing
_FEWEST_USES = 2  # where nearly all is idle, one use alone tells nothing of what is usual
_SAMPLE = 512  # residuals that are sorted for one deviation, evenly taken


def deviation(
    values: Floats, residuals: Floats, expected: Floats, size: Floats, season: int, settings: Settings
) -> Floats:
    """The robust deviation of each point, (series, time), renewed every season, NaN while too few residuals are known.

    `residuals` are absolute, learnt from `settings.seasons` seasons on either side.

    Residuals are measured in units (mostly a phase's expectation, a little the usual size of the series) and plainly.
    The smaller holds, so that busy phases do not widen the band of quiet ones; where use comes and goes without a
    pattern, what a use usually is. Steps that are idle as expected (weekends, nights) tell nothing of the others.
    """
    unit = np.where(size > 0, (1 - _SHARED) * np.abs(expected) + _SHARED * size, np.nan)
    idle, none = values == 0, expected == 0
    absolute = np.where(idle & none, np.nan, residuals)
    places, steps = _windows(residuals.shape[1], season, settings)
    relative, plain = _spread(absolute / unit, places), np.nan_to_num(_spread(absolute, places))
    known = _gathered(~np.isnan(residuals), places)
    irregular = _gathered((idle != none) & ~np.isnan(residuals), places) > _IRREGULAR * known
    rows = np.nonzero(irregular.any(axis=1))[0]
    used = _spread(np.where(idle[rows] | np.isnan(residuals[rows]), np.nan, np.abs(values[rows])), places)
    plain[rows] = np.where(irregular[rows], np.fmax(used, plain[rows]), plain[rows])
    plain[known < min(LEARNT, season * settings.seasons)] = np.nan
    return np.where(irregular[:, steps], plain[:, steps], np.fmin(relative[:, steps] * unit, plain[:, steps]))


def _gathered(flags: npt.NDArray[np.bool_], places: Places) -> npt.NDArray[np.int_]:
    found: npt.NDArray[np.int_] = np.count_nonzero(np.pad(flags, ((0, 0), (0, 1)))[:, places], axis=2)
    return found


def _windows(time: int, season: int, settings: Settings) -> tuple[Places, Places]:
    """The places deviations are learnt from, (windows, places) with `time` for none, and the window of each step."""
    number, window = -(-time // season), season * settings.seasons * 2
    first = np.clip(np.arange(number) * season - (window - season) // 2, 0, max(0, time - window))
    starts, which = np.unique(first, return_inverse=True)
    places = starts[:, None] + np.arange(0, window, max(1, window // _SAMPLE))
    return np.where((places < 0) | (places >= time), time, places), np.repeat(which, season)[:time]


def _spread(residuals: Floats, places: Places) -> Floats:
    """The mean of two deviations, by the squares and by a far quantile: noise with fat tails is wider than its middle.

    Both are taken of the residuals that are not foreign by the median of all.
    """
    padded = np.pad(residuals, ((0, 0), (0, 1)), constant_values=np.nan)
    ordered = Ordered(np.moveaxis(padded[:, places], 2, 0).copy())
    middle = ordered.median() / _MEDIAN_NORMAL
    familiar = ordered.values <= _FOREIGN * middle
    own = np.count_nonzero(familiar, axis=0)
    parts = np.divide(ordered.values, middle, out=np.zeros_like(ordered.values), where=familiar & (middle > 0))
    square = middle * np.sqrt(np.sum(parts * parts, axis=0) / np.maximum(own, 1))
    tail = ordered.quantile(_TAIL, own) / _TAIL_NORMAL
    return np.where(ordered.known >= _FEWEST_USES, (square + tail) / 2, np.nan)
