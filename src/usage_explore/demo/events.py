"""The demo's events: an ordinary day of an organization, as a pure function of (seed, day), and as COPY's text.

Events are whole numbers in memory, so that they are the same on every machine. Incidents are added elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache

import numpy as np
import numpy.typing as npt

from usage_explore.demo import business
from usage_explore.demo.business import Customers, Draws, Knots, Whole, customers

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
"""One event. customer, metric, currency, wallet, region, model, status: indexes into the tables of `business`, `ABSENT`
for none; timestamp, ingested_at: microseconds since 1970; quantity: units of 10**-(the metric's decimals); cost: units
of 10**-10 of its currency, without currency no cost; priced, product: whether price key and product are known;
incident: number of the planted incident's kind, 0 for an ordinary event."""

Rows = npt.NDArray[np.void]

ABSENT = -1
"""Index for a missing value: no key in the dimensions, NULL elsewhere."""

COST_DECIMALS = 10

_NULL = r"\N"

EVENTS_PER_DAY = 8_500
"""Events of an average day of all organizations, before growth."""

HOUR = 3_600_000_000
DAY = 24 * HOUR
"""Microseconds."""

_GROWTH_SINCE = date(2026, 7, 1).toordinal()
_EPOCH = date(1970, 1, 1).toordinal()

_LAG: Knots = (
    (0, 250),
    (300, 1_500),
    (700, 6_000),
    (930, 45_000),
    (967, 280_000),
    (970, 3_600_000),
    (1000, 64_800_000),
)
"""Quantiles of the milliseconds from an event to its arrival: up to minutes, for 3 % up to 18 hours."""

_STREAM_OF_COLUMN = {name: number for number, name in enumerate(("volume", *(EVENT.names or ())))}
_PER_METRIC = {
    name: np.array([int(getattr(metric, name)) for metric in business.METRICS], dtype=np.int64)
    for name in ("decimals", "rate", "grows", "keyed", "hourly")
}

DrawsOf = Callable[[str], Draws]


def day_start(day: date) -> int:
    """Microseconds from 1970 to the day's first instant, UTC."""
    return (day.toordinal() - _EPOCH) * DAY


def growth(day: date) -> int:
    """Events of a day in per mille of 1 July 2026: one more every day, at most 3,000."""
    return 1000 + min(max(day.toordinal() - _GROWTH_SINCE, 0), 2000)


def ordinary_day(seed: int, day: date, tenant: int, per_day: int) -> Rows:
    """The events of organization `tenant` on `day`, in no particular order.

    `per_day` is the number of events of an average day of all organizations.
    """
    draws = _draws(seed, day, tenant, 0)
    share = business.TENANTS[tenant].share
    noise = 960 + int(draws("volume").below(81, 1)[0])
    count = per_day * share * business.WEEKDAYS[day.weekday()] * growth(day) * noise // 10**12
    chosen = draws("customer").pick(customers(tenant).weights(day.toordinal()), count)
    return events(seed, day, tenant, chosen)


def events(seed: int, day: date, tenant: int, chosen: Whole, stream: int = 0) -> Rows:
    """One event of the day for each of the `chosen` customers (indexes); another `stream` draws other events."""
    who = customers(tenant)
    draws = _draws(seed, day, tenant, stream)
    count = len(chosen)
    rows: Rows = np.zeros(count, dtype=EVENT)
    rows["id"] = _version_4(draws("id").words(2 * count).reshape(count, 2))
    rows["idempotency_key"] = draws("idempotency_key").words(2 * count).reshape(count, 2)
    rows["customer"] = chosen
    rows["metric"] = _choose(draws("metric"), who.profile[chosen], business.PROFILES)
    rows["product"] = ~draws("product").chance(8, count)
    rows["priced"] = ~draws("priced").chance(20, count)
    rows["subscription"] = _subscriptions(rows, who, draws("subscription"))
    rows["wallet"] = np.where(draws("wallet").chance(150, count), ABSENT, who.wallet[chosen])
    away = draws("region")
    rows["region"] = np.where(away.chance(800, count), who.region[chosen], away.pick(business.REGION_WEIGHTS, count))
    _set_times(rows, day, draws)
    _set_model_and_amounts(rows, who, day, draws)
    _set_dimensions(rows, who, draws)
    return rows


def _draws(seed: int, day: date, tenant: int, stream: int) -> DrawsOf:
    """Separate draws for each column, so that a change to one column leaves the others as they are."""
    return lambda column: Draws(seed, day.toordinal(), tenant, stream, _STREAM_OF_COLUMN[column])


def _version_4(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Random bits with the version and variant of a version 4 UUID."""
    words[:, 0] = words[:, 0] & np.uint64(0xFFFF_FFFF_FFFF_0FFF) | np.uint64(0x4000)
    words[:, 1] = words[:, 1] >> np.uint64(2) | np.uint64(1 << 63)
    return words


def _choose(draws: Draws, group: npt.NDArray[np.integer], weights: Sequence[Sequence[int]]) -> Whole:
    """An index for each row, drawn by the weights of the row's group; `ABSENT` where the group has none."""
    at = draws.below(1 << 31, len(group))
    result = np.full(len(group), ABSENT, dtype=np.int64)
    for number, row in enumerate(weights):
        mine = np.flatnonzero(group == number)
        if row and len(mine):
            edges = np.cumsum(np.array(row, dtype=np.int64))
            result[mine] = np.searchsorted(edges, at[mine] * edges[-1] >> 31, side="right")
    return result


def _subscriptions(rows: Rows, who: Customers, draws: Draws) -> Whole:
    """Which subscription the event is of: the second, where the customer has one, covers training and storage."""
    second = np.array([metric.product in ("Training", "Storage") for metric in business.METRICS])
    held = who.subscriptions[rows["customer"]]
    which = np.where(held == 0, ABSENT, np.where((held == 2) & second[rows["metric"]], 1, 0))
    return np.where(draws.chance(15, len(rows)), ABSENT, which)


def _set_times(rows: Rows, day: date, draws: DrawsOf) -> None:
    """Timestamps by the region's busy hours, 30 % in whole seconds; ingestion a random lag later."""
    count = len(rows)
    hours = np.array(business.HOURS)
    if day.weekday() >= 5:
        hours = (hours + 60) // 2
    occurred, arrived = draws("timestamp"), draws("ingested_at")
    hour = _choose(occurred, np.array(business.REGION_CLOCKS)[rows["region"]], hours.tolist())
    within = occurred.below(HOUR, count)
    within = np.where(occurred.chance(300, count), within // 1_000_000 * 1_000_000, within)
    within = np.where(_PER_METRIC["hourly"][rows["metric"]] == 1, 0, within)
    rows["timestamp"] = day_start(day) + hour * HOUR + within
    rows["ingested_at"] = rows["timestamp"] + arrived.spread(_LAG, count) * 1000 + arrived.below(1000, count)


def _set_model_and_amounts(rows: Rows, who: Customers, day: date, draws: DrawsOf) -> None:
    """Model, quantity and external cost by metric; 4 in 1,000 events are credits with a negative quantity."""
    count = len(rows)
    metric = rows["metric"].astype(np.int64)
    rows["model"] = _choose(draws("model"), metric, [definition.models for definition in business.METRICS])
    amounts = draws("quantity")
    quantity = np.zeros(count, dtype=np.int64)
    for number, definition in enumerate(business.METRICS):
        mine = np.flatnonzero(metric == number)
        quantity[mine] = amounts.spread(definition.knots, len(mine))
    size = who.size[rows["customer"]] * (1000 + 3 * (growth(day) - 1000))
    quantity = np.where(_PER_METRIC["grows"][metric] == 1, np.maximum(quantity * size // 10**6, 1), quantity)

    currency = np.array(business.REGION_CURRENCIES)[rows["region"]]
    rate = _PER_METRIC["rate"][metric]
    cost = quantity * rate // 10 ** _PER_METRIC["decimals"][metric]
    cost = cost * np.array((*business.MODEL_COST, 1000))[rows["model"]] // 1000
    cost = cost * np.array(business.CURRENCY_RATES)[currency] // 1000

    credit = amounts.chance(4, count)
    unknown = (rate == 0) | credit | draws("cost").chance(60, count)
    rows["quantity"] = np.where(credit, -quantity, quantity)
    rows["cost"] = np.where(unknown, 0, cost)
    rows["currency"] = np.where(unknown, ABSENT, currency)
    rows["status"] = np.where(credit, len(business.STATUSES), draws("status").pick(business.STATUS_WEIGHTS, count))


def _set_dimensions(rows: Rows, who: Customers, draws: DrawsOf) -> None:
    """One of the customer's API keys; a few regions, models and statuses are odd values or missing."""
    count = len(rows)
    keys = draws("api_key")
    held = who.keys[rows["customer"]]
    key = keys.below(1 + keys.below(held, count), count)
    rows["api_key"] = np.where(_PER_METRIC["keyed"][rows["metric"]] == 1, key, ABSENT)
    odd = draws("incident")
    for name, usual in (
        ("region", len(business.REGIONS)),
        ("model", len(business.MODELS)),
        ("status", len(business.STATUSES) + 1),
    ):
        choice = odd.below(1000, count)
        for number in range(len(business.ODD_VALUES)):
            rows[name][choice == number] = usual + number
        rows[name][choice >= 996] = ABSENT


def copy_lines(rows: Rows, tenant: int) -> Iterable[str]:
    """The events of organization `tenant` as lines of COPY's text format, columns in the documented order."""
    who = customers(tenant)
    number = {name: rows[name].tolist() for name in ("customer", "metric", "currency")}
    columns = [
        _hex(rows["id"], 32),
        [who.organization_id] * len(rows),
        [who.ids[customer] for customer in number["customer"]],
        _product_ids(rows),
        _subscription_ids(rows, who),
        [business.METRICS[metric].key for metric in number["metric"]],
        _price_keys(rows, who),
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
        _dimension_objects(rows, who),
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


def _product_ids(rows: Rows) -> list[str]:
    lookup = [business.PRODUCTS.get(metric.product or "", _NULL) for metric in business.METRICS]
    return [
        lookup[metric] if known else _NULL
        for metric, known in zip(rows["metric"].tolist(), rows["product"].tolist(), strict=True)
    ]


def _subscription_ids(rows: Rows, who: Customers) -> list[str]:
    return [
        _NULL if code < 0 else who.subscription_ids[customer][code]
        for customer, code in zip(rows["customer"].tolist(), rows["subscription"].tolist(), strict=True)
    ]


def _price_keys(rows: Rows, who: Customers) -> list[str]:
    lookup = [[f"{metric.key}.{plan}" for plan in business.PLANS] for metric in business.METRICS]
    plans = who.plan[rows["customer"]].tolist()
    columns = zip(rows["metric"].tolist(), plans, rows["priced"].tolist(), strict=True)
    return [lookup[metric][plan] if priced else _NULL for metric, plan, priced in columns]


def _dimension_objects(rows: Rows, who: Customers) -> list[str]:
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
