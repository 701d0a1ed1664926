"""Expected quantities and amounts of the keys that invoice lines are compared by: the usage, rated by a price book.

A key's expected quantity is the billable quantity of its lines, added up; usage without a price counts by its sum.
Amounts are compared in each currency. A key with usage without a price has no expected amount.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import ColumnElement, Uuid, any_, exists

from usage_explore.decimals import difference, total
from usage_explore.formatting import counted
from usage_explore.pricing.amounts import rate
from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.currencies import exact_sums, scale
from usage_explore.pricing.rating import only
from usage_explore.pricing.usage import SPLITS, Line, Rated, Unpriced, pinned, rated_usage
from usage_explore.query.queries import Period
from usage_explore.sql.filters import array
from usage_explore.validation.check import Examination, added_amounts
from usage_explore.validation.reconciliation.compare import (
    BOTH,
    DUPLICATES,
    LATE,
    DuplicateUsage,
    Key,
    Row,
    Usage,
    compared_row,
    known_at,
    superfluous_ids,
)
from usage_explore.validation.reconciliation.invoices import InvoiceLine


@dataclass(slots=True)
class Expected:
    """What a key should be billed.

    `quantity` is the billable one, `charged` that after included quantities, `packages` the number of packages, None
    unless all its lines are of package prices. `amounts` are rounded, `exact` are not, both by currency; `unpriced` are
    the events without a price.
    """

    quantity: Decimal = Decimal(0)
    charged: Decimal = Decimal(0)
    packages: int | None = 0
    amounts: dict[str, Decimal] = field(default_factory=dict)
    exact: dict[str, Decimal] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)
    unpriced: int = 0
    left: list[Unpriced] = field(default_factory=list)

    @property
    def is_priced(self) -> bool:
        """Whether all its usage has a price, so that its amount is known."""
        return bool(self.lines) and not self.unpriced and self.quantity.is_finite()

    @property
    def counts_events(self) -> bool | None:
        """Whether its quantity is the number of events; False if it is their sum, None if it is neither."""
        kinds = {line.part.price.aggregation for line in self.lines}
        if self.unpriced or len(kinds) != 1:
            return None if self.lines else False
        return {"sum": False, "count": True}.get(kinds.pop())

    @property
    def quantities(self) -> tuple[Decimal, ...]:
        """The quantities that an invoice may show for it."""
        packages = () if self.packages is None or not self.is_priced else (Decimal(self.packages),)
        return (self.quantity, self.charged, *packages)

    def smallest(self, currency: str) -> Decimal:
        """One unit of the last decimal of amounts in a currency: 0.01 for USD, 1 for JPY or a price with scale 0."""
        prices = (line.part.price for line in self.lines)
        of_code = scale(currency) or 0  # of an amount that was signed by another price
        return Decimal(1).scaleb(-min((price.scale for price in prices if price.currency == currency), default=of_code))

    def add(self, line: Line) -> None:
        """Add a line with its amount."""
        self.lines.append(line)
        self.quantity = total((self.quantity, line.billable))
        price = line.part.price
        if not line.billable.is_finite():
            self.charged = total((self.charged, line.billable))
            return
        amount = rate(price, line.billable)
        self.charged = total((self.charged, amount.charged_quantity))
        self.amounts[price.currency] = total((self.amounts.get(price.currency, Decimal(0)), amount.amount))
        self.exact[price.currency] = total((self.exact.get(price.currency, Decimal(0)), amount.exact))
        if price.model != "package":
            self.packages = None
        elif self.packages is not None:
            self.packages += sum(tier.packages or 0 for tier in amount.tiers)

    def leave(self, usage: Unpriced) -> None:
        """Add usage without a price."""
        self.quantity = total((self.quantity, usage.quantity))
        self.charged = total((self.charged, usage.quantity))
        self.packages = None
        self.unpriced += usage.events
        self.left.append(usage)

    def by_currency(self) -> dict[str | None, Expected]:
        """Its lines by the currency of their price, and under None the usage without a price."""
        parts: dict[str | None, Expected] = {}
        for line in self.lines:
            parts.setdefault(line.part.price.currency, Expected()).add(line)
        for usage in self.left:
            parts.setdefault(None, Expected()).leave(usage)
        return parts

    @property
    def events(self) -> int:
        """The number of events."""
        return sum(line.events for line in self.lines) + self.unpriced

    @property
    def has_two_units(self) -> bool:
        """Whether its quantity adds such as the users of one currency's price to the sum of another one's."""
        units = {line.part.price.aggregation for line in self.lines} | ({"sum"} if self.left else set())
        return len(units) > 1 and len(self.by_currency()) > 1


def invoiced_amounts(row: Row, expected: Expected) -> dict[str, Decimal] | None:
    """The lines' amounts by currency; None if one has no amount. Without a currency it is the only expected one."""
    is_known = len(expected.amounts) == 1 or all(line.currency for line in row.lines)
    return known_amounts(row, expected) if is_known and all(line.amount is not None for line in row.lines) else None


