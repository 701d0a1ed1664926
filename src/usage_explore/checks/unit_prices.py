"""Whether invoice lines of one price charge the same for a unit.

What a line charges is rounded, so its unit price is known to within one unit of the last decimal that the amounts of
that price and currency have, divided by its quantity. The price that fits most lines is taken for theirs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Context, Decimal

from usage_explore.checks.invoice_lines import Line

_FINE = Context(prec=60)


@dataclass(frozen=True, slots=True)
class Deviation:
    """Lines of a price in a currency that charge another unit price than the `usual` line, as most do."""

    price_key: str
    currency: str | None
    usual: Line
    lines: int
    deviating: tuple[Line, ...]


def deviations(lines: Iterable[Line]) -> list[Deviation]:
    """The prices whose lines cannot all have one unit price, those with the most such lines first.

    Lines without a price key, an amount or a quantity are left aside.
    """
    by_price: dict[tuple[str, str | None], list[Line]] = {}
    for line in lines:
        if line.price_key is not None and line.amount is not None and line.quantity:
            by_price.setdefault((line.price_key, line.currency), []).append(line)
    found = [_deviation(*price, held) for price, held in by_price.items() if len(held) > 1]
    told = [deviation for deviation in found if deviation is not None]
    return sorted(told, key=lambda each: (-len(each.deviating), each.price_key, each.currency or ""))


def unit_price(line: Line) -> Decimal:
    """What a line with an amount and a quantity charges for a unit, to 12 significant digits."""
    return Context(prec=12).divide(line.amount or Decimal(0), line.quantity)


def _deviation(price_key: str, currency: str | None, lines: list[Line]) -> Deviation | None:
    step = Decimal(1).scaleb(min(_exponent(line.amount) for line in lines))
    bounds = [_bounds(line, step) for line in lines]
    usual = _most_fitting(bounds)
    deviating = tuple(
        line for line, (low, high) in zip(lines, bounds, strict=True) if not low <= bounds[usual][0] <= high
    )
    if not deviating:
        return None
    return Deviation(price_key, currency, lines[usual], len(lines), deviating)


def _bounds(line: Line, step: Decimal) -> tuple[Decimal, Decimal]:
    amount = line.amount or Decimal(0)
    ends = [_FINE.divide(_FINE.add(amount, by), line.quantity) for by in (step.copy_negate(), step)]
    return min(ends), max(ends)


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


def _exponent(amount: Decimal | None) -> int:
    exponent = (amount or Decimal(0)).as_tuple().exponent
    return min(exponent, 0) if isinstance(exponent, int) else 0
