"""What a point should have been, learnt from one side of it."""

from __future__ import annotations

import numpy as np

from usage_explore.detector.ordering import Floats, Ordered, before, earlier
from usage_explore.detector.settings import Settings

LEAST_LEVEL = 14
"""The level is the median of whole seasons that hold at least this many steps."""

_RENEWED = 32  # times within that window the level is found anew
_COMPARABLE = 4  # a level is scaled by its ratio where it is at least a quarter of the series' usual size


def expectation(values: Floats, season: int, settings: Settings) -> tuple[Floats, Floats]:
    """The expectation of each point from the points before it, and the usual size (median of magnitudes) there.

    It is the median of the last points of the same phase, each carried to the present level by the ratio of the levels
    (by their difference, where the level is near nothing; what was idle stays idle). The level is the median of the
    last whole seasons. Both arrays are (series, time); the expectation is NaN where fewer than `settings.fewest` such
    points are known.
    """
    level = _level(values, season)
    size = level if (np.nan_to_num(values) >= 0).all() else _level(np.abs(values), season)
    carried = np.empty((settings.seasons, *values.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        for back in range(1, settings.seasons + 1):
            then, was = earlier(values, back * season), earlier(level, back * season)
            comparable = np.minimum(level, was) > np.maximum(size, was) / _COMPARABLE**2
            comparable &= np.minimum(level, was) > 0
            ratio = np.where(comparable, level / was, 1.0)
            added = np.where(comparable, 0.0, level - was)
            added[then == 0] = 0.0
            carried[back - 1] = then * np.nan_to_num(ratio, nan=1.0) + np.nan_to_num(added)
    ordered = Ordered(carried)
    return np.where(ordered.known >= settings.fewest, ordered.median(), np.nan), size


def level_window(season: int) -> int:
    """The number of steps the level is learnt from: whole seasons."""
    return season * -(-LEAST_LEVEL // season)


def _level(values: Floats, season: int) -> Floats:
    window = level_window(season)
    step = max(1, window // _RENEWED)
    at = np.arange(0, values.shape[1], step)
    found = Ordered(before(values, window, at)).median()
    return np.repeat(found, step, axis=1)[:, : values.shape[1]]