def known_amounts(row: Row, expected: Expected) -> dict[str, Decimal]:
    """The amounts by currency of the lines that have one, as `invoiced_amounts`."""
    only = next(iter(expected.amounts)) if len(expected.amounts) == 1 else None
    given = ((line.currency or only, line.amount) for line in row.lines)
    return added_amounts([[(code, paid) for code, paid in given if code is not None and paid is not None]])


def compared_amounts(row: Row, expected: Expected) -> dict[str, Decimal] | None:
    """The lines' amounts in the currencies in which one is expected, whatever others they have.

    None if a line has no amount, or all have other currencies: the findings of currencies name these.
    """
    amounts = invoiced_amounts(row, expected)
    compared = {currency: amount for currency, amount in (amounts or {}).items() if currency in expected.amounts}
    return None if amounts is None or (amounts and not compared) else compared


def expected_words(rows: Iterable[Row]) -> str:
    """What rows should be billed: `for which 12.50 USD and 3 JPY is expected`; "" where no amount is known."""
    amounts: dict[str, list[Decimal]] = {}
    unknown = 0
    for row in rows:
        if row.expected is None or not row.expected.is_priced:
            unknown += 1
        for currency, amount in row.expected.amounts.items() if row.expected else ():
            amounts.setdefault(currency, []).append(amount)
    without = f", and more for {counted(unknown, 'total')} without a price" if unknown else ""
    sums = exact_sums({currency: total(values) for currency, values in amounts.items()})
    return f"for which {sums} is expected{without}" if sums else ""


def by_key(rated: Rated, columns: tuple[str, ...]) -> dict[Key, Expected]:
    """The expected quantities and amounts of each customer and value of the columns."""
    keys: dict[Key, Expected] = {}

    def of(item: Line | Unpriced) -> Expected:
        values = {
            "subscription_id": item.subscription_id,
            "metric_key": item.metric_key,
            "price_key": item.price_key if isinstance(item, Unpriced) else only(item.price_keys),
            "wallet_currency": item.wallet,
        }
        return keys.setdefault((item.customer_id, *(values[name] for name in columns)), Expected())

    for line in rated.lines:
        of(line).add(line)
    for usage in rated.unpriced:
        of(usage).leave(usage)
    for expected in keys.values():
        expected.lines.sort(key=_order)
    return keys


def _order(line: Line) -> tuple[object, ...]:
    """Lines of a key by price, part, and what they are split by: the database promises no order."""
    part, prices = line.part, sorted(key or "" for key in line.price_keys)
    return (
        part.price.place,
        part.first,
        part.last,
        line.metric_key,
        line.wallet or "",
        str(line.subscription_id),
        prices,
    )


def billed_in(lines: Iterable[InvoiceLine]) -> dict[UUID, str]:
    """The currency of the lines of each customer whose lines with a currency have only one."""
    currencies: dict[UUID, set[str]] = {}
    for line in lines:
        if line.currency is not None:
            currencies.setdefault(line.customer_id, set()).add(line.currency)
    return {customer: next(iter(codes)) for customer, codes in currencies.items() if len(codes) == 1}


@dataclass(frozen=True)
class PricedUsage:
    """The usage of an examination as a price book rates it, by wallet and the columns of the invoices.

    Each wallet's usage is rated apart, as `Store.rate` does, also where lines name no wallets: these have the sum.
    Where lines name no wallets, usage of which neither an event nor a preference says the wallet goes to the currency
    of its customer's lines, if they have one: `billed_in`.
    """

    examination: Examination
    book: PriceBook
    columns: tuple[str, ...]
    billed_in: Mapping[UUID, str]
    is_by_wallet: bool = True

    def rated(self, period: Period | None = None, further: Sequence[ColumnElement[bool]] = ()) -> Rated:
        """The lines of the period, or of another one."""
        return rated_usage(
            self.examination.connection,
            self.examination.table,
            period or self.examination.period,
            self.book,
            wallet=self.known_wallet,
            split={*(["wallet_currency"] if self.is_by_wallet else []), *(n for n in self.columns if n in SPLITS)},
            billed_in={} if "wallet_currency" in self.columns else self.billed_in,
            further=further,
        )

    def known_wallet(self, customer_id: UUID, named: str | None) -> str | None:
        """The wallet that usage of a customer goes to, by the event or the customer's preference."""
        preferences = self.examination.inputs.preferences
        return (pinned if preferences is None else preferences.destination)(customer_id, named)

    def wallet(self, customer_id: UUID, named: str | None) -> str | None:
        """The wallet that usage of a customer goes to, also by the currency of its lines."""
        known = self.known_wallet(customer_id, named)
        return known if "wallet_currency" in self.columns else known or self.billed_in.get(customer_id)

    def at_finalization(self) -> Rated:
        """The lines of what had arrived at finalization."""
        return self.rated(self._early())

    def once(self, customers: set[UUID], *, early: bool) -> Rated:
        """The lines of some customers with each idempotency key counted once; `early` at finalization."""
        c = self.examination.table.c
        copies = superfluous_ids(self.examination.table, self.examination.period, customers).subquery("superfluous")
        is_copy = exists().where(copies.c.id == c.id)  # an anti-join; NOT IN of many ids would be a nested loop
        return self.rated(self._early() if early else None, (self._is_of(customers), ~is_copy))

    def general(self, customers: set[UUID]) -> Rated:
        """The lines of some customers without the prices of their own."""
        prices = tuple(price for price in self.book.prices if price.customer_id is None)
        return replace(self, book=replace(self.book, prices=prices)).rated(further=(self._is_of(customers),))

    def together(self, customers: set[UUID]) -> Rated:
        """The lines of some customers with the usage of all their wallets in one."""
        return replace(self, is_by_wallet=False).rated(further=(self._is_of(customers),))

    def moved(self, since: datetime, until: datetime, customers: set[UUID], timezone: str | None = None) -> Rated:
        """The lines of some customers in another period, of what had arrived at finalization.

        With a `timezone` the prices change at its midnights.
        """
        moved = self._early().replace(since=since, until=until, finalized_at=None)
        moved = moved.replace(timezone=timezone or moved.timezone)
        return self.rated(moved, (self._is_of(customers),))

    def _is_of(self, customers: set[UUID]) -> ColumnElement[bool]:
        return self.examination.table.c.customer_id == any_(array(sorted(customers), Uuid()))

    def _early(self) -> Period:
        period = self.examination.period
        return period.replace(as_of=known_at(period))


