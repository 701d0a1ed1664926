"""Events as a test wants them: plain ones, each of which may differ from the others in a few fields."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count

from support import generated_events
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.query_oracle import EXACT, Row
from usage_explore import Store, connect
from usage_explore.db import ddl
from usage_explore.query.queries import Period

SINCE, UNTIL = datetime(2026, 9, 1, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)

JUNE, SMALL, LARGE = (uuid.UUID(int=0xC0 + number) for number in range(3))
"""Customers."""

_numbers = count(1)


def event(timestamp: datetime, **fields: object) -> Row:
    """An event of the first customer that arrived a second after it occurred, its key unlike any other."""
    number = next(_numbers)
    given: dict[str, object] = {
        "id": uuid.UUID(int=number),
        "organization_id": ORGANIZATION,
        "customer_id": JUNE,
        "product_id": None,
        "subscription_id": None,
        "metric_key": "tokens",
        "price_key": None,
        "quantity": Decimal(number),
        "timestamp": timestamp,
        "ingested_at": timestamp + timedelta(seconds=1),
        "idempotency_key": f"key {number}",
        "external_cost_amount": None,
        "external_cost_currency": None,
        "wallet_currency": None,
        "dimensions": "{}",
    }
    return Row(**{**given, **fields})  # type: ignore[arg-type]


def beside(found: Iterable[Row]) -> list[Row]:
    """The same events as a neighbour's: nobody else may see anything of them."""
    return [Row(**{**vars(row), "id": uuid.uuid4(), "organization_id": NEIGHBOUR}) for row in found]


def store_of(connection: ddl.Connection, url: str, events: Iterable[Row]) -> Store:
    """A store on these events; the caller closes it."""
    generated_events.insert(connection, list(events))
    return connect(url, ORGANIZATION)


@contextmanager
def stores_of(connection: ddl.Connection, url: str) -> Iterator[Callable[[Iterable[Row]], Store]]:
    """Make stores on the organization's events, which are closed at the end."""
    stores: list[Store] = []

    def made(events: Iterable[Row]) -> Store:
        stores.append(store_of(connection, url, events))
        return stores[-1]

    yield made
    for opened in stores:
        opened.close()


def september(**parameters: object) -> Period:
    """The month that the tests' events lie in and around."""
    return Period(since=SINCE, until=UNTIL, **parameters)


def total(quantities: Iterable[Decimal]) -> Decimal:
    """The sum to the last digit."""
    result = Decimal(0)
    for quantity in quantities:
        result = EXACT.add(result, quantity)
    return result
