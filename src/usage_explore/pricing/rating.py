"""The expected amounts of a period: the answer to `Store.rate`."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from usage_explore.decimals import difference, plain, ratio, rfc3339, total
from usage_explore.errors import NotExact
from usage_explore.formatting import counted, zoned
from usage_explore.names import NO_NAMES, Names
from usage_explore.pricing.amounts import Amount, TierAmount, rate
from usage_explore.pricing.book import Price
from usage_explore.pricing.currencies import exact_money
from usage_explore.pricing.fields import prices_hash
from usage_explore.pricing.usage import Line, Rated, Unpriced
from usage_explore.query.describe import describe, period_document
from usage_explore.query.queries import Period
from usage_explore.results import frames
from usage_explore.results.whole_file import whole_file
from usage_explore.sql.later_arrivals import Unexamined

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, kw_only=True)
class RatedLine:
    """Usage of a customer's metric that one price covers in one part of the period, and its expected amount.

    `product_id` and `price_key` are those of the usage, None if it has several or none. `wallet_currency` is the wallet
    that the usage goes to, None if unknown. `since` and `until` bound the part, half-open. `quantity` is the sum of the
    events' quantities, `billable_quantity` that by the price's aggregation; `charged_quantity` is that after the
    included quantity. `tiers` made `exact_amount`, the amount before rounding; `amount` has the currency's decimals.
    """

    customer_id: UUID
    product_id: UUID | None
    metric_key: str
    price_key: str | None
    wallet_currency: str | None
    currency: str
    since: datetime
    until: datetime
    aggregation: str
    model: str
    events: int
    quantity: Decimal
    billable_quantity: Decimal
    charged_quantity: Decimal
    tiers: tuple[TierAmount, ...]
    exact_amount: Decimal
    amount: Decimal
    price: Price


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpricedUsage:
    """Usage without a price, and the reason. It has no amount, which is not an amount of 0."""

    customer_id: UUID
    product_id: UUID | None
    metric_key: str
    price_key: str | None
    wallet_currency: str | None
    events: int
    quantity: Decimal
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Margin:
    """Expected revenue beside external cost, of a customer's metric in one currency.

    `revenue` or `cost` is None if there is none in the currency. `margin` is revenue less cost, `margin_ratio` its part
    of the revenue (28 digits). Both are None unless all revenue and all cost of the customer's metric are in this one
    currency, and none of its usage lacks a price: amounts of different currencies are never set against each other.
    `events_with_cost` counts the events with a cost in the currency. `events` are all of the customer's metric, of
    which `unpriced_events` have no price and `events_without_cost` no cost in any currency: it counts as 0. These three
    are in the first row of a customer's metric and None in those of further currencies, so that sums are right.
    """

    customer_id: UUID
    metric_key: str
    currency: str | None
    revenue: Decimal | None
    cost: Decimal | None
    margin: Decimal | None
    margin_ratio: Decimal | None
    events_with_cost: int
    events: int | None
    unpriced_events: int | None
    events_without_cost: int | None


@dataclass(frozen=True, kw_only=True)
class Rating:
    """The expected amounts of a period, as known at its `as_of`.

    `lines` are ordered by customer, metric, price key, wallet and part, `unpriced` is the usage without a price,
    `margins` compare revenue with external cost. `source` names the price book, `prices_hash` is the hash of its
    prices, and `wallets` are the preferred currencies by customer, of None the organization's default. Events and
    quantities of `lines` and `unpriced` add up to the period's, metric by metric. `unexamined` counts the events
    of the period that arrived after `as_of` and are in neither, None where there are none. `exists_since` is the time
    of the first event if older ones were removed and the period begins before: amounts lack what was removed.
    """

    period: Period
    now: datetime = field(compare=False)
    source: str
    prices_hash: str
    wallets: Mapping[UUID | None, str] = field(repr=False)
    lines: tuple[RatedLine, ...]
    unpriced: tuple[UnpricedUsage, ...]
    margins: tuple[Margin, ...]
    names: Names = field(default=NO_NAMES, compare=False, repr=False)
    unexamined: Unexamined | None = field(default=None, compare=False)
    exists_since: datetime | None = field(default=None, compare=False)

    @cached_property
    def totals(self) -> Mapping[str, Decimal]:
        """The sum of the rounded amounts by currency."""
        amounts: dict[str, list[Decimal]] = {}
        for line in self.lines:
            amounts.setdefault(line.currency, []).append(line.amount)
        return {currency: total(values) for currency, values in sorted(amounts.items())}

    @property
    def events(self) -> int:
        """The events of the period."""
        return sum(line.events for line in self.lines) + self.unpriced_events

    @property
    def unpriced_events(self) -> int:
        """The events without a price."""
        return sum(usage.events for usage in self.unpriced)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per line.

        Columns: `customer_id`, `product_id`, `metric_key`, `price_key`, `wallet_currency`, `currency` (str, missing if
        None), `since`, `until` (datetime64[us, zone of the period]), `aggregation`, `model` (str), `events` (int64),
        `quantity`, `billable_quantity`, `charged_quantity`, `exact_amount`, `amount` (`Decimal`), `tiers` (list of
        dict: above, up_to, quantity, unit_amount, flat_amount, amount, packages). If an id has a name, `customer_name`
        (str) follows `customer_id`, likewise of products.
        """
        import pandas as pd

        texts = ("aggregation", "model", "currency")
        columns = _columns(self.lines, _LINE_COLUMNS, texts)
        for name in ("since", "until"):
            instants = pd.Series([getattr(line, name) for line in self.lines], dtype="datetime64[us, UTC]")
            columns[name] = instants.dt.tz_convert(self.period.zone)
        columns["tiers"] = pd.Series(
            [[_tier_values(tier) for tier in line.tiers] for line in self.lines], dtype="object"
        )
        return frames.with_names(pd.DataFrame(columns), self.names)

    def to_pandas(self) -> pd.DataFrame:
        """`frame`."""
        return self.frame

    @cached_property
    def unpriced_frame(self) -> pd.DataFrame:
        """One row per usage without a price.

        Columns: `customer_id`, `product_id`, `metric_key`, `price_key`, `wallet_currency` (str), `events` (int64),
        `quantity` (`Decimal`), `reason` (str); names as in `frame`.
        """
        import pandas as pd

        return frames.with_names(pd.DataFrame(_columns(self.unpriced, _UNPRICED_COLUMNS, ("reason",))), self.names)

    @cached_property
    def margin_frame(self) -> pd.DataFrame:
        """One row per customer, metric and currency.

        Columns: `customer_id`, `metric_key`, `currency` (str, missing for costs without one, and for usage with neither
        price nor cost), `revenue`, `cost`,
        `margin`, `margin_ratio` (`Decimal` or None), `events_with_cost` (int64), `events`, `unpriced_events`,
        `events_without_cost` (Int64, missing but in the first row of a customer's metric); see `Margin`. Sums of the
        events over all rows, and of revenue and cost over those of one currency, are right. Names as in `frame`.
        """
        import pandas as pd

        return frames.with_names(
            pd.DataFrame(_columns(self.margins, _MARGIN_COLUMNS, ("currency",), _ONCE)), self.names
        )

    def csv(self, *, escape_formulas: bool = False) -> bytes:
        """The content of `to_csv`."""
        columns: dict[str, Any] = {}
        for name in self.frame.columns:
            values = list(self.frame[name])
            if name in _DECIMALS:
                columns[name] = [plain(value) for value in values]
            elif name in ("since", "until"):
                columns[name] = [value.isoformat() for value in values]
            elif name == "tiers":
                columns[name] = [_tiers_text(line) for line in self.lines]
            else:
                columns[name] = self.frame[name]
        return frames.csv_bytes(columns, escape_formulas)

    def to_csv(self, path: Path | str, *, escape_formulas: bool = False) -> None:
        """Write `frame` to a CSV file with exact decimals, times as ISO 8601.

        `tiers` are text, `quantity x unit_amount + flat_amount = amount` joined by "; ". Usage without a price is
        not in it: see `unpriced_frame`. `escape_formulas` puts an apostrophe before text that a spreadsheet would run.
        Raises `ConfigurationError` for a path that cannot be written.
        """
        with whole_file(Path(path)) as part:
            part.write_bytes(self.csv(escape_formulas=escape_formulas))

    def to_dict(self) -> dict[str, Any]:
        """The rating as JSON carries it: decimals and times as text, ids with their names beside them."""
        return {
            **period_document(self.period, self.names.name("organization", self.period.organization_id)),
            "prices": self.source,
            "events": self.events,
            "exists_since": rfc3339(self.exists_since) if self.exists_since else None,
            "unexamined": self.unexamined.to_dict() if self.unexamined else None,
            "totals": [{"currency": currency, "amount": plain(amount)} for currency, amount in self.totals.items()],
            "lines": [
                self._row(line, _LINE_COLUMNS)
                | {
                    "since": rfc3339(line.since),
                    "until": rfc3339(line.until),
                    "tiers": [_json(_tier_values(tier)) for tier in line.tiers],
                }
                for line in self.lines
            ],
            "unpriced": [self._row(usage, _UNPRICED_COLUMNS) for usage in self.unpriced],
            "margins": [self._row(margin, _MARGIN_COLUMNS) for margin in self.margins],
        }

    def _row(self, item: Any, columns: Iterable[str]) -> dict[str, Any]:
        row = _json({name: getattr(item, name) for name in columns})
        row["customer_name"] = self.names.name("customer", item.customer_id)
        return row

    def __repr__(self) -> str:
        amounts = ", ".join(exact_money(amount, currency) for currency, amount in self.totals.items())
        without = f"; {counted(self.unpriced_events, 'event')} without a price" if self.unpriced else ""
        without += f"; {self.unexamined.events:,} more not rated" if self.unexamined else ""
        without += (
            f"; without removed events before {zoned(self.exists_since, self.period.zone)}" if self.exists_since else ""
        )
        period = self.names.in_text(describe(self.period))
        return f"<Rating: {amounts or 'no amount'} on {counted(len(self.lines), 'line')}{without}; {period}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{self.frame.to_html(max_rows=30)}"


