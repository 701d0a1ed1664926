"""The sums of regions from leaves in memory are those that plain Python adds up, to the last digit."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal

import numpy as np
import pytest

from usage_explore.decimals import exact_sum
from usage_explore.explain.leaf_sums import LeafColumns, LeafSums, Texts
from usage_explore.explain.model import Region, disjoint

Row = tuple[int, int, int | Decimal, tuple[str | None, ...]]
"""The window of a leaf, its events, amount and values."""

VALUES: list[list[str | None]] = [["a", "b", None], ["x", "y", "z"]]
REGIONS = disjoint([((0, 0), (1, 1)), ((1, 2),), ((0, 2),)])


def leaves(rows: Sequence[Row]) -> LeafColumns:
    sides, events, amounts, values = zip(*rows, strict=True)
    columns = zip(*values, strict=True)
    return LeafColumns(np.array(sides), np.array(events), [*amounts], [Texts.of(column) for column in columns])


def rows(draw: random.Random, digits: int, scale: int | None) -> list[Row]:
    def amount() -> int | Decimal:
        number = draw.randrange(-(10**digits), 10**digits)
        return number if scale is None else Decimal(number).scaleb(-draw.randrange(scale + 1))

    every = [(side, first, second) for side in (0, 1) for first in VALUES[0] for second in VALUES[1]]
    return [(side, draw.randrange(1, 9), amount(), (first, second)) for side, first, second in draw.sample(every, 12)]


def region_of(regions: Sequence[Region], codes: Sequence[int]) -> int:
    inside = [region.mask(np.array([codes]))[0] for region in regions]
    return inside.index(True) if True in inside else len(regions)


@pytest.mark.parametrize(("digits", "scale"), [(3, None), (3, 2), (17, 9), (30, 12)])
def test_sums_are_exact(digits: int, scale: int | None) -> None:
    draw = random.Random(digits)
    for _ in range(20):
        some = rows(draw, digits, scale)
        values = [[*of] for of in VALUES]
        known = [{value: code for code, value in enumerate(of)} for of in values]
        found = LeafSums.of(leaves(some), values, known)
        assert found
        sums = found.sums(REGIONS, None)
        coded = [(*row, [known[dim][text] for dim, text in enumerate(row[3])]) for row in some]
        for region in range(len(REGIONS) + 1):
            inside = [row for row in coded if region_of(REGIONS, row[4]) == region]
            for side in (0, 1):
                own = [row for row in inside if row[0] == side]
                assert sums.events[side][region] == sum(row[1] for row in own)
                assert sums.values[side][region] == exact_sum([row[2] for row in own], 0)
            for dim, of in enumerate(values):
                for code in range(len(of)):
                    cell = [row for row in inside if row[4][dim] == code]
                    before, after = (exact_sum([row[2] for row in cell if row[0] == side], 0) for side in (0, 1))
                    unit = 10 ** (found.digits or 0)
                    assert sums.volumes[dim][region, code] == float(before * unit)
                    assert sums.changes[dim][region, code] == float(after * unit) - float(before * unit)
                    assert sums.counts[dim][region, code] == sum(row[1] for row in cell)


def test_late_leaves_are_added_to_those_with_the_same_values() -> None:
    held: list[Row] = [
        (0, 1, Decimal("1.5"), ("a", None)),
        (1, 2, Decimal(2), ("a", None)),
        (1, 1, Decimal(7), ("b", "x")),
    ]
    late: list[Row] = [
        (1, 3, Decimal("0.25"), ("a", None)),
        (1, 1, Decimal(1), (None, "x")),
        (0, 1, Decimal(4), ("b", "x")),
    ]
    both = leaves(held).with_late(leaves(late))
    texts = [[of.values[code] for code in of.codes.tolist()] for of in both.groups]
    found = {*zip(both.sides.tolist(), both.events.tolist(), both.amounts, *texts, strict=True)}
    assert found == {
        (0, 1, Decimal("1.5"), "a", None),
        (1, 5, Decimal("2.25"), "a", None),
        (1, 1, Decimal(7), "b", "x"),
        (1, 1, Decimal(1), None, "x"),
        (0, 1, Decimal(4), "b", "x"),
    }


def test_a_value_that_the_sample_lacked_gets_the_next_code() -> None:
    values: list[list[str | None]] = [["b"]]
    known: list[dict[str | None, int]] = [{"b": 0}]
    found = LeafSums.of(leaves([(0, 1, 1, (None,)), (1, 1, 1, ("c",)), (1, 2, 5, ("b",))]), values, known)
    assert values == [["b", "c", None]]
    assert found
    assert found.codes.tolist() == [[2], [1], [0]]
