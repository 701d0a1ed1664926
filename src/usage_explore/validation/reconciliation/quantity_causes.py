"""Causes of wrong quantities that need no price book: repeated lines, another unit, a factor, swapped customers; and of
quantities that are added up although the price takes no sum.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, Context, Decimal
from fractions import Fraction
from functools import partial
from uuid import UUID

from usage_explore.decimals import difference, exact_product, plain, total
from usage_explore.formatting import in_sentence, listed, short
from usage_explore.validation.check import Examination
from usage_explore.validation.reconciliation.causes import (
    AGGREGATION,
    BEYOND_AGGREGATION,
    FACTOR,
    MAX_FACTOR_DIGITS,
    MAX_SHIFTED_ROWS,
    MIN_COMMON_AMOUNTS,
    MIN_COMMON_SHARE,
    MIXED_AGGREGATIONS,
    REPEATED,
    SWAPPED,
    SWAPPED_TOTALS,
    UNIT,
    Cause,
    Moved,
    set_cause,
    shift_hours,
    taken,
    wrong_aggregations,
)
from usage_explore.validation.reconciliation.compare import (
    LATE,
    QUANTITY_STATUSES,
    Key,
    Row,
    at_ends_by_key,
    known_at,
    largest_by_key,
    usage_by_key,
)
from usage_explore.validation.reconciliation.expected import Expected, PricedUsage, by_key
from usage_explore.validation.reconciliation.invoices import InvoiceLine
from usage_explore.validation.reconciliation.moved_periods import (
    Recognized,
    late_echoes,
    period_causes,
    period_echoes,
)
from usage_explore.validation.reconciliation.rated_periods import adjacent_period_causes, rated_period_causes
from usage_explore.validation.reconciliation.recomputed_causes import MIN_EVIDENCE

UNIT_FACTORS = (1000, 1024, 60, 3600, 24, 86_400, 1_000_000, 1_048_576, 1_000_000_000, 1_073_741_824)
"""Factors between units of one quantity: thousands, binary thousands, minutes, hours, days."""

DECIMAL_FACTORS = (10, 100, 10_000, -1)
"""Factors by which a single quantity, or its reciprocal, is recognized as multiplied, if it has enough digits."""

MIN_SIGNIFICANT_DIGITS = 2
"""Digits of a used quantity, without zeros at its ends, from which `DECIMAL_FACTORS` are recognized: 10 for 1 is easily
a coincidence."""

_MIN_MOVED_DIGITS = 4
"""Digits of a quantity, without zeros at its ends, from which it is another customer's if no line has it alone."""

_MIN_ADDED = 10
"""A sum or number of events from which it is recognized: a smaller one is easily a coincidence."""

_MIN_COUNTED = 2
"""Lines with the number of events from which most lines of a price have it."""

_MAX_NAMED_CUSTOMERS = 3
"""Customers in the words of a cause; more are counted."""

_OTHERS = {"max": "the largest quantity of an event", "count": "the number of events"}
"""What many lines may have in place of the sum, in words."""

_EXACT = Context(prec=MAX_PREC, Emax=MAX_EMAX, Emin=MIN_EMIN)


def repeated_causes(rows: Iterable[Row], tolerance: Decimal) -> None:
    """Set the cause of rows whose quantity is right without lines that equal another one in everything."""
    for row in rows:
        first: dict[InvoiceLine, int] = {}
        repeated = []
        for line in sorted(row.lines):
            same = first.setdefault(line._replace(line=0), line.line)
            if same != line.line:
                repeated.append(f"line {line.line:,} is the same as line {same:,}")
        once = total(line.quantity for line in first)
        if repeated and row.usage and abs(Decimal(difference(once, row.usage.quantity))) <= tolerance:
            set_cause(row, Cause(REPEATED, "high", f"the used quantity without a repeated line: {listed(repeated)}"))


