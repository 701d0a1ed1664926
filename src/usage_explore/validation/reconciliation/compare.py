"""Invoice lines compared with recomputed usage, total by total, in exact decimals.

The key of a total is a customer and the values of `Invoices.columns`. SQL sums the usage and its duplicates by key; all
else is pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, get_args
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, DateTime, Integer, Select, Table, Uuid, and_, any_, func, literal, select

from usage_explore.decimals import difference, total
from usage_explore.errors import Fault, QueryError
from usage_explore.pricing.currencies import exact_money
from usage_explore.query.queries import Period
from usage_explore.query.validators import LATEST
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.check import Examination, added_amounts
from usage_explore.validation.checks.duplicates import KEY_MARGIN
from usage_explore.validation.periods import earlier, surroundings
from usage_explore.validation.reconciliation.invoices import InvoiceLine

if TYPE_CHECKING:
    from usage_explore.validation.reconciliation.causes import Cause
    from usage_explore.validation.reconciliation.expected import Expected

Key = tuple[Any, ...]
Status = Literal[
    "missing",
    "extra",
    "over-billed",
    "under-billed",
    "wrong amount",
    "wrong currency",
    "not comparable",
    "no price",
    "matched",
]

QUARTER = timedelta(minutes=15)
"""The unit of time in which a period's ends may be moved: all time zones of today differ by multiples of it."""

STATUSES: tuple[Status, ...] = get_args(Status)
"""In the order of the sheet: usage without a line, a line without usage, more invoiced than used, less, the right
quantity at another amount than expected, or in another currency, usage that has NaN or infinite quantities, usage
without a price, a difference within the tolerance (0 invoiced without usage matches too, unless it is charged)."""

QUANTITY_STATUSES: tuple[Status, ...] = ("missing", "extra", "over-billed", "under-billed")
"""Statuses of rows whose quantity differs."""

LATE, DUPLICATES = "late events", "duplicates"
BOTH = f"{LATE} and {DUPLICATES}"

MAX_KEYS = 250_000
"""Totals of usage in the period."""

_MAX_NAMED_CUSTOMERS = 1_000
"""Customers that the statement for duplicates names; beyond, it reads all customers' events."""


@dataclass(slots=True)
class Usage:
    """The usage of a key, its late part, and the wallets that its events name."""

    events: int = 0
    quantity: Decimal = Decimal(0)
    late_events: int = 0
    late: Decimal = Decimal(0)
    wallets: set[str | None] = field(default_factory=set)

    def add(self, row: Any, wallet: str | None) -> None:
        """Add a row of `statement`."""
        self.events += row.events
        self.quantity = total((self.quantity, row.quantity))
        self.late_events += row.late_events
        self.late = total((self.late, row.late or Decimal(0)))
        self.wallets.add(wallet)


@dataclass(slots=True)
class DuplicateUsage:
    """The superfluous events of a key, and the part of them that arrived before finalization."""

    events: int = 0
    quantity: Decimal = Decimal(0)
    early_events: int = 0
    early: Decimal = Decimal(0)

    def add(self, row: Any) -> None:
        """Add a row of the statement for duplicates."""
        self.events += row.events
        self.quantity = total((self.quantity, row.quantity))
        self.early_events += row.early_events
        self.early = total((self.early, row.early or Decimal(0)))


