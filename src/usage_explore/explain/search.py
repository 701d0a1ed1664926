"""Which conjunctions of values account for a change: the fewest that leave only ordinary noise.

A cause is one or several conjunctions over the same dimensions whose leaves all change alike. What is looked for is the
most probable set of causes: the likelihood of all leaves against the number of sets of that size. So a conjunction is
named only where it explains more than naming it costs, and a parent only where all its children change like it. The set
is found by adding, dropping and exchanging conjunctions until nothing improves.

Floats serve for ranking only: no number that is told comes from here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import numpy as np

from usage_explore.explain.leaves import Codes, Element, Floats, Leaves, Mask
from usage_explore.explain.model import Model, Noise, measured

MOST = 20
"""No more conjunctions are named than this."""

_ANOTHER = math.log(3)
"""What one more conjunction costs beside saying which: two more are as likely as one of three."""

_ROUNDS = 3
"""How often the noise is measured again on the leaves that no cause explains."""

_COMMON = 0.3
"""A change common to all leaves is looked for where half of them change by more than this part of the noise."""

_MOVES = 400
"""After so many tries to improve a set it is taken as it is."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A conjunction that was chosen: its cuboid, and its number there."""

    cuboid: int
    number: int


_Causes = tuple[tuple[_Named, ...], ...]
"""The causes, each with its conjunctions, which are all of one cuboid."""

_Choice = frozenset[_Named]


def search(leaves: Leaves) -> list[Element]:
    """The conjunctions that account for the change, in the order in which they take their leaves."""
    if not leaves.cuboids:
        return []
    value, causes = _explained(leaves, 0.0)
    common = float(np.median(leaves.change))
    if abs(common) > _COMMON * math.sqrt(measured(leaves.change, leaves.size, 0.0).share):
        shifted, others = _explained(leaves, common)
        if shifted - 0.5 * math.log(len(leaves.change)) > value:
            causes = others
    return [leaves.element(leaves.cuboids[named.cuboid], named.number) for named in chain(*causes)]


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
        self.whole = [cuboid.sums(self.model.rows) for cuboid in leaves.cuboids]
        self.ordinary = float(self.model.rows[1].sum())

    def up(self, causes: _Causes) -> tuple[float, _Causes]:
        """The best set of causes that can be reached."""
        causes = self.grown(causes)
        value = self.value(causes)
        moves = self.moves(causes)
        for _ in range(_MOVES):
            move = next(moves, None)
            if move is None:
                break
            other = self.grown(*move)
            reached = self.value(other)
            if reached > value + 1e-6:
                causes, value = other, reached
                moves = self.moves(causes)
        return value, causes

    def moves(self, causes: _Causes) -> Iterator[tuple[_Causes, _Choice]]:
        """Sets to try next, each with what must not be added to it: one without, and one with a parent instead."""
        chosen = list(chain(*causes))
        for named in chosen:
            yield _without(causes, frozenset({named})), frozenset({named})
        for cause in causes:
            if len(cause) > 1:
                yield _without(causes, frozenset(cause)), frozenset(cause)
        for parent in self._parents(chosen):
            inside = frozenset(named for named in chosen if self._contains(parent, named))
            yield (*_without(causes, inside), (parent,)), frozenset()

    def grown(self, causes: _Causes, banned: _Choice = frozenset()) -> _Causes:
        """The set with conjunctions added, the best one first, as long as they explain more than they cost."""
        while sum(map(len, causes)) < MOST:
            gain, larger = self._addition(causes, banned)
            if gain <= 0:
                break
            causes = larger
        return causes

    def value(self, causes: _Causes) -> float:
        """The log of the posterior, up to a constant."""
        owner = self.owner(causes)
        total = self.ordinary
        for place, cause in enumerate(causes):
            cuboid = self.leaves.cuboids[cause[0].cuboid]
            total += float(self.model.gain(self._sums(owner == place))[0])
            total -= cuboid.cost + len(cause) * self._price(cause[0].cuboid)
        return total

    def owner(self, causes: _Causes) -> Codes:
        """For each leaf which cause takes it, the first that can; -1 for none."""
        owner = np.full(len(self.leaves.change), -1)
        for place, cause in enumerate(causes):
            for named in cause:
                owner[(self.leaves.cuboids[named.cuboid].ids == named.number) & (owner < 0)] = place
        return owner

    def _addition(self, causes: _Causes, banned: _Choice) -> tuple[float, _Causes]:
        owner = self.owner(causes)
        taken = np.flatnonzero(owner >= 0)
        rows = self.model.rows[:, taken]
        joined = [self._sums(owner == place) for place in range(len(causes))]
        best, found = 0.0, causes
        for number, cuboid in enumerate(self.leaves.cuboids):
            sums = self.whole[number] - cuboid.sums(rows, taken)
            closed = sums[0] < 0.5
            closed[[named.number for named in banned if named.cuboid == number]] = True
            alone = np.where(closed, -math.inf, self.model.gain(sums)) - cuboid.cost - self._price(number)
            at = int(alone.argmax())
            if alone[at] > best:
                best, found = float(alone[at]), (*causes, (_Named(number, at),))
            for place, cause in enumerate(causes):
                own = float(self.model.gain(joined[place])[0])
                if cause[0].cuboid != number or own == -math.inf:
                    continue
                more = np.where(closed, -math.inf, self.model.gain(sums + joined[place])) - own - self._price(number)
                at = int(more.argmax())
                if more[at] > best:
                    best = float(more[at])
                    found = (*causes[:place], (*cause, _Named(number, at)), *causes[place + 1 :])
        return best, found

    def _price(self, cuboid: int) -> float:
        return math.log(self.leaves.cuboids[cuboid].size) + _ANOTHER

    def _sums(self, mask: Mask) -> Floats:
        return np.asarray(self.model.rows[:, mask].sum(axis=1, keepdims=True))

    def _parents(self, chosen: list[_Named]) -> list[_Named]:
        found: dict[_Named, None] = {}
        for named in chosen:
            own = self.leaves.cuboids[named.cuboid]
            leaf = own.sample[named.number]
            for number, cuboid in enumerate(self.leaves.cuboids):
                if set(cuboid.dims) < set(own.dims):
                    found[_Named(number, int(cuboid.ids[leaf]))] = None
        return [parent for parent in found if parent not in chosen]

    def _contains(self, parent: _Named, named: _Named) -> bool:
        outer, inner = self.leaves.cuboids[parent.cuboid], self.leaves.cuboids[named.cuboid]
        return set(outer.dims) <= set(inner.dims) and outer.ids[inner.sample[named.number]] == parent.number


def _without(causes: _Causes, dropped: _Choice) -> _Causes:
    left = (tuple(named for named in cause if named not in dropped) for cause in causes)
    return tuple(cause for cause in left if cause)
