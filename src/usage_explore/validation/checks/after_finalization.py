"""Check: what arrived after the period was finalized, and what it changes.

The answer as of the finalization beside today's, by customer and metric, exact: what arrived later is on no invoice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from sqlalchemy import Select, Table, false, func, select

from usage_explore.decimals import exact_sum, plain
from usage_explore.formatting import counted, data_value, percent, span_in
from usage_explore.query.buckets import Bucket
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.affected import affected_share, shown_with
from usage_explore.validation.arrivals import BulkLoads, among, apart, bulk_loads
from usage_explore.validation.batches import FLOOR, MOST
from usage_explore.validation.check import Check, Examination, Outcome
from usage_explore.validation.customer_usage import LARGE, own_usage, part
from usage_explore.validation.finding import SEVERITIES, Finding, Severity
from usage_explore.validation.usage_sums import INSTANT, of_question

if TYPE_CHECKING:
    import pandas as pd

GRAVE = Decimal("0.01")
"""The part of a customer's own usage of the metric from which what is not on the invoice is high."""

NAME = "after_finalization"
_FACTS = 20
_LONG = timedelta(days=366)
"""A longer period is drawn in weeks: an aggregate has a bound on its buckets."""


@dataclass(slots=True, kw_only=True)
class _Change:
    """What arrived later of one customer's metric, and the whole as it is known today.

    `events_before` of the events had occurred by the finalization.
    """

    customer_id: UUID
    metric_key: str
    since: datetime
    until: datetime
    events: int = 0
    events_before: int = 0
    quantity: Decimal = Decimal(0)
    costs: dict[str | None, Decimal] = field(default_factory=dict)
    events_now: int = 0
    quantity_now: Decimal = Decimal(0)

    @property
    def events_then(self) -> int:
        return self.events_now - self.events

    @property
    def quantity_then(self) -> Decimal:
        """Without what arrived later; with NaN or infinite quantities there is none."""
        if not (self.quantity_now.is_finite() and self.quantity.is_finite()):
            return Decimal("NaN")
        return _sum(self.quantity_now, self.quantity.copy_negate())

    @property
    def own(self) -> Decimal:
        """What part of the customer's usage of the metric, as finalized, that changes: of events or of quantity."""
        return max(part(self.events, self.events_then), part(self.quantity, self.quantity_then))


def statement(table: Table, period: Period, loads: Sequence[datetime] = ()) -> Select[Any]:
    """What arrived after a resolved period's `finalized_at`; of a period without one, nothing.

    Without what came with the bulk loads of these times.

    Columns: `customer_id`, `metric_key`, `currency`, `events` bigint, `quantity` and `cost` numeric, `first` and `last`
    timestamptz, `before` bigint: the events that had occurred by then. Ordered by customer and metric.
    """
    c = table.c
    finalized = period.finalized_at
    late, by_then = (false(), false()) if finalized is None else (c.ingested_at > finalized, c.timestamp <= finalized)
    return (
        select(
            c.customer_id,
            c.metric_key,
            c.external_cost_currency.label("currency"),
            func.count().label("events"),
            func.sum(c.quantity).label("quantity"),
            func.sum(c.external_cost_amount).label("cost"),
            func.min(c.timestamp).label("first"),
            func.max(c.timestamp).label("last"),
            func.count().filter(by_then).label("before"),
        )
        .where(*conditions(table, period), late, *apart(c.ingested_at, loads))
        .group_by(c.customer_id, c.metric_key, c.external_cost_currency)
        .order_by(c.customer_id, c.metric_key)
    )


def examine(examination: Examination) -> Outcome:
    """One finding for each customer's metric that changed since, or one for all where the period was finalized before
    it ended; and all of them as the sheet, see `sheet`. What came with bulk loads is one finding: whether it had
    arrived before is unknown.
    """
    every = _changes(examination)
    if every and _is_early(examination.period):
        note = "what changed by customer and metric is in the sheet alone: the period was finalized before it ended"
        found, looked_at = _early(examination, every), examination.totals.events
        return Outcome(findings=(found,), looked_at=looked_at, sheet=sheet(every), note=note)
    loads = bulk_loads(examination) if every else BulkLoads()
    changes = _changes(examination, loads.times) if loads.times else every
    judged = [(_severity(change), change) for change in changes]
    judged.sort(key=lambda pair: (list(SEVERITIES).index(pair[0]), -pair[1].own, -pair[1].events))
    events = sum(change.events for change in changes)
    bulk = _bulk(examination, loads)
    note = ""
    if not every and _is_to_come(examination):
        note = "the finalization is later than what is looked at: nothing can have arrived after it"
    if len(changes) > MOST:
        rest = sum(change.events for _, change in judged[MOST:])
        note = (
            f"of {len(changes):,} customers and metrics with {counted(events, 'later event')} the other"
            f" {len(changes) - MOST:,}, {counted(rest, 'event')}, are in the sheet alone"
        )
    return Outcome(
        findings=(*bulk, *(_finding(examination, severity, change) for severity, change in judged[:MOST])),
        looked_at=examination.totals.events,
        sheet=sheet(every),
        note=note,
    )


