"""Batches: events that belong together since they are close in time, such as duplicates.

A customer's events of one kind that lie less than `BATCH_GAP` apart are a batch. Batches that follow each other within
`STEADY_GAP` are one incident, such as a month of events that are each sent twice: they are joined and judged by their
sum, those of high severity apart. A customer's batches of fewer than `MIN_BATCH_EVENTS` events are added up: they are
its own finding if they are a large share of its usage; else one finding reports them together with those of other
customers, as it does for batches of low severity. What several customers have at one time, such as the replay of an
hour, is one finding. The database groups events into batches, so that many events take no memory here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal
from itertools import groupby, islice
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Select,
    Table,
    case,
    func,
    literal,
    or_,
    select,
)

from usage_explore.formatting import counted, data_value, in_sentence, percent, span_in
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import SEVERITIES, Examination, Finding, Outcome, Severity, limited
from usage_explore.validation.periods import INSTANT, part
from usage_explore.validation.usage_sums import (
    LARGE_SHARE,
    OwnUsage,
    UsageSum,
    metrics_query,
    own_usage,
    sum_keys,
    sum_measures,
)

_Key = TypeVar("_Key")

SignedSpan = tuple[datetime, datetime]
"""The `as_of` of the first and of the last sign-off of a period."""

_AFTER_SIGN_OFF = " after sign-off"
"""The end of the kind of suspects that arrived after the last sign-off: they make batches of their own."""

BOUNDS = CheckBounds("common")

# fmt: off
BATCH_GAP = BOUNDS.add("batch_gap", timedelta(hours=6), "hours", 0.1, 240,
    "Time without events that ends a batch.")

STEADY_GAP = BOUNDS.add("steady_gap", timedelta(days=3), "days", 0, 60,
    "Time between a customer's batches of a metric that are one incident: nights and weekends lie between.")

MIN_BATCH_EVENTS = BOUNDS.add("min_batch_events", 10, "events", 1, 100000,
    "Events of a batch; fewer are reported together, unless they are `LARGE_SHARE` of the customer's usage.")

MIN_SHARED_CUSTOMERS = BOUNDS.add("min_shared_customers", 3, "customers", 2, 10000,
    "Customers whose batches at one time are one incident, if none of them has over half of the events: what "
    "several customers send or get twice, or late, in the same hours has one cause, such as a replay.")

MAX_SHARED_ARRIVAL = BOUNDS.add("max_shared_arrival", timedelta(days=1), "days", 0, 60,
    "Time in which such batches arrive, at most: what lasts longer is a habit of each customer's sender.")

MAX_SHARED_CUSTOMERS_LISTED = 20
"""Customers that the facts of such an incident list, those with the most events."""

MAX_OPEN_INCIDENTS = 10
"""Incidents of one kind and customer that a later batch may continue, the latest."""

MAX_SMALL_CUSTOMERS = BOUNDS.add("max_small_customers", 10, "customers", 0, 10000,
    "Customers with few events each, though a large share of their usage, that have a finding each; more share a "
    "cause.")
# fmt: on


@dataclass(slots=True, kw_only=True)
class Batch(UsageSum):
    """Events of one `kind`: `arrived` bounds when they arrived, `lags` the time from an event to its arrival.

    `times` bounds the column `times` of the suspects, such as how often an event was sent; 1 without such a column.
    """

    kind: str
    arrived: tuple[datetime, datetime]
    lags: tuple[timedelta, timedelta]
    times: tuple[int, int] = (1, 1)

    @classmethod
    def of_row(cls, row: Any) -> Batch:
        """One row of `batched`."""
        return Batch(
            kind=row.kind,
            since=row.first,
            until=row.last + INSTANT,
            arrived=(row.first_arrival, row.last_arrival),
            lags=(row.shortest, row.longest),
            times=(row.fewest_times, row.most_times),
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
        self.times = min(self.times[0], other.times[0]), max(self.times[1], other.times[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchWording:
    """The severities and sentences of a check's batches.

    `severity` is given the batch's share of the customer's own usage (see `_own_share`). `predicate` follows the
    number, customers, metrics and time of the events in a sentence, such as `: their keys had arrived before`. `stray`
    is for batches that are reported together; by default the predicate is the same.
    """

    check: str
    severity: Callable[[Batch, Decimal], Severity]
    predicate: Callable[[Batch], str]
    stray_predicate: Callable[[Batch], str] | None = None
    stray_severity: Callable[[Batch, Decimal], Severity] = lambda stray, own: "low"
    facts: Callable[[Batch], Iterable[tuple[str, str]]] = lambda batch: ()
    continues: Callable[[Batch, Batch], bool] = lambda batch, later: is_soon(batch.until, later.since)
    """Whether a later batch of the same kind and customer, with a metric of the first, is the same incident."""

    is_of_a_load: Callable[[Batch], bool] = lambda batch: False
    """Whether what several customers have of the kind has one cause if it arrived at one time, whenever it occurred."""


def small_batches() -> str:
    """The treatment of small batches, for the parameters of a check."""
    return (
        f"batches of fewer than {MIN_BATCH_EVENTS()} events are reported together, but a customer's are a finding of"
        f" their own if they make {percent(LARGE_SHARE())} or more of its usage of a metric, for up to"
        f" {MAX_SMALL_CUSTOMERS()} such customers"
    )


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


def signed_kind(kind: str, ingested_at: ColumnElement[Any], signed: SignedSpan | None) -> ColumnElement[str]:
    """The kind of suspects: what arrived after the last sign-off is apart from what had arrived before."""
    plain = literal(kind)
    return plain if signed is None else case((ingested_at > signed[1], kind + _AFTER_SIGN_OFF), else_=plain)


def not_settled(ingested_at: ColumnElement[Any], signed: SignedSpan | None) -> list[ColumnElement[bool]]:
    """The condition that an event did not arrive between the first sign-off and the last one, which includes it."""
    return [] if signed is None or signed[0] == signed[1] else [or_(ingested_at <= signed[0], ingested_at > signed[1])]


def batched(suspects: CTE, moment: str = "timestamp", cluster: str | None = None) -> Select[Any]:
    """The suspects by kind, customer, batch, metric and currency, batches in order.

    `suspects` has the `batch_columns` and `kind` text, and may have `times` integer. `moment` is the time that the
    events of a batch are close in, `cluster` a column of suspects whose values stay apart.
    Columns: `kind`, `customer_id`, `batch` bigint, `metric_key`, `currency`, `events` bigint, `quantity` and `cost`
    numeric, `first`, `last`, `first_arrival`, `last_arrival` timestamptz, `shortest` and `longest` interval, the lags,
    `fewest_times` and `most_times`.
    """
    c = suspects.c
    time = c[moment]
    order = [time] if cluster is None else [c[cluster], time]
    ordered: dict[str, Any] = {"partition_by": [c.kind, c.customer_id], "order_by": order}
    apart = time - func.lag(time).over(**ordered) > literal(BATCH_GAP())
    if cluster is not None:
        apart = or_(apart, func.lag(c[cluster]).over(**ordered) != c[cluster])
    marked = select(suspects, case((apart, 1), else_=0).label("begins")).cte("marked")
    m = marked.c
    batch = func.sum(m.begins).over(partition_by=[m.kind, m.customer_id], order_by=[m[column.name] for column in order])
    numbered = select(marked, batch.label("batch")).cte("numbered")
    n = numbered.c
    times = n.get("times", literal(1))
    return (
        select(
            n.kind,
            n.batch,
            *sum_keys(numbered),
            *sum_measures(numbered),
            func.min(n.ingested_at).label("first_arrival"),
            func.max(n.ingested_at).label("last_arrival"),
            func.min(n.ingested_at - n.timestamp).label("shortest"),
            func.max(n.ingested_at - n.timestamp).label("longest"),
            func.min(times).label("fewest_times"),
            func.max(times).label("most_times"),
        )
        .group_by(n.kind, n.batch, *sum_keys(numbered))
        .order_by(n.kind, n.customer_id, n.batch)
    )


def batches(rows: Iterable[Any]) -> list[Batch]:
    """The rows of `batched` as batches, in order."""
    result: list[Batch] = []
    for _, members in groupby(rows, key=lambda row: (row.kind, row.customer_id, row.batch)):
        first, *others = map(Batch.of_row, members)
        for other in others:
            first.include(other)
        result.append(first)
    return result


@dataclass(frozen=True, slots=True)
class _Judged:
    """A batch with its severity and its share of the customer's own usage."""

    severity: Severity
    own: Decimal
    batch: Batch


