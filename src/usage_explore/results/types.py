"""The data of results: events, points, series, and aggregates without their methods.

Charts and frames are made from these types; `answers` adds the methods that make them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NamedTuple, Self, cast
from uuid import UUID

from usage_explore.decimals import Number, exact_sum, plain, rfc3339, total, unit_cost
from usage_explore.errors import Fault, NotExact, QueryError
from usage_explore.names import NAME_COLUMNS, NO_NAMES, Names
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.limits import MAX_POINTS
from usage_explore.query.queries import COST_METRICS, RATIOS, AggregateQuery

_SHARE_PLACES = 6
"""Decimal places of a share."""

SeriesKind = Literal["all", "value", "missing", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the events table. `quantity` and `external_cost_amount` are exact; times are aware, in UTC.

    The names of its customer, product, subscription and organization are None if unknown. They may change, so events
    that differ in nothing else are equal.
    """

    id: UUID
    organization_id: UUID
    customer_id: UUID
    product_id: UUID | None
    subscription_id: UUID | None
    metric_key: str
    price_key: str | None
    quantity: Decimal
    timestamp: datetime
    ingested_at: datetime
    idempotency_key: str
    external_cost_amount: Decimal | None
    external_cost_currency: str | None
    wallet_currency: str | None
    dimensions: dict[str, Any]
    customer_name: str | None = field(default=None, compare=False)
    product_name: str | None = field(default=None, compare=False)
    subscription_name: str | None = field(default=None, compare=False)
    organization_name: str | None = field(default=None, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The event for JSON: ids, times and decimals as text, nulls kept."""
        values = {name: json_value(getattr(self, name)) for name in self.__slots__}
        return {**values, "dimensions": json_numbers(self.dimensions)}


class Ratio(NamedTuple):
    """The exact sums of which a unit cost is the ratio: the cost, and the quantity of the events that have a cost."""

    cost: Decimal
    quantity: Decimal


@dataclass(frozen=True, slots=True)
class Point:
    """The value of a series in one bucket `[start, end)`; `complete` is False if the bucket is cut or still filling.

    Of a unit cost, `ratio` has the sums that are divided; `value` is None where their quantity is 0.
    """

    start: datetime
    end: datetime
    value: Number | None
    complete: bool
    ratio: Ratio | None = field(default=None, repr=False, kw_only=True)

    @property
    def number(self) -> Number:
        """The value of a measure that always has one, which is all but unit costs. Raises `ValueError` without."""
        return _number(self.value)


@dataclass(frozen=True, slots=True)
class Series:
    """One series of an aggregate. `key` is None unless `kind` is "value"; `members` is its number of keys.

    Of a unit cost, `total` is that of the whole window, `ratio` has the sums that are divided; `total` is None where
    their quantity is 0.

    `name` is that of the customer, product or subscription whose id is `key`, None if unknown. It may change, so series
    that differ in nothing else are equal.
    """

    kind: SeriesKind
    key: str | None
    total: Number | None
    members: int
    points: tuple[Point, ...] = field(repr=False)
    name: str | None = field(default=None, compare=False)
    ratio: Ratio | None = field(default=None, repr=False, kw_only=True)

    @property
    def number(self) -> Number:
        """The total of a measure that always has one, which is all but unit costs. Raises `ValueError` without."""
        return _number(self.total)

    @property
    def label(self) -> str:
        """The name of the series: All, the value itself, (empty), (missing) or Other."""
        return _label(self.kind, self.key)


def _number(value: Number | None) -> Number:
    if value is None:
        raise ValueError("a unit cost without a quantity to divide by has no value")
    return value


def _label(kind: SeriesKind, key: str | None) -> str:
    if kind == "value":
        return key or "(empty)"
    return {"all": "All", "missing": "(missing)", "other": "Other"}[kind]


@dataclass(frozen=True, slots=True)
class Leader:
    """A row of a leaderboard: a value, the events without one ("missing"), or all that follow ("other").

    `share` is the part of the query's total, rounded half-even to 6 decimal places, None of a total of 0; negative
    quantities make shares below 0 and above 1. `members` is the number of values in the row. `name` is that of the
    customer, product or subscription whose id is `key`, None if unknown; rows that differ in nothing else are equal.
    """

    kind: SeriesKind
    key: str | None
    total: Number
    share: Decimal | None
    members: int
    name: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """The value itself, (empty), (missing) or Other."""
        return _label(self.kind, self.key)


@dataclass(frozen=True, slots=True)
class Hit:
    """Where a searched text occurs: a value of `group`, its name if it is a named id, and its number of events.

    `group` is `id`, `idempotency_key`, a column that can be grouped by, or `dim:<key>`. Events of an id or a key are of
    any time, those of other values in the searched window.
    """

    group: str
    value: str
    events: int
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """The largest values of a `group`, a column or `dim:<key>`, by total, ranked and folded like series.

    `values` is the number of its different values.
    """

    group: str
    values: int
    leaders: tuple[Leader, ...]


def leader(kind: SeriesKind, key: str | None, value: Number, whole: Number, members: int) -> Leader:
    """The row of a value, with its share of the whole.

    >>> leader("value", "eu", 1, 3, 1).share
    Decimal('0.333333')
    """
    share = None
    if whole:
        millionths = round(Fraction(value) / Fraction(whole) * 10**_SHARE_PLACES)  # half-even
        share = Decimal(f"{millionths}E-{_SHARE_PLACES}")
    return Leader(kind, key, value, share, members)


class _ValueAndEvents(NamedTuple):
    value: str
    events: int


class Choice(_ValueAndEvents):
    """A value and its number of events, a pair; `name` is that of an id, None if unknown, and not part of the pair."""

    name: str | None

    def __new__(cls, value: str, events: int, name: str | None = None) -> Self:
        """The pair, with its name."""
        pair = super().__new__(cls, value, events)
        pair.name = name
        return pair


@dataclass(frozen=True, slots=True)
class Served:
    """How an aggregate was read: from the extract, or from the events, and how long that `took`.

    `because` is the reason to read the events, None for the extract. `exists_since` is the time of the first event, if
    older ones were removed and the window begins before.
    """

    because: str | None
    took: timedelta
    exists_since: datetime | None = None

    @property
    def path(self) -> Literal["extract", "events"]:
        """The source of the numbers. Both give the same ones."""
        return "events" if self.because else "extract"


@dataclass(frozen=True)
class AggregateData:
    """The numbers of an aggregate, and its query.

    `query` is the query as it took effect: absolute, of one organization, with a later `since` if `capped`. `now` is
    the database's clock. Counts are `int`, sums and ratios `Decimal`. `metrics` is the number of different metrics in
    the sum.
    `names` has the names of the ids in its series and filters. `currencies` are those of the events that have a cost,
    None for a cost without a currency, if a cost is measured: several only if the query groups by them.
    """

    query: AggregateQuery
    series: tuple[Series, ...]
    edges: tuple[datetime, ...]
    now: datetime
    capped: bool
    metrics: int
    served: Served = field(compare=False)
    names: Names = field(default=NO_NAMES, compare=False, repr=False, kw_only=True)
    currencies: tuple[str | None, ...] = field(default=(), kw_only=True)

    @property
    def total(self) -> Number | None:
        """The sum over all series; of a unit cost the ratio of the sums. None where there is none; see `add`."""
        return self.add(self.series)

    def add(self, parts: Iterable[Point | Series]) -> Number | None:
        """Points or series as one: their exact sum, of unit costs the ratio of their sums.

        None of costs in several currencies, and of unit costs whose quantity is 0.
        """
        return None if len(self.currencies) > 1 else combined(parts, self.query.metric)

    @property
    def adds_up(self) -> bool:
        """Whether the values of several series may be added, and drawn on top of each other."""
        return self.query.metric not in RATIOS and len(self.currencies) <= 1

    @property
    def currency(self) -> str | None:
        """The currency of the costs; None for other measures, without a currency, and for several currencies."""
        if self.query.metric not in COST_METRICS:
            return None
        if not self.currencies and len(self.query.external_cost_currency) == 1:
            return self.query.external_cost_currency[0]
        return self.currencies[0] if len(self.currencies) == 1 else None

    @property
    def adds(self) -> str:
        """The warning for a sum without a unit: "adds 12 metrics". Blank for counts, costs and one metric."""
        has_unit = self.query.metric in ("count", "sum_cost")
        return f"adds {self.metrics:,} metrics" if self.metrics > 1 and not has_unit else ""

    @property
    def folded(self) -> int:
        """The number of keys that are folded into Other."""
        return sum(series.members for series in self.series if series.kind == "other")

    @property
    def closed_until(self) -> datetime:
        """The end of the last bucket that can be complete: the database's now, or an earlier `as_of`."""
        return min(self.now, self.query.as_of or self.now)


def json_value(value: Any) -> Any:
    """A value for JSON: decimals, times and ids as text.

    >>> json_value(Decimal("1.50"))
    '1.5'
    """
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, UUID):
        return str(value)
    return value


