"""The conjunctions of values that account for a change, and of them the few regions to report.

A cause is one or several conjunctions over the same dimensions whose leaves all change alike. `search` looks for the
most probable set of causes: the likelihood of all leaves against the number of sets of that size. A conjunction is
named only if it explains more than naming it costs, and a parent only if all its children change like it. The set is
improved by adding, dropping and exchanging conjunctions until nothing helps.

If one huge event makes the change, or everything is sparse, leaves do not change alike and no cause can be inferred.
`largest` then finds the conjunction whose share of the change is much larger than its share of the amount before.

Floats are used for ranking only: no reported number comes from here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import chain

import numpy as np

from usage_explore.explain.model import (
    MIN_SEARCHED_LEVELS,
    Codes,
    Element,
    Floats,
    Leaves,
    Mask,
    Model,
    Noise,
    Pair,
    Region,
    disjoint,
    estimate_noise,
)
from usage_explore.explain.single_values import MAX_REGIONS, MIN_DISTINCT_SHARE, MIN_STRONG_SHARE

_MIN_REGION_SHARE = 0.1
"""Share of the whole change, or of the largest region's change, below which a region counts as the rest."""

_MIN_STRONG_CHANGE, _MIN_STRONG_DEVIATIONS = 0.3, 4.0
"""`MIN_STRONG_SHARE` suffices for a strong change: relative to the amounts, and in standard deviations of the
noise. So a small value that is gone is reported beside a large one that grew."""

_MIN_PARENT_OF_SEVERAL, _MIN_PARENT_OF_ONE = 0.8, 0.97
"""A parent replaces several children, or one, if its relative change is at least this share of theirs."""

_MIN_SHARED_CHANGE, _MAX_SHARED_BEFORE = 0.98, 0.95
"""A value is added to an element if it has at least this share of its change, but less than this share of the amount
before."""

_MIN_CLEAR_SHARE, _MAX_CLEAR_BEFORE = 0.8, 0.6
"""Likewise if the rest of the element has changed by no more than noise."""

_MAX_UNEXPLAINED_SHARE = 0.5
"""Share of the change outside all regions, above which single values that changed alike are looked for."""

_MIN_CLEAR_DEVIATIONS, _MAX_QUIET_SHARE = 3.0, 0.25
"""Change of a value that changed, in standard deviations of the noise; and largest change of those that did not, as a
part of the change of the others."""

_MIN_EVEN_CHANGE, _MAX_UNEVEN_SHARE, _MIN_EVEN_VOLUME = 0.02, 0.5, 0.5
"""A change is spread evenly if it is at least the first part of the amount before, if no value differs from it by more
than the second part of it, and if the values that this can be said of have the third part of the amount before."""

_SUFFICIENT_SHARE = 0.8
"""Share of the change that is accounted for when the search ends."""

MAX_ELEMENTS = 12
"""Elements that all causes have together."""

_LOG_COST_PER_ELEMENT = math.log(10)
"""Log cost of one more element, beyond that of selecting it: it has to be ten times as likely as chance."""

_MAX_NOISE_ROUNDS = 3
"""Times that the noise is estimated, each time from the leaves that no cause explains."""

_MIN_COMMON_CHANGE, _MAX_COMMON_CHANGE = 0.3, 0.9
"""A change common to all leaves is considered if the median change is more than the first times the noise's standard
deviation, but less than the second, as if half of the leaves were new or gone."""

_MAX_MOVES = 200
"""Tries to improve a set of causes."""

_MIN_EXCESS_SHARE = 0.1
"""Least difference between an element's share of the change and its share of the amount before."""

_EXCESS_PER_DIMENSION = 0.02
"""Difference that every further dimension has to add."""

_MIN_CHANCE_RATIO = 2.0
"""Least ratio of an element's change to the change by chance: the root of the sum of all squared changes of leaves,
without its own largest leaf."""

_Causes = tuple[tuple[int, ...], ...]
"""The elements of each cause, all of one cuboid."""


