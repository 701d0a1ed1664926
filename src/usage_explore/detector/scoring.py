"""The score of every point: its distance from what is expected from both sides, in half bands.

The expectation is learned from points of the same phase, the band from the usual deviation from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from usage_explore.detector.breaks import Shifts, ending, filled, leveled, long_silences, new_levels, silences
from usage_explore.detector.ordering import Floats, Ordered, Places, before, earlier

SEASONS_LEARNED = 8
"""Earlier points of the same phase ("the last 8 Mondays") that make an expectation."""

MIN_SEASONS_KNOWN = 3
"""Known points of the same phase without which a point has no expectation."""

MIN_LEVEL_STEPS = 14
"""Steps of the level's window, at least; the window is a whole number of seasons."""

MIN_RESIDUALS_KNOWN = 14
"""Known residuals without which a deviation is unknown (fewer where the seasons learned from are shorter)."""

_LEVELS_PER_WINDOW = 32  # times that the level is computed anew within one window
_COMPARABLE_SHARE = 1 / 16  # levels above this share of the usual size are compared by ratio, others by difference

_NORMAL_MEDIAN = 0.6745  # the median of absolute residuals of a normal distribution with deviation 1
_TAIL_QUANTILE, _NORMAL_TAIL = 0.95, 1.96  # a far quantile of absolute residuals, and its value for that distribution
_SIZE_SHARE = 0.05  # share of the series' usual size in a residual's unit; the rest is the phase's expectation
_IRREGULAR_SHARE = 0.15  # share of steps idle against expectation, or busy against it, from which usage has no pattern
_FOREIGN_DEVIATIONS = 5.0  # residuals of more robust deviations are anomalies and left out
_MIN_RESIDUALS_SPREAD = 2  # a single use in a mostly idle series does not make a deviation
_MAX_RESIDUALS_SORTED = 512  # residuals sorted for one deviation, taken evenly

HALF_BAND_DEVIATIONS = 5.2
"""Half of the band, in robust deviations of the residuals."""

MIN_RELATIVE_DEVIATION = 0.01
"""A robust deviation is never below this share of the expectation."""

_BLOCK_VALUES = 500_000  # values judged at a time: bounds memory, and larger blocks are slower
_MIN_COUNT_NOISE = 2.0  # added to a count's expectation: its noise is at least Poisson noise of the sum
_MAX_LEARNED_SCORE = 0.9  # half bands beyond which a point is left out of what is learned
_ONE_SIDE_WIDTH = 1.1  # factor of the band where only one side is known


def _scaled(values: Floats, season: int) -> tuple[Floats, Floats]:
    """The last points of the same phase at the present level, and the usual size (median of magnitudes) before.

    Each point is scaled to the present level by the ratio of the levels (shifted by their difference where a level is
    near 0; idle points stay 0). The level is the median of the last whole seasons. The points are (`SEASONS_LEARNED`,
    series, time), the sizes (series, time).
    """
    level = _level(values, season)
    size = level if (np.nan_to_num(values) >= 0).all() else _level(np.abs(values), season)
    scaled = np.empty((SEASONS_LEARNED, *values.shape))
    with np.errstate(divide="ignore", invalid="ignore"):
        for back in range(1, SEASONS_LEARNED + 1):
            past, past_level = earlier(values, back * season), earlier(level, back * season)
            comparable = np.minimum(level, past_level) > np.maximum(size, past_level) * _COMPARABLE_SHARE
            comparable &= np.minimum(level, past_level) > 0
            ratio = np.where(comparable, level / past_level, 1.0)
            difference = np.where(comparable, 0.0, level - past_level)
            difference[past == 0] = 0.0
            scaled[back - 1] = past * np.nan_to_num(ratio, nan=1.0) + np.nan_to_num(difference)
    return scaled, size


