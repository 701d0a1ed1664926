"""Batches: a customer's events of one kind that are close in time, such as duplicates, and the findings they make.

Events of one kind and customer that lie less than `BATCH_GAP` apart are a batch. A customer's batches of fewer than
`MIN_BATCH_EVENTS` events are added up: they are its own finding if they are a large share of its usage; else one
finding reports them together with those of other customers, as it does for batches of low severity. The database groups
events into batches, so that many events take no memory here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Select, Table, case, func, literal, select

from usage_explore.decimals import plain
from usage_explore.formatting import counted, data_value, percent, span_in
from usage_explore.validation.check import Examination, Outcome
from usage_explore.validation.finding import SEVERITIES, Finding, Severity, limited
from usage_explore.validation.periods import INSTANT
from usage_explore.validation.totals import part
from usage_explore.validation.usage_sums import LARGE_SHARE, OwnUsage, UsageSum, metrics_query, own_usage

_Key = TypeVar("_Key")

BATCH_GAP = timedelta(hours=6)
"""Time without events that ends a batch."""

STEADY_GAP = timedelta(days=3)
"""Time between a customer's batches of a metric that are one finding: nights and weekends lie between."""

MIN_BATCH_EVENTS = 10
"""Events of a batch; fewer are reported together, unless they are `LARGE_SHARE` of the customer's usage."""

MAX_SMALL_CUSTOMERS = 10
"""Customers with few events each, though a large share of their usage, that have a finding each; more share a cause."""