def choose_regions(leaves: Leaves) -> list[Region]:
    """At most `MAX_REGIONS` disjoint regions, the one with the largest change first."""
    sharp = [_sharper(leaves, element) for element in _simpler(leaves, search(leaves))]
    elements = [*dict.fromkeys(chain(*(_divided(leaves, element) for element in sharp)))]
    regions = _distinct(leaves, _important(leaves, elements))
    change = float(leaves.difference.sum())
    unexplained = abs(_sum(leaves.difference, _free(leaves, regions)))
    if unexplained > _MAX_UNEXPLAINED_SHARE * abs(change) and not spread_evenly(leaves):
        values = _changed_values(leaves, np.ones(len(leaves.change), dtype=bool))
        regions = _distinct(leaves, [(pair,) for pair in values]) or regions
    while len(regions) < MAX_REGIONS:
        free = _free(leaves, regions)
        if abs(_sum(leaves.difference, free)) <= (1 - _SUFFICIENT_SHARE) * abs(change):
            break
        element = largest(leaves, free)
        parts = _divided(leaves, _sharper(leaves, element)) if element else []
        more = _distinct(leaves, [*(region.where for region in regions), *parts])[:MAX_REGIONS] if parts else regions
        if len(more) <= len(regions):
            break
        regions = more
    return sorted(regions, key=lambda region: -abs(_change(leaves, region)))


def spread_evenly(leaves: Leaves) -> bool:
    """Whether every larger value of every dimension changed by about as much as the total, relative to before.

    False where that cannot be said, because the changes are as small as the noise, or values are too small.
    """
    before, change = float(leaves.before.sum()), float(leaves.difference.sum())
    if before <= 0 or abs(change) < _MIN_EVEN_CHANGE * before or not leaves.codes.size:
        return False
    variance = _variance(leaves)
    is_known = False
    for column in leaves.codes.T:
        named = column >= 0
        volumes, changes, variances = (
            np.bincount(column[named], amounts[named]) for amounts in (leaves.before, leaves.difference, variance)
        )
        clear = (volumes > 0) & (np.sqrt(variances) <= _MAX_UNEVEN_SHARE * np.abs(change / before) * volumes)
        if volumes[clear].sum() < _MIN_EVEN_VOLUME * before:
            continue
        expected = volumes[clear] * change / before
        margin = _MAX_UNEVEN_SHARE * np.abs(expected) + 2 * np.sqrt(variances[clear])
        if (np.abs(changes[clear] - expected) > margin).any():
            return False
        is_known = is_known or int(clear.sum()) > 1
    return is_known


def _variance(leaves: Leaves) -> Floats:
    """The variance of each leaf's change by ordinary noise, around a change that is common to all."""
    noise = estimate_noise(leaves.change, leaves.size, float(np.median(leaves.change)))
    return np.asarray(noise.variance(leaves.size) * leaves.size**2)


def _distinct(leaves: Leaves, elements: list[Element]) -> list[Region]:
    """The elements as disjoint regions, without those that change about as everything outside all regions does.

    Relative to before; the least distinct is left out first, and the others are made disjoint again.
    """
    kept = list(elements)
    while regions := disjoint(kept):
        free = _free(leaves, regions)
        volume = _sum(leaves.before, free)
        if volume <= 0:
            free, volume = np.ones(len(free)), float(leaves.before.sum())
        ordinary = _sum(leaves.difference, free) / volume if volume > 0 else 0.0
        alike = []
        for region in regions:
            mask = region.mask(leaves.codes)
            change = float(leaves.difference[mask].sum())
            excess = change - ordinary * float(leaves.before[mask].sum())
            if abs(excess) < MIN_DISTINCT_SHARE * abs(change):
                alike.append((abs(excess), region.where))
        if not alike:
            break
        kept.remove(min(alike)[1])
    return regions


def _divided(leaves: Leaves, element: Element) -> list[Element]:
    """The values within the element that changed, if others in it clearly did not; else the element alone."""
    mask = Region(element).mask(leaves.codes)
    result = []
    for pair in _changed_values(leaves, mask, {dim for dim, _ in element}):
        is_inside = bool(mask[Region((pair,)).mask(leaves.codes)].all())
        result.append((pair,) if is_inside else tuple(sorted((*element, pair))))
    return result or [element]