def adopt(usage: Mapping[Key, Usage], expected: Mapping[Key, Expected], early: Mapping[Key, Expected] | None) -> None:
    """Set the quantities of usage to the billable ones, and its late part to what late events add to them."""
    for key, used in usage.items():
        used.quantity = expected[key].quantity if key in expected else used.quantity
        if early is not None and used.late_events:
            known = early[key].quantity if key in early else Decimal(0)
            used.late = total((used.quantity, known.copy_negate()))


def accept_other_quantity(row: Row, tolerance: Decimal) -> None:
    """Match a line that shows the quantity after the included one, or the number of packages."""
    if row.expected is None or row.status not in ("over-billed", "under-billed"):
        return
    for quantity in row.expected.quantities:
        off = Decimal(difference(row.invoiced or Decimal(0), quantity))
        if off.copy_abs() <= tolerance:
            row.status, row.difference = "matched", off


def by_unit(
    rows: Iterable[Row],
    early: Mapping[Key, Expected] | None,
    wallet: Callable[[UUID, str | None], str | None],
    tolerance: Decimal,
) -> Iterator[Row]:
    """The rows; one whose currencies have other units is a row for each currency, and one for usage without a price.

    A line without a currency is of the part that has its quantity, else of the one without a price, else of the first.
    """
    for row in rows:
        if row.usage is None or row.expected is None or not row.expected.has_two_units:
            yield row
            continue
        parts = row.expected.by_currency()
        known = early[row.key].by_currency() if early is not None and row.key in early else {}
        lines: dict[str | None, list[InvoiceLine]] = {currency: [] for currency in parts}
        for line in row.lines:
            same = [currency for currency, part in parts.items() if line.quantity in part.quantities]
            currency = (line.currency or "").upper() or (same or [None])[0]
            lines[currency if currency in parts else min(parts, key=lambda code: (code is not None, code or ""))] += [
                line
            ]
        for currency, part in parts.items():
            # usage of an unknown wallet may have a price, too
            wallets = {(usage.wallet or "").upper() for usage in part.left} if currency is None else {currency, ""}
            names = {name for name in row.usage.wallets if (wallet(row.key[0], name) or "").upper() in wallets}
            named = frozenset(names or row.usage.wallets)
            used = Usage(part.events, part.quantity, wallets={*named})
            if early is not None:
                before = known.get(currency, Expected())
                used.late_events = used.events - before.events
                used.late = total((used.quantity, before.quantity.copy_negate()))
            split = compared_row(row.key, lines[currency], used, tolerance)
            split.expected, split.wallets = part, named
            yield split


def of_part(row: Row, expected: Expected) -> Expected:
    """What is expected of the part of a key that a row is of."""
    if row.wallets is None or row.expected is None:
        return expected
    lines = row.expected.lines
    return expected.by_currency().get(lines[0].part.price.currency if lines else None, Expected())


def explain(
    rows: Iterable[Row],
    alternatives: Mapping[str, Mapping[Key, Expected]],
    duplicates: Mapping[Key, DuplicateUsage],
    matches: Callable[[Row, Expected], bool],
) -> None:
    """Set `explained_by` of the open rows that match an alternative: late events, duplicates, or both."""
    for row in rows:
        if row.usage is None or not row.is_open:
            continue
        duplicate = duplicates.get(row.key, DuplicateUsage())
        row.duplicate_events, row.early_duplicate_events = duplicate.events, duplicate.early_events
        late, repeated = bool(row.usage.late_events), bool(duplicate.events)
        for cause, applies in ((LATE, late), (DUPLICATES, repeated), (BOTH, late and repeated)):
            if (
                applies
                and cause in alternatives
                and matches(row, of_part(row, alternatives[cause].get(row.key, Expected())))
            ):
                row.explained_by = cause
                break
