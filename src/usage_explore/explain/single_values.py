"""Which single values must be named: no value outside the named regions changed by more than one of them did.

The *own change* of a value is its change outside all regions. If it is larger than the change of a region, in absolute
terms, the value becomes a region, too, or the smaller region is not named. The exception is a value that changed as
everything else outside the regions did, in the same direction and at most twice as much relative to before: no value is
blamed for what all did.

`settle` makes regions obey this, by exact sums of all events: a search in a sample may miss a value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from usage_explore.decimals import Number, exact_sum
from usage_explore.explain.model import Element, Floats, Pair, Region, disjoint

MAX_REGIONS = 8
"""Regions of an explanation."""

MIN_DISTINCT_SHARE = 0.5
"""Least part of the change of a region, or value, by which it exceeds the change of everything outside all regions,
relative to before: a half is twice as much."""

MIN_STRONG_SHARE = 0.02
"""Share of the whole change, or of the largest region's change, below which no region is named."""

MIN_OUTSTANDING_CHANGE, MIN_OUTSTANDING_TOTAL, MIN_OUTSTANDING_GROWTH = 0.25, 0.02, 0.5
"""Of values that are named where the search names none: the least parts of the whole change, of the whole amount before
or after, and of their own amount before by which they changed beyond all others."""

_MIN_DEVIATIONS = 3.0
"""Standard deviations of the number of events, by which a value changed that is named where the search names none."""

_MIN_OTHERS = 0.2
"""Least part of the amounts outside all regions that the others of a value have, which is then compared with them."""

_MIN_INSIDE, _MIN_WIDER = 0.8, 1.25
"""A value is named for several if it has at least the first part of their change, and changed by the second or more."""

_MIN_WITHIN, _MAX_WITHIN = 0.25, 0.5
"""A value is named before a region if it has at least the first part of its change, and few of its amounts."""

_MAX_UNEXPLAINED_SHARE = 0.5
"""Share of the change outside all regions, above which large single values are looked for there."""

_MAX_READINGS, _MAX_LARGEST = 5, 4
"""Times that the exact sums are read to complete regions. If values are missing in the last ones, too, as many with the
largest changes are named instead."""

