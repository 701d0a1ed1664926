"""The few regions to tell: the causes found, then what accounts for most of the rest."""

from __future__ import annotations

import numpy as np

from usage_explore.explain.disjoint import Region, disjoint
from usage_explore.explain.largest import largest
from usage_explore.explain.leaves import Element, Floats, Leaves
from usage_explore.explain.search import search

MOST = 8
"""No more cells are told."""

_LEAST = 0.1
"""A cell with less than this part of the change, or of the largest cell's, is left to the rest."""

_ENOUGH = 0.8
"""When this part of the change is accounted for, nothing more is looked for."""


def choose(leaves: Leaves) -> list[Region]:
    """At most `MOST` disjoint regions, the one with the largest change first."""
    elements = search(leaves)
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