def _changed_values(leaves: Leaves, within: Mask, skipped: Collection[int] = ()) -> list[Pair]:
    """The values of the dimension that divides best into some that changed alike and others that did not; else none.

    If most values changed alike, the search takes their change for the common one and the others for the exceptions, or
    names what most of them have in common.
    """
    best, result = 0.0, list[Pair]()
    variance = _variance(leaves)
    for dim, column in enumerate(leaves.codes.T):
        named = within & (column >= 0)
        if dim in skipped or not named.any():
            continue
        volumes, changes, variances = (
            np.bincount(column[named], amounts[named]) for amounts in (leaves.before, leaves.difference, variance)
        )
        there = volumes > 0
        clear = there & (np.abs(changes) >= _MIN_CLEAR_DEVIATIONS * np.sqrt(variances))
        level = changes[clear].sum() / volumes[clear].sum() if clear.any() else 0.0
        changed = clear & (np.abs(changes - level * volumes) <= 0.5 * abs(level) * volumes)
        others = there & ~changed
        if not level or not 1 < changed.sum() <= MAX_REGIONS or not others.any():
            continue
        volume, change = float(volumes[others].sum()), float(changes[others].sum())
        missing = abs(change - level * volume)  # if they had changed, too
        is_quiet = abs(change) <= _MAX_QUIET_SHARE * abs(level) * volume
        if not is_quiet or missing < _MIN_CLEAR_DEVIATIONS * math.sqrt(float(variances[others].sum())):
            continue
        separation = abs(level) * min(volume, float(volumes[changed].sum()))
        if separation > best:
            best, result = separation, [(dim, int(code)) for code in np.flatnonzero(changed)]
    return result


def _sum(amounts: Floats, weights: Floats) -> float:
    return float((amounts * weights).sum())


def _simpler(leaves: Leaves, elements: list[Element]) -> list[Element]:
    """The elements with one condition less where possible: a parent replaces those that change nearly as it does."""
    result = list(elements)
    for element in elements:
        parents = [(*element[:left], *element[left + 1 :]) for left in range(len(element))] if len(element) > 1 else []
        masks = {parent: Region(parent).mask(leaves.codes) for parent in parents}
        for parent in sorted(parents, key=lambda element: -abs(_relative(leaves, masks[element]))):
            inner = [other for other in result if set(parent) < set(other)]
            union = np.zeros(len(leaves.codes), dtype=bool)
            for other in inner:
                union |= Region(other).mask(leaves.codes)
            theirs, its = _relative(leaves, union), _relative(leaves, masks[parent])
            if inner and its * np.sign(theirs) >= (
                _MIN_PARENT_OF_SEVERAL if len(inner) > 1 else _MIN_PARENT_OF_ONE
            ) * abs(theirs):
                result = [*(other for other in result if other not in inner and other != parent), parent]
                break
    return result


def _sharper(leaves: Leaves, element: Element) -> Element:
    """The element with more values, each if nearly all of its change has that value and the amount before had not.

    What is left without the value must not have changed by more than the noise and the ordinary change outside.
    """
    variance = _variance(leaves)
    result = element
    while len(result) < leaves.codes.shape[1]:
        mask = Region(result).mask(leaves.codes)
        outside = float(leaves.before[~mask].sum())
        ordinary = float(leaves.difference[~mask].sum()) / outside if outside > 0 else 0.0
        excess = leaves.difference - ordinary * leaves.before
        change, before = float(excess[mask].sum()), float(np.abs(leaves.before[mask]).sum())
        best: tuple[float, Element] | None = None
        for dim in range(leaves.codes.shape[1] if change else 0):
            column = leaves.codes[mask, dim]
            named = column >= 0
            if any(dim == own for own, _ in result) or not named.any():
                continue
            share = np.bincount(column[named], excess[mask][named]) / change
            code = int(share.argmax())
            inside = column == code
            had = float(np.abs(leaves.before[mask][inside]).sum())
            left = float(excess[mask][~inside].sum()) ** 2
            nearly_all = share[code] >= _MIN_SHARED_CHANGE and had < _MAX_SHARED_BEFORE * before
            rest_is_noise = left <= 4 * float(variance[mask][~inside].sum())
            clear = share[code] >= _MIN_CLEAR_SHARE and had < _MAX_CLEAR_BEFORE * before and rest_is_noise
            if (nearly_all or clear) and (best is None or had < best[0]):
                best = had, tuple(sorted((*result, (dim, code))))
        if best is None:
            break
        result = best[1]
    return result


def _relative(leaves: Leaves, mask: Mask) -> float:
    change, before = float(leaves.difference[mask].sum()), float(leaves.before[mask].sum())
    size = max(abs(before), abs(before + change))
    return change / size if size else 0.0


