"""Events as a table: times on the clock of a time zone, exact numbers."""

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
    "external_cost_amount": "Cost",
    "external_cost_currency": "Cost currency",
    "customer_id": "Customer",
    "dimensions": "Dimensions",
    "price_key": "Price",
    "product_id": "Product",
    "subscription_id": "Subscription",
    "wallet_currency": "Wallet",
    "ingested_at": "Ingested",
    "idempotency_key": "Idempotency key",
    "id": "Id",
}
_NUMBERS = ("quantity", "external_cost_amount")
_MEASURED = ("metric_key", "price_key")
"""Columns as wide as their longest value: Streamlit measures the first rows only, and would cut longer ones."""


def events_table(events: Sequence[Event], timezone: str, ranked: bool = False, **options: Any) -> Any:
    """Draw one row per event, in the given order; `ranked` adds `grid.RANK`. `options` go to `st.dataframe`."""
    rows = [cells(event, timezone) for event in events]
    time = f"Time ({timezone})"
    columns = {grid.RANK: grid.ranks(len(rows))} if ranked else {}
    columns[time] = grid.texts(time, [row["timestamp"] for row in rows])
    for name, heading in _HEADINGS.items():
        if name in _NUMBERS:
            columns[heading] = grid.numbers(heading, [getattr(event, name) for event in events])
        else:
            values = [row[name] for row in rows]
            shown = formatting.short_ids if name in (*ID_COLUMNS, "id") else None
            width = "large" if name == "dimensions" else grid.width(heading, values) if name in _MEASURED else None
            columns[heading] = grid.texts(heading, values, shown, width=width)
    return grid.draw(columns, alt="Usage events, newest first", **options)


def counted(query: EventQuery, source: Source) -> str:
    """The number of events of a query with its noun, also if counting exceeds the statement timeout."""
    try:
        return formatting.counted(source.count(query), "event")
    except StatementTimeout:
        return "More events than could be counted in time"


def cells(event: Event, timezone: str) -> dict[str, str | None]:
    """Every column of an event by its name, as text that parses to the same value; NULL is None."""
    zone = ZoneInfo(timezone)
    texts: dict[str, str | None] = {"timestamp": formatting.timestamp(event.timestamp, zone)}
    for name in _HEADINGS:
        value = getattr(event, name)
        if value is None:
            texts[name] = None
        elif name == "ingested_at":
            texts[name] = formatting.timestamp(value, zone)
        elif name in _NUMBERS:
            texts[name] = plain(value)
        elif name == "dimensions":
            texts[name] = json_text(value)
        else:
            texts[name] = str(value)
    return texts