_IDS = ("customer_id", "product_id")
_TEXTS = ("metric_key", "price_key", "wallet_currency")
_LINE_COLUMNS = (
    *("customer_id", "product_id", "metric_key", "price_key", "wallet_currency", "currency", "since", "until"),
    *("aggregation", "model", "events", "quantity", "billable_quantity", "charged_quantity", "exact_amount", "amount"),
)
_UNPRICED_COLUMNS = (*_IDS, *_TEXTS, "events", "quantity", "reason")
_MARGIN_COLUMNS = (
    *("customer_id", "metric_key", "currency", "revenue", "cost", "margin", "margin_ratio"),
    *("events_with_cost", "events", "unpriced_events", "events_without_cost"),
)
_ONCE = ("events", "unpriced_events", "events_without_cost")
_DECIMALS = ("quantity", "billable_quantity", "charged_quantity", "exact_amount", "amount")


def rating(
    rated: Rated, period: Period, now: datetime, wallets: Mapping[UUID | None, str], names: Names = NO_NAMES
) -> Rating:
    """The rating of a period's usage by preferred currencies.

    Raises `NotExact` if a quantity or a cost is NaN or infinite.
    """
    usage = (*rated.lines, *rated.unpriced)
    numbers = [item.quantity for item in usage] + [line.billable for line in rated.lines]
    numbers += [cost.amount for cost in rated.costs.values()]
    if not all(number.is_finite() for number in numbers):
        raise NotExact.not_finite()
    lines = sorted((_line(line) for line in rated.lines), key=_order)
    unpriced = sorted((_unpriced(item) for item in rated.unpriced), key=_order)
    return Rating(
        period=period,
        now=now,
        source=rated.resolution.book.source,
        prices_hash=prices_hash(rated.resolution.book.prices),
        wallets=wallets,
        lines=tuple(lines),
        unpriced=tuple(unpriced),
        margins=tuple(_margins(rated, lines, unpriced)),
        names=names,
    )


