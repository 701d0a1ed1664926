"""Unit costs: events whose cost per unit is off what the same price, or whatever the cost depends on, used to cost.

What a metric's cost depends on beside its currency is learned from a sample: up to two of the price and the dimensions,
those that leave least spread. Each group's band is then made of all its events, by the logarithm of the unit cost in
steps of 5 %. Only that logarithm is a float: it decides which events are off; sums and the excess are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from decimal import Context, Decimal
from math import ceil, log
from typing import Any

from sqlalchemy import Double, Integer, Interval, Select, Table, Text, and_, case, cast, func, literal, or_, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.decimals import total
from usage_explore.formatting import percent
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Check, Examination, Outcome
from usage_explore.validation.periods import earlier
from usage_explore.validation.unit_costs.drivers import Keys, best_keys, keyed, sample, sampled, unit_spread
from usage_explore.validation.unit_costs.findings import FLOOR, GRAVE, GRAVE_EVENTS, MOST, TIMES, Off, outcome

NAME = "unit_costs"

BACK = timedelta(days=30)
"""How much before the period says what is usual."""

STEP = 20
"""Steps of the logarithm, about 5 % each."""

KEYS = 2
"""How many keys a metric's unit cost may depend on."""

GAIN = 0.25
"""A key counts when it takes this part of the spread away."""

KNOWN = 30
"""Groups of fewer events have no usual cost."""

HISTORY = 200
"""With so many events before the period these alone say what is usual, else the period's do too."""

MIDDLE = (0.1, 0.9)
"""The quantiles of a group that its band is made of: up to a tenth of what is usual may itself have been wrong."""

WIDER = 2.5
"""The band reaches this many times as far from the median as those quantiles."""

APART = Decimal("1.5")
"""And at least this factor from it."""

WIDEST = 5
"""A group whose quantiles lie farther apart than this factor has no usual cost."""

_RATE = Context(prec=12)
_LEAST, _LARGEST = Decimal("1e-100"), Decimal("1e100")


@dataclass(frozen=True, slots=True)
class Band:
    """What a group's unit cost usually is, and from which to which step of the logarithm it may be."""

    metric: str
    currency: str
    values: tuple[str | None, ...]
    usual: Decimal
    low: int
    high: int


def statement(table: Table, period: Period, keys: Mapping[str, Keys] | None = None) -> Select[Any]:
    """Costs from 30 days before the period on, by group and step of the logarithm of the unit cost.

    Columns: `metric_key`, `currency`, `first_key` and `second_key` (text, what the metric's cost depends on), `step`
    integer, `before` boolean, `events` bigint, `quantity` and `cost` numeric, without their signs: credits have the
    same unit cost, but would take from the sums that it is made of.
    """
    c = table.c
    since = period.span[0]
    columns = (*_group(table, keys or {}), _step(table).label("step"), (c.timestamp < since).label("before"))
    return (
        select(
            *columns,
            func.count().label("events"),
            func.sum(func.abs(c.quantity)).label("quantity"),
            func.sum(func.abs(c.external_cost_amount)).label("cost"),
        )
        .where(*_costing(table, period.replace(since=earlier(since, BACK))))
        .group_by(*columns)
    )


def off_statement(table: Table, period: Period, keys: Mapping[str, Keys], bands: Sequence[Band]) -> Select[Any]:
    """The period's events outside of these bands, by hour, customer and band.

    Columns: `band` (its place, from 1), `too_high` boolean, `customer_id`, `hour` timestamptz, and `events`,
    `quantity`, `cost`, `size` and `paid` (these two without their signs), `first`, `last`.
    """
    c = table.c
    metric, currency, *values = _group(table, keys)
    listed = func.unnest(
        _array(Text(), [each.metric for each in bands]),
        _array(Text(), [each.currency for each in bands]),
        *(_array(Text(), [each.values[place] for each in bands]) for place in range(KEYS)),
        _array(Integer(), [each.low for each in bands]),
        _array(Integer(), [each.high for each in bands]),
    ).table_valued(
        "metric", "currency", *(f"value{place}" for place in range(KEYS)), "low", "high", with_ordinality="at"
    )
    b = listed.render_derived(name="bands").c
    events = (
        select(
            c.customer_id,
            c.timestamp,
            c.quantity,
            c.external_cost_amount.label("cost"),
            metric,
            currency,
            *values,
            _step(table).label("step"),
        )
        .where(*_costing(table, period), c.metric_key.in_(sorted({each.metric for each in bands})))
        .cte("costing")
    )
    e = events.c
    hour = func.date_bin(literal(timedelta(hours=1), Interval), e.timestamp, literal(period.span[0], e.timestamp.type))
    grouping = (b.at.label("band"), (e.step > b.high).label("too_high"), e.customer_id, hour.label("hour"))
    same = [
        and_(
            func.coalesce(e[name], "") == func.coalesce(b[f"value{place}"], ""),
            e[name].is_(None) == b[f"value{place}"].is_(None),
        )
        for place, name in enumerate(_NAMES)
    ]
    return (
        select(
            *grouping,
            func.count().label("events"),
            func.sum(e.quantity).label("quantity"),
            func.sum(e.cost).label("cost"),
            func.sum(func.abs(e.quantity)).label("size"),
            func.sum(func.abs(e.cost)).label("paid"),
            func.min(e.timestamp).label("first"),
            func.max(e.timestamp).label("last"),
        )
        .join_from(events, b.at.table, and_(e.metric_key == b.metric, e.currency == b.currency, *same))
        .where(or_(e.step < b.low, e.step > b.high))
        .group_by(*grouping)
    )


