"""Which points lie outside, and what that is: a spike, a drop, a new level, or a movement of the whole group."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from usage_explore.detector.baseline import expectation
from usage_explore.detector.detection import (
    DROP,
    NOTHING,
    SHIFT_DOWN,
    SHIFT_UP,
    SPIKE,
    TOGETHER_DOWN,
    TOGETHER_UP,
)
from usage_explore.detector.ordering import Floats, Ordered, before
from usage_explore.detector.settings import Settings
from usage_explore.detector.spread import deviation

Kinds = npt.NDArray[np.uint8]
_SHORTEST_SHIFT = 4
_TOGETHER = 4_000_000  # values in hand at a time, which bounds memory
_FEW = 2.0  # counts are never believed to be quieter than Poisson noise of the expectation and these
_EDGE, _FULL = 0.5, 3.0  # of steps that all look like the start of a new level, the one with the sharpest edge is it
_ALONE = 1.1  # one side knows less than two: its band is wider by so much


@dataclass(frozen=True, slots=True)
class Judgement:
    """Expectation, half band and score per point, and the scores from either side."""

    expected: Floats
    low: Floats
    high: Floats
    score: Floats
    before: Floats
    after: Floats | None


def judge(values: Floats, season: int, settings: Settings) -> Judgement:
    """Score each point against what came before it and, unless causal, against what came after it as well.

    With both sides a value is only as far out as it is from the nearer of the two expectations, and within nothing
    between them: what one side knows well is no surprise.
    """
    rows = max(1, _TOGETHER // max(1, values.shape[1] * max(settings.seasons, min(season, 32))))
    parts = [_judge(values[row : row + rows], season, settings) for row in range(0, max(1, len(values)), rows)]
    if len(parts) == 1:
        return parts[0]
    together = [
        np.concatenate([getattr(part, one) for part in parts])
        for one in ("expected", "low", "high", "score", "before") + (() if settings.causal else ("after",))
    ]
    return Judgement(*together, *([None] if settings.causal else []))


def _judge(values: Floats, season: int, settings: Settings) -> Judgement:
    one, size = expectation(values, season, settings)
    other = None
    lower = upper = one
    whole = np.isnan(values) | ((values >= 0) & (values == np.round(values)))
    if settings.causal:
        counts = np.pad(np.logical_and.accumulate(whole, axis=1), ((0, 0), (1, 0)), constant_values=True)[:, :-1]
    else:
        other, behind = (found[:, ::-1] for found in expectation(values[:, ::-1], season, settings))
        lower, upper, size = np.fmin(one, other), np.fmax(one, other), np.fmax(size, behind)
        counts = whole.all(axis=1, keepdims=True)
    expected = (lower + upper) / 2
    residuals = values - np.clip(values, lower, upper)
    nearer = np.fmin(np.abs(values - lower), np.abs(values - upper))
    spread = deviation(values, nearer, expected, size, season, settings)
    floor = settings.least_relative * np.maximum(np.abs(expected), size)
    noise = np.where(counts, np.sqrt(np.abs(expected) + _FEW), 0.0)
    half = settings.width * np.maximum(spread, np.maximum(floor, noise))
    if other is not None:
        half = np.where(np.isnan(one) | np.isnan(other), _ALONE, 1.0) * half
    return Judgement(
        np.where(np.isnan(half), np.nan, expected),
        lower - half,
        upper + half,
        _score(residuals, half),
        _score(values - one, half),
        None if other is None else _score(values - other, half),
    )


def _score(residuals: Floats, half: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(residuals == 0, 0.0, residuals / half) + 0 * half


def name(judged: Judgement, season: int, settings: Settings, groups: npt.NDArray[np.intp]) -> Kinds:
    """The kind of every point: runs outside are spikes or drops, long ones and agreeing edges are new levels."""
    score = np.nan_to_num(judged.score)
    kind = np.where(score > 1, SPIKE, np.where(score < -1, DROP, NOTHING)).astype(np.uint8)
    _group_movements(kind, judged, groups, settings)
    shift = _shifts(judged, season, settings)
    sides = (~np.isnan(judged.before)).astype(int) + (0 if judged.after is None else ~np.isnan(judged.after))
    for row, place in zip(*np.nonzero(shift), strict=True):
        up = shift[row, place] == SHIFT_UP
        near = max(1, season // 2 if sides[row, place] == 2 else 2 * season)
        _clear(kind[row, max(0, place - near) : place], DROP if up else SPIKE)
        _clear(kind[row, place : place + near], SPIKE if up else DROP)
        kind[row, place] = shift[row, place]
    _long_runs(kind, season, settings)
    return kind


def _clear(part: Kinds, code: int) -> None:
    """Beside a new level, what the side that does not know it calls a spike or drop is the level itself."""
    part[part == code] = NOTHING


def _shifts(judged: Judgement, season: int, settings: Settings) -> Kinds:
    """Where the half season after is far from what was learnt before, and the half season before from what follows.

    Needs both sides; alone, a lasting run outside tells (`_long_runs`).
    """
    found = np.zeros(judged.score.shape, np.uint8)
    if judged.after is None or not found.size:
        return found
    half = max(_SHORTEST_SHIFT, season)
    ahead = _ahead(judged.before, half)
    behind = -_ahead(judged.after[:, ::-1], half)[:, ::-1]
    behind = np.concatenate([np.full((len(behind), 1), np.nan), behind[:, :-1]], axis=1)
    size = np.nan_to_num(np.where(np.sign(ahead) == np.sign(behind), np.fmin(np.abs(ahead), np.abs(behind)), 0.0))
    jump = np.diff(np.nan_to_num(judged.before), axis=1, prepend=0) * np.sign(np.nan_to_num(ahead))
    key = size + _EDGE * np.clip(jump, 0, _FULL)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(key, ((0, 0), (half, half))), 2 * half + 1, axis=1)
    sure = (size > settings.shift) & (key >= around.max(axis=-1))
    found[sure & (ahead > 0)] = SHIFT_UP
    found[sure & (ahead < 0)] = SHIFT_DOWN
    return found


def _ahead(score: Floats, steps: int) -> Floats:
    """The median of this and the next `steps - 1` scores, NaN where not all are known."""
    found = np.full_like(score, np.nan)
    if score.shape[1] >= steps:
        ordered = Ordered(before(score, steps, np.arange(steps, score.shape[1] + 1)))
        found[:, : score.shape[1] - steps + 1] = np.where(ordered.known == steps, ordered.median(), np.nan)
    return found


def _long_runs(kind: Kinds, season: int, settings: Settings) -> None:
    """Turn a run of spikes or drops that lasts into a shift at its first step."""
    least = max(_SHORTEST_SHIFT, round(season * settings.shift_run))
    for code, shift in ((SPIKE, SHIFT_UP), (DROP, SHIFT_DOWN)):
        for row, start, end in runs(kind == code):
            if end - start >= least:
                kind[row, start:end] = NOTHING
                kind[row, start] = shift


def runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int, int]]:
    """Each maximal run of true flags as (row, start, end), end excluded."""
    edges = np.diff(np.pad(flags, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    _, ends = np.nonzero(edges == -1)
    return list(zip(rows.tolist(), starts.tolist(), ends.tolist(), strict=True))


def _group_movements(kind: Kinds, judged: Judgement, groups: npt.NDArray[np.intp], settings: Settings) -> None:
    """Where much of a group moves to one side at the same step, that is one movement, not many.

    Half a band is enough to move along. A series of which nothing is expected cannot fall, so it is not asked.
    """
    number = int(groups.max()) + 1 if len(groups) else 0
    known = ~np.isnan(judged.score)
    able = known & (judged.expected > (judged.high - judged.low) / 4)
    for code, together, sign, asked in ((SPIKE, TOGETHER_UP, 1, known), (DROP, TOGETHER_DOWN, -1, able)):
        members, moved = (np.zeros((number, kind.shape[1])) for _ in range(2))
        np.add.at(members, groups, asked)
        np.add.at(moved, groups, asked & (sign * judged.score > settings.together_score))
        movement = (moved >= settings.together_least) & (moved >= settings.together * members)
        kind[movement[groups] & (kind == code)] = together
