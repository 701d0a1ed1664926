"""Leaderboards: every total and change of a row equals that of a query for that row's value, whatever the order."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_explore.app.cache import Key
from usage_explore.app.leaders import MAX_ROWS, OTHER, Period, Row, board, ranked
from usage_explore.comparison import Change
from usage_explore.decimals import exact_sum
from usage_explore.results.leaders import Leader, Leaderboard
from usage_explore.store.display import Order

Totals = dict[Key, int]
totals = st.dictionaries(
    st.one_of(st.just(("missing", None)), st.tuples(st.just("value"), st.sampled_from("abcdefghijklmnop"))),
    st.integers(1, 60),
)


def period(of: Totals, kept: int, *, holds_all: bool = True) -> Period:
    """A window whose leaderboard keeps the largest values only."""
    order = sorted(of, key=lambda key: (-of[key], key[1] is None, key[1]))
    leaders = [Leader(kind, value, of[kind, value], None, 1) for kind, value in order[:kept]]
    if order[kept:]:
        leaders.append(Leader("other", None, exact_sum((of[key] for key in order[kept:]), 0), None, len(order) - kept))
    one = Leaderboard("g", sum(kind == "value" for kind, _ in of), tuple(leaders))
    boards: Any = SimpleNamespace(boards=(one,), total=exact_sum(of.values(), 0), omitted=0)
    return Period(boards, lambda _: of if holds_all else None, lambda _, key: of.get(key))


@given(totals, totals, st.sampled_from(["total", "change", "relative"]), st.integers(MAX_ROWS + 1, 9), st.booleans())
def test_rows_are_exact_and_add_up(now: Totals, before: Totals, order: Order, kept: int, holds_all: bool) -> None:
    shown, earlier = (period(each, kept, holds_all=holds_all) for each in (now, before))
    made = board("g", sum(kind == "value" for kind, _ in now), shown, (shown, earlier), order)
    for row in made.rows:
        assert row.change
        if row.key != OTHER:
            assert (row.total, row.change) == (now.get(row.key, 0), Change(row.total, before.get(row.key, 0)))
    assert sum(row.total for row in made.rows) == sum(now.values())
    if OTHER in {row.key for row in made.rows} or order != "total":
        assert sum(row.change.before for row in made.rows if row.change) == sum(before.values())
    assert len(made.rows) <= MAX_ROWS + 2  # one more value if it is the last, and Other of those that are gone
    if order == "change" and made.is_exact:
        moved = Counter({key: abs(now.get(key, 0) - before.get(key, 0)) for key in {*now, *before}})
        shown_moves = [
            abs(int(row.total) - int(row.change.before)) for row in made.rows if row.change and row.key != OTHER
        ]
        assert shown_moves == sorted(moved.values(), reverse=True)[: len(shown_moves)]
    assert made.is_exact or not holds_all


def test_a_dimension_that_is_new_was_missing_before() -> None:
    """One event has the new key: the others did not become missing."""
    now = period({("value", "a"): 1, ("missing", None): 989}, 9)
    nothing: Any = SimpleNamespace(boards=(), total=980, omitted=0)
    earlier = Period(nothing, lambda _: None, lambda *_: None)
    made = board("g", 1, now, (now, earlier), "change")
    assert {row.key: row.change for row in made.rows} == {
        ("missing", None): Change(989, 980),
        ("value", "a"): Change(1, 0),
    }
    omitted: Any = SimpleNamespace(boards=(), total=980, omitted=1)
    looked_up = Period(omitted, lambda _: None, lambda _, key: 7 if key[1] == "a" else 973)
    made = board("g", 1, now, (now, looked_up), "total")
    assert {row.key: row.change for row in made.rows} == {
        ("missing", None): Change(989, 973),
        ("value", "a"): Change(1, 7),
    }


@pytest.mark.parametrize(
    ("order", "expected"),
    [("total", ["big", "mid", "gone"]), ("change", ["gone", "mid", "big"]), ("relative", ["mid", "gone", "big"])],
)
def test_the_three_orders(order: Order, expected: list[str]) -> None:
    rows = [
        Row(("value", "big"), 100, Change(100, 99)),
        Row(OTHER, 500, Change(500, 0), 3),
        Row(("value", "mid"), 7, Change(7, 0)),
        Row(("value", "gone"), 0, Change(0, 50)),
    ]
    assert [row.key[1] for row in ranked(rows, order)] == [*expected, None]


def test_sums_keep_every_digit() -> None:
    large = Decimal("12345678901234567890123456789012.000000001")
    of: Any = {("value", name): large for name in "abcdefgh"}
    shown = period(of, 6)
    made = board("g", 8, shown, (shown, shown), "total")
    assert made.rows[-1].key == OTHER
    assert made.rows[-1].members == 3
    assert made.rows[-1].total == Decimal("37037036703703703670370370367036.000000003")