@dataclass(slots=True)
class Row:
    """A key compared: its `lines`, and its `usage`, None without events.

    `difference` is the invoiced less the used quantity, `explained_by` its cause, "" if unknown. `amount_difference` is
    the difference at the unit price of the lines in their `currency`; both None if unknown. With a price book
    `expected` is what the key should be billed, `amount_differences` the invoiced less the expected amounts by
    currency, and `amount_difference` the largest of them. `cause` says more of an explanation that is neither late
    events nor duplicates. `amount_fits` says of a wrong quantity without a price whether its amount fits
    the used or the invoiced one, at the unit price of other lines; "" if both, neither, or unknown. `wallets` are those
    that the events of a part of a key name, see `by_unit` of `expected`; None for a whole key. `is_estimate` says that
    `amount_difference` is rounded, as the amounts are that it follows from. `beyond` is the part of
    its amount differences that a row of its own has, by currency: what a line with the quantity of another period
    charges beyond the amount of that one. `of_period` of such a row is that period, whose usage it expects.
    `beside_changes` says what an unexplained difference has to do with usage that was changed, see `signed_causes`;
    `beside_sign_off` which of the changes since a sign-off any difference has, or lacks; `now` is the usage of now, if
    `usage` is that before these changes.
    """

    key: Key
    lines: list[InvoiceLine]
    usage: Usage | None
    status: Status
    difference: Decimal
    explained_by: str = ""
    duplicate_events: int = 0
    early_duplicate_events: int = 0
    amount_difference: Decimal | None = None
    currency: str | None = None
    expected: Expected | None = None
    amount_differences: Mapping[str, Decimal] = field(default_factory=dict)
    cause: Cause | None = None
    amount_fits: Literal["", "used", "invoiced"] = ""
    wallets: frozenset[str | None] | None = None
    is_estimate: bool = False
    beyond: Mapping[str, Decimal] = field(default_factory=dict)
    of_period: tuple[datetime, datetime] | None = None
    beside_changes: str = ""
    beside_sign_off: str = ""
    now: Usage | None = None

    @property
    def invoiced(self) -> Decimal | None:
        """The quantity of all lines, None without any."""
        return total(line.quantity for line in self.lines) if self.lines else None

    @property
    def recomputed(self) -> Decimal | None:
        """The quantity of the usage, None without any."""
        return self.usage.quantity if self.usage else None

    @property
    def events(self) -> int:
        """The number of events now, which a query shows."""
        used = self.now or self.usage
        return used.events if used else 0

    @property
    def is_open(self) -> bool:
        """Whether it differs, has usage that may explain that, and no explanation yet."""
        settled = ("matched", "no price", "not comparable")
        return self.usage is not None and not self.explained_by and self.status not in settled

    @property
    def amount(self) -> Decimal | None:
        """The amount of all lines; None if one has none, or they have several currencies."""
        amounts = [line.amount for line in self.lines if line.amount is not None]
        if not amounts or len(amounts) < len(self.lines) or len({line.currency for line in self.lines}) > 1:
            return None
        return total(amounts)


def statement(table: Table, period: Period, columns: Iterable[str] = ("metric_key",)) -> Select[Any]:
    """Usage of a resolved period by customer and the columns.

    Columns: `customer_id`, the given ones, `events` bigint, `quantity` numeric, and `late_events` bigint and `late`
    numeric: events that arrived after finalization and their quantity, 0 and NULL without any.
    """
    c = table.c
    keys = [c.customer_id, *(c[name] for name in columns)]
    return (
        select(
            *keys,
            func.count().label("events"),
            func.sum(c.quantity).label("quantity"),
            func.count().filter(_late(c.ingested_at, period)).label("late_events"),
            func.sum(c.quantity).filter(_late(c.ingested_at, period)).label("late"),
        )
        .where(*conditions(table, period))
        .group_by(*keys)
    )


def usage_by_key(examination: Examination, columns: tuple[str, ...]) -> dict[Key, Usage]:
    """The period's usage by key. Raises `QueryError` for more than 250,000 keys."""
    usage: dict[Key, Usage] = {}
    selected = tuple(dict.fromkeys((*columns, "wallet_currency")))
    for row in examination.rows(statement(examination.table, examination.period, selected)):
        key = key_of(examination, row, columns)
        if key not in usage and len(usage) == MAX_KEYS:
            message = f"tell apart more than {MAX_KEYS:,} totals of usage; validate by customer_id or metric_key"
            raise QueryError([Fault("invoices", message)])
        usage.setdefault(key, Usage()).add(row, row.wallet_currency)
    return usage


def duplicates_by_key(
    examination: Examination, columns: tuple[str, ...], customers: set[UUID]
) -> Mapping[Key, DuplicateUsage]:
    """The superfluous events of the customers in the period: of one idempotency key all but the first to arrive.

    The first one may have occurred before or after the period.
    """
    duplicates: dict[Key, DuplicateUsage] = {}
    if customers:
        for row in examination.rows(_duplicates(examination.table, examination.period, columns, customers)):
            duplicates.setdefault(key_of(examination, row, columns), DuplicateUsage()).add(row)
    return duplicates


def _duplicates(table: Table, period: Period, columns: tuple[str, ...], customers: set[UUID]) -> Select[Any]:
    r = _repeated(table, period, columns, customers).c
    keys = [r.customer_id, *(r[name] for name in columns)]
    return (
        select(
            *keys,
            func.count().label("events"),
            func.sum(r.quantity).label("quantity"),
            func.count().filter(~_late(r.ingested_at, period)).label("early_events"),
            func.sum(r.quantity).filter(~_late(r.ingested_at, period)).label("early"),
        )
        .where(r.arrival > 1, r.in_period)
        .group_by(*keys)
    )


def superfluous_ids(table: Table, period: Period, customers: set[UUID]) -> Select[Any]:
    """The ids of the superfluous events of the customers in the period, see `duplicates_by_key`."""
    r = _repeated(table, period, (), customers).c
    return select(r.id).where(r.arrival > 1, r.in_period)


