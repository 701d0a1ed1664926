"""Billable quantities: what SQL reads of a period's events, and the lines that a price book makes of them.

A line is the usage of one customer, metric and wallet that one price covers in one part of the period (see
`resolution`): its aggregation, included quantity, tiers, minimum and rounding are applied to it alone. Usage of several
products or price keys is one line if the price does not name them.

SQL groups events by customer, product, metric, price key, wallet, currency of the cost and segment of the period, which
gives events, quantities and costs; Python gives each group its price and adds groups up to lines. `max`, `latest` and
`unique` cannot be added up: a second statement aggregates the events of their lines, each of which names its groups.

    sum      the sum of the quantities
    count    the number of events
    max      the largest quantity
    latest   the quantity of the last event, by (timestamp, ingested_at, id)
    unique   the number of different values of a column or dimension; events without a value are not counted
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    DateTime,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import distinct_on

from usage_explore.decimals import total
from usage_explore.errors import Fault, QueryError
from usage_explore.pricing.book import UNIQUE, PriceBook
from usage_explore.pricing.resolution import Part, Resolution, Subject
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array, conditions, expression

MAX_LINES = 250_000
"""Lines and groups without a price, together."""

SPLITS = ("subscription_id", "price_key", "product_id", "wallet_currency")
"""Columns that usage of one price may be split by into several lines."""

Wallet = Callable[[UUID, str | None], str | None]
"""The wallet that a customer's usage with this pinned wallet goes to, None if unknown."""

_NO_UUID = UUID(int=0)


def pinned(customer_id: UUID, wallet: str | None) -> str | None:
    """The wallet that events are pinned to, without preferences."""
    return wallet


@dataclass(slots=True, kw_only=True)
class Usage:
    """Events, their quantity, the products and price keys among them, and their first and last segment."""

    events: int = 0
    quantity: Decimal = Decimal(0)
    products: set[UUID | None] = field(default_factory=set)
    price_keys: set[str | None] = field(default_factory=set)
    segments: set[int] = field(default_factory=set)

    def add(self, row: Any) -> None:
        """Add a row of `statement`."""
        self.events += row.events
        self.quantity = total((self.quantity, row.quantity))
        self.products.add(row.product_id)
        self.price_keys.add(row.price_key)
        self.segments.add(row.segment)


@dataclass(slots=True, kw_only=True)
class Line(Usage):
    """The usage of a customer's metric that one price covers in one part of the period.

    `wallet` is None if unknown, or if usage is not split by wallet; `subscription_id` unless usage is split by it.
    `billable` is the quantity by the price's aggregation.
    """

    customer_id: UUID
    metric_key: str
    part: Part
    wallet: str | None = None
    subscription_id: UUID | None = None
    billable: Decimal = Decimal(0)


@dataclass(slots=True, kw_only=True)
class Unpriced(Usage):
    """Usage without a price, and why."""

    customer_id: UUID
    product_id: UUID | None
    metric_key: str
    price_key: str | None
    wallet: str | None
    subscription_id: UUID | None
    reason: str


@dataclass(slots=True)
class Cost:
    """Events that have an external cost in a currency, and its sum."""

    events: int = 0
    amount: Decimal = Decimal(0)


@dataclass(slots=True, kw_only=True)
class Rated:
    """The usage of a period: its lines, what has no price, and costs by (customer, metric, currency).

    `counts` has the (events, quantity) of each metric, added up apart from the lines.
    """

    resolution: Resolution
    lines: list[Line]
    unpriced: list[Unpriced]
    costs: dict[tuple[UUID, str, str | None], Cost]
    counts: dict[str, tuple[int, Decimal]]


def statement(table: Table, period: Period, cuts: Sequence[datetime], *, by_subscription: bool = False) -> Select[Any]:
    """Usage of a resolved period by customer, product, metric, price key, wallet, currency of cost, and segment.

    Columns: these (`segment` from 0), `subscription_id` if usage is split by it, `events` bigint, `quantity` numeric,
    `costed` bigint (events with a cost) and `cost` numeric, NULL without any.
    """
    c = table.c
    segment = _segment(c.timestamp, cuts).label("segment")
    keys: list[ColumnElement[Any]] = [c.customer_id, c.product_id, c.metric_key, c.price_key, c.wallet_currency]
    if by_subscription:
        keys.append(c.subscription_id)
    # code, not spelling: usd and USD are one currency
    currency = func.upper(c.external_cost_currency.collate("C"), type_=Text).label("currency")
    return (
        select(
            *keys,
            segment,
            currency,
            func.count().label("events"),
            func.sum(c.quantity).label("quantity"),
            func.count(c.external_cost_amount).label("costed"),
            func.sum(c.external_cost_amount).label("cost"),
        )
        .where(*conditions(table, period))
        .group_by(*keys, *([] if len(cuts) <= 2 else [segment]), currency)
    )


