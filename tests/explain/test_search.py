"""The search names the causes that were planted, and nothing where there are none."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest

from usage_explore.explain.model import Codes, Element, Floats, Leaves, disjoint, fold_values
from usage_explore.explain.search import search

SIZES = (12, 6, 5)


def codes(sizes: Iterable[int] = SIZES) -> Codes:
    return np.array(list(np.ndindex(*sizes)), dtype=np.int64)


def changed(elements: dict[Element, float], seed: int, noise: float = 0.05) -> tuple[Codes, Floats, Floats]:
    """Every combination with some amount, ordinary noise on it, and each element's leaves times a factor."""
    draw = np.random.default_rng(seed)
    found = codes()
    before = draw.weibull(0.8, len(found)) * 100
    after = before * np.maximum(0, 1 + draw.normal(0, noise, len(found)))
    for element, factor in elements.items():
        inside = np.all([found[:, dim] == code for dim, code in element], axis=0)
        after[inside] = before[inside] * factor
    return found, before, after


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    "causes",
    [
        {((0, 3),): 0.4},
        {((0, 3), (1, 2)): 3.0},
        {((0, 3), (1, 2), (2, 1)): 0.0},
        {((1, 2),): 1.5, ((0, 4), (2, 3)): 4.0},
        {((0, 1), (1, 1)): 0.3, ((0, 2), (1, 5)): 0.3, ((2, 4),): 0.6},
        {((0, 7),): 0.0},
    ],
)
def test_planted_causes_are_named_exactly(causes: dict[Element, float], seed: int) -> None:
    assert set(search(Leaves(*changed(causes, seed)))) == set(causes)


@pytest.mark.parametrize("seed", range(5))
def test_noise_has_no_cause(seed: int) -> None:
    assert search(Leaves(*changed({}, seed, noise=0.1))) == []


def test_nothing_has_no_cause() -> None:
    none = np.zeros(len(codes()))
    assert search(Leaves(codes(), none, none)) == []
    assert search(Leaves(codes()[:0], none[:0], none[:0])) == []
    assert search(Leaves(codes()[:1], none[:1], none[:1] + 1)) == []


def test_counts_that_come_and_go_have_no_cause() -> None:
    draw = np.random.default_rng(5)
    found = codes((40, 20, 5))
    before, after = (draw.poisson(0.3, len(found)).astype(float) for _ in range(2))
    assert search(Leaves(found, before, after)) == []
    after[found[:, 0] == 7] += draw.poisson(9, int((found[:, 0] == 7).sum()))
    assert search(Leaves(found, before, after)) == [((0, 7),)]


def test_values_that_hardly_changed_become_one() -> None:
    found = codes((300, 2))
    before = np.ones(len(found))
    after = before + (found[:, 0] == 123) * 50
    fewer, earlier, later = fold_values(found, before, after)
    assert len(fewer) < len(found)
    assert earlier.sum() == before.sum()
    assert later.sum() == after.sum()
    assert search(Leaves(fewer, earlier, later)) == [((0, 123),)]


def test_regions_are_disjoint() -> None:
    draw = np.random.default_rng(3)
    all_codes = codes((4, 4, 4))
    for _ in range(300):
        elements = []
        for _ in range(int(draw.integers(1, 7))):
            dims = sorted(draw.choice(3, int(draw.integers(1, 4)), replace=False))
            elements.append(tuple((int(dim), int(draw.integers(4))) for dim in dims))
        regions = disjoint(elements)
        assert regions
        assert regions[0].where == elements[0]
        assert sum(region.mask(all_codes).astype(int) for region in regions).max() <= 1