def _is_early(period: Period) -> bool:
    return period.finalized_at is not None and period.finalized_at < period.span[1]


def _is_to_come(examination: Examination) -> bool:
    finalized = examination.period.finalized_at
    return finalized is not None and finalized >= (examination.period.as_of or examination.now)


def _changes(examination: Examination, loads: Sequence[datetime] = ()) -> list[_Change]:
    found: dict[tuple[UUID, str], _Change] = {}
    for row in examination.rows(statement(examination.table, examination.period, loads)):
        fresh = _Change(
            customer_id=row.customer_id, metric_key=row.metric_key, since=row.first, until=row.last + INSTANT
        )
        change = found.setdefault((row.customer_id, row.metric_key), fresh)
        change.since, change.until = min(change.since, row.first), max(change.until, row.last + INSTANT)
        change.events += row.events
        change.events_before += row.before
        change.quantity = _sum(change.quantity, row.quantity)
        if row.cost is not None:
            change.costs[row.currency] = _sum(change.costs.get(row.currency, Decimal(0)), row.cost)
    usage = own_usage(examination, {customer for customer, _ in found})
    for key, change in found.items():
        change.events_now, change.quantity_now = usage[key]
    return list(found.values())


def _sum(one: Decimal, other: Decimal) -> Decimal:
    if not (one.is_finite() and other.is_finite()):
        return Decimal("NaN")
    return Decimal(exact_sum((one, other), Decimal(0)))


def _severity(change: _Change) -> Severity:
    if change.events < FLOOR and change.own < LARGE:
        return "low"
    return "high" if change.own >= GRAVE else "medium"


def _finding(examination: Examination, severity: Severity, change: _Change) -> Finding:
    period = examination.period
    assert period.finalized_at is not None  # noqa: S101 - the check needs it
    then = f"{counted(change.events_then, 'event')}, quantity {plain(change.quantity_then)}"
    now = f"{counted(change.events_now, 'event')}, quantity {plain(change.quantity_now)}"
    costs = (("cost without a currency", plain(change.costs[None])),) if None in change.costs else ()
    return Finding(
        check=NAME,
        severity=severity,
        sentence=f"{counted(change.events, 'event')} of customer {change.customer_id}, {data_value(change.metric_key)},"
        f" {span_in(change.since, change.until, period.zone)}, arrived after the period was finalized: the quantity was"
        f" {plain(change.quantity_then)} then and is {plain(change.quantity_now)} now{_by(change)}.",
        since=change.since,
        until=change.until,
        events=change.events,
        quantity=change.quantity,
        amounts=tuple(sorted((currency, cost) for currency, cost in change.costs.items() if currency is not None)),
        share=affected_share(examination, {change.metric_key: (change.events, change.quantity)}),
        customer_id=change.customer_id,
        metric_key=change.metric_key,
        question=examination.aggregate_question(
            customer_id=change.customer_id,
            metric="sum_quantity" if change.quantity_now.is_finite() else "count",
            bucket=_bucket(period),
            **shown_with([change.metric_key]),
        ),
        facts=(
            ("finalized at", period.finalized_at.astimezone(period.zone).isoformat()),
            ("as of the finalization", then),
            ("now", now),
            ("changed", f"{counted(change.events, 'event')}, quantity {plain(change.quantity)}"),
            *costs,
        ),
    )


def _bulk(examination: Examination, loads: BulkLoads) -> tuple[Finding, ...]:
    """What came with bulk loads after the finalization, all of it at once; high where other events had arrived."""
    period, arrived = examination.period, examination.table.c.ingested_at
    assert period.finalized_at is not None  # noqa: S101 - the check needs it
    later = (among(arrived, loads.times), arrived > period.finalized_at)
    found = of_question(examination, examination.events_question(), *later) if loads.times else None
    if found is None:
        return ()
    share = part(found.events, examination.totals.events)
    spell = span_in(loads.times[0], loads.times[-1] + INSTANT, period.zone)
    return (
        Finding(
            check=NAME,
            severity="medium" if found.events == examination.totals.events else "high",
            sentence=f"{counted(found.events, 'event')}, {percent(share)} of the period's, came with a history or a"
            f" file that was loaded after the period was finalized, {spell}: their arrival times"
            " are unknown, and so is whether the invoice has them.",
            question=examination.events_question(occurred_after=found.since, occurred_before=found.until),
            facts=found.facts(),
            **found.fields(examination),
        ),
    )


