"""Check: a unit slip: quantities 60, 1,000 or 1,024 times, or that part of, what the customer's own history has.

The quartiles of each day come from the database; `slips` judges them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Float, Numeric, Select, Table, and_, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.decimals import exact_sum, plain
from usage_explore.formatting import counted, data_value, duration, percent, span_in
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.check import Check, Examination, Outcome
from usage_explore.validation.finding import SEVERITIES, Finding, Severity, limited
from usage_explore.validation.periods import INSTANT, day_edges, day_number
from usage_explore.validation.totals import part
from usage_explore.validation.unit_errors.detect import FACTORS, KNOWN, REMEMBERED, UNLIKE, Day, Slip, slips
from usage_explore.validation.usage_sums import LARGE_SHARE, count_series, metrics_query, own_usage, quantity_share

HISTORY = timedelta(days=28)
"""How far before the period a customer's quantities are learned from."""

DAILY = 8
"""Positive quantities of a day from which it is judged, and learned from."""

GRAVE = Decimal("0.01")
"""The part of the customer's quantity of the metric that is too much or missing from which a slip is high."""

ENOUGH = 20
"""The events from which a slip is high."""

NAME = "unit_slips"


@dataclass(frozen=True, slots=True)
class _Found:
    """A slip, and whose it is."""

    customer_id: UUID
    metric_key: str
    slip: Slip

    @property
    def span(self) -> tuple[datetime, datetime]:
        """When its events occurred, half-open."""
        return self.slip.days[0].first, self.slip.days[-1].last + INSTANT


def statement(table: Table, period: Period) -> Select[Any]:
    """The days of a resolved period, and of the history before it, with `DAILY` positive quantities or more.

    Columns: `customer_id`, `metric_key`, `day` integer (of the edges of period and history), `events` bigint,
    `quartiles` numeric[], `quantity` numeric, `first`, `last` timestamptz. Ordered by customer, metric and day.
    """
    c = table.c
    widened = _with_history(period)
    day = day_number(c.timestamp, day_edges(widened)).label("day")
    quartiles = func.percentile_disc(cast(literal([0.25, 0.5, 0.75], ARRAY(Float)), ARRAY(Float)))
    return (
        select(
            c.customer_id,
            c.metric_key,
            day,
            func.count().label("events"),
            quartiles.within_group(c.quantity).cast(ARRAY(Numeric)).label("quartiles"),
            func.sum(c.quantity).label("quantity"),
            func.min(c.timestamp).label("first"),
            func.max(c.timestamp).label("last"),
        )
        .where(*conditions(table, widened), c.quantity > 0, _finite(c.quantity))
        .group_by(c.customer_id, c.metric_key, day)
        .having(func.count() >= DAILY)
        .order_by(c.customer_id, c.metric_key, day)
    )


def _finite(quantity: ColumnElement[Decimal]) -> ColumnElement[bool]:
    """Whether it can be summed: in the database's order infinity and NaN come after every number."""
    bounds = [literal(Decimal(each), Numeric) for each in ("-Infinity", "Infinity")]
    return and_(quantity > bounds[0], quantity < bounds[1])


def _with_history(period: Period) -> Period:
    return period.replace(since=max(period.span[0] - HISTORY, validators.EARLIEST))


def examine(examination: Examination) -> Outcome:
    """The slips that have a day in the period, by customer and metric."""
    period = examination.period
    if examination.closed_until <= period.span[0]:
        return Outcome()
    closed = period.replace(until=examination.closed_until)
    found: list[_Found] = []
    judged = 0
    dense: set[tuple[UUID, str]] = set()
    rows = examination.rows(statement(examination.table, closed))
    for (customer, metric), days in groupby(rows, key=attrgetter("customer_id", "metric_key")):
        known = [Day(row.day, row.quartiles, row.events, row.quantity, row.first, row.last) for row in days]
        judgeable = sum(day.last >= period.span[0] for day in known[KNOWN:])
        judged += judgeable
        if judgeable:
            dense.add((customer, metric))
        for slip in slips(known):
            inside = tuple(
                replace(day, first=max(day.first, period.span[0])) for day in slip.days if day.last >= period.span[0]
            )
            if inside:
                found.append(_Found(customer, metric, replace(slip, days=inside)))
    severities = _severities(examination, found)
    ranked = sorted(zip(severities, found, strict=True), key=lambda pair: _rank(*pair))
    shown, note = limited(ranked, "slips", lambda rest: counted(_events(each for _, each in rest), "event"))
    series = count_series(examination, closed)
    sparse = (
        f"{series - len(dense):,} of {series:,} customers' metrics not judged: no day of at least {DAILY}"
        f" positive quantities after {KNOWN} such days"
        if series > len(dense)
        else ""
    )
    return Outcome(
        findings=tuple(_finding(examination, severity, each) for severity, each in shown),
        looked_at=judged,
        note="; ".join(filter(None, (note, sparse))),
        is_partial=bool(sparse),
    )


