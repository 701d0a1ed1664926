"""How thorough a run is: a sixth of the random cases by default, and not the tests that repeat the claim of others.

USAGE_EXPLORE_TEST_THOROUGH=1 (`make test-thorough`) tries all cases and all tests.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, TypeVar

import pytest

THOROUGH = os.environ.get("USAGE_EXPLORE_TEST_THOROUGH") == "1"

T = TypeVar("T")


def further(*values: T) -> tuple[T, ...]:
    """The values if this run is thorough, else none: repetitions inside of a test, such as more widths."""
    return values if THOROUGH else ()


def cases(thorough: int) -> int:
    """The number of cases out of so many, at least 5."""
    return thorough if THOROUGH else min(thorough, max(5, thorough // 6))


def seeds(among: Sequence[int]) -> list[Any]:
    """Seeds of random histories as the values of a test's parameter: all but the first third are `thorough`."""
    first = among[: -(-len(among) // 3)]
    return [*first, *(pytest.param(seed, marks=pytest.mark.thorough) for seed in among[len(first) :])]


def repetitions(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """The tests marked `thorough`, and of those marked `each_value` all but as many as have each value once.

    Of parameters with 5, 2 and 2 values 5 of the 20 combinations stay: the second value of the first with the second
    of the others, its third with the first of theirs, and so on.
    """
    left_out = {item for item in items if item.get_closest_marker("thorough")}
    combined: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        if item not in left_out and item.get_closest_marker("each_value"):
            combined[item.nodeid.partition("[")[0]].append(item)
    for tests in combined.values():
        ids = [test.callspec._idlist for test in tests]  # type: ignore[attr-defined]
        values = [list(dict.fromkeys(axis)) for axis in zip(*ids, strict=True)]
        longest = max(range(len(values)), key=lambda axis: len(values[axis]))
        for test, chosen in zip(tests, ids, strict=True):
            place = values[longest].index(chosen[longest])
            if any(one != axis[place % len(axis)] for one, axis in zip(chosen, values, strict=True)):
                left_out.add(test)
    return left_out
