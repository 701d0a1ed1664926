"""What the answers must be, in plain Python over the same rows: slow, obvious, sharing no code with the package."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

QUARTER = timedelta(minutes=15)
EXACT = Context(prec=1000)


@dataclass(frozen=True)
class Row:
    """An event as it was inserted; `dimensions` is the JSON text."""

    id: Any
    organization_id: Any
    customer_id: Any
    product_id: Any
    subscription_id: Any
    metric_key: str
    price_key: str | None
    quantity: Decimal
    timestamp: datetime
    ingested_at: datetime
    idempotency_key: str
    external_cost_amount: Decimal | None
    external_cost_currency: str | None
    wallet_currency: str | None
    dimensions: str


def group_text(row: Row, group: str) -> str | None:
    """The value of a group as text, as PostgreSQL's `->>` gives it."""
    if not group.startswith("dim:"):
        value = getattr(row, group)
        return None if value is None else str(value)
    value = json.loads(row.dimensions, parse_float=Decimal).get(group.removeprefix("dim:"))
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | Decimal) else json.dumps(value)


def predicate(params: Iterable[tuple[str, list[str]]]) -> Callable[[Row], bool]:
    """Whether a row passes filters given by parameter name; times and organization are not among them."""
    tests: list[Callable[[Row], bool]] = []
    for name, values in params:
        if name == "missing":
            tests += [lambda row, group=group: group_text(row, group) is None for group in values]
        elif name == "not:missing":
            tests += [lambda row, group=group: group_text(row, group) is not None for group in values]
        elif name == "ingested_after":
            tests.append(lambda row, edge=values[0]: row.ingested_at >= datetime.fromisoformat(edge))
        elif name == "ingested_before":
            tests.append(lambda row, edge=values[0]: row.ingested_at < datetime.fromisoformat(edge))
        elif name == "quantity_min":
            tests.append(lambda row, bound=Decimal(values[0]): row.quantity >= bound)
        elif name == "quantity_max":
            tests.append(lambda row, bound=Decimal(values[0]): row.quantity <= bound)
        elif name.startswith("not:"):
            tests.append(lambda row, group=name[4:], values=values: group_text(row, group) not in values)
        else:
            tests.append(lambda row, group=name, values=values: group_text(row, group) in values)
    return lambda row: all(test(row) for test in tests)


def edges(since: datetime, until: datetime, bucket: str, zone: ZoneInfo) -> list[datetime]:
    """Bucket edges by walking through time a quarter of an hour at a step and watching the wall clock."""
    found: list[datetime] = []
    margin = timedelta(days=65 if bucket == "month" else 9)
    instant = since.replace(minute=0, second=0, microsecond=0) - margin
    reached = date.min
    phase = None
    while instant < until + margin:
        local = instant.astimezone(zone)
        offset = local.utcoffset()
        assert offset is not None
        if bucket == "hour":
            if local.minute == 0 or (phase is not None and offset % timedelta(hours=1) != phase):
                found.append(instant)
            phase = offset % timedelta(hours=1)
        else:
            if local.date() > reached:
                first, last = max(reached.toordinal(), local.date().toordinal() - 8), local.date().toordinal()
                passed = [date.fromordinal(day) for day in range(first + 1, last + 1)]
                opens = {
                    "day": True,
                    "week": any(day.weekday() == 0 for day in passed),
                    "month": any(day.day == 1 for day in passed),
                }
                if opens[bucket]:
                    found.append(instant)
                reached = local.date()
        instant += QUARTER
    found = found[1:]
    first = max(edge for edge in found if edge <= since)
    last = min(edge for edge in found if edge >= until)
    return [edge for edge in found if first <= edge <= last]


def metrics(rows: Iterable[Row], since: datetime, until: datetime) -> int:
    """How many different metrics the rows in the window are of, over rows already filtered by everything else."""
    return len({row.metric_key for row in rows if since <= row.timestamp < until})


def currencies(rows: Iterable[Row]) -> set[str | None]:
    """The currencies of the rows that have a cost, as exact text; None is one of them."""
    return {row.external_cost_currency for row in rows if row.external_cost_amount is not None}


def rounded_ratio(dividend: Fraction, divisor: Fraction, digits: int = 12) -> Decimal | None:
    """The ratio to that many significant digits, half-even, by integers alone; None of a divisor of 0."""
    if not divisor:
        return None
    ratio = dividend / divisor
    if not ratio:
        return Decimal(0)
    exponent = 0
    while abs(ratio) * Fraction(10) ** -exponent >= 10**digits:
        exponent += 1
    while abs(ratio) * Fraction(10) ** -exponent < 10 ** (digits - 1):
        exponent -= 1
    return Decimal(f"{round(ratio * Fraction(10) ** -exponent)}E{exponent}")


def aggregate(
    rows: Iterable[Row],
    *,
    since: datetime,
    until: datetime,
    bucket: str,
    zone: ZoneInfo,
    metric: str,
    group_by: str,
    top: int,
) -> list[dict[str, Any]]:
    """The series of the answer over rows already filtered by everything but the window.

    Of `unit_cost` the cells are pairs: the cost, by which series are ranked, and the quantity of the rows with a cost.
    """
    ratio = metric == "unit_cost"
    bounds = edges(since, until, bucket, zone)
    cells: dict[tuple[str | None, int], Any] = defaultdict(Decimal)
    totals: dict[str | None, Any] = defaultdict(Decimal)
    divisors: dict[tuple[str | None, int], Fraction] = defaultdict(Fraction)
    for row in rows:
        if not since <= row.timestamp < until:
            continue
        key = None if group_by == "none" else group_text(row, group_by)
        index = max(number for number, edge in enumerate(bounds) if edge <= row.timestamp)
        if metric in ("sum_cost", "unit_cost"):
            amount = row.external_cost_amount or Decimal(0)
        else:
            amount = Decimal(1) if metric == "count" else row.quantity
        if ratio and row.external_cost_amount is not None:
            divisors[key, index] += Fraction(row.quantity)
        cells[key, index] = EXACT.add(cells[key, index], amount)
        totals[key] = EXACT.add(totals[key], amount)

    def series(kind: str, key: str | None, members: list[str | None]) -> dict[str, Any]:
        points: list[tuple[datetime, datetime, Decimal | None]] = []
        whole = [Fraction(0), Fraction(0)]
        for index in range(len(bounds) - 1):
            value = Decimal(0)
            divisor = Fraction(0)
            for member in members:
                value = EXACT.add(value, cells.get((member, index), Decimal(0)))
                divisor += divisors.get((member, index), Fraction(0))
            whole = [whole[0] + Fraction(value), whole[1] + divisor]
            point = rounded_ratio(Fraction(value), divisor) if ratio else value
            points.append((bounds[index], bounds[index + 1], point))
        if ratio:
            return {"kind": kind, "key": key, "total": rounded_ratio(*whole), "points": points}
        total = Decimal(0)
        for member in members:
            total = EXACT.add(total, totals[member])
        return {"kind": kind, "key": key, "total": total, "points": points}

    if group_by == "none":
        return [series("all", None, [None])]
    # copy_negate, because a minus sign would round to the context's 28 digits and make ties
    ranked = sorted(totals, key=lambda key: (totals[key].copy_negate(), key is None, key or ""))
    kept = ranked[:top] if top else ranked
    found = [series("missing" if key is None else "value", key, [key]) for key in kept]
    if top and len(ranked) > top:
        found.append(series("other", None, ranked[top:]))
    return found


def newest_first(rows: Iterable[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: (row.timestamp, row.id.int), reverse=True)


def utc(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc, arg-type]
