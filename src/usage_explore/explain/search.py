"""Which conjunctions of values account for a change: the fewest that leave only ordinary noise.

A cause is one or several conjunctions over the same dimensions whose leaves all change alike. What is looked for is the
most probable set of causes: the likelihood of all leaves against the number of sets of that size. So a conjunction is
named only where it explains more than naming it costs, and a parent only where all its children change like it. The set
is found by adding, dropping and exchanging conjunctions until nothing improves.

Floats serve for ranking only: no number that is told comes from here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from itertools import chain

import numpy as np

from usage_explore.explain.cuboids import Codes, Element, Floats, Leaves, Mask
from usage_explore.explain.model import Model, Noise, measured

MOST = 12
"""No more conjunctions are named than this."""

_ANOTHER = math.log(10)
"""What one more conjunction costs beside saying which: it has to be ten times as likely as chance."""

_ROUNDS = 3
"""How often the noise is measured again on the leaves that no cause explains."""

_COMMON, _ALL = 0.3, 0.9
"""A change common to all leaves is looked for where half of them change by more than this part of the noise, though not
where half of them are new or gone."""

_MOVES = 200
"""After so many tries to improve a set it is taken as it is."""


_Causes = tuple[tuple[int, ...], ...]
"""The causes, each with its elements, which are all of one cuboid."""


def search(leaves: Leaves) -> list[Element]:
    """The conjunctions that account for the change, in the order in which they take their leaves."""
    if not leaves.count:
        return []
    value, causes = _explained(leaves, 0.0)
    common = float(np.median(leaves.change))
    if _ALL > abs(common) > _COMMON * math.sqrt(measured(leaves.change, leaves.size, 0.0).share):
        shifted, others = _explained(leaves, common)
        if shifted - 0.5 * math.log(len(leaves.change)) > value:
            causes = others
    return [leaves.element(number) for number in chain(*causes)]


def _explained(leaves: Leaves, centre: float) -> tuple[float, _Causes]:
    """The log of the posterior and the causes, where ordinary leaves change around `centre`."""
    noise = measured(leaves.change, leaves.size, centre)
    causes: _Causes = ()
    value = 0.0
    for _ in range(_ROUNDS):
        climb = _Climb(leaves, noise)
        value, causes = climb.up(causes)
        free = climb.owner(causes) < 0
        again = measured(leaves.change[free], leaves.size[free], centre, 0.9)
        if again.near(noise):
            break
        noise = again
    return value, causes


class _Climb:
    """The search under one noise."""

    def __init__(self, leaves: Leaves, noise: Noise) -> None:
        self.leaves = leaves
        self.model = Model(leaves.change, leaves.size, noise, float(np.sign(leaves.difference.sum())))
        self.whole = leaves.sums(self.model.rows)
        self.ordinary = float(self.model.rows[1].sum())
        # what it costs to say which dimensions a cause has, and which element of them it is
        levels = np.array([len(dims) for dims in leaves.dims])
        alike = np.bincount(levels)[levels]
        self.cost: Floats = np.log(levels.max()) + np.log(alike)
        self.price: Floats = np.log(leaves.sizes) + _ANOTHER

    def up(self, causes: _Causes) -> tuple[float, _Causes]:
        """The best set of causes that can be reached."""
        causes = self.grown(causes)
        value = self.value(causes)
        moves = self.moves(causes)
        for _ in range(_MOVES):
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
        """Sets to try next: a parent instead of what it contains, and the best instead of one, or of one cause."""
        chosen = set(chain(*causes))
        for parent in self._parents(chosen):
            inner = {number for number in chosen if self._contains(parent, number)}
            yield (*_without(causes, inner), (parent,))
        for dropped in [*({number} for number in chosen), *(set(cause) for cause in causes if len(cause) > 1)]:
            yield self.grown(_without(causes, dropped), dropped)

    def grown(self, causes: _Causes, banned: Collection[int] = ()) -> _Causes:
        """The set with elements added, the best one first, as long as they explain more than they cost."""
        while sum(map(len, causes)) < MOST:
            larger = self._larger(causes, banned)
            if larger is None:
                break
            causes = larger
        return causes

    def value(self, causes: _Causes) -> float:
        """The log of the posterior, up to a constant."""
        owner = self.owner(causes)
        total = self.ordinary
        for place, cause in enumerate(causes):
            cuboid = self.leaves.cuboid[cause[0]]
            total += float(self.model.gain(self._sums(owner == place))[0])
            total -= float(self.cost[cuboid] + len(cause) * self.price[cuboid])
        return total

    def owner(self, causes: _Causes) -> Codes:
        """For each leaf which cause takes it, the first that can; -1 for none."""
        owner = np.full(len(self.leaves.change), -1)
        for place, cause in enumerate(causes):
            for number in cause:
                owner[self.leaves.inside(number) & (owner < 0)] = place
        return owner

    def _larger(self, causes: _Causes, banned: Collection[int]) -> _Causes | None:
        owner = self.owner(causes)
        taken = np.flatnonzero(owner >= 0)
        sums = self.whole - self.leaves.sums(self.model.rows[:, taken], taken)
        cuboid = self.leaves.cuboid
        open_ = sums[0] > 0.5
        open_[list(banned)] = False
        alone = np.where(open_, self.model.gain(sums), -math.inf) - self.cost[cuboid] - self.price[cuboid]
        at = int(alone.argmax())
        best, found = float(alone[at]), (*causes, (at,))
        for place, cause in enumerate(causes):
            joined = self._sums(owner == place)
            own = float(self.model.gain(joined)[0])
            alike = np.flatnonzero(open_ & (cuboid == cuboid[cause[0]]))
            if own == -math.inf or not len(alike):
                continue
            more = self.model.gain(sums[:, alike] + joined) - own - self.price[cuboid[cause[0]]]
            at = int(more.argmax())
            if more[at] > best:
                best, found = float(more[at]), (*causes[:place], (*cause, int(alike[at])), *causes[place + 1 :])
        return found if best > 0 else None

    def _sums(self, mask: Mask) -> Floats:
        return np.asarray(self.model.rows[:, mask].sum(axis=1, keepdims=True))

    def _parents(self, chosen: set[int]) -> list[int]:
        found: dict[int, None] = {}
        for number in chosen:
            own = set(self.leaves.dims[self.leaves.cuboid[number]])
            for place, dims in enumerate(self.leaves.dims):
                if own > set(dims):
                    found[int(self.leaves.ids[place, self.leaves.sample[number]])] = None
        return [parent for parent in found if parent not in chosen]

    def _contains(self, parent: int, number: int) -> bool:
        return set(self.leaves.element(parent)) <= set(self.leaves.element(number))


def _without(causes: _Causes, dropped: set[int]) -> _Causes:
    left = (tuple(number for number in cause if number not in dropped) for cause in causes)
    return tuple(cause for cause in left if cause)