def json_numbers(value: Any) -> Any:
    """Dimensions for JSON: a number stays a number if a double represents it exactly, else it becomes text."""
    if isinstance(value, dict):
        return {key: json_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_numbers(item) for item in value]
    if isinstance(value, Decimal):
        return float(value) if repr(float(value)) == str(value) else format(value, "f")
    return value


def combined(parts: Iterable[Point | Series], metric: str) -> Number | None:
    """The exact sum of points or series of a measure; of unit costs the ratio of their sums, None without quantity."""
    parts = list(parts)
    if metric in RATIOS:
        return _unit_cost(_added(parts))
    values = (part.value if isinstance(part, Point) else part.total for part in parts)
    return exact_sum((value for value in values if value is not None), 0 if metric == "count" else Decimal(0))


def merged(points: Sequence[Point], value: Number | None) -> Point:
    """The points of one bucket as one point, of this value."""
    first = points[0]
    ratio = None if first.ratio is None else _added(points)
    return Point(first.start, first.end, value, first.complete, ratio=ratio)


def _added(parts: Iterable[Point | Series]) -> Ratio:
    ratios = [part.ratio for part in parts if part.ratio is not None]
    return Ratio(total(ratio.cost for ratio in ratios), total(ratio.quantity for ratio in ratios))