def examine(examination: Examination) -> Outcome:
    """The events off their group's band, drawn together by metric and time."""
    period = examination.period
    if examination.closed_until <= period.span[0]:
        return Outcome()
    asked = period.replace(until=examination.closed_until)
    table = examination.table
    drawn = sampled(
        list(
            examination.rows(
                sample(table, asked.replace(since=earlier(asked.span[0], BACK)), examination.totals.events)
            )
        )
    )
    by_metric: dict[str, list[Any]] = {}
    for each in drawn:
        by_metric.setdefault(each.metric, []).append(each)
    keys = {metric: best_keys(events, unit_spread, GAIN, KEYS) for metric, events in by_metric.items()}
    bands, suspects = bands_of(list(examination.rows(statement(table, asked, keys))))
    if not suspects:
        return Outcome(looked_at=len(bands))
    rows = list(examination.rows(off_statement(table, asked, keys, suspects)))
    off = [
        Off(
            band.metric,
            band.currency,
            tuple(zip(keys.get(band.metric, ()), band.values, strict=False)),
            band.usual,
            row,
        )
        for row in rows
        for band in (suspects[row.band - 1],)
    ]
    return outcome(examination, NAME, off, len(bands))


def bands_of(rows: Iterable[Any]) -> tuple[list[Band], list[Band]]:
    """The bands of the groups that have a usual cost, and those of them that have events outside in the period.

    A group whose costs differ too much has none: what it costs does not depend on the quantity, or on something unseen.
    """
    groups: dict[Any, list[Any]] = {}
    for row in rows:
        if row.step is None:
            continue
        groups.setdefault((row.metric_key, row.currency, row.first_key, row.second_key), []).append(row)
    bands, suspects = [], []
    for (metric, currency, *values), held in groups.items():
        before = [row for row in held if row.before]
        known = before if sum(row.events for row in before) >= HISTORY else held
        if sum(row.events for row in known) < KNOWN:
            continue
        middle, (low, high) = _quantile(known, 0.5), (_quantile(known, part) for part in MIDDLE)
        if high - low > STEP * log(WIDEST):
            continue
        apart = ceil(STEP * log(APART))
        lowest = middle - max(apart, ceil(WIDER * (middle - low)))
        highest = middle + max(apart, ceil(WIDER * (high - middle)))
        cost = quantity = None
        for row in known:
            if abs(row.step - middle) <= 1:
                cost = total((cost or Decimal(0), row.cost))
                quantity = total((quantity or Decimal(0), row.quantity))
        usual = _RATE.divide(cost or Decimal(0), quantity or Decimal(1))
        band = Band(metric, currency, tuple(values), usual, lowest, highest)
        bands.append(band)
        if any(not lowest <= row.step <= highest for row in held if not row.before):
            suspects.append(band)
    return bands, suspects


def _quantile(rows: Sequence[Any], part: float) -> int:
    """The step below which lies this part of the events."""
    left = part * sum(row.events for row in rows)
    steps: dict[int, int] = {}
    for row in rows:
        steps[row.step] = steps.get(row.step, 0) + row.events
    for step, events in sorted(steps.items()):
        left -= events
        if left <= 0:
            return step
    raise LookupError("a group without events")


_NAMES = ("first_key", "second_key")


def _group(table: Table, keys: Mapping[str, Keys]) -> tuple[Any, ...]:
    c = table.c
    values = (keyed(table, keys, place).label(name) for place, name in enumerate(_NAMES))
    return c.metric_key, c.external_cost_currency.label("currency"), *values


def _costing(table: Table, period: Period) -> list[Any]:
    c = table.c
    return [*conditions(table, period), c.external_cost_currency.is_not(None), c.external_cost_amount.is_not(None)]


def _step(table: Table) -> Any:
    """The step of the logarithm of the unit cost; NULL unless amount and quantity have one sign and fit a float."""
    amount, quantity = table.c.external_cost_amount, table.c.quantity
    sized = [
        func.abs(each).between(literal(_LEAST, each.type), literal(_LARGEST, each.type)) for each in (amount, quantity)
    ]
    unit = cast(amount, Double) / cast(quantity, Double)
    return case((and_(*sized, (amount > 0) == (quantity > 0)), cast(func.floor(func.ln(unit) * STEP), Integer)))


def _array(kind: Any, values: Sequence[Any]) -> Any:
    return cast(literal(list(values), ARRAY(kind)), ARRAY(kind))


CHECK = Check(
    name=NAME,
    title="Unit costs",
    means="What we are charged for a unit is not what it used to be: a supplier's price, or a unit, is wrong, and with"
    " it every invoice that passes the cost on.",
    parameters={
        "usual": f"the median of the group's events in the {BACK.days} days before the period where there are"
        f" {HISTORY}, else of the period's too, {KNOWN} at least",
        "group": f"metric and currency, and up to {KEYS} of the price and the dimensions, each of which takes"
        f" {percent(Decimal(str(GAIN)))} of the spread of a sample",
        "band": f"{WIDER} times as far from the median as the quantiles {MIDDLE[0]} and {MIDDLE[1]}, at least by the"
        f" factor {APART}; none where those quantiles are more than the factor {WIDEST} apart",
        "high": f"the excess is {percent(GRAVE)} of the period's cost in its currency, or {GRAVE_EVENTS} events are off"
        f" {TIMES} times; other incidents are medium, and low those of fewer than {FLOOR} events with less excess",
        "most": f"the {MOST} largest",
    },
    unit="groups of costs",
    statement=statement,
    examine=examine,
)
