"""What a point outside is: a spike, a drop, a new level, or a movement of the whole group."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.detection import (
    DROP,
    NOTHING,
    SHIFT_DOWN,
    SHIFT_UP,
    SPIKE,
    TOGETHER_DOWN,
    TOGETHER_UP,
)
from usage_explore.detector.judging import Judgement
from usage_explore.detector.ordering import runs
from usage_explore.detector.settings import Settings
from usage_explore.detector.shifts import SHORTEST

Kinds = npt.NDArray[np.uint8]


def name(judged: Judgement, season: int, settings: Settings, groups: npt.NDArray[np.intp]) -> Kinds:
    """The kind of every point: outside is a spike or a drop, a lasting run a new level, much of a group a movement.

    Beside the start of a new level, half a season and a step, nothing else is told: its edge is seldom a single step.
    """
    score = np.nan_to_num(judged.score)
    kind = np.where(score > 1, SPIKE, np.where(score < -1, DROP, NOTHING)).astype(np.uint8)
    _group_movements(kind, judged, groups, settings)
    near = season // 2 + 1
    for row, place in zip(*np.nonzero(judged.shift), strict=True):
        beside = kind[row, max(0, place - near) : place + near + 1]
        beside[(beside == SPIKE) | (beside == DROP)] = NOTHING
        kind[row, place] = SHIFT_UP if judged.shift[row, place] > 0 else SHIFT_DOWN
    _long_runs(kind, season, settings)
    return kind


def _long_runs(kind: Kinds, season: int, settings: Settings) -> None:
    """Turn a run of spikes or drops that lasts into a shift at its first step."""
    least = max(SHORTEST, round(season * settings.shift_run))
    for code, shift in ((SPIKE, SHIFT_UP), (DROP, SHIFT_DOWN)):
        for row, start, end in runs(kind == code):
            if end - start >= least:
                kind[row, start:end] = NOTHING
                kind[row, start] = shift


def _group_movements(kind: Kinds, judged: Judgement, groups: npt.NDArray[np.intp], settings: Settings) -> None:
    """Where much of a group moves to one side at the same step, that is one movement, not many.

    Half a band is enough to move along. A series of which nothing is expected cannot fall, so it is not asked.
    """
    number = int(groups.max()) + 1 if len(groups) else 0
    known = ~np.isnan(judged.score)
    able = known & (judged.expected > (judged.high - judged.low) / 4)
    for code, together, sign, asked in ((SPIKE, TOGETHER_UP, 1, known), (DROP, TOGETHER_DOWN, -1, able)):
        members = _by_group(asked, groups, number)
        moved = _by_group(asked & (sign * judged.score > settings.together_score), groups, number)
        movement = (moved >= settings.together_least) & (moved >= settings.together * members)
        kind[movement[groups] & (kind == code)] = together


def _by_group(flags: npt.NDArray[np.bool_], groups: npt.NDArray[np.intp], number: int) -> npt.NDArray[np.intp]:
    """How many of each group's series are flagged at each step."""
    steps = flags.shape[1]
    rows, places = np.nonzero(flags)
    return np.bincount(groups[rows] * steps + places, minlength=number * steps).reshape(number, steps)
