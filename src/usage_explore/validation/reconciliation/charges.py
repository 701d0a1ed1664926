"""Findings of invoice lines that charge different unit prices for one price.

Lines of one price key and currency should have one. Amounts are rounded, some more than others: a line's
unit price is known to within one unit of its own last decimal, divided by its quantity. At 0.01402 a unit, 1,042 units
may be 14.61 and 2 units 0.02804. Zeros at the end are ignored, since exports add and drop them: the last decimal is
that of the last other digit, and at most the currency's smallest unit (14.5 EUR is 14.50). If no line of the price has
decimals, all are rounded to whole units of the currency. Quantities may be rounded by up to the tolerance of the
invoices: 26,920 units within 5 may be 26,915 to 26,925. The usual unit price is the one that fits most lines, at
least two: where all differ, there is none. Where as many fit another one, the lowest is stated as one of them. Two
lines alone are a question, if one charges `DOUBLED_FACTOR` times the other's unit price or more, and they are no fees.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import MAX_PREC, Context, Decimal
from typing import Any, Literal, NamedTuple

from usage_explore.decimals import total
from usage_explore.formatting import counted, data_value, span_in
from usage_explore.pricing.currencies import exact_money
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Finding
from usage_explore.validation.periods import part
from usage_explore.validation.reconciliation.compare import Row
from usage_explore.validation.reconciliation.differences import (
    MAX_LISTED_LINES,
    NAME,
    Differences,
)
from usage_explore.validation.reconciliation.invoices import InvoiceLine, decimals_of, last_decimal

BOUNDS = CheckBounds("reconciliation")

# fmt: off
DOUBLED_FACTOR = BOUNDS.add("doubled_factor", 2, "factor", 1, 1000,
    "A line at this many times the usual unit price or more is wrong, not rounded or tiered, if at least half of "
    "the lines agree; so is one of the other sign.")
# fmt: on

_FINE = Context(prec=60)
_EXACT = Context(prec=MAX_PREC)

PriceColumn = Literal["price_key", "metric_key"]
_PriceOfLine = tuple[PriceColumn, str, str | None]


@dataclass(frozen=True, slots=True)
class UnitPriceDeviation:
    """Lines of a price in a currency whose unit price differs from that of the `usual` line, which fits most.

    `column` is "price_key", or "metric_key" for lines without a price, and `key` its value. `lines` counts all lines of
    the price. `doubled` are the deviating lines at `DOUBLED_FACTOR` times the usual unit price or more, or with the
    other sign; none unless at least half of the lines agree, and more than half of those without decimals. `tied` is a
    line whose unit price fits as many lines, though not the same ones; None if there is none. Two lines alone that
    differ both deviate.
    """

    column: PriceColumn
    key: str
    currency: str | None
    usual: InvoiceLine
    lines: int
    deviating: tuple[InvoiceLine, ...]
    doubled: tuple[InvoiceLine, ...]
    tied: InvoiceLine | None = None


def unit_price_deviations(lines: Iterable[InvoiceLine], tolerance: Decimal = Decimal(0)) -> list[UnitPriceDeviation]:
    """The prices of which two lines or more have one unit price and others another, or of which two lines alone differ
    by a factor, those with most lines that deviate first.

    The quantity of a line may be off by `tolerance`. Lines without a price key are compared with the others of their
    metric that have none. Lines without an amount or a quantity are ignored.
    """
    by_price = _by_price(lines)
    judged = (_deviation(*price, members, tolerance) for price, members in by_price.items() if len(members) > 1)
    deviations = [deviation for deviation in judged if deviation is not None]
    return sorted(deviations, key=lambda one: (-len(one.deviating), one.column, one.key, one.currency or ""))


def without_usual_price(lines: list[InvoiceLine], tolerance: Decimal) -> frozenset[int]:
    """The numbers of the lines with an amount that no other line judges: no two lines of their price have one."""
    judged: set[int] = set()
    for members in _by_price(lines).values():
        if sum(_compared(members, tolerance)[-1]) > 1:
            judged.update(line.line for line in members)
    return frozenset(line.line for line in lines if line.amount is not None and line.line not in judged)


def _by_price(lines: Iterable[InvoiceLine]) -> dict[_PriceOfLine, list[InvoiceLine]]:
    by_price: dict[_PriceOfLine, list[InvoiceLine]] = {}
    for line in lines:
        if price := _price_of(line):
            by_price.setdefault(price, []).append(line)
    return by_price


def _price_of(line: InvoiceLine) -> _PriceOfLine | None:
    """What a line's unit price is compared by; None without an amount or a quantity."""
    if line.amount is None or not line.quantity:
        return None
    if line.price_key is not None:
        return "price_key", line.price_key, line.currency
    return None if line.metric_key is None else ("metric_key", line.metric_key, line.currency)