def unit_causes(rows: Iterable[Row], tolerance: Decimal) -> None:
    """Set the cause of rows whose invoiced quantity is the used one in another unit, or multiplied."""
    rows = [row for row in rows if row.invoiced and row.recomputed and row.recomputed.is_finite()]
    _quantity_factor_causes(rows)
    for row in rows:
        invoiced, used = row.invoiced or Decimal(0), row.recomputed or Decimal(0)
        if row.cause is not None:
            continue
        for factor in (*UNIT_FACTORS, *DECIMAL_FACTORS):
            number = Decimal(factor)
            if factor in DECIMAL_FACTORS and len(used.normalize(_EXACT).as_tuple().digits) < MIN_SIGNIFICANT_DIGITS:
                continue
            if abs(Decimal(difference(invoiced, exact_product((used, number))))) <= tolerance:
                ratio = Fraction(factor)
            elif abs(Decimal(difference(exact_product((invoiced, number)), used))) <= _resolution(row, number):
                ratio = Fraction(1, factor)
            else:
                continue
            if (cause := _quantity_factor_cause(ratio)) is not None:
                set_cause(row, cause)
            break


def aggregation_causes(
    rows: Sequence[Row],
    matched: Iterable[Row],
    tolerance: Decimal,
    largest: Callable[[set[UUID]], Mapping[Key, Decimal]],
) -> None:
    """Set the cause of rows whose invoiced quantity is a sum, a number of events or the largest quantity of an event,
    where their price takes something else.

    A small number, and the largest quantity, is easily a coincidence: it must be one for many customers alike, the
    largest quantity in whatever wallets. Without a price the lines may be right, unless as many have the sum: then the
    severity is medium, and a further line of the price is compared with the same. `matched` are rows without a
    difference; `largest` reads the largest quantities of customers.
    """
    found: dict[tuple[Key, Cause], int] = Counter()
    small: list[tuple[Row, Cause]] = []
    billed: dict[tuple[str | None, str | None], list[Row]] = {}
    for row in rows:
        invoiced = row.invoiced or Decimal(0)
        for cause, quantity in wrong_aggregations(row.expected.lines) if row.expected is not None else ():
            if abs(Decimal(difference(invoiced, quantity))) <= tolerance:
                found[row.key[1:], cause] += 1
                if abs(invoiced) < _MIN_ADDED:
                    small.append((row, cause))
                else:
                    set_cause(row, cause)
                break
        if row.cause is None and row.lines and row.usage is not None:
            billed.setdefault(_price_of(row), []).append(row)
    for row, cause in small:
        if found[row.key[1:], cause] >= MIN_COMMON_AMOUNTS():
            set_cause(row, cause)
    many = [members for members in billed.values() if len(members) >= _MIN_COUNTED]
    customers = {row.key[0] for members in many if len(members) >= MIN_COMMON_AMOUNTS() for row in members}
    quantities = largest(customers) if customers else {}
    summed: dict[tuple[str | None, str | None], list[Row]] = {}
    for row in matched:
        if row.lines and row.recomputed != row.events > 1:
            summed.setdefault(_price_of(row), []).append(row)
    for members in many:
        for name, words in _OTHERS.items():
            left = {id(row): row for row in members if row.cause is None}
            tried = {key: other for key, row in left.items() if (other := _other(row, name, quantities)) is not None}
            off = {key: Decimal(difference(left[key].invoiced or 0, other)) for key, other in tried.items()}
            fitting = [left[key] for key, number in off.items() if number.copy_abs() <= tolerance]
            least = _MIN_COUNTED if name == "count" else MIN_COMMON_AMOUNTS()
            if len(fitting) < least or 2 * len(fitting) <= len(tried) or not _is_certain(name, fitting):
                continue
            sums = summed.get(_price_of(members[0]), [])
            are_sums = len(sums) >= len(fitting)
            for key, number in off.items():
                row = left[key]
                if row in fitting:
                    set_cause(row, _aggregation_cause(row, name, words, sums, are_sums=are_sums))
                elif not are_sums and not _is_priced(row):
                    side = f"{in_sentence(number.copy_abs())} {'more' if number > 0 else 'less'} than"
                    set_cause(
                        row,
                        Cause(
                            BEYOND_AGGREGATION,
                            "high",
                            f"{side} {words}, {in_sentence(tried[key])}, which other lines have",
                        ),
                    )


def _price_of(row: Row) -> tuple[str | None, str | None]:
    return row.lines[0].metric_key, row.lines[0].price_key


