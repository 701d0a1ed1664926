"""Whether invoice lines of one price charge the same for a unit.

What a line charges is rounded, some lines more than others, so its unit price is known to within one unit of its own
last decimal, divided by its quantity: at 0.01402 a unit, 1,042 units may be 14.61 and 2 units 0.02804. Zeros at the end
say nothing, since exports add and drop them: the last decimal is that of the last other digit, and at least the
currency's smallest unit (14.5 EUR is 14.50). The unit price that fits most lines is taken for theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import MAX_PREC, Context, Decimal
from typing import Literal, NamedTuple

from usage_explore.decimals import total
from usage_explore.validation.reconciliation.invoices import InvoiceLine

DOUBLE = 2
"""A line at this many times the usual unit price or more, or at one of the other sign, is wrong where half of the lines
or more agree: neither rounding nor tiers, which give many prices, explain it."""

_FINE = Context(prec=60)
_EXACT = Context(prec=MAX_PREC)

_DECIMALS = (
    (0, re.compile("BIF|CLP|DJF|GNF|ISK|JPY|KMF|KRW|PYG|RWF|UGX|UYI|VND|VUV|XAF|XOF|XPF", re.IGNORECASE)),
    (3, re.compile("BHD|IQD|JOD|KWD|LYD|OMR|TND", re.IGNORECASE)),
    (4, re.compile("CLF|UYW", re.IGNORECASE)),
    (2, re.compile("[A-Z]{3}", re.IGNORECASE | re.ASCII)),
)
"""The decimals of currencies by ISO 4217, the first that matches."""

_FLOAT_DIGITS = 14
"""A binary float written out is wrong behind this many digits: 0.30000000000000004."""


@dataclass(frozen=True, slots=True)
class Deviation:
    """Lines of a price in a currency that charge another unit price than the `usual` line, as most do.

    `column` is "price_key", or "metric_key" of lines that name no price, and `key` its value.
    `doubled` are those of them that are charged `DOUBLE` the usual price or more, where half of the lines or more agree
    on that.
    """

    column: Literal["price_key", "metric_key"]
    key: str
    currency: str | None
    usual: InvoiceLine
    lines: int
    deviating: tuple[InvoiceLine, ...]
    doubled: tuple[InvoiceLine, ...]


def deviations(lines: Iterable[InvoiceLine]) -> list[Deviation]:
    """The prices whose lines cannot all have one unit price, those with the most such lines first.

    Lines without a price key are compared with the others of their metric that have none. Lines without an amount or a
    quantity are left aside.
    """
    by_price: dict[tuple[Literal["price_key", "metric_key"], str, str | None], list[InvoiceLine]] = {}
    for line in lines:
        if line.amount is None or not line.quantity:
            continue
        if line.price_key is not None:
            by_price.setdefault(("price_key", line.price_key, line.currency), []).append(line)
        elif line.metric_key is not None:
            by_price.setdefault(("metric_key", line.metric_key, line.currency), []).append(line)
    found = [_deviation(*price, held) for price, held in by_price.items() if len(held) > 1]
    told = [deviation for deviation in found if deviation is not None]
    return sorted(told, key=lambda each: (-len(each.deviating), each.column, each.key, each.currency or ""))


def unit_price(line: InvoiceLine) -> Decimal:
    """What a line with an amount and a quantity charges for a unit, to 12 significant digits."""
    return Context(prec=12).divide(line.amount or Decimal(0), line.quantity)


def _deviation(
    column: Literal["price_key", "metric_key"], key: str, currency: str | None, lines: list[InvoiceLine]
) -> Deviation | None:
    bounds = [_bounds(line) for line in lines]
    usual = _most_fitting(bounds)
    fits = [low <= bounds[usual][0] <= high for low, high in bounds]
    if all(fits):
        return None
    deviating = tuple(line for line, fit in zip(lines, fits, strict=True) if not fit)
    doubled: tuple[InvoiceLine, ...] = ()
    if 2 * len(deviating) <= len(lines):
        agreeing = [at for at, fit in enumerate(fits) if fit]
        price = _Price(
            low=bounds[usual][0],  # the highest lower bound: every agreeing line's bounds contain it
            high=min(bounds[at][1] for at in agreeing),
            sign=_sign([lines[at] for at in agreeing]),
        )
        doubled = tuple(line for line in deviating if _may_be_doubled(_bounds(line), price))
    return Deviation(column, key, currency, lines[usual], len(lines), deviating, doubled)


class _Price(NamedTuple):
    """The unit price of agreeing lines: between `low` and `high`, and by the sum of their amounts of this `sign`."""

    low: Decimal
    high: Decimal
    sign: int


def _sign(lines: Iterable[InvoiceLine]) -> int:
    """1, -1 or 0: the sign of what the lines charge together, quantities taken as positive."""
    charged = total((line.amount or Decimal(0)).copy_sign(unit_price(line)) for line in lines)
    return (charged > 0) - (charged < 0)


def _may_be_doubled(bounds: tuple[Decimal, Decimal], price: _Price) -> bool:
    """Whether a line may charge `DOUBLE` times the price or more, or charges with the other sign.

    An amount that was rounded by up to a step and then multiplied is off by `DOUBLE` steps, and the price that it is
    compared with is only known to lie within its own bounds.
    """
    if not price.sign:
        return False
    low, high = bounds if price.sign > 0 else (bounds[1].copy_negate(), bounds[0].copy_negate())
    usual = price.low if price.sign > 0 else price.high.copy_negate()
    if high < 0:
        return True
    step = _FINE.divide(_FINE.subtract(high, low), 2)
    highest = _FINE.add(high, _FINE.multiply(step, DOUBLE - 1))
    return low > usual and highest >= _FINE.multiply(DOUBLE, max(usual, Decimal(0)))


def _bounds(line: InvoiceLine) -> tuple[Decimal, Decimal]:
    amount, step = line.amount or Decimal(0), _step(line)
    ends = [_FINE.divide(_EXACT.add(amount, by), line.quantity) for by in (step.copy_negate(), step)]
    return min(ends), max(ends)


def _step(line: InvoiceLine) -> Decimal:
    """One unit of the last decimal that a line's amount is rounded to."""
    amount, currency = line.amount or Decimal(0), line.currency or ""
    usual = min(_decimals(amount), 2)
    usual = next((decimals for decimals, codes in _DECIMALS if codes.fullmatch(currency)), usual)
    decimals = max(_decimals(_EXACT.normalize(amount)), usual)
    return max(Decimal(1).scaleb(-decimals), Decimal(1).scaleb(amount.adjusted() - _FLOAT_DIGITS))


def _most_fitting(bounds: list[tuple[Decimal, Decimal]]) -> int:
    """The place of the bounds whose lower end lies within the most of them."""
    ends = sorted(
        [(low, 0, place) for place, (low, _) in enumerate(bounds)]
        + [(high, 1, place) for place, (_, high) in enumerate(bounds)]
    )
    depth, deepest, found = 0, 0, 0
    for _, closes, place in ends:
        depth += -1 if closes else 1
        if depth > deepest:
            deepest, found = depth, place
    return found


def _decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return max(-exponent, 0) if isinstance(exponent, int) else 0