def _segment(timestamp: ColumnElement[Any], cuts: Sequence[datetime]) -> ColumnElement[int]:
    if len(cuts) <= 2:
        return literal(0, Integer)
    number: ColumnElement[int] = func.width_bucket(timestamp, array(cuts, DateTime(timezone=True)), type_=Integer())
    return number - 1


def rated_usage(
    connection: Connection,
    table: Table,
    period: Period,
    book: PriceBook,
    *,
    wallet: Wallet = pinned,
    split: Iterable[str] = ("wallet_currency",),
    billed_in: Mapping[UUID, str] = MappingProxyType({}),
    further: Sequence[ColumnElement[bool]] = (),
) -> Rated:
    """The lines that a book makes of a resolved period's usage, with their billable quantities, in no promised order.

    Usage of an unknown wallet that has no price for that alone goes to the wallet that `billed_in` has for its
    customer. `split` are columns of `SPLITS` by which lines are split; `further` conditions narrow the events. A NaN or
    infinite quantity makes the quantities of its line NaN or infinite. Raises `QueryError` on `prices` for usage that
    two prices cover equally, and for more than 250,000 lines.
    """
    book.check(period.zone)
    resolution = Resolution(book, *period.span, period.zone)
    splits = frozenset(split)
    reader = _Reader(resolution, wallet, splits, billed_in)
    query = statement(table, period, resolution.cuts, by_subscription="subscription_id" in splits)
    for row in connection.execute(query.where(*further)):
        reader.add(row)
    reader.aggregate(connection, table, period, further)
    return Rated(
        resolution=resolution,
        lines=list(reader.lines.values()),
        unpriced=list(reader.unpriced.values()),
        costs=reader.costs,
        counts=reader.counts,
    )


Group = tuple[Any, ...]
"""Customer, product, metric, price key, pinned wallet, subscription and segment of events."""


class _Reader:
    """Adds up the rows of `statement`."""

    def __init__(
        self, resolution: Resolution, wallet: Wallet, splits: frozenset[str], billed_in: Mapping[UUID, str]
    ) -> None:
        self.resolution, self.wallet, self.splits, self.billed_in = resolution, wallet, splits, billed_in
        self.lines: dict[tuple[Any, ...], Line] = {}
        self.unpriced: dict[tuple[Any, ...], Unpriced] = {}
        self.costs: dict[tuple[UUID, str, str | None], Cost] = {}
        self.counts: dict[str, tuple[int, Decimal]] = {}
        self.groups: dict[Group, tuple[Any, ...]] = {}
        self._parts: dict[tuple[Subject, int], Part | str] = {}
        self._own_prices = {price.customer_id for price in resolution.book.prices}

    def add(self, row: Any) -> None:
        """Add a row to its line, or to the usage without a price."""
        events, quantity = self.counts.get(row.metric_key, (0, Decimal(0)))
        self.counts[row.metric_key] = events + row.events, total((quantity, row.quantity))
        if row.costed:
            cost = self.costs.setdefault((row.customer_id, row.metric_key, row.currency), Cost())
            cost.events, cost.amount = cost.events + row.costed, total((cost.amount, row.cost))
        wallet = self.wallet(row.customer_id, row.wallet_currency)
        subject = Subject(row.customer_id, row.product_id, row.metric_key, row.price_key, wallet)
        part = self._part(subject, row.segment)
        if isinstance(part, str) and wallet is None and (wallet := self.billed_in.get(row.customer_id)):
            subject = subject._replace(wallet=wallet)
            part = self._part(subject, row.segment)
        subscription = row.subscription_id if "subscription_id" in self.splits else None
        if isinstance(part, str):
            self._unpriced(row, subject, subscription, part).add(row)
            return
        key = (
            part.price.place,
            part.first,
            row.customer_id,
            row.metric_key,
            wallet if "wallet_currency" in self.splits else None,
            subscription,
            (row.price_key,) if "price_key" in self.splits else (),
            (row.product_id,) if "product_id" in self.splits else (),
            part.last,
        )
        line = self.lines.get(key)
        if line is None:
            self._check_number()
            line = self.lines[key] = Line(
                customer_id=row.customer_id,
                metric_key=row.metric_key,
                part=part,
                wallet=key[4],
                subscription_id=subscription,
            )
        line.add(row)
        group = (
            row.customer_id,
            row.product_id,
            row.metric_key,
            row.price_key,
            row.wallet_currency,
            subscription,
            row.segment,
        )
        self.groups[group] = key

    def _part(self, subject: Subject, segment: int) -> Part | str:
        if subject.customer_id not in self._own_prices:
            subject = subject._replace(customer_id=None)  # what applies to all customers is looked up once
        key = (subject, segment)
        if key not in self._parts:
            self._parts[key] = self.resolution.part(subject, segment, self.splits)
        return self._parts[key]

    def _unpriced(self, row: Any, subject: Subject, subscription: UUID | None, reason: str) -> Unpriced:
        key = (*subject, subscription, reason)
        if key not in self.unpriced:
            self._check_number()
            self.unpriced[key] = Unpriced(
                customer_id=row.customer_id,
                product_id=row.product_id,
                metric_key=row.metric_key,
                price_key=row.price_key,
                wallet=subject.wallet,
                subscription_id=subscription,
                reason=reason,
            )
        return self.unpriced[key]

    def _check_number(self) -> None:
        if len(self.lines) + len(self.unpriced) >= MAX_LINES:
            message = f"make more than {MAX_LINES:,} lines of the period's usage; filter by customer_id or metric_key"
            raise QueryError([Fault("prices", message)])

    def aggregate(
        self, connection: Connection, table: Table, period: Period, further: Sequence[ColumnElement[bool]]
    ) -> None:
        """Set the billable quantity of each line."""
        others: dict[str, list[tuple[Any, ...]]] = {}
        for key, line in self.lines.items():
            if line.part.price.aggregation == "sum":
                line.billable = line.quantity
            elif line.part.price.aggregation == "count":
                line.billable = Decimal(line.events)
            else:
                others.setdefault(line.part.price.aggregation, []).append(key)
        for aggregation, keys in others.items():
            numbers = {key: number for number, key in enumerate(keys)}
            groups = [(*group, numbers[key]) for group, key in self.groups.items() if key in numbers]
            query = _aggregated(table, period, self.resolution.cuts, aggregation, groups, self.splits, further)
            for number, value in connection.execute(query):
                self.lines[keys[number]].billable = Decimal(value)