def set_fitting_quantities(rows: Iterable[Row], tolerance: Decimal) -> None:
    """Set `amount_fits` of rows with a wrong quantity on one line, by the unit price of lines with a right one."""
    by_price: dict[_PriceOfLine, list[tuple[Row, InvoiceLine]]] = {}
    for row in rows:
        for line in row.lines if row.expected is None or not row.expected.is_priced else ():
            if price := _price_of(line):
                by_price.setdefault(price, []).append((row, line))
    for members in by_price.values():
        is_whole = not any(decimals_of(line.amount or Decimal(0)) for _, line in members)
        right = [(row, line) for row, line in members if row.status == "matched"]
        if not right:
            continue
        bounds = [_bounds(line, _last_decimal(line, is_whole), tolerance) for _, line in right]
        usual, *tied = _most_fitting(bounds)
        if tied:
            continue  # right lines that differ say no unit price
        least = bounds[usual].low
        most = min(high for low, high in bounds if low <= least <= high)
        for row, line in members:
            if row.status not in ("over-billed", "under-billed") or len(row.lines) > 1 or not row.recomputed:
                continue
            unit, used = _last_decimal(line, is_whole), line._replace(quantity=row.recomputed)
            fits_used, fits_invoiced = (
                low <= most and least <= high for low, high in (_bounds(one, unit, tolerance) for one in (used, line))
            )
            if fits_used != fits_invoiced:
                row.amount_fits = "used" if fits_used else "invoiced"


def unit_price_finding(differences: Differences, deviation: UnitPriceDeviation) -> Finding:
    """One finding for a price; of one customer's if all deviating lines are."""
    examination, column, deviating = differences.examination, deviation.column, deviation.deviating
    since, until = examination.period.span
    customers = {line.customer_id for line in deviating}
    customer = customers.pop() if len(customers) == 1 else None
    index = differences.columns.index(column) + 1
    rows = [row for row in differences.rows if row.key[index] == deviation.key and customer in (None, row.key[0])]
    example, usual = (deviation.doubled or deviating)[0], deviation.usual
    others = deviation.lines - len(deviating) - 1
    alike = "most others" if others > 1 and 2 * len(deviating) < deviation.lines else counted(others, "other")
    currency = deviation.currency
    tied = f"; as many fit line {deviation.tied.line:,}: nothing here says which is right" if deviation.tied else ""
    key: dict[str, Any] = {column: deviation.key}
    span = span_in(since, until, examination.period.zone)
    of_price = f"{column.removesuffix('_key')} {data_value(deviation.key)}"
    if len(deviating) == deviation.lines:
        charged = (f"{exact_money(_unit_price(line), currency)} (line {line.line:,})" for line in deviating)
        words = (
            f"{deviation.lines:,} lines of {of_price}, {span}, are charged at about"
            f" {' and '.join(charged)} a unit: which is right, the lines do not tell."
        )
    else:
        words = (
            f"{counted(len(deviating), 'line')} of {deviation.lines:,} of {of_price}, {span},"
            f" {'charges' if len(deviating) == 1 else 'charge'} another unit price than the others: line"
            f" {example.line:,} about {exact_money(_unit_price(example), currency)}, while line {usual.line:,} and"
            f" {alike} charge about {exact_money(_unit_price(usual), currency)}{tied}."
        )
    return Finding(
        check=NAME,
        kind="unit price",
        severity="high" if deviation.doubled else "medium",
        sentence=words,
        since=since,
        until=until,
        events=sum(row.events for row in rows),
        question=examination.aggregate_question(metric="sum_quantity", customer_id=customer, **key),
        share=part(len(deviating), deviation.lines),
        share_of=f"lines of {of_price}",
        customer_id=customer,
        **key,
        facts=tuple(
            (name, ", ".join(f"{line.line}" for line in lines[:MAX_LISTED_LINES]))
            for name, lines in (
                ("deviating lines", deviating),
                ("charged twice or more, or with the other sign", deviation.doubled),
            )
            if lines
        ),
    )


def _unit_price(line: InvoiceLine) -> Decimal:
    """Amount by quantity of a line that has both, to 12 significant digits."""
    return Context(prec=12).divide(line.amount or Decimal(0), line.quantity)


class _Bounds(NamedTuple):
    """The least and the largest unit price of a line before rounding; may be infinite if its quantity may be 0."""

    low: Decimal
    high: Decimal


