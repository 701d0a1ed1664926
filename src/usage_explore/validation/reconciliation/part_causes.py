"""Causes of wrong amounts that lie in one price: a factor of its part beside right ones, and a unit price that the book
does not have.

Both must give `MIN_COMMON_AMOUNTS` and half of the amounts with that price, beyond coincidence (see `common_factor`); a
factor that the parts of two prices could have is not guessed at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from usage_explore.decimals import difference, plain, total
from usage_explore.formatting import exact
from usage_explore.pricing.amounts import rate
from usage_explore.pricing.book import Price
from usage_explore.pricing.currencies import exact_money
from usage_explore.pricing.usage import Line
from usage_explore.validation.reconciliation.causes import (
    FACTOR,
    Cause,
    Charge,
    common_factor,
    factor_bounds,
    set_cause,
)

UNKNOWN_PRICE = "price not in the book"


def part_causes(charges: Iterable[Charge]) -> None:
    """Set the cause of amounts without one that are wrong by the part of one price, or by another unit price of it."""
    charges = list(charges)
    _factor_causes([charge for charge in charges if charge.row.cause is None], charges)
    _price_causes([charge for charge in charges if charge.row.cause is None])


def _factor_causes(left: list[Charge], charges: list[Charge]) -> None:
    by_place: dict[str, list[Charge]] = {}
    for charge in left:
        places = {line.part.price.place for line in _lines(charge)}
        for place in places if len(places) > 1 else ():
            by_place.setdefault(place, []).append(charge)
    found = []
    for place, members in by_place.items():
        factor, fitting = common_factor([_part(charge, place) for charge in members])
        if factor is not None:
            found.append((factor, place, [charge.row for charge in fitting]))
    for factor, place, rows in found:
        keys = {id(row) for row in rows}
        if any(keys & {id(row) for row in others} for _, other, others in found if other != place):
            continue
        price = next(line.part.price for charge in by_place[place] for line in _lines(charge) if _is(line, place))
        words = f"{exact(factor)} times what is expected by {place}, {price.label}, beside what is expected by others"
        name = f"{FACTOR}{plain(factor)}"
        of_place = (charge for charge in charges if all(_is(line, place) for line in _lines(charge)))
        alone = [
            charge.row for charge in of_place if charge.row.explained_by in ("", name) and _has_factor(charge, factor)
        ]
        for row in (*rows, *alone):
            set_cause(row, Cause(f"{name} of one price", "high", words))


def _price_causes(left: list[Charge]) -> None:
    by_price: dict[str, list[Charge]] = {}
    prices: dict[str, Price] = {}
    for charge in left:
        if len(lines := _lines(charge)) == 1 and _is_plain(price := lines[0].part.price):
            prices[price.place] = price
            by_price.setdefault(price.place, []).append(charge)
    for place, members in by_price.items():
        price = prices[place]
        quantities: Mapping[int, Decimal] = {
            id(charge.row): rate(price, _lines(charge)[0].billable).charged_quantity for charge in members
        }
        tried = [
            charge._replace(exact=quantities[id(charge.row)], amount=quantities[id(charge.row)]) for charge in members
        ]
        unit_amount, fitting = common_factor(tried)
        if unit_amount is None or unit_amount == price.tiers[0].unit_amount:
            continue
        words = (
            f"the amount at {exact_money(unit_amount, price.currency)} a unit, which no price of the book for it is;"
            f" {place} has {exact_money(price.tiers[0].unit_amount, price.currency)}"
        )
        for charge in fitting:
            set_cause(charge.row, Cause(UNKNOWN_PRICE, "high", words))


def _lines(charge: Charge) -> list[Line]:
    return charge.row.expected.lines if charge.row.expected is not None else []


def _has_factor(charge: Charge, factor: Decimal) -> bool:
    bounds = factor_bounds(charge)
    return bounds is not None and bounds[0] <= factor <= bounds[1] and (charge.invoiced < 0) == (charge.exact < 0)


def _is(line: Line, place: str) -> bool:
    return line.part.price.place == place


def _is_plain(price: Price) -> bool:
    return price.model == "per_unit" and not price.minimum_amount and not price.tiers[0].flat_amount


def _part(charge: Charge, place: str) -> Charge:
    """What a charge leaves for one price beside the right amounts of the others."""
    rated = [(_is(line, place), rate(line.part.price, line.billable)) for line in _lines(charge)]
    others = total(amount.amount for is_own, amount in rated if not is_own)
    return charge._replace(
        invoiced=Decimal(difference(charge.invoiced, others)),
        amount=total(amount.amount for is_own, amount in rated if is_own),
        exact=total(amount.exact for is_own, amount in rated if is_own),
    )
