"""Causes of differences between invoices and usage or price book, recognized by what they make of a right line.

Each cause is tried exactly: a wrong price, tier or period gives one certain number, and a line has it or not. A cause
explains why a line is wrong; it does not make the line right, so that only late events, duplicates and rounding lower a
finding's severity.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Context, Decimal
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from usage_explore.decimals import difference, exact_product, plain, total
from usage_explore.formatting import date_and_time, exact, in_sentence, short
from usage_explore.pricing.amounts import rate
from usage_explore.pricing.book import Model, Price, PriceBook
from usage_explore.pricing.currencies import exact_money
from usage_explore.pricing.usage import Line
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Severity
from usage_explore.validation.reconciliation.compare import QUARTER, Key, Row

ROUNDING = "rounding"
EVENT_ROUNDING = "rounding per event"
SAME_DIFFERENCE = "same difference"
SWAPPED, SWAPPED_TOTALS = "swapped customers", "swapped totals"
REPEATED = "repeated line"
UNIT = "another unit"
AGGREGATION = "another aggregation"
BEYOND_AGGREGATION, MIXED_AGGREGATIONS = f"beyond {AGGREGATION}", "mixed aggregations"
ANOTHER_PRICE, ONE_WALLET = "another price", "wallets in one line"
PERIOD = "another period"
PRICE_CHANGE = "price change"
FACTOR = "factor "
"""Followed by the factor."""

AMOUNT_FACTORS = (10, 100, 1000, 10_000, 1_000_000, 1024, 12, 60, 2)
"""Factors by which a single amount, or its reciprocal, is recognized as multiplied."""

BOUNDS = CheckBounds("reconciliation")

# fmt: off
MAX_ROUNDING_UNITS = BOUNDS.add("max_rounding_units", 1, "units", 1, 1000,
    "An amount that is off by fewer smallest units of its currency for each line than these is the exact one, rounded "
    "in another way; also of the amounts by wrong prices and tiers.")

MIN_COMMON_AMOUNTS = BOUNDS.add("min_common_amounts", 3, "amounts", 2, 100000,
    "Wrong amounts that share a factor, such as 1.19, from which it is their cause.")

MIN_COMMON_SHARE = BOUNDS.add("min_common_share", Decimal("0.5"), "share", 0, 1,
    "Share of the wrong amounts that have a common factor, from which it is their cause.")

MAX_TRIED_AMOUNTS = BOUNDS.add("max_tried_amounts", 200, "amounts", 1, 100000,
    "Wrong amounts, spread over all, by which a common factor is weighed against wrong prices and tiers.")

MAX_RELATED_PRICES = BOUNDS.add("max_related_prices", 200, "prices", 0, 100000,
    "Other prices of a metric that a wrong amount is tried with.")

MAX_FACTOR_SPREAD = BOUNDS.add("max_factor_spread", Decimal("1.2"), "factor", 1, 10,
    "Largest by least factor that an amount may have been multiplied by, up to which the factor of a single one is "
    "recognized: of an amount of a few cents, rounding hides it.")

MAX_FACTOR_DIGITS = BOUNDS.add("max_factor_digits", 6, "decimals", 0, 12,
    "Decimals of a common factor, at most.")

MAX_SHIFTED_ROWS = BOUNDS.add("max_shifted_totals", 2000, "totals", 0, 250000,
    "Totals of wrong quantity that other periods are tried with, the largest differences first.")

MIN_MOVED_EVENTS = BOUNDS.add("min_moved_events", 3, "events", 1, 100000,
    "Events that lie between two periods, from which the one is recognized in lines of the other.")

MIN_SHIFTED_ROWS = BOUNDS.add("min_shifted_totals", 2, "totals", 1, 100000,
    "Totals that another period explains, from which a shift by less than a day is recognized; a day by one total.")

MAX_SHIFT = BOUNDS.add("max_shift", timedelta(hours=24), "hours", 0, 168,
    "Largest shift of a period's ends that is tried, in whole hours, or quarters of an hour if a time zone has that "
    "period; of days that are off up to as many.")
# fmt: on

_MAX_CHANCE = Decimal("0.01")
"""Chance that amounts share a factor by coincidence, up to which they have it: the product of how far the factors of
all but the narrowest one may be off."""

_HOUR_QUARTERS, _DAY_QUARTERS = 4, 96
_FINE = Context(prec=40)


class Cause(NamedTuple):
    """A cause: its `name` in the sheet, its severity, and what a wrong line has instead, in words.

    `among` are the customers that were swapped.
    """

    name: str
    severity: Severity
    words: str
    among: frozenset[Any] = frozenset()


class Charge(NamedTuple):
    """An amount that is compared: invoiced and expected in one currency; `unit` is the smallest one, for `lines`."""

    row: Row
    currency: str
    invoiced: Decimal
    amount: Decimal
    exact: Decimal
    unit: Decimal
    lines: int


def is_rounding(charge: Charge) -> bool:
    """Whether the invoiced amount is the exact one, rounded in any way, once or for each line."""
    return _is_within(charge, charge.exact, charge.lines)


def _is_within(charge: Charge, amount: Decimal, lines: int = 1) -> bool:
    """Whether the invoiced amount is another one, apart from rounding for each line."""
    most = exact_product((charge.unit, Decimal(lines), Decimal(MAX_ROUNDING_UNITS())))
    return abs(Decimal(difference(charge.invoiced, amount))) < most


def amount_causes(charges: list[Charge], book: PriceBook, zone: ZoneInfo) -> None:
    """Set the cause of rows whose amount differs, if there is one; those that are explained may share a factor, too."""
    left: list[Charge] = []
    rounded: list[Charge] = []
    for charge in charges:
        if charge.row.cause is None and is_rounding(charge):
            set_cause(charge.row, Cause(ROUNDING, "low", "the expected amount, rounded in another way"))
        (left if charge.row.cause is None else rounded).append(charge)
    factor, multiplied = common_factor(left)
    if factor is not None:
        tried = _spread(left)
        names = [cause.name for charge in tried if (cause := _specific(charge, book, zone))]
        most = max(Counter(names).values(), default=0)
        if len(multiplied) * len(tried) > most * len(left):
            _set_factor(factor, multiplied, rounded)
    named: Counter[str] = Counter()
    for charge in left:
        if charge.row.cause is None and (cause := _specific(charge, book, zone)):
            set_cause(charge.row, cause)
            named[cause.name] += 1
    for name, number in named.items():
        if not any(_specific(charge, book, zone, name) for charge in _spread(rounded)):
            continue
        fitting = [(charge, cause) for charge in rounded if (cause := _specific(charge, book, zone, name))]
        _set_echoes(number, fitting, rounded)
    _difference_causes([charge for charge in left if charge.row.cause is None], rounded)
    left = [charge for charge in left if charge.row.cause is None]
    factor, multiplied = common_factor(left)
    if factor is not None:
        _set_factor(factor, multiplied, rounded)
    for charge in left:
        if charge.row.cause is None and (known := _known_factor(charge)):
            set_cause(charge.row, _factor_cause(known))


def _spread(charges: list[Charge]) -> list[Charge]:
    """At most twice `MAX_TRIED_AMOUNTS` of the charges, spread over all."""
    return charges[:: max(1, len(charges) // MAX_TRIED_AMOUNTS())]


def set_cause(row: Row, cause: Cause) -> None:
    """Set the cause of a row, and its name in the sheet."""
    row.cause, row.explained_by = cause, cause.name


def _set_factor(factor: Decimal, charges: list[Charge], rounded: list[Charge]) -> None:
    """Set a common factor as the cause of charges, and of those taken for rounding that have it, too."""
    cause, fitting = _factor_cause(factor), []
    for charge in rounded:
        bounds = factor_bounds(charge)
        if bounds and bounds[0] <= abs(factor) <= bounds[1] and _sign(charge) * factor > 0:
            fitting.append((charge, cause))
    for charge in charges:
        set_cause(charge.row, cause)
    _set_echoes(len(charges), fitting, rounded)


def _set_echoes(number: int, fitting: list[tuple[Charge, Cause]], rounded: list[Charge]) -> None:
    """Set the cause of a number of charges for those of `rounded` that have it, too, as `fitting` says.

    Ten times ten cents is also the sum of ten events of a tenth of a cent, each rounded up. A way of rounding keeps its
    charges if it explains as many as the cause does. Those that an earlier cause has already stay with it.
    """
    every = Counter(charge.row.explained_by for charge in rounded)
    by_name: dict[str, list[tuple[Charge, Cause]]] = {}
    for charge, cause in fitting:
        if charge.row.explained_by in (ROUNDING, EVENT_ROUNDING):
            by_name.setdefault(charge.row.explained_by, []).append((charge, cause))
    for name, members in by_name.items():
        if number + len(members) > every[name]:
            for charge, cause in members:
                set_cause(charge.row, cause)


def _factor_cause(factor: Decimal) -> Cause:
    text = plain(factor)
    is_short = len(text.partition(".")[2]) <= MAX_FACTOR_DIGITS()  # 1.0004, which is not "1"
    shown = exact(factor) if is_short else short(factor)
    return Cause(f"{FACTOR}{text}", "high", f"{shown} times the expected amount")


def factor_bounds(charge: Charge) -> tuple[Decimal, Decimal] | None:
    """The least and the largest size of a factor of the amount, as known or as rounded, that rounds to the invoiced."""
    half = exact_product((charge.unit, Decimal("0.5"), Decimal(charge.lines)))
    size, expected = abs(charge.invoiced), sorted((abs(charge.exact), abs(charge.amount)))
    if not charge.invoiced or not expected[1]:
        return None
    low = _FINE.divide(Decimal(difference(size, half)), expected[1])
    high = _FINE.divide(Decimal(total((size, half))), expected[0]) if expected[0] else Decimal("Infinity")
    return low, high


def _sign(charge: Charge) -> int:
    """-1 if the amount has the other sign than is expected, else 1."""
    return -1 if (charge.invoiced < 0) != (charge.exact < 0) else 1


def common_factor(charges: list[Charge]) -> tuple[Decimal | None, list[Charge]]:
    """The factor that most amounts share, and these; None if fewer than `MIN_COMMON_AMOUNTS` do, or by chance.

    Not a factor near 1 for amounts that are all off by the same.
    """
    sign = 1 if 2 * sum(_sign(charge) > 0 for charge in charges) >= len(charges) else -1
    known = {index: bound for index, charge in enumerate(charges) if (bound := factor_bounds(charge))}
    bounds = {
        index: (low, high)
        for index, (low, high) in known.items()
        if _sign(charges[index]) == sign and (sign < 0 or not low <= 1 <= high)
    }
    if not bounds:
        return None, []
    ends = sorted(
        [(low, 0, index) for index, (low, _) in bounds.items()]
        + [(high, 1, index) for index, (_, high) in bounds.items()]
    )
    depth, deepest, at = 0, 0, ends[0][0]
    for end, closes, _ in ends:
        depth += -1 if closes else 1
        if depth > deepest:
            deepest, at = depth, end
    fitting = [index for index, (low, high) in bounds.items() if low <= at <= high]
    if len(fitting) < MIN_COMMON_AMOUNTS() or len(fitting) < MIN_COMMON_SHARE() * len(charges):
        return None, []
    widths = sorted(
        _FINE.divide(high, low) - 1 if low > 0 else Decimal(1) for low, high in map(bounds.__getitem__, fitting)
    )
    chance = exact_product(min(width, Decimal(1)) for width in widths[1:])  # the narrowest one says the factor
    members = [charges[index] for index in fitting]
    if chance > _MAX_CHANCE or _same_difference(members) is not None:
        return None, []
    factor = _simplest(at, min(bounds[index][1] for index in fitting))
    return (factor * sign, members) if factor is not None else (None, [])


def _same_difference(charges: list[Charge]) -> Decimal | None:
    """By how much all amounts, of which at least two are expected to differ, are off; None if not by the same."""
    differences = {Decimal(difference(charge.invoiced, charge.amount)) for charge in charges}
    return differences.pop() if len(differences) == 1 and len({charge.amount for charge in charges}) > 1 else None


def _difference_causes(charges: list[Charge], rounded: list[Charge]) -> None:
    """Set the cause of amounts that are all off by the same, if they are most of their currency without a cause."""
    every = Counter(charge.currency for charge in charges)
    groups: dict[tuple[str, Decimal], list[Charge]] = {}
    for charge in charges:
        groups.setdefault(_off(charge), []).append(charge)
    for (currency, off), members in groups.items():
        enough = len(members) >= MIN_COMMON_AMOUNTS() and len(members) >= MIN_COMMON_SHARE() * every[currency]
        if enough and _same_difference(members) is not None:
            words = f"{exact_money(abs(off), currency)} {'more' if off > 0 else 'less'} than expected"
            cause = Cause(SAME_DIFFERENCE, "high", words)
            fitting = [(charge, cause) for charge in rounded if _off(charge) == (currency, off)]
            for charge in members:
                set_cause(charge.row, cause)
            _set_echoes(len(members), fitting, rounded)


def _off(charge: Charge) -> tuple[str, Decimal]:
    """By how much a charge is off, in its currency."""
    return charge.currency, Decimal(difference(charge.invoiced, charge.amount))


def swapped_amount_causes(charges: list[Charge]) -> None:
    """Set the cause of amounts of two customers of which each is charged what is expected of the other."""
    by_amount: dict[tuple[Key, str, Decimal], list[Charge]] = {}
    for charge in charges:
        by_amount.setdefault((charge.row.key[1:], charge.currency, charge.amount), []).append(charge)
    for charge in charges:
        others = by_amount.get((charge.row.key[1:], charge.currency, charge.invoiced), [])
        others = [other for other in others if other.row.key[0] != charge.row.key[0]]
        same = by_amount[charge.row.key[1:], charge.currency, charge.amount]
        if len(others) == len(same) == 1 and others[0].invoiced == charge.amount:
            words = f"the amount of customer {others[0].row.key[0]}, who is charged that of this one"
            among = frozenset({charge.row.key[0], others[0].row.key[0]})
            set_cause(charge.row, Cause(SWAPPED, "high", words, among))


def _simplest(low: Decimal, high: Decimal) -> Decimal | None:
    """The decimal of fewest digits between two; None if none is short, or there is no upper one."""
    if not high.is_finite():
        return None
    for digits in range(-9, MAX_FACTOR_DIGITS() + 1):
        unit = Decimal(1).scaleb(-digits)
        number = (low / unit).to_integral_value(ROUND_CEILING) * unit
        if low <= number <= high and number:
            return Decimal(plain(number))
    return None


def _known_factor(charge: Charge) -> Decimal | None:
    bounds = factor_bounds(charge)
    if bounds is None or bounds[1] > MAX_FACTOR_SPREAD() * bounds[0]:
        return None
    if _sign(charge) < 0:
        return Decimal(-1) if bounds[0] <= 1 <= bounds[1] else None
    for factor in AMOUNT_FACTORS:
        for candidate in (Decimal(factor), _FINE.divide(Decimal(1), Decimal(factor))):
            if bounds[0] <= candidate <= bounds[1]:
                return candidate
    return None


def _specific(charge: Charge, book: PriceBook, zone: ZoneInfo, name: str = "") -> Cause | None:
    """The one wrong use of the price book that gives the invoiced amount, perhaps of those of a name alone.

    Tried are all its lines together, and those of each price beside the right amounts of the others.
    """
    lines = charge.row.expected.lines if charge.row.expected else []
    keys = dict.fromkeys(line.part.price.key for line in lines)
    for key in (None, *keys) if len(keys) > 1 else (None,):
        members = [line for line in lines if key in (None, line.part.price.key)]
        others = (rate(line.part.price, line.billable).amount for line in lines if line not in members)
        invoiced = Decimal(difference(charge.invoiced, total(others)))
        if cause := _of_lines(charge._replace(invoiced=invoiced), members, book, zone, name):
            return cause
    return None


def _of_lines(charge: Charge, lines: list[Line], book: PriceBook, zone: ZoneInfo, name: str) -> Cause | None:
    prices = {line.part.price.place: line.part.price for line in lines}
    can_add = all(line.part.price.aggregation in ("sum", "count") for line in lines)
    if not lines or (len(lines) > 1 and not can_add) or len({line.metric_key for line in lines}) > 1:
        return None
    quantity = total(line.billable for line in lines)
    for price in prices.values():
        for cause, wrong in _wrong_prices(price, prices, book, charge.currency, zone, charge.row.key):
            if not wrong.tiers or (wrong in prices.values() and len(prices) == 1) or name not in ("", cause.name):
                continue
            if _fits(charge, wrong, quantity):
                return cause
        if len(lines) == 1:
            for cause, amount in _wrong_tiers(price, quantity):
                if name in ("", cause.name) and _is_within(charge, amount):
                    return cause
            for cause, wrong_quantity in wrong_aggregations(lines) if charge.invoiced else ():  # 0 fits any small one
                if name in ("", cause.name) and _fits(charge, price, wrong_quantity):
                    return cause
    return None


def _fits(charge: Charge, price: Price, quantity: Decimal) -> bool:
    return _is_within(charge, rate(price, quantity).exact)


def _wrong_prices(
    price: Price, applied: Mapping[str, Price], book: PriceBook, currency: str, zone: ZoneInfo, key: Key
) -> Iterator[tuple[Cause, Price]]:
    """Prices that a biller may have applied instead, and what that says."""
    since, until = price.span(zone)
    is_one = len({one.key for one in applied.values()}) == 1  # several are no change, as that of a product
    for other in (one for one in book.by_key[price.key] if one.currency == currency):
        begins, ends = other.span(zone)
        if other.place in applied and is_one:
            words = f"the whole quantity at the price that is valid {_validity(other, zone)}"
        elif begins >= until:
            words = f"the quantity at the later price, valid from {_moment(begins, zone)}"
        elif ends <= since:
            words = f"the quantity at the former price, valid until {_moment(ends, zone)}"
        else:
            continue
        yield Cause(PRICE_CHANGE, "high", words), other
    named = {"volume": "volume", "staircase": "staircase (graduated)"}
    if price.model in named:
        other_model: Model = "staircase" if price.model == "volume" else "volume"
        words = f"the amount by {named[other_model]}, while {price.label} is {named[price.model]}"
        yield Cause(f"{other_model} instead of {price.model}", "high", words), replace(price, model=other_model)
    if price.included_quantity:
        words = f"the amount without the included quantity of {in_sentence(price.included_quantity)}"
        yield Cause("included quantity", "high", words), replace(price, included_quantity=Decimal(0))
    if price.minimum_amount:
        words = f"the amount without the minimum of {exact_money(price.minimum_amount, price.currency)}"
        yield Cause("minimum", "high", words), replace(price, minimum_amount=Decimal(0))
    for other in _related(price, book, key):
        if other.key != price.key and other.currency == currency:
            words = f"the amount at another price: {other.place}, {other.label}"
            yield Cause(ANOTHER_PRICE, "high", words), other


def _validity(price: Price, zone: ZoneInfo) -> str:
    since, until = price.span(zone)
    parts = [f"from {_moment(since, zone)}"] if price.valid_from else []
    return " ".join([*parts, *([f"until {_moment(until, zone)}"] if price.valid_to else [])]) or "always"


def _moment(instant: datetime, zone: ZoneInfo) -> str:
    return date_and_time(instant.astimezone(zone)).removesuffix(" 00:00")


def _related(price: Price, book: PriceBook, key: Key) -> list[Price]:
    """The customer's own and the general prices of the same metric, or without one of the same price key."""
    name = "metric_key" if price.metric_key is not None else "price_key"
    value = getattr(price, name)
    if value is None:
        return []
    own, general = (book.by_subject.get((customer, name, value), []) for customer in (key[0], None))
    return [*own, *general][: MAX_RELATED_PRICES()]


