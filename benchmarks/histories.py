"""Generated histories of metered usage: nine weeks before September 2026, the month itself and four days after it.

Usage is drawn for each customer's metric ("stream"), the same for the same profile and seed:

- profiles: `thin` (2 to 5 customers, 0.5 to 15 events a day each), `small` (3 to 6, 20 to 300), `medium` (18 to 26, 1
  to 120) and `large` (55 to 80, 0.5 to 60), rates log-uniform, 1 to 3 metrics for each customer
- patterns: steady, office days (weekends at 0 to 40 %), growth (-0.4 to +1 % a day) and bursts (sessions of about 15
  events within an hour, quiet days between them); all but bursts have day-to-day noise of 3 to 15 % beside Poisson's;
  one month in two has a holiday, on which office customers work as on a weekend
- hours: flat, or most of the usage from 7:00 to 19:00
- metrics: `tokens` (whole, log-normal, sigma 0.8 to 1.4; 1.8 where bursts), `minutes` (two decimals, sigma 0.7, whole
  seconds), `requests` (always 1), `images` (1 to 4) and `storage_gb` (a meter on the hour, slowly drifting)
- costs in USD in two of three histories: exactly proportional for tokens and images, within some per cent for minutes
- arrival: seconds; one event in a hundred up to two hours late
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from uuid import UUID, uuid5

import numpy as np
import numpy.typing as npt

from usage_explore import Period

SINCE, UNTIL = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)
"""The period that is validated."""

FIRST, LAST = SINCE - timedelta(weeks=9), UNTIL + timedelta(days=4)
"""When the history begins and ends."""

PROFILES = ("thin", "small", "medium", "large")
METRICS = ("tokens", "minutes", "requests", "images", "storage_gb")

SCALE = 1_000_000
"""Quantities are whole millionths."""

DAY, HOUR, SECOND = 86_400_000_000, 3_600_000_000, 1_000_000
"""In microseconds, the unit of all times here."""

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NAMESPACE = UUID("5e5f7a44-65f2-4be5-8c3b-6f0b7a8f2d11")
_SIZES = {"thin": (2, 5, 0.5, 15.0), "small": (3, 6, 20.0, 300.0), "medium": (18, 26, 1.0, 120.0)}
_LARGE = (55, 80, 0.5, 60.0)
_PATTERNS = ("steady", "steady", "office", "office", "growth", "bursts")
_RATES = {"tokens": 3_000, "minutes": 12_000_000, "images": 18_000_000}
"""Cost of a unit in billionths of a dollar."""

_ORDER_OF_METRICS = (0.4, 0.2, 0.2, 0.1, 0.1)
_EXACT = ("tokens", "images")


def micros(instant: datetime) -> int:
    """Microseconds since 1970."""
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def instant(value: int) -> datetime:
    """The time of these microseconds since 1970."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(value))


@dataclass(slots=True)
class Events:
    """Events as columns. `rate` is the cost of a unit in billionths (0: no cost), `costed` the quantity it is for."""

    customer: Ints
    metric: Ints
    timestamp: Ints
    ingested: Ints
    quantity: Ints
    costed: Ints
    rate: Ints
    key: Ints
    currency: Ints
    priced: Bools
    subscribed: Bools
    number: Bools

    def __len__(self) -> int:
        return len(self.key)

    def take(self, rows: Ints | Bools) -> Events:
        """A copy of these rows."""
        return Events(*(getattr(self, one.name)[rows] for one in fields(self)))

    def add(self, others: Events) -> None:
        """Append the others."""
        for one in fields(self):
            setattr(self, one.name, np.concatenate([getattr(self, one.name), getattr(others, one.name)]))

    def keep(self, rows: Bools) -> None:
        """Drop all but these rows."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name)[rows])


@dataclass(frozen=True, slots=True)
class Stream:
    """A customer's usage of a metric: events a day, pattern, and whether its hours are those of an office."""

    customer: int
    metric: int
    rate: float
    pattern: str
    is_office: bool


@dataclass(frozen=True, slots=True)
class Incident:
    """One thing that went wrong: `customers` is None where it was everybody's; `events` are affected or missing.

    `left` is when events began to be missing that have moved to the span.
    """

    kind: str
    customers: tuple[UUID, ...] | None
    metrics: tuple[str, ...]
    since: datetime
    until: datetime
    events: int
    details: str = ""
    left: datetime | None = None


