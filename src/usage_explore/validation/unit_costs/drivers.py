"""What costs depend on: a sample of the events that cost something, and the keys that explain best what they cost."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from sqlalchemy import BigInteger, Select, Table, Text, case, cast, func, literal, null, select

from usage_explore.query.filters import DIMENSION
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions, expression

SAMPLE = 30_000
"""About how many events are looked at to learn what costs depend on."""

MOST_VALUES = 60
"""A key with more values in a sample explains nothing: it only tells the events apart."""

SHARE = 0.5
"""A key is there on at least this part of the sampled events."""

Keys = tuple[str, ...]
"""Groups, as `price_key` or `dim:model`."""


@dataclass(frozen=True, slots=True)
class Sampled:
    """A sampled event: what it may depend on, and what it costs. `unit` is the logarithm of its cost per unit."""

    metric: str
    currency: str
    values: Mapping[str, str]
    unit: float


def sample(table: Table, period: Period, events: int) -> Select[Any]:
    """About `SAMPLE` of the `events` of the period, always the same ones, of those that cost something.

    Columns: `metric_key`, `price_key`, `currency`, `cost`, `quantity`, `dimensions`.
    """
    c = table.c
    every = 1 << max(0, int(math.log2(max(events, 1) / SAMPLE)) if events > SAMPLE else 0)
    drawn = func.hashtextextended(cast(c.id, Text), literal(0, BigInteger), type_=BigInteger)
    return select(
        c.metric_key,
        c.price_key,
        c.external_cost_currency.label("currency"),
        c.external_cost_amount.label("cost"),
        c.quantity,
        c.dimensions,
    ).where(
        *conditions(table, period),
        c.external_cost_amount.is_not(None),
        c.external_cost_currency.is_not(None),
        drawn.op("&")(literal(every - 1, BigInteger)) == 0,
    )


def sampled(rows: Iterable[Any]) -> list[Sampled]:
    """The rows of `sample` whose unit cost has a logarithm."""
    found = []
    for row in rows:
        quantity = float(row.quantity)
        unit = float(row.cost) / quantity if quantity else 0.0
        if unit > 0 and math.isfinite(unit):
            values = {} if row.price_key is None else {"price_key": row.price_key}
            if isinstance(row.dimensions, dict):
                values |= {DIMENSION + key: str(each) for key, each in row.dimensions.items() if each is not None}
            found.append(Sampled(row.metric_key, row.currency, values, math.log(unit)))
    return found


def best_keys(events: Sequence[Sampled], spread: Callable[[Sequence[Sampled]], float], gain: float, most: int) -> Keys:
    """Up to `most` keys, each of which takes at least the part `gain` of what spread the keys before it leave.

    `spread` says of one group how much its events differ, summed over its events.
    """
    chosen: Keys = ()
    left = _spread(events, chosen, spread)
    while len(chosen) < most and left > 0:
        options = [(_spread(events, (*chosen, key), spread), key) for key in _candidates(events) if key not in chosen]
        if not options or (best := min(options))[0] > left * (1 - gain):
            break
        left, key = best
        chosen = (*chosen, key)
    return chosen


def unit_spread(events: Sequence[Sampled]) -> float:
    """How far the unit costs are from their median, in each currency, summed."""
    found = 0.0
    for currency in {each.currency for each in events}:
        units = [each.unit for each in events if each.currency == currency]
        middle = median(units)
        found += sum(abs(unit - middle) for unit in units)
    return found


def keyed(table: Table, keys: Mapping[str, Keys], place: int) -> Any:
    """The value of the key in this place for each event's metric, as text; NULL where its metric has none."""
    by_key: dict[str, list[str]] = {}
    for metric, chosen in keys.items():
        if place < len(chosen):
            by_key.setdefault(chosen[place], []).append(metric)
    if not by_key:
        return cast(null(), Text)
    return case(
        *(
            (table.c.metric_key.in_(metrics), cast(expression(table, key), Text))
            for key, metrics in sorted(by_key.items())
        ),
        else_=null(),
    )


def _spread(events: Sequence[Sampled], keys: Keys, spread: Callable[[Sequence[Sampled]], float]) -> float:
    groups: dict[tuple[str | None, ...], list[Sampled]] = {}
    for each in events:
        groups.setdefault(tuple(each.values.get(key) for key in keys), []).append(each)
    return sum(map(spread, groups.values()))


def _candidates(events: Sequence[Sampled]) -> list[str]:
    """Keys that most of the events have, with few values."""
    values: dict[str, set[str]] = {}
    there: dict[str, int] = {}
    for event in events:
        for key, value in event.values.items():
            there[key] = there.get(key, 0) + 1
            if len(seen := values.setdefault(key, set())) <= MOST_VALUES:
                seen.add(value)
    return sorted(
        key
        for key, seen in values.items()
        if 1 < len(seen) <= min(MOST_VALUES, len(events) // 10) and there[key] >= SHARE * len(events)
    )