def _deviation(
    column: PriceColumn, key: str, currency: str | None, lines: list[InvoiceLine], tolerance: Decimal
) -> UnitPriceDeviation | None:
    is_whole, bounds, (usual, *tied), fits = _compared(lines, tolerance)
    is_pair = not all(fits) and _are_apart(lines, bounds)
    if all(fits) or (sum(fits) < 2 and not is_pair):  # of taxes or fees, which all differ, no unit price is the usual
        return None
    deviating = [index for index, fit in enumerate(fits) if is_pair or not fit]
    doubled: list[int] = []
    # whole units tell small amounts hardly apart: half of four lines may agree by chance
    if 2 * len(deviating) < len(lines) + (not is_whole):
        agreeing = [index for index, fit in enumerate(fits) if fit]
        # all agreeing bounds contain the usual line's lower one, so that it is the highest of the lower ones
        price = _Bounds(bounds[usual].low, min(bounds[index].high for index in agreeing))
        sign = _sign([lines[index] for index in agreeing])
        for index in deviating:
            # an amount that is rounded by one unit and then multiplied is off by `DOUBLED_FACTOR` units or more
            unit = _EXACT.multiply(_last_decimal(lines[index], is_whole), DOUBLED_FACTOR())
            if _may_be_doubled(bounds[index], _bounds(lines[index], unit, tolerance), price, sign):
                doubled.append(index)
    return UnitPriceDeviation(
        column,
        key,
        currency,
        usual=lines[usual],
        lines=len(lines),
        deviating=tuple(lines[index] for index in deviating),
        doubled=tuple(lines[index] for index in doubled),
        tied=lines[tied[0]] if tied else None,
    )


def _are_apart(lines: list[InvoiceLine], bounds: list[_Bounds]) -> bool:
    """Whether lines are two alone, no fees for one unit each, at unit prices of other signs or a factor apart."""
    if len(lines) != 2 or not all(line.amount for line in lines) or all(line.quantity == 1 for line in lines):
        return False
    ends = [end.copy_abs() for each in bounds for end in each]
    is_other_sign = len({_unit_price(line) < 0 for line in lines}) > 1
    return is_other_sign or max(ends) >= _FINE.multiply(DOUBLED_FACTOR(), min(ends))


def _sign(lines: Iterable[InvoiceLine]) -> int:
    """1, -1 or 0: the sign of the lines' total amount, quantities taken as positive."""
    charged = total((line.amount or Decimal(0)).copy_sign(_unit_price(line)) for line in lines)
    return (charged > 0) - (charged < 0)


def _may_be_doubled(line: _Bounds, multiplied: _Bounds, price: _Bounds, sign: int) -> bool:
    """Whether a line may charge `DOUBLED_FACTOR` times a price of this sign or more, or charges with the other sign.

    `multiplied` are the line's bounds if its amount was multiplied after rounding. The price may be as near to 0 as its
    own bounds allow.
    """
    if not sign:
        return False
    if sign < 0:
        line, multiplied, price = (
            _Bounds(bounds.high.copy_negate(), bounds.low.copy_negate()) for bounds in (line, multiplied, price)
        )
    if line.high < 0:
        return True
    return line.low > price.low and multiplied.high >= _FINE.multiply(DOUBLED_FACTOR(), max(price.low, Decimal(0)))


def _compared(lines: list[InvoiceLine], tolerance: Decimal) -> tuple[bool, list[_Bounds], list[int], list[bool]]:
    """Whether no amount has decimals; the lines' bounds, those that most fit, and which fit the first of these."""
    is_whole = not any(decimals_of(line.amount or Decimal(0)) for line in lines)
    bounds = [_bounds(line, _last_decimal(line, is_whole), tolerance) for line in lines]
    usual = _most_fitting(bounds)
    return is_whole, bounds, usual, [low <= bounds[usual[0]].low <= high for low, high in bounds]


def _bounds(line: InvoiceLine, unit: Decimal, tolerance: Decimal) -> _Bounds:
    """The bounds of a line whose amount is rounded by up to `unit`, and its quantity by up to `tolerance`."""
    amount, size = (line.amount or Decimal(0)).copy_sign(Decimal(1)), line.quantity.copy_abs()
    if ((line.amount or Decimal(0)) < 0) != (line.quantity < 0):
        amount = amount.copy_negate()
    least, most = _EXACT.subtract(size, min(size, tolerance)), _EXACT.add(size, tolerance)
    low, high = _EXACT.subtract(amount, unit), _EXACT.add(amount, unit)
    return _Bounds(_divided(low, most if low >= 0 else least), _divided(high, least if high >= 0 else most))


def _divided(amount: Decimal, quantity: Decimal) -> Decimal:
    """Amount by quantity; infinite for a quantity of 0, and 0 by 0 is 0."""
    if quantity:
        return _FINE.divide(amount, quantity)
    return Decimal("Infinity").copy_sign(amount) if amount else Decimal(0)


def _last_decimal(line: InvoiceLine, is_whole: bool) -> Decimal:
    return last_decimal(line.amount or Decimal(0), line.currency or "", is_whole)


def _most_fitting(bounds: list[_Bounds]) -> list[int]:
    """The indexes of the bounds whose lower end lies within most of the bounds; of bounds in a row the last one."""
    ends = sorted(
        [(low, 0, index) for index, (low, _) in enumerate(bounds)]
        + [(high, 1, index) for index, (_, high) in enumerate(bounds)]
    )
    depth, deepest, most_fitting = 0, 0, [0]
    for _, closes, index in ends:
        depth += -1 if closes else 1
        if depth > deepest:
            deepest, most_fitting = depth, [index]
        elif depth == deepest and not closes:
            most_fitting.append(index)
    return most_fitting
