"""Causes that the events are read for again: several general prices instead of an own one, all wallets in one line, and
amounts rounded for each event.

Two cents are no evidence: the differences that one way of rounding explains, each in units of its last decimal, are
multiplied, and must come to `MIN_EVIDENCE`. Where it explains nearly all, each counts one unit more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Numeric, Uuid, any_, case, func, literal, select

from usage_explore.decimals import difference, exact_product
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.reconciliation.causes import (
    ANOTHER_PRICE,
    EVENT_ROUNDING,
    ONE_WALLET,
    Cause,
    Charge,
    is_rounding,
    set_cause,
)
from usage_explore.validation.reconciliation.compare import Key, Row, key_of
from usage_explore.validation.reconciliation.expected import Expected, PricedUsage, by_key, of_part

BOUNDS = CheckBounds("reconciliation")

# fmt: off
MAX_ROUNDED_PRICES = BOUNDS.add("max_rounded_prices", 20, "prices", 0, 1000,
    "Prices whose events are read again, to see whether a wrong amount was rounded for each event.")

MIN_ROUNDED_SHARE = BOUNDS.add("min_rounded_share", Decimal("0.9"), "share", 0, 1,
    "Share of the wrong amounts, of a price per unit, that were rounded for each event in one way, from which amounts "
    "that are a cent off count.")

MIN_EVIDENCE = BOUNDS.add("min_evidence", 1000, "factor", 1, 10**12,
    "Product of the differences that rounding per event, or another period of a maximum, a latest quantity or a number "
    "of different values explains, each in units of its last decimal, from which it is recognized; likewise of the "
    "numbers that lines could have had by other periods.")
# fmt: on


class _PerUnit(NamedTuple):
    """The amount of a unit, those from later times on, the decimals of amounts, and whether events are counted."""

    unit_amount: Decimal
    changes: tuple[tuple[datetime, Decimal], ...]
    scale: int
    counts: bool


_ROUNDINGS = {"half up": "rounded half up", "up": "rounded up", "down": "cut off"}


def alternative_amount_causes(cause: str, expected: Mapping[Key, Expected], charges: Iterable[Charge]) -> None:
    """Set the cause of amounts that are those without late events or duplicates, beside the right quantity."""
    for charge in charges:
        known = of_part(charge.row, expected.get(charge.row.key, Expected()))
        if known.is_priced and known.amounts == {charge.currency: charge.invoiced}:
            words = f"the amount without {cause}, while the quantity is that with them"
            set_cause(charge.row, Cause(cause, "medium", words))


def one_wallet_causes(
    priced: PricedUsage, columns: tuple[str, ...], rows: Iterable[Row], is_right: Callable[[Row, Expected], bool]
) -> None:
    """Set the cause of rows that have what the usage of all wallets of the customer is to pay in one line."""
    several = [row for row in rows if row.expected and len({line.wallet for line in row.expected.lines}) > 1]
    keys = by_key(priced.together({row.key[0] for row in several}), columns) if several else {}
    words = "what the usage of all the customer's wallets costs in one line, while that of each wallet is a line"
    for row in several:
        if is_right(row, of_part(row, keys.get(row.key, Expected()))):
            set_cause(row, Cause(ONE_WALLET, "medium", words))


def general_price_causes(priced: PricedUsage, columns: tuple[str, ...], charges: Iterable[Charge]) -> None:
    """Set the cause of wrong amounts of customers with an own price that are those of several general prices.

    A single general price is tried by `causes`, on the quantity alone; which part of it each of several takes, such as
    before and after a change, only the events say.
    """
    own = [charge for charge in charges if _has_own_price(charge.row) and not is_rounding(charge)]
    keys = by_key(priced.general({charge.row.key[0] for charge in own}), columns) if own else {}
    for charge in own:
        general, code = of_part(charge.row, keys.get(charge.row.key, Expected())), charge.currency
        if len(general.lines) > 1 and general.is_priced and general.amounts.keys() == {code}:
            lines = max(charge.lines, len(general.lines))
            if is_rounding(charge._replace(exact=general.exact[code], lines=lines)):
                words = "the amount at the general prices, while the customer has an own one"
                set_cause(charge.row, Cause(ANOTHER_PRICE, "high", words))


def _has_own_price(row: Row) -> bool:
    return row.expected is not None and any(line.part.price.customer_id for line in row.expected.lines)


def event_rounding_causes(examination: Examination, columns: tuple[str, ...], charges: Iterable[Charge]) -> None:
    """Set the cause of wrong amounts that are the sum of the amounts of single events, each rounded.

    Tried are amounts of one price per unit, which may change, without other terms, and at least two events. Many that
    are a cent off are enough where nearly all have the amount of one way of rounding, also such as are within a cent of
    the exact one.
    """
    by_price: dict[_PerUnit, list[Charge]] = {}
    for charge in charges:
        per_unit = _price_per_unit(charge.row)
        if per_unit is not None and charge.row.events > 1:
            by_price.setdefault(per_unit, []).append(charge)
    tried: list[Charge] = []
    fitting: dict[str, list[Charge]] = {name: [] for name in _ROUNDINGS}

    def rank(item: tuple[_PerUnit, list[Charge]]) -> tuple[Any, ...]:
        return all(map(is_rounding, item[1])), -len(item[1]), item[0]

    for per_unit, members in sorted(by_price.items(), key=rank)[: MAX_ROUNDED_PRICES()]:
        is_likely = not tried or any(_are_most(fits, tried) for fits in fitting.values())
        if all(map(is_rounding, members)) and not is_likely:
            break  # their events are not read for a cent each
        sums = _rounded_by_event(examination, columns, {charge.row.key[0] for charge in members}, per_unit)
        tried += members
        for charge in members:
            for name, amount in sums.get(charge.row.key, {}).items():
                if amount == charge.invoiced:
                    fitting[name].append(charge)
    for name in sorted(fitting, key=lambda name: -len(fitting[name])):
        cause = Cause(EVENT_ROUNDING, "high", f"the amounts of single events, each {_ROUNDINGS[name]}, added up")
        for charge in _explained(tried, fitting[name]):
            set_cause(charge.row, cause)


def _explained(tried: list[Charge], fitting: list[Charge]) -> list[Charge]:
    """The charges that one way of rounding explains, of those that fit it; none where that may be by chance."""
    every = [charge for charge in tried if charge.row.cause is None]
    fits = [charge for charge in fitting if charge.row.cause is None]
    rounded = [charge for charge in fits if is_rounding(charge)]
    beyond = [charge for charge in fits if not is_rounding(charge)]
    if _are_most(fits, every) and exact_product(off_by(charge) + 1 for charge in fits) >= MIN_EVIDENCE():
        return fits
    if exact_product(map(off_by, beyond)) < MIN_EVIDENCE():
        return []
    return fits if _are_most(rounded, [charge for charge in every if is_rounding(charge)]) else beyond


def _are_most(fitting: list[Charge], tried: list[Charge]) -> bool:
    return bool(fitting) and len(fitting) >= MIN_ROUNDED_SHARE() * len(tried)


def off_by(charge: Charge) -> Decimal:
    """By how many units of its last decimal an amount is off."""
    return abs(Decimal(difference(charge.invoiced, charge.amount))).scaleb(-charge.unit.adjusted())


def _price_per_unit(row: Row) -> _PerUnit | None:
    """The one price of a row, and what it changes to, if it is per unit of summed or counted events, without terms."""
    parts = {line.part.price: line.part.since for line in row.expected.lines} if row.expected else {}
    if len({(price.key, price.scale) for price in parts}) != 1:
        return None
    first, *later = sorted(parts, key=parts.__getitem__)
    for price in parts:
        plain = price.model == "per_unit" and price.aggregation == first.aggregation in ("sum", "count")
        if not plain or price.included_quantity or price.minimum_amount or price.tiers[0].flat_amount:
            return None
    changes = tuple((parts[price], price.tiers[0].unit_amount) for price in later)
    return _PerUnit(first.tiers[0].unit_amount, changes, first.scale, first.aggregation == "count")


def _rounded_by_event(
    examination: Examination,
    columns: tuple[str, ...],
    customers: set[UUID],
    per_unit: _PerUnit,
) -> dict[Key, dict[str, Decimal]]:
    """The sums of the events' rounded amounts by key, for each way of rounding."""
    c = examination.table.c
    keys = [c[name] for name in ("customer_id", *dict.fromkeys((*columns, "wallet_currency")))]
    price: ColumnElement[Any] = literal(per_unit.unit_amount, Numeric())
    if changed := [(c.timestamp >= since, literal(unit_amount, Numeric())) for since, unit_amount in per_unit.changes]:
        price = case(*reversed(changed), else_=price)
    scale = per_unit.scale
    amount: ColumnElement[Any] = price if per_unit.counts else c.quantity * price
    factor = literal(Decimal(10) ** scale, Numeric())
    rounded = {
        "half up": func.round(amount, literal(scale, Integer())),
        "up": func.ceil(amount * factor) / factor,
        "down": func.trunc(amount, literal(scale, Integer())),
    }
    statement = (
        select(*keys, *(func.sum(value).label(name.replace(" ", "_")) for name, value in rounded.items()))
        .where(*conditions(examination.table, examination.period), c.customer_id == any_(_ids(customers)))
        .group_by(*keys)
    )
    sums: dict[Key, dict[str, Decimal]] = {}
    for row in examination.rows(statement):
        of_key = sums.setdefault(key_of(examination, row, columns), {})
        for name in rounded:
            of_key[name] = of_key.get(name, Decimal(0)) + getattr(row, name.replace(" ", "_"))
    return sums


def _ids(customers: set[UUID]) -> ColumnElement[Any]:
    return array(sorted(customers), Uuid())
