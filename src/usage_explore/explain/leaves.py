"""Leaves and cuboids: every combination of values with what it had before and after, and every way to group them.

A *leaf* is one combination of values of all dimensions. A *cuboid* is a combination of dimensions; the leaves that
agree in it are one of its *elements*, which is a conjunction such as customer = a and model = b.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

Element = tuple[tuple[int, int], ...]
"""A conjunction: (dimension's index, value's code) pairs, in the order of the dimensions."""

READS, ELEMENTS = 20_000_000, 1_000_000
"""Three and more dimensions together are looked at while leaves times cuboids, and elements, stay below these."""

ALWAYS = 2
"""Every dimension and every pair of dimensions is looked at, however many leaves there are."""

NAMEABLE = 40
"""Of each dimension so many values can be named: those that changed the most. The others count as the rest."""


@dataclass(frozen=True, slots=True)
class Cuboid:
    """One combination of dimensions.

    `ids` is each leaf's element, `size` where it has none that can be named; `sample` is a leaf of each element; `cost`
    is the logarithm of how many cuboids are as likely.
    """

    dims: tuple[int, ...]
    ids: Codes
    sample: Codes
    cost: float

    @property
    def size(self) -> int:
        """How many elements there are."""
        return len(self.sample)

    def sums(self, rows: Floats, leaves: Codes | None = None) -> Floats:
        """For each of the rows, which have a value per leaf, its sum over each element's leaves."""
        ids = self.ids if leaves is None else self.ids[leaves]
        if not len(ids):
            return np.zeros((len(rows), self.size))
        return np.array([np.bincount(ids, row, self.size + 1)[: self.size] for row in rows])


class Leaves:
    """Leaves that had something before or after, as relative change and size.

    `change` is (after - before) / size, between -1 (gone) and 1 (new), where `size` is the larger of the two amounts,
    or the difference where one is negative.

    `codes` has a row per leaf and a column per dimension; a negative code is a value that cannot be named.
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
        self.cuboids = list(_cuboids(self.codes))

    def element(self, cuboid: Cuboid, number: int) -> Element:
        """The conjunction that one of a cuboid's elements is."""
        values = self.codes[cuboid.sample[number]]
        return tuple((dim, int(values[dim])) for dim in cuboid.dims)


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


def _cuboids(codes: Codes) -> Iterator[Cuboid]:
    leaves, dims = codes.shape
    varying = [dim for dim in range(dims) if len(np.unique(codes[:, dim])) > 1]
    values = [len(np.unique(codes[:, dim])) for dim in range(dims)]
    chosen: list[tuple[int, ...]] = []
    elements = depth = 0
    for level in range(1, len(varying) + 1):
        more = list(combinations(varying, level))
        elements += sum(min(leaves, math.prod(values[dim] for dim in each)) for each in more)
        if level > ALWAYS and (elements > ELEMENTS or leaves * (len(chosen) + len(more)) > READS):
            break
        chosen += more
        depth = level
    for each in chosen:
        yield _cuboid(codes, each, math.log(depth) + math.log(math.comb(len(varying), len(each))))


def _cuboid(codes: Codes, dims: tuple[int, ...], cost: float) -> Cuboid:
    some = codes[:, list(dims)]
    named = np.flatnonzero((some >= 0).all(axis=1))
    keys = np.zeros(len(named), dtype=np.int64)
    for column in some[named].T:
        keys = keys * (int(column.max(initial=0)) + 1) + column
    _, sample, inverse = np.unique(keys, return_index=True, return_inverse=True)
    ids = np.full(len(codes), len(sample), dtype=np.int64)
    ids[named] = inverse
    return Cuboid(dims, ids, named[sample], cost)
