"""The benchmark's events: the same for the same number of rows, seed and `until`, in the order of their ingestion.

120 days of three organizations (80, 15 and 5 % of the rows) with 2,000, 300 and 100 customers by Zipf's law, five
metrics with whole, fractional and negative quantities, and the dimensions model, region, status and api_key, each of
them missing now and then. 97 % of the events arrive within 30 seconds, 3 % minutes to days late. Days and weeks have
their ups and downs, and the last day ends in the middle.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from uuid import NAMESPACE_URL, UUID, uuid5

import numpy as np
import pyarrow as pa
import pyarrow.compute

DAYS = 120
CHUNK = 250_000
"""Rows that are made at once."""

_ORGANIZATIONS = (("large", 0.80, 2000), ("medium", 0.15, 300), ("small", 0.05, 100))
_METRICS = (("tokens_in", 0.40), ("tokens_out", 0.30), ("requests", 0.20), ("storage_gb_hours", 0.07), ("images", 0.03))
_PRODUCTS = ("language", "language", "gateway", "storage", "vision")  # of the metrics
_TIERS = ("standard", "batch", "reserved")
_WALLETS = ("EUR", "USD", "GBP", None)
_LATE = 0.03
_DIMENSIONS: dict[str, tuple[tuple[str, ...], float]] = {
    "model": (("mini", "small", "medium", "large", "vision", "embed", "rerank", "audio"), 0.02),
    "region": (("eu-central", "eu-west", "us-east", "us-west", "ap-south"), 0.05),
    "status": (("ok", "cached", "throttled", "failed"), 0.01),
    "api_key": (tuple(f"key-{number:03}" for number in range(500)), 0.04),
}
"""The values of each key, the frequent ones first, and the share of events without it."""

DIMENSION_KEYS = tuple(_DIMENSIONS)

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("organization_id", pa.string()),
        ("customer_id", pa.string()),
        ("product_id", pa.string()),
        ("subscription_id", pa.string()),
        ("metric_key", pa.string()),
        ("price_key", pa.string()),
        ("quantity", pa.decimal128(18, 3)),
        ("timestamp", pa.timestamp("us", tz="UTC")),
        ("ingested_at", pa.timestamp("us", tz="UTC")),
        ("idempotency_key", pa.string()),
        ("external_cost_amount", pa.decimal128(18, 6)),
        ("external_cost_currency", pa.string()),
        ("wallet_currency", pa.string()),
        ("dimensions", pa.string()),
    ]
)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Which rows: so many, drawn with a seed, ingested in the 120 days before `until`."""

    number: int
    seed: int
    until: datetime

    def chunks(self) -> Iterator[pa.Table]:
        """All of them, a chunk at a time, in the order of their ingestion."""
        for first in range(0, self.number, CHUNK):
            yield self._chunk(first, min(CHUNK, self.number - first))

    def _chunk(self, first: int, size: int) -> pa.Table:
        draw = np.random.default_rng([self.seed, first])
        shares, micros = _calendar(self.until)
        position = (first + np.sort(draw.random(size)) * size) / self.number
        ingested = np.interp(position, shares, micros).astype(np.int64)
        late = draw.random(size) < _LATE
        lag = np.where(late, 120 * 3600 ** draw.random(size), 0.2 * 150 ** draw.random(size))  # up to 5 days, to 30 s
        occurred = ingested - (lag * 1e6).astype(np.int64)

        organization = draw.choice(3, size, p=[share for _, share, _ in _ORGANIZATIONS])
        customer = _customers(draw, organization)
        metric = draw.choice(len(_METRICS), size, p=[share for _, share in _METRICS])
        ids = _uuids(draw, size)
        cost = draw.random(size) < 0.2
        amount = draw.integers(1, 5_000_000, size)
        tables = _tables()
        return pa.table(
            [
                ids,
                tables["organization"].take(pa.array(organization)),
                tables["customer"].take(pa.array(customer)),
                _some(draw, tables["product"].take(pa.array(metric)), 0.05),
                _some(draw, tables["subscription"].take(pa.array(customer * 2 + (draw.random(size) < 0.3))), 0.03),
                tables["metric"].take(pa.array(metric)),
                _some(draw, tables["price"].take(pa.array(metric * 3 + draw.choice(3, size, p=[0.7, 0.2, 0.1]))), 0.02),
                _decimals(_quantities(draw, metric), SCHEMA.field("quantity").type),
                pa.array(occurred, pa.int64()).cast(SCHEMA.field("timestamp").type),
                pa.array(ingested, pa.int64()).cast(SCHEMA.field("ingested_at").type),
                _keys(first, size),
                _decimals(amount, SCHEMA.field("external_cost_amount").type, cost),
                tables["currency"].take(pa.array(np.zeros(size, np.int64), mask=~cost)),
                tables["wallet"].take(pa.array(customer)),
                _dimensions(draw, size),
            ],
            schema=SCHEMA,
        )


def organization(name: str = "large") -> UUID:
    """The id of the organization `large`, `medium` or `small`."""
    return _id(name)


def customer(rank: int, of: str = "large") -> UUID:
    """The id of an organization's customer; rank 0 has the most events."""
    return _id(f"{of}/{rank}")


def _id(name: str) -> UUID:
    return uuid5(NAMESPACE_URL, f"usage-explore/benchmarks/{name}")