_GROUP_COLUMNS = (
    ("customer_id", Uuid()),
    ("product_id", Uuid()),
    ("metric_key", Text()),
    ("price_key", Text()),
    ("wallet_currency", Text()),
    ("subscription_id", Uuid()),
)


def _aggregated(
    table: Table,
    period: Period,
    cuts: Sequence[datetime],
    aggregation: str,
    groups: Sequence[Group],
    splits: frozenset[str],
    further: Sequence[ColumnElement[bool]],
) -> Select[Any]:
    """The number of each line and its value by the aggregation, of the events in the line's groups."""
    c = table.c
    columns: list[tuple[str, Any]] = [*_GROUP_COLUMNS, ("segment", Integer()), ("line", Integer())]
    arrays = [array([group[index] for group in groups], type_) for index, (_, type_) in enumerate(columns)]
    names: list[Any] = [column(f"line_{name}", type_) for name, type_ in columns]
    given = func.unnest(*arrays).table_valued(*names, name="groups").render_derived()
    g = {name: given.c[f"line_{name}"] for name, _ in columns}
    joined = [_same(c[name], g[name], name) for name, _ in _GROUP_COLUMNS if name != "subscription_id"]
    if "subscription_id" in splits:
        joined.append(_same(c.subscription_id, g["subscription_id"], "subscription_id"))
    if len(cuts) > 2:
        joined.append(_segment(c.timestamp, cuts) == g["segment"])
    line = g["line"].label("line")
    events = select(line).select_from(table.join(given, and_(*joined))).where(*conditions(table, period), *further)
    if aggregation == "max":
        return events.add_columns(func.max(c.quantity)).group_by(line)
    if aggregation == "latest":
        last = (c.timestamp.desc(), c.ingested_at.desc(), c.id.desc())
        return events.add_columns(c.quantity).ext(distinct_on(line)).order_by(line, *last)
    value = expression(table, aggregation.removeprefix(UNIQUE)).label("value")
    different = events.add_columns(value).distinct().subquery()
    return select(different.c.line, func.count(different.c.value)).group_by(different.c.line)


def _same(one: ColumnElement[Any], other: ColumnElement[Any], name: str) -> ColumnElement[bool]:
    """Whether two values are the same, NULL included; equalities, which PostgreSQL can hash."""
    if name in ("customer_id", "metric_key"):
        return one == other
    blank: Any = literal(_NO_UUID, Uuid()) if name.endswith("_id") else literal("", Text())
    return and_(func.coalesce(one, blank) == func.coalesce(other, blank), one.is_(None) == other.is_(None))
