"""The events a check objects to, drawn together to what a person acts on: one customer's, close in time.

Events of one kind and customer that lie less than `GAP` apart are a batch. A customer's batches of fewer than `FLOOR`
events are added up: they are its own finding where they are a large part of its usage, else they are told together with
those of other customers, and so are batches that are low anyway. The database puts batches together, so that many
events take no memory here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import CTE, ColumnElement, Select, Table, case, func, literal, select

from usage_explore.decimals import plain, total
from usage_explore.formatting import counted, data_value, percent, span_in
from usage_explore.validation.affected import Affected, affected_share, shown_by
from usage_explore.validation.check import Examination, Outcome
from usage_explore.validation.customer_usage import LARGE, Usage, own_usage, part
from usage_explore.validation.finding import SEVERITIES, Finding, Severity
from usage_explore.validation.usage_sums import INSTANT

_Key = TypeVar("_Key")

GAP = timedelta(hours=6)
"""Events farther apart than this are different batches."""

STEADY = timedelta(days=3)
"""A customer's batches of a metric that follow each other at most so far apart are one: nights and weekends cut it."""

FLOOR = 10
"""Events that make a batch; fewer are told together, unless they are `LARGE` of the customer's usage."""

CROWD = 10
"""More customers with few events each, though much of their usage, share one cause: they are told together."""

MOST = 100
"""Batches of one check that are findings of their own, the gravest; the note counts the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Telling:
    """How a check speaks of what it objects to.

    `severity` is given the part of the customer's own usage (see `_own`), `sentence` also the time in words. `own` is
    the part of it from which fewer than `FLOOR` events are the customer's own finding.
    """

    check: str
    severity: Callable[[Affected, Decimal], Severity]
    sentence: Callable[[Affected, Decimal, str], str]
    stray_sentence: Callable[[Affected, str], str]
    stray_severity: Callable[[Affected], Severity] = lambda stray: "low"
    facts: Callable[[Affected], Iterable[tuple[str, str]]] = lambda affected: ()
    own: Decimal = LARGE
    goes_on: timedelta = timedelta(0)
    """How far apart batches of a customer's metric may lie and still be one, such as `STEADY`."""


def few(own: Decimal = LARGE) -> str:
    """What becomes of small batches, for the bounds of a check."""
    return (
        f"batches of fewer than {FLOOR} events are told together, but a customer's are a finding of their own where"
        f" they make {percent(own)} or more of its usage of a metric, for up to {CROWD} such customers"
    )


