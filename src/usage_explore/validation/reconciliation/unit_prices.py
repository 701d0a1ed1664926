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
from typing import Literal

from usage_explore.decimals import exact_sum
from usage_explore.validation.reconciliation.lines import Line

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
    usual: Line
    lines: int
    deviating: tuple[Line, ...]
    doubled: tuple[Line, ...]


def deviations(lines: Iterable[Line]) -> list[Deviation]:
    """The prices whose lines cannot all have one unit price, those with the most such lines first.

    Lines without a price key are compared with the others of their metric that have none. Lines without an amount or a
    quantity are left aside.
    """
    by_price: dict[tuple[Literal["price_key", "metric_key"], str, str | None], list[Line]] = {}
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


def unit_price(line: Line) -> Decimal:
    """What a line with an amount and a quantity charges for a unit, to 12 significant digits."""
    return Context(prec=12).divide(line.amount or Decimal(0), line.quantity)


def _deviation(
    column: Literal["price_key", "metric_key"], key: str, currency: str | None, lines: list[Line]
) -> Deviation | None:
    bounds = [_bounds(line) for line in lines]
    usual = _most_fitting(bounds)
    fits = [low <= bounds[usual][0] <= high for low, high in bounds]
    if all(fits):
        return None
    deviating = tuple(line for line, fit in zip(lines, fits, strict=True) if not fit)
    doubled: tuple[Line, ...] = ()
    if 2 * len(deviating) <= len(lines):
        price = _mean(line for line, fit in zip(lines, fits, strict=True) if fit)
        doubled = tuple(line for line in deviating if _is_doubled(_bounds(line), price))
    return Deviation(column, key, currency, lines[usual], len(lines), deviating, doubled)


def _mean(lines: Iterable[Line]) -> Decimal:
    """The unit price of lines together, negative quantities counted like positive ones."""
    charged = [((line.amount or Decimal(0)).copy_sign(unit_price(line)), line.quantity.copy_abs()) for line in lines]
    amount, quantity = (exact_sum(values, Decimal(0)) for values in zip(*charged, strict=True))
    return _FINE.divide(Decimal(amount), Decimal(quantity))


def _is_doubled(bounds: tuple[Decimal, Decimal], price: Decimal) -> bool:
    """Whether a unit price within the bounds may be `DOUBLE` a price that is not 0, or is of the other sign."""
    highest = bounds[1] if price > 0 else bounds[0].copy_negate()
    return bool(price) and (highest >= DOUBLE * price.copy_abs() or highest < 0)


def _bounds(line: Line) -> tuple[Decimal, Decimal]:
    amount, step = line.amount or Decimal(0), _step(line)
    ends = [_FINE.divide(_EXACT.add(amount, by), line.quantity) for by in (step.copy_negate(), step)]
    return min(ends), max(ends)


def _step(line: Line) -> Decimal:
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
