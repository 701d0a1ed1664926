"""The leaves of two windows in memory, and the sums of regions from them.

So settling on the regions, which asks for the sums of a dozen choices of them, reads the events once.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from usage_explore.decimals import Number, exact_product, exact_sum
from usage_explore.explain.model import Codes, Mask, Region
from usage_explore.explain.single_values import Sums

MAX_LEAVES = 300_000
"""Leaves that are held in memory, of about 150 bytes."""

_BITS = 31
"""Bits of each part of an amount, of which floats add up 2**22 exactly; the sums of two parts fit an int64."""

_MAX_FLOAT_BITS = 400
"""Bits of the largest amount as a float, so that squares and quotients have bounds: the last bits are left out."""


class Texts(NamedTuple):
    """The values of a group, each text or None once, and the index of each leaf's."""

    codes: Codes
    values: list[str | None]

    @classmethod
    def of(cls, texts: Sequence[str | None]) -> Texts:
        """The texts of all leaves."""
        codes, values = pd.factorize(np.array(texts, dtype=object))
        missing = codes < 0
        found: list[str | None] = [*values, None] if missing.any() else [*values]
        return cls(np.where(missing, len(values), codes), found)

    def in_order(self) -> Texts:
        """The same with sorted values, None last."""
        order = sorted(range(len(self.values)), key=lambda code: (self.values[code] is None, self.values[code] or ""))
        return Texts(np.argsort(order)[self.codes], [self.values[code] for code in order])


@dataclass(frozen=True, slots=True)
class LeafColumns:
    """The events of a window, `sides`, that have the same values of all groups: their number and exact amount.

    Columns with a place per leaf; `groups` has one for each group.
    """

    sides: Codes
    events: Codes
    amounts: list[Number]
    groups: list[Texts]

    @classmethod
    def none(cls, groups: int) -> LeafColumns:
        """Empty columns, of this number of groups."""
        nothing = np.zeros(0, dtype=np.int64)
        return cls(nothing, nothing, [], [Texts(nothing, [])] * groups)

    def with_late(self, late: LeafColumns) -> LeafColumns:
        """These leaves and others; the amounts of those of the same window and values are added up."""
        groups = []
        for ours, theirs in zip(self.groups, late.groups, strict=True):
            values = list(dict.fromkeys([*ours.values, *theirs.values]))
            indexes = {value: index for index, value in enumerate(values)}
            codes = np.array([indexes[value] for value in theirs.values], dtype=np.int64)[theirs.codes]
            groups.append(Texts(np.concatenate([ours.codes, codes]), values))
        columns = [np.concatenate([self.sides, late.sides]), *(of.codes for of in groups)]
        first = len(self.sides)
        alike = np.ones(first, dtype=bool)
        for column in columns:
            alike &= np.isin(column[:first], column[first:])
        rows = [*np.flatnonzero(alike).tolist(), *range(first, first + len(late.sides))]
        events, amounts = np.concatenate([self.events, late.events]), [*self.amounts, *late.amounts]
        places: dict[tuple[int, ...], int] = {}
        for row, *key in zip(rows, *(column[rows].tolist() for column in columns), strict=True):
            place = places.setdefault(tuple(key), row)
            if place != row:
                events[place] += events[row]
                amounts[place] = exact_sum((amounts[place], amounts[row]), 0)
        kept = np.ones(len(events), dtype=bool)
        kept[[row for row in rows if row not in {*places.values()}]] = False
        return LeafColumns(
            columns[0][kept],
            events[kept],
            [amounts[row] for row in np.flatnonzero(kept).tolist()],
            [Texts(of.codes[kept], of.values) for of in groups],
        )