def _wrong_tiers(price: Price, quantity: Decimal) -> Iterator[tuple[Cause, Decimal]]:
    """The whole quantity at the amount of each tier."""
    if price.model not in ("volume", "staircase"):
        return
    charged = rate(price, quantity).charged_quantity
    for number, tier in enumerate(price.tiers, 1):
        unit_amount = exact_money(tier.unit_amount, price.currency)
        words = f"the whole quantity at tier {number}, {unit_amount} a unit, of {price.label}"
        yield (
            Cause("wrong tier", "high", words),
            total((exact_product((charged, tier.unit_amount)), tier.flat_amount)),
        )


def taken(lines: Sequence[Line]) -> str | None:
    """What the prices of lines take of the quantities, such as "sum" or "max"; None where they differ."""
    kinds = {line.part.price.aggregation.partition(":")[0] for line in lines}
    return kinds.pop() if len(kinds) == 1 else None


def wrong_aggregations(lines: list[Line]) -> Iterator[tuple[Cause, Decimal]]:
    """The summed quantities and the number of events, where the prices of lines take something else of them."""
    takes, right = taken(lines), total(line.billable for line in lines)
    if takes is None:
        return
    sums = ("sum", total(line.quantity for line in lines)), ("count", Decimal(sum(line.events for line in lines)))
    for name, quantity in sums:
        if name != takes and quantity != right:
            yield Cause(AGGREGATION, "high", f"by the {name}, while the price takes the {takes}"), quantity


