"""The leaves of two windows, their combinations, and how likely their changes are.

- A *leaf* is one combination of values of all dimensions, with its amounts before and after.
- A *cuboid* is a combination of dimensions. The leaves that agree in it are one of its *elements*: a conjunction, such
  as customer = a and model = b.
- A *region* is an element without a few values. Regions have no leaf in common, and each is the filter of one query.
- The likelihood of leaves: ordinary noise, or a change that is alike under one cause. The relative changes of ordinary
  leaves have a common centre, and a variance of a constant part and, as counts have it, a part of one over the leaf's
  size. Both are estimated from the leaves. Under a cause, leaves change alike around an unknown level, which is
  integrated out. Everything is additive over leaves, so sums per element are sufficient.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Element = tuple[tuple[int, int], ...]
"""A conjunction of (index of the dimension, code of the value) pairs, in the order of the dimensions."""

MIN_SEARCHED_LEVELS, MAX_CUBOIDS = 2, 127
"""All single dimensions and pairs are searched; triples and more, level by level, up to this number of cuboids."""

MAX_NAMED_VALUES = 40
"""Values of each dimension that an element may have: those that changed most. The others belong to the rest."""


class Leaves:
    """The leaves with an amount before or after, their relative changes and sizes, and all elements.

    `change` is (after - before) / size, from -1 (gone) to 1 (new); `size` is the largest of the absolute amounts and
    the absolute difference.

    `codes` has a row per leaf and a column per dimension; a negative code is a value that no element may have. Elements
    have consecutive numbers: `cuboid` is the index of their dimensions in `dims`, `sample` one of their leaves. `ids`
    has, by cuboid and leaf, the number of the leaf's element, or `count` if there is none.
    """

    def __init__(self, codes: Codes, before: Floats, after: Floats) -> None:
        difference = after - before
        size = np.maximum(np.maximum(np.abs(before), np.abs(after)), np.abs(difference))
        kept = size > 0
        self.codes: Codes = codes[kept]
        self.before: Floats = before[kept]
        self.difference: Floats = difference[kept]
        self.size: Floats = size[kept]
        self.change: Floats = self.difference / self.size
        self.dims = _combinations(self.codes)
        result = [_elements(self.codes, dims) for dims in self.dims]
        self.sizes = np.array([len(sample) for _, sample in result], dtype=np.int64)
        self.count = int(self.sizes.sum())
        firsts = np.cumsum(self.sizes) - self.sizes
        self.cuboid: Codes = np.repeat(np.arange(len(result)), self.sizes)
        self.sample: Codes = np.concatenate([np.zeros(0, dtype=np.int64), *(sample for _, sample in result)])
        self.ids: Codes = np.full((len(result), len(self.codes)), self.count, dtype=np.int64)
        for index, (ids, _) in enumerate(result):
            self.ids[index, ids >= 0] = ids[ids >= 0] + firsts[index]

    def element(self, number: int) -> Element:
        """The element with this number."""
        values = self.codes[self.sample[number]]
        return tuple((dim, int(values[dim])) for dim in self.dims[self.cuboid[number]])

    def inside(self, number: int) -> Mask:
        """True for each leaf in the element."""
        return np.asarray(self.ids[self.cuboid[number]] == number)

    def sums(self, rows: Floats, leaves: Codes | None = None) -> Floats:
        """Sums over the leaves of each element: a row for each of `rows`, which have a column per leaf."""
        ids = self.ids if leaves is None else self.ids[:, leaves]
        flat = ids.ravel()
        if not len(flat):
            return np.zeros((len(rows), self.count))
        return np.array([np.bincount(flat, np.tile(row, len(ids)), self.count + 1)[: self.count] for row in rows])


def fold_values(codes: Codes, before: Floats, after: Floats) -> tuple[Codes, Floats, Floats]:
    """The leaves with the code -1 for all but `MAX_NAMED_VALUES` values of each dimension, equal leaves added up."""
    kept = np.array(codes)
    for column in kept.T:
        column[~np.isin(column, _largest_changes(column, after - before))] = -1
    result, inverse = np.unique(kept, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    earlier, later = (
        np.asarray(np.bincount(inverse, amounts, len(result)), dtype=float) for amounts in (before, after)
    )
    return result, earlier, later


def _largest_changes(column: Codes, difference: Floats) -> Codes:
    named = column >= 0
    if not named.any():
        return column[:0]
    changes = np.abs(np.bincount(column[named], difference[named]))
    return np.argsort(-changes, kind="stable")[:MAX_NAMED_VALUES]


def _combinations(codes: Codes) -> list[tuple[int, ...]]:
    varying = [dim for dim in range(codes.shape[1]) if len(np.unique(codes[:, dim])) > 1]
    result: list[tuple[int, ...]] = []
    for level in range(1, len(varying) + 1):
        more = list(combinations(varying, level))
        if level > MIN_SEARCHED_LEVELS and len(result) + len(more) > MAX_CUBOIDS:
            break
        result += more
    return result


def _elements(codes: Codes, dims: tuple[int, ...]) -> tuple[Codes, Codes]:
    """The number of each leaf's element, from 0, or -1; and the index of one leaf of each element."""
    some = codes[:, list(dims)]
    named = np.flatnonzero((some >= 0).all(axis=1))
    keys = np.zeros(len(named), dtype=np.int64)
    for column in some[named].T:
        _, column = np.unique(column, return_inverse=True)
        keys = keys * (int(column.max(initial=0)) + 1) + column
    _, sample, inverse = np.unique(keys, return_index=True, return_inverse=True)
    ids = np.full(len(codes), -1, dtype=np.int64)
    ids[named] = inverse
    return ids, named[sample]


