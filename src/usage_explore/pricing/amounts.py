"""Rates a billable quantity by a price: the tiers that it reaches, and the exact and the rounded amount.

1. The included quantity is taken off: the rest, at least 0, is the charged quantity.
2. The model makes amounts of it. `per_unit`: all units at the unit amount. `volume`: all units at the unit amount of
   the tier that holds the last unit; `up_to` is inclusive. `staircase`: the units of each tier at its own unit amount.
   `package`: whole packages, the last one begun counts as whole. A flat amount is added once for each tier that holds a
   charged unit.
3. The line's minimum applies.
4. The amount is rounded once, half up (half away from zero), to the decimals of the currency.

A negative quantity is a correction, and the amount a credit: its size is rated through the same tiers and the result is
negated. Included quantity, flat amounts and minimum do not apply, since a correction neither uses nor refunds them. A
charged quantity of 0 reaches no tier, so that only the minimum is charged.

>>> from usage_explore.pricing.read import read_prices
>>> tiers = "1000:0.10;10000:0.08;:0.05"
>>> book = read_prices([
...     {"metric_key": "a", "model": "volume", "tiers": tiers, "currency": "USD"},
...     {"metric_key": "b", "model": "staircase", "tiers": tiers, "currency": "USD"},
... ])
>>> [str(rate(price, Decimal(5000)).amount) for price in book.prices]
['400.00', '420.00']
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import MAX_EMAX, MAX_PREC, MIN_EMIN, ROUND_HALF_UP, Context, Decimal
from fractions import Fraction

from usage_explore.decimals import difference, exact_product, total
from usage_explore.pricing.book import Price, Tier

_EXACT = Context(prec=MAX_PREC, rounding=ROUND_HALF_UP, Emax=MAX_EMAX, Emin=MIN_EMIN)
_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class TierAmount:
    """A tier that a quantity reached: its bounds (above, up to inclusive), its part of the quantity, and its amount.

    `packages` is the number of packages of a package price, else None. `amount` is exact.
    """

    above: Decimal
    up_to: Decimal | None
    quantity: Decimal
    unit_amount: Decimal
    flat_amount: Decimal
    amount: Decimal
    packages: int | None = None


@dataclass(frozen=True, slots=True)
class Amount:
    """What a billable quantity costs.

    `charged_quantity` is the quantity after the included one, `exact` the amount before rounding, `amount` the rounded
    one with the currency's decimals.
    """

    charged_quantity: Decimal
    tiers: tuple[TierAmount, ...]
    exact: Decimal
    amount: Decimal


def rounded(amount: Decimal, scale: int) -> Decimal:
    """The amount with `scale` decimals, half up.

    >>> rounded(Decimal("-0.125"), 2), rounded(Decimal("0.5"), 0)
    (Decimal('-0.13'), Decimal('1'))
    """
    result = amount.quantize(Decimal(1).scaleb(-scale), context=_EXACT)
    return result if result else result.copy_abs()


def rate(price: Price, quantity: Decimal) -> Amount:
    """The amount of a finite billable quantity."""
    if quantity < 0:
        tiers = tuple(map(_negated, _tiers(price, quantity.copy_abs(), flat=False)))
        exact = total(tier.amount for tier in tiers)
        return Amount(quantity, tiers, exact, rounded(exact, price.scale))
    charged = max(difference(quantity, price.included_quantity), _ZERO)
    tiers = _tiers(price, Decimal(charged), flat=True)
    exact = max(total(tier.amount for tier in tiers), price.minimum_amount)
    return Amount(Decimal(charged), tiers, exact, rounded(exact, price.scale))


def _tiers(price: Price, quantity: Decimal, *, flat: bool) -> tuple[TierAmount, ...]:
    if not quantity:
        return ()
    if price.model == "package":
        size = price.package_size or Decimal(1)
        packages = math.ceil(Fraction(quantity) / Fraction(size))
        return (_amount(price.tiers[0], _ZERO, quantity, flat, packages),)
    bounds = [(_ZERO if index == 0 else price.tiers[index - 1].up_to or _ZERO) for index in range(len(price.tiers))]
    reached = [(tier, above) for tier, above in zip(price.tiers, bounds, strict=True) if quantity > above]
    if price.model == "volume":
        tier, above = reached[-1]
        return (_amount(tier, above, quantity, flat),)
    return tuple(
        _amount(tier, above, Decimal(difference(_least(quantity, tier.up_to), above)), flat) for tier, above in reached
    )


def _least(quantity: Decimal, up_to: Decimal | None) -> Decimal:
    return quantity if up_to is None else min(quantity, up_to)


def _amount(tier: Tier, above: Decimal, quantity: Decimal, flat: bool, packages: int | None = None) -> TierAmount:
    units = quantity if packages is None else Decimal(packages)
    flat_amount = tier.flat_amount if flat else _ZERO
    amount = total((exact_product((units, tier.unit_amount)), flat_amount))
    return TierAmount(above, tier.up_to, quantity, tier.unit_amount, flat_amount, amount, packages)


def _negated(tier: TierAmount) -> TierAmount:
    return TierAmount(
        tier.above,
        tier.up_to,
        tier.quantity.copy_negate(),
        tier.unit_amount,
        tier.flat_amount,
        tier.amount.copy_negate() if tier.amount else tier.amount,
        tier.packages,
    )