def _order(item: RatedLine | UnpricedUsage) -> tuple[Any, ...]:
    texts = (item.metric_key, item.price_key or "", item.wallet_currency or "", str(item.product_id or ""))
    rest = (item.since, item.price.place) if isinstance(item, RatedLine) else (item.reason,)
    return str(item.customer_id), *texts, *rest


def only(values: set[Any]) -> Any:
    """The one value of a set, None of several."""
    return next(iter(values)) if len(values) == 1 else None


def _line(line: Line) -> RatedLine:
    price = line.part.price
    amount: Amount = rate(price, line.billable)
    return RatedLine(
        customer_id=line.customer_id,
        product_id=only(line.products),
        metric_key=line.metric_key,
        price_key=only(line.price_keys),
        wallet_currency=line.wallet,
        currency=price.currency,
        since=line.part.since,
        until=line.part.until,
        aggregation=price.aggregation,
        model=price.model,
        events=line.events,
        quantity=line.quantity,
        billable_quantity=line.billable,
        charged_quantity=amount.charged_quantity,
        tiers=amount.tiers,
        exact_amount=amount.exact,
        amount=amount.amount,
        price=price,
    )


def _unpriced(item: Unpriced) -> UnpricedUsage:
    return UnpricedUsage(
        customer_id=item.customer_id,
        product_id=item.product_id,
        metric_key=item.metric_key,
        price_key=item.price_key,
        wallet_currency=item.wallet,
        events=item.events,
        quantity=item.quantity,
        reason=item.reason,
    )