def _by(change: _Change) -> str:
    """The change as a part of what there was: of nothing, and of what is not finite, there is none."""
    if not change.quantity_then or not change.quantity_then.is_finite():
        return ""
    return f", a change of {percent(part(change.quantity, change.quantity_then))}"


def _early(examination: Examination, changes: list[_Change]) -> Finding:
    """All of it at once, of a period that was finalized before it ended: most of it is the rest of the period."""
    period = examination.period
    assert period.finalized_at is not None  # noqa: S101 - the check needs it
    quantities: dict[str, tuple[int, Decimal]] = {}
    costs: dict[str | None, Decimal] = {}
    for change in changes:
        events, quantity = quantities.get(change.metric_key, (0, Decimal(0)))
        quantities[change.metric_key] = events + change.events, _sum(quantity, change.quantity)
        for currency, cost in change.costs.items():
            costs[currency] = _sum(costs.get(currency, Decimal(0)), cost)
    events = sum(change.events for change in changes)
    before = sum(change.events_before for change in changes)
    customers = {change.customer_id for change in changes}
    facts = [
        (data_value(metric), f"{counted(many, 'event')}, quantity {plain(quantity)}")
        for metric, (many, quantity) in sorted(quantities.items())[:_FACTS]
    ]
    if None in costs:
        facts.append(("cost without a currency", plain(costs[None])))
    one = next(iter(quantities)) if len(quantities) == 1 else None
    return Finding(
        check=NAME,
        severity="high" if events >= FLOOR and part(events, examination.totals.events) >= GRAVE else "medium",
        sentence=f"The period was finalized before it ended, {period.finalized_at.astimezone(period.zone).isoformat()}:"
        f" {counted(events, 'event')} of {counted(len(customers), 'customer')} arrived after that,"
        f" {percent(part(events, examination.totals.events))} of all; {before:,} of them had occurred by then.",
        since=min(change.since for change in changes),
        until=max(change.until for change in changes),
        events=events,
        quantity=None if one is None else quantities[one][1],
        amounts=tuple(sorted((currency, cost) for currency, cost in costs.items() if currency is not None)),
        share=affected_share(examination, quantities),
        customer_id=next(iter(customers)) if len(customers) == 1 else None,
        metric_key=one,
        question=examination.aggregate_question(bucket=_bucket(period), **shown_with(quantities)),
        facts=(("finalized at", period.finalized_at.astimezone(period.zone).isoformat()), *facts),
    )


def _bucket(period: Period) -> Bucket:
    since, until = period.span
    return "week" if until - since > _LONG else "day"


def sheet(changes: list[_Change]) -> pd.DataFrame:
    """What was known at the finalization and is known now, one row for each customer and metric that changed.

    Columns: `customer_id`, `metric_key` (str), `events_then`, `events_later`, `events_now` (int64), `quantity_then`,
    `quantity_later`, `quantity_now` (`Decimal`). Then and later make now, exactly.
    """
    import pandas as pd

    return pd.DataFrame(
        {
            "customer_id": pd.Series([str(change.customer_id) for change in changes], dtype="str"),
            "metric_key": pd.Series([change.metric_key for change in changes], dtype="str"),
            "events_then": pd.Series([change.events_then for change in changes], dtype="int64"),
            "events_later": pd.Series([change.events for change in changes], dtype="int64"),
            "events_now": pd.Series([change.events_now for change in changes], dtype="int64"),
            "quantity_then": pd.Series([change.quantity_then for change in changes], dtype="object"),
            "quantity_later": pd.Series([change.quantity for change in changes], dtype="object"),
            "quantity_now": pd.Series([change.quantity_now for change in changes], dtype="object"),
        }
    )


CHECK = Check(
    name=NAME,
    title="Arrived after finalization",
    means="This usage is on no invoice of the period: bill it with the next, or correct the invoice.",
    parameters={
        "after": "ingested later than finalized_at, and by the time the data is looked at",
        "high": f"{FLOOR} events or more that change the events or the quantity of the customer's metric by"
        f" {percent(GRAVE)} or more, or fewer that change them by {percent(LARGE)} or more",
        "low": f"fewer than {FLOOR} events that change both by less than {percent(LARGE)}",
        "bulk loads": "what came with bulk loads (see late_arrivals) after it is one finding: medium where that is the"
        " whole period, else high",
        "early": "of a period finalized before it ended all is one finding, the customers and metrics are in the sheet:"
        f" high from {FLOOR} events and {percent(GRAVE)} of the period's events on, else medium",
    },
    unit="events",
    statement=statement,
    examine=examine,
    needs="finalized_at",
)
