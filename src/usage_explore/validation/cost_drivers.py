"""What the unit cost of a metric depends on: the price and dimensions that explain most of its spread in a sample."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Select, Table, Text, case, cast, func, literal, null, select

from usage_explore.decimals import dimension_text
from usage_explore.query.filters import DIMENSION
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions, expression
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.periods import currency_codes

SAMPLE_EVENTS = 30_000
"""Events of a sample, between this and twice as many."""

BOUNDS = CheckBounds("common")

# fmt: off
MAX_VALUES = BOUNDS.add("max_key_values", 60, "values", 2, 10000,
    "Values of a key in the sample; one with more identifies events and explains nothing.")

MIN_SHARE = BOUNDS.add("min_key_share", 0.5, "share", 0, 1,
    "Share of the sampled events that have a key.")
# fmt: on

Keys = tuple[str, ...]
"""Groups, such as `price_key` or `dim:model`."""


@dataclass(frozen=True, slots=True)
class SampledEvent:
    """An event with the values of its keys; `log_unit_cost` is the natural logarithm of its cost by quantity."""

    metric: str
    currency: str
    values: Mapping[str, str]
    log_unit_cost: float


def sample(table: Table, period: Period, events: int) -> Select[Any]:
    """About `SAMPLE_EVENTS` of the period's `events`, of those with a cost; the same ones each time.

    Columns: `metric_key`, `price_key`, `currency`, `cost`, `quantity`, `dimensions`.
    """
    c = table.c
    one_in = 1 << max(0, int(math.log2(max(events, 1) / SAMPLE_EVENTS)) if events > SAMPLE_EVENTS else 0)
    digest = func.hashtextextended(cast(c.id, Text), literal(0, BigInteger), type_=BigInteger)
    return select(
        c.metric_key,
        c.price_key,
        currency_codes(c.external_cost_currency).label("currency"),
        c.external_cost_amount.label("cost"),
        c.quantity,
        c.dimensions,
    ).where(
        *with_cost(table, period),
        digest.op("&")(literal(one_in - 1, BigInteger)) == 0,
    )


def with_cost(table: Table, period: Period) -> list[ColumnElement[bool]]:
    """The conditions for the period's events with a cost in a currency."""
    c = table.c
    return [*conditions(table, period), c.external_cost_amount.is_not(None), c.external_cost_currency.is_not(None)]


def sampled(rows: Iterable[Any]) -> list[SampledEvent]:
    """The rows of `sample` with a positive, finite unit cost."""
    events = []
    for row in rows:
        quantity = float(row.quantity)
        unit_cost = float(row.cost) / quantity if quantity else 0.0
        if unit_cost > 0 and math.isfinite(unit_cost):
            values = {} if row.price_key is None else {"price_key": row.price_key}
            if isinstance(row.dimensions, dict):
                values |= {
                    DIMENSION + key: text
                    for key, value in row.dimensions.items()
                    if (text := dimension_text(value)) is not None
                }
            events.append(SampledEvent(row.metric_key, row.currency, values, math.log(unit_cost)))
    return events


def best_keys(
    events: Sequence[SampledEvent], spread: Callable[[Sequence[SampledEvent]], float], min_gain: float, max_keys: int
) -> Keys:
    """Up to `max_keys` keys, each of which takes away at least the share `min_gain` of the remaining spread.

    `spread` measures how much the events of one group differ, summed over its events.
    """
    chosen: Keys = ()
    left = _grouped_spread(events, chosen, spread)
    every = _candidates(events) if max_keys and left > 0 else []
    while len(chosen) < max_keys and left > 0:
        candidates = [key for key in every if key not in chosen]
        options = [(_grouped_spread(events, (*chosen, key), spread), key) for key in candidates]
        if not options or (best := min(options))[0] > left * (1 - min_gain):
            break
        left, key = best
        chosen = (*chosen, key)
    return chosen


def unit_cost_spread(events: Sequence[SampledEvent]) -> float:
    """The sum of the distances of the logarithms of unit costs from their median, in each currency."""
    by_currency: dict[str, list[float]] = {}
    for event in events:
        by_currency.setdefault(event.currency, []).append(event.log_unit_cost)
    spread = 0.0
    for logs in by_currency.values():
        middle = median(logs)
        spread += sum([abs(log - middle) for log in logs])
    return spread


def key_value(table: Table, keys: Mapping[str, Keys], index: int) -> Any:
    """The value of the key at this index for each event's metric, as text; NULL if its metric has none."""
    by_key: dict[str, list[str]] = {}
    for metric, chosen in keys.items():
        if index < len(chosen):
            by_key.setdefault(chosen[index], []).append(metric)
    if not by_key:
        return cast(null(), Text)
    return case(
        *(
            (table.c.metric_key.in_(metrics), cast(expression(table, key), Text))
            for key, metrics in sorted(by_key.items())
        ),
        else_=null(),
    )


def _grouped_spread(
    events: Sequence[SampledEvent], keys: Keys, spread: Callable[[Sequence[SampledEvent]], float]
) -> float:
    groups: dict[Any, list[SampledEvent]] = {}
    if len(keys) == 1:
        (only,) = keys
        for event in events:
            groups.setdefault(event.values.get(only), []).append(event)
    else:
        for event in events:
            get = event.values.get
            groups.setdefault(tuple([get(key) for key in keys]), []).append(event)
    return sum(map(spread, groups.values()))


def _candidates(events: Sequence[SampledEvent]) -> list[str]:
    """Keys with few values that most events have."""
    values: dict[str, set[str]] = {}
    counts: Counter[str] = Counter()
    most = MAX_VALUES()
    for event in events:
        counts.update(event.values.keys())
        for key, value in event.values.items():
            seen = values.get(key)
            if seen is None:
                values[key] = {value}
            elif len(seen) <= most:
                seen.add(value)
    few, many = min(most, len(events) // 10), MIN_SHARE() * len(events)
    return sorted(key for key, seen in values.items() if 1 < len(seen) <= few and counts[key] >= many)
