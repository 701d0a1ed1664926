"""The kind of every point, and the anomalies: runs, new levels and group movements, each with its reason."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from usage_explore.detector.breaks import MIN_LEVEL_LENGTH
from usage_explore.detector.ordering import Floats, runs
from usage_explore.detector.scoring import SEASONS_LEARNED, Scores

Kinds = npt.NDArray[np.uint8]
Groups = npt.NDArray[np.intp]

NOTHING, SPIKE, DROP, SHIFT_UP, SHIFT_DOWN, TOGETHER_UP, TOGETHER_DOWN = range(7)
KINDS = ("nothing", "spike", "drop", "shift_up", "shift_down", "together_up", "together_down")
"""The names of the codes in `Detection.kind`, by code."""

MIN_LEVEL_SEASONS = 0.5
"""A run outside the band that lasts this part of a season (and 4 steps) is a new level, not a spike or drop."""

MIN_GROUP_SHARE = 0.4
"""Share of a group's series that move to the same side at one step, from which they are one anomaly."""

MIN_GROUP_SERIES = 3
"""Series without which there is no group movement."""

MIN_GROUP_SCORE = 0.5
"""Distance from the expectation, in half bands, from which a series takes part in a group movement."""

_PHASES = {1: "steps", 7: "same weekdays", 24: "same hours of the day", 168: "same hours of the week"}


@dataclass(frozen=True, slots=True)
class Anomaly:
    """One anomaly: series (its row) and the half-open span of steps it covers, with the reason in words.

    `kind` is one of `KINDS`. `value`, `expected`, `low`, `high` and `score` are those of the step farthest outside its
    band; of a new level they are the medians over its first season. `reason` continues the sentence "the value is":
    "above the band 90–140 learnt from up to 8 same weekdays before". `others` are the further series of a group
    movement; the anomaly's own series is the one farthest outside.
    """

    series: int
    start: int
    end: int
    kind: str
    value: float
    expected: float
    low: float
    high: float
    score: float
    reason: str
    others: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Detection:
    """The judgement of every point; all arrays are (series, time). Iterating gives the anomalies.

    `expected`, `low`, `high`: float64 in the values' unit, NaN where a point is not judged.
    `score`: float64, signed distance from the expectation in half bands; beyond ±1 is outside. NaN where not judged.
    `kind`: uint8, codes of `KINDS`. Each step of a spike or drop has one; a new level has one at its first step.
    """

    values: Floats
    expected: Floats
    low: Floats
    high: Floats
    score: Floats
    kind: Kinds
    anomalies: tuple[Anomaly, ...] = field(repr=False)

    def __iter__(self) -> Iterator[Anomaly]:
        """The anomalies, by series and start."""
        return iter(self.anomalies)


def classify(scores: Scores, season: int, groups: Groups) -> Kinds:
    """The kind of every point: outside is a spike or drop, a lasting run a new level, many of a group a movement.

    Within half a season and a step of a new level's start there are no spikes and drops: its edge is rarely sharp.
    """
    score = np.nan_to_num(scores.score)
    kind = np.where(score > 1, SPIKE, np.where(score < -1, DROP, NOTHING)).astype(np.uint8)
    _mark_group_movements(kind, scores, groups)
    near = season // 2 + 1
    for row, place in zip(*np.nonzero(scores.levels), strict=True):
        beside = kind[row, max(0, place - near) : place + near + 1]
        beside[(beside == SPIKE) | (beside == DROP)] = NOTHING
        kind[row, place] = SHIFT_UP if scores.levels[row, place] > 0 else SHIFT_DOWN
    _mark_long_runs(kind, season)
    return kind


def _mark_long_runs(kind: Kinds, season: int) -> None:
    min_length = max(MIN_LEVEL_LENGTH, round(season * MIN_LEVEL_SEASONS))
    for code, shift in ((SPIKE, SHIFT_UP), (DROP, SHIFT_DOWN)):
        for row, start, end in runs(kind == code):
            if end - start >= min_length:
                kind[row, start:end] = NOTHING
                kind[row, start] = shift


def _mark_group_movements(kind: Kinds, scores: Scores, groups: Groups) -> None:
    """Mark steps at which many of a group's series move to one side.

    Series without an expectation cannot fall and are not counted for a fall.
    """
    number = int(groups.max()) + 1 if len(groups) else 0
    known = ~np.isnan(scores.score)
    can_fall = known & (scores.expected > (scores.high - scores.low) / 4)
    for code, together, sign, able in ((SPIKE, TOGETHER_UP, 1, known), (DROP, TOGETHER_DOWN, -1, can_fall)):
        members = _count_by_group(able, groups, number)
        moved = _count_by_group(able & (sign * scores.score > MIN_GROUP_SCORE), groups, number)
        movement = (moved >= MIN_GROUP_SERIES) & (moved >= MIN_GROUP_SHARE * members)
        kind[movement[groups] & (kind == code)] = together


def _count_by_group(flags: npt.NDArray[np.bool_], groups: Groups, number: int) -> npt.NDArray[np.intp]:
    """The number of each group's series that are flagged, (groups, time)."""
    steps = flags.shape[1]
    rows, places = np.nonzero(flags)
    return np.bincount(groups[rows] * steps + places, minlength=number * steps).reshape(number, steps)