_MIN_CANDIDATE_SHARE, _MIN_SURPRISE_SHARE = 0.5, 0.8
"""Of the missing values with at least the first part of the largest own change, the one whose change is most surprising
is named: the customer, not the region of the world where it is. Of those with the second part of its surprise, the one
of the first dimension: the customer, not its only key."""


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of all events of each region, and in the last place of everything else.

    `events` and `values`, exact, are by window. `volumes` (amounts before), `changes` and `counts` (events of both
    windows) have an array per dimension, by region and code; the first two in a unit that fits a float.
    """

    events: tuple[list[int], list[int]]
    values: tuple[list[Number], list[Number]]
    volumes: list[Floats]
    changes: list[Floats]
    counts: list[Floats]

    def keeping(self, kept: Sequence[int]) -> Sums:
        """The sums of some regions; those of the others are added to everything else."""
        rest = [index for index in range(len(self.events[0])) if index not in kept]
        zero = self.values[0][0] * 0

        def merged(arrays: list[Floats]) -> list[Floats]:
            return [np.vstack([array[[*kept]], array[rest].sum(axis=0, keepdims=True)]) for array in arrays]

        events = [[*(of[index] for index in kept), sum(of[index] for index in rest)] for of in self.events]
        values = [
            [*(of[index] for index in kept), exact_sum([of[index] for index in rest], zero)] for of in self.values
        ]
        return Sums(
            (events[0], events[1]),
            (values[0], values[1]),
            merged(self.volumes),
            merged(self.changes),
            merged(self.counts),
        )


def settle(
    regions: Sequence[Region], read: Callable[[Sequence[Region]], Sums], *, is_even: bool = False
) -> tuple[list[Region], Sums]:
    """The regions with the values that are missing, and without those that are smaller; and their sums.

    `read` has the sums of disjoint regions. Without any, no value is looked for if the change `is_even`.
    """
    known: dict[str, Sums] = {}

    def once(regions: Sequence[Region]) -> Sums:
        key = repr(regions)
        if key not in known:
            known[key] = read(regions)
        return known[key]

    return _settled(regions, once, is_even=is_even)


def _settled(
    regions: Sequence[Region], read: Callable[[Sequence[Region]], Sums], *, is_even: bool
) -> tuple[list[Region], Sums]:
    if is_even and not regions:
        return [], read([])
    regions = _widened(regions, read)
    outstanding = _outstanding(regions, read)
    if outstanding:
        regions = disjoint(dict.fromkeys([outstanding, *(region.where for region in regions)]))
    completed = _completed(regions, read)
    if completed is None and len(regions) > 1:  # too many values changed as much as the smallest of them
        first = outstanding or regions[int(_sizes(read(regions)).argmax())].where
        completed = _completed([Region(first)], read)
    settled, sums = completed or ([], read([]))
    if completed and (not settled or _is_accounted_for(sums)):
        return settled, sums
    larger = _with_largest(settled, sums, read, 0.0)
    if larger[0] == settled:
        larger = _with_largest(settled, sums, read, MIN_OUTSTANDING_GROWTH)
    return larger


def _widened(regions: Sequence[Region], read: Callable[[Sequence[Region]], Sums]) -> list[Region]:
    """The regions, each as the one value that has nearly all of its change, and clearly more besides, if there is one.

    So the customer is named whose usage fell, not one of its prices in one currency; and a metric, not its prices. The
    value is more surprising, and changed nearly as much relative to its amounts, if the region is a single one, too.
    """
    if not regions:
        return []
    sums = read(regions)
    wheres: list[Element] = []
    for index, region in enumerate(regions):
        volume, change = float(sums.volumes[0][index].sum()), float(sums.changes[0][index].sum())
        amount = max(abs(volume) + abs(volume + change), abs(change))
        best = (change**2 / amount if amount else 0.0), region.where
        for dim, (within, inside) in enumerate(zip(sums.volumes, sums.changes, strict=True)):
            volumes, changes = within.sum(axis=0), inside.sum(axis=0)
            wider = (inside[index] * np.sign(change) >= _MIN_INSIDE * abs(change)) & (changes * change > 0)
            if len(region.where) == 1:
                amounts = np.abs(volumes) + np.abs(volumes + changes)
                wider &= np.abs(changes) * amount >= _MIN_INSIDE * abs(change) * amounts
            surprises = np.where(wider, _surprises(volumes, changes, _MIN_WIDER * abs(change), 0.0), 0.0)
            best = max(best, (float(surprises.max(initial=0.0)), ((dim, int(surprises.argmax())),)))
        wheres.append(best[1])
    return list(regions) if wheres == [region.where for region in regions] else disjoint(dict.fromkeys(wheres))


def _outstanding(regions: Sequence[Region], read: Callable[[Sequence[Region]], Sums]) -> Element | None:
    """The value that would be named without the regions, if much of one of their changes is its own.

    Its change must be more surprising than theirs: the customer is named that tripled, not the price of most usage,
    which grew with it a little more than the others.
    """
    sums = read(regions) if regions else None
    values = missing_values(sums.keeping([]))[:1] if sums else []
    if sums is None or not values or any(values[0] in region.where for region in regions):
        return None
    dim, code = values[0]
    volumes, changes = sums.volumes[dim], sums.changes[dim]
    amounts = np.abs(volumes) + np.abs(volumes + changes)
    is_small = amounts[:-1, code] <= _MAX_WITHIN * amounts[:-1].sum(axis=1)
    of_regions = changes[:-1].sum(axis=1)
    has_much = changes[:-1, code] * np.sign(of_regions) >= _MIN_WITHIN * np.abs(of_regions)
    surprise = _surprises(volumes.sum(axis=0), changes.sum(axis=0), 0.0, 0.0)[code]
    is_first = bool(is_small.all() and has_much.any() and surprise > _surprises_of_regions(sums).max())
    return (values[0],) if is_first else None


def _surprises_of_regions(sums: Sums) -> Floats:
    """For each region the squared change beyond that of everything outside all of them, relative to its amounts."""
    volumes, changes = (array[0].sum(axis=1) for array in (sums.volumes, sums.changes))
    ordinary = _ordinary(volumes[-1:], changes[-1:])
    excess = np.maximum(_excess(changes[:-1], volumes[:-1], ordinary), 0.0)
    amounts = np.maximum(np.abs(volumes) + np.abs(volumes + changes), np.abs(changes))[:-1]
    return np.asarray(excess**2 / np.where(amounts > 0, amounts, 1.0))


def _completed(regions: Sequence[Region], read: Callable[[Sequence[Region]], Sums]) -> tuple[list[Region], Sums] | None:
    """The regions with the values that are missing, and their sums; None if too many are."""
    current = list(regions)
    for _ in range(_MAX_READINGS):
        settled, sums = _kept(current, read(current))
        missing = missing_values(sums)
        changed = _with_values(settled, sums, missing)
        if _exclusions(changed) == _exclusions(settled):
            return None if missing else (settled, sums)
        current = changed
    return None


def _is_accounted_for(sums: Sums) -> bool:
    """Whether the regions leave no large part of the whole change, or of a change against it, to everything else."""
    rest, whole = float(sums.changes[0][-1].sum()), float(sums.changes[0].sum())
    return abs(rest) <= _MAX_UNEXPLAINED_SHARE * abs(whole)


def _with_largest(
    regions: Sequence[Region], sums: Sums, read: Callable[[Sequence[Region]], Sums], growth: float
) -> tuple[list[Region], Sums]:
    """The regions with the values outside that changed most, each by a large part of the whole.

    As many as have no larger value left out. Only values that changed by `growth`, relative to before, beyond others.
    """
    settled, result = list(regions), sums
    current = settled
    for _ in range(_MAX_LARGEST):
        least = _least_outstanding(sums)
        more = _larger_values(sums, least, growth)[:1] if growth else _largest(sums, least)
        changed = disjoint([*(region.where for region in current), *((pair,) for pair in more)])
        changed, sums = _kept(changed, read(changed))
        if not len(current) < len(changed) <= MAX_REGIONS:
            break
        current = changed
        if not _larger_values(sums, float(_sizes(sums).min()), growth):  # else the named ones had balanced one of them
            settled, result = current, sums
    return settled, result


def _largest(sums: Sums, least: float) -> list[Pair]:
    """The value with the largest own change, if it is one of its own and larger than the least."""
    result: list[Pair] = []
    for dim, (volume, change, count) in enumerate(zip(sums.volumes, sums.changes, sums.counts, strict=True)):
        is_own = _surprises(volume[-1], change[-1], least, 0.0, _chance(count[-1], volume[-1], change[-1])) > 0
        size = np.where(is_own, np.abs(change[-1]), 0.0)
        if size.any() and size.max() > least:
            least, result = float(size.max()), [(dim, int(size.argmax()))]
    return result


def _kept(regions: Sequence[Region], sums: Sums) -> tuple[list[Region], Sums]:
    """The regions that are worth naming, and the sums with the others in everything else."""
    kept = _worth_naming(sums)
    return [regions[index] for index in kept], sums.keeping(kept)


def _exclusions(regions: Sequence[Region]) -> dict[Element, list[Pair]]:
    """What each region excludes, in any order."""
    return {region.where: sorted(region.without) for region in regions}


def missing_values(sums: Sums) -> list[Pair]:
    """The values of one dimension that must be named as the regions are, the most surprising change first."""
    if not sums.changes:
        return []
    if len(sums.events[0]) > 1:
        return _larger_values(sums, float(_sizes(sums).min()), 0.0)
    return _larger_values(sums, _least_outstanding(sums), MIN_OUTSTANDING_GROWTH)


def _least_outstanding(sums: Sums) -> float:
    """The least change that is large against the whole change, and against the whole amount before or after."""
    before, change = float(sums.volumes[0].sum()), float(sums.changes[0].sum())
    amount = max(abs(before), abs(before + change))
    return max(MIN_OUTSTANDING_CHANGE * abs(change), MIN_OUTSTANDING_TOTAL * amount)


def _larger_values(sums: Sums, least: float, growth: float) -> list[Pair]:
    """The values of one dimension with an own change of more than `least`; see `missing_values` and `_surprises`."""
    outside = [(volumes[-1], changes[-1]) for volumes, changes in zip(sums.volumes, sums.changes, strict=True)]
    chance = [_chance(counts[-1], *of) if growth else 0.0 for counts, of in zip(sums.counts, outside, strict=True)]
    found = [_surprises(*of, least, growth, by_chance) for of, by_chance in zip(outside, chance, strict=True)]
    largest = max((float(np.abs(of[1][there > 0]).max(initial=0.0)) for of, there in zip(outside, found, strict=True)))
    if not largest:
        return []
    best = [
        float(there[np.abs(changes) >= _MIN_CANDIDATE_SHARE * largest].max(initial=0.0))
        for (_, changes), there in zip(outside, found, strict=True)
    ]
    dim = next(dim for dim, surprise in enumerate(best) if surprise >= _MIN_SURPRISE_SHARE * max(best))
    volumes, changes = (array.copy() for array in outside[dim])
    result: list[Pair] = []
    surprises = found[dim]
    while surprises.any():
        code = int(surprises.argmax())
        result.append((dim, code))
        volumes[code] = changes[code] = 0.0
        surprises = _surprises(volumes, changes, least, growth, chance[dim])
    return result


def _chance(counts: Floats, volumes: Floats, changes: Floats) -> Floats:
    """The least change of each value that is no chance: that of its events coming or not, each of average amount."""
    amount = float((np.abs(volumes) + np.abs(volumes + changes)).sum()) / max(float(counts.sum()), 1.0)
    return np.asarray(_MIN_DEVIATIONS * amount * np.sqrt(counts))


def _surprises(volumes: Floats, changes: Floats, least: float, growth: float, chance: float | Floats = 0.0) -> Floats:
    """For each missing value the squared change beyond that of the others, relative to its amounts; 0 for others.

    `least` is exceeded by the change of a missing value, `growth` by its excess relative to before, and `chance` by its
    excess.
    """
    size = np.abs(changes)
    excess = _excess(changes, volumes, _of_others(volumes, changes))
    amounts = np.maximum(np.abs(volumes) + np.abs(volumes + changes), size)
    is_missing = (size > least) & (excess >= MIN_DISTINCT_SHARE * size) & (excess >= growth * np.abs(volumes))
    is_missing &= excess >= chance
    return np.where(is_missing, excess**2 / np.where(is_missing, amounts, 1.0), 0.0)


def _of_others(volumes: Floats, changes: Floats) -> Floats:
    """For each value the change of all others relative to before; of everything if the others are few."""
    volume, change = float(volumes.sum()), float(changes.sum())
    others = volume - volumes
    are_few = (others < _MIN_OTHERS * volume) | (others <= 0)
    relative = (change - changes) / np.where(are_few, 1.0, others)
    return np.asarray(np.where(are_few, _ordinary(volumes, changes), relative))


def _sizes(sums: Sums) -> Floats:
    """The absolute change of each region."""
    return np.asarray(np.abs(sums.changes[0][:-1].sum(axis=1)))


def _excess(changes: Floats, volumes: Floats, ordinary: float | Floats) -> Floats:
    """The part of each change, in its direction, that exceeds an ordinary one; negative for a smaller change."""
    return np.asarray((changes - ordinary * volumes) * np.sign(changes))


def _ordinary(volumes: Floats, changes: Floats) -> float:
    """The change of everything relative to before."""
    volume, change = float(volumes.sum()), float(changes.sum())
    return change / volume if volume > 0 else 0.0


def _worth_naming(sums: Sums) -> list[int]:
    """The regions with a change that is large enough, and other than that of everything outside them."""
    if not sums.changes:
        return []
    sizes = _sizes(sums)
    least = MIN_STRONG_SHARE * max(abs(float(sums.changes[0].sum())), *sizes, 0.0)
    kept = [int(index) for index in np.flatnonzero(sizes) if sizes[index] >= least]
    while kept:
        inside = sums.keeping(kept)
        changes, volumes = (array[0][:-1].sum(axis=1) for array in (inside.changes, inside.volumes))
        has_rest = float(inside.volumes[0][-1].sum()) > 0
        rest = slice(-1, None) if has_rest else slice(None)
        ordinary = _ordinary(inside.volumes[0][rest], inside.changes[0][rest])
        excess = _excess(changes, volumes, ordinary)
        alike = [(excess[at], index) for at, index in enumerate(kept) if excess[at] < MIN_DISTINCT_SHARE * sizes[index]]
        if not alike:
            break
        kept.remove(min(alike)[1])
    return kept


def _with_values(regions: Sequence[Region], sums: Sums, values: Sequence[Pair]) -> list[Region]:
    """The largest of the regions and of the values outside them; the values exclude what the regions have."""
    sizes: dict[Element, float] = {}
    for region, size in zip(regions, _sizes(sums) if regions else (), strict=True):
        sizes[region.where] = float(size)
    for dim, code in values:
        sizes[(dim, code),] = sizes.get(((dim, code),), 0.0) + abs(float(sums.changes[dim][-1][code]))
    least = sorted(sizes.values(), reverse=True)[:MAX_REGIONS][-1:]
    return disjoint([where for where, size in sizes.items() if size >= least[0]][:MAX_REGIONS]) if least else []
