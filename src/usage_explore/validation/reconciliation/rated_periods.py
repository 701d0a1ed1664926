"""Lines that have the quantity of another period, where the price takes a maximum, the latest one or different values.

These are not the sum of hours, so that the usage of a moved period is rated as a whole: of each period that sums and
counts are of already (`moved_periods`), which explains every line that has exactly its quantity; else of a few periods,
a day earlier or later, or the period in UTC.

Such numbers are often small and alike: that 18 users instead of 17 are those of the day before is no evidence. The
differences that one period explains, each in units of its last decimal, are multiplied, and must come to
`MIN_EVIDENCE`; and it must explain most wrong lines, or most of a customer.

An invoice that is wholly of the period before, or of the month after, is recognized first, with a price book or without
(`adjacent_period_causes`).

In an invoice of another time zone's month prices change at the midnights of that zone, too: amounts of a right quantity
are rated anew by these (`price_zone_causes`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from functools import cached_property
from itertools import islice
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from usage_explore.decimals import exact_product
from usage_explore.formatting import date_and_time, listed
from usage_explore.pricing.book import PriceBook
from usage_explore.query import buckets
from usage_explore.query.queries import Period
from usage_explore.query.validators import EARLIEST, LATEST
from usage_explore.validation.check import Examination
from usage_explore.validation.periods import zone_names
from usage_explore.validation.reconciliation.amounts import compare_amounts
from usage_explore.validation.reconciliation.causes import (
    PRICE_CHANGE,
    Cause,
    Charge,
    Shift,
    amount_causes,
    is_rounding,
    set_cause,
    shifts,
)
from usage_explore.validation.reconciliation.compare import BOTH, DUPLICATES, LATE, QUANTITY_STATUSES, QUARTER, Key, Row
from usage_explore.validation.reconciliation.expected import Expected, PricedUsage, by_key, of_part
from usage_explore.validation.reconciliation.moved_periods import Recognized, in_utc, may_be_of_period, period_cause
from usage_explore.validation.reconciliation.recomputed_causes import MIN_EVIDENCE, off_by

_MAX_SEEDS = 5
"""Wrong amounts by which other zones' midnights are tried."""

_TRIED_ZONES = 10
"""How many times as much evidence that needs, as one of many zones gives a small difference by chance."""

_MAX_ALIKE = 8
"""Periods that explain the same sums, of which the one with the most of the other quantities is taken."""


KnownUsage = Callable[[datetime, datetime, set[UUID]], Mapping[Key, Expected]]
"""What some customers, or all, would be billed in another period, by key."""


def adjacent_period_causes(
    examination: Examination, known: KnownUsage, rows: Sequence[Row], matches: Callable[[Row, Expected], bool]
) -> list[Recognized]:
    """Set the cause of rows of an invoice that is wholly of the period before, or of the month after.

    Such a period is tried if most lines are wrong, and must explain most of these, beyond `MIN_EVIDENCE`.
    """
    wrong = [row for row in rows if row.status in QUANTITY_STATUSES and may_be_of_period(row)]
    billed = [row for row in wrong if row.lines]
    if 2 * len(billed) <= sum(bool(row.lines) for row in rows):
        return []
    rated = _Rated(examination, known, wrong, matches)
    for shift in _adjacent(examination.period):
        members = rated.fitting(shift, billed)
        if 2 * len(members) > len(billed) and exact_product(map(_evidence, members)) >= MIN_EVIDENCE():
            rated.set_causes(shift, members)
            return [rated.fitted(Recognized(shift, None, members), rows)]
    return []


def rated_period_causes(
    examination: Examination,
    known: KnownUsage,
    rows: Sequence[Row],
    matches: Callable[[Row, Expected], bool],
    recognized: Sequence[Recognized],
) -> list[Recognized]:
    """Set the cause of rows that are invoiced the quantity of another period: all periods that are recognized.

    `rows` are those whose quantity is no sum, exact ones too; `recognized` are the periods of the others.
    """
    wrong = [row for row in rows if row.status in QUANTITY_STATUSES and may_be_of_period(row)]
    rated = _Rated(examination, known, wrong, matches)
    found = [rated.fitted(one, rows) for one in recognized] if wrong else list(recognized)
    tried = _periods(examination.period) if wrong else []
    while tried and (left := [row for row in wrong if row.cause is None and row.lines]):
        claims = {shift: rated.claimed(shift, left) for shift in tried}
        evidence = {shift: exact_product(map(_evidence, members)) for shift, members in claims.items()}
        best = max(tried, key=lambda shift: (evidence[shift], len(claims[shift]), -rated.contradictions(shift, rows)))
        members = claims[best]
        if not members or evidence[best] < MIN_EVIDENCE():
            break
        customers = None if 2 * len(members) > len(left) else frozenset(row.key[0] for row in members)
        rated.set_causes(best, members)
        found.append(rated.fitted(Recognized(best, customers, members), rows))
    return found