@dataclass(slots=True)
class History:
    """The events of one organization and what was planted among them."""

    profile: str
    seed: int
    has_costs: bool
    streams: tuple[Stream, ...]
    events: Events
    draw: np.random.Generator
    incidents: list[Incident] = field(default_factory=list)

    @property
    def customers(self) -> int:
        """How many customers there are."""
        return 1 + max(one.customer for one in self.streams)

    def customer_id(self, number: int) -> UUID:
        """The id of a customer."""
        return uuid5(_NAMESPACE, f"{self.profile}/{self.seed}/{number}")

    def of(self, customer: int) -> tuple[Stream, ...]:
        """The streams of a customer."""
        return tuple(one for one in self.streams if one.customer == customer)

    def rows(self, stream: Stream, since: int, until: int) -> Ints:
        """The row numbers of a stream's events in a span."""
        e = self.events
        mine = (e.customer == stream.customer) & (e.metric == stream.metric)
        return np.flatnonzero(mine & (e.timestamp >= since) & (e.timestamp < until))

    def new_keys(self, size: int) -> Ints:
        """Keys that no event has yet."""
        return np.arange(size) + int(self.events.key.max()) + 1

    def table_rows(self, organization: UUID) -> Iterator[tuple[object, ...]]:
        """The events as rows of COLUMNS, in the order of their arrival."""
        e = self.events
        ids = self.draw.bytes(16 * len(e))
        names = [str(self.customer_id(number)) for number in range(self.customers)]
        subscriptions = [str(uuid5(_NAMESPACE, name)) for name in names]
        products = [str(uuid5(_NAMESPACE, name)) for name in METRICS]
        for row in np.argsort(e.ingested, kind="stable"):
            metric, customer = METRICS[e.metric[row]], e.customer[row]
            cost = Decimal(int(e.costed[row]) * int(e.rate[row])).scaleb(-15) if e.rate[row] else None
            yield (
                UUID(bytes=ids[16 * row : 16 * row + 16]),
                organization,
                names[customer],
                products[e.metric[row]],
                subscriptions[customer] if e.subscribed[row] else None,
                metric,
                f"{metric}.standard" if e.priced[row] else None,
                Decimal(int(e.quantity[row])).scaleb(-6) if e.number[row] else Decimal("NaN"),
                instant(e.timestamp[row]),
                instant(e.ingested[row]),
                f"k{e.key[row]}",
                cost,
                None if cost is None else ("USD", "EUR")[e.currency[row]],
                None,
                "{}",
            )


COLUMNS = (
    "id, organization_id, customer_id, product_id, subscription_id, metric_key, price_key, quantity, timestamp,"
    " ingested_at, idempotency_key, external_cost_amount, external_cost_currency, wallet_currency, dimensions"
)
"""The columns of `History.table_rows`."""


def period(organization: UUID) -> Period:
    """September, finalized on the third of October and validated a day later."""
    return Period(
        organization_id=organization,
        since=SINCE,
        until=UNTIL,
        finalized_at=UNTIL + timedelta(days=2),
        as_of=UNTIL + timedelta(days=3),
    )


def history(profile: str, seed: int) -> History:
    """A history without incidents."""
    draw = np.random.default_rng([seed, PROFILES.index(profile)])
    least, most, slow, fast = _SIZES.get(profile, _LARGE)
    has_costs, has_holiday = draw.random() < 2 / 3, draw.random() < 0.5
    holiday = int(draw.integers(0, 30)) + 63 if has_holiday else None
    streams, parts = [], []
    for customer in range(int(draw.integers(least, most + 1))):
        pattern, is_office = str(draw.choice(_PATTERNS)), bool(draw.random() < 0.6)
        size = int(draw.choice([1, 2, 3], p=[0.4, 0.4, 0.2]))
        rate = 10 ** draw.uniform(np.log10(slow), np.log10(fast))
        maker = _Maker(draw, pattern, is_office, has_costs, holiday)
        for metric in draw.choice(len(METRICS), size, replace=False, p=_ORDER_OF_METRICS):
            stream = Stream(customer, int(metric), rate * draw.uniform(0.3, 1), pattern, is_office)
            part = maker.events(stream)
            if METRICS[metric] == "storage_gb":
                stream = replace(stream, rate=24.0, pattern="steady", is_office=False)
            streams.append(stream)
            parts.append(part)
    events = parts[0]
    for part in parts[1:]:
        events.add(part)
    events.key = np.arange(len(events))
    return History(profile, seed, has_costs, tuple(streams), events, draw)


