"""The score of every point: its distance from what is expected from both sides, in half bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from usage_explore.detector.baseline import SEASONS_LEARNED, deviation, expectation, level_window
from usage_explore.detector.levels import Shifts, leveled, new_levels
from usage_explore.detector.ordering import Floats
from usage_explore.detector.silences import filled, long_silences, silences

HALF_BAND_DEVIATIONS = 5.2
"""Half of the band, in robust deviations of the residuals."""

MIN_RELATIVE_DEVIATION = 0.01
"""A robust deviation is never below this share of the expectation."""

_BLOCK_VALUES = 500_000  # values judged at a time: bounds memory, and larger blocks are slower
_MIN_COUNT_NOISE = 2.0  # added to a count's expectation: its noise is at least Poisson noise of the sum
_MAX_LEARNED_SCORE = 0.9  # half bands beyond which a point is left out of what is learned
_ONE_SIDE_WIDTH = 1.1  # factor of the band where only one side is known


@dataclass(frozen=True, slots=True)
class Scores:
    """Expectation, band and score of every point; all arrays are (series, time).

    `score`: half bands from the expectation, signed. `sides`: int8, the sides the expectation is learned from: 0 none,
    1 before, 2 after, 3 both. `levels`: int8, 1 where a higher level starts, -1 where a lower one does, else 0.
    `learned`: the values with silences filled.
    """

    expected: Floats
    low: Floats
    high: Floats
    score: Floats
    sides: Shifts
    levels: Shifts
    learned: Floats


def score(values: Floats, season: int, learned: Floats | None = None) -> Scores:
    """Score each point against what came before it and against what came after it.

    Where both sides are known, the score is the distance from the nearer expectation, and 0 between the two. New levels
    are removed first; where that is not possible, the side that has not learned the new level is left out. Nothing is
    learned from silences, and long ones are not judged.
    """
    silent = silences(values, season)
    usual = filled(values, silent, season) if learned is None else learned
    values = np.where(long_silences(silent, season), np.nan, values)
    rows = max(1, _BLOCK_VALUES // max(1, values.shape[1] * max(SEASONS_LEARNED, min(season, 32))))
    blocks = [
        _score_block(values[row : row + rows], usual[row : row + rows], season)
        for row in range(0, max(1, len(values)), rows)
    ]
    if len(blocks) == 1:
        return blocks[0]
    return Scores(*(np.concatenate([getattr(block, name) for block in blocks]) for name in Scores.__slots__))


def _score_block(values: Floats, usual: Floats, season: int) -> Scores:
    """Score twice: the second time with new levels removed, and without learning from points outside at first.

    Where the expectations of the two sides differ by less than the noise of either, the middle between them holds.
    """
    counts: npt.NDArray[np.bool_] = np.all(_may_be_count(values), axis=1, keepdims=True)
    sides = _sides(usual, season)
    first = _weigh(values, usual, sides, counts, 0.0, 1.0, season)
    half = (first.high - first.low - np.abs(np.nan_to_num(sides.before - sides.after))) / 2
    score_before, score_after = (_divided(_level_residuals(usual, side), half) for side in (sides.before, sides.after))
    levels = new_levels(score_before, score_after, season)

    bands = np.divide(half, first.expected, out=np.full_like(half, np.nan), where=first.expected > 0)
    factor, levels, unknown = leveled(usual, levels, bands, season)
    moved = levels.any(axis=1, keepdims=True)
    foreign = ~moved & (np.abs(first.score) > _MAX_LEARNED_SCORE) & (usual == values)
    learned = np.where(foreign, np.nan, usual * factor)
    sides = _sides(learned, season)
    window = level_window(season)
    for row, place in unknown:
        sides.before[row, place : place + window] = np.nan
        sides.after[row, max(0, place - window) : place] = np.nan
    scores = _weigh(values * factor, learned, sides, counts, half * factor / HALF_BAND_DEVIATIONS, factor, season)
    expected, low, high = (bound / factor for bound in (scores.expected, scores.low, scores.high))
    return Scores(expected, low, high, scores.score, scores.sides, levels, usual)


@dataclass(frozen=True, slots=True)
class _Sides:
    """The expectations of each point from before and from after, and the usual size there."""

    before: Floats
    after: Floats
    size: Floats


def _sides(values: Floats, season: int) -> _Sides:
    before, size = expectation(values, season)
    after, size_after = (array[:, ::-1] for array in expectation(values[:, ::-1], season))
    return _Sides(before, after, np.fmax(size, size_after))


def _may_be_count(values: Floats) -> npt.NDArray[np.bool_]:
    whole: npt.NDArray[np.bool_] = np.isnan(values) | ((values >= 0) & (values == np.round(values)))
    return whole


def _level_residuals(values: Floats, expected: Floats) -> Floats:
    """The distance from what is expected; NaN where a value is idle as expected, which says nothing about a level."""
    return np.where((values == 0) & (expected == 0), np.nan, values - expected)


def _weigh(
    values: Floats,
    learned: Floats,
    sides: _Sides,
    counts: npt.NDArray[np.bool_],
    tolerance: Floats | float,
    factor: Floats | float,
    season: int,
) -> Scores:
    """Bands and scores of `values`, their deviation learned from `learned`.

    The sides move towards each other by `tolerance`. `factor` is what the values were multiplied by: the noise of
    counts is that of the original counts.
    """
    lower, upper = np.fmin(sides.before, sides.after), np.fmax(sides.before, sides.after)
    expected = (lower + upper) / 2
    lower, upper = np.fmin(lower + tolerance, expected), np.fmax(upper - tolerance, expected)
    nearer = np.fmin(np.abs(learned - lower), np.abs(learned - upper))
    spread = deviation(learned, nearer, expected, sides.size, season)
    floor = MIN_RELATIVE_DEVIATION * np.maximum(np.abs(expected), sides.size)
    noise = np.where(counts, np.sqrt(np.abs(expected) * factor + _MIN_COUNT_NOISE * factor**2), 0.0)
    one_side = np.isnan(sides.before) | np.isnan(sides.after)
    width = np.where(one_side, _ONE_SIDE_WIDTH, 1.0) * HALF_BAND_DEVIATIONS
    half = width * np.maximum(spread, np.maximum(floor, noise))
    score = _divided(values - np.clip(values, lower, upper), half)
    known = np.where(np.isnan(score), 0, ~np.isnan(sides.before) + 2 * ~np.isnan(sides.after)).astype(np.int8)
    return Scores(
        np.where(np.isnan(half), np.nan, expected),
        lower - half,
        upper + half,
        score,
        known,
        np.zeros_like(known),
        learned,
    )


def _divided(residuals: Floats, half: Floats) -> Floats:
    """Residuals in half bands; 0 where both are 0, NaN where the band is unknown."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(residuals == 0, 0.0, residuals / half) + 0 * half