@dataclass
class _Rated:
    """What the customers of wrong rows would be billed in other periods, each rated once."""

    examination: Examination
    known: KnownUsage
    wrong: list[Row]
    matches: Callable[[Row, Expected], bool]
    rated: dict[Shift, Mapping[Key, Expected] | None] = field(default_factory=dict)

    def fitted(self, one: Recognized, rows: Sequence[Row]) -> Recognized:
        """A period, or the one of those alike, that most rows have; set as the cause of all rows that have it.

        Of no customer with an exact row that it would change.
        """

        def fitting(shift: Shift) -> list[Row]:
            contradicted = {row.key[0] for row in rows if self._contradicts(shift, row)}
            concerned = [row for row in self.wrong if one.concerns(row) and row.key[0] not in contradicted]
            return self.fitting(shift, concerned)

        shift = max((one.shift, *one.alike[:_MAX_ALIKE]), key=lambda shift: len(fitting(shift)))
        self.set_causes(shift, [*(one.rows if shift != one.shift else ()), *filter(may_be_of_period, fitting(shift))])
        return Recognized(shift, one.customers, one.rows)

    def fitting(self, shift: Shift, rows: Sequence[Row]) -> list[Row]:
        """The rows that are invoiced what the customer has in a moved period."""
        keys = self._keys(shift)
        return [] if keys is None else [row for row in rows if self.matches(row, keys.get(row.key, Expected()))]

    def claimed(self, shift: Shift, rows: Sequence[Row]) -> list[Row]:
        """The rows that a moved period explains, if they are most.

        Else those of customers of whom it explains most, and two: the latest quantity of one line is that of many
        periods.
        """
        fitting = self.fitting(shift, rows)
        if 2 * len(fitting) > len(rows):
            return fitting
        every, explained = Counter(row.key[0] for row in rows), Counter(row.key[0] for row in fitting)
        return [row for row in fitting if 1 < explained[row.key[0]] > every[row.key[0]] / 2]

    def set_causes(self, shift: Shift, rows: Sequence[Row]) -> None:
        """Set a moved period as the cause of rows."""
        span, zone = self.examination.period.span, self.examination.period.zone
        for row in rows:
            set_cause(row, period_cause(shift.moved(span), span, zone))

    @cached_property
    def _customers(self) -> set[UUID]:
        return {row.key[0] for row in self.wrong}

    def contradictions(self, shift: Shift, rows: Sequence[Row]) -> int:
        """How many exact rows of customers with a wrong one have another quantity in a moved period."""
        return sum(self._contradicts(shift, row) for row in rows)

    def _contradicts(self, shift: Shift, row: Row) -> bool:
        is_exact = row.lines and row.status in ("matched", "wrong amount") and not row.difference
        return bool(is_exact) and row.key[0] in self._customers and not self.fitting(shift, [row])

    def _keys(self, shift: Shift) -> Mapping[Key, Expected] | None:
        """The expected quantities of a moved period; None where it is none."""
        if shift not in self.rated:
            since, until = shift.moved(self.examination.period.span)
            is_period = EARLIEST <= since < until <= LATEST
            self.rated[shift] = self.known(since, until, self._customers) if is_period else None
        return self.rated[shift]


def _periods(period: Period) -> list[Shift]:
    """The one to the period in UTC, if there is one, and the shifts by whole days: of both ends first."""
    days = [shift for shift in shifts() if shift.is_of_days]
    utc = in_utc(period.span, period.zone)
    return list(dict.fromkeys([*([utc] if utc else []), *days]))


