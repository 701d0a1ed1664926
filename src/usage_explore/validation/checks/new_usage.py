"""New usage that never had a subscription: a customer, or a customer's metric, seen for the first time without one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Select, Table, func, literal, select

from usage_explore.formatting import counted, data_value, percent, span_in
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation.bounds import CheckBounds
from usage_explore.validation.check import (
    MAX_FINDINGS_PER_CHECK,
    Check,
    Examination,
    Finding,
    Outcome,
    Severity,
    limited,
)
from usage_explore.validation.periods import INSTANT, closed, earlier, part
from usage_explore.validation.usage_sums import joined, sum_of_counted, valid_filters

NAME = "new_usage"

BOUNDS = CheckBounds(NAME)

# fmt: off
HISTORY = BOUNDS.add("history", timedelta(days=90), "days", 1, 4000,
    "Time before the period without usage, for usage to be new.")

MIN_DATA_AGE = BOUNDS.add("min_data_age", timedelta(days=14), "days", 0, 4000,
    "Time from the organization's first event until usage can be new: before, everything would be.")

MIN_EVENTS = BOUNDS.add("min_events", 10, "events", 1, 1000000,
    "Events of a finding, at least: a first event may lack its subscription as any other may.")

HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.01"), "share", 0, 1,
    "Share of the period's events (new customer), or of a metric's events (known customer), from which a finding is "
    "high.")

MEDIUM_SHARE = BOUNDS.add("medium_share", Decimal("0.001"), "share", 0, 1,
    "Share of the same events from which a finding is medium.")
# fmt: on


def statement(table: Table, period: Period) -> Select[Any]:
    """Usage by `customer_id` and `metric_key` from 90 days before the period on.

    Further columns: `first` and `last` timestamptz, `events` bigint (in the period), `subscribed` bigint (of all, those
    with a subscription).
    """
    c, since = table.c, period.span[0]
    read = period.replace(since=earlier(since, HISTORY()), until=closed(period))
    return (
        select(
            c.customer_id,
            c.metric_key,
            func.min(c.timestamp).label("first"),
            func.max(c.timestamp).label("last"),
            func.count().filter(c.timestamp >= literal(since, c.timestamp.type)).label("events"),
            func.count(c.subscription_id).label("subscribed"),
        )
        .where(*conditions(table, read))
        .group_by(c.customer_id, c.metric_key)
    )


def examine(examination: Examination) -> Outcome:
    """The new usage without a subscription: a new customer's once, a known one's by metric."""
    period = examination.period
    if closed(period) <= period.span[0]:
        return Outcome()
    if "subscription_id" in period.missing:
        return Outcome(
            note="the period is filtered to what has no subscription: whether there ever was one is not seen"
        )
    rows = list(examination.extracted_rows(statement(examination.table, period)))
    if not rows:
        return Outcome()
    if not any(row.subscribed for row in rows) and not examination.has_column("subscription_id"):
        return Outcome(
            skipped="no event of the organization has a subscription: whether new usage lacks one cannot be judged"
        )
    began = max(period.span[0], min(row.first for row in rows) + MIN_DATA_AGE())
    groups = [group for group in _groups(rows, began) if sum(row.events for row in group) >= MIN_EVENTS()]
    groups.sort(key=lambda group: (-sum(row.events for row in group), str(group[0].customer_id), group[0].metric_key))
    known = {row.customer_id for row in rows if row.first < began}
    subscribed = {row.customer_id for row in rows if row.subscribed}
    shown, note = limited(
        groups, "findings", lambda rest: counted(sum(row.events for group in rest for row in group), "event")
    )
    if began > period.span[0]:
        until = span_in(period.span[0], min(began, period.span[1]), period.zone)
        note = "; ".join(filter(None, (note, f"the data begins too late to say what is new in {until}")))
    findings = [
        _finding(examination, group, group[0].customer_id in known, group[0].customer_id in subscribed)
        for group in shown
    ]
    return Outcome(findings=tuple(findings), looked_at=len(rows), note=note)


def _groups(rows: Iterable[Any], began: datetime) -> list[list[Any]]:
    """What is one finding: all metrics of a customer that never had a subscription, else a metric of a customer."""
    customers: dict[UUID, list[Any]] = {}
    for row in rows:
        customers.setdefault(row.customer_id, []).append(row)
    groups = []
    for usages in customers.values():
        new = sorted(
            (row for row in usages if row.first >= began and not row.subscribed), key=lambda row: str(row.metric_key)
        )
        if any(row.subscribed for row in usages):
            groups += [[row] for row in new]
        elif new:
            groups.append(new)
    return groups


def _finding(examination: Examination, group: Sequence[Any], known: bool, subscribed: bool) -> Finding:
    customer, zone = group[0].customer_id, examination.period.zone
    metrics = [row.metric_key for row in group]
    first, last = min(row.first for row in group), max(row.last for row in group)
    question = examination.events_question(
        **valid_filters(customer_id=customer),
        **({"metric_key": metrics} if all(valid_filters(metric_key=metric) for metric in metrics) else {}),
        occurred_after=first,
        occurred_before=min(examination.period.span[1], last + INSTANT),
    )
    usage = sum_of_counted(examination, question, examination.table.c.metric_key.in_(metrics))
    names = joined([data_value(metric) for metric in metrics])
    if known:
        who = f"Customer {customer} is new to {names} and never had a subscription for it"
        whole = max(examination.totals.metrics[metric][0] for metric in metrics)
        of = "that metric's" if len(metrics) == 1 else "the largest of these metrics'"
    else:
        who = f"Customer {customer} is new, uses {names}, and never had a subscription"
        whole, of = examination.totals.events, "all"
    share = part(usage.events, whole)
    severity: Severity = "high" if share >= HIGH_SHARE() else "medium" if share >= MEDIUM_SHARE() else "low"
    return Finding(
        check=NAME,
        severity="low" if known and not subscribed else severity,
        sentence=f"{who}: {counted(usage.events, 'event')}, {span_in(usage.since, usage.until, zone)},"
        f" {percent(share)} of {of} events.",
        question=question,
        facts=usage.facts(),
        **usage.fields(examination),
    )


CHECK = Check(
    name=NAME,
    title="New usage without a subscription",
    means="Usage began without a subscription: it is on no invoice, or on one without a contract.",
    parameters=lambda: {
        "new": f"no usage in the {HISTORY().days} days before the period, nor in the first {MIN_DATA_AGE().days} days"
        " of the data",
        "never": "none of the events has a subscription, but others of the organization have",
        "floor": f"{MIN_EVENTS()} events at least",
        "severity": f"a new customer from {percent(HIGH_SHARE())} of the period's events on is high, from"
        f" {percent(MEDIUM_SHARE())} on medium, else low; a known one's new metric the same, by the metric's events,"
        " but low where the customer has no subscription at all",
        "most": f"the {MAX_FINDINGS_PER_CHECK} largest",
    },
    unit="customers' metrics",
    one="customer's metric",
    bounds=tuple(BOUNDS),
    statement=statement,
    examine=examine,
)
