"""How far every point lies out of what is expected of it, from before, and from after as well."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from usage_explore.detector.baseline import expectation, level_window
from usage_explore.detector.ordering import Floats
from usage_explore.detector.rarity import reach
from usage_explore.detector.settings import Settings
from usage_explore.detector.shifts import Shifts, shifts
from usage_explore.detector.spread import deviation
from usage_explore.detector.stream import alarms

_TOGETHER = 4_000_000  # values in hand at a time, which bounds memory
_FEW = 2.0  # counts are never believed to be quieter than Poisson noise of the expectation and these
_ALONE = 1.1  # one side knows less than two: its band is wider by so much


@dataclass(frozen=True, slots=True)
class Judgement:
    """Expectation, band and score of every point, which sides it was learnt from, and where new levels start.

    `sides`: int8, 0 no phase known, 1 before, 2 after, 3 both. `shift`: int8, 1 where a higher level starts, -1 where
    a lower one does. `alarm`: a stream's, see `stream.alarms`.
    """

    expected: Floats
    low: Floats
    high: Floats
    score: Floats
    sides: Shifts
    shift: Shifts
    alarm: Floats


def judge(values: Floats, season: int, settings: Settings) -> Judgement:
    """Score each point against what came before it and, unless causal, against what came after it as well.

    With both sides a value is only as far out as it is from the nearer of the two expectations, and within nothing
    between them: what one side knows well is no surprise. Beside a new level the side that has not learnt it is
    not asked.
    """
    rows = max(1, _TOGETHER // max(1, values.shape[1] * max(settings.seasons, min(season, 32))))
    parts = [_judge(values[row : row + rows], season, settings) for row in range(0, max(1, len(values)), rows)]
    if len(parts) == 1:
        return parts[0]
    return Judgement(*(np.concatenate([getattr(part, one) for part in parts]) for one in Judgement.__slots__))


def _judge(values: Floats, season: int, settings: Settings) -> Judgement:
    whole = np.isnan(values) | ((values >= 0) & (values == np.round(values)))
    one, size = expectation(values, season, settings)
    if settings.causal:
        counts = np.pad(np.logical_and.accumulate(whole, axis=1), ((0, 0), (1, 0)), constant_values=True)[:, :-1]
        judged = _weigh(values, one, np.full_like(one, np.nan), size, counts, season, settings)
        return _stream(values, judged, season, settings)
    other, behind = (found[:, ::-1] for found in expectation(values[:, ::-1], season, settings))
    size = np.fmax(size, behind)
    counts = whole.all(axis=1, keepdims=True)
    judged = _weigh(values, one, other, size, counts, season, settings)
    half = (judged.high - judged.low - np.abs(np.nan_to_num(one - other))) / 2
    judged.shift[:] = shifts(_score(values - one, half), _score(values - other, half), season, settings)
    moved = np.nonzero(judged.shift.any(axis=1))[0]
    if len(moved):
        one, other = one[moved], other[moved]
        window = level_window(season)
        for row, place in zip(*np.nonzero(judged.shift[moved]), strict=True):
            one[row, place : place + window] = np.nan
            other[row, max(0, place - window) : place] = np.nan
        again = _weigh(values[moved], one, other, size[moved], counts[moved], season, settings)
        for name in ("expected", "low", "high", "score", "sides"):
            getattr(judged, name)[moved] = getattr(again, name)
    return judged


def _stream(values: Floats, judged: Judgement, season: int, settings: Settings) -> Judgement:
    """With alarms; where no phase is known yet, with the range of all values before instead of a seasonal band."""
    rare, alarm = alarms(values, judged.score, season, settings)
    young = np.isnan(judged.score)
    return Judgement(
        np.where(young, rare.middle, judged.expected),
        np.where(young, rare.low, judged.low),
        np.where(young, rare.high, judged.high),
        np.where(young, rare.nats / reach(settings), judged.score),
        judged.sides,
        judged.shift,
        alarm,
    )


def _weigh(
    values: Floats,
    one: Floats,
    other: Floats,
    size: Floats,
    counts: npt.NDArray[np.bool_],
    season: int,
    settings: Settings,
) -> Judgement:
    lower, upper = np.fmin(one, other), np.fmax(one, other)
    expected = (lower + upper) / 2
    nearer = np.fmin(np.abs(values - lower), np.abs(values - upper))
    spread = deviation(values, nearer, expected, size, season, settings)
    floor = settings.least_relative * np.maximum(np.abs(expected), size)
    noise = np.where(counts, np.sqrt(np.abs(expected) + _FEW), 0.0)
    half = settings.width * np.maximum(spread, np.maximum(floor, noise))
    if not settings.causal:
        half = np.where(np.isnan(one) | np.isnan(other), _ALONE, 1.0) * half
    score = _score(values - np.clip(values, lower, upper), half)
    sides = np.where(np.isnan(score), 0, ~np.isnan(one) + 2 * ~np.isnan(other)).astype(np.int8)
    return Judgement(
        np.where(np.isnan(half), np.nan, expected),
        lower - half,
        upper + half,
        score,
        sides,
        np.zeros_like(sides),
        np.zeros_like(score),
    )


def _score(residuals: Floats, half: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(residuals == 0, 0.0, residuals / half) + 0 * half
