"""Leaderboards: the largest values of a group, with their shares of the whole."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from usage_explore.decimals import Number
from usage_explore.results.types import SeriesKind, series_label

_SHARE_PLACES = 6
"""Decimal places of a share."""


@dataclass(frozen=True, slots=True)
class Leader:
    """A row of a leaderboard: a value, the events without one ("missing"), or all that follow ("other").

    `share` is the part of the query's total, rounded half-even to 6 decimal places, None of a total of 0; negative
    quantities make shares below 0 and above 1. `members` is the number of values in the row; `with_missing` says
    whether Other also holds the events without one. `name` is that of the customer, product or subscription whose id
    is `key`, None if unknown; rows that differ in nothing else are equal.
    """

    kind: SeriesKind
    key: str | None
    total: Number
    share: Decimal | None
    members: int
    name: str | None = field(default=None, compare=False)
    with_missing: bool = field(default=False, kw_only=True)

    @property
    def label(self) -> str:
        """The value itself, (empty), (missing) or Other."""
        return series_label(self.kind, self.key)


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The largest values of a `group`, a column or `dim:<key>`, by total, ranked and folded like series.

    `values` is the number of its different values.
    """

    group: str
    values: int
    leaders: tuple[Leader, ...]


def known_totals(
    board: Leaderboard | None, whole: Number, omitted: int
) -> tuple[dict[tuple[SeriesKind, str | None], Number], bool]:
    """The totals of a group's values by kind and key, largest first, and whether there are more values than these.

    `board` is None for a group without one among the leaderboards of `whole`, of which `omitted` others are not given.
    Unless it may be one of those, no event has the dimension key: it is missing in all of them.
    """
    if board is None:
        return ({("missing", None): whole} if whole and not omitted else {}), bool(omitted)
    totals: dict[tuple[SeriesKind, str | None], Number] = {
        (row.kind, row.key): row.total for row in board.leaders if row.kind != "other"
    }
    return totals, any(row.kind == "other" for row in board.leaders)


def leader(kind: SeriesKind, key: str | None, value: Number, members: int, with_missing: bool, whole: Number) -> Leader:
    """The row of a value, with its share of the whole.

    >>> leader("value", "eu", 1, 1, False, 3).share
    Decimal('0.333333')
    """
    share = None
    if whole:
        millionths = round(Fraction(value) / Fraction(whole) * 10**_SHARE_PLACES)  # half-even
        share = Decimal(f"{millionths}E-{_SHARE_PLACES}")
    return Leader(kind, key, value, share, members, with_missing=with_missing)
