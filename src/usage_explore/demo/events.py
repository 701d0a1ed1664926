"""An ordinary day of one organization: a pure function of (seed, day), without incidents."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date

import numpy as np
import numpy.typing as npt

from usage_explore.demo import business
from usage_explore.demo.customers import Customers, customers
from usage_explore.demo.draws import Draws, Knots, Whole
from usage_explore.demo.rows import ABSENT, EVENT, Rows

EVENTS_PER_DAY = 8_500
"""Events of an average day, all organizations together, before growth."""

HOUR = 3_600_000_000
DAY = 24 * HOUR

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
"""Milliseconds from an event to its arrival: seconds to minutes, and 3 % late by up to 18 hours."""

_STREAMS = {name: number for number, name in enumerate(("volume", *(EVENT.names or ())))}
_PER_METRIC = {
    name: np.array([int(getattr(metric, name)) for metric in business.METRICS], dtype=np.int64)
    for name in ("decimals", "rate", "grows", "keyed", "hourly")
}

DrawsOf = Callable[[str], Draws]


def day_start(day: date) -> int:
    """Microseconds from 1970 to the day's first instant, UTC."""
    return (day.toordinal() - _EPOCH) * DAY


def growth(day: date) -> int:
    """The number of events of a day in per mille of mid-2026: one more every day, at most threefold."""
    return 1000 + min(max(day.toordinal() - _GROWTH_SINCE, 0), 2000)


def ordinary_day(seed: int, day: date, tenant: int, per_day: int) -> Rows:
    """The events of organization `tenant` on `day`, in no particular order.

    `per_day` is the size of an average day, see `EVENTS_PER_DAY`.
    """
    draws = _draws(seed, day, tenant, 0)
    share = business.TENANTS[tenant].share
    noise = 960 + int(draws("volume").below(81, 1)[0])
    count = per_day * share * business.WEEKDAYS[day.weekday()] * growth(day) * noise // 10**12
    chosen = draws("customer").pick(customers(tenant).weights(day.toordinal()), count)
    return events(seed, day, tenant, chosen)


def events(seed: int, day: date, tenant: int, chosen: Whole, stream: int = 0) -> Rows:
    """One event of the day for each of the `chosen` customers; another `stream` gives other events."""
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
    """Draws of its own for each column, so that a change to one leaves the others as they were."""
    return lambda column: Draws(seed, day.toordinal(), tenant, stream, _STREAMS[column])


def _version_4(words: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Random bits with a version 4 UUID's marks."""
    words[:, 0] = words[:, 0] & np.uint64(0xFFFF_FFFF_FFFF_0FFF) | np.uint64(0x4000)
    words[:, 1] = words[:, 1] >> np.uint64(2) | np.uint64(1 << 63)
    return words


def _choose(draws: Draws, group: npt.NDArray[np.integer], weights: Sequence[Sequence[int]]) -> Whole:
    """A pick for each row by the weights of the row's group; `ABSENT` where the group has none."""
    at = draws.below(1 << 31, len(group))
    result = np.full(len(group), ABSENT, dtype=np.int64)
    for number, row in enumerate(weights):
        mine = np.flatnonzero(group == number)
        if row and len(mine):
            edges = np.cumsum(np.array(row, dtype=np.int64))
            result[mine] = np.searchsorted(edges, at[mine] * edges[-1] >> 31, side="right")
    return result


def _subscriptions(rows: Rows, who: Customers, draws: Draws) -> Whole:
    """The customer's second subscription, if there is one, covers training and storage."""
    second = np.array([metric.product in ("Training", "Storage") for metric in business.METRICS])
    held = who.subscriptions[rows["customer"]]
    which = np.where(held == 0, ABSENT, np.where((held == 2) & second[rows["metric"]], 1, 0))
    return np.where(draws.chance(15, len(rows)), ABSENT, which)


def _set_times(rows: Rows, day: date, draws: DrawsOf) -> None:
    """Occurrence by the region's clock, some of it in whole seconds; arrival a lag later."""
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
    """The model that fits the metric, how much of it, and what that cost us; now and then a credit."""
    count = len(rows)
    metric = rows["metric"].astype(np.int64)
    rows["model"] = _choose(draws("model"), metric, [each.models for each in business.METRICS])
    amounts = draws("quantity")
    quantity = np.zeros(count, dtype=np.int64)
    for number, each in enumerate(business.METRICS):
        mine = np.flatnonzero(metric == number)
        quantity[mine] = amounts.spread(each.knots, len(mine))
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
    """One of the customer's keys, and rarely something odd or nothing where a value is usual."""
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
