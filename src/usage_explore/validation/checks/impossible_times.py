"""Check: events that cannot have occurred when they say, and senders whose clock is wrong.

Ahead: occurred after they arrived, beyond what clocks differ by. Beyond: so far ahead that they lie after the period
in which they arrived, or in the future, such as a year ahead: no period's own events show them. Past: occurred long
before they arrived. Before: so long that they lie before the period in which they arrived, such as in 1970. Skewed: a
sender most of whose events lie ahead of their arrival, if only a little: its clock is fast. Out of bounds: a time that
no question reaches, see `out_of_bounds`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, Table, Text, and_, any_, case, func, literal, or_, select, true

from usage_explore.formatting import counted, data_value, duration, percent
from usage_explore.query import validators
from usage_explore.query.filters import DIMENSION
from usage_explore.query.queries import Period
from usage_explore.sql.filters import (
    array,
    conditions,
    dimension,
    expression,
    filters,
    outside_bounds,
    scope,
    within_bounds,
)
from usage_explore.validation import usage_sums
from usage_explore.validation.batches import (
    BATCH_GAP,
    MIN_BATCH_EVENTS,
    STEADY_GAP,
    Batch,
    BatchWording,
    SignedSpan,
    batch_columns,
    batched,
    not_settled,
    outcome,
    signed_kind,
    small_batches,
)
from usage_explore.validation.batches import BOUNDS as BATCH_BOUNDS
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.bulk_loads import BOUNDS as BULK_LOAD_BOUNDS
from usage_explore.validation.bulk_loads import BulkLoads, bulk_loads, load_times, outside_loads
from usage_explore.validation.check import Check, Examination, Finding, Outcome, Severity, limited
from usage_explore.validation.periods import INSTANT, at_times, organization_period, part, preceding
from usage_explore.validation.usage_sums import MAX_FILTER_CHARACTERS, events_share

BOUNDS = CheckBounds("impossible_times")

# fmt: off
MAX_CLOCK_DIFFERENCE = BOUNDS.add("max_clock_difference", timedelta(minutes=5), "minutes", 0, 1440,
    "Difference of two clocks up to which a time is possible.")

MAX_AGE = BOUNDS.add("max_age", timedelta(days=30), "days", 1, 4000,
    "Time from an event to its arrival up to which its time is possible.")

MAX_LOOKAHEAD = BOUNDS.add("max_lookahead", timedelta(days=400), "days", 1, 4000,
    "Time after the period in which events that arrived in the period are looked for; future events are at any "
    "time.")

HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of a customer's own usage in the period from which events beyond it are high.")

SENDER_DIMENSION = "api_key"
"""Dimension that tells a customer's senders apart; without it the customer is one sender."""

FAST_CLOCK_SHARE = BOUNDS.add("fast_clock_share", Decimal("0.5"), "share", 0, 1,
    "Share of a sender's events ahead of their arrival from which its clock is fast.")
# fmt: on

NAME = "impossible_times"
AHEAD, BEYOND, PAST, BEFORE = "ahead", "beyond", "past", "before"

_MAX_SHOWN_EVENTS = 5
"""Events that are named, with their times."""


def statement(
    table: Table, period: Period, loads: Sequence[datetime] = (), signed: SignedSpan | None = None
) -> Select[Any]:
    """The impossible events of a resolved period, see `batched`: `ahead` of their arrival, or far in the `past`.

    What came with the bulk loads of these times is never in the past: when it arrived is unknown. Nor is what arrived
    between the sign-offs of `signed`: the last one includes it.
    """
    c = table.c
    ahead = c.timestamp > c.ingested_at + literal(MAX_CLOCK_DIFFERENCE())
    kept = (*outside_loads(c.ingested_at, loads), *not_settled(c.ingested_at, signed))
    past = and_(c.ingested_at > c.timestamp + literal(MAX_AGE()), *kept)
    impossible = (
        select(
            case((ahead, AHEAD), else_=signed_kind(PAST, c.ingested_at, signed)).label("kind"),
            *batch_columns(table),
        )
        .where(*conditions(table, period), or_(ahead, past))
        .cte("impossible")
    )
    return batched(impossible)


