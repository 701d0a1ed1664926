"""Breaks in the usual usage: new levels, which are removed, and silences, from which nothing is learned.

A new level is a step before and after which the values differ lastingly. A silence is a run of steps without usage that
says nothing about usual usage: before the first use, and where regular usage stayed away.
"""

from __future__ import annotations

from math import isnan

import numpy as np
import numpy.typing as npt

from usage_explore.detector.ordering import Floats, Ordered, before, runs

Shifts = npt.NDArray[np.int8]

MIN_LEVEL_LENGTH = 4
"""Steps outside the band without which there is no new level."""

MIN_LEVEL_SCORE = 0.4
"""The median distance from the other side's expectation, in half bands, from which a season is at a new level."""

_EDGE_WEIGHT, _MAX_EDGE = 0.5, 3.0  # among steps that could all start a level, the one with the sharpest edge does
_MAX_SEASONS_COMPARED = 3  # seasons on either side of a new level that say how high it is
_MIN_LEVEL_CHANGE = 0.5  # of the relative half band: levels that differ by less are the same level

Flags = npt.NDArray[np.bool_]

MIN_SILENCE_DAYS = 3
"""Days without usage, at least, that are a silence; weekends are shorter."""

HISTORY_DAYS, MIN_KNOWN_DAYS, REGULAR_DAY_SHARE = 28, 14, 0.64
"""Usage is regular if, in the 28 days before, at least 14 days are known and 64 % of the known days have usage. Less
frequent usage on the same weekdays of all these weeks is regular too; its silence lasts at least a week."""

LONG_SILENCE_WEEKS = 2
"""Weeks without usage from which a silence is not judged as usage below its band: the usage has stopped."""


def new_levels(score_before: Floats, score_after: Floats, season: int) -> Shifts:
    """1 where a higher level starts, -1 where a lower one does, else 0.

    Takes the scores against what was learned before and against what was learned after. The season from the start on
    must lie outside of the first by its median, the season up to it outside of the second, to opposite sides.
    """
    levels = np.zeros(score_before.shape, np.int8)
    if not levels.size:
        return levels
    steps = max(MIN_LEVEL_LENGTH, season)
    ahead = _ahead(score_before, steps)
    behind = -_ahead(score_after[:, ::-1], steps)[:, ::-1]
    behind = np.concatenate([np.full((len(behind), 1), np.nan), behind[:, :-1]], axis=1)
    size = np.nan_to_num(np.where(np.sign(ahead) == np.sign(behind), np.fmin(np.abs(ahead), np.abs(behind)), 0.0))
    jump = np.diff(np.nan_to_num(score_before), axis=1, prepend=0) * np.sign(np.nan_to_num(ahead))
    key = size + _EDGE_WEIGHT * np.clip(jump, 0, _MAX_EDGE)
    around = np.lib.stride_tricks.sliding_window_view(np.pad(key, ((0, 0), (steps, steps))), 2 * steps + 1, axis=1)
    start = (size > MIN_LEVEL_SCORE) & (key >= around.max(axis=-1))
    levels[start] = np.sign(ahead[start])
    return levels