Pair = tuple[int, int]


@dataclass(slots=True)
class Region:
    """The leaves with all values of `where` and none of `without`."""

    where: Element
    without: list[Pair] = field(default_factory=list)

    def mask(self, codes: Codes) -> Mask:
        """True for each leaf in the region."""
        result: Mask = (codes[:, [dim for dim, _ in self.where]] == [code for _, code in self.where]).all(axis=1)
        for dim, code in self.without:
            result &= codes[:, dim] != code
        return result


def disjoint(elements: Iterable[Element]) -> list[Region]:
    """The elements, most important first, as regions without a common leaf.

    The events of a cell must be those of one query, whose filters know "is" and "is not" of one dimension, but no "not
    both". So an overlap is taken from the element that lacks a single value of the other; if neither does, the less
    important element is dropped.
    """
    result: list[Region] = []
    for element in elements:
        new = Region(element)
        cuts = [_cut(new, old) for old in result]
        if None in cuts:
            continue
        for cut in cuts:
            if cut and cut[1] is not None and cut[1] not in cut[0].without:
                cut[0].without.append(cut[1])
        result.append(new)
    return result


def _cut(new: Region, old: Region) -> tuple[Region, Pair | None] | None:
    """The region to take the overlap from, and the value to exclude there, None without an overlap.

    None if no single value separates the two.
    """
    ours, theirs = dict(new.where), dict(old.where)
    if any(ours[dim] != theirs[dim] for dim in ours.keys() & theirs.keys()):
        return new, None
    only_theirs = [pair for pair in old.where if pair[0] not in ours]
    only_ours = [pair for pair in new.where if pair[0] not in theirs]
    if len(only_theirs) == 1:
        return new, only_theirs[0]
    if len(only_ours) == 1:
        return old, only_ours[0]
    return None


_CAUSE_SPREADS = (0.01, 0.03, 0.1, 0.3)
"""Standard deviations of relative changes under one cause, around its level; all equally likely."""

_MIN_NOISE = _CAUSE_SPREADS[0]
"""Least standard deviation of ordinary relative changes."""

_MIN_CAUSE_CHANGE, _CERTAIN_CHANGE = 0.02, 0.5
"""A cause changes its leaves by more than the noise's standard deviation, which is bounded by these two."""

_LOG_COST_AGAINST_TOTAL = math.log(20)
"""Log cost of a cause in the opposite direction to the total change."""

_MAX_NEW_TO_GONE = 3
"""Largest ratio of new to gone ordinary leaves, and of gone to new ones."""

_MIN_NOISE_LEAVES = 10
"""Least number of leaves that the noise is estimated from."""

_NORMAL_QUANTILES = {0.5: 0.6744897501960817, 0.9: 1.6448536269514722}
_LOG_2PI = math.log(2 * math.pi)


@dataclass(frozen=True, slots=True)
class Noise:
    """The variance of an ordinary leaf's relative change around `centre`: `share + count / size`."""

    centre: float
    share: float
    count: float

    def variance(self, size: Floats) -> Floats:
        """The variance of leaves of these sizes."""
        return self.share + self.count / size

    def near(self, other: Noise) -> bool:
        """Whether the two agree within 2 %."""
        return math.isclose(self.share, other.share, rel_tol=0.02) and math.isclose(
            self.count, other.count, rel_tol=0.02, abs_tol=1e-12
        )


