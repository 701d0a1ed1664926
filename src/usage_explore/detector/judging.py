"""How far every point lies out of what is expected of it, from before, and from after as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from usage_explore.detector.baseline import expectation, level_window
from usage_explore.detector.ordering import Floats
from usage_explore.detector.settings import Settings
from usage_explore.detector.shifts import Shifts, shifts
from usage_explore.detector.silences import filled, long, silences
from usage_explore.detector.spread import deviation
from usage_explore.detector.undoing import undone

_TOGETHER = 500_000  # values in hand at a time, which bounds memory, and is faster than more
_FEW = 2.0  # counts are never believed to be quieter than Poisson noise of the expectation and these
_LEFT_OUT = 0.9  # of a half band: what lies farther out teaches nothing of what is usual
_ALONE = 1.1  # one side knows less than two: its band is wider by so much


@dataclass(frozen=True, slots=True)
class Judgement:
    """Expectation, band and score of every point, which sides it was learnt from, and where new levels start.

    `sides`: int8, 0 no phase known, 1 before, 2 after, 3 both. `shift`: int8, 1 where a higher level starts, -1 where
    a lower one does. `learnt`: the values without their silences.
    """

    expected: Floats
    low: Floats
    high: Floats
    score: Floats
    sides: Shifts
    shift: Shifts
    learnt: Floats


def judge(values: Floats, season: int, settings: Settings, learnt: Floats | None = None) -> Judgement:
    """Score each point against what came before it and against what came after it.

    With both sides a value is only as far out as it is from the nearer of the two expectations, and within nothing
    between them: what one side knows well is no surprise. New levels are undone first, where they can be; else the side
    that has not learnt one is not asked beside it. Nothing is learnt from silences, and long ones are not judged.
    """
    silent = silences(values, season)
    usual = filled(values, silent, season) if learnt is None else learnt
    values = np.where(long(silent, season), np.nan, values)
    rows = max(1, _TOGETHER // max(1, values.shape[1] * max(settings.seasons, min(season, 32))))
    parts = [
        _judge(values[row : row + rows], usual[row : row + rows], season, settings)
        for row in range(0, max(1, len(values)), rows)
    ]
    if len(parts) == 1:
        return parts[0]
    return Judgement(*(np.concatenate([getattr(part, one) for part in parts]) for one in Judgement.__slots__))


def _judge(values: Floats, learnt: Floats, season: int, settings: Settings) -> Judgement:
    counts: npt.NDArray[np.bool_] = np.all(_whole(values), axis=1, keepdims=True)
    sides = _sides(learnt, season, settings)
    first = _weigh(values, learnt, sides, counts, 0.0, 1.0, season, settings)
    half = (first.high - first.low - np.abs(np.nan_to_num(sides.one - sides.other))) / 2
    shift = shifts(
        _score(_telling(learnt, sides.one), half), _score(_telling(learnt, sides.other), half), season, settings
    )
    return _again(values, learnt, first, half, shift, counts, season, settings)


def _again(
    values: Floats,
    usual: Floats,
    first: Judgement,
    half: Floats,
    shift: Shifts,
    counts: npt.NDArray[np.bool_],
    season: int,
    settings: Settings,
) -> Judgement:
    """Judge once more, new levels undone, and nothing learnt from what was outside at first.

    What the two sides differ by within the noise of either is no doubt: there the middle between them is expected.
    """
    bands = np.divide(half, first.expected, out=np.full_like(half, np.nan), where=first.expected > 0)
    factor, shift, left = undone(usual, shift, bands, season)
    level = values * factor
    moved = shift.any(axis=1, keepdims=True)
    foreign = ~moved & (np.abs(first.score) > _LEFT_OUT) & (usual == values)
    learnt = np.where(foreign, np.nan, usual * factor)
    sides = _sides(learnt, season, settings)
    window = level_window(season)
    for row, place in left:
        sides.one[row, place : place + window] = np.nan
        sides.other[row, max(0, place - window) : place] = np.nan
    judged = _weigh(level, learnt, sides, counts, half * factor / settings.width, factor, season, settings)
    expected, low, high = (found / factor for found in (judged.expected, judged.low, judged.high))
    return Judgement(expected, low, high, judged.score, judged.sides, shift, usual)


@dataclass(frozen=True, slots=True)
class _Sides:
    """What is expected of each point from before (`one`) and from after (`other`), and the usual size there."""

    one: Floats
    other: Floats
    size: Floats


def _sides(values: Floats, season: int, settings: Settings) -> _Sides:
    one, size = expectation(values, season, settings)
    other, behind = (found[:, ::-1] for found in expectation(values[:, ::-1], season, settings))
    return _Sides(one, other, np.fmax(size, behind))


def _whole(values: Floats) -> npt.NDArray[np.bool_]:
    """Where a value may be a count."""
    whole: npt.NDArray[np.bool_] = np.isnan(values) | ((values >= 0) & (values == np.round(values)))
    return whole


def _telling(values: Floats, expected: Floats) -> Floats:
    """How far values lie from what is expected; NaN where they are idle as expected, which tells of no level."""
    return np.where((values == 0) & (expected == 0), np.nan, values - expected)


def _weigh(
    values: Floats,
    learnt: Floats,
    sides: _Sides,
    counts: npt.NDArray[np.bool_],
    doubt: Floats | float,
    factor: Floats | float,
    season: int,
    settings: Settings,
) -> Judgement:
    """Bands and scores of `values`, their spread from those that are `learnt` (NaN: not from this one).

    The sides move towards each other by `doubt`. `factor` is what the values were multiplied by: counts keep the noise
    of what was counted.
    """
    lower, upper = np.fmin(sides.one, sides.other), np.fmax(sides.one, sides.other)
    expected = (lower + upper) / 2
    lower, upper = np.fmin(lower + doubt, expected), np.fmax(upper - doubt, expected)
    nearer = np.fmin(np.abs(learnt - lower), np.abs(learnt - upper))
    spread = deviation(learnt, nearer, expected, sides.size, season, settings)
    floor = settings.least_relative * np.maximum(np.abs(expected), sides.size)
    noise = np.where(counts, np.sqrt(np.abs(expected) * factor + _FEW * factor**2), 0.0)
    width = np.where(np.isnan(sides.one) | np.isnan(sides.other), _ALONE, 1.0) * settings.width
    half = width * np.maximum(spread, np.maximum(floor, noise))
    score = _score(values - np.clip(values, lower, upper), half)
    known = np.where(np.isnan(score), 0, ~np.isnan(sides.one) + 2 * ~np.isnan(sides.other)).astype(np.int8)
    return Judgement(
        np.where(np.isnan(half), np.nan, expected),
        lower - half,
        upper + half,
        score,
        known,
        np.zeros_like(known),
        learnt,
    )


def _score(residuals: Floats, half: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(residuals == 0, 0.0, residuals / half) + 0 * half
