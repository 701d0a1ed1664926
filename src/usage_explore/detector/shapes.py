"""How unlike anything before the last few steps look."""

from __future__ import annotations

import numpy as np

from usage_explore.detector.ordering import Floats

STEPS = 12
"""The length of a shape."""

_REACH = 3_000  # steps back that are searched for the like of it
_NEAREST = STEPS + STEPS // 2  # a shape is not compared with one that it overlaps, or nearly


def strangeness(values: Floats) -> Floats:
    """The root mean square distance of the last 12 values from the nearest 12 that came before them. Causal.

    (series, time), NaN where there is nothing to compare with, or a value is unknown.
    """
    found = np.full_like(values, np.inf)
    for back in range(_NEAREST, min(_REACH, values.shape[1] - STEPS) + 1):
        squares = (values[:, back:] - values[:, :-back]) ** 2
        total = np.cumsum(np.pad(np.nan_to_num(squares), ((0, 0), (1, 0))), axis=1)
        unknown = np.cumsum(np.pad(np.isnan(squares), ((0, 0), (1, 0))), axis=1)
        window = total[:, STEPS:] - total[:, :-STEPS]
        window[(unknown[:, STEPS:] - unknown[:, :-STEPS]) > 0] = np.inf
        place = found[:, back + STEPS - 1 :]
        np.minimum(place, window, out=place)
    found[np.isinf(found)] = np.nan
    return np.sqrt(np.maximum(found, 0) / STEPS)
