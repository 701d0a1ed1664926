"""A price book: prices, the usage that each covers, and the rules that make it unambiguous.

A price names usage by `product_id`, `metric_key` and `price_key` (at least one of them), and may be one customer's. It
covers usage that has all of these values, from `valid_from` until before `valid_to`. Several prices may cover the same
usage; `usage_explore.pricing.resolution` says which one applies.

Two prices with the same customer, product, metric, price key and currency must not be valid at the same time. The same
key may have a price in each of several currencies: that of the usage's wallet applies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from typing import Literal, get_args
from uuid import UUID
from zoneinfo import ZoneInfo

from usage_explore.errors import Fault, QueryError
from usage_explore.files.values import Edge
from usage_explore.formatting import data_value
from usage_explore.query import buckets
from usage_explore.query.validators import EARLIEST, LATEST

PARAMETER = "prices"
"""The argument that faults name."""

Aggregation = str
"""`sum`, `count`, `max`, `latest`, or `unique:` and a column or `dim:<key>`."""

AGGREGATIONS = ("sum", "count", "max", "latest")
"""Aggregations without an argument."""

UNIQUE = "unique:"
"""Prefix of the aggregation that counts different values."""

Model = Literal["per_unit", "volume", "staircase", "package"]
MODELS: tuple[Model, ...] = get_args(Model)

Key = tuple[UUID | None, UUID | None, str | None, str | None]
"""Customer, product, metric and price key of a price; None where it names none."""


@dataclass(frozen=True, slots=True)
class Tier:
    """A tier: until which quantity it reaches, inclusive (None: without end), and its amounts.

    `unit_amount` is per unit (per package of a package price), `flat_amount` once if the tier is used.
    """

    up_to: Decimal | None
    unit_amount: Decimal = Decimal(0)
    flat_amount: Decimal = Decimal(0)


_UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """One price. `place` is where the book has it: "prices.csv line 3"; `scale` the decimals of its amounts.

    A `per_unit` or `package` price has one tier without end. `package_size` is given for packages alone.
    """

    place: str
    currency: str
    scale: int
    tiers: tuple[Tier, ...]
    customer_id: UUID | None = None
    product_id: UUID | None = None
    metric_key: str | None = None
    price_key: str | None = None
    aggregation: Aggregation = "sum"
    model: Model = "per_unit"
    package_size: Decimal | None = None
    included_quantity: Decimal = Decimal(0)
    minimum_amount: Decimal = Decimal(0)
    valid_from: Edge | None = None
    valid_to: Edge | None = None

    @property
    def key(self) -> Key:
        """What it covers."""
        return self.customer_id, self.product_id, self.metric_key, self.price_key

    @property
    def label(self) -> str:
        """What it covers in words: `price p1, metric tokens_in`."""
        words = (("price", self.price_key), ("metric", self.metric_key), ("product", self.product_id))
        named = [f"{noun} {data_value(str(value))}" for noun, value in words if value is not None]
        return ", ".join(named if self.customer_id is None else [*named, f"customer {self.customer_id}"])

    def span(self, zone: ZoneInfo) -> tuple[datetime, datetime]:
        """The instants from and before which it is valid; dates are midnights in the zone."""
        return (
            EARLIEST if self.valid_from is None else buckets.edge_instant(self.valid_from, zone),
            LATEST if self.valid_to is None else buckets.edge_instant(self.valid_to, zone),
        )


@dataclass(frozen=True, kw_only=True)
class PriceBook:
    """Prices, in the order of their source; `source` says what that is: a file's name, a table, `prices`."""

    prices: tuple[Price, ...]
    source: str = PARAMETER

    def __len__(self) -> int:
        return len(self.prices)

    @property
    def ids(self) -> Iterator[UUID | None]:
        """The ids of customers and products."""
        return (id_ for price in self.prices for id_ in (price.customer_id, price.product_id))

    def with_ids(self, ids: Mapping[UUID, UUID]) -> PriceBook:
        """The same prices with other ids. Raises `QueryError` if two are then of one key at the same time."""
        book = replace(
            self,
            prices=tuple(
                replace(
                    price,
                    customer_id=price.customer_id and ids.get(price.customer_id, price.customer_id),
                    product_id=price.product_id and ids.get(price.product_id, price.product_id),
                )
                for price in self.prices
            ),
        )
        book.check(_UTC)
        return book

    @cached_property
    def by_key(self) -> dict[Key, list[Price]]:
        """The prices of each key."""
        keys: dict[Key, list[Price]] = {}
        for price in self.prices:
            keys.setdefault(price.key, []).append(price)
        return keys

    @cached_property
    def by_subject(self) -> dict[tuple[UUID | None, str, str], list[Price]]:
        """The prices of each customer (None: of all), by metric and by price key: (customer, "metric_key", value)."""
        subjects: dict[tuple[UUID | None, str, str], list[Price]] = {}
        for price in self.prices:
            for name in ("metric_key", "price_key"):
                if (value := getattr(price, name)) is not None:
                    subjects.setdefault((price.customer_id, name, value), []).append(price)
        return subjects

    def check(self, zone: ZoneInfo) -> None:
        """Raise `QueryError` if two prices of one key and currency are valid at the same time in a time zone."""
        if faults := list(self._overlaps(zone)):
            raise QueryError(faults)

    def cuts(self, since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, ...]:
        """`since`, the instants between at which a price begins or ends, and `until`."""
        edges = {edge for price in self.prices for edge in price.span(zone) if since < edge < until}
        return since, *sorted(edges), until

    def _overlaps(self, zone: ZoneInfo) -> Iterator[Fault]:
        for prices in self.by_key.values():
            by_currency: dict[str, list[Price]] = {}
            for price in prices:
                by_currency.setdefault(price.currency, []).append(price)
            for same in by_currency.values():
                if len(same) > 1:
                    yield from _overlapping(same, zone)


def _overlapping(prices: list[Price], zone: ZoneInfo) -> Iterator[Fault]:
    """A fault for each price that begins before an earlier one has ended."""
    spans = sorted(((*price.span(zone), index) for index, price in enumerate(prices)), key=lambda span: span[:2])
    last, holder = spans[0][1], prices[spans[0][2]]
    for since, until, index in spans[1:]:
        price = prices[index]
        if since < last:
            yield Fault(
                PARAMETER,
                f"{price.place}: {price.label}, {price.currency}, is valid at the same time as that of {holder.place};"
                " end the one with valid_to where the other begins with valid_from",
            )
        if until > last:
            last, holder = until, price