def _adjacent(period: Period) -> list[Shift]:
    """The shifts to the period before, and to the month after a month; of whole hours."""
    span, zone = period.span, period.zone
    spans = [buckets.previous(*span, zone)]
    if buckets.whole_month(*span, zone):
        spans.append(buckets.calendar_window(f"{span[1].astimezone(zone):%Y-%m}", span[1], zone))
    moved = ([edge - own for edge, own in zip(other, span, strict=True)] for other in spans)
    whole = (offsets for offsets in moved if not any(offset % QUARTER for offset in offsets))
    return [Shift(start // QUARTER, end // QUARTER) for start, end in whole]


def _evidence(row: Row) -> Decimal:
    """The difference of a row in units of the last decimal of its invoiced and used quantity."""
    numbers = [number.normalize().as_tuple().exponent for number in (row.invoiced, row.recomputed) if number]
    places = max([0, *(-exponent for exponent in numbers if isinstance(exponent, int))])
    return row.difference.copy_abs().scaleb(places)


def price_zone_causes(
    priced: PricedUsage,
    columns: tuple[str, ...],
    rows: Sequence[Row],
    charges: Iterable[Charge],
    recognized: Sequence[Recognized],
) -> None:
    """Set the cause of wrong amounts that are right where prices change at the midnights of another time zone.

    That of a recognized period; else UTC, if it explains most amounts without a cause, beyond `MIN_EVIDENCE`.
    """
    charges = [charge for charge in charges if charge.row.explained_by not in (LATE, DUPLICATES, BOTH)]
    period = priced.examination.period
    span, zone = period.span, period.zone
    utc = in_utc(span, zone)
    unnamed = [] if utc is None or recognized else [Recognized(utc, None, [])]
    for one in (*recognized, *unnamed) if charges else ():
        is_recognized = one not in unnamed
        moved = one.shift.moved(span)
        concerned = [
            charge
            for charge in charges
            if one.concerns(charge.row)
            and (charge.row.cause is None or (is_recognized and may_be_of_period(charge.row)))
        ]
        for other in _zones_of_price_changes(priced.book, moved, span, zone) if concerned else ():
            customers = {charge.row.key[0] for charge in concerned}
            keys = by_key(priced.moved(*moved, customers, other.key), columns)
            contradicted = {row.key[0] for row in rows if row.key[0] in customers and _loses_amount(row, keys)}
            fitting = [
                charge for charge in concerned if charge.row.key[0] not in contradicted and _has_amount(charge, keys)
            ]
            is_certain = 2 * len(fitting) > len(concerned) and exact_product(map(off_by, fitting)) >= MIN_EVIDENCE()
            if fitting and (is_recognized or is_certain):
                for charge in fitting:
                    set_cause(charge.row, period_cause(moved, span, zone))
                break
    _price_midnight_causes(priced, columns, rows, [charge for charge in charges if charge.row.cause is None])


def _price_midnight_causes(
    priced: PricedUsage, columns: tuple[str, ...], rows: Sequence[Row], charges: Sequence[Charge]
) -> None:
    """Set the cause of amounts that are right where prices change at another zone's midnights, in the same period.

    A zone is tried with the amounts that are off by most; it must give most of those that it changes, beyond
    `MIN_EVIDENCE`.
    """
    span, zone = priced.examination.period.span, priced.examination.period.zone
    own = priced.book.cuts(*span, zone)
    changing = [charge for charge in charges if charge.row.expected and len(charge.row.expected.lines) > 1]
    seeds = sorted(changing, key=off_by, reverse=True)[:_MAX_SEEDS]
    zones: dict[tuple[datetime, ...], str] = {}
    for name in zone_names() if seeds else ():
        zones.setdefault(priced.book.cuts(*span, ZoneInfo(name)), name)
    for cuts, name in zones.items():
        if cuts == own:
            continue
        tried = by_key(priced.moved(*span, {charge.row.key[0] for charge in seeds}, name), columns)
        if not any(_has_amount(charge, tried) for charge in seeds):
            continue
        customers = {row.key[0] for row in rows if row.lines}
        keys = by_key(priced.moved(*span, customers, name), columns)
        contradicted = {row.key[0] for row in rows if _loses_amount(row, keys)}
        concerned = [
            charge
            for charge in changing
            if charge.row.key[0] not in contradicted and not _keeps_amount(charge, keys.get(charge.row.key, Expected()))
        ]
        fitting = [charge for charge in concerned if _has_amount(charge, keys)]
        evidence = exact_product(map(off_by, fitting))
        if 2 * len(fitting) > len(concerned) and evidence >= MIN_EVIDENCE() * _TRIED_ZONES:
            times = listed(date_and_time(cut.astimezone(zone)) for cut in cuts[1:-1] if cut not in own)
            words = f"the amount where prices change on {times}, as at midnight of {name}, not of {zone.key}"
            for charge in fitting:
                set_cause(charge.row, Cause(PRICE_CHANGE, "high", words))
            return


def _keeps_amount(charge: Charge, other: Expected) -> bool:
    return of_part(charge.row, other).amounts == {charge.currency: charge.amount}


def beyond_periods(
    priced: PricedUsage, columns: tuple[str, ...], rows: Sequence[Row], recognized: Sequence[Recognized]
) -> list[Row]:
    """A row for each line with the quantity of another period that charges another amount than that period costs.

    Its `expected` is the usage of that period, and its amount what is left of the line's difference, which the line's
    own row has as `beyond`; so that the differences of both add up to all of it.
    """
    period, found = priced.examination.period, []
    for one in recognized:
        moved = one.shift.moved(period.span)
        cause = period_cause(moved, period.span, period.zone)
        members = {row.key: row for row in rows if row.cause == cause and row.lines and row.status != "missing"}
        if not any(line.amount is not None for row in members.values() for line in row.lines):
            continue
        left = _beyond(priced, columns, members.values(), moved, None)
        zones = (
            zone.key
            for shift in ((one.shift, *one.alike) if left else ())
            for zone in _zones_of_price_changes(priced.book, shift.moved(period.span), period.span, period.zone)
        )
        tried = (_beyond(priced, columns, members.values(), moved, zone) for zone in islice(zones, _MAX_ALIKE))
        left = min((left, *tried), key=lambda rows: (len(rows), sum(row.cause is None for row in rows)))
        for row in left:
            members[row.key].beyond = row.amount_differences
        found += left
    return found


def _beyond(
    priced: PricedUsage,
    columns: tuple[str, ...],
    rows: Iterable[Row],
    moved: tuple[datetime, datetime],
    timezone: str | None,
) -> list[Row]:
    """The rows whose amount is not that of the moved period, apart from rounding, with their causes."""
    rows = list(rows)
    keys = by_key(priced.moved(*moved, {row.key[0] for row in rows}, timezone), columns)
    others = [
        Row(row.key, row.lines, row.usage, "matched", Decimal(0), expected=keys.get(row.key), of_period=moved)
        for row in rows
    ]
    charges = compare_amounts(others)
    rounded = {charge.row.key for charge in charges if is_rounding(charge)}
    left = [charge for charge in charges if charge.row.key not in rounded]
    amount_causes(left, priced.book, priced.examination.period.zone)
    return [row for row in others if row.status == "wrong amount" and row.key not in rounded]


def _zones_of_price_changes(
    book: PriceBook, moved: tuple[datetime, datetime], span: tuple[datetime, datetime], zone: ZoneInfo
) -> list[ZoneInfo]:
    """The time zones in which the moved period has the clock times of the period, one for each way of cutting it where
    prices change; UTC first. None where no price changes in it.
    """
    clocks = [edge.astimezone(zone).replace(tzinfo=None) for edge in span]
    zones: dict[tuple[datetime, ...], ZoneInfo] = {}
    for name in ("UTC", *sorted(name for name in available_timezones() if "/" in name)):
        other = ZoneInfo(name)
        if all(edge.astimezone(other).replace(tzinfo=None) == clock for edge, clock in zip(moved, clocks, strict=True)):
            zones.setdefault(tuple(book.cuts(*moved, other)), other)
    return [other for cuts, other in zones.items() if len(cuts) > len(moved)][:_MAX_ALIKE]


def _has_amount(charge: Charge, keys: Mapping[Key, Expected]) -> bool:
    """Whether a charge is exactly the other amount, or that rounded in another way where it is not so its own one."""
    known = of_part(charge.row, keys.get(charge.row.key, Expected()))
    if not known.is_priced or charge.row.invoiced not in known.quantities or known.amounts.keys() != {charge.currency}:
        return False
    other = charge._replace(exact=known.exact[charge.currency], lines=max(charge.lines, len(known.lines)))
    return known.amounts[charge.currency] == charge.invoiced or (not is_rounding(charge) and is_rounding(other))


def _loses_amount(row: Row, keys: Mapping[Key, Expected]) -> bool:
    """Whether a row's amount is exact and would be another one."""
    if not row.lines or row.status != "matched" or row.amount_difference != 0 or row.expected is None:
        return False
    return row.expected.amounts != of_part(row, keys.get(row.key, Expected())).amounts
