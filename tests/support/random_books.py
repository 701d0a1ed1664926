"""Random events and price books for the oracle of prices: no two prices are equally specific for one event."""

from __future__ import annotations

import itertools
import random
import uuid
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from support.billing_events import CUSTOMERS, SINCE, SUBSCRIPTION, UNTIL, event
from support.query_oracle import Row, utc

PRODUCTS = [uuid.UUID(int=0xD0 + number) for number in range(2)]
METRICS = ("calls", "tokens")
KEYS = ("p1", "p2", None)
LATE = utc(2026, 10, 10)
WALLETS = {"default": "USD", str(CUSTOMERS[1]): "JPY"}


def random_events(seed: int, number: int = 400) -> list[Row]:
    """Events of September, a tenth of them outside it, with ties in time and arrival, credits, and costs."""
    draw = random.Random(seed)
    events = []
    for _ in range(number):
        metric = draw.choice(METRICS)
        at = SINCE - timedelta(days=2) + timedelta(hours=draw.randrange(24 * 33))
        events.append(
            event(
                draw.randrange(4),
                at,
                metric,
                product_id=draw.choice([*PRODUCTS, None]),
                subscription_id=draw.choice([SUBSCRIPTION, None]),
                price_key=draw.choice(KEYS),
                quantity=Decimal(draw.choice([1, 3, 250, 2_000, -5, "0.000001", "17.25"])),
                ingested_at=at + timedelta(days=draw.choice([0, 0, 0, 4])),
                wallet_currency=draw.choice([None, None, "USD", "JPY"]),
                external_cost_amount=draw.choice([None, Decimal("0.25")]),
                external_cost_currency=draw.choice(["USD", "usd"]),
                dimensions={"user": draw.choice(["a", "b", "", 7])} if draw.random() < 0.8 else {"user": None},
            )
        )
    return events


def random_book(seed: int) -> list[dict[str, Any]]:
    """Prices of the oracle: general and a customer's own, some of them valid for a part of September only.

    No two are equally specific for one event: they name the metric, or the metric and more of one kind.
    """
    draw = random.Random(seed)
    book = []
    edges = [None, utc(2026, 9, 10), utc(2026, 9, 15, 12)]
    selectors: list[dict[str, Any]] = [{"metric_key": "calls"}]
    selectors += [{"metric_key": metric, "price_key": "p1"} for metric in METRICS]
    selectors += [{"metric_key": "calls", "price_key": "p1", "product_id": PRODUCTS[0]}]
    selectors += [{"metric_key": "tokens", "customer_id": CUSTOMERS[2]}]
    selectors += [{"metric_key": "tokens"}] if draw.random() < 0.7 else []
    for selector in selectors:
        currencies = draw.choice([["USD"], ["USD", "JPY"], ["KWD"]])
        cuts = draw.choice([[None, None], [None, edges[1], None], [edges[1], edges[2]], [edges[2], None]])
        for currency in currencies:
            for since, until in itertools.pairwise(cuts):
                if draw.random() < 0.9:
                    book.append({**selector, **random_terms(draw), "currency": currency} | span(since, until))
    draw.shuffle(book)
    return book


def span(since: datetime | None, until: datetime | None) -> dict[str, Any]:
    return {name: edge for name, edge in (("valid_from", since), ("valid_to", until)) if edge is not None}


def random_terms(draw: random.Random) -> dict[str, Any]:
    model = draw.choice(["per_unit", "volume", "staircase", "package"])
    ends: list[Any] = sorted(draw.sample([5, 250, 1_000, 10_000], draw.randrange(4)))
    ends = [*ends, None] if model in ("volume", "staircase") else [None]
    amounts = [Decimal(draw.randrange(100_000)).scaleb(-5) for _ in ends]
    kinds = ["sum", "sum", "count", "max", "latest", "unique:dim:user", "unique:subscription_id", "unique:product_id"]
    terms: dict[str, Any] = {
        "model": model,
        "aggregation": draw.choice(kinds),
        "tiers": [(end, amount, draw.choice([0, 0, 5])) for end, amount in zip(ends, amounts, strict=True)],
        "included_quantity": draw.choice([0, 0, 3]),
        "minimum_amount": draw.choice([0, 0, Decimal("2.5")]),
    }
    return terms | ({"package_size": draw.choice([1, 7, Decimal("0.5")])} if model == "package" else {})


def within(events: list[Row], as_of: datetime | None = None) -> list[Row]:
    return [row for row in events if SINCE <= row.timestamp < UNTIL and (as_of is None or row.ingested_at <= as_of)]