def _other(row: Row, name: str, largest: Mapping[Key, Decimal]) -> Decimal | None:
    """What a row's line would have by another aggregation than that of its price; None where that is not tried."""
    if name == "count":  # of rows with a price each is tried by itself
        return None if _is_priced(row) or row.usage is None else Decimal(row.usage.events - row.usage.late_events)
    quantity = largest.get(row.key) if row.events > 1 and _taken(row) not in ("max", None) else None
    return quantity if quantity is not None and quantity.is_finite() else None


def _is_certain(name: str, rows: Iterable[Row]) -> bool:
    """Whether numbers of events are no coincidence, nor sums that are rounded to whole units."""
    beyond = ((abs(row.invoiced or Decimal(0)), row.difference.copy_abs()) for row in rows)
    evidence = (exact_product((number, off)) for number, off in beyond if number > 1 <= off)
    return name != "count" or exact_product(evidence) >= MIN_EVIDENCE()


def _aggregation_cause(row: Row, name: str, words: str, sums: Sequence[Row], *, are_sums: bool) -> Cause:
    """Why a row has another quantity than the sum; `sums` are the lines of its price that have it, of most or few."""
    if _is_priced(row):
        return Cause(AGGREGATION, "high", f"by the {name}, while the price takes the {_taken(row)}")
    if are_sums:
        return Cause(AGGREGATION, "high", f"{words} rather than the sum, which other lines have")
    if sums:
        customers = listed((str(row.key[0]) for row in sums), most=_MAX_NAMED_CUSTOMERS)
        return Cause(MIXED_AGGREGATIONS, "high", f"{words}, but the sum on the lines of {customers}: one is wrong")
    return Cause(AGGREGATION, "medium", f"{words} rather than the sum, and no price book says which of them is billed")


def _is_priced(row: Row) -> bool:
    return row.expected is not None and bool(row.expected.lines)


def _taken(row: Row) -> str | None:
    """What the prices of a row take of its quantities, None where they differ; without a price the sum."""
    return taken(row.expected.lines) if row.expected is not None and _is_priced(row) else "sum"


def _quantity_factor_causes(rows: list[Row]) -> None:
    """Set the cause of rows whose quantities are all multiplied by the same, if they are most of them."""
    by_ratio: dict[Fraction, list[Row]] = {}
    for row in rows:
        by_ratio.setdefault(Fraction(row.invoiced or 0) / Fraction(row.recomputed or 1), []).append(row)
    for ratio, members in by_ratio.items():
        enough = len(members) >= MIN_COMMON_AMOUNTS() and len(members) >= MIN_COMMON_SHARE() * len(rows)
        used = {row.recomputed for row in members}
        if enough and len(used) >= MIN_COMMON_AMOUNTS() and (cause := _quantity_factor_cause(ratio)) is not None:
            for row in members:
                set_cause(row, cause)


def _quantity_factor_cause(ratio: Fraction) -> Cause | None:
    """The cause for a multiple of the used quantity; None for a factor that is no short decimal and no reciprocal."""
    if ratio == -1:
        return Cause(f"{FACTOR}-1", "high", "the used quantity with the other sign")
    size = ratio if ratio.denominator == 1 else 1 / ratio
    if size.denominator == 1:
        whole = size.numerator
        words = f"{whole:,} times the used quantity" if size == ratio else f"the used quantity divided by {whole:,}"
        if whole in UNIT_FACTORS:
            return Cause(UNIT, "high", f"{words}, as of another unit")
        return Cause(f"{FACTOR}{'' if size == ratio else '1/'}{whole}", "high", words)
    digits = Fraction(10) ** MAX_FACTOR_DIGITS()
    if (ratio * digits).denominator != 1:
        return None
    factor = plain(Decimal((ratio * digits).numerator).scaleb(-MAX_FACTOR_DIGITS(), _EXACT))
    return Cause(f"{FACTOR}{factor}", "high", f"{short(Decimal(factor))} times the used quantity")


def _resolution(row: Row, factor: Decimal) -> Decimal:
    """How far a quantity divided by the factor may be off, as the invoice rounds it to its last decimal; 0 to whole."""
    exponents = [line.quantity.as_tuple().exponent for line in row.lines]
    places = max((-exponent for exponent in exponents if isinstance(exponent, int)), default=0)
    return exact_product((factor, Decimal("0.5").scaleb(-places))) if places > 0 else Decimal(0)


