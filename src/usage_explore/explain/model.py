"""How likely changes are: ordinary noise, or leaves that change alike under one cause.

An ordinary leaf's relative change has a common centre and a variance that is a share, the same for all, and as counts
have it one over its size: both are measured on the leaves. Under a cause leaves change alike, around a level that is
not known and so integrated out. Everything is additive over leaves, so that sums per element are all it takes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from usage_explore.explain.cuboids import Codes, Floats

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
    """How often ordinary leaves as large as each one are new, or gone, as it is; the logarithm, NaN for all others.

    Where leaves only come, or only go, that is nothing ordinary: all are NaN.
    """
    found = np.full(len(change), math.nan)
    if not len(change) or change.max() < 1 or change.min() > -1:
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
        ends = _ends(change, size)
        inner = np.isnan(ends)
        self.ends = not bool(inner.all())
        rows = [
            np.ones_like(change),
            np.where(inner, likely, ends),
            change,
            np.where(inner, 0.0, change >= 1),
            np.where(inner, 0.0, change <= -1),
        ]
        for spread in _SPREADS:
            weight = np.where(inner, 1 / (spread**2 + noise.count / size), 0.0)
            rows += [np.where(inner, np.log(weight + ~inner), 0.0), weight, weight * change, weight * change**2]
        self.rows: Floats = np.array(rows)
        # the logarithms of the factorials
        self.ways: Floats = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(change) + 3)))])
        self.noise, self.direction = noise, direction
        self.least = min(_MOST, max(math.sqrt(noise.share), _LEAST))

    def gain(self, sums: Floats) -> Floats:
        """By how much one cause explains leaves better than noise: log of the ratio, -inf without a change."""
        return np.asarray(self.evidence(sums) - sums[1])

    def evidence(self, sums: Floats) -> Floats:
        """The log likelihood of leaves under one cause, its level and spread integrated out; a column per element."""
        n, _, total, new, gone = sums[:5]
        there = n > 0.5
        inner = n - new - gone
        moved = total / np.where(there, n, 1.0) - self.noise.centre
        found = []
        for place in range(5, len(sums), 4):
            log_weight, weight, once, twice = sums[place : place + 4]
            weight = np.where(inner > 0.5, weight, 1.0)
            fit = 0.5 * (log_weight - inner * _LOG_2PI - (twice - once**2 / weight) + np.log(2 * np.pi / weight))
            found.append(np.where(inner > 0.5, fit - math.log(2 * (1 - self.least)), 0.0))
        fit = np.logaddexp.reduce(found) - math.log(len(found))
        if self.ends:
            counts = [np.rint(np.maximum(each, 0)).astype(np.int64) for each in (new, gone, inner, n)]
            fit += self.ways[counts[0]] + self.ways[counts[1]] + self.ways[counts[2]] - self.ways[counts[3] + 2]
            fit += math.log(2)
        fit -= np.where(moved * self.direction < 0, _AGAINST, 0.0)
        return np.where(there & (np.abs(moved) > self.least), fit, -math.inf)