@dataclass(slots=True)
class _Sums:
    """Revenue and cost of a customer's metric by currency, and its events."""

    revenue: dict[str, list[Decimal]] = field(default_factory=dict)
    cost: dict[str | None, Decimal] = field(default_factory=dict)
    costed: dict[str | None, int] = field(default_factory=dict)
    events: int = 0
    unpriced: int = 0


def _margins(rated: Rated, lines: list[RatedLine], unpriced: list[UnpricedUsage]) -> Iterable[Margin]:
    sums: dict[tuple[str, str], _Sums] = {}
    customers: dict[str, UUID] = {}

    def of(customer_id: UUID, metric: str) -> _Sums:
        customers[str(customer_id)] = customer_id
        return sums.setdefault((str(customer_id), metric), _Sums())

    for line in lines:
        own = of(line.customer_id, line.metric_key)
        own.revenue.setdefault(line.currency, []).append(line.amount)
        own.events += line.events
    for item in unpriced:
        own = of(item.customer_id, item.metric_key)
        own.events, own.unpriced = own.events + item.events, own.unpriced + item.events
    for (customer_id, metric, code), costs in rated.costs.items():
        own = of(customer_id, metric)
        own.cost[code] = costs.amount
        own.costed[code] = costs.events
    for (customer, metric), own in sorted(sums.items()):
        currencies: set[str | None] = {*own.revenue, *own.cost} or {None}
        for place, currency in enumerate(sorted(currencies, key=lambda code: (code is None, code or ""))):
            revenue = total(own.revenue[currency]) if currency in own.revenue else None
            cost = own.cost.get(currency)
            margin = None
            if len(currencies) == 1 and revenue is not None and cost is not None and not own.unpriced:
                margin = Decimal(difference(revenue, cost))
            yield Margin(
                customer_id=customers[customer],
                metric_key=metric,
                currency=currency,
                revenue=revenue,
                cost=cost,
                margin=margin,
                margin_ratio=ratio(margin, revenue) if margin is not None and revenue else None,
                events_with_cost=own.costed.get(currency, 0),
                events=None if place else own.events,
                unpriced_events=None if place else own.unpriced,
                events_without_cost=None if place else own.events - sum(own.costed.values()),
            )


def _columns(
    items: Iterable[Any], names: Iterable[str], texts: Iterable[str], nullable: Collection[str] = ()
) -> dict[str, Any]:
    import pandas as pd

    items, columns = tuple(items), {}
    for name in names:
        values = [getattr(item, name) for item in items]
        if name in _IDS:
            columns[name] = pd.Series([value and str(value) for value in values], dtype="str")
        elif name in _TEXTS or name in texts:
            columns[name] = pd.Series(values, dtype="str")
        elif name.startswith("events") or name == "unpriced_events":
            columns[name] = pd.Series(values, dtype="Int64" if name in nullable else "int64")
        else:
            columns[name] = pd.Series(values, dtype="object")
    return columns


def _tier_values(tier: TierAmount) -> dict[str, Any]:
    return {
        "above": tier.above,
        "up_to": tier.up_to,
        "quantity": tier.quantity,
        "unit_amount": tier.unit_amount,
        "flat_amount": tier.flat_amount,
        "amount": tier.amount,
        "packages": tier.packages,
    }


def tier_text(tier: TierAmount) -> str:
    """The tier in words: `1000 x 0.1 = 100`, `3 packages x 5 + 2 = 17`."""
    units = plain(tier.quantity) if tier.packages is None else counted(tier.packages, "package")
    flat = f" + {plain(tier.flat_amount)}" if tier.flat_amount else ""
    return f"{units} x {plain(tier.unit_amount)}{flat} = {plain(tier.amount)}"


def _tiers_text(line: RatedLine) -> str:
    return "; ".join(map(tier_text, line.tiers))


def _json(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: plain(value)
        if isinstance(value, Decimal)
        else str(value)
        if isinstance(value, UUID)
        else rfc3339(value)
        if isinstance(value, datetime)
        else value
        for name, value in row.items()
    }