def swapped_causes(rows: Iterable[Row]) -> None:
    """Set the cause of rows of customers of which each is invoiced what another one used: of two, or in a circle;
    and of two totals of one customer.

    A circle is one if each is invoiced what exactly one other one used, of the same metric, price, wallet and
    subscription.
    """
    by_used: dict[tuple[Key, Decimal], list[Row]] = {}
    open_rows = [row for row in rows if row.cause is None and (row.invoiced or Decimal(0)) != (row.recomputed or 0)]
    for row in open_rows:
        by_used.setdefault((row.key[1:], row.recomputed or Decimal(0)), []).append(row)
    for row in open_rows:
        used = row.recomputed or Decimal(0)
        others = [
            other
            for other in by_used.get((row.key[1:], row.invoiced or Decimal(0)), ())
            if other.key[0] != row.key[0] and (other.invoiced or Decimal(0)) == used
        ]
        if len(others) == 1:
            words = f"what customer {others[0].key[0]} used, who is billed what this one used"
            set_cause(row, Cause(SWAPPED, "high", words, frozenset({row.key[0], others[0].key[0]})))
    for row in open_rows:
        circle = _circle(row, by_used) if row.cause is None else []
        for one, other in zip(circle, [*circle[1:], *circle[:1]], strict=True):
            words = (
                f"what customer {other.key[0]} used; each of {len(circle):,} customers is billed what another one used"
            )
            set_cause(one, Cause(SWAPPED, "high", words, frozenset(each.key[0] for each in circle)))
    _own_totals_causes([row for row in open_rows if row.cause is None])
    _other_customers_causes([row for row in open_rows if row.cause is None])


def _own_totals_causes(rows: list[Row]) -> None:
    """Set the cause of two totals of a customer, such as of two wallets, each of which has what the other one used."""
    pairs: dict[tuple[UUID, Decimal, Decimal], list[Row]] = {}
    for row in rows:
        if row.invoiced and row.recomputed and row.recomputed.is_finite():
            pairs.setdefault((row.key[0], row.invoiced, row.recomputed), []).append(row)
    for (customer, invoiced, used), members in pairs.items():
        others = pairs.get((customer, used, invoiced), [])
        if len(members) == len(others) == 1:
            row, other = members[0], others[0]
            values = (str(value) for value, own in zip(other.key, row.key, strict=True) if value != own)
            words = f"what the customer used of {listed(values)}, which is billed what was used of this one"
            set_cause(row, Cause(SWAPPED_TOTALS, "high", words, frozenset({customer})))


def _other_customers_causes(rows: list[Row]) -> None:
    """Set the cause of a customer without a line and of the only one who is billed exactly that usage too much.

    A short number may agree by chance, unless it is a line of its own beside the right ones.
    """
    without: dict[tuple[Key, Decimal], list[Row]] = {}
    receiving: dict[tuple[Key, Decimal], list[Row]] = {}
    for row in rows:
        if not row.lines:
            without.setdefault((row.key[1:], row.recomputed or Decimal(0)), []).append(row)
        elif row.difference > 0:
            receiving.setdefault((row.key[1:], row.difference), []).append(row)
    for key, senders in without.items():
        receivers = receiving.get(key, [])
        if len(senders) != 1 or len(receivers) != 1:
            continue
        (sender,), (receiver,), used = senders, receivers, key[1]
        own_line = len(receiver.lines) > 1 and any(line.quantity == used for line in receiver.lines)
        if own_line or len(used.normalize(_EXACT).as_tuple().digits) >= _MIN_MOVED_DIGITS:
            words = f"what customer {receiver.key[0]} is billed too much"
            set_cause(sender, Cause(SWAPPED, "high", words))
            words = f"what customer {sender.key[0]} used, who has no line for it"
            set_cause(receiver, Cause(SWAPPED, "high", words))


