"""From kinds to findings, each with a reason in words."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.detection import (
    DROP,
    KINDS,
    SHIFT_DOWN,
    SHIFT_UP,
    SPIKE,
    TOGETHER_DOWN,
    TOGETHER_UP,
    Anomaly,
)
from usage_explore.detector.judging import Judgement
from usage_explore.detector.naming import Kinds
from usage_explore.detector.ordering import Floats, runs
from usage_explore.detector.settings import Settings

_SEASONS = {7: "same weekdays", 24: "same hours of the day", 168: "same hours of the week"}


def tell(
    values: Floats, judged: Judgement, kind: Kinds, groups: npt.NDArray[np.intp], season: int, settings: Settings
) -> tuple[Anomaly, ...]:
    """Every finding, by series and start: a run of one kind is one, a group's movement is one, a shift is one."""
    found = [
        _run(values, judged, row, start, end, code, season, settings)
        for code in (SPIKE, DROP)
        for row, start, end in runs(kind == code)
    ]
    found += [
        _shift(values, judged, kind, row, start, season)
        for row, start in zip(*(place.tolist() for place in np.nonzero(_is_shift(kind))), strict=True)
    ]
    for code in (TOGETHER_UP, TOGETHER_DOWN):
        found += _movements(values, judged, kind, groups, code, season, settings)
    return tuple(sorted(found, key=lambda one: (one.series, one.start)))


def _is_shift(kind: Kinds) -> npt.NDArray[np.bool_]:
    flags: npt.NDArray[np.bool_] = (kind == SHIFT_UP) | (kind == SHIFT_DOWN)
    return flags


def _run(
    values: Floats, judged: Judgement, row: int, start: int, end: int, code: int, season: int, settings: Settings
) -> Anomaly:
    worst = start + int(np.argmax(np.abs(judged.score[row, start:end])))
    expected, low, high = (
        max(float(each[row, worst]), _least(values[row])) for each in (judged.expected, judged.low, judged.high)
    )
    band = f"the band {figure(low)}–{figure(high)}"
    reason = f"{'above' if code == SPIKE else 'below'} {band}"
    reason += f" learnt from {_learnt(judged, row, worst, season, settings)}"
    return Anomaly(
        row,
        start,
        end,
        KINDS[code],
        float(values[row, worst]),
        expected,
        low,
        high,
        float(judged.score[row, worst]),
        reason if end - start == 1 else f"{reason}, for {end - start} steps",
    )


def _learnt(judged: Judgement, row: int, place: int, season: int, settings: Settings) -> str:
    phase = _SEASONS.get(season, f"points {season} steps apart")
    before, after = bool(judged.sides[row, place] & 1), bool(judged.sides[row, place] & 2)
    where = "before and after" if before and after else "before" if before else "after"
    most = max(place // season if before else 0, (judged.score.shape[1] - 1 - place) // season if after else 0)
    return f"up to {min(settings.seasons, most)} {phase} {where}"


def _shift(values: Floats, judged: Judgement, kind: Kinds, row: int, start: int, season: int) -> Anomaly:
    """A new level lasts until the next or to the end, a long run outside until it comes back.

    Where nothing is known of the season before, as at the first step, it is compared with what was expected.
    """
    up = kind[row, start] == SHIFT_UP
    over = _is_shift(kind[row]) if judged.shift[row, start] else ~(judged.score[row] * (1 if up else -1) > 1)
    later = np.nonzero(over[start + 1 :])[0]
    end = start + 1 + int(later[0]) if len(later) else values.shape[1]
    until, since = min(end, start + season), max(0, start - season)
    new, old = _median(values[row, start:until]), _median(judged.learnt[row, since:start])
    learnt = "before"
    if np.isnan(old):
        old, learnt = _median(judged.expected[row, start:until]), "after"
    old = max(old, _least(values[row]))
    half = _median(judged.high[row, since:until] - judged.low[row, since:until]) / 2
    score = (new - old) / half if half > 0 else float(np.sign(new - old))
    lasts = f"for {end - start} steps" + ("" if len(later) else " to the end")
    side = "above" if up else "below"
    reason = f"at a new level, {figure(new)} instead of {figure(old)}, {side} what was learnt {learnt}, {lasts}"
    low = max(old - half, _least(values[row]))
    return Anomaly(row, start, end, KINDS[kind[row, start]], new, old, low, old + half, score, reason)


def _least(values: Floats) -> float:
    """What can be expected of a series at least: nothing negative where no value is."""
    return -np.inf if (values < 0).any() else 0.0


def _median(part: Floats) -> float:
    """The median of what is known; NaN where nothing is."""
    known = part[~np.isnan(part)]
    return float(np.median(known)) if len(known) else float("nan")


def _movements(
    values: Floats,
    judged: Judgement,
    kind: Kinds,
    groups: npt.NDArray[np.intp],
    code: int,
    season: int,
    settings: Settings,
) -> list[Anomaly]:
    found = []
    rows, places = np.nonzero(kind == code)
    for group, place in sorted(set(zip(groups[rows].tolist(), places.tolist(), strict=True))):
        members = rows[(places == place) & (groups[rows] == group)]
        first = int(members[np.argmax(np.abs(judged.score[members, place]))])
        one = _run(values, judged, first, place, place + 1, SPIKE if code == TOGETHER_UP else DROP, season, settings)
        number = int(np.count_nonzero(~np.isnan(judged.score[groups == group, place])))
        others = tuple(int(row) for row in members if row != first)
        found.append(
            Anomaly(
                first,
                place,
                place + 1,
                KINDS[code],
                one.value,
                one.expected,
                one.low,
                one.high,
                one.score,
                f"{one.reason}, together with {len(others)} more of {number} series",
                others,
            )
        )
    return found


def figure(value: float) -> str:
    """A number for a sentence: three figures that count, thousands grouped, no exponent."""
    if not np.isfinite(value) or value == 0:
        return "0" if value == 0 else str(value)
    digits = max(0, 2 - int(np.floor(np.log10(abs(value)))))
    return f"{value:,.{min(digits, 12)}f}".rstrip("0").rstrip(".") if digits else f"{value:,.0f}"