def _severities(examination: Examination, found: list[_Found]) -> list[Severity]:
    usage = own_usage(examination, {each.customer_id for each in found})
    result: list[Severity] = []
    for each in found:
        quantity = _quantity(each.slip)
        wrong = part(quantity - each.slip.corrected(quantity), usage[each.customer_id, each.metric_key][1])
        grave = wrong >= (GRAVE if _events([each]) >= ENOUGH else LARGE_SHARE)
        result.append("high" if grave else "medium")
    return result


def _rank(severity: Severity, found: _Found) -> tuple[Any, ...]:
    return list(SEVERITIES).index(severity), -_events([found]), found.customer_id, found.metric_key, found.span


def _events(found: Iterable[_Found]) -> int:
    return sum(day.events for each in found for day in each.slip.days)


def _quantity(slip: Slip) -> Decimal:
    return Decimal(exact_sum((day.quantity for day in slip.days), Decimal(0)))


def _finding(examination: Examination, severity: Severity, found: _Found) -> Finding:
    slip = found.slip
    since, until = found.span
    events, quantity, costs = _exactly(examination, found)
    ratio = slip.ratio if slip.times else 1 / slip.ratio
    how = "times" if slip.times else "times smaller than"
    return Finding(
        check=NAME,
        severity=severity,
        sentence=f"{counted(events, 'event')} of customer {found.customer_id}, {data_value(found.metric_key)},"
        f" {span_in(since, until, examination.period.zone)}: on {counted(len(slip.days), 'day')} the quantities are"
        f" about {ratio:,.0f} {how} what the customer's days before had, all quartiles alike, as a unit wrong by"
        f" {slip.factor:,} makes them.",
        since=since,
        until=until,
        events=events,
        quantity=quantity,
        amounts=tuple(sorted((currency, cost) for currency, cost in costs.items() if currency is not None)),
        **quantity_share(examination, {found.metric_key: quantity}),
        customer_id=found.customer_id,
        metric_key=found.metric_key,
        question=metrics_query(
            examination,
            [found.metric_key],
            customer_id=found.customer_id,
            occurred_after=since,
            occurred_before=until,
        ),
        facts=(
            ("usual median", plain(slip.usual)),
            ("medians of the days", ", ".join(plain(day.quartiles[1]) for day in slip.days[:REMEMBERED])),
            ("quantity in the usual unit, about", plain(Decimal(f"{slip.corrected(quantity):.6g}"))),
            *((("cost without a currency", plain(costs[None])),) if None in costs else ()),
        ),
    )


def _exactly(examination: Examination, found: _Found) -> tuple[int, Decimal, dict[str | None, Decimal]]:
    """How many events of the customer's metric there are meanwhile, their quantity, and their cost by currency."""
    c = examination.table.c
    since, until = found.span
    rows = examination.connection.execute(
        select(
            c.external_cost_currency,
            func.count(),
            func.coalesce(func.sum(c.quantity).filter(_finite(c.quantity)), 0),
            func.sum(c.external_cost_amount),
        )
        .where(
            *conditions(examination.table, examination.period),
            c.customer_id == found.customer_id,
            c.metric_key == found.metric_key,
            c.timestamp >= since,
            c.timestamp < until,
        )
        .group_by(c.external_cost_currency)
    ).all()
    quantity = Decimal(exact_sum((row[2] for row in rows), Decimal(0)))
    return sum(row[1] for row in rows), quantity, {row[0]: row[3] for row in rows if row[3] is not None}


CHECK = Check(
    name=NAME,
    title="Unit slips",
    means="Seconds sent as minutes, or bytes as kilobytes: the invoice is too high or too low by the factor.",
    parameters={
        "factors": ", ".join(f"×{factor:,} and ÷{factor:,}" for factor in FACTORS),
        "history": f"the customer's latest {REMEMBERED} days of the metric before, at least {KNOWN}, looked for up to"
        f" {duration(HISTORY)} before the period; a day has {DAILY} positive quantities or more",
        "slip": "the quartiles of a day all lie by the same factor off those of the history, each by more than"
        f" {UNLIKE} times what the history differs in itself",
        "high": f"{ENOUGH} events or more, and what is too much or missing makes {percent(GRAVE)} or more of the"
        f" customer's quantity of the metric, or fewer events and {percent(LARGE_SHARE)}; else medium",
    },
    unit="days of a customer's metric",
    statement=statement,
    examine=examine,
)