def concerning(table: Table) -> list[ColumnElement[Any]]:
    """What `batched` needs to know of an event."""
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

    `suspects` has the columns that `concerning` gives and `kind` text. `moment` is the time that batches are close in.
    Columns: `kind`, `customer_id`, `batch` bigint, `metric_key`, `currency`, `events` bigint, `quantity` and `cost`
    numeric, `first`, `last`, `first_arrival`, `last_arrival` timestamptz, `shortest` and `longest` interval, the lags.
    """
    c = suspects.c
    time = c[moment]
    before = func.lag(time).over(partition_by=[c.kind, c.customer_id], order_by=time)
    apart = time - before > literal(GAP)
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


def drawn(rows: Iterable[Any]) -> tuple[list[Affected], list[Affected]]:
    """The rows of `batched` as batches of at least `FLOOR` events, and the others by kind and customer."""
    whole: list[Affected] = []
    few: dict[tuple[str, UUID], Affected] = {}
    for _, members in groupby(rows, key=lambda row: (row.kind, row.customer_id, row.batch)):
        first, *others = map(_read, members)
        for other in others:
            first.add(other)
        if first.events >= FLOOR:
            whole.append(first)
        else:
            _together(few, (first.kind, first.customer_id), first)
    return whole, list(few.values())


def outcome(examination: Examination, rows: Iterable[Any], telling: Telling, looked_at: int) -> Outcome:
    """What there is to say about the rows of `batched`."""

    def spell(affected: Affected) -> str:
        return span_in(affected.since, affected.until, examination.period.zone)

    whole, few = drawn(rows)
    usage = own_usage(examination, {batch.customer_id for batch in (*whole, *few)})
    judged: list[tuple[Severity, Decimal, Affected]] = []
    stray: dict[tuple[str, Severity], Affected] = {}
    owned: dict[str, list[tuple[Severity, Decimal, Affected]]] = {}
    for batch, is_small in (*((each, False) for each in whole), *((each, True) for each in few)):
        own = _own(batch, usage)
        severity = telling.severity(batch, own)
        if severity == "low" or (is_small and own < telling.own):
            _together(stray, (batch.kind, telling.stray_severity(batch)), batch)
        elif is_small:
            owned.setdefault(batch.kind, []).append((severity, own, batch))
        else:
            judged.append((severity, own, batch))
    for each in owned.values():
        if len(each) <= CROWD:
            judged += each
        else:
            for severity, _, batch in each:
                _together(stray, (batch.kind, severity), batch)
    judged = _steady(judged, telling, usage)
    judged.sort(key=lambda each: (list(SEVERITIES).index(each[0]), -each[1], -each[2].events))
    findings = [
        _finding(examination, telling, batch, severity, telling.sentence(batch, own, spell(batch)), batch.customer_id)
        for severity, own, batch in judged[:MOST]
    ]
    findings += [
        _finding(
            examination,
            telling,
            each,
            severity,
            telling.stray_sentence(each, spell(each)),
            each.customer_id if len(each.customers) == 1 else None,
        )
        for (_, severity), each in stray.items()
    ]
    return Outcome(
        findings=tuple(findings), looked_at=looked_at, note=left_out([batch for _, _, batch in judged[MOST:]])
    )


def _steady(
    judged: Iterable[tuple[Severity, Decimal, Affected]], telling: Telling, usage: Usage
) -> list[tuple[Severity, Decimal, Affected]]:
    """The batches, in order, that go on as one joined: those of one severity, which may be graver together."""
    groups: list[list[tuple[Severity, Decimal, Affected]]] = []
    for each in judged:
        if groups and groups[-1][0][0] == each[0] and _goes_on(groups[-1][0][2], each[2], telling.goes_on):
            groups[-1][0][2].add(each[2])
            groups[-1].append(each)
        else:
            groups.append([each])
    found = []
    for (severity, own, batch), *others in groups:
        if others:
            own = _own(batch, usage)
            severity = min(severity, telling.severity(batch, own), key=list(SEVERITIES).index)
        found.append((severity, own, batch))
    return found


def _goes_on(batch: Affected, later: Affected, within: timedelta) -> bool:
    """Whether the later batch is more of the same."""
    alike = (batch.kind, batch.customers) == (later.kind, later.customers)
    shared = batch.metrics.keys() & later.metrics.keys()
    return alike and bool(shared) and timedelta(0) < later.since - batch.until <= within


def _together(found: dict[_Key, Affected], key: _Key, affected: Affected) -> None:
    if key in found:
        found[key].add(affected)
    else:
        found[key] = affected


def left_out(batches: list[Affected]) -> str:
    """What the batches that are no findings of their own sum to; empty where there are none."""
    if not batches:
        return ""
    sums: dict[str, Decimal] = {}
    for batch in batches:
        for metric, (_, quantity) in batch.metrics.items():
            sums[metric] = total((sums.get(metric, Decimal(0)), quantity))
    quantities = ", ".join(f"{data_value(metric)} {plain(quantity)}" for metric, quantity in sorted(sums.items()))
    events = sum(batch.events for batch in batches)
    return f"{counted(len(batches), 'smaller batch', 'smaller batches')} more, {counted(events, 'event')}: {quantities}"


def _read(row: Any) -> Affected:
    return Affected(
        kind=row.kind,
        since=row.first,
        until=row.last + INSTANT,
        arrived=(row.first_arrival, row.last_arrival),
        lags=(row.shortest, row.longest),
        metrics={row.metric_key: (row.events, row.quantity)},
        costs={} if row.cost is None else {row.currency: row.cost},
        customers={row.customer_id},
    )


def _finding(
    examination: Examination,
    telling: Telling,
    affected: Affected,
    severity: Severity,
    sentence: str,
    customer_id: UUID | None = None,
) -> Finding:
    who = {} if customer_id is None else {"customer_id": customer_id}
    return Finding(
        check=telling.check,
        severity=severity,
        sentence=sentence,
        since=affected.since,
        until=affected.until,
        events=affected.events,
        question=shown_by(
            examination,
            affected.metrics,
            occurred_after=affected.since,
            occurred_before=affected.until,
            **who,
        ),
        quantity=affected.quantity,
        amounts=affected.amounts,
        share=affected_share(examination, affected.metrics),
        customer_id=customer_id,
        metric_key=affected.metric_key,
        facts=(*affected.facts(), *telling.facts(affected)),
    )


def _own(batch: Affected, usage: Usage) -> Decimal:
    """What part of the customer's own usage the batch is: the largest of a metric it has `FLOOR` events of.

    Where it has so many of none, the part of all events of its metrics.
    """
    owned = {metric: usage.get((batch.customer_id, metric), mine) for metric, mine in batch.metrics.items()}
    parts = [
        max(part(events, owned[metric][0]), part(quantity, owned[metric][1]))
        for metric, (events, quantity) in batch.metrics.items()
        if events >= FLOOR
    ]
    return max(parts, default=part(batch.events, sum(events for events, _ in owned.values())))
