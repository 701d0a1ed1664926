"""Leaves and cuboids: every combination of values with what it had before and after, and every way to group them.

A *leaf* is one combination of values of all dimensions. A *cuboid* is a combination of dimensions; the leaves that
agree in it are one of its *elements*, which is a conjunction such as customer = a and model = b.
"""

from __future__ import annotations

from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Element = tuple[tuple[int, int], ...]
"""A conjunction: (dimension's index, value's code) pairs, in the order of the dimensions."""

ALWAYS, CUBOIDS = 2, 127
"""Every dimension and every pair is looked at; three and more together while there are no more cuboids than this."""

NAMEABLE = 40
"""Of each dimension so many values can be named: those that changed the most. The others count as the rest."""


class Leaves:
    """Leaves that had something before or after, as relative change and size, and all elements they are part of.

    `change` is (after - before) / size, between -1 (gone) and 1 (new), where `size` is the larger of the two amounts,
    or the difference where one is negative.

    `codes` has a row per leaf and a column per dimension; a negative code is a value that cannot be named. Elements are
    numbered through: `cuboid` is the place of each one's dimensions in `dims`, `sample` one of its leaves, and `ids`
    has for every cuboid and leaf the leaf's element, or the number of elements where it has none that can be named.
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
        found = [_elements(self.codes, dims) for dims in self.dims]
        self.sizes = np.array([len(sample) for _, sample in found], dtype=np.int64)
        self.count = int(self.sizes.sum())
        firsts = np.cumsum(self.sizes) - self.sizes
        self.cuboid: Codes = np.repeat(np.arange(len(found)), self.sizes)
        self.sample: Codes = np.concatenate([np.zeros(0, dtype=np.int64), *(sample for _, sample in found)])
        self.ids: Codes = np.full((len(found), len(self.codes)), self.count, dtype=np.int64)
        for place, (ids, _) in enumerate(found):
            self.ids[place, ids >= 0] = ids[ids >= 0] + firsts[place]

    def element(self, number: int) -> Element:
        """The conjunction that an element is."""
        values = self.codes[self.sample[number]]
        return tuple((dim, int(values[dim])) for dim in self.dims[self.cuboid[number]])

    def inside(self, number: int) -> Mask:
        """Which leaves are part of an element."""
        return np.asarray(self.ids[self.cuboid[number]] == number)

    def sums(self, rows: Floats, leaves: Codes | None = None) -> Floats:
        """For each of the rows, which have a value per leaf, its sum over each element's leaves."""
        ids = self.ids if leaves is None else self.ids[:, leaves]
        flat = ids.ravel()
        if not len(flat):
            return np.zeros((len(rows), self.count))
        return np.array([np.bincount(flat, np.tile(row, len(ids)), self.count + 1)[: self.count] for row in rows])


def merged(codes: Codes, before: Floats, after: Floats) -> tuple[Codes, Floats, Floats]:
    """The same leaves with only `NAMEABLE` values of each dimension kept; the others become -1, and leaves one."""
    kept = np.array(codes)
    for column in kept.T:
        column[~np.isin(column, _largest(column, after - before))] = -1
    found, inverse = np.unique(kept, axis=0, return_inverse=True)
    inverse = inverse.reshape(-1)
    earlier, later = (np.asarray(np.bincount(inverse, each, len(found)), dtype=float) for each in (before, after))
    return found, earlier, later


def _largest(column: Codes, difference: Floats) -> Codes:
    named = column >= 0
    if not named.any():
        return column[:0]
    changes = np.abs(np.bincount(column[named], difference[named]))
    return np.argsort(-changes, kind="stable")[:NAMEABLE]


def _combinations(codes: Codes) -> list[tuple[int, ...]]:
    varying = [dim for dim in range(codes.shape[1]) if len(np.unique(codes[:, dim])) > 1]
    found: list[tuple[int, ...]] = []
    for level in range(1, len(varying) + 1):
        more = list(combinations(varying, level))
        if level > ALWAYS and len(found) + len(more) > CUBOIDS:
            break
        found += more
    return found


def _elements(codes: Codes, dims: tuple[int, ...]) -> tuple[Codes, Codes]:
    """Each leaf's element, from 0, or -1; and a leaf of each element."""
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