def anomalies(values: Floats, scores: Scores, kind: Kinds, groups: Groups, season: int) -> tuple[Anomaly, ...]:
    """The anomalies by series and start: one for a run of one kind, a group movement, or a new level."""
    every = [
        _run(values, scores, row, start, end, code, season)
        for code in (SPIKE, DROP)
        for row, start, end in runs(kind == code)
    ]
    every += [
        _new_level(values, scores, kind, row, start, season) for row, start in np.argwhere(_starts_level(kind)).tolist()
    ]
    for code in (TOGETHER_UP, TOGETHER_DOWN):
        every += _group_movements(values, scores, kind, groups, code, season)
    return tuple(sorted(every, key=lambda anomaly: (anomaly.series, anomaly.start)))


def _starts_level(kind: Kinds) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = (kind == SHIFT_UP) | (kind == SHIFT_DOWN)
    return flags


def _run(values: Floats, scores: Scores, row: int, start: int, end: int, code: int, season: int) -> Anomaly:
    worst = start + int(np.argmax(np.abs(scores.score[row, start:end])))
    expected, low, high = (
        max(float(bound[row, worst]), _lower_bound(values[row])) for bound in (scores.expected, scores.low, scores.high)
    )
    side = "above" if code == SPIKE else "below"
    reason = f"{side} the band {figure(low)}–{figure(high)} learnt from {_source(scores, row, worst, season)}"
    return Anomaly(
        row,
        start,
        end,
        KINDS[code],
        float(values[row, worst]),
        expected,
        low,
        high,
        float(scores.score[row, worst]),
        reason if end - start == 1 else f"{reason}, for {end - start} steps",
    )


def _source(scores: Scores, row: int, place: int, season: int) -> str:
    """What the band was learned from: "up to 8 same weekdays before and after"."""
    before, after = bool(scores.sides[row, place] & 1), bool(scores.sides[row, place] & 2)
    where = "before and after" if before and after else "before" if before else "after"
    available = max(place // season if before else 0, (scores.score.shape[1] - 1 - place) // season if after else 0)
    phase = _PHASES.get(season, f"points {season} steps apart")
    return f"up to {min(SEASONS_LEARNED, available)} {phase} {where}"


def _new_level(values: Floats, scores: Scores, kind: Kinds, row: int, start: int, season: int) -> Anomaly:
    """A new level lasts until the next one or to the end, a long run outside the band until it comes back.

    Where no value of the season before is known, as at the first step, it is compared with what was expected.
    """
    up = kind[row, start] == SHIFT_UP
    over = _starts_level(kind[row]) if scores.levels[row, start] else ~(scores.score[row] * (1 if up else -1) > 1)
    later = np.nonzero(over[start + 1 :])[0]
    end = start + 1 + int(later[0]) if len(later) else values.shape[1]
    until, since = min(end, start + season), max(0, start - season)
    new, old = _median(values[row, start:until]), _median(scores.learned[row, since:start])
    learned = "before"
    if np.isnan(old):
        old, learned = _median(scores.expected[row, start:until]), "after"
    lower_bound = _lower_bound(values[row])
    old = max(old, lower_bound)
    half = _median(scores.high[row, since:until] - scores.low[row, since:until]) / 2
    score = (new - old) / half if half > 0 else float(np.sign(new - old))
    lasts = f"for {end - start} steps" + ("" if len(later) else " to the end")
    side = "above" if up else "below"
    reason = f"at a new level, {figure(new)} instead of {figure(old)}, {side} what was learnt {learned}, {lasts}"
    low = max(old - half, lower_bound)
    return Anomaly(row, start, end, KINDS[kind[row, start]], new, old, low, old + half, score, reason)


def _lower_bound(values: Floats) -> float:
    return -np.inf if (values < 0).any() else 0.0


def _median(values: Floats) -> float:
    """The median of the known values; NaN where there are none."""
    known = values[~np.isnan(values)]
    return float(np.median(known)) if len(known) else float("nan")


def _group_movements(
    values: Floats, scores: Scores, kind: Kinds, groups: Groups, code: int, season: int
) -> Iterator[Anomaly]:
    rows, places = np.nonzero(kind == code)
    for group, place in sorted(set(zip(groups[rows].tolist(), places.tolist(), strict=True))):
        members = rows[(places == place) & (groups[rows] == group)]
        farthest = int(members[np.argmax(np.abs(scores.score[members, place]))])
        run = _run(values, scores, farthest, place, place + 1, SPIKE if code == TOGETHER_UP else DROP, season)
        others = tuple(int(row) for row in members if row != farthest)
        judged = int(np.count_nonzero(~np.isnan(scores.score[groups == group, place])))
        reason = f"{run.reason}, together with {len(others)} more of {judged} series"
        yield replace(run, kind=KINDS[code], reason=reason, others=others)


def figure(value: float) -> str:
    """A number in a sentence: three significant digits, thousands grouped, no exponent."""
    if not np.isfinite(value) or value == 0:
        return "0" if value == 0 else str(value)
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{min(digits, 12)}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"
