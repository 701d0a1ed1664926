"""Names that columns of usage have: common ones for each documented column, and the words that quantities end with."""

from __future__ import annotations

import re


def _set(text: str) -> frozenset[str]:
    return frozenset(text.split())


LIKELY_NAMES = {
    "id": "event_id event_uuid usage_event_id uuid guid",
    "customer_id": "customer customer_uuid customer_key client_id external_customer_id end_customer_id end_user_id"
    " end_user subject user_id team_id user username user_email email api_key account_id account",
    "organization_id": "org_id organisation_id tenant_id workspace_id company_id organization organisation tenant org"
    " workspace namespace account_id",
    "product_id": "product product_uuid product_key service_id service",
    "subscription_id": "subscription subscription_uuid contract_id external_subscription_id",
    "metric_key": "metric meter event_name meter_key meter_slug metric_name meter_name meter_id metric_code event_type"
    " usage_type code name type",
    "price_key": "price_id price_code rate_key sku_price_id",
    "timestamp": "occurred_at event_time event_timestamp event_at happened_at usage_time used_at time ts start_time"
    " started_at usage_start period_start start event_date usage_date date day",
    "ingested_at": "created_at inserted_at received_at recorded_at processed_at loaded_at stored_at synced_at",
    "idempotency_key": "transaction_id dedup_key deduplication_key event_key external_id request_id message_id",
    "external_cost_amount": "cost_amount billed_cost external_cost total_cost cost spend cost_usd cost_eur cost_cents"
    " cost_micros",
    "external_cost_currency": "cost_currency billing_currency currency currency_code",
    "wallet_currency": "wallet",
    "dimensions": "properties attributes metadata tags labels payload data",
}
"""For each documented column but the quantity, other common names, likeliest first."""

BY_LAST_WORDS = ("customer_id", "organization_id", "product_id", "subscription_id", "timestamp", "metric_key")
"""Columns whose likely names of several words may follow others, such as `billing_customer_id`."""

QUANTITIES = "quantity qty usage_quantity consumed_quantity units usage amount value count"
"""Names of the one quantity of a row, likeliest first."""

_MEASURES = _set(
    "quantity qty units unit usage amount value count tokens token bytes kb mb gb tb kib mib gib tib seconds minutes"
    " hours requests calls messages characters chars images pages queries rows credits events items operations kwh"
    " volume"
)
"""A number column is a quantity if its name ends with one of these, or has one before a word such as used."""

LENGTHS_OF_TIME = _set("ms milliseconds duration latency elapsed millis")
"""Quantities only where there are no others: how long a request took is seldom what is billed."""

NO_MEASURES = _set(
    "id code status version port year month day index rate price cost spend limit cents micros usd eur currency"
    " priority level attempt attempts retry retries percent percentage ratio temperature offset max min discount tax"
    " invoice balance fee"
)
"""Words of numbers that are no quantities."""

_PARTICIPLES = _set("used consumed billed in out input output sent received processed total")
"""Words that may follow them, as in `tokens_used` and `bytes_total`."""

LATER_TIMES = _set(
    "updated modified deleted expires expired expiry due end ended finished completed last next valid until birth"
    " canceled cancelled archived"
)
"""Words of times that are not when an event occurred."""

TIME_WORDS = _set("time timestamp ts at date epoch ms millis seconds unix start day")
"""A number column holds times only if its name has one of these."""


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name in snake_case or camelCase, in lower case."""
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return tuple(word for word in re.split(r"[\W_]+", parted.lower()) if word)


def is_measure(words: tuple[str, ...]) -> bool:
    """Whether a name is that of a quantity: `output_tokens`, `tokens_used`, `payload_value`."""
    known = _MEASURES | LENGTHS_OF_TIME
    return bool(words) and (words[-1] in known or (words[-1] in _PARTICIPLES and not known.isdisjoint(words[-2:-1])))