class Shift(NamedTuple):
    """By how many quarters of an hour a period's start and end are moved."""

    start: int
    end: int

    def moved(self, span: tuple[datetime, datetime]) -> tuple[datetime, datetime]:
        """The moved ends."""
        return span[0] + self.start * QUARTER, span[1] + self.end * QUARTER

    @property
    def is_of_days(self) -> bool:
        """Whether each end is moved by whole days or not at all."""
        return not (self.start % _DAY_QUARTERS or self.end % _DAY_QUARTERS)


def shift_hours() -> int:
    """`MAX_SHIFT` in whole hours."""
    return MAX_SHIFT() // (_HOUR_QUARTERS * QUARTER)


def shifts() -> tuple[Shift, ...]:
    """The shifts that are tried: the whole period by hours, or one of its ends by days."""
    hours = [hours * _HOUR_QUARTERS for hours in range(-shift_hours(), shift_hours() + 1) if hours]
    days = [moved for moved in hours if not moved % _DAY_QUARTERS]
    return (
        *(Shift(moved, moved) for moved in hours),
        *(Shift(moved, 0) for moved in days),
        *(Shift(0, moved) for moved in days),
    )


UsageAtEnds = Mapping[Key, Mapping[tuple[str, int], tuple[int, Decimal]]]
"""(events, quantity) by key, and by end ("start", "end") and quarter of an hour relative to it, negative before it."""


class Moved(NamedTuple):
    """What moving the ends does: the events that it takes in or leaves out, and the changes of events and quantity."""

    moved: int
    events: int
    quantity: Decimal
