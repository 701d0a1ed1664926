"""Changes of level that accumulate over days: lasting ones, and such that pass.

A customer with three events a day that has one a day from some day on has no day, and hardly a week, outside of its
band. All days from there on together are compared with the four weeks before: the logarithm of the likelihood ratio of
two Poisson rates and one, less the more the weeks before differ. A change that passes, such as ten days with a third of
60 events, is compared with the same weekdays of the four weeks before.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from usage_explore.detector.breaks import MIN_SILENCE_DAYS, while_away
from usage_explore.validation.anomalies.bursts import columns_of, is_irregular
from usage_explore.validation.anomalies.deviations import (
    MIN_CHANGE,
    MIN_EVENTS,
    Deviation,
    excess_in_period,
    used_share,
)
from usage_explore.validation.anomalies.series import Block, Floats, Grid
from usage_explore.validation.anomalies.zero_days import MAX_CHANCE
from usage_explore.validation.bounds import CheckBounds

BOUNDS = CheckBounds("shifts")

# fmt: off
HISTORY_DAYS = BOUNDS.add("level_history_days", 56, "days", 14, 400,
    "Days before a change, at most, all of them known, that say what the level was.")

RECENT_DAYS = BOUNDS.add("level_recent_days", 28, "days", 7, 400,
    "The latest of these days, from which the new level must differ as much: steady growth is no change of level.")

MIN_LEVEL_DAYS = BOUNDS.add("min_level_days", 7, "days", 1, 400,
    "Days from the change to the end of what is judged, at least.")

MAX_PASSING_DAYS = BOUNDS.add("max_passing_days", 28, "days", 7, 400,
    "Days of a change of level that passes, at most; at least `MIN_LEVEL_DAYS`.")

MIN_PASSING_RATIO = BOUNDS.add("min_passing_ratio", 2, "factor", 1, 100,
    "Times as far, as a logarithm, as any week before lay from the four weeks before it.")

MIN_DAYS_AFTER = BOUNDS.add("min_days_after", 3, "days", 1, 100,
    "Days after such a change that are back nearer to the usual level than to its own, at least.")
# fmt: on


def min_evidence() -> float:
    """Logarithm of the likelihood ratio, divided by the dispersion, from which a change is no chance."""
    return -math.log(MAX_CHANCE())


_WEEK = 7
_SHARE_APART = 0.9  # of the days of a change that passes, on its own side of the middle between it and the usual
_SHARE_USED = 0.5  # of the days of a higher level, but one, that have usage, unless fewer had before
_CHANCE_DEVIATIONS = 3.0  # by which a week differs from the usual one before it is looked at closer


def level_changes(
    block: Block, grid: Grid, first: int, known: Collection[tuple[object, str, bool]] = ()
) -> Iterator[Deviation]:
    """The changes from column `first` on that last to the end, in which no day, or few, left its band.

    Without those of `known`, by customer, metric and whether they rise.
    """
    # days without usage that the check of silences reports, or shorter ones, are no level
    counts = block.values["count"]
    for row, values in enumerate(while_away(counts, grid.season)):
        if first < RECENT_DAYS() or np.isnan(values[max(0, first - HISTORY_DAYS()) :]).any():
            continue
        if np.nansum(values) < MIN_EVENTS():
            continue
        used = np.flatnonzero(values)
        if len(values) - 1 - used[-1] >= MIN_SILENCE_DAYS:  # a silence at the end is no level either
            values = values[: used[-1] + 1]
        change = _change(values, first)
        if change is None or is_irregular(values[:first], grid.season):
            continue
        place, before, after = change
        customer, metric, rises = block.customers[row], block.metrics[row], after > before
        start = grid.starts[place]
        if start is None or (customer, metric, rises) in known:
            continue
        since, until = grid.span(place, len(values))
        own = counts[row, : len(values)] == values  # a silence is no part of the level
        if not own[place:].any():
            continue
        days, after = int(own[place:].sum()), float(counts[row, place : len(values)][own[place:]].mean())
        excess = (after - before) * days
        in_period = (after - before) * int(own[max(place, first) :].sum())
        half = math.sqrt(2 * min_evidence() * _dispersion(values[:first]) * before / _WEEK)
        yield Deviation(
            customer_id=customer,
            metric_key=metric,
            measure="count",
            step="day",
            shape="rise" if rises else "fall",
            since=since,
            until=until,
            bucket=start,
            value=after,
            expected=before,
            low=max(0.0, before - half),
            high=before + half,
            excess=excess,
            in_period=in_period,
            usual=float(np.nansum(values[first:])) - in_period,
            used=float(np.mean(values[:first] > 0)),
            reason=f"the mean of {days} days differs from that of the {min(HISTORY_DAYS(), place)} before",
            is_mean=True,
        )


def with_passing_levels(block: Block, grid: Grid, first: int, found: Iterable[Deviation]) -> list[Deviation]:
    """The deviations with the changes for a week to four that passed, in which no day, or few, left its band.

    A lasting change that is one of these is left out, and what leads back from one to what was usual before it, also
    from one that ended in the week before the period. A change is left out that other deviations to the same side make
    most of.
    """
    kept = list(found)
    counts = while_away(block.values["count"], grid.season)
    for row in _candidates(counts, first):
        values = counts[row]
        if np.isnan(values[max(0, first - RECENT_DAYS() - MAX_PASSING_DAYS()) :]).any():
            continue
        change = _passing(values, first) or _passing(values, first - _WEEK)
        if change is None or is_irregular(values[: min(first, change[0])], grid.season):
            continue
        passing = _deviation(block, grid, int(row), values, first, change)
        own = [one for one in kept if _is_of(one, passing)]
        same = [
            one for one in own if one.rises == passing.rises and one.since < passing.until and passing.since < one.until
        ]
        parts = [one for one in same if not one.lasts and one.measure == "count"]
        is_known = sum(abs(one.excess) for one in parts) > abs(passing.excess) / 2
        gone = [one for one in same if one.lasts or (not is_known and one.measure == "count")]
        gone += [one for one in own if _leads_back(one, passing, block.values[one.measure][row], grid)]
        kept = [one for one in kept if all(one is not other for other in gone)]
        if change[1] > first and not is_known:
            kept.append(passing)
    return kept


def without_returns(block: Block, grid: Grid, found: Sequence[Deviation], days: Iterable[Deviation]) -> list[Deviation]:
    """The deviations by the hour without those that lead back from a change of level that passed, one of `days`."""
    rows = {key: row for row, key in enumerate(zip(block.customers, block.metrics, strict=True))}
    passed = [one for one in days if one.is_mean and not one.lasts]
    return [
        one
        for one in found
        if not any(
            _is_of(one, level)
            and _leads_back(one, level, block.values[one.measure][rows[one.customer_id, one.metric_key]], grid)
            for level in passed
        )
    ]


def _is_of(one: Deviation, other: Deviation) -> bool:
    return (one.customer_id, one.metric_key) == (other.customer_id, other.metric_key)


def _leads_back(one: Deviation, passing: Deviation, values: Floats, grid: Grid) -> bool:
    """Whether a deviation to the other side is what was usual before a change of level that passed, or its end."""
    if one.rises == passing.rises or one.until <= passing.since:
        return False
    start = next((at for at, begin in enumerate(grid.starts) if begin is not None and begin >= passing.since), 0)
    history = _history() // _WEEK * grid.season
    if start < history:
        return False
    columns = columns_of(grid, one)
    after = [column for column in columns if (begin := grid.starts[column]) is not None and begin >= passing.until]
    return _is_usual(values, start, after or columns, grid.season, are_events=one.measure == "count")


def _is_usual(values: Floats, start: int, columns: Sequence[int], season: int, *, are_events: bool) -> bool:
    """Whether some steps have what is usual by the same weekdays, or hours, of the weeks before `start`; events may
    differ by chance.
    """
    usual = float(_usual_steps(values, start, columns, season).sum())
    least = max(MIN_CHANGE() * usual, _CHANCE_DEVIATIONS * math.sqrt(max(usual, 0.0)) if are_events else 0.0)
    return abs(float(np.nansum(values[columns])) - usual) < least


def _usual_steps(values: Floats, start: int, columns: Sequence[int], season: int = _WEEK) -> Floats:
    """What is usual on some days, or hours, by the same ones of the weeks before `start`."""
    means = values[start - _history() // _WEEK * season : start].reshape(-1, season).mean(axis=0)
    usual: Floats = means[(np.array(columns, np.intp) - start) % season]
    return usual


def _history() -> int:
    """`RECENT_DAYS` as whole weeks."""
    return RECENT_DAYS() // _WEEK * _WEEK


def _deviation(
    block: Block, grid: Grid, row: int, values: Floats, first: int, change: tuple[int, int, float]
) -> Deviation:
    start, end, usual = change
    since, until = grid.span(start, end)
    number, days = float(values[start:end].sum()), end - start
    excess, before = number - usual, usual / days
    in_period = excess_in_period(values, _usual_steps(values, start, range(start, end)), start, first)
    half = math.sqrt(2 * min_evidence() * _variation(values[:start])[0] * before / days)
    return Deviation(
        customer_id=block.customers[row],
        metric_key=block.metrics[row],
        measure="count",
        step="day",
        shape="spike" if excess > 0 else "drop",
        since=since,
        until=until,
        bucket=since,
        value=number / days,
        expected=before,
        low=max(0.0, before - half),
        high=before + half,
        excess=excess,
        in_period=in_period,
        usual=float(np.nansum(values[first:])) - in_period,
        used=used_share(values, start, end),
        reason=f"the mean of {days} days differs from that of the same weekdays of the {_history()} before",
        is_mean=True,
    )


def _candidates(counts: Floats, first: int) -> npt.NDArray[np.intp]:
    """The rows with a week in the period that differs from the usual one by more than chance; without days, none."""
    if first < RECENT_DAYS() + _WEEK or counts.shape[1] <= first:
        return np.zeros(0, np.intp)
    weeks = np.lib.stride_tricks.sliding_window_view(np.nan_to_num(counts), _WEEK, axis=1).sum(axis=2)
    usual = np.median(weeks[:, : first - _WEEK + 1][:, -HISTORY_DAYS() :], axis=1)
    inside = weeks[:, first - _WEEK + 1 :]
    far = np.maximum(inside.max(axis=1) - usual, usual - inside.min(axis=1))
    least = np.maximum(_CHANCE_DEVIATIONS * np.sqrt(usual), 0.8 * MIN_CHANGE() * usual)
    return np.flatnonzero((far > least) & (np.nansum(counts, axis=1) >= MIN_EVENTS()))


def _passing(values: Floats, least_end: int) -> tuple[int, int, float] | None:
    """The first and the end of the days of the surest change that passed, and how many events were usual on them.

    It ended after column `least_end`.
    """
    sure, best = 0.0, None
    history = _history()
    last = len(values) - MIN_LEVEL_DAYS() - MIN_DAYS_AFTER()
    for start in range(max(history, least_end - MAX_PASSING_DAYS() + 1), last + 1):
        usual = _usual_steps(values, start, range(start, len(values)))
        days = np.arange(1, min(MAX_PASSING_DAYS(), len(usual) - MIN_DAYS_AFTER()) + 1)
        number, expected = (np.concatenate([[0.0], np.cumsum(some)]) for some in (values[start:], usual))
        inside, normal = number[days], expected[days]
        week = np.minimum(days + _WEEK, len(usual))
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio, daily = inside / normal, values[start:] / usual
            after = (number[week] - inside) / (expected[week] - normal)
            middle = np.sqrt(ratio)
            returned = np.where(ratio < 1, after > middle, after < middle)
            apart = np.where(ratio[:, None] < 1, daily < middle[:, None], daily > middle[:, None])
        lies = np.arange(len(usual)) < days[:, None]
        holds = np.count_nonzero(apart & lies, axis=1) >= _SHARE_APART * days
        holds &= apart[:, 0] & apart[np.arange(len(days)), days - 1]
        before = values[start - history : start].mean()
        enough = np.abs(inside - normal) >= np.maximum(MIN_EVENTS(), MIN_CHANGE() * normal)
        enough &= (
            returned & holds & (days >= MIN_LEVEL_DAYS()) & (start + days > least_end) & (inside > 0) & (normal > 0)
        )
        if not enough.any():
            continue
        inside, length = inside[enough], normal[enough] / before
        both = (history * before + inside) / (history + length)
        score = _log(np.full(len(inside), history * before), np.full(len(inside), before), both)
        spread, farthest = _variation(values[:start])
        far = np.abs(np.log(ratio[enough])) >= MIN_PASSING_RATIO() * farthest
        score = np.where(far, (score + _log(inside, inside / length, both)) / spread, 0.0)
        at = int(np.argmax(score))
        if score[at] > max(sure, min_evidence()):
            sure, best = float(score[at]), (start, start + int(days[enough][at]), float(normal[enough][at]))
    return best


def _variation(values: Floats) -> tuple[float, float]:
    """How much usage varies before a change: the variance of weeks about a trend by their mean, at least 1, and the
    farthest that a week lay from the four before it, as a logarithm.
    """
    weeks = _weeks(values[len(values) % _WEEK :])
    steps = np.diff(weeks)
    spread = float(np.nanmean(steps * steps) / 2 / np.nanmean(weeks)) if np.nansum(weeks) else 1.0
    before = np.lib.stride_tricks.sliding_window_view(weeks, 4).mean(axis=1)[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.abs(np.log(weeks[4:] / before))
    known = logs[np.isfinite(logs)]
    return max(1.0, spread), float(known.max()) if len(known) else 0.0


def _change(values: Floats, first: int) -> tuple[int, float, float] | None:
    """The day of the likeliest change that is sure and lasts, and the means before and after.

    None where that is more than a week before the period: the level was known in the one before.
    """
    since = max(RECENT_DAYS(), first - RECENT_DAYS())
    if np.isnan(values[max(0, since - HISTORY_DAYS()) :]).any():
        since = first
    values = np.nan_to_num(values)
    sums = np.concatenate([[0.0], np.cumsum(values)])
    places = np.arange(since, len(values) - MIN_LEVEL_DAYS() + 1)
    if not len(places):
        return None
    days, days_before = len(values) - places, np.minimum(places, HISTORY_DAYS())
    events_before, events_after = sums[places] - sums[places - days_before], sums[-1] - sums[places]
    before, after = events_before / days_before, events_after / days
    recent = (sums[places] - sums[places - RECENT_DAYS()]) / RECENT_DAYS()
    windows = np.lib.stride_tricks.sliding_window_view(values[places[0] - RECENT_DAYS() : places[-1]], RECENT_DAYS())
    largest_before = windows.max(axis=1)
    both = (events_before + events_after) / (days_before + days)
    largest = np.maximum.accumulate(values[::-1])[::-1][places]
    without_largest = (events_after - largest) / (days - 1)  # one day is no level
    used = np.concatenate([[0], np.cumsum(values > 0)])
    share = (used[places] - used[places - days_before]) / days_before
    share = np.where(share < 1 / _WEEK, _SHARE_USED, np.minimum(share, _SHARE_USED))  # batches once a week have a level
    is_used = used[-1] - used[places] + 1 >= share * days
    ratio = _log(events_before, before, both) + _log(events_after, after, both)
    enough = np.ones(len(places), np.bool_)
    for level in (before, recent):
        difference = events_after - level * days
        enough &= np.abs(difference) >= np.maximum(MIN_EVENTS(), MIN_CHANGE() * level * days)
        enough &= (difference > 0) == (after > before)
        enough &= (difference < 0) | (without_largest >= (1 + MIN_CHANGE()) * level)
        enough &= (difference < 0) | is_used
        enough &= (difference > 0) | (after <= (1 - MIN_CHANGE()) * (level - largest_before / RECENT_DAYS()))
    # usage that begins or ends altogether is left to the check of silences
    began = (sums[places - RECENT_DAYS() + _WEEK] > 0) & values[-_WEEK:].any()
    score = np.where(enough & began & (after > 0), ratio, 0.0)
    best = int(np.argmax(score))
    place = int(places[best])
    if place + _WEEK <= first:
        return None
    if score[best] < min_evidence() * max(_dispersion(values[: min(place, first)]), _dispersion(values[place:])):
        return None
    middle = math.sqrt(before[best] * after[best]) * _WEEK
    weeks = _weeks(values[place:])
    lasts = (weeks > middle).all() if after[best] > before[best] else (weeks < middle).all()
    return (place, float(before[best]), float(after[best])) if lasts else None


def _log(events: Floats, mean: Floats, both: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        logs: Floats = np.where(
            events > 0, events * np.log(np.where(mean > 0, mean, 1) / np.where(both > 0, both, 1)), 0.0
        )
    return logs


def _weeks(values: Floats) -> Floats:
    """The sums of the whole weeks, counted from the first day."""
    size = len(values) // _WEEK * _WEEK
    sums: Floats = values[:size].reshape(-1, _WEEK).sum(axis=1)
    return sums


def _dispersion(values: Floats) -> float:
    """The variance of the weeks by their mean, at least 1, which is Poisson's."""
    weeks = _weeks(values[len(values) % _WEEK :])
    weeks = weeks[~np.isnan(weeks)]
    if len(weeks) < 3 or not weeks.mean():
        return 1.0
    return max(1.0, float(weeks.var(ddof=1) / weeks.mean()))