def _ahead(score: Floats, steps: int) -> Floats:
    """The median of this and the next `steps - 1` scores, NaN where fewer than half of them, or than 4, are known."""
    medians = np.full_like(score, np.nan)
    if score.shape[1] >= steps:
        ordered = Ordered(before(score, steps, np.arange(steps, score.shape[1] + 1)))
        enough = ordered.known >= max(MIN_LEVEL_LENGTH, steps // 2)
        medians[:, : score.shape[1] - steps + 1] = np.where(enough, ordered.median(), np.nan)
    return medians


def leveled(values: Floats, levels: Shifts, bands: Floats, season: int) -> tuple[Floats, Shifts, list[tuple[int, int]]]:
    """Factors that bring each series to the level it ends at, the levels that hold, and those without a known factor.

    All arrays are (series, time); `bands` are half bands as a share of the expectation, NaN where nothing is expected.
    The factor of a level is the median over the phases of the ratio of their medians, up to three seasons after to as
    many before. A level that hardly differs, or differs to the other side, is dropped. Where a side is shorter than a
    season, or 0, the factor is unknown: row and step are returned, and the level is left in place.
    """
    factor, held = np.ones_like(values), levels.copy()
    unknown = []
    for row in np.nonzero(levels.any(axis=1))[0].tolist():
        places = np.nonzero(levels[row])[0].tolist()
        for start, place, end in zip([0, *places], places, [*places[1:], values.shape[1]], strict=False):
            ratio = _ratio(values[row, start:place], values[row, place:end], season)
            rise = ratio if levels[row, place] > 0 else 1 / ratio
            if np.isnan(ratio):
                unknown.append((row, place))
            elif rise <= 1 + _MIN_LEVEL_CHANGE * _median(bands[row, max(0, place - season) : place + season]):
                held[row, place] = 0
            else:
                factor[row, :place] *= ratio
    return factor, held, unknown


def _ratio(old: Floats, new: Floats, season: int) -> float:
    """The new level as a multiple of the old one; NaN where that is unknown."""
    steps = min(_MAX_SEASONS_COMPARED, len(old) // season, len(new) // season) * season
    if not steps:
        return float("nan")
    past, present = (Ordered(part.reshape(-1, season).copy()).median() for part in (old[-steps:], new[:steps]))
    both = (past > 0) & (present > 0)
    return float(np.median(present[both] / past[both])) if both.any() else float("nan")


def _median(bands: Floats) -> float:
    known = bands[~np.isnan(bands)]
    return float(np.median(known)) if len(known) else 0.0


def silences(values: Floats, season: int) -> Flags:
    """The steps in a silence, or before the first usage. `season` is the number of steps in a week.

    A silence at the end needs no `MIN_KNOWN_DAYS`: after the last of a few weeks of data, 0 is not what is usual.
    """
    silent = np.zeros(values.shape, np.bool_)
    day = max(1, season // 7)
    if not values.size:
        return silent
    missing = np.isnan(values)
    usage = ~missing & (values != 0)
    first_use = np.where(usage.any(axis=1), usage.argmax(axis=1), values.shape[1])
    for row, start, end in runs(values == 0, MIN_SILENCE_DAYS * day):
        if start <= first_use[row]:
            silent[row, :end] = True
            continue
        since = max(start % day, start - HISTORY_DAYS * day)
        apart = silent[row, since:start]
        known = np.count_nonzero((~(missing[row, since:start] | apart)).reshape(-1, day).any(axis=1))
        used: Flags = (usage[row, since:start] & ~apart).reshape(-1, day).any(axis=1)
        weeks = used[len(used) % 7 :].reshape(-1, 7)
        weekly = end - start >= season and bool((weeks == weeks[:1]).all())
        regular = weekly or np.count_nonzero(used) >= REGULAR_DAY_SHARE * known
        silent[row, start:end] = regular and (known >= MIN_KNOWN_DAYS or end == values.shape[1])
    return silent


def filled(values: Floats, silent: Flags, season: int) -> Floats:
    """The values with silences replaced by usual values: the median of the same phases in the weeks before, or NaN.

    A silence at the end, after which nothing is learned, is NaN.
    """
    usual = np.where(silent, np.nan, values)
    for row, start, end in runs(silent & ~ending(silent)):
        for step in range(start, end) if start else ():
            before = usual[row, step % season : step : season][-HISTORY_DAYS // 7 :]
            known = sorted(value for value in before.tolist() if not isnan(value))
            if known:
                middle = len(known) // 2
                usual[row, step] = known[middle] if len(known) % 2 else (known[middle - 1] + known[middle]) / 2
    return usual


def ending(silent: Flags) -> Flags:
    """The silent steps of silences that last to the end."""
    result: Flags = np.logical_and.accumulate(silent[:, ::-1], axis=1)[:, ::-1]
    return result


def long_silences(silent: Flags, season: int) -> Flags:
    """The silent steps in silences of `LONG_SILENCE_WEEKS` weeks or more."""
    long = np.zeros_like(silent)
    for row, start, end in runs(silent):
        long[row, start:end] = end - start >= LONG_SILENCE_WEEKS * season
    return long


def while_away(values: Floats, season: int) -> Floats:
    """The values with silences that ended filled with usual values; a silence that lasts to the end is kept."""
    silent = silences(values, season)
    later = np.logical_or.accumulate(np.nan_to_num(values[:, ::-1]) != 0, axis=1)[:, ::-1]
    usual = filled(values, silent & later, season)
    return np.where(np.isnan(usual), values, usual)
