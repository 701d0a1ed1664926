"""Which price applies to usage of a customer, product, metric and price key, at each instant of a period.

Of the prices that cover the usage and are valid at the instant

1. a customer's own prices come before those of all customers;
2. among them those that name the most of product, metric and price key apply;
3. of prices in several currencies that of the usage's wallet applies: the wallet that the events are pinned to, else
   the customer's preferred one. A single price applies whatever the wallet is.

Two prices that are equally specific and of one currency, such as one for a product and one for a metric, are an error
as soon as usage is covered by both: never an arbitrary choice. Usage that no price covers, or prices in several
currencies of which none is the wallet's, has no price.

Validity cuts a period into segments. Segments in a row in which a price applies to a customer's metric are one part: a
part ends where the price ends, or where another one replaces it for all of the metric's usage. A price of one price key
that begins or ends takes this key's usage from the general price; it does not split what is left of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from itertools import combinations
from typing import NamedTuple
from uuid import UUID
from zoneinfo import ZoneInfo

from usage_explore.errors import Fault, QueryError
from usage_explore.formatting import data_value, listed
from usage_explore.pricing.book import PARAMETER, Key, Price, PriceBook

NO_PRICE = "no price covers it"
WALLET_UNKNOWN = "its wallet is unknown"


class Subject(NamedTuple):
    """What a price is looked up for; `wallet` is the wallet that the usage goes to, None if unknown.

    `customer_id` is None for any customer without prices of its own.
    """

    customer_id: UUID | None
    product_id: UUID | None
    metric_key: str
    price_key: str | None
    wallet: str | None


class Part(NamedTuple):
    """A part of the period with one price: the segments `first` to `last`, inclusive, and their span."""

    price: Price
    first: int
    last: int
    since: datetime
    until: datetime


@dataclass(frozen=True)
class Resolution:
    """A book in a period: `cuts` are the edges of its segments. Raises `QueryError` on `prices`."""

    book: PriceBook
    since: datetime
    until: datetime
    zone: ZoneInfo

    @cached_property
    def cuts(self) -> tuple[datetime, ...]:
        """The period's ends, and the instants between at which a price begins or ends."""
        return self.book.cuts(self.since, self.until, self.zone)

    def price(self, subject: Subject, segment: int) -> Price | str:
        """The price in a segment, else why there is none."""
        return self.at(subject, self.cuts[segment])

    def at(self, subject: Subject, instant: datetime) -> Price | str:
        """The price at an instant, else why there is none."""
        given = [value is not None for value in (subject.product_id, subject.metric_key, subject.price_key)]
        for customer in dict.fromkeys((subject.customer_id, None)):
            for level in range(3, 0, -1):
                candidates = [
                    price
                    for key in _keys(customer, subject, level, given)
                    for price in self.book.by_key.get(key, ())
                    if self._is_valid(price, instant)
                ]
                if candidates:
                    return _of_wallet(candidates, subject)
        return NO_PRICE

    def part(self, subject: Subject, segment: int, split: Collection[str] = ("wallet_currency",)) -> Part | str:
        """The part of the period around a segment in which its price applies to the line's usage, else why there is
        none; `split` are the columns by which lines of one price are split.
        """
        price = self.price(subject, segment)
        if isinstance(price, str):
            return price
        # usage that names no more than the price and the line: where this has another price all of the line has
        least = subject._replace(
            product_id=subject.product_id if "product_id" in split else price.product_id,
            price_key=subject.price_key if "price_key" in split else price.price_key,
            wallet=subject.wallet if "wallet_currency" in split else price.currency,
        )
        first = last = segment
        while first > 0 and self._applies(price, least, first - 1):
            first -= 1
        while last < len(self.cuts) - 2 and self._applies(price, least, last + 1):
            last += 1
        return Part(price, first, last, self.cuts[first], self.cuts[last + 1])

    def _applies(self, price: Price, subject: Subject, segment: int) -> bool:
        try:
            return self.price(subject, segment) is price
        except QueryError:  # two prices there: an error only for usage in that segment
            return False

    def _is_valid(self, price: Price, instant: datetime) -> bool:
        since, until = price.span(self.zone)
        return since <= instant < until


def _keys(customer: UUID | None, subject: Subject, level: int, given: list[bool]) -> Iterator[Key]:
    """The keys of prices that cover the subject and name `level` of product, metric and price key."""
    for chosen in combinations(range(3), level):
        if all(given[index] for index in chosen):
            yield (
                customer,
                subject.product_id if 0 in chosen else None,
                subject.metric_key if 1 in chosen else None,
                subject.price_key if 2 in chosen else None,
            )


def _of_wallet(candidates: list[Price], subject: Subject) -> Price | str:
    by_currency: dict[str, Price] = {}
    for price in candidates:
        if other := by_currency.get(price.currency):
            raise QueryError([Fault(PARAMETER, _ambiguous(other, price, subject))])
        by_currency[price.currency] = price
    if len(candidates) == 1:
        return candidates[0]
    wallet = None if subject.wallet is None else subject.wallet.strip().upper()
    if wallet in by_currency:
        return by_currency[wallet]
    currencies = listed(by_currency)
    if subject.wallet is None:
        return f"it has prices in {currencies}, and {WALLET_UNKNOWN}"
    return f"it has prices in {currencies}, but its wallet is {data_value(subject.wallet)}"


def _ambiguous(one: Price, other: Price, subject: Subject) -> str:
    used = f"metric {data_value(subject.metric_key)}"
    used += "" if subject.price_key is None else f", price {data_value(subject.price_key)}"
    used += "" if subject.product_id is None else f", product {subject.product_id}"
    return (
        f"{one.place} ({one.label}) and {other.place} ({other.label}) are equally specific for usage of {used};"
        " give one of them more of product_id, metric_key and price_key"
    )