@cache
def _tables() -> dict[str, pa.Array]:
    """Every value a column of few values takes, by number."""
    customers = [(name, rank) for name, _, size in _ORGANIZATIONS for rank in range(size)]
    wallets = np.random.default_rng(7).choice(4, len(customers), p=[0.25, 0.2, 0.05, 0.5])
    made: dict[str, list[object]] = {
        "organization": [organization(name) for name, _, _ in _ORGANIZATIONS],
        "customer": [customer(rank, name) for name, rank in customers],
        "subscription": [_id(f"{name}/{rank}/{number}") for name, rank in customers for number in range(2)],
        "product": [_id(name) for name in _PRODUCTS],
        "metric": [name for name, _ in _METRICS],
        "price": [f"{name}.{tier}" for name, _ in _METRICS for tier in _TIERS],
        "currency": ["USD"],
        "wallet": [_WALLETS[wallet] for wallet in wallets],
    }
    return {
        name: pa.array([None if value is None else str(value) for value in values], pa.string())
        for name, values in made.items()
    }


@cache
def _calendar(until: datetime) -> tuple[np.ndarray, np.ndarray]:
    """The share of all events ingested up to each hour, and the hours in microseconds since 1970."""
    hours = [until - timedelta(hours=back) for back in range(DAYS * 24, -1, -1)]
    busy = [
        (1 + 0.6 * np.sin((hour.hour - 8) / 24 * 2 * np.pi)) * (0.6 if hour.weekday() > 4 else 1) for hour in hours[1:]
    ]
    micros = [(hour - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) for hour in hours]
    return np.concatenate([[0], np.cumsum(busy) / np.sum(busy)]), np.array(micros, dtype=float)


def _customers(draw: np.random.Generator, organization: np.ndarray) -> np.ndarray:
    """A customer's number for each event, by Zipf's law within its organization."""
    chosen = np.empty(len(organization), np.int64)
    before = 0
    for number, (_, _, size) in enumerate(_ORGANIZATIONS):
        mine = organization == number
        chosen[mine] = before + draw.choice(size, mine.sum(), p=_zipf(size))
        before += size
    return chosen


def _zipf(size: int, exponent: float = 1.0) -> np.ndarray:
    weights = 1 / np.arange(1, size + 1) ** exponent
    return weights / weights.sum()


def _quantities(draw: np.random.Generator, metric: np.ndarray) -> np.ndarray:
    """Thousandths: whole tokens, one request, fractions of gigabyte-hours, a few images; one in 200 is a credit."""
    size = len(metric)
    whole = np.exp(draw.normal(6, 1.2, size)).astype(np.int64) + 1
    found = np.select(
        [metric < 2, metric == 2, metric == 3], [whole * 1000, 1000, draw.integers(1, 90_000, size)], 1000
    )
    found = np.where(metric == 4, draw.integers(1, 5, size) * 1000, found)
    return np.where(draw.random(size) < 0.005, -found, found)


def _decimals(unscaled: np.ndarray, kind: pa.DataType, there: np.ndarray | None = None) -> pa.Array:
    """Decimals from whole numbers of their last digit."""
    wide = np.stack([unscaled, unscaled >> 63], axis=1)
    mask = None if there is None else pa.py_buffer(np.packbits(there, bitorder="little"))
    return pa.Array.from_buffers(kind, len(unscaled), [mask, pa.py_buffer(np.ascontiguousarray(wide))])


def _some(draw: np.random.Generator, values: pa.Array, absent: float) -> pa.Array:
    """The values, a share of them taken away."""
    return pa.compute.if_else(pa.array(draw.random(len(values)) >= absent), values, None)


def _uuids(draw: np.random.Generator, size: int) -> pa.Array:
    """Random UUIDs as text."""
    raw = draw.integers(0, 256, (size, 16), dtype=np.uint8)
    raw[:, 6] = raw[:, 6] & 0x0F | 0x40
    raw[:, 8] = raw[:, 8] & 0x3F | 0x80
    digits = np.frombuffer(b"0123456789abcdef", np.uint8)
    text = np.full((size, 36), ord("-"), np.uint8)
    places = [place for place in range(36) if place not in (8, 13, 18, 23)]
    text[:, places] = np.stack([digits[raw >> 4], digits[raw & 15]], axis=2).reshape(size, 32)
    offsets = np.arange(0, 36 * (size + 1), 36, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), size, [None, pa.py_buffer(offsets), pa.py_buffer(np.ascontiguousarray(text))]
    )


def _keys(first: int, size: int) -> pa.Array:
    numbers = pa.array(np.arange(first, first + size)).cast(pa.string())
    return pa.compute.binary_join_element_wise("event", numbers, "-")


def _dimensions(draw: np.random.Generator, size: int) -> pa.Array:
    """JSON texts: one of few combinations, and an API key."""
    small, keys = [], np.zeros(size, np.int64)
    for name, (values, absent) in _DIMENSIONS.items():
        chosen = draw.choice(len(values), size, p=_zipf(len(values), 0.6))
        chosen = np.where(draw.random(size) < absent, len(values), chosen)
        if name == "api_key":
            keys = chosen
        else:
            small.append((chosen, len(values) + 1))
    combined = np.zeros(size, np.int64)
    for chosen, length in small:
        combined = combined * length + chosen
    heads, tails = _texts()
    texts = pa.compute.binary_join_element_wise(heads.take(pa.array(combined)), tails.take(pa.array(keys)), "")
    return pa.compute.replace_substring(texts, "{, ", "{")


@cache
def _texts() -> tuple[pa.Array, pa.Array]:
    """The two halves of every JSON text: all combinations without an API key, and the API keys."""
    heads: list[dict[str, str]] = [{}]
    for name, (values, _) in _DIMENSIONS.items():
        if name != "api_key":
            heads = [head | ({} if value is None else {name: value}) for head in heads for value in (*values, None)]
    keys = [f', "api_key": "{key}"}}' for key in _DIMENSIONS["api_key"][0]]
    return pa.array([json.dumps(head)[:-1] for head in heads]), pa.array([*keys, "}"])
