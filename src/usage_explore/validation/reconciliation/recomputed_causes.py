"""A cause that the events are read for again: amounts rounded for each event.

Two cents are no evidence: the differences that one way of rounding explains, each in units of its last decimal, are
multiplied, and must come to `MIN_EVIDENCE`.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Integer, Numeric, Uuid, any_, func, literal, select

from usage_explore.decimals import difference, exact_product
from usage_explore.pricing.book import Price
from usage_explore.sql.filters import array, conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import Examination
from usage_explore.validation.reconciliation.causes import (
    EVENT_ROUNDING,
    Cause,
    Charge,
    is_rounding,
    set_cause,
)
from usage_explore.validation.reconciliation.compare import Key, Row, key_of

BOUNDS = CheckBounds("reconciliation")

# fmt: off
MAX_ROUNDED_PRICES = BOUNDS.add("max_rounded_prices", 20, "prices", 0, 1000,
    "Prices whose events are read again, to see whether a wrong amount was rounded for each event.")

MIN_EVIDENCE = BOUNDS.add("min_evidence", 1000, "factor", 1, 10**12,
    "Product of the differences that rounding per event, or another period of a maximum, a latest quantity or a number "
    "of different values explains, each in units of its last decimal, from which it is recognized; likewise of the "
    "numbers that lines could have had by other periods.")
# fmt: on

_ROUNDINGS = {"half up": "rounded half up", "up": "rounded up", "down": "cut off"}


def event_rounding_causes(examination: Examination, columns: tuple[str, ...], charges: Iterable[Charge]) -> None:
    """Set the cause of wrong amounts that are the sum of the amounts of single events, each rounded.

    Tried are amounts of one price per unit without other terms, and at least two events.
    """
    by_price: dict[tuple[Decimal, int, bool], list[Charge]] = {}
    for charge in charges:
        price = _price_per_unit(charge.row)
        if price is not None and charge.row.events > 1 and not is_rounding(charge):
            counts = price.aggregation == "count"
            by_price.setdefault((price.tiers[0].unit_amount, price.scale, counts), []).append(charge)
    fitting: dict[str, list[Charge]] = {name: [] for name in _ROUNDINGS}
    largest = sorted(by_price.items(), key=lambda item: (-len(item[1]), item[0]))
    for (unit_amount, scale, counts), members in largest[: MAX_ROUNDED_PRICES()]:
        customers = {charge.row.key[0] for charge in members}
        sums = _rounded_by_event(examination, columns, customers, unit_amount, scale, counts)
        for charge in members:
            for name, amount in sums.get(charge.row.key, {}).items():
                if amount == charge.invoiced:
                    fitting[name].append(charge)
    for name in sorted(fitting, key=lambda name: -len(fitting[name])):
        open_charges = [charge for charge in fitting[name] if charge.row.cause is None]
        differences = (abs(Decimal(difference(charge.invoiced, charge.amount))) for charge in open_charges)
        units = (charge.unit for charge in open_charges)
        evidence = exact_product(off.scaleb(-unit.adjusted()) for off, unit in zip(differences, units, strict=True))
        for charge in open_charges if evidence >= MIN_EVIDENCE() else ():
            words = f"the amounts of single events, each {_ROUNDINGS[name]}, added up"
            set_cause(charge.row, Cause(EVENT_ROUNDING, "high", words))


def _price_per_unit(row: Row) -> Price | None:
    """The one price of a row, if it is per unit of summed or counted events, without other terms."""
    lines = row.expected.lines if row.expected else []
    if len(lines) != 1:
        return None
    price = lines[0].part.price
    plain = price.model == "per_unit" and price.aggregation in ("sum", "count")
    terms = price.included_quantity or price.minimum_amount or price.tiers[0].flat_amount
    return price if plain and not terms else None


def _rounded_by_event(
    examination: Examination,
    columns: tuple[str, ...],
    customers: set[UUID],
    unit_amount: Decimal,
    scale: int,
    counts: bool,
) -> dict[Key, dict[str, Decimal]]:
    """The sums of the events' rounded amounts by key, for each way of rounding."""
    c = examination.table.c
    keys = [c[name] for name in ("customer_id", *dict.fromkeys((*columns, "wallet_currency")))]
    price = literal(unit_amount, Numeric())
    amount: ColumnElement[Any] = price if counts else c.quantity * price
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