def beyond(table: Table, period: Period) -> Select[Any]:
    """The events ahead of their arrival that lie `beyond` a resolved period, see `batched`.

    They arrived in the period, or are still to occur as of its `as_of`.
    """
    c = table.c
    since, until = period.span
    after = period.replace(since=until, until=validators.LATEST)
    arrived = and_(
        c.ingested_at >= since, c.ingested_at < until, c.timestamp < min(until + MAX_LOOKAHEAD(), validators.LATEST)
    )
    to_come = c.timestamp > (period.as_of or until) + MAX_CLOCK_DIFFERENCE()
    events = select(literal(BEYOND).label("kind"), *batch_columns(table)).where(
        *conditions(table, after), c.timestamp > c.ingested_at + literal(MAX_CLOCK_DIFFERENCE()), or_(arrived, to_come)
    )
    return batched(events.cte("beyond"))


def before(table: Table, period: Period, loads: Sequence[datetime] = ()) -> Select[Any]:
    """The events that arrived in a resolved period and occurred before it, far in the past, see `batched`.

    Without those that came with the bulk loads of these times.
    """
    c = table.c
    since, until = period.span
    arrived = [c.ingested_at >= since, c.ingested_at < until, c.ingested_at > c.timestamp + literal(MAX_AGE())]
    events = select(literal(BEFORE).label("kind"), *batch_columns(table)).where(
        *conditions(table, period.replace(since=validators.EARLIEST, until=since)),
        *arrived,
        *outside_loads(c.ingested_at, loads),
    )
    return batched(events.cte("before"))


def _ahead(table: Table, period: Period) -> list[ColumnElement[bool]]:
    """The conditions for events of the period a little ahead of their arrival."""
    c = table.c
    lead = c.timestamp - c.ingested_at
    return [*conditions(table, period), c.timestamp > c.ingested_at, lead <= literal(MAX_CLOCK_DIFFERENCE())]


def skewed(table: Table, period: Period, times: Sequence[datetime] | None = None) -> Select[Any]:
    """The senders with at least `MIN_BATCH_EVENTS` events a little ahead of their arrival; `times` are those of them.

    Columns: `customer_id`, `sender` text or NULL, `events` bigint, `longest` interval, `middle` interval (the median),
    `first`, `last` timestamptz.
    """
    c = table.c
    sender = dimension(table, SENDER_DIMENSION)
    lead = c.timestamp - c.ingested_at
    return (
        select(
            c.customer_id,
            sender.label("sender"),
            func.count().label("events"),
            func.max(lead).label("longest"),
            func.percentile_disc(0.5).within_group(lead).label("middle"),
            func.min(c.timestamp).label("first"),
            func.max(c.timestamp).label("last"),
        )
        .where(*_ahead(table, period), *at_times(c.timestamp, times))
        .group_by(c.customer_id, sender)
        .having(func.count() >= MIN_BATCH_EVENTS())
    )


def _sent(table: Table, period: Period, customers: list[UUID]) -> Select[Any]:
    """How many events each sender of the customers sent in the period."""
    c = table.c
    sender = dimension(table, SENDER_DIMENSION)
    whose = c.customer_id == any_(array(customers, c.customer_id.type))
    return (
        select(c.customer_id, sender.label("sender"), func.count().label("events"))
        .where(*conditions(table, period), whose)
        .group_by(c.customer_id, sender)
    )


def examine(examination: Examination) -> Outcome:
    """The batches of impossible events by customer, those beyond the period too, and the senders with a fast clock."""
    period = examination.period

    def severity(batch: Batch, own: Decimal) -> Severity:
        if batch.kind == BEYOND:
            return "high" if own >= HIGH_SHARE() and batch.arrived[1] >= period.span[0] else "medium"
        return "high" if batch.kind == AHEAD and batch.arrived[1] < period.span[0] else "medium"

    wording = BatchWording(
        check=NAME,
        severity=severity,
        predicate=lambda batch: f": {_reason(batch, period)}",
        stray_severity=lambda stray, own: "medium" if stray.kind == BEYOND else "low",
        facts=lambda affected: affected.arrival(period.zone),
    )
    signed = examination.signed_span
    rows = list(examination.extracted_rows(statement(examination.table, period, (), signed)))
    loads = bulk_loads(examination) if any(row.kind.startswith(PAST) for row in rows) else BulkLoads()
    if loads.times:
        rows = list(examination.extracted_rows(statement(examination.table, period, loads.times, signed)))
    if period.span[1] < validators.LATEST:
        rows += examination.rows(beyond(examination.table, period))
    rows += _before(examination)
    result = outcome(examination, rows, wording, examination.totals.events)
    senders, more_senders = _fast_clocks(examination)
    unjudged = f"arrival times of {counted(loads.events, 'event')} unknown (see late_arrivals), age not judged"
    notes = [unjudged if loads.events else "", result.note, more_senders]
    return Outcome(
        findings=_out_of_bounds_findings(NAME, examination) + result.findings + senders,
        looked_at=result.looked_at,
        note="; ".join(filter(None, notes)),
    )