@dataclass
class _Maker:
    """Draws the events of one customer's streams."""

    draw: np.random.Generator
    pattern: str
    is_office: bool
    has_costs: bool
    holiday: int | None
    weekend: float = 1.0
    growth: float = 0.0
    noise: float = 0.0

    def __post_init__(self) -> None:
        self.weekend = float(self.draw.choice([0.0, 0.1, 0.4])) if self.pattern == "office" else 1.0
        self.growth = self.draw.uniform(-0.004, 0.01) if self.pattern == "growth" else 0.0
        self.noise = self.draw.uniform(0.03, 0.15)

    @property
    def days(self) -> int:
        return (LAST - FIRST).days

    @cached_property
    def hours(self) -> npt.NDArray[np.float64]:
        """The share of a day's usage in each of its hours."""
        clock = np.arange(24)
        share: npt.NDArray[np.float64] = np.ones(24)
        if self.is_office:
            share[(clock < 7) | (clock >= 19)] = 0.15
        share /= share.sum()
        return share

    def times(self, stream: Stream) -> Ints:
        """When the events occur."""
        first = micros(FIRST)
        if METRICS[stream.metric] == "storage_gb":
            return first + np.arange(self.days * 24) * HOUR
        days = np.arange(self.days)
        level = stream.rate * (1 + self.growth) ** days
        quiet = (FIRST.weekday() + days) % 7 >= 5
        if self.holiday is not None:
            quiet |= days == self.holiday
        level = level * np.where(quiet, self.weekend, 1.0)
        if self.pattern == "bursts":
            return first + self._bursts(stream.rate)
        level = level * self.draw.gamma(1 / self.noise**2, self.noise**2, self.days)
        counts = self.draw.poisson(np.outer(level, self.hours).ravel())
        starts = np.repeat(np.arange(self.days * 24), counts) * HOUR
        return first + starts + self.draw.integers(0, HOUR, len(starts))

    def _bursts(self, rate: float) -> Ints:
        sessions = self.draw.poisson(rate * self.days / 15)
        begins = self.draw.integers(0, self.days * DAY, sessions)
        sizes = self.draw.geometric(1 / 15, sessions)
        times = np.repeat(begins, sizes) + self.draw.integers(0, HOUR, int(sizes.sum()))
        return times[times < self.days * DAY]

    def quantities(self, metric: str, size: int) -> Ints:
        """Quantities in millionths."""
        draw = self.draw
        if metric == "tokens":
            sigma = 1.8 if self.pattern == "bursts" else draw.uniform(0.8, 1.4)
            return (
                np.maximum(1, np.round(np.exp(draw.normal(draw.uniform(5, 8), sigma, size)))).astype(np.int64) * SCALE
            )
        if metric == "minutes":
            return np.maximum(1, np.round(100 * np.exp(draw.normal(1.5, 0.7, size)))).astype(np.int64) * (SCALE // 100)
        if metric == "requests":
            return np.full(size, SCALE, np.int64)
        if metric == "images":
            return draw.integers(1, 5, size) * SCALE
        drift = np.cumsum(draw.normal(0, 0.002, size))
        return np.round(draw.uniform(20, 900) * np.exp(drift) * 1000).astype(np.int64) * (SCALE // 1000)

    def events(self, stream: Stream) -> Events:
        """The stream's events; their keys are given later."""
        draw, metric = self.draw, METRICS[stream.metric]
        times = np.sort(self.times(stream))
        grain = {"minutes": SECOND, "requests": 1000, "images": 1000}.get(metric, 1)
        times -= times % grain
        size = len(times)
        lag = draw.exponential(20, size) + np.where(draw.random(size) < 0.01, draw.uniform(60, 7200, size), 0.5)
        quantity = self.quantities(metric, size)
        rate = np.full(size, _RATES.get(metric, 0) if self.has_costs else 0, np.int64)
        if metric not in _EXACT:
            rate = np.round(rate * np.exp(draw.normal(0, 0.03, size))).astype(np.int64)
        yes, none = np.ones(size, bool), np.zeros(size, np.int64)
        return Events(
            customer=np.full(size, stream.customer),
            metric=np.full(size, stream.metric),
            timestamp=times,
            ingested=times + (lag * SECOND).astype(np.int64),
            quantity=quantity,
            costed=quantity.copy(),
            rate=rate,
            key=none,
            currency=none.copy(),
            priced=yes,
            subscribed=yes.copy(),
            number=yes.copy(),
        )
