"""The data of results: events, points, series, and aggregates without their methods.

Charts and frames are made from these types; `answers` adds the methods that make them.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, Literal, NamedTuple, Self
from uuid import UUID

from usage_explore.decimals import (
    Number,
    difference,
    exact_sum,
    instant_texts,
    json_dimensions,
    plain,
    ratio,
    rfc3339,
    total,
    unit_cost,
)
from usage_explore.errors import Fault, NotExact, QueryError
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.limits import MAX_POINTS
from usage_explore.query.queries import COST_METRICS, RATIOS, AggregateQuery
from usage_explore.results.units import HasUnit

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
        return {**values, "dimensions": json_dimensions(self.dimensions)}


class Ratio(NamedTuple):
    """The exact sums of which a unit cost is the ratio: the cost, and the quantity of the events that have a cost."""

    cost: Decimal
    quantity: Decimal

    @property
    def value(self) -> Decimal | None:
        """The unit cost; None where the quantity is 0."""
        return unit_cost(self.cost, self.quantity)


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

    `with_missing` says whether Other also holds the events without a key.

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
    with_missing: bool = field(default=False, kw_only=True)

    @property
    def number(self) -> Number:
        """The total of a measure that always has one, which is all but unit costs. Raises `ValueError` without."""
        return _number(self.total)

    @property
    def label(self) -> str:
        """The name of the series: All, the value itself, (empty), (missing) or Other."""
        return series_label(self.kind, self.key)


def _number(value: Number | None) -> Number:
    if value is None:
        raise ValueError("a unit cost without a quantity to divide by has no value")
    return value


def series_label(kind: SeriesKind, key: str | None) -> str:
    """The value itself, (empty), (missing), Other or All."""
    if kind == "value":
        return key or "(empty)"
    return {"all": "All", "missing": "(missing)", "other": "Other"}[kind]


@dataclass(frozen=True, slots=True)
class Change:
    """A value `now`, and `before` in the period that it is compared with.

    None is a unit cost without a quantity to divide by, and the total of costs in several currencies.
    """

    now: Number | None
    before: Number | None

    @property
    def absolute(self) -> Number | None:
        """`now - before`, None without one of them."""
        return None if self.now is None or self.before is None else difference(self.now, self.before)

    @property
    def ratio(self) -> Decimal | None:
        """(now - before) / |before| to 28 digits: 0.081 is 8.1 % more. None where there was nothing before."""
        absolute = self.absolute
        return ratio(absolute, Decimal(self.before).copy_abs()) if self.before and absolute is not None else None


@dataclass(frozen=True, slots=True)
class PointChange(Change):
    """The bucket `[start, end)` of the other period, and its value `before`; `now` is that of the answer's bucket.

    Both are of equally much elapsed time. `complete` is False if the bucket is cut by the other period's window.
    """

    start: datetime
    end: datetime
    complete: bool


@dataclass(frozen=True, slots=True)
class SeriesChange(Change):
    """The totals of a series, and its buckets by their position; None where the other period has no counterpart."""

    kind: SeriesKind
    key: str | None
    points: tuple[PointChange | None, ...] = field(repr=False)
    name: str | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """The name of the series, as in `Series`."""
        return series_label(self.kind, self.key)


@dataclass(frozen=True, slots=True)
class Comparison:
    """An answer beside another period `[since, until)`: the change of the whole, and of each of the answer's series.

    `label` names the other period: "vs February 2026". Of the answer's window the part before `now_until` is compared:
    if either period is unfinished, both are cut at the same elapsed time, and without any `until` equals `since`.
    `series` are those of the answer, in its order; one more, "other", follows if the other period has values that the
    answer has not, so that sums are exact. `partial`: the other period begins before the organization's first event,
    `first_event`, of those known at `as_of`, so its numbers are not those of a whole period. `currencies` are those of
    its costs, `unit` is that of the quantities of both periods. A period that has not begun has no numbers: None.
    """

    label: str
    since: datetime
    until: datetime
    now_until: datetime
    partial: bool
    first_event: datetime | None
    total: Change
    series: tuple[SeriesChange, ...]
    currencies: tuple[str | None, ...] = ()
    unit: str | None = field(default=None, compare=False)

    @property
    def has_begun(self) -> bool:
        """Whether there is any time to compare."""
        return self.since < self.until

    def to_dict(self) -> dict[str, Any]:
        """The comparison as the API returns it in JSON."""
        instant = instant_texts()
        return {
            "since": rfc3339(self.since),
            "until": rfc3339(self.until),
            "current_until": rfc3339(self.now_until),
            "partial": self.partial,
            "unit": self.unit,
            **_change_dict("total", self.total),
            "series": [
                {
                    "key": series.key,
                    "kind": series.kind,
                    "label": series.label,
                    "name": series.name,
                    **_change_dict("total", series),
                    "points": [
                        point
                        and {
                            "start": instant(point.start),
                            "end": instant(point.end),
                            **_change_dict("value", point),
                            "complete": point.complete,
                        }
                        for point in series.points
                    ],
                }
                for series in self.series
            ],
        }


def _change_dict(name: str, change: Change) -> dict[str, Any]:
    return {
        name: json_value(change.before),
        "change": json_value(change.absolute),
        "change_ratio": json_value(change.ratio),
    }


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

    `because` is the reason to read the events, None for the extract. `exists_since` is the start of the events that
    exist, if older ones were removed and the window begins before.
    """

    because: str | None
    took: timedelta
    exists_since: datetime | None = None

    @property
    def path(self) -> Literal["extract", "events"]:
        """The source of the numbers. Both give the same ones."""
        return "events" if self.because else "extract"