def _before(examination: Examination) -> list[Any]:
    """The batches of events that occurred `before` the period, without those of histories that were loaded in it."""
    table, period = examination.table, examination.period
    if preceding(period) is None:
        return []
    rows = list(examination.extracted_rows(before(table, period)))
    if not rows:
        return []
    loads = load_times(examination, organization_period(period, until=period.span[0]))
    return list(examination.extracted_rows(before(table, period, loads))) if loads else rows


def _reason(affected: Batch, period: Period) -> str:
    """What is impossible, of one event or of several: "occurred 3 days before it arrived"."""
    if affected.events == 1:
        up_to, they, their = "", "it", "its"
        lie, have, belong, time = "it lies", "have it", "it belongs", "its time is"
    else:
        up_to, they, their = "up to ", "they", "their"
        lie, have, belong, time = "they lie", "have them", "they belong", "their time is"
    if affected.kind not in (AHEAD, BEYOND):
        lies = f": {lie} before the period, and its invoice does not {have}" if affected.kind == BEFORE else ""
        return f"occurred {up_to}{duration(affected.lags[1])} before {they} arrived{lies}"
    occurred = f"occurred {up_to}{duration(-affected.lags[0])} after {they} arrived"
    if affected.kind == BEYOND:
        return f"{occurred}: {lie} after the period, and its invoice does not {have}; {time} wrong"
    if affected.arrived[1] < period.span[0]:
        return f"{occurred}, which was before the period began: {belong} to an earlier one"
    return f"{occurred}, though nothing can; {their} time, and so {their} period, may be wrong"


def _fast_clocks(examination: Examination) -> tuple[tuple[Finding, ...], str]:
    """The busiest senders most of whose events lie ahead, and a note on the others."""
    table, period = examination.table, examination.period
    times = examination.times(select(table.c.timestamp).where(*_ahead(table, period)).distinct())
    suspects = [] if times == [] else list(examination.rows(skewed(table, period, times)))
    if not suspects:
        return (), ""
    customers = sorted({row.customer_id for row in suspects})
    sent: dict[tuple[UUID, str | None], int] = defaultdict(int)
    for row in examination.rows(_sent(table, period, customers)):
        sent[row.customer_id, row.sender] = row.events
    fast = [row for row in suspects if part(row.events, sent[row.customer_id, row.sender]) >= FAST_CLOCK_SHARE()]
    fast.sort(key=lambda row: (-row.events, row.customer_id, row.sender or ""))
    shown, note = limited(
        fast, "senders with a fast clock", lambda rest: counted(sum(row.events for row in rest), "event")
    )
    return tuple(_fast(examination, row, sent[row.customer_id, row.sender]) for row in shown), note


def _fast(examination: Examination, row: Any, sent: int) -> Finding:
    ahead = part(row.events, sent)
    sender = "" if row.sender is None else f", {SENDER_DIMENSION.replace('_', ' ')} {data_value(row.sender)}"
    since: datetime = row.first
    until = row.last + INSTANT
    return Finding(
        check=NAME,
        kind="fast clock",
        severity="low",
        sentence=f"The clock of customer {row.customer_id}{sender} is fast: {row.events:,} of its"
        f" {counted(sent, 'event')} ({percent(ahead)}) occurred up to {duration(row.longest)} after they arrived.",
        since=since,
        until=until,
        events=row.events,
        **events_share(examination, row.events),
        question=examination.events_question(
            customer_id=row.customer_id,
            occurred_after=since,
            occurred_before=until,
            **_only(examination, row.sender),
        ),
        customer_id=row.customer_id,
        facts=(("median lead", duration(row.middle)), ("events of the sender", f"{sent}")),
    )


