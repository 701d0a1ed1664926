"""How likely changes are: ordinary noise, or leaves that change alike under one cause.

An ordinary leaf's relative change has a common centre and a variance that is a share, the same for all, and as counts
have it one over its size: both are measured on the leaves. Under a cause leaves change alike, around a level that is
not known and so integrated out. Everything is additive over leaves, so that sums per element are all it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from usage_explore.explain.leaves import Codes, Floats

_SPREADS = (0.01, 0.03, 0.1, 0.3)
"""How alike leaves under one cause may change: the standard deviation around their level, each as likely."""

_FINEST = _SPREADS[0]
"""Noise is never taken for smaller than this share of a leaf."""

_LEAST, _MOST = 0.02, 0.5
"""A cause changes its leaves by more than ordinary noise does, but no less than the first and surely by the second."""

_AGAINST = math.log(20)
"""What it costs to name a cause that goes against the change of the whole."""

_BOTH = 3
"""Ordinary leaves are new no more than so many times as often as they go, and the other way round."""

_SMALLEST = 10
"""Noise is measured on no fewer leaves."""

_NORMAL = {0.5: 0.6744897501960817, 0.9: 1.6448536269514722}
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, slots=True)
class Noise:
    """The variance of an ordinary leaf's relative change around `centre`: `share + count / size`."""

    centre: float
    share: float
    count: float

    def variance(self, size: Floats) -> Floats:
        """The variance for leaves of these sizes."""
        return self.share + self.count / size

    def near(self, other: Noise) -> bool:
        """Whether the two are the same for all that matters."""
        return math.isclose(self.share, other.share, rel_tol=0.02) and math.isclose(
            self.count, other.count, rel_tol=0.02, abs_tol=1e-12
        )


def measured(change: Floats, size: Floats, centre: float, quantile: float = 0.5) -> Noise:
    """The noise of these leaves, robustly: from the median distance on the quieter side, for small and large ones.

    A cause moves leaves to one side, so that the other side tells the noise even where half of all leaves are hit.
    """
    distance = change - centre
    found = [(_quiet(distance[group], quantile), float(np.median(size[group]))) for group in _by_size(size)]
    if not found:
        return Noise(centre, 1.0, 0.0)
    if found[0][0] < 1.5 * found[-1][0]:
        return Noise(centre, _quiet(distance, quantile), 0.0)
    share, count = _fitted(np.array([variance for variance, _ in found]), 1 / np.array([size for _, size in found]))
    return Noise(centre, max(share, _FINEST**2), count)


def _quiet(distance: Floats, quantile: float) -> float:
    sides = [np.abs(distance[distance < 0]), np.abs(distance[distance > 0])]
    sides = [side for side in sides if len(side) >= _SMALLEST] or [np.abs(distance)]
    least = min(float(np.quantile(side, quantile)) for side in sides) / _NORMAL[quantile]
    return min(1.0, max(least, _FINEST) ** 2)


def _fitted(variance: Floats, inverse: Floats) -> tuple[float, float]:
    """The share and count, neither negative, so that `share + count * inverse` is relatively nearest."""
    a, b = 1 / variance, inverse / variance
    both = a @ a * (b @ b) - (a @ b) ** 2
    share = count = 0.0
    if both > 1e-9 * (a @ a) * (b @ b):
        share = float((a.sum() * (b @ b) - b.sum() * (a @ b)) / both)
        count = float((b.sum() * (a @ a) - a.sum() * (a @ b)) / both)
    if share <= 0 < count:
        return 0.0, float(b.sum() / (b @ b))
    if count <= 0:
        return float(a.sum() / (a @ a)), 0.0
    return share, count


def _ends(change: Floats, size: Floats) -> Floats:
    """How often ordinary leaves as large as each one are new, or gone, as it is; the logarithm, -inf for all others.

    Where leaves only come, or only go, that is nothing ordinary.
    """
    found = np.full(len(change), -math.inf)
    if change.max() < 1 or change.min() > -1:
        return found
    for group in _by_size(size):
        new, gone = change[group] >= 1, change[group] <= -1
        shares = (new.sum() + 0.5) / (len(group) + 1), (gone.sum() + 0.5) / (len(group) + 1)
        # a cause makes leaves new or makes them go, not both
        found[group[new]] = math.log(min(shares[0], _BOTH * shares[1]))
        found[group[gone]] = math.log(min(shares[1], _BOTH * shares[0]))
    return found


def _by_size(size: Floats) -> list[Codes]:
    groups = np.array_split(np.argsort(size, kind="stable"), max(1, min(8, len(size) // (8 * _SMALLEST))))
    return [group for group in groups if len(group)]


class Model:
    """The likelihood of leaves under a noise; `rows` are what has to be summed over an element's leaves.

    `direction` is the sign of the change of the whole.
    """

    def __init__(self, change: Floats, size: Floats, noise: Noise, direction: float) -> None:
        ordinary = noise.variance(size)
        likely = -0.5 * (_LOG_2PI + np.log(ordinary) + (change - noise.centre) ** 2 / ordinary)
        # what comes and goes all the time is told apart from noise no better than it is rare
        likely = np.logaddexp(likely, _ends(change, size) - 0.5 * math.log(2 * math.pi * _FINEST**2))
        rows = [np.ones_like(change), likely]
        for spread in _SPREADS:
            weight = 1 / (spread**2 + noise.count / size)
            rows += [np.log(weight), weight, weight * change, weight * change**2]
        self.rows: Floats = np.array(rows)
        self.noise, self.direction = noise, direction
        self.least = min(_MOST, max(math.sqrt(noise.share), _LEAST))

    def gain(self, sums: Floats) -> Floats:
        """By how much one cause explains leaves better than noise: log of the ratio, -inf without a change."""
        return np.asarray(self.evidence(sums) - sums[1])

    def evidence(self, sums: Floats) -> Floats:
        """The log likelihood of leaves under one cause, its level and spread integrated out; a column per element."""
        n = sums[0]
        there = n > 0.5
        found = []
        for place in range(2, len(sums), 4):
            log_weight, weight, once, twice = sums[place : place + 4]
            weight = np.where(there, weight, 1.0)
            level = once / weight
            fit = 0.5 * (log_weight - n * _LOG_2PI - (twice - once * level))
            fit += 0.5 * np.log(2 * np.pi / weight) - math.log(2 * (1 - self.least))
            moved = level - self.noise.centre
            fit -= np.where(moved * self.direction < 0, _AGAINST, 0.0)
            fit[~there | (np.abs(moved) <= self.least)] = -math.inf
            found.append(fit)
        return np.asarray(np.logaddexp.reduce(found) - math.log(len(found)))