def _repeated(table: Table, period: Period, columns: tuple[str, ...], customers: set[UUID]) -> CTE:
    """The customers' events near the period whose key occurs again, see `_ranked`."""
    c = table.c
    near = [*conditions(table, surroundings(period, KEY_MARGIN()))]
    if len(customers) <= _MAX_NAMED_CUSTOMERS:
        ids = array(sorted(customers), Uuid())
        near.append(c.customer_id == any_(ids))
    digest = func.hashtextextended(c.idempotency_key, literal(0, Integer))
    shared = select(c.customer_id, digest.label("digest")).where(*near).group_by(c.customer_id, digest)
    repeated = shared.having(func.count() > 1).cte("repeated")
    return _ranked(table, columns, near, and_(*conditions(table, period)), digest, repeated)


def _ranked(
    table: Table,
    columns: tuple[str, ...],
    near: list[ColumnElement[bool]],
    in_period: ColumnElement[bool],
    digest: ColumnElement[int],
    repeated: CTE,
) -> CTE:
    """The events whose key's hash occurs again, numbered by arrival within their key."""
    c = table.c
    arrival = func.row_number().over(
        partition_by=[c.customer_id, c.idempotency_key], order_by=[c.ingested_at, c.timestamp, c.id]
    )
    return (
        select(
            c.id,
            c.customer_id,
            *(c[name] for name in columns),
            c.quantity,
            c.ingested_at,
            in_period.label("in_period"),
            arrival.label("arrival"),
        )
        .join(repeated, and_(repeated.c.customer_id == c.customer_id, repeated.c.digest == digest))
        .where(*near)
        .cte("ranked")
    )


def _late(ingested_at: ColumnElement[Any], period: Period) -> ColumnElement[bool]:
    return literal(False) if period.finalized_at is None else ingested_at > period.finalized_at


def key_of(examination: Examination, row: Any, columns: tuple[str, ...]) -> Key:
    """The key of a row; its wallet is the one that the preferences send the usage to."""
    values = {name: getattr(row, name) for name in columns}
    if "wallet_currency" in values and examination.inputs.preferences is not None:
        values["wallet_currency"], _ = examination.inputs.preferences.wallet(row.customer_id, row.wallet_currency)
    return (row.customer_id, *values.values())


def known_at(period: Period) -> datetime | None:
    """The time as of which the invoice can know usage: of `as_of` and `finalized_at` the earlier, None without both."""
    return min((at for at in (period.as_of, period.finalized_at) if at is not None), default=None)


def at_ends_by_key(
    examination: Examination, columns: tuple[str, ...], customers: set[UUID], hours: int
) -> dict[Key, dict[tuple[str, int], tuple[int, Decimal]]]:
    """(events, quantity) of customers by key, and by end ("start", "end") of the period and quarter of an hour from it.

    Quarters go from `-4 * hours` to `4 * hours - 1`. As known at finalization, where that is given.
    """
    period, table = examination.period, examination.table
    c = table.c
    selected = tuple(dict.fromkeys((*columns, "wallet_currency")))
    usage: dict[Key, dict[tuple[str, int], tuple[int, Decimal]]] = {}
    for end, edge in zip(("start", "end"), period.span, strict=True):
        since, until = earlier(edge, timedelta(hours=hours)), min(edge + timedelta(hours=hours), LATEST)
        near = period.replace(since=since, until=until, finalized_at=None, as_of=known_at(period))
        passed = func.extract("epoch", c.timestamp - literal(edge, DateTime(timezone=True)))
        quarter = func.floor(passed / int(QUARTER.total_seconds())).cast(Integer).label("quarter")
        keys = [c.customer_id, *(c[name] for name in selected)]
        statement = (
            select(*keys, quarter, func.count().label("events"), func.sum(c.quantity).label("quantity"))
            .where(*conditions(table, near), c.customer_id == any_(array(sorted(customers), Uuid())))
            .group_by(*keys, quarter)
        )
        for row in examination.rows(statement):
            of_key = usage.setdefault(key_of(examination, row, columns), {})
            events, quantity = of_key.get((end, row.quarter), (0, Decimal(0)))
            of_key[end, row.quarter] = events + row.events, total((quantity, row.quantity))
    return usage


def largest_by_key(examination: Examination, columns: tuple[str, ...], customers: set[UUID]) -> dict[Key, Decimal]:
    """The largest quantity of an event of customers, by key; as known at finalization, where that is given."""
    period, c = examination.period, examination.table.c
    there = period.replace(finalized_at=None, as_of=known_at(period))
    keys = [c.customer_id, *(c[name] for name in dict.fromkeys((*columns, "wallet_currency")))]
    statement = (
        select(*keys, func.max(c.quantity).label("largest"))
        .where(*conditions(examination.table, there), c.customer_id == any_(array(sorted(customers), Uuid())))
        .group_by(*keys)
    )
    largest: dict[Key, Decimal] = {}
    for row in examination.rows(statement):
        key = key_of(examination, row, columns)
        largest[key] = max(row.largest, largest.get(key, row.largest))
    return largest