def outcome(examination: Examination, rows: Iterable[Any], wording: BatchWording, looked_at: int) -> Outcome:
    """The findings on the rows of `batched`."""
    every = batches(rows)
    usage = own_usage(examination, {batch.customer for batch in every})
    judged: list[_Judged] = []
    stray: dict[tuple[str, Severity], Batch] = {}
    small: dict[tuple[str, UUID], Batch] = {}
    shared, own = _shared(_joined((_judged(batch, wording, usage) for batch in every), wording, usage), wording)
    for item in own:
        if item.batch.events < MIN_BATCH_EVENTS():
            _include(small, (item.batch.kind, item.batch.customer), item.batch)
        elif item.severity == "low":
            _include(stray, (item.batch.kind, wording.stray_severity(item.batch, item.own)), item.batch)
        else:
            judged.append(item)
    small_by_kind: dict[str, list[_Judged]] = {}
    for item in (_judged(batch, wording, usage) for batch in small.values()):
        if item.severity == "low" or item.own < LARGE_SHARE():
            _include(stray, (item.batch.kind, wording.stray_severity(item.batch, item.own)), item.batch)
        else:
            small_by_kind.setdefault(item.batch.kind, []).append(item)
    for members in small_by_kind.values():
        if len(members) <= MAX_SMALL_CUSTOMERS():
            judged += members
        else:
            for member in members:
                _include(stray, (member.batch.kind, member.severity), member.batch)
    for kind, severity in [*stray]:  # one incident, of customers with more and with less usage beside it
        if severity == "medium" and (kind, "high") in stray:
            stray[kind, "high"].include(stray.pop((kind, severity)))
    judged.sort(key=lambda item: (list(SEVERITIES).index(item.severity), -item.own, -item.batch.events))
    shown, note = limited(judged, "smaller batches", lambda rest: _size([item.batch for item in rest]))
    findings = [_finding(examination, wording, item.batch, item.severity, item.own, usage) for item in shown]
    findings += [_shared_finding(examination, wording, members) for members in shared]
    findings += [_finding(examination, wording, batch, severity) for (_, severity), batch in stray.items()]
    return Outcome(findings=tuple(findings), looked_at=looked_at, note=note)


