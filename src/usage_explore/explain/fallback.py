"""What accounts for a change that no cause explains: the value, or pair of values, with most of it and little else.

Where one huge event makes the change, or everything is sparse, leaves do not change alike and nothing can be inferred
from them. What remains is accounting: who has a much larger share of the change than it had of the whole.
"""

from __future__ import annotations

import numpy as np

from usage_explore.explain.cuboids import ALWAYS, Element, Floats, Leaves

LEAST = 0.1
"""A conjunction is named where its share of the change is larger by this than its share of what was there before."""

_DIMENSION = 0.02
"""How much more every further dimension has to bring."""


_CLEARLY = 2.0
"""It has to change by more than so many times what leaves do by chance, each on its own, its largest one left aside."""


def largest(leaves: Leaves, free: Floats) -> Element | None:
    """The conjunction, of one or two dimensions, that has most of the free leaves' change beyond its share of them."""
    difference, before = leaves.difference * free, np.abs(leaves.before) * free
    change, volume = float(difference.sum()), float(before.sum())
    if not change or not leaves.count:
        return None
    changes, volumes = leaves.sums(np.array([difference, before]))
    levels = np.array([len(dims) for dims in leaves.dims])[leaves.cuboid]
    excess = np.minimum(changes / change, 1.0) - (volumes / volume if volume else 0.0) - _DIMENSION * (levels - 1)
    squares = difference**2
    single = np.zeros(leaves.count + 1)
    for ids in leaves.ids:
        np.maximum.at(single, ids, squares)
    chance = np.sqrt(np.maximum(float(squares.sum()) - single[:-1], 0.0))
    excess[(levels > ALWAYS) | (np.abs(changes) <= _CLEARLY * chance)] = -np.inf
    at = int(excess.argmax())
    return leaves.element(at) if excess[at] > LEAST else None
