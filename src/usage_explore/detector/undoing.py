"""A series with its new levels undone: as if it had always been at the level it ends at."""

from __future__ import annotations

import numpy as np

from usage_explore.detector.ordering import Floats, Ordered
from usage_explore.detector.shifts import Shifts

_SEASONS = 3  # on either side of a new level that say how high it is
_LEAST = 0.5  # of the relative half band there, by which a new level differs from the old one at least


def undone(values: Floats, shift: Shifts, bands: Floats, season: int) -> tuple[Floats, Shifts, list[tuple[int, int]]]:
    """What to multiply each value by so that no new level is left, which of `shift` are new levels, which could not be.

    All arrays are (series, time); `bands` are half bands as a share of the expectation, NaN where nothing is expected.
    How high a level is, as a multiple of the one before, is the median over the phases of the ratio of their medians,
    up to three seasons after to as many before. One that hardly differs, or to the other side, is none. Where a side is
    shorter than a season, or nothing, it cannot be told: row and step are given back, and the level is left in place.
    """
    factor, kept = np.ones_like(values), shift.copy()
    left = []
    for row in np.nonzero(shift.any(axis=1))[0].tolist():
        places = np.nonzero(shift[row])[0].tolist()
        for start, place, end in zip([0, *places], places, [*places[1:], values.shape[1]], strict=False):
            ratio = _ratio(values[row, start:place], values[row, place:end], season)
            rise = ratio if shift[row, place] > 0 else 1 / ratio
            if np.isnan(ratio):
                left.append((row, place))
            elif rise <= 1 + _LEAST * _middle(bands[row, max(0, place - season) : place + season]):
                kept[row, place] = 0
            else:
                factor[row, :place] *= ratio
    return factor, kept, left


def _ratio(old: Floats, new: Floats, season: int) -> float:
    """How high the new level is, as a multiple of the old one; NaN where that cannot be told."""
    steps = min(_SEASONS, len(old) // season, len(new) // season) * season
    if not steps:
        return float("nan")
    before, after = (Ordered(part.reshape(-1, season).copy()).median() for part in (old[-steps:], new[:steps]))
    both = (before > 0) & (after > 0)
    return float(np.median(after[both] / before[both])) if both.any() else float("nan")


def _middle(bands: Floats) -> float:
    known = bands[~np.isnan(bands)]
    return float(np.median(known)) if len(known) else 0.0