def _important(leaves: Leaves, elements: list[Element]) -> list[Element]:
    """The elements with a large share of the change, without those inside one that changes in the same direction."""
    changes = {element: _change(leaves, Region(element)) for element in elements}
    masks = {element: Region(element).mask(leaves.codes) for element in elements}

    def within(inner: Element, outer: Element) -> bool:
        same_way = changes[outer] * changes[inner] > 0
        return same_way and masks[inner].sum() < masks[outer].sum() and not (masks[inner] & ~masks[outer]).any()

    whole = max(abs(float(leaves.difference.sum())), *map(abs, changes.values()), 0.0)
    variance = _variance(leaves)

    def is_strong(element: Element) -> bool:
        deviation = math.sqrt(float(variance[masks[element]].sum()))
        return (
            abs(_relative(leaves, masks[element])) >= _MIN_STRONG_CHANGE
            and abs(changes[element]) >= _MIN_STRONG_DEVIATIONS * deviation
        )

    ranked = sorted(elements, key=lambda element: -abs(changes[element]))
    kept = [
        element
        for element in ranked
        if abs(changes[element]) >= whole * (MIN_STRONG_SHARE if is_strong(element) else _MIN_REGION_SHARE)
    ]
    return [element for element in kept if not any(within(element, other) for other in kept)][:MAX_REGIONS]


def _change(leaves: Leaves, region: Region) -> float:
    return float(leaves.difference[region.mask(leaves.codes)].sum())


def _free(leaves: Leaves, regions: list[Region]) -> Floats:
    free = np.ones(len(leaves.change))
    for region in regions:
        free[region.mask(leaves.codes)] = 0.0
    return free


def search(leaves: Leaves) -> list[Element]:
    """The elements that account for the change, in the order in which leaves are assigned to them."""
    if not leaves.count:
        return []
    value, causes = _explained(leaves, 0.0)
    common = float(np.median(leaves.change))
    if (
        _MAX_COMMON_CHANGE
        > abs(common)
        > _MIN_COMMON_CHANGE * math.sqrt(estimate_noise(leaves.change, leaves.size, 0.0).share)
    ):
        shifted, others = _explained(leaves, common)
        if shifted - 0.5 * math.log(len(leaves.change)) > value:
            causes = others
    return [leaves.element(number) for number in chain(*causes)]


def _explained(leaves: Leaves, centre: float) -> tuple[float, _Causes]:
    """The log posterior and the causes, if ordinary leaves change around `centre`."""
    noise = estimate_noise(leaves.change, leaves.size, centre)
    causes: _Causes = ()
    value = 0.0
    for _ in range(_MAX_NOISE_ROUNDS):
        climb = _Climb(leaves, noise)
        value, causes = climb.up(causes)
        free = climb.owner(causes) < 0
        again = estimate_noise(leaves.change[free], leaves.size[free], centre, 0.9)
        if again.near(noise):
            break
        noise = again
    return value, causes


