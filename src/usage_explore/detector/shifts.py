"""New levels: where what follows is far from what was learnt before, and what came before from what follows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.ordering import Floats, Ordered, before
from usage_explore.detector.settings import Settings

Shifts = npt.NDArray[np.int8]
SHORTEST = 4
"""Fewer steps outside never make a level."""

_EDGE, _FULL = 0.5, 3.0  # of steps that all look like the start of a new level, the one with the sharpest edge is it


def shifts(ahead_of: Floats, behind_of: Floats, season: int, settings: Settings) -> Shifts:
    """1 where a higher level starts, -1 where a lower one does, else 0.

    Takes the scores against what was learnt before and against what was learnt after. The season from the start on
    must lie outside of the first by its median, the season up to it outside of the second, to opposite sides.
    """
    found = np.zeros(ahead_of.shape, np.int8)
    if not found.size:
        return found
    steps = max(SHORTEST, season)
    ahead = _ahead(ahead_of, steps)
    behind = -_ahead(behind_of[:, ::-1], steps)[:, ::-1]
    behind = np.concatenate([np.full((len(behind), 1), np.nan), behind[:, :-1]], axis=1)
    size = np.nan_to_num(np.where(np.sign(ahead) == np.sign(behind), np.fmin(np.abs(ahead), np.abs(behind)), 0.0))
    jump = np.diff(np.nan_to_num(ahead_of), axis=1, prepend=0) * np.sign(np.nan_to_num(ahead))
    key = size + _EDGE * np.clip(jump, 0, _FULL)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(key, ((0, 0), (steps, steps))), 2 * steps + 1, axis=1)
    sure = (size > settings.shift) & (key >= around.max(axis=-1))
    found[sure] = np.sign(ahead[sure])
    return found


def _ahead(score: Floats, steps: int) -> Floats:
    """The median of this and the next `steps - 1` scores, NaN where fewer than half of them, or than 4, are known."""
    found = np.full_like(score, np.nan)
    if score.shape[1] >= steps:
        ordered = Ordered(before(score, steps, np.arange(steps, score.shape[1] + 1)))
        enough = ordered.known >= max(SHORTEST, steps // 2)
        found[:, : score.shape[1] - steps + 1] = np.where(enough, ordered.median(), np.nan)
    return found