def _judged(batch: Batch, wording: BatchWording, usage: OwnUsage) -> _Judged:
    own = _own_share(batch, usage)
    return _Judged(wording.severity(batch, own), own, batch)


def _joined(judged: Iterable[_Judged], wording: BatchWording, usage: OwnUsage) -> list[_Judged]:
    """The batches, in order, with those of one incident joined, high ones apart; together they may be graver."""
    groups: list[list[_Judged]] = []
    latest: dict[tuple[str, UUID, bool], list[list[_Judged]]] = {}
    for item in judged:
        mine = latest.setdefault((item.batch.kind, item.batch.customer, item.severity == "high"), [])
        group = next((group for group in reversed(mine) if _follows(group[0].batch, item.batch, wording)), None)
        if group is None:
            groups.append([item])
            mine.append(groups[-1])
            del mine[:-MAX_OPEN_INCIDENTS]
        else:
            group[0].batch.include(item.batch)
            group.append(item)
    return [_together(group, wording, usage) for group in _enclosed(groups)]


def _together(group: list[_Judged], wording: BatchWording, usage: OwnUsage) -> _Judged:
    """The incident of a group, whose first batch is the sum."""
    first, *others = group
    if not others:
        return first
    again = _judged(first.batch, wording, usage)
    severity = min((item.severity for item in (*group, again)), key=list(SEVERITIES).index)
    return _Judged(severity, again.own, first.batch)


