"""Data of an answer: events, points, series, and an aggregate without the ways out of it.

Charts and frames are made of these; `answers` adds the methods that make them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from usage_explore.decimals import Number, exact_sum, plain, rfc3339
from usage_explore.query.queries import AggregateQuery

SeriesKind = Literal["all", "value", "missing", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the table. `quantity` and `external_cost_amount` are exact; times are aware, in UTC."""

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

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON carries it: ids, times and decimals as text, nulls kept."""
        values = {name: json_value(getattr(self, name)) for name in self.__slots__}
        return {**values, "dimensions": json_numbers(self.dimensions)}


@dataclass(frozen=True, slots=True)
class Point:
    """A series' value in one bucket `[start, end)`; not `complete` when the bucket is cut or still filling."""

    start: datetime
    end: datetime
    value: Number
    complete: bool


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the answer. `key` is None unless `kind` is "value"; `members` counts its keys, none if missing."""

    kind: SeriesKind
    key: str | None
    total: Number
    members: int
    points: tuple[Point, ...] = field(repr=False)

    @property
    def label(self) -> str:
        """What to call the series: All, the value itself, (empty), (missing) or Other."""
        if self.kind == "value":
            return self.key or "(empty)"
        return {"all": "All", "missing": "(missing)", "other": "Other"}[self.kind]


@dataclass(frozen=True, slots=True)
class Served:
    """Which path answered, and how long the database took: the rollup, or the events `because` of something."""

    because: str | None
    took: timedelta

    @property
    def path(self) -> Literal["rollup", "events"]:
        """Where the numbers were read. Both paths give the same ones."""
        return "events" if self.because else "rollup"


@dataclass(frozen=True)
class AggregateData:
    """The numbers of an aggregate and the query that they answer.

    `query` is the query as it took effect: absolute, scoped to one organization, its window capped when `capped`. `now`
    is the database's clock. Counts are `int`, sums `Decimal`. `metrics` is the number of different metrics added up.
    """

    query: AggregateQuery
    series: tuple[Series, ...]
    edges: tuple[datetime, ...]
    now: datetime
    capped: bool
    metrics: int
    served: Served = field(compare=False)

    @property
    def total(self) -> Number:
        """The sum over all series."""
        zero: Number = 0 if self.query.metric == "count" else Decimal(0)
        return exact_sum((series.total for series in self.series), zero)

    @property
    def adds(self) -> str:
        """What to know about a sum of unlike quantities: "adds 12 metrics". Empty for counts and for one metric."""
        return f"adds {self.metrics:,} metrics" if self.metrics > 1 and self.query.metric != "count" else ""

    @property
    def folded(self) -> int:
        """How many keys are folded into Other."""
        return sum(series.members for series in self.series if series.kind == "other")

    @property
    def closed_until(self) -> datetime:
        """Until when the answer can be complete: the database's now, or `as_of` where that is earlier."""
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
    """Dimensions for JSON: a number stays a number where a float carries it exactly, else it becomes text."""
    if isinstance(value, dict):
        return {key: json_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [json_numbers(item) for item in value]
    if isinstance(value, Decimal):
        return float(value) if repr(float(value)) == str(value) else format(value, "f")
    return value