@dataclass(frozen=True, slots=True)
class LeafSums:
    """All leaves of both windows, `is_later` for those of the later one.

    `codes` has a column per group, of indexes below its `sizes`. Amounts are in units of the last of `digits` after the
    point, which are None for counts. They and events are in parts, see `_parts`.
    """

    is_later: Mask
    events: list[Codes]
    amounts: list[Codes]
    codes: Codes
    sizes: tuple[int, ...]
    digits: int | None

    @classmethod
    def of(
        cls, leaves: LeafColumns, values: Sequence[list[str | None]], known: Sequence[dict[str | None, int]]
    ) -> LeafSums | None:
        """The leaves with the indexes `known` of `values`; those that are new are added to both.

        None if there are too many leaves, or an amount is no number.
        """
        if len(leaves.sides) > MAX_LEAVES:
            return None
        decimals = [amount for amount in leaves.amounts if isinstance(amount, Decimal)]
        if not all(amount.is_finite() for amount in decimals):
            return None
        digits = max((-int(amount.as_tuple().exponent) for amount in decimals), default=0)
        columns = []
        for group, of_group, indexes in zip(leaves.groups, values, known, strict=True):
            for value in sorted({*group.values} - indexes.keys(), key=lambda value: (value is None, value or "")):
                indexes[value] = len(of_group)
                of_group.append(value)
            columns.append(np.array([indexes[value] for value in group.values], dtype=np.int64)[group.codes])
        return cls(
            leaves.sides == 1,
            _parts(leaves.events.tolist()),
            _parts(_units(leaves.amounts, max(digits, 0))),
            np.stack(columns, axis=1),
            tuple(map(len, values)),
            max(digits, 0) if decimals else None,
        )

    def sums(self, regions: Sequence[Region], expected: Decimal | None) -> Sums:
        """The sums of all events of the regions. See `scale_before`."""
        cells = len(regions) + 1
        cell = np.full(len(self.codes), len(regions), dtype=np.int64)
        for index, region in enumerate(regions):
            cell[region.mask(self.codes)] = index
        place = self.is_later * cells + cell
        before, after = _sums(place, self.events, 2 * cells).reshape(2, cells).tolist()
        totals = [self._number(total) for total in _sums(place, self.amounts, 2 * cells).tolist()]
        scale = scale_before(expected, totals[:cells])
        unit = 1 << max(0, _BITS * len(self.amounts) - _MAX_FLOAT_BITS)
        volumes, changes, counts = [], [], []
        for codes, size in zip(self.codes.T, self.sizes, strict=True):
            shape, places = (2, cells, size), place * size + codes
            amounts = _sums(places, self.amounts, 2 * cells * size).reshape(shape)
            amounts = np.trunc((amounts / unit).astype(float))
            volumes.append(amounts[0] * scale)
            changes.append(amounts[1] - volumes[-1])
            counts.append(_sums(places, self.events, 2 * cells * size).reshape(shape).sum(axis=0).astype(float))
        return Sums((before, after), (totals[:cells], totals[cells:]), volumes, changes, counts)

    def _number(self, amount: int) -> Number:
        return amount if self.digits is None else exact_product((Decimal(amount), Decimal(1).scaleb(-self.digits)))


def scale_before(expected: Decimal | None, amounts: Iterable[Number]) -> float:
    """The expected amount as a multiple of the sum of amounts before, at most 1e9; 1.0 unless both are positive."""
    earlier = Decimal(exact_sum(amounts, 0))
    return min(1e9, float(expected / earlier)) if expected is not None and earlier > 0 < expected else 1.0


def _units(amounts: Iterable[Number], digits: int) -> list[int]:
    """The amounts in units of the last of `digits` decimals: 1.25 is 125 for two of them."""
    unit = Decimal(1).scaleb(digits)
    return [amount if isinstance(amount, int) else int(exact_product((amount, unit))) for amount in amounts]


def _parts(numbers: list[int]) -> list[Codes]:
    """The numbers in parts of `_BITS`, the lowest first; the last one has the sign."""
    parts = max(2, -(-(sum(map(abs, numbers)).bit_length() + 1) // _BITS))
    every = np.array(numbers, dtype=object if parts > 2 else np.int64)
    cut = [every >> _BITS * place for place in range(parts)]
    return [*((part & (1 << _BITS) - 1).astype(np.int64) for part in cut[:-1]), cut[-1].astype(np.int64)]


def _sums(places: Codes, parts: Sequence[Codes], number: int) -> npt.NDArray[Any]:
    """The exact sums for each place below `number`: int64, or int if they may need more digits."""
    sums = [np.bincount(places, part, number).astype(np.int64) for part in parts]
    if len(parts) > 2:
        sums = [each.astype(object) for each in sums]
    return np.asarray(sum(each << _BITS * place for place, each in enumerate(sums)))