def _shared(every: Iterable[_Judged], wording: BatchWording) -> tuple[list[list[_Judged]], list[_Judged]]:
    """The batches that several customers have at one time, and the others.

    They are of one kind, begin to arrive and end to arrive within `BATCH_GAP`, in `MAX_SHARED_ARRIVAL` at most, and
    their events overlap, unless they are of a load. At least one of them would be a finding of its own.
    """
    groups_of: dict[str, list[list[_Judged]]] = {}
    first_open: dict[str, int] = {}  # the batches of groups before it arrived too early for any later one
    shared, own = [], []
    for item in sorted(every, key=lambda item: item.batch.arrived):
        if item.batch.arrived[1] - item.batch.arrived[0] > MAX_SHARED_ARRIVAL():
            own.append(item)
            continue
        groups, at = groups_of.setdefault(item.batch.kind, []), first_open.get(item.batch.kind, 0)
        while at < len(groups) and groups[at][0].batch.arrived[0] + BATCH_GAP() < item.batch.arrived[0]:
            at += 1
        first_open[item.batch.kind] = at
        group = next((group for group in islice(groups, at, None) if _is_beside(group, item.batch, wording)), None)
        if group is None:
            groups.append([item])
        else:
            group.append(item)
    for group in (group for groups in groups_of.values() for group in groups):
        events: dict[UUID, int] = {}
        for item in group:
            events[item.batch.customer] = events.get(item.batch.customer, 0) + item.batch.events
        is_one = (
            len(events) >= MIN_SHARED_CUSTOMERS()
            and 2 * max(events.values()) <= sum(events.values())
            and any(_is_of_its_own(item) for item in group)
        )
        if is_one:
            shared.append(group)
        else:
            own += group
    return shared, sorted(own, key=lambda item: (item.batch.kind, str(item.batch.customer), item.batch.since))


def _is_beside(group: list[_Judged], other: Batch, wording: BatchWording) -> bool:
    """Whether a batch arrived when those of the group did, and its events lie among theirs or near them."""
    if any(
        abs(one - another) > BATCH_GAP() for one, another in zip(group[0].batch.arrived, other.arrived, strict=True)
    ):
        return False
    if wording.is_of_a_load(other):
        return True
    since, until = min(item.batch.since for item in group), max(item.batch.until for item in group)
    return since < other.until + BATCH_GAP() and other.since < until + BATCH_GAP()


def _is_of_its_own(item: _Judged) -> bool:
    return item.severity != "low" and (item.batch.events >= MIN_BATCH_EVENTS() or item.own >= LARGE_SHARE())


def _shared_finding(examination: Examination, wording: BatchWording, members: list[_Judged]) -> Finding:
    """The finding on the batches of several customers, with the gravest severity of those that are of their own."""
    severity = min((item.severity for item in members if _is_of_its_own(item)), key=list(SEVERITIES).index)
    batch = replace(members[0].batch, metrics={}, costs={}, customers=set())
    events: dict[UUID, int] = {}
    for item in members:
        batch.include(item.batch)
        events[item.batch.customer] = events.get(item.batch.customer, 0) + item.batch.events
    most = sorted(events.items(), key=lambda pair: (-pair[1], str(pair[0])))[:MAX_SHARED_CUSTOMERS_LISTED]
    finding = _finding(examination, wording, batch, severity)
    facts = tuple((f"customer {customer}", counted(number, "event")) for customer, number in most)
    return replace(finding, facts=(*finding.facts, *facts))