def compare(
    lines: Iterable[InvoiceLine], usage: Mapping[Key, Usage], key: Callable[[InvoiceLine], Key], tolerance: Decimal
) -> list[Row]:
    """A row for each key of lines or usage, in no promised order."""
    billed: dict[Key, list[InvoiceLine]] = {used: [] for used in usage}
    for line in lines:
        billed.setdefault(key(line), []).append(line)
    return [compared_row(key, lines_of_key, usage.get(key), tolerance) for key, lines_of_key in billed.items()]


def compared_row(key: Key, lines: list[InvoiceLine], usage: Usage | None, tolerance: Decimal) -> Row:
    """The row of a key, or of a part of it."""
    invoiced = total(line.quantity for line in lines)
    if usage is not None and not usage.quantity.is_finite():
        return Row(key, lines, usage, "not comparable", Decimal("NaN"))
    off = total((invoiced, usage.quantity.copy_negate())) if usage else invoiced
    return Row(key, lines, usage, _status(lines, usage, off, tolerance), off)


def _status(lines: list[InvoiceLine], usage: Usage | None, off: Decimal, tolerance: Decimal) -> Status:
    if off.copy_abs() <= tolerance:
        return "extra" if usage is None and _is_charged(lines) else "matched"
    if not lines:
        return "missing"
    if usage is None:
        return "extra"
    return "over-billed" if off > 0 else "under-billed"


def _is_charged(lines: Iterable[InvoiceLine]) -> bool:
    """Whether the amounts of lines come to anything in a currency: a charge and its reversal do not."""
    charged: dict[str | None, list[Decimal]] = {}
    for line in lines:
        if line.amount:
            charged.setdefault(line.currency, []).append(line.amount)
    return any(total(amounts) for amounts in charged.values())


def explain(rows: Iterable[Row], duplicates: Mapping[Key, DuplicateUsage], tolerance: Decimal) -> None:
    """Set `explained_by` of the rows whose whole difference, within the tolerance, late events or duplicates make up.

    An invoice without the events that arrived after finalization is too low by exactly their quantity; one that counts
    each idempotency key once, by exactly the quantity of the superfluous events.
    """
    for row in rows:
        if row.usage is None or not row.is_open:
            continue
        duplicate = duplicates.get(row.key, DuplicateUsage())
        row.duplicate_events, row.early_duplicate_events = duplicate.events, duplicate.early_events
        late, repeated = bool(row.usage.late_events), bool(duplicate.events)
        causes = (
            (LATE, late, row.usage.late),
            (DUPLICATES, repeated, duplicate.quantity),
            (BOTH, late and repeated, total((row.usage.late, duplicate.early))),
        )
        for cause, exists, quantity in causes:
            if exists and total((row.difference, quantity)).copy_abs() <= tolerance:
                row.explained_by = cause
                break


def price_or_metric(columns: tuple[str, ...], key: Key) -> str | None:
    """The price of a key, else its metric: the quantities of one have one unit, and may have one unit price."""
    values = dict(zip(columns, key[1:], strict=True))
    price: str | None = values.get("price_key")
    return values.get("metric_key") if price is None else price


def amounts_by_currency(rows: Iterable[Row], *, too_high: bool = False) -> tuple[tuple[str, Decimal], ...]:
    """The sum of the rows' unsigned amount differences by currency; of those alone that are `too_high`."""
    amounts: list[tuple[str, Decimal]] = []
    for row in rows:
        of_row = [*row.amount_differences.items()]
        if not of_row and row.amount_difference is not None and row.currency is not None:
            of_row = [(row.currency, row.amount_difference)]
        if row.beyond:
            of_row = [
                (currency, Decimal(difference(amount, row.beyond.get(currency, Decimal(0)))))
                for currency, amount in of_row
            ]
        amounts += [(currency, amount.copy_abs()) for currency, amount in of_row if amount > 0 or not too_high]
    return tuple(sorted((currency, amount) for currency, amount in added_amounts([amounts]).items() if amount))


def too_much_and_too_little(rows: Iterable[Row]) -> list[str]:
    """By how much rows are too high and too low, by currency: `12.50 EUR too much`, `about 3.00 EUR too little`."""
    rows = list(rows)
    estimated = {row.currency for row in rows if row.is_estimate}
    too_high = dict(amounts_by_currency(rows, too_high=True))
    words = []
    for currency, amount in amounts_by_currency(rows):
        much = too_high.get(currency, Decimal(0))
        sides = ((much, "too much"), (Decimal(difference(amount, much)), "too little"))
        about = "about " if currency in estimated else ""
        words += [f"{about}{exact_money(side, currency)} {which}" for side, which in sides if side]
    return words