def level_window(season: int) -> int:
    """The number of steps the level is learned from: whole seasons."""
    return season * -(-MIN_LEVEL_STEPS // season)


def _level(values: Floats, season: int) -> Floats:
    window = level_window(season)
    step = max(1, window // _LEVELS_PER_WINDOW)
    at = np.arange(0, values.shape[1], step)
    medians = Ordered(before(values, window, at)).median()
    return np.repeat(medians, step, axis=1)[:, : values.shape[1]]


def deviation(values: Floats, residuals: Floats, expected: Floats, size: Floats, season: int) -> Floats:
    """The robust deviation of each point, (series, time), renewed every season, NaN while too few residuals are known.

    `residuals` are absolute; `SEASONS_LEARNED` seasons on either side are learned from.

    Residuals are measured twice: in units (mostly a phase's expectation, a little the usual size of the series) and
    plainly. The smaller deviation holds, so that busy phases do not widen the band of quiet ones. Where usage has no
    pattern, the usual size of a use holds instead. Steps that are idle as expected (weekends, nights) are left out.
    """
    unit = np.where(size > 0, (1 - _SIZE_SHARE) * np.abs(expected) + _SIZE_SHARE * size, np.nan)
    idle, idle_expected = values == 0, expected == 0
    absolute = np.where(idle & idle_expected, np.nan, residuals)
    places, steps = _windows(residuals.shape[1], season)
    relative, plain = _spread(absolute / unit, places), np.nan_to_num(_spread(absolute, places))
    known = _counted(~np.isnan(residuals), places)
    irregular = _counted((idle != idle_expected) & ~np.isnan(residuals), places) > _IRREGULAR_SHARE * known
    rows = np.nonzero(irregular.any(axis=1))[0]
    used = _spread(np.where(idle[rows] | np.isnan(residuals[rows]), np.nan, np.abs(values[rows])), places)
    plain[rows] = np.where(irregular[rows], np.fmax(used, plain[rows]), plain[rows])
    plain[known < min(MIN_RESIDUALS_KNOWN, season * SEASONS_LEARNED)] = np.nan
    return np.where(irregular[:, steps], plain[:, steps], np.fmin(relative[:, steps] * unit, plain[:, steps]))


def _counted(flags: npt.NDArray[np.bool_], places: Places) -> npt.NDArray[np.int_]:
    counts: npt.NDArray[np.int_] = np.count_nonzero(np.pad(flags, ((0, 0), (0, 1)))[:, places], axis=2)
    return counts


def _windows(time: int, season: int) -> tuple[Places, Places]:
    """The places deviations are learned from, (windows, places) with `time` for none, and the window of each step."""
    seasons, window = -(-time // season), 2 * season * SEASONS_LEARNED
    first = np.clip(np.arange(seasons) * season - (window - season) // 2, 0, max(0, time - window))
    starts, which = np.unique(first, return_inverse=True)
    places = starts[:, None] + np.arange(0, window, max(1, window // _MAX_RESIDUALS_SORTED))
    return np.where((places < 0) | (places >= time), time, places), np.repeat(which, season)[:time]


def _spread(residuals: Floats, places: Places) -> Floats:
    """The mean of two deviations, by the squares and by a far quantile: fat tails widen the band.

    Both leave out residuals that are foreign by the median of all.
    """
    padded = np.pad(residuals, ((0, 0), (0, 1)), constant_values=np.nan)
    ordered = Ordered(np.moveaxis(padded[:, places], 2, 0).copy())
    middle = ordered.median() / _NORMAL_MEDIAN
    familiar = ordered.values <= _FOREIGN_DEVIATIONS * middle
    number = np.count_nonzero(familiar, axis=0)
    ratios = np.divide(ordered.values, middle, out=np.zeros_like(ordered.values), where=familiar & (middle > 0))
    square = middle * np.sqrt(np.sum(ratios * ratios, axis=0) / np.maximum(number, 1))
    tail = ordered.quantile(_TAIL_QUANTILE, number) / _NORMAL_TAIL
    return np.where(ordered.known >= _MIN_RESIDUALS_SPREAD, (square + tail) / 2, np.nan)


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

    Where both sides are known, the score is the distance from the nearer expectation, and 0 between the two. Where each
    has too few points, as in the middle of a month without history, they are taken together. New levels are removed
    first; where that is not possible, the side that has not learned the new level is left out. Nothing is learned from
    silences, and long ones are not judged.
    """
    silent = silences(values, season)
    usual = filled(values, silent, season) if learned is None else np.where(ending(silent), np.nan, learned)
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
    first = _weigh(values, usual, sides.completed(), counts, 0.0, 1.0, season)
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
        sides.both[row] = np.nan
    scores = _weigh(
        values * factor, learned, sides.completed(), counts, half * factor / HALF_BAND_DEVIATIONS, factor, season
    )
    expected, low, high = (bound / factor for bound in (scores.expected, scores.low, scores.high))
    return Scores(expected, low, high, scores.score, scores.sides, levels, usual)


@dataclass(frozen=True, slots=True)
class _Sides:
    """The expectations of each point from before and from after, and the usual size there.

    `both` is the expectation from both sides together where each alone has too few points, else NaN.
    """

    before: Floats
    after: Floats
    size: Floats
    both: Floats

    def completed(self) -> _Sides:
        """With the expectation from both together for each of the sides."""
        before, after = (np.where(np.isnan(self.both), side, self.both) for side in (self.before, self.after))
        return _Sides(before, after, self.size, self.both)


def _sides(values: Floats, season: int) -> _Sides:
    """The expectation is the median of the points of the same phase, of `MIN_SEASONS_KNOWN` at least."""
    past, size = _scaled(values, season)
    future, size_after = (array[..., ::-1] for array in _scaled(values[:, ::-1], season))
    few = np.ones(values.shape, np.bool_)
    known = np.zeros(values.shape, np.intp)
    for points in (past, future):
        number = np.count_nonzero(~np.isnan(points), axis=0)
        few &= number < MIN_SEASONS_KNOWN
        known += number
    few &= known >= MIN_SEASONS_KNOWN
    both = np.full_like(values, np.nan)
    both[few] = Ordered(np.concatenate([past[:, few], future[:, few]])).median()
    before, after = (_expected(points) for points in (past, future))
    return _Sides(before, after, np.fmax(size, size_after), both)


def _expected(points: Floats) -> Floats:
    ordered = Ordered(points)
    return np.where(ordered.known >= MIN_SEASONS_KNOWN, ordered.median(), np.nan)


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