@dataclass(frozen=True)
class AggregateData(HasUnit):
    """The numbers of an aggregate, and its query.

    `query` is the query as it took effect: absolute, of one organization, with a later `since` if `capped`. `now` is
    the database's clock. Counts are `int`, sums and ratios `Decimal`. `metrics` is the number of different metrics in
    the sum; of a cost, those that have one; `units` has their units, of a sum or ratio of quantities.
    `names` has the names of the ids in its series and filters, `comparison` the other period of the query's `compare`.
    `currencies` are those of the events that have a cost, None for a cost without a currency, if a cost is measured:
    several only if the query groups by them.
    """

    query: AggregateQuery
    series: tuple[Series, ...]
    edges: tuple[datetime, ...]
    now: datetime = field(compare=False)
    capped: bool
    metrics: int
    served: Served = field(compare=False)
    names: Names = field(default=NO_NAMES, compare=False, repr=False, kw_only=True)
    units: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False, kw_only=True)
    currencies: tuple[str | None, ...] = field(default=(), kw_only=True)
    comparison: Comparison | None = field(default=None, repr=False, kw_only=True)

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
        currencies = self.currencies or self.query.external_cost_currency
        if not currencies and self.comparison is not None:
            currencies = self.comparison.currencies
        return currencies[0] if len(currencies) == 1 else None

    @property
    def folded(self) -> int:
        """The number of keys that are folded into Other."""
        return sum(series.members for series in self.series if series.kind == "other")

    @property
    def folded_missing(self) -> bool:
        """Whether Other also holds the events without a key."""
        return any(series.with_missing for series in self.series)

    @property
    def closed_until(self) -> datetime:
        """The end of the last bucket that can be complete: the database's now, or as the query's `as_of` says."""
        return self.query.closed_until(self.now)

    @cached_property
    def complete(self) -> list[bool]:
        """Whether each bucket lies inside the window, in the past, and after removed events."""
        since, until = self.query.span
        since, until = max(since, self.served.exists_since or since), min(until, self.closed_until)
        return [since <= start and end <= until for start, end in pairwise(self.edges)]

    def with_other(self) -> Self:
        """The aggregate with an empty series Other if only the other period has one, so that its values add up."""
        if self.comparison is None or len(self.comparison.series) == len(self.series):
            return self
        nothing = combined((), self.query.metric)
        buckets = zip(self.edges, self.edges[1:], self.complete, strict=False)
        points = tuple(Point(start, end, nothing, complete) for start, end, complete in buckets)
        return replace(self, series=(*self.series, Series("other", None, nothing, 0, points)))

    @cached_property
    def begun(self) -> int:
        """The number of buckets up to the last one that has begun; of running totals, or in which one changes."""
        result = sum(edge < self.closed_until for edge in self.edges[:-1])
        nothing = combined((), self.query.metric)
        before = [series.points[result - 1].value if result else nothing for series in self.series]
        for index in range(result, len(self.edges) - 1):
            values = [series.points[index].value for series in self.series]
            if values != before:
                result = index + 1
            before = values
        return result


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


def combined(parts: Iterable[Point | Series], metric: str) -> Number | None:
    """The exact sum of points or series of a measure; of unit costs the ratio of their sums, None without quantity."""
    if metric in RATIOS:
        return _added(parts).value
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
    first, end_of_complete = bisect_left(edges, since), bisect_right(edges, min(until, closed_until)) - 1
    complete = [first <= index < end_of_complete for index in range(size)]
    if rows[0].kind is None and rows[0].series_count:
        number = rows[0].series_count
        message = f"the answer would have {number * size:,} points ({number:,} series × {size:,} buckets), more "
        message += f"than {MAX_POINTS:,}; keep fewer series, use a larger bucket or a shorter window"
        raise QueryError([Fault("top", message)])
    result: list[Series] = []
    for row in rows:
        if row.kind is None:
            continue
        divided = query.metric in RATIOS
        divisors = row.divisors if divided else [None] * size
        sums = (row.total, *row.points, *((row.divisor, *divisors) if divided else ()))
        if query.metric != "count" and not all(value.is_finite() for value in sums):
            raise NotExact.not_finite()
        zero: Any = 0 if query.metric == "count" else Decimal(0)  # one of more than six decimals is written 0E-7
        values, parts = [value or zero for value in row.points], list(divisors)
        if query.cumulative:
            values = list(accumulate(values, _plus))
            parts = list(accumulate(parts, _plus)) if divided else parts
        ratios = [Ratio(cost, quantity) if divided else None for cost, quantity in zip(values, parts, strict=True)]
        points = tuple(
            Point(start, end, ratio.value if ratio else value, is_complete, ratio=ratio)
            for start, end, value, is_complete, ratio in zip(edges, edges[1:], values, complete, ratios, strict=False)
        )
        whole = Ratio(row.total, row.divisor) if divided else None
        total_value = whole.value if whole else row.total or zero
        missing = bool(row.with_missing)
        result.append(Series(row.kind, row.key, total_value, row.members, points, ratio=whole, with_missing=missing))
    return tuple(result)


def _plus(total: Number, value: Number) -> Number:
    return exact_sum((value,), total)
