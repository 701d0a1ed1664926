"""Invoice lines against recomputed usage, key by key, in exact decimals: what matches, what does not, and why.

A key is a customer and the value of each of the lines' `Invoices.columns`. Pure: the usage is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import MAX_PREC, Context, Decimal
from fractions import Fraction
from typing import Any, Literal

from usage_explore.decimals import exact_sum
from usage_explore.query import buckets
from usage_explore.query.filters import ID_COLUMNS, TEXT_COLUMNS
from usage_explore.query.queries import Period
from usage_explore.validation.reconciliation.invoices import InvoiceLine, PeriodEdge

Key = tuple[Any, ...]
Status = Literal["missing", "extra", "over-billed", "under-billed", "not comparable", "matched"]

STATUSES: dict[Status, str] = {
    "missing": "usage without a line",
    "extra": "a line without usage",
    "over-billed": "more invoiced than used",
    "under-billed": "less invoiced than used",
    "not comparable": "usage that holds NaN or infinite quantities has no exact sum",
    "matched": "the difference is within the tolerance; 0 invoiced and nothing used match too",
}
"""What each status means, in the order of the sheet."""

LATE, REPEATED = "late events", "duplicates"
BOTH = f"{LATE} and {REPEATED}"

DECIMALS = 12
"""To how many decimals an amount is rounded, half to even, that a decimal cannot hold exactly."""

_EXACT = Context(prec=MAX_PREC)
_LONGEST = 60


@dataclass(slots=True)
class Used:
    """The usage of a key: all of it, and what of it was late; `wallets` are those its events name."""

    events: int = 0
    quantity: Decimal = Decimal(0)
    late_events: int = 0
    late: Decimal = Decimal(0)
    wallets: set[str | None] = field(default_factory=set)

    def add(self, events: int, quantity: Decimal, late_events: int, late: Decimal, wallet: str | None) -> None:
        """Take in usage of the same key."""
        self.events += events
        self.quantity = total(self.quantity, quantity)
        self.late_events += late_events
        self.late = total(self.late, late)
        self.wallets.add(wallet)


@dataclass(frozen=True, slots=True)
class Repeats:
    """The superfluous events of a key, and those of them that were not late."""

    events: int = 0
    quantity: Decimal = Decimal(0)
    early_events: int = 0
    early: Decimal = Decimal(0)

    def and_more(self, events: int, quantity: Decimal, early_events: int, early: Decimal) -> Repeats:
        """These and others of the same key."""
        return Repeats(
            self.events + events,
            total(self.quantity, quantity),
            self.early_events + early_events,
            total(self.early, early),
        )


@dataclass(slots=True)
class Row:
    """A key compared. `lines` bill it, `used` is None where nothing was; `explained_by` says what accounts for it.

    `worth` is the difference at the lines' unit price, `currency` what they charge in; None where that is not known.
    """

    key: Key
    lines: list[InvoiceLine]
    used: Used | None
    status: Status
    difference: Decimal
    explained_by: str = ""
    repeated_events: int = 0
    early_repeated_events: int = 0
    worth: Decimal | None = None
    currency: str | None = None

    @property
    def invoiced(self) -> Decimal | None:
        """The quantity of all lines together, None without any."""
        return total(*(line.quantity for line in self.lines)) if self.lines else None

    @property
    def recomputed(self) -> Decimal | None:
        """The quantity of the usage, None without any."""
        return self.used.quantity if self.used else None

    @property
    def events(self) -> int:
        """How many events were used."""
        return self.used.events if self.used else 0

    @property
    def may_be_explained(self) -> bool:
        """Whether it differs, nothing accounts for that yet, and there is usage that could."""
        return self.used is not None and not self.explained_by and self.status not in ("matched", "not comparable")

    @property
    def amount(self) -> Decimal | None:
        """What all lines charge together, None where one does not say or they have several currencies."""
        amounts = [line.amount for line in self.lines if line.amount is not None]
        if not amounts or len(amounts) < len(self.lines) or len({line.currency for line in self.lines}) > 1:
            return None
        return total(*amounts)


def total(*values: Decimal) -> Decimal:
    """The exact sum."""
    return Decimal(exact_sum(values, Decimal(0)))


def decimal(value: Fraction) -> Decimal:
    """The fraction to the last digit where it has at most 60 decimals, else rounded to `DECIMALS`."""
    denominator, twos, fives = value.denominator, 0, 0
    while denominator % 2 == 0:
        denominator, twos = denominator // 2, twos + 1
    while denominator % 5 == 0:
        denominator, fives = denominator // 5, fives + 1
    places = max(twos, fives)
    if denominator != 1 or places > _LONGEST:
        return decimal(round(value, DECIMALS))
    return _EXACT.scaleb(Decimal(value.numerator * 10**places // value.denominator), -places)


def compare(
    lines: Iterable[InvoiceLine], usage: Mapping[Key, Used], key: Callable[[InvoiceLine], Key], tolerance: Decimal
) -> list[Row]:
    """Every key of either side, in no promised order."""
    billed: dict[Key, list[InvoiceLine]] = {each: [] for each in usage}
    for line in lines:
        billed.setdefault(key(line), []).append(line)
    return [_row(each, held, usage.get(each), tolerance) for each, held in billed.items()]


def _row(key: Key, lines: list[InvoiceLine], used: Used | None, tolerance: Decimal) -> Row:
    invoiced = total(*(line.quantity for line in lines))
    if used is not None and not used.quantity.is_finite():
        return Row(key, lines, used, "not comparable", Decimal("NaN"))
    difference = total(invoiced, used.quantity.copy_negate()) if used else invoiced
    return Row(key, lines, used, _status(lines, used, difference, tolerance), difference)


def _status(lines: list[InvoiceLine], used: Used | None, difference: Decimal, tolerance: Decimal) -> Status:
    if difference.copy_abs() <= tolerance:
        return "matched"
    if not lines:
        return "missing"
    if used is None:
        return "extra"
    return "over-billed" if difference > 0 else "under-billed"


def explain(rows: Iterable[Row], repeats: Mapping[Key, Repeats], tolerance: Decimal) -> None:
    """Say of each difference whether late events, duplicates, or both together account for it.

    An invoice that leaves out what arrived after finalization is less by exactly that, one that counts each idempotency
    key once by exactly the superfluous events. Nothing less than the whole difference, within the tolerance, explains.
    """
    for row in rows:
        if row.used is None or not row.may_be_explained:
            continue
        found = repeats.get(row.key, Repeats())
        row.repeated_events, row.early_repeated_events = found.events, found.early_events
        late, repeated = bool(row.used.late_events), bool(found.events)
        causes = (
            (LATE, late, row.used.late),
            (REPEATED, repeated, found.quantity),
            (BOTH, late and repeated, total(row.used.late, found.early)),
        )
        for name, is_there, quantity in causes:
            if is_there and total(row.difference, quantity).copy_abs() <= tolerance:
                row.explained_by = name
                break


def value(rows: Iterable[Row], item: Callable[[Key], str | None]) -> None:
    """Say of each difference what it is worth: at its own lines' amount by quantity.

    Where there is no line, at the unit price that all lines of its `item` have; none where those have several.
    """
    known: dict[str | None, set[tuple[str | None, Fraction]]] = {}
    unpriced = []
    for row in rows:
        amount, invoiced = row.amount, row.invoiced
        if amount is not None:
            row.currency = row.lines[0].currency
        if amount is not None and invoiced:
            price = Fraction(amount) / Fraction(invoiced)
            known.setdefault(item(row.key), set()).add((row.currency, price))
            if row.difference.is_finite():
                row.worth = decimal(price * Fraction(row.difference))
        elif row.status == "missing":
            unpriced.append(row)
    for row in unpriced:
        prices = known.get(item(row.key), set())
        if len(prices) == 1:
            ((row.currency, price),) = prices
            row.worth = decimal(price * Fraction(row.difference))


def placed(line: InvoiceLine, period: Period) -> Literal["inside", "outside", "across"]:
    """Where a line's period lies; one without a period is of the validated one.

    Its dates are midnights of the period's zone. An end that is a date and the same as its start is that one day.
    """
    if line.period_start is None or line.period_end is None:
        return "inside"
    since, until = period.span
    start, end = _instant(line.period_start, period), _instant(line.period_end, period)
    if start == end:
        end = _instant(line.period_end + timedelta(days=1), period)
    if start >= until or end <= since:
        return "outside"
    return "inside" if start >= since and end <= until else "across"


def passes(line: InvoiceLine, period: Period) -> bool:
    """Whether a line passes the period's filters, all of which name what lines have."""
    for name in ID_COLUMNS:
        if (wanted := getattr(period, name)) is not None and getattr(line, name) != wanted:
            return False
    for name in TEXT_COLUMNS:
        if (texts := getattr(period, name)) and getattr(line, name) not in texts:
            return False
    if any(getattr(line, group) is not None for group in period.missing):
        return False
    for name, values in period.exclude:
        if name == "missing":
            if any(getattr(line, group) is None for group in values):
                return False
        elif getattr(line, name) is not None and str(getattr(line, name)) in values:
            return False
    return True


def _instant(moment: PeriodEdge, period: Period) -> datetime:
    return moment if isinstance(moment, datetime) else buckets.day_start(moment, period.zone)
