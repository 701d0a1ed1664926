"""Events as a table to look at: times on the chosen zone's clock, every digit of every number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import streamlit as st

from usage_explore.answers import Event
from usage_explore.app import words
from usage_explore.app.data import Source
from usage_explore.errors import StatementTimeout
from usage_explore.query import EventQuery

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
_RIGHT = ("Quantity", "Cost")


def events_table(events: Sequence[Event], timezone: str, **options: Any) -> Any:
    """Draw the events, one row each in the given order; `options` go to `st.dataframe`."""
    frame = pd.DataFrame([_row(event, timezone) for event in events], dtype="object")
    config: dict[str, Any] = {
        **{name: st.column_config.TextColumn(name, alignment="right") for name in _RIGHT},
        "Dimensions": st.column_config.TextColumn("Dimensions", width="large"),
        "Customer": st.column_config.TextColumn("Customer", width="small"),
    }
    return st.dataframe(frame, hide_index=True, column_config=config, alt="Usage events, newest first", **options)


def counted(query: EventQuery, source: Source) -> str:
    """How many events the question finds, in words, also where counting them takes longer than is allowed."""
    try:
        return words.plural(source.count(query), "event")
    except StatementTimeout:
        return "More events than could be counted in time"


def cells(event: Event, timezone: str) -> dict[str, str]:
    """Every column of an event by its name in the table, as text; times in the zone, NULL as –."""
    zone = ZoneInfo(timezone)
    found = {"timestamp": words.local(event.timestamp, zone)}
    for name in _HEADINGS:
        value = getattr(event, name)
        if value is None:
            found[name] = "–"
        elif name == "ingested_at":
            found[name] = words.local(value, zone)
        elif name in ("quantity", "external_cost_amount"):
            found[name] = words.exact(value)
        elif name == "dimensions":
            found[name] = words.compact_json(value)
        else:
            found[name] = str(value)
    return found


def _row(event: Event, timezone: str) -> dict[str, str]:
    texts = cells(event, timezone)
    return {f"Time ({timezone})": texts.pop("timestamp")} | {_HEADINGS[name]: text for name, text in texts.items()}