class _Climb:
    """Hill climbing over sets of causes, for a given noise."""

    def __init__(self, leaves: Leaves, noise: Noise) -> None:
        self.leaves = leaves
        self.model = Model(leaves.change, leaves.size, noise, float(np.sign(leaves.difference.sum())))
        self.free: Mask = np.ones(len(leaves.change), dtype=bool)
        self.free_sums = leaves.sums(self.model.rows)
        self.ordinary = float(self.model.rows[1].sum())
        # log costs of selecting a cause's dimensions, and one of their elements
        levels = np.array([len(dims) for dims in leaves.dims])
        alike = np.bincount(levels)[levels]
        self.cost: Floats = np.log(levels.max()) + np.log(alike)
        self.price: Floats = np.log(leaves.sizes) + _LOG_COST_PER_ELEMENT

    def up(self, causes: _Causes) -> tuple[float, _Causes]:
        """The best set of causes that single moves reach from this one."""
        causes = self.grown(causes)
        value = self.value(causes)
        moves = self.moves(causes)
        for _ in range(_MAX_MOVES):
            move = next(moves, None)
            if move is None:
                break
            reached = self.value(move)
            if reached > value + 1e-6:
                causes = self.grown(move)
                value = self.value(causes)
                moves = self.moves(causes)
        return value, causes

    def moves(self, causes: _Causes) -> Iterator[_Causes]:
        """Sets to try next: a parent instead of the elements in it; others instead of one element, or of one cause."""
        chosen = set(chain(*causes))
        for parent in self._parents(chosen):
            inner = {number for number in chosen if self._contains(parent, number)}
            yield (*_without(causes, inner), (parent,))
        for dropped in [*({number} for number in chosen), *(set(cause) for cause in causes if len(cause) > 1)]:
            yield self.grown(_without(causes, dropped), dropped)

    def grown(self, causes: _Causes, banned: Collection[int] = ()) -> _Causes:
        """The set with elements added, the best first, while they explain more than they cost."""
        while sum(map(len, causes)) < MAX_ELEMENTS:
            larger = self._larger(causes, banned)
            if larger is None:
                break
            causes = larger
        return causes

    def value(self, causes: _Causes) -> float:
        """The log posterior, up to a constant."""
        owner = self.owner(causes)
        total = self.ordinary
        for index, cause in enumerate(causes):
            cuboid = self.leaves.cuboid[cause[0]]
            total += float(self.model.gain(self._sums(owner == index))[0])
            total -= float(self.cost[cuboid] + len(cause) * self.price[cuboid])
        return total

    def owner(self, causes: _Causes) -> Codes:
        """The index of the first cause that contains each leaf; -1 for none."""
        owner = np.full(len(self.leaves.change), -1)
        for index, cause in enumerate(causes):
            for number in cause:
                owner[self.leaves.inside(number) & (owner < 0)] = index
        return owner

    def _larger(self, causes: _Causes, banned: Collection[int]) -> _Causes | None:
        owner = self.owner(causes)
        sums = self._of_free(owner < 0)
        cuboid = self.leaves.cuboid
        open_ = sums[0] > 0.5
        open_[list(banned)] = False
        alone = np.where(open_, self.model.gain(sums), -math.inf) - self.cost[cuboid] - self.price[cuboid]
        at = int(alone.argmax())
        best, result = float(alone[at]), (*causes, (at,))
        for index, cause in enumerate(causes):
            joined = self._sums(owner == index)
            own = float(self.model.gain(joined)[0])
            alike = np.flatnonzero(open_ & (cuboid == cuboid[cause[0]]))
            if own == -math.inf or not len(alike):
                continue
            more = self.model.gain(sums[:, alike] + joined) - own - self.price[cuboid[cause[0]]]
            at = int(more.argmax())
            if more[at] > best:
                best, result = float(more[at]), (*causes[:index], (*cause, int(alike[at])), *causes[index + 1 :])
        return result if best > 0 else None

    def _of_free(self, free: Mask) -> Floats:
        """The sums of the leaves that are free; from those of the last set of causes if fewer leaves differ."""
        changed, rows = np.flatnonzero(free != self.free), self.model.rows
        if len(changed) < free.sum():
            signs = np.where(free[changed], 1.0, -1.0)
            self.free_sums = self.free_sums + self.leaves.sums(rows[:, changed] * signs, changed)
        else:
            self.free_sums = self.leaves.sums(rows[:, free], np.flatnonzero(free))
        self.free = free
        return self.free_sums

    def _sums(self, mask: Mask) -> Floats:
        return np.asarray(self.model.rows[:, mask].sum(axis=1, keepdims=True))

    def _parents(self, chosen: set[int]) -> list[int]:
        result: dict[int, None] = {}
        for number in chosen:
            own = set(self.leaves.dims[self.leaves.cuboid[number]])
            for index, dims in enumerate(self.leaves.dims):
                if own > set(dims):
                    result[int(self.leaves.ids[index, self.leaves.sample[number]])] = None
        return [parent for parent in result if parent not in chosen]

    def _contains(self, parent: int, number: int) -> bool:
        return set(self.leaves.element(parent)) <= set(self.leaves.element(number))


def _without(causes: _Causes, dropped: set[int]) -> _Causes:
    left = (tuple(number for number in cause if number not in dropped) for cause in causes)
    return tuple(cause for cause in left if cause)


def largest(leaves: Leaves, free: Floats) -> Element | None:
    """The element, of one or two dimensions, whose share of the free leaves' change most exceeds that of their amounts.

    None if it does not exceed it by enough. `free` is 1 for free leaves, 0 for those of chosen regions.
    """
    difference, before = leaves.difference * free, np.abs(leaves.before) * free
    change, volume = float(difference.sum()), float(before.sum())
    if not change or not leaves.count:
        return None
    changes, volumes = leaves.sums(np.array([difference, before]))
    levels = np.array([len(dims) for dims in leaves.dims])[leaves.cuboid]
    excess = (
        np.minimum(changes / change, 1.0) - (volumes / volume if volume else 0.0) - _EXCESS_PER_DIMENSION * (levels - 1)
    )
    squares = difference**2
    single = np.zeros(leaves.count + 1)
    for ids in leaves.ids:
        np.maximum.at(single, ids, squares)
    chance = np.sqrt(np.maximum(float(squares.sum()) - single[:-1], 0.0))
    excess[(levels > MIN_SEARCHED_LEVELS) | (np.abs(changes) <= _MIN_CHANCE_RATIO * chance)] = -np.inf
    at = int(excess.argmax())
    return leaves.element(at) if excess[at] > _MIN_EXCESS_SHARE else None
