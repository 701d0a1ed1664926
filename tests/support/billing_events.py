"""Events as the billing checks meet them: one organization, each field as told, else what is usual."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from support import generated_events
from support.query_oracle import Row, utc
from usage_explore import Store, connect
from usage_explore.db import ddl
from usage_explore.query.queries import Period

CUSTOMERS = [UUID(int=0xC0 + number) for number in range(40)]
PRODUCT, SUBSCRIPTION = UUID(int=0xD0), UUID(int=0xE0)
SINCE, UNTIL = utc(2026, 9, 1), utc(2026, 10, 1)
SEPTEMBER = Period(since=SINCE, until=UNTIL)

_numbers = itertools.count(1)


def event(customer: int, timestamp: datetime, metric: str = "calls", **given: Any) -> Row:
    """An event of a customer; `dimensions` may be a mapping."""
    number = next(_numbers)
    dimensions = given.pop("dimensions", {})
    fields: dict[str, Any] = {
        "id": UUID(int=number),
        "organization_id": generated_events.ORGANIZATION,
        "customer_id": CUSTOMERS[customer],
        "product_id": PRODUCT,
        "subscription_id": SUBSCRIPTION,
        "metric_key": metric,
        "price_key": f"{metric}.standard",
        "quantity": Decimal(1),
        "timestamp": timestamp,
        "ingested_at": timestamp + timedelta(seconds=5),
        "idempotency_key": f"k{number}",
        "external_cost_amount": None,
        "external_cost_currency": None,
        "wallet_currency": None,
        "dimensions": json.dumps(dimensions) if isinstance(dimensions, Mapping) else dimensions,
    }
    return Row(**{**fields, **given})


def steady(customer: int, since: datetime, until: datetime, each: timedelta, **given: Any) -> list[Row]:
    """An event of the customer every so often, from `since` until before `until`."""
    return [event(customer, since + number * each, **given) for number in range(-(-(until - since) // each))]


@contextmanager
def store_of(url: str, events: list[Row]) -> Iterator[Store]:
    """A store on a fresh database that holds the events."""
    with ddl.connect(url) as connection:
        generated_events.insert(connection, events)
    with connect(url, organization_id=str(generated_events.ORGANIZATION)) as store:
        yield store