@dataclass(slots=True, kw_only=True)
class Batch(UsageSum):
    """Events of one `kind`: `arrived` bounds when they arrived, `lags` the time from an event to its arrival."""

    kind: str
    arrived: tuple[datetime, datetime]
    lags: tuple[timedelta, timedelta]

    @classmethod
    def of_row(cls, row: Any) -> Batch:
        """One row of `batched`."""
        return Batch(
            kind=row.kind,
            since=row.first,
            until=row.last + INSTANT,
            arrived=(row.first_arrival, row.last_arrival),
            lags=(row.shortest, row.longest),
            metrics={row.metric_key: (row.events, row.quantity)},
            costs={} if row.cost is None else {row.currency: row.cost},
            customers={row.customer_id},
        )

    @property
    def customer(self) -> UUID:
        """The one customer that a batch has; batches that were added up may have several."""
        (customer,) = self.customers
        return customer

    def arrival(self, zone: tzinfo) -> tuple[tuple[str, str], ...]:
        """The first and the last arrival, as facts."""
        first, last = (arrived.astimezone(zone).isoformat() for arrived in self.arrived)
        return (("first arrival", first), ("last arrival", last))

    def include(self, other: Batch) -> None:
        """Add the other batch to this one."""
        self.add(other)
        self.arrived = min(self.arrived[0], other.arrived[0]), max(self.arrived[1], other.arrived[1])
        self.lags = min(self.lags[0], other.lags[0]), max(self.lags[1], other.lags[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWording:
    """The severities and sentences of a check's batches.

    `severity` is given the batch's share of the customer's own usage (see `_own_share`), `sentence` also the time in
    words. `stray` is for batches that are reported together.
    """

    check: str
    severity: Callable[[Batch, Decimal], Severity]
    sentence: Callable[[Batch, Decimal, str], str]
    stray_sentence: Callable[[Batch, str], str]
    stray_severity: Callable[[Batch], Severity] = lambda stray: "low"
    facts: Callable[[Batch], Iterable[tuple[str, str]]] = lambda batch: ()
    joined_gap: timedelta = timedelta(0)
    """Time between batches of a customer's metric that are one finding, such as `STEADY_GAP`."""


SMALL_BATCHES = (
    f"batches of fewer than {MIN_BATCH_EVENTS} events are reported together, but a customer's are a finding of their"
    f" own if they make {percent(LARGE_SHARE)} or more of its usage of a metric, for up to {MAX_SMALL_CUSTOMERS} such"
    " customers"
)
"""The treatment of small batches, for the parameters of a check."""


def batch_columns(table: Table) -> list[ColumnElement[Any]]:
    """The columns of an event that `batched` reads."""
    c = table.c
    return [
        c.customer_id,
        c.metric_key,
        c.quantity,
        c.timestamp,
        c.ingested_at,
        c.external_cost_amount,
        c.external_cost_currency,
    ]


def batched(suspects: CTE, moment: str = "timestamp") -> Select[Any]:
    """The suspects by kind, customer, batch, metric and currency, batches in order.

    `suspects` has the `batch_columns` and `kind` text. `moment` is the time that the events of a batch are close in.
    Columns: `kind`, `customer_id`, `batch` bigint, `metric_key`, `currency`, `events` bigint, `quantity` and `cost`
    numeric, `first`, `last`, `first_arrival`, `last_arrival` timestamptz, `shortest` and `longest` interval, the lags.
    """
    c = suspects.c
    time = c[moment]
    before = func.lag(time).over(partition_by=[c.kind, c.customer_id], order_by=time)
    apart = time - before > literal(BATCH_GAP)
    marked = select(suspects, case((apart, 1), else_=0).label("begins")).cte("marked")
    m = marked.c
    batch = func.sum(m.begins).over(partition_by=[m.kind, m.customer_id], order_by=m[moment])
    numbered = select(marked, batch.label("batch")).cte("numbered")
    n = numbered.c
    return (
        select(
            n.kind,
            n.customer_id,
            n.batch,
            n.metric_key,
            n.external_cost_currency.label("currency"),
            func.count().label("events"),
            func.sum(n.quantity).label("quantity"),
            func.sum(n.external_cost_amount).label("cost"),
            func.min(n.timestamp).label("first"),
            func.max(n.timestamp).label("last"),
            func.min(n.ingested_at).label("first_arrival"),
            func.max(n.ingested_at).label("last_arrival"),
            func.min(n.ingested_at - n.timestamp).label("shortest"),
            func.max(n.ingested_at - n.timestamp).label("longest"),
        )
        .group_by(n.kind, n.customer_id, n.batch, n.metric_key, n.external_cost_currency)
        .order_by(n.kind, n.customer_id, n.batch)
    )


def batches(rows: Iterable[Any]) -> tuple[list[Batch], list[Batch]]:
    """The rows of `batched` as batches of at least `MIN_BATCH_EVENTS` events, and the others by kind and customer."""
    large: list[Batch] = []
    small: dict[tuple[str, UUID], Batch] = {}
    for _, members in groupby(rows, key=lambda row: (row.kind, row.customer_id, row.batch)):
        first, *others = map(Batch.of_row, members)
        for other in others:
            first.include(other)
        if first.events >= MIN_BATCH_EVENTS:
            large.append(first)
        else:
            _include(small, (first.kind, first.customer), first)
    return large, list(small.values())


@dataclass(frozen=True, slots=True)
class _Judged:
    """A batch with its severity and its share of the customer's own usage."""

    severity: Severity
    own: Decimal
    batch: Batch


def outcome(examination: Examination, rows: Iterable[Any], wording: BatchWording, looked_at: int) -> Outcome:
    """The findings on the rows of `batched`."""

    def when(batch: Batch) -> str:
        return span_in(batch.since, batch.until, examination.period.zone)

    large, small = batches(rows)
    usage = own_usage(examination, {batch.customer for batch in (*large, *small)})
    judged: list[_Judged] = []
    stray: dict[tuple[str, Severity], Batch] = {}
    small_by_kind: dict[str, list[_Judged]] = {}
    for batch, is_small in (*((batch, False) for batch in large), *((batch, True) for batch in small)):
        own = _own_share(batch, usage)
        severity = wording.severity(batch, own)
        if severity == "low" or (is_small and own < LARGE_SHARE):
            _include(stray, (batch.kind, wording.stray_severity(batch)), batch)
        elif is_small:
            small_by_kind.setdefault(batch.kind, []).append(_Judged(severity, own, batch))
        else:
            judged.append(_Judged(severity, own, batch))
    for members in small_by_kind.values():
        if len(members) <= MAX_SMALL_CUSTOMERS:
            judged += members
        else:
            for member in members:
                _include(stray, (member.batch.kind, member.severity), member.batch)
    judged = _joined(judged, wording, usage)
    judged.sort(key=lambda item: (list(SEVERITIES).index(item.severity), -item.own, -item.batch.events))
    shown, note = limited(judged, "smaller batches", lambda rest: _size([item.batch for item in rest]))
    findings = [
        _finding(
            examination, wording, item.batch, item.severity, wording.sentence(item.batch, item.own, when(item.batch))
        )
        for item in shown
    ]
    findings += [
        _finding(examination, wording, batch, severity, wording.stray_sentence(batch, when(batch)))
        for (_, severity), batch in stray.items()
    ]
    return Outcome(findings=tuple(findings), looked_at=looked_at, note=note)


def _joined(judged: Iterable[_Judged], wording: BatchWording, usage: OwnUsage) -> list[_Judged]:
    """The batches, in order, with those of one severity joined that follow each other; together they may be graver."""
    groups: list[list[_Judged]] = []
    for item in judged:
        if groups and groups[-1][0].severity == item.severity and _follows(groups[-1][0].batch, item.batch, wording):
            groups[-1][0].batch.include(item.batch)
            groups[-1].append(item)
        else:
            groups.append([item])
    found = []
    for first, *others in groups:
        if others:
            own = _own_share(first.batch, usage)
            severity = min(first.severity, wording.severity(first.batch, own), key=list(SEVERITIES).index)
            first = _Judged(severity, own, first.batch)
        found.append(first)
    return found


def _follows(batch: Batch, later: Batch, wording: BatchWording) -> bool:
    """Whether the later batch is of the same kind, customer and metric, and soon after."""
    alike = (batch.kind, batch.customers) == (later.kind, later.customers)
    shared = batch.metrics.keys() & later.metrics.keys()
    return alike and bool(shared) and timedelta(0) < later.since - batch.until <= wording.joined_gap


def _include(found: dict[_Key, Batch], key: _Key, batch: Batch) -> None:
    if key in found:
        found[key].include(batch)
    else:
        found[key] = batch


def _size(rest: Sequence[Batch]) -> str:
    """The events of batches and their quantity by metric."""
    usage = UsageSum.of_sums(rest)
    quantities = ", ".join(
        f"{data_value(metric)} {plain(quantity)}" for metric, (_, quantity) in sorted(usage.metrics.items())
    )
    return f"{counted(usage.events, 'event')}: {quantities}"


def _finding(
    examination: Examination, wording: BatchWording, batch: Batch, severity: Severity, sentence: str
) -> Finding:
    who = {} if batch.customer_id is None else {"customer_id": batch.customer_id}
    return Finding(
        check=wording.check,
        severity=severity,
        sentence=sentence,
        question=metrics_query(
            examination, batch.metrics, occurred_after=batch.since, occurred_before=batch.until, **who
        ),
        facts=(*batch.facts(), *wording.facts(batch)),
        **batch.fields(examination),
    )


def _own_share(batch: Batch, usage: OwnUsage) -> Decimal:
    """The largest share of the customer's own usage of a metric of which it has `MIN_BATCH_EVENTS` events.

    If it has fewer of each metric, its share of all events of its metrics.
    """
    owned = {metric: usage.get((batch.customer, metric), mine) for metric, mine in batch.metrics.items()}
    parts = [
        max(part(events, owned[metric][0]), part(quantity, owned[metric][1]))
        for metric, (events, quantity) in batch.metrics.items()
        if events >= MIN_BATCH_EVENTS
    ]
    return max(parts, default=part(batch.events, sum(events for events, _ in owned.values())))
