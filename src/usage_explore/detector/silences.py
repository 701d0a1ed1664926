"""Steps without usage that say nothing about usual usage: before the first, and where regular usage stayed away."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.ordering import Floats, runs

Flags = npt.NDArray[np.bool_]

MIN_SILENCE_DAYS = 3
"""Days without usage, at least, that are a silence; weekends are shorter."""

HISTORY_DAYS, MIN_KNOWN_DAYS, REGULAR_DAY_SHARE = 28, 14, 0.64
"""Usage is regular if, in the 28 days before, at least 14 days are known and 64 % of the known days have usage. Less
frequent usage on the same weekdays of all these weeks is regular too; its silence lasts at least a week."""

LONG_SILENCE_WEEKS = 2
"""Weeks without usage from which a silence is not judged as usage below its band: the usage has stopped."""


def silences(values: Floats, season: int) -> Flags:
    """The steps in a silence, or before the first usage. `season` is the number of steps in a week."""
    silent = np.zeros(values.shape, np.bool_)
    day = max(1, season // 7)
    for row, start, end in runs(values == 0):
        if end - start < MIN_SILENCE_DAYS * day:
            continue
        if not np.nan_to_num(values[row, :start]).any():
            silent[row, :end] = True
            continue
        since = max(start % day, start - HISTORY_DAYS * day)
        before = np.where(silent[row, since:start], np.nan, values[row, since:start]).reshape(-1, day)
        known = np.count_nonzero(~np.isnan(before).all(axis=1))
        used: Flags = (np.nan_to_num(before) != 0).any(axis=1)
        weeks = used[len(used) % 7 :].reshape(-1, 7)
        weekly = end - start >= season and bool((weeks == weeks[:1]).all())
        regular = weekly or np.count_nonzero(used) >= REGULAR_DAY_SHARE * known
        silent[row, start:end] = known >= MIN_KNOWN_DAYS and regular
    return silent


def filled(values: Floats, silent: Flags, season: int) -> Floats:
    """The values with silences replaced by usual values: the median of the same phases in the weeks before, or NaN."""
    usual = np.where(silent, np.nan, values)
    for row, start, end in runs(silent):
        for step in range(start, end) if start else ():
            before = usual[row, step % season : step : season][-HISTORY_DAYS // 7 :]
            known = before[~np.isnan(before)]
            if len(known):
                usual[row, step] = np.median(known)
    return usual


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