def _enclosed(groups: list[list[_Judged]]) -> list[list[_Judged]]:
    """The groups, those within the time of a high one, of its customer, kind and a metric, as part of it."""
    kept = []
    high = [group for group in groups if group[0].severity == "high"]
    for group in groups:
        around = None if group in high else next((one for one in high if _encloses(one[0].batch, group[0].batch)), None)
        if around is None:
            kept.append(group)
        else:
            around[0].batch.include(group[0].batch)
            around += group
    return kept


def _encloses(batch: Batch, other: Batch) -> bool:
    is_alike = batch.kind == other.kind and batch.customers == other.customers and batch.metrics.keys() & other.metrics
    return bool(is_alike) and batch.since <= other.since and other.until <= batch.until


def _follows(batch: Batch, later: Batch, wording: BatchWording) -> bool:
    """Whether the later batch is of the same incident: of a metric of the batch, and so for the check."""
    return bool(batch.metrics.keys() & later.metrics.keys()) and wording.continues(batch, later)


def is_soon(until: datetime, since: datetime) -> bool:
    """Whether a batch begins within `STEADY_GAP` of the end of one before."""
    return since - until <= STEADY_GAP()


def _include(batches: dict[_Key, Batch], key: _Key, batch: Batch) -> None:
    if key in batches:
        batches[key].include(batch)
    else:
        batches[key] = batch


def _size(rest: Sequence[Batch]) -> str:
    """The events of batches and their quantity by metric."""
    usage = UsageSum.of_sums(rest)
    quantities = ", ".join(
        f"{data_value(metric)} {in_sentence(quantity)}" for metric, (_, quantity) in sorted(usage.metrics.items())
    )
    return f"{counted(usage.events, 'event')}: {quantities}"


def _finding(
    examination: Examination,
    wording: BatchWording,
    batch: Batch,
    severity: Severity,
    own: Decimal | None = None,
    usage: OwnUsage | None = None,
) -> Finding:
    """The finding on a customer's batch; on batches that are reported together, without their `own` share."""
    who = {} if batch.customer_id is None else {"customer_id": batch.customer_id}
    events, when = counted(batch.events, "event"), span_in(batch.since, batch.until, examination.period.zone)
    if own is None or usage is None:
        predicate = (wording.stray_predicate or wording.predicate)(batch)
        sentence = f"{events} of {batch.metric_words}, {when}, {batch.scattered}{predicate}."
    else:
        sentence = (
            f"{events} of customer {batch.customer_id}, {batch.metric_words}, {when}{wording.predicate(batch)};"
            f" {percent(own)} of the customer's {_largest(batch, usage)[1]} in the period."
        )
    return Finding(
        check=wording.check,
        kind=batch.kind.removesuffix(_AFTER_SIGN_OFF),
        severity=severity,
        sentence=sentence,
        question=metrics_query(
            examination, batch.metrics, occurred_after=batch.since, occurred_before=batch.until, **who
        ),
        facts=(*batch.facts(), *wording.facts(batch)),
        **batch.fields(examination),
    )


def _own_share(batch: Batch, usage: OwnUsage) -> Decimal:
    """The largest share of the customer's own usage of a metric, see `_largest`."""
    return _largest(batch, usage)[0]


def _largest(batch: Batch, usage: OwnUsage) -> tuple[Decimal, str]:
    """The largest share of the customer's own usage of a metric of which it has `MIN_BATCH_EVENTS` events, and of what.

    If it has fewer of each metric, its share of all events of its metrics.
    """
    owned = {metric: usage.get((batch.customer, metric), mine) for metric, mine in batch.metrics.items()}
    parts = [
        share
        for metric, (events, quantity) in sorted(batch.metrics.items())
        if events >= MIN_BATCH_EVENTS()
        for share in (
            (part(events, owned[metric][0]), f"events of {data_value(metric)}"),
            (part(quantity, owned[metric][1]), f"quantity of {data_value(metric)}"),
        )
    ]
    of_all = (part(batch.events, sum(events for events, _ in owned.values())), f"events of {batch.metric_words}")
    return max(parts, key=lambda item: item[0], default=of_all)