def estimate_noise(change: Floats, size: Floats, centre: float, quantile: float = 0.5) -> Noise:
    """The noise of these leaves, robustly: from a quantile of the distances on the quieter side, by size of the leaves.

    A cause moves leaves to one side, so the other side shows the noise even if half of all leaves are affected.
    """
    distance = change - centre
    result = [(_quiet(distance[group], quantile), float(np.median(size[group]))) for group in _by_size(size)]
    if not result:
        return Noise(centre, 1.0, 0.0)
    if result[0][0] < 1.5 * result[-1][0]:
        return Noise(centre, _quiet(distance, quantile), 0.0)
    share, count = _fitted(np.array([variance for variance, _ in result]), 1 / np.array([size for _, size in result]))
    return Noise(centre, max(share, _MIN_NOISE**2), count)


def _quiet(distance: Floats, quantile: float) -> float:
    sides = [np.abs(distance[distance < 0]), np.abs(distance[distance > 0])]
    sides = [side for side in sides if len(side) >= _MIN_NOISE_LEAVES] or [np.abs(distance)]
    least = min(float(np.quantile(side, quantile)) for side in sides) / _NORMAL_QUANTILES[quantile]
    return min(1.0, max(least, _MIN_NOISE) ** 2)


def _fitted(variance: Floats, inverse: Floats) -> tuple[float, float]:
    """The share and count, not negative, with the least relative squared error of `share + count * inverse`."""
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
    """The log frequency of new, or gone, ordinary leaves of its size, for each new or gone leaf; NaN for all others.

    If leaves are only new, or only gone, that is not ordinary: all are NaN.
    """
    result = np.full(len(change), math.nan)
    if not len(change) or change.max() < 1 or change.min() > -1:
        return result
    for group in _by_size(size):
        new, gone = change[group] >= 1, change[group] <= -1
        shares = (new.sum() + 0.5) / (len(group) + 1), (gone.sum() + 0.5) / (len(group) + 1)
        # a cause makes leaves new or makes them go, not both
        result[group[new]] = math.log(min(shares[0], _MAX_NEW_TO_GONE * shares[1]))
        result[group[gone]] = math.log(min(shares[1], _MAX_NEW_TO_GONE * shares[0]))
    return result


def _by_size(size: Floats) -> list[Codes]:
    groups = np.array_split(np.argsort(size, kind="stable"), max(1, min(8, len(size) // (8 * _MIN_NOISE_LEAVES))))
    return [group for group in groups if len(group)]


class Model:
    """The likelihood of leaves for a given noise; `rows` are the terms to sum over the leaves of an element.

    `direction` is the sign of the total change.
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
        for spread in _CAUSE_SPREADS:
            weight = np.where(inner, 1 / (spread**2 + noise.count / size), 0.0)
            rows += [np.where(inner, np.log(weight + ~inner), 0.0), weight, weight * change, weight * change**2]
        self.rows: Floats = np.array(rows)
        # the logarithms of the factorials
        self.ways: Floats = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, len(change) + 3)))])
        self.noise, self.direction = noise, direction
        self.least = min(_CERTAIN_CHANGE, max(math.sqrt(noise.share), _MIN_CAUSE_CHANGE))

    def gain(self, sums: Floats) -> Floats:
        """The log likelihood ratio of one cause against noise, by element; -inf without a change."""
        return np.asarray(self.evidence(sums) - sums[1])

    def evidence(self, sums: Floats) -> Floats:
        """The log likelihood of leaves under one cause, its level and spread integrated out; by element."""
        n, _, total, new, gone = sums[:5]
        there = n > 0.5
        inner = n - new - gone
        moved = total / np.where(there, n, 1.0) - self.noise.centre
        result = []
        for index in range(5, len(sums), 4):
            log_weight, weight, once, twice = sums[index : index + 4]
            weight = np.where(inner > 0.5, weight, 1.0)
            fit = 0.5 * (log_weight - inner * _LOG_2PI - (twice - once**2 / weight) + np.log(2 * np.pi / weight))
            result.append(np.where(inner > 0.5, fit - math.log(2 * (1 - self.least)), 0.0))
        fit = np.logaddexp.reduce(result) - math.log(len(result))
        if self.ends:
            counts = [np.rint(np.maximum(count, 0)).astype(np.int64) for count in (new, gone, inner, n)]
            fit += self.ways[counts[0]] + self.ways[counts[1]] + self.ways[counts[2]] - self.ways[counts[3] + 2]
            fit += math.log(2)
        fit -= np.where(moved * self.direction < 0, _LOG_COST_AGAINST_TOTAL, 0.0)
        return np.where(there & (np.abs(moved) > self.least), fit, -math.inf)
