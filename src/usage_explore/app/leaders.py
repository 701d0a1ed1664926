"""The rows of the leaderboards and the ranking: totals of values now and before, exact, ranked in one of three orders.

Change and relative change rank by size, increases and decreases alike; what was nothing before comes first in the order
by relative change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal

from usage_explore.answers import Leaderboards
from usage_explore.app.cache import Key
from usage_explore.decimals import Number, difference, exact_sum
from usage_explore.results.leaders import known_totals
from usage_explore.results.types import Change
from usage_explore.store.display import Order

OTHER: Key = ("other", None)

MAX_ROWS = 5
"""Values of a leaderboard; one more if that is the last one."""

MAX_COMPARED = 50
"""Largest values of each window that a leaderboard is chosen from."""


@dataclass(frozen=True, slots=True)
class Row:
    """A value's totals; `change` is None without an earlier window. `members` is the number of values in the row, and
    `with_missing` whether Other also holds the events without one.

    `total` is None of a unit cost without a value.
    """

    key: Key
    total: Number | None
    change: Change | None
    members: int = 1
    with_missing: bool = False


def moved(change: Change | None) -> Number | None:
    """By how much the total changed; None without a comparison, or if either total has no value."""
    return None if change is None else change.absolute


def ranked(rows: Iterable[Row], order: Order) -> list[Row]:
    """The rows in the order, Other last; ties by total, then by key."""

    def rank(row: Row) -> tuple[bool, Decimal, Decimal, bool, str]:
        total = Decimal("-Infinity") if row.total is None else Decimal(row.total)
        by, step = total, moved(row.change)
        if order != "total":
            by = Decimal(0) if step is None else Decimal(step).copy_abs()
            if order == "relative" and by and row.change is not None:
                by = Decimal("Infinity") if row.change.ratio is None else row.change.ratio.copy_abs()
        return row.key == OTHER, by.copy_negate(), total.copy_negate(), row.key[1] is None, row.key[1] or ""

    return sorted(rows, key=rank)


class Period:
    """The totals of a window by group and value, exact: from its leaderboards where those hold them, else looked up.

    `every` gives all totals of a group, None if those are too many; `one` gives the total of one value.
    """

    def __init__(
        self,
        boards: Leaderboards,
        every: Callable[[str], Mapping[Key, Number] | None],
        one: Callable[[str, Key], Number | None],
    ) -> None:
        self._boards = {board.group: board for board in boards.boards}
        self._omitted = boards.omitted
        self._every, self._one = every, one
        self.whole = boards.total
        self.zero: Number = 0 if isinstance(boards.total, int) else Decimal(0)

    def largest(self, group: str) -> dict[Key, Number]:
        """The totals of the largest values, largest first."""
        return self._known(group)[0]

    def all(self, group: str) -> Mapping[Key, Number] | None:
        """The totals of all values, None if those are too many."""
        return self.largest(group) if not self.has_more(group) else self._every(group)

    def of(self, group: str, keys: Iterable[Key]) -> dict[Key, Number]:
        """The totals of those values that have events."""
        wanted, known = {*keys}, self.largest(group)
        if self.has_more(group) and not known.keys() >= wanted:
            every = self._every(group)
            looked_up = {key: self._one(group, key) for key in wanted - known.keys()} if every is None else every
            known |= {key: total for key, total in looked_up.items() if total is not None}
        return {key: total for key, total in known.items() if key in wanted}

    def has_more(self, group: str) -> bool:
        """Whether there are more values than the largest."""
        return self._known(group)[1]

    def _known(self, group: str) -> tuple[dict[Key, Number], bool]:
        return known_totals(self._boards.get(group), self.whole, self._omitted)


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard as it is drawn: at most `MAX_ROWS` values and Other; `values` is the number of its values.

    `is_exact` is False if another value may rank above those, because only the largest `MAX_COMPARED` of each window
    could be compared; the numbers of the rows are exact nevertheless.
    """

    group: str
    rows: tuple[Row, ...]
    values: int
    is_exact: bool = True


def board(
    group: str,
    values: int,
    shown: Period,
    compared: tuple[Period, Period] | None,
    order: Order,
    chosen: set[Key] | None = None,
) -> Board:
    """The board of a group. `compared` are the windows that changes are about, None without a comparison.

    `shown` has the totals; the first of `compared` is shorter if that window is unfinished. `chosen` are the values
    that a search found, None without a search.
    """
    largest, is_exact = shown.largest(group), True
    if chosen is not None:
        keys = [*chosen]
    elif compared is None or order == "total":
        keys = [*largest][: MAX_ROWS + 1]
        if len(largest) > len(keys) or shown.has_more(group):
            keys = keys[:MAX_ROWS]
    else:
        periods = (*compared, shown)
        every = [period.all(group) for period in periods]
        is_exact = None not in every
        keys = [*{key: None for totals in every for key in totals or ()}]
        keys = keys if is_exact else [*{key: None for period in periods for key in period.largest(group)}]
    totals = shown.of(group, keys)
    sums = None if compared is None else tuple(period.of(group, keys) for period in compared)
    rows = ranked(
        [
            Row(
                key,
                totals.get(key, shown.zero),
                None if sums is None else Change(*(total.get(key, shown.zero) for total in sums)),
            )
            for key in keys
        ],
        order,
    )
    rows = rows[: MAX_ROWS if len(rows) > MAX_ROWS + 1 else MAX_ROWS + 1]  # a last one is no longer than "1 more"
    if chosen is None:
        kept = [row.key for row in rows]
        rest = _rest(shown, totals, kept)
        change = None
        if compared is not None and sums is not None:
            change = Change(_rest(compared[0], sums[0], kept), _rest(compared[1], sums[1], kept))
        others = values - sum(kind == "value" and (kind, key) in totals for kind, key in kept)
        if others > 0 or rest or (change is not None and (change.now or change.before)):
            missing = ("missing", None) in largest and ("missing", None) not in kept
            rows.append(Row(OTHER, rest, change, max(others, 0), with_missing=missing))
    return Board(group, tuple(rows), values, is_exact)


def _rest(period: Period, totals: Mapping[Key, Number], kept: Iterable[Key]) -> Number:
    return difference(period.whole, exact_sum((totals.get(key, period.zero) for key in kept), period.zero))
