"""The demo's events as whole numbers in memory, and as the text PostgreSQL's COPY reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import cache

import numpy as np
import numpy.typing as npt

from usage_explore.demo import business
from usage_explore.demo.customers import Customers, customers

EVENT = np.dtype(
    [
        ("id", "u8", (2,)),
        ("idempotency_key", "u8", (2,)),
        ("customer", "i4"),
        ("metric", "i1"),
        ("priced", "?"),
        ("product", "?"),
        ("subscription", "i1"),
        ("quantity", "i8"),
        ("timestamp", "i8"),
        ("ingested_at", "i8"),
        ("cost", "i8"),
        ("currency", "i1"),
        ("wallet", "i1"),
        ("region", "i1"),
        ("model", "i1"),
        ("status", "i1"),
        ("api_key", "i1"),
        ("incident", "i1"),
    ]
)
"""One event: positions in the catalogue's tables (`ABSENT`: none), times in microseconds since 1970, quantity in
units of the metric's decimals, cost in 10**-10 of its currency (no currency: no cost), whether price and product
are known; `incident` is the number of the planted incident's kind, 0 for an ordinary event."""

Rows = npt.NDArray[np.void]

ABSENT = -1
"""In a dimension: the key is not there. Elsewhere: NULL."""

COST_DECIMALS = 10

_NULL = r"\N"


def copy_lines(rows: Rows, tenant: int) -> Iterable[str]:
    """The rows of one organization as lines of COPY's text format, columns in the documented order."""
    who = customers(tenant)
    number = {name: rows[name].tolist() for name in ("customer", "metric", "currency")}
    columns = [
        _hex(rows["id"], 32),
        [who.organization_id] * len(rows),
        [who.ids[customer] for customer in number["customer"]],
        _products(rows),
        _subscriptions(rows, who),
        [business.METRICS[metric].key for metric in number["metric"]],
        _prices(rows, who),
        [
            _decimal(value, business.METRICS[metric].decimals)
            for value, metric in zip(rows["quantity"].tolist(), number["metric"], strict=True)
        ],
        _times(rows["timestamp"]),
        _times(rows["ingested_at"]),
        [f"evt_{key}" for key in _hex(rows["idempotency_key"], 24)],
        [
            _NULL if currency < 0 else _decimal(value, COST_DECIMALS)
            for value, currency in zip(rows["cost"].tolist(), number["currency"], strict=True)
        ],
        _named(rows["currency"], business.CURRENCIES),
        _named(rows["wallet"], business.CURRENCIES),
        _dimensions(rows, who),
    ]
    return ("\t".join(line) + "\n" for line in zip(*columns, strict=True))


def _hex(words: npt.NDArray[np.uint64], digits: int) -> list[str]:
    text = words.astype(">u8").tobytes().hex()
    return [text[at : at + digits] for at in range(0, len(text), 32)]


def _decimal(value: int, decimals: int) -> str:
    if not decimals:
        return str(value)
    whole, part = divmod(abs(value), 10**decimals)
    return f"{'-' if value < 0 else ''}{whole}.{part:0{decimals}d}"


def _times(microseconds: npt.NDArray[np.int64]) -> list[str]:
    instants = np.asarray(microseconds).astype("datetime64[us]")
    return [f"{text}Z" for text in np.datetime_as_string(instants, unit="us").tolist()]


def _named(codes: npt.NDArray[np.int8], names: tuple[str, ...]) -> list[str]:
    lookup = (*names, _NULL)
    return [lookup[code] for code in codes.tolist()]


def _products(rows: Rows) -> list[str]:
    lookup = [business.PRODUCTS.get(metric.product or "", _NULL) for metric in business.METRICS]
    return [
        lookup[metric] if known else _NULL
        for metric, known in zip(rows["metric"].tolist(), rows["product"].tolist(), strict=True)
    ]


def _subscriptions(rows: Rows, who: Customers) -> list[str]:
    return [
        _NULL if code < 0 else who.subscription_ids[customer][code]
        for customer, code in zip(rows["customer"].tolist(), rows["subscription"].tolist(), strict=True)
    ]


def _prices(rows: Rows, who: Customers) -> list[str]:
    lookup = [[f"{metric.key}.{plan}" for plan in business.PLANS] for metric in business.METRICS]
    plans = who.plan[rows["customer"]].tolist()
    columns = zip(rows["metric"].tolist(), plans, rows["priced"].tolist(), strict=True)
    return [lookup[metric][plan] if priced else _NULL for metric, plan, priced in columns]


def _dimensions(rows: Rows, who: Customers) -> list[str]:
    """JSON objects; a dimension that is absent is left out."""
    render = _renderer()
    keys = [
        ("" if code < 0 else f'"api_key":"{who.api_keys[customer][code]}",')
        for customer, code in zip(rows["customer"].tolist(), rows["api_key"].tolist(), strict=True)
    ]
    codes = zip(rows["region"].tolist(), rows["model"].tolist(), rows["status"].tolist(), strict=True)
    return [f"{{{f'{key}{render(*code)}'.rstrip(',')}}}" for key, code in zip(keys, codes, strict=True)]


def _renderer() -> Callable[[int, int, int], str]:
    tables = (
        ("region", business.REGIONS),
        ("model", business.MODELS),
        ("status", (*business.STATUSES, business.CREDIT)),
    )
    parts = [
        [*(f'"{key}":{json.dumps(value)},' for value in (*values, *business.ODD_VALUES)), ""] for key, values in tables
    ]

    @cache
    def render(region: int, model: int, status: int) -> str:
        return parts[0][region] + parts[1][model] + parts[2][status]

    return render