def _only(examination: Examination, sender: str | None) -> dict[str, Any]:
    """The filters for this sender beside the period's own; none where no filter can name it."""
    if sender is None:
        return {"missing": examination.missing(DIMENSION + SENDER_DIMENSION)}
    if len(sender) > MAX_FILTER_CHARACTERS:
        return {}
    return {"dimensions": {**dict(examination.period.dimensions), SENDER_DIMENSION: (sender,)}}


def out_of_bounds(table: Table, period: Period) -> Select[Any]:
    """The first of them by id: `id`, `customer_id`, `timestamp` and `ingested_at` text, `events` bigint: how many.

    An event that may have occurred at any time concerns every period. One that occurred in another period does not
    concern this one, nor does one that arrived after `as_of`.
    """
    c = table.c
    occurred, arrived = (and_(*within_bounds(time)).is_not(true()) for time in (c.timestamp, c.ingested_at))
    concerned = [or_(occurred, and_(*within_bounds(c.timestamp, *period.span)))]
    if period.as_of is not None:
        concerned.append(or_(arrived, c.ingested_at <= period.as_of))
    return (
        select(
            c.id,
            c.customer_id,
            c.timestamp.cast(Text).label("timestamp"),
            c.ingested_at.cast(Text).label("ingested_at"),
            func.count().over().label("events"),
        )
        .where(scope(c.organization_id, period), *filters(partial(expression, table), period))
        .where(outside_bounds(table), *concerned)
        .order_by(c.id)
        .limit(_MAX_SHOWN_EVENTS)
    )


def _out_of_bounds_findings(check: str, examination: Examination) -> tuple[Finding, ...]:
    """One finding of all of them, none where there are none."""
    rows = list(examination.rows(out_of_bounds(examination.table, examination.period)))
    if not rows:
        return ()
    since, until = examination.period.span
    first, number = rows[0], rows[0].events
    return (
        Finding(
            check=check,
            kind="out of bounds",
            severity="high",
            sentence=f"{counted(number, 'event')} cannot be billed: a time lies outside 1970 to 2200, so no total has"
            f" them, such as {first.id} (timestamp {first.timestamp}, ingested_at {first.ingested_at});"
            " the command usage-explore doctor says how to list them.",
            since=since,
            until=until,
            events=number,
            question=examination.events_question(),
            facts=tuple(
                (
                    f"event {row.id}",
                    f"customer {row.customer_id}, timestamp {row.timestamp}, ingested {row.ingested_at}",
                )
                for row in rows
            ),
        ),
    )


CHECK = Check(
    name=NAME,
    title="Impossible times",
    means="An event with a wrong time may be billed in the wrong period.",
    parameters=lambda: {
        "ahead": f"occurred more than {duration(MAX_CLOCK_DIFFERENCE())} after it arrived: clocks may differ by as"
        " much",
        "beyond": f"ahead, and after the period: arrived in it and occurred up to {duration(MAX_LOOKAHEAD())} after it,"
        f" or still to occur as of the examination; high from {percent(HIGH_SHARE())} of the customer's usage of a"
        " metric on, else medium",
        "past": f"occurred more than {duration(MAX_AGE())} before it arrived, unless it came with a bulk load (see"
        " late_arrivals)",
        "before": "in the past, and before the period: arrived in it",
        "fast clock": f"of at least {MIN_BATCH_EVENTS()} events of one customer and {SENDER_DIMENSION},"
        f" {percent(FAST_CLOCK_SHARE())} or more occurred after they arrived, by {duration(MAX_CLOCK_DIFFERENCE())} at"
        " most",
        "out of bounds": "its timestamp or ingested_at lies outside 1970 to 2200, where no question finds it",
        "batch": f"events of one customer less than {duration(BATCH_GAP())} apart are one batch, and batches of"
        f" a metric within {duration(STEADY_GAP())}; {small_batches()}",
        "high": "a batch that arrived before the period it says it occurred in had begun; events out of bounds",
    },
    unit="events",
    one="event",
    bounds=(*BOUNDS, *BULK_LOAD_BOUNDS, *BATCH_BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
)
