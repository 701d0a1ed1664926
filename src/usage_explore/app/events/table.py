"""Events as a table to look at: times on the chosen zone's clock, every digit of every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.app import grid
from usage_explore.app.cache import Source
from usage_explore.decimals import json_text, plain
from usage_explore.errors import StatementTimeout
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import EventQuery
from usage_explore.results.types import Event

_HEADINGS = {
    "metric_key": "Metric",
    "quantity": "Quantity",
    "customer_id": "Customer",
    "dimensions": "Dimensions",
    "price_key": "Price",
    "product_id": "Product",
    "subscription_id": "Subscription",
    "wallet_currency": "Wallet",
    "external_cost_amount": "Cost",
    "external_cost_currency": "Cost currency",
    "ingested_at": "Ingested",
    "idempotency_key": "Idempotency key",
    "id": "Id",
}
_NUMBERS = ("quantity", "external_cost_amount")
_WIDTHS = {"dimensions": "large"}


def events_table(events: Sequence[Event], timezone: str, ranked: bool = False, **options: Any) -> Any:
    """Draw the events, one row each in the given order, `ranked` with `grid.RANK`; `options` go to `st.dataframe`."""
    rows = [cells(event, timezone) for event in events]
    time = f"Time ({timezone})"
    columns = {grid.RANK: grid.ranks(len(rows))} if ranked else {}
    columns[time] = grid.texts(time, [row["timestamp"] for row in rows])
    for name, heading in _HEADINGS.items():
        if name in _NUMBERS:
            columns[heading] = grid.numbers(heading, [getattr(event, name) for event in events])
        else:
            columns[heading] = grid.texts(
                heading,
                [row[name] for row in rows],
                formatting.short_ids if name in (*ID_COLUMNS, "id") else None,
                width=_WIDTHS.get(name),
            )
    return grid.draw(columns, alt="Usage events, newest first", **options)


def counted(query: EventQuery, source: Source) -> str:
    """How many events the question finds, in words, also where counting them takes longer than is allowed."""
    try:
        return formatting.counted(source.count(query), "event")
    except StatementTimeout:
        return "More events than could be counted in time"


def cells(event: Event, timezone: str) -> dict[str, str | None]:
    """Every column of an event by its name, as text that can be read back; times in the zone, NULL as None."""
    zone = ZoneInfo(timezone)
    found: dict[str, str | None] = {"timestamp": formatting.timestamp(event.timestamp, zone)}
    for name in _HEADINGS:
        value = getattr(event, name)
        if value is None:
            found[name] = None
        elif name == "ingested_at":
            found[name] = formatting.timestamp(value, zone)
        elif name in _NUMBERS:
            found[name] = plain(value)
        elif name == "dimensions":
            found[name] = json_text(value)
        else:
            found[name] = str(value)
    return found
