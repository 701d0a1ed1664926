"""Steps of no usage that say nothing of what is usual: before the first usage, and where regular usage stayed away."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from usage_explore.detector.ordering import Floats, runs

Flags = npt.NDArray[np.bool_]

QUIET = 3
"""Days of no usage from which it stayed away; weekends are shorter."""

BEFORE, KNOWN, REGULAR = 28, 14, 0.64
"""It was regular where in so many days before, of which so many are known, this part had usage. Less often than that,
but on the same days of each of those weeks, it stayed away where it did for a week."""

LONG = 2
"""Weeks of no usage from which there is no usage to judge: what had stopped is not as much below its band each day."""


def silences(values: Floats, season: int) -> Flags:
    """Which steps are of a silence, or before the first usage. `season` is the number of steps of a week."""
    found = np.zeros(values.shape, np.bool_)
    day = max(1, season // 7)
    for row, start, end in runs(values == 0):
        if end - start < QUIET * day:
            continue
        if not np.nan_to_num(values[row, :start]).any():
            found[row, :end] = True
            continue
        since = max(start % day, start - BEFORE * day)
        before = np.where(found[row, since:start], np.nan, values[row, since:start]).reshape(-1, day)
        known = np.count_nonzero(~np.isnan(before).all(axis=1))
        used: Flags = (np.nan_to_num(before) != 0).any(axis=1)
        weeks = used[len(used) % 7 :].reshape(-1, 7)
        weekly = end - start >= season and bool((weeks == weeks[:1]).all())
        found[row, start:end] = known >= KNOWN and (weekly or np.count_nonzero(used) >= REGULAR * known)
    return found


def filled(values: Floats, silent: Flags, season: int) -> Floats:
    """The values with what is usual in place of silences: the median of the same phases in the weeks before, or NaN."""
    found = np.where(silent, np.nan, values)
    for row, start, end in runs(silent):
        for step in range(start, end) if start else ():
            before = found[row, step % season : step : season][-BEFORE // 7 :]
            known = before[~np.isnan(before)]
            if len(known):
                found[row, step] = np.median(known)
    return found


def long(silent: Flags, season: int) -> Flags:
    """Which of the silent steps are of silences of `LONG` weeks or more."""
    found = np.zeros_like(silent)
    for row, start, end in runs(silent):
        found[row, start:end] = end - start >= LONG * season
    return found


def while_away(values: Floats, season: int) -> Floats:
    """The values, silences that ended filled with what was usual; what has not come back may never."""
    silent = silences(values, season)
    later = np.logical_or.accumulate(np.nan_to_num(values[:, ::-1]) != 0, axis=1)[:, ::-1]
    found = filled(values, silent & later, season)
    return np.where(np.isnan(found), values, found)