def _unit_cost(ratio: Ratio) -> Decimal | None:
    return unit_cost(ratio.cost, ratio.quantity)


def series(
    rows: Sequence[Any],
    query: AggregateQuery,
    edges: tuple[datetime, ...],
    closed_until: datetime,
    exists_since: datetime | None = None,
) -> tuple[Series, ...]:
    """The series of the statement's rows.

    A bucket that ends after `closed_until`, or begins before `exists_since`, is not complete.

    Raises `QueryError` for more than `MAX_POINTS` points, `NotExact` for NaN or infinite sums.
    """
    since, until = query.span
    since = max(since, exists_since or since)
    size = len(edges) - 1
    if rows[0].kind is None and rows[0].series_count:
        number = rows[0].series_count
        raise QueryError(
            [
                Fault(
                    "top",
                    f"the answer would have {number * size:,} points ({number:,} series × {size:,} buckets), more "
                    f"than {MAX_POINTS:,}; keep fewer series, use a larger bucket or a shorter window",
                )
            ]
        )
    result: list[Series] = []
    for row in rows:
        if row.kind is None:
            continue
        divided = query.metric in RATIOS
        divisors = row.divisors if divided else [None] * size
        sums = (row.total, *row.points, *((row.divisor, *divisors) if divided else ()))
        if query.metric != "count" and not all(value.is_finite() for value in sums):
            raise NotExact.not_finite()
        ratios = [
            Ratio(cost, quantity) if divided else None for cost, quantity in zip(row.points, divisors, strict=True)
        ]
        points = tuple(
            Point(
                start=start,
                end=end,
                value=_unit_cost(ratio) if ratio else cast("Number", value),
                complete=start >= since and end <= until and end <= closed_until,
                ratio=ratio,
            )
            for start, end, value, ratio in zip(edges, edges[1:], row.points, ratios, strict=False)
        )
        whole = Ratio(row.total, row.divisor) if divided else None
        total_value = _unit_cost(whole) if whole else row.total
        result.append(Series(row.kind, row.key, total_value, row.members, points, ratio=whole))
    return tuple(result)


def event_ids(events: Iterable[Event]) -> Iterator[tuple[str, UUID]]:
    """(column, id) of every id in the events that may have a name."""
    for event in events:
        for column in NAME_COLUMNS.values():
            if (id_ := getattr(event, column)) is not None:
                yield column, id_


def named_events(events: Sequence[Event], names: Names) -> tuple[Event, ...]:
    """The events with their names."""
    if not names:
        return tuple(events)
    named = []
    for event in events:
        found: dict[str, Any] = {
            name: names.name(column, getattr(event, column)) for name, column in NAME_COLUMNS.items()
        }
        named.append(replace(event, **found))
    return tuple(named)


def named_boards(boards: Iterable[Leaderboard], names: Names) -> tuple[Leaderboard, ...]:
    """The leaderboards with the names of their ids."""
    return tuple(
        replace(board, leaders=tuple(replace(row, name=names.name(board.group, row.key)) for row in board.leaders))
        if names and board.group in ID_COLUMNS
        else board
        for board in boards
    )


def named_series(series: tuple[Series, ...], query: AggregateQuery, names: Names) -> tuple[Series, ...]:
    """The series with their names."""
    if not names or query.group_by not in ID_COLUMNS:
        return series
    return tuple(replace(item, name=names.name(query.group_by, item.key)) for item in series)
