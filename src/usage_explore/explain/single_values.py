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

_MAX_READINGS = 5
"""Times that the exact sums are read. If a value is missing in the last ones, regions smaller than it are left out."""

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


def settle(regions: Sequence[Region], read: Callable[[Sequence[Region]], Sums]) -> tuple[list[Region], Sums]:
    """The regions with the values that are missing, and without those that are smaller; and their sums.

    `read` has the sums of disjoint regions.
    """
    current = list(regions)
    for reading in range(_MAX_READINGS):
        everything = read(current)
        kept = _worth_naming(everything)
        sums, settled = everything.keeping(kept), [current[index] for index in kept]
        missing = missing_values(sums)
        changed = _with_values(settled, sums, missing)
        if not missing or {region.where for region in changed} == {region.where for region in settled}:
            break
        if reading + 1 < _MAX_READINGS:
            current = changed
    while missing_values(sums):
        changes = _sizes(sums)
        kept = [index for index in range(len(settled)) if index != changes.argmin()]
        sums, settled = sums.keeping(kept), [settled[index] for index in kept]
    return settled, sums


def missing_values(sums: Sums) -> list[Pair]:
    """The values of one dimension that must be named as the regions are, largest own change first."""
    if len(sums.events[0]) == 1 or not sums.changes:
        return []
    ordinary, least = _ordinary(sums), float(_sizes(sums).min())
    best: list[tuple[float, float, Pair]] = []  # own change, surprise, value
    for dim, (volumes, changes) in enumerate(zip(sums.volumes, sums.changes, strict=True)):
        volume, change = volumes[-1], changes[-1]
        size = np.abs(change)
        excess = _excess(change, volume, ordinary)
        amounts = np.abs(volume) + np.abs(volume + change)
        best += [
            (float(size[code]), float(excess[code] ** 2 / amounts[code]), (dim, int(code)))
            for code in np.flatnonzero((size > least) & (excess >= MIN_DISTINCT_SHARE * size))
        ]
    if not best:
        return []
    largest = max(size for size, _, _ in best)
    candidates = [each for each in best if each[0] >= _MIN_CANDIDATE_SHARE * largest]
    surprise = max(surprise for _, surprise, _ in candidates)
    chosen = min(pair[0] for _, surprising, pair in candidates if surprising >= _MIN_SURPRISE_SHARE * surprise)
    return [pair for _, _, pair in sorted(best, key=lambda each: -each[0]) if pair[0] == chosen]


def _sizes(sums: Sums) -> Floats:
    """The absolute change of each region."""
    return np.abs(sums.changes[0][:-1].sum(axis=1))


def _excess(changes: Floats, volumes: Floats, ordinary: float) -> Floats:
    """The part of each change, in its direction, that exceeds an ordinary one; negative for a smaller change."""
    return np.asarray((changes - ordinary * volumes) * np.sign(changes))


def _ordinary(sums: Sums) -> float:
    """The change of everything else relative to before."""
    volume, change = float(sums.volumes[0][-1].sum()), float(sums.changes[0][-1].sum())
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
        ordinary = _ordinary(inside if has_rest else sums.keeping(()))
        excess = _excess(changes, volumes, ordinary)
        alike = [(excess[at], index) for at, index in enumerate(kept) if excess[at] < MIN_DISTINCT_SHARE * sizes[index]]
        if not alike:
            break
        kept.remove(min(alike)[1])
    return kept


def _with_values(regions: Sequence[Region], sums: Sums, values: Sequence[Pair]) -> list[Region]:
    """The largest of the regions and of the values outside them."""
    sizes: dict[Element, float] = {(pair,): abs(float(sums.changes[pair[0]][-1][pair[1]])) for pair in values}
    for region, size in zip(regions, _sizes(sums) if regions else (), strict=True):
        sizes[region.where] = sizes.get(region.where, 0.0) + float(size)
    return disjoint(sorted(sizes, key=lambda where: -sizes[where])[:MAX_REGIONS])
