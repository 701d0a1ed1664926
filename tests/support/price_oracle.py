"""What usage must cost, event by event in plain Python and fractions: slow, obvious, sharing no code with the package.

A price is a dict of the fields of a book, with dates and times as aware datetimes and tiers as (up_to, unit, flat).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

from support.query_oracle import Row

Price = Mapping[str, Any]
SCALES = {"USD": 2, "EUR": 2, "JPY": 0, "KWD": 3}


@dataclass
class Expected:
    """A line: its events and what they cost."""

    price: Price
    since: datetime
    until: datetime
    events: list[Row]
    billable: Fraction
    exact: Fraction
    amount: Decimal


def covers(price: Price, row: Row, at: datetime) -> bool:
    for name in ("customer_id", "product_id", "metric_key", "price_key"):
        if price.get(name) is not None and price[name] != getattr(row, name):
            return False
    return not (
        (price.get("valid_from") and at < price["valid_from"]) or (price.get("valid_to") and at >= price["valid_to"])
    )


def price_of(prices: Iterable[Price], row: Row, at: datetime, wallet: str | None) -> Price | None:
    """The price of an event as if it occurred at `at`; an AssertionError where two fit equally."""
    fitting = [price for price in prices if covers(price, row, at)]

    def rank(price: Price) -> tuple[bool, int]:
        named = sum(price.get(name) is not None for name in ("product_id", "metric_key", "price_key"))
        return price.get("customer_id") is not None, named

    if not fitting:
        return None
    best = max(map(rank, fitting))
    fitting = [price for price in fitting if rank(price) == best]
    if len(fitting) == 1:
        return fitting[0]
    assert len({price["currency"] for price in fitting}) == len(fitting), "ambiguous"
    return next((price for price in fitting if price["currency"] == wallet), None)


def can_apply(
    price: Price, prices: list[Price], row: Row, at: datetime, wallet: str | None, split: tuple[str, ...]
) -> bool:
    """Whether some usage on the event's line, of any product, price key and wallet, has the price at this time."""
    values: dict[str, set[Any]] = {
        name: {getattr(row, name)} if name in split else {None, *(other.get(name) for other in prices)}
        for name in ("product_id", "price_key")
    }
    wallets = {wallet} if "wallet_currency" in split else {wallet, *(other["currency"] for other in prices)}
    usage = (
        (dataclasses.replace(row, product_id=product_id, price_key=price_key), destination)
        for product_id, price_key in itertools.product(*values.values())
        for destination in wallets
    )
    return any(price_of(prices, one, at, destination) is price for one, destination in usage)


def cost(price: Price, quantity: Fraction) -> Fraction:
    """The amount before rounding."""
    if quantity < 0:
        without = {**price, "included_quantity": 0, "minimum_amount": 0}
        without["tiers"] = [(up_to, unit, 0) for up_to, unit, _ in price["tiers"]]
        return -cost(without, -quantity)
    minimum = Fraction(price.get("minimum_amount") or 0)
    units = quantity - Fraction(price.get("included_quantity") or 0)
    if units <= 0:
        return minimum
    amount = Fraction(0)
    if price["model"] == "package":
        ((_, unit, flat),) = price["tiers"]
        amount = math.ceil(units / Fraction(price["package_size"])) * Fraction(unit) + Fraction(flat)
    elif price["model"] in ("volume", "per_unit"):
        for up_to, unit, flat in price["tiers"]:
            if up_to is None or units <= Fraction(up_to):
                amount = units * Fraction(unit) + Fraction(flat)
                break
    else:
        below = Fraction(0)
        for up_to, unit, flat in price["tiers"]:
            if units > below:
                top = units if up_to is None else min(units, Fraction(up_to))
                amount += (top - below) * Fraction(unit) + Fraction(flat)
                below = top if up_to is None else Fraction(up_to)
    return max(amount, minimum)


def half_up(amount: Fraction, scale: int) -> Decimal:
    size = math.floor(abs(amount) * 10**scale + Fraction(1, 2))
    return Decimal(size if amount >= 0 else -size).scaleb(-scale)


def billable(price: Price, events: list[Row]) -> Fraction:
    kind = price["aggregation"]
    if kind == "sum":
        return sum((Fraction(row.quantity) for row in events), Fraction(0))
    if kind == "count":
        return Fraction(len(events))
    if kind == "max":
        return max(Fraction(row.quantity) for row in events)
    if kind == "latest":
        return Fraction(max(events, key=lambda row: (row.timestamp, row.ingested_at, row.id.int)).quantity)
    name = kind.removeprefix("unique:")
    if name.startswith("dim:"):
        found = [json.loads(row.dimensions).get(name.removeprefix("dim:")) for row in events]
    else:
        found = [getattr(row, name) for row in events]
    return Fraction(len({str(value) for value in found if value is not None}))


def rate(
    prices: list[Price],
    rows: Iterable[Row],
    since: datetime,
    until: datetime,
    wallets: Mapping[UUID | None, str],
    split: tuple[str, ...] = ("wallet_currency",),
) -> tuple[list[Expected], list[Row]]:
    """The lines of these events, which all are of the period, and the events without a price.

    `split` are columns that tell lines of one price apart.
    """
    edges = {edge for price in prices for name in ("valid_from", "valid_to") if (edge := price.get(name))}
    cuts = [since, *sorted(edge for edge in edges if since < edge < until), until]
    spans = list(itertools.pairwise(cuts))
    groups: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    facts: dict[tuple[Any, ...], tuple[Price, datetime, datetime]] = {}
    without = []
    for row in rows:
        wallet = row.wallet_currency or wallets.get(row.customer_id) or wallets.get(None)
        here = next(index for index, (start, end) in enumerate(spans) if start <= row.timestamp < end)
        price = price_of(prices, row, spans[here][0], wallet)
        if price is None:
            without.append(row)
            continue
        applies = [can_apply(price, prices, row, start, wallet, split) for start, _ in spans]
        first = last = here
        while first and applies[first - 1]:
            first -= 1
        while last + 1 < len(spans) and applies[last + 1]:
            last += 1
        own = {"wallet_currency": wallet, "price_key": row.price_key, "subscription_id": row.subscription_id}
        key = (id(price), first, last, row.customer_id, row.metric_key, *(own[name] for name in split))
        groups[key].append(row)
        facts[key] = price, spans[first][0], spans[last][1]
    lines = []
    for key, events in groups.items():
        price, start, end = facts[key]
        quantity = billable(price, events)
        exact = cost(price, quantity)
        lines.append(Expected(price, start, end, events, quantity, exact, half_up(exact, SCALES[price["currency"]])))
    return lines, without


def fields_of(price: Price) -> dict[str, Any]:
    """The fields of a book for a price of the oracle."""
    row = {name: value for name, value in price.items() if name != "tiers"}
    if price["model"] in ("volume", "staircase"):
        row["tiers"] = [{"up_to": end, "unit_amount": unit, "flat_amount": flat} for end, unit, flat in price["tiers"]]
    else:
        ((_, row["unit_amount"], row["flat_amount"]),) = price["tiers"]
    return row
