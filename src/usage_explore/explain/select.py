"""The few regions to tell: the causes found, then what accounts for most of the rest."""

from __future__ import annotations

import numpy as np

from usage_explore.explain.cuboids import Element, Floats, Leaves, Mask
from usage_explore.explain.disjoint import Region, disjoint
from usage_explore.explain.fallback import largest
from usage_explore.explain.search import search

MOST = 8
"""No more cells are told."""

_LEAST = 0.1
"""A cell with less than this part of the change, or of the largest cell's, is left to the rest."""

_ALIKE, _SAME = 0.8, 0.97
"""A parent is told instead of several children, or of one, when it changed by so much of what they did."""

_NEARLY, _LESS = 0.98, 0.95
"""A further value is told that has at least so much of a change, but less than so much of what was before."""

_ENOUGH = 0.8
"""When this part of the change is accounted for, nothing more is looked for."""


def choose(leaves: Leaves) -> list[Region]:
    """At most `MOST` disjoint regions, the one with the largest change first."""
    elements = [_sharper(leaves, element) for element in _simpler(leaves, search(leaves))]
    regions = disjoint(_important(leaves, elements))
    change = float(leaves.difference.sum())
    while len(regions) < MOST:
        free = _free(leaves, regions)
        if abs(float(leaves.difference[free > 0].sum())) <= (1 - _ENOUGH) * abs(change):
            break
        element = largest(leaves, free)
        more = disjoint([*(region.where for region in regions), element]) if element else regions
        if len(more) <= len(regions):
            break
        regions = more
    return sorted(regions, key=lambda region: -abs(_change(leaves, region)))


def _simpler(leaves: Leaves, elements: list[Element]) -> list[Element]:
    """The elements, where possible with one condition less: several under one parent that changes nearly as they do."""
    found = list(elements)
    for element in elements:
        parents = [(*element[:left], *element[left + 1 :]) for left in range(len(element))] if len(element) > 1 else []
        masks = {parent: Region(parent).mask(leaves.codes) for parent in parents}
        for parent in sorted(parents, key=lambda each: -abs(_relative(leaves, masks[each]))):
            inner = [other for other in found if set(parent) < set(other)]
            union = np.zeros(len(leaves.codes), dtype=bool)
            for other in inner:
                union |= Region(other).mask(leaves.codes)
            theirs, its = _relative(leaves, union), _relative(leaves, masks[parent])
            if inner and its * np.sign(theirs) >= (_ALIKE if len(inner) > 1 else _SAME) * abs(theirs):
                found = [*(other for other in found if other not in inner and other != parent), parent]
                break
    return found


def _sharper(leaves: Leaves, element: Element) -> Element:
    """The element with one more value where nearly all of its change has that value, and what was before had not."""
    mask = Region(element).mask(leaves.codes)
    change, before = float(leaves.difference[mask].sum()), float(np.abs(leaves.before[mask]).sum())
    best, found = _LESS * before, element
    for dim in range(leaves.codes.shape[1] if change else 0):
        column = leaves.codes[mask, dim]
        named = column >= 0
        if any(dim == own for own, _ in element) or not named.any():
            continue
        changes = np.bincount(column[named], leaves.difference[mask][named]) / change
        at = int(changes.argmax())
        had = float(np.abs(leaves.before[mask][column == at]).sum())
        if changes[at] >= _NEARLY and had < best:
            best, found = had, tuple(sorted((*element, (dim, at))))
    return found


def _relative(leaves: Leaves, mask: Mask) -> float:
    change, before = float(leaves.difference[mask].sum()), float(leaves.before[mask].sum())
    size = max(abs(before), abs(before + change))
    return change / size if size else 0.0


def _important(leaves: Leaves, elements: list[Element]) -> list[Element]:
    """The elements with a large part in the change, without those whose parent is among them and goes the same way."""
    changes = {element: _change(leaves, Region(element)) for element in elements}
    masks = {element: Region(element).mask(leaves.codes) for element in elements}

    def within(inner: Element, outer: Element) -> bool:
        same_way = changes[outer] * changes[inner] > 0
        return same_way and masks[inner].sum() < masks[outer].sum() and not (masks[inner] & ~masks[outer]).any()

    least = _LEAST * max(abs(float(leaves.difference.sum())), *map(abs, changes.values()), 0.0)
    ranked = sorted(elements, key=lambda element: -abs(changes[element]))
    kept = [element for element in ranked if abs(changes[element]) >= least]
    return [element for element in kept if not any(within(element, other) for other in kept)][:MOST]


def _change(leaves: Leaves, region: Region) -> float:
    return float(leaves.difference[region.mask(leaves.codes)].sum())


def _free(leaves: Leaves, regions: list[Region]) -> Floats:
    free = np.ones(len(leaves.change))
    for region in regions:
        free[region.mask(leaves.codes)] = 0.0
    return free