def _circle(first: Row, by_used: Mapping[tuple[Key, Decimal], list[Row]]) -> list[Row]:
    """The rows from `first` on, each of which is invoiced what the next used, and the last one what `first` used.

    Empty if there is no such circle, or if it is ambiguous: two customers used the same.
    """
    circle, row = [first], first
    while True:
        others = by_used.get((row.key[1:], row.invoiced or Decimal(0)), [])
        if len(others) != 1 or others[0].cause is not None:
            return []
        row = others[0]
        if row is first:
            return circle if len({one.key[0] for one in circle}) == len(circle) > 1 else []
        if any(row is one for one in circle):
            return []
        circle.append(row)


def quantity_causes(
    examination: Examination,
    columns: tuple[str, ...],
    rows: Sequence[Row],
    tolerance: Decimal,
    priced: PricedUsage | None = None,
) -> list[Recognized]:
    """Set the cause of rows whose quantity nothing explains yet. Returns the other periods that are recognized."""
    # hours and largest quantities are read by key; of missing or extra amounts the quantity may be right
    rows = [
        row
        for row in rows
        if row.wallets is None and not (row.status in ("missing", "extra") and row.difference.copy_abs() <= tolerance)
    ]
    differing = [row for row in rows if row.status in QUANTITY_STATUSES and not row.explained_by]
    if not differing:
        return []

    def known(since: datetime, until: datetime, customers: set[UUID]) -> Mapping[Key, Expected]:
        if priced is not None:
            return by_key(priced.moved(since, until, customers), columns)
        there = examination.period.replace(
            since=since, until=until, finalized_at=None, as_of=known_at(examination.period)
        )
        used = usage_by_key(replace(examination, period=there), columns)
        return {key: Expected(of_key.quantity, of_key.quantity) for key, of_key in used.items()}

    def has_quantity(row: Row, expected: Expected) -> bool:
        off = (Decimal(difference(row.invoiced or Decimal(0), quantity)) for quantity in expected.quantities)
        return any(number.copy_abs() <= tolerance for number in off if number.is_finite())

    adjacent = adjacent_period_causes(examination, known, rows, has_quantity)
    differing = [row for row in differing if row.cause is None]
    repeated_causes(differing, tolerance)
    swapped_causes([row for row in differing if row.cause is None])
    largest = partial(largest_by_key, examination, columns)
    matched = [row for row in rows if row.status == "matched"]
    aggregation_causes([row for row in differing if row.cause is None], matched, tolerance, largest)
    unit_causes([row for row in differing if row.cause is None], tolerance)
    left = [row for row in differing if row.cause is None and row.lines and row.usage is not None]
    left = sorted(left, key=lambda row: row.difference.copy_abs(), reverse=True)[: MAX_SHIFTED_ROWS()]
    if not left:
        return adjacent

    # a line without usage has no price of its own: what it counts is what other customers' totals of its key do
    counted_keys = {row.key[1:]: row.expected.counts_events for row in rows if row.expected is not None}

    def added(row: Row, change: Moved) -> Decimal | None:
        counts = row.expected.counts_events if row.expected is not None else counted_keys.get(row.key[1:], False)
        return None if counts is None else Decimal(change.events) if counts else change.quantity

    customers = {row.key[0] for row in left}
    at_ends = at_ends_by_key(examination, columns, customers, shift_hours())
    span, zone = examination.period.span, examination.period.zone
    no_sums = [row for row in rows if added(row, Moved(0, 0, Decimal(0))) is None]
    others_than_sums = {row.key for row in no_sums}
    members = [row for row in rows if row.key[0] in customers and row.key not in others_than_sums]
    recognized = period_causes(members, at_ends, added, tolerance, span, zone)
    if priced is not None:
        recognized = rated_period_causes(examination, known, no_sums, has_quantity, recognized)
    if recognized:
        others = {row.key[0] for row in rows if row.status in QUANTITY_STATUSES} - customers
        at_ends |= at_ends_by_key(examination, columns, others, shift_hours()) if others else {}
        period_echoes(
            (row for row in rows if row.key[0] in customers | others), at_ends, added, recognized, tolerance, span, zone
        )
    late = [row for row in rows if row.explained_by == LATE and row.cause is None]
    if late and any(one.customers is None for one in recognized):
        arrived = replace(examination, period=examination.period.replace(finalized_at=None))
        every = at_ends_by_key(arrived, columns, {row.key[0] for row in late}, shift_hours())
        late_echoes(late, at_ends, every, recognized, span, zone)
    return [*adjacent, *recognized]
