"""What accounts for a change that no cause explains: the value, or pair of values, with most of it and little else.

Where one huge event makes the change, or everything is sparse, leaves do not change alike and nothing can be inferred
from them. What remains is accounting: who has a much larger share of the change than it had of the whole.
"""

from __future__ import annotations

import numpy as np

from usage_explore.explain.leaves import ALWAYS, Element, Floats, Leaves

LEAST = 0.1
"""A conjunction is named where its share of the change is larger by this than its share of what was there before."""

_DIMENSION = 0.02
"""How much more every further dimension has to bring."""


def largest(leaves: Leaves, free: Floats) -> Element | None:
    """The conjunction, of one or two dimensions, that has most of the free leaves' change beyond its share of them."""
    difference, before = leaves.difference * free, np.abs(leaves.before) * free
    change, volume = float(difference.sum()), float(before.sum())
    if not change:
        return None
    best, found = LEAST, None
    for cuboid in leaves.cuboids:
        if len(cuboid.dims) > ALWAYS or not cuboid.size:
            continue
        changes, volumes = cuboid.sums(np.array([difference, before]))
        excess = np.minimum(changes / change, 1.0) - (volumes / volume if volume else 0.0)
        excess -= _DIMENSION * (len(cuboid.dims) - 1)
        at = int(excess.argmax())
        if excess[at] > best:
            best, found = float(excess[at]), leaves.element(cuboid, at)
    return found
