"""Unrated: events without the price, product or subscription that such events otherwise have.

What a metric has is what most of its customers' events have: a metric that never has a product lacks nothing. A
customer that never has a subscription is reported apart from one whose subscription is suddenly missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Interval, Select, Table, any_, cast, func, literal, select
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.formatting import counted, data_value, percent, span_in
from usage_explore.query.queries import Period
from usage_explore.sql.filters import conditions
from usage_explore.validation import usage_sums
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
from usage_explore.validation.periods import part, preceding
from usage_explore.validation.usage_sums import joined, sum_of_counted, valid_filters

NAME = "unrated"

SUBSCRIPTION = "subscription_id"

BOUNDS = CheckBounds(NAME)

# fmt: off
HIGH_EVENTS = BOUNDS.add("high_events", 50, "events", 1, 1000000,
    "Events of a customer's metric from which a missing price or subscription is high, if they are also "
    "`HIGH_SHARE`.")

HIGH_SHARE = BOUNDS.add("high_share", Decimal("0.1"), "share", 0, 1,
    "Share of a customer's events of a metric from which a missing price or subscription is high.")

MEDIUM_SHARE = BOUNDS.add("medium_share", Decimal("0.01"), "share", 0, 1,
    "Share of the events from which scattered unrated events are medium.")

MAX_CUSTOMERS = BOUNDS.add("max_customers", 10, "customers", 0, 10000,
    "Customers with a finding each; more share one cause, so there is one finding for each metric.")

MAX_EXCLUDED = 900
"""Customers that a query excludes; a filter may have 1,000 values."""

DAY = timedelta(days=1)

COLUMNS = {"price_key": "price", "product_id": "product", "subscription_id": "subscription"}
"""What usage is rated by, and what people call it."""

MIN_DAY_EVENTS = BOUNDS.add("min_day_events", 3, "events", 1, 1000000,
    "Events without the column on a day, at least, of a conspicuous day.")

MOSTLY = BOUNDS.add("mostly", Decimal("0.5"), "share", 0, 1,
    "A metric has a column if at least this share of its customers have it on at least this share of their events. "
    "A customer with a larger share without it, in all or on some days, has a finding of its own.")

MIN_EVENTS = BOUNDS.add("min_events", 10, "events", 1, 1000000,
    "Events of a customer's metric without the column, at least, of a finding of its own.")
# fmt: on


def examine(examination: Examination) -> Outcome:
    """What lacks its price, product or subscription: by customer where much does, the rest together."""
    rows = list(examination.extracted_rows(statement(examination.table, examination.period)))
    findings: list[Finding] = []
    notes: list[str] = []
    absent: list[str] = []
    unjudged: set[str] = set()
    for name in COLUMNS:
        if name in examination.period.missing:  # then nothing has it, and whether anything otherwise does is not seen
            notes.append(f"the period is filtered to what has no {COLUMNS[name]}: whether it should is not judged")
            continue
        usages = [Usage.of(row, name) for row in rows]
        if usages and all(usage.missing == usage.events for usage in usages):
            if not examination.has_column(name):
                absent.append(COLUMNS[name])
                continue
            if gone := _gone(examination, name):
                findings.append(gone)
                continue
        if examination.period.customer_id is not None and name != SUBSCRIPTION:  # who never has one is a finding
            alone = [usage for usage in usages if usage.missing and not usage.mostly_there]
            notes += [_alone(name, alone)] if alone else []
            unjudged |= {usage.metric_key for usage in alone}
        new, note = _column(examination, name, usages)
        findings += new
        notes += [note] if note else []
    never_there = f"no event of the organization has a {' or a '.join(absent)}: whether usage lacks it cannot be judged"
    if len(absent) == len(COLUMNS):
        return Outcome(skipped=never_there)
    return Outcome(
        findings=tuple(findings),
        looked_at=sum(row.metric_key not in unjudged for row in rows),
        note="; ".join([*notes, *([never_there] if absent else [])]),
        is_partial=bool(unjudged),
    )


def _alone(name: str, lacking: list[Usage]) -> str:
    """A note on usage of one customer that mostly lacks a column: there is none of others to compare it with."""
    events = sum(usage.missing for usage in lacking)
    return (
        f"{counted(events, 'event')} of {joined(sorted(data_value(usage.metric_key) for usage in lacking))}"
        f" {'has' if events == 1 else 'have'} no {COLUMNS[name]}: whether such events otherwise have one is not judged"
        " by one customer alone; validate all customers"
    )


def _gone(examination: Examination, name: str) -> Finding | None:
    """That no event of the period has what events before it have, or None where those have none either."""
    period = examination.period
    before = preceding(period)
    if before is None or not examination.has_column(name, before):
        return None
    question = examination.events_question(missing=examination.missing(name))
    usage = sum_of_counted(examination, question)
    return _finding(
        name,
        "medium" if name == "product_id" else "high",
        f"None of the {counted(usage.events, 'event')} of the period has a {COLUMNS[name]}, while events before it have"
        " one.",
        question,
        usage.fields(examination),
        usage.facts(),
    )


def _column(examination: Examination, name: str, usages: list[Usage]) -> tuple[list[Finding], str]:
    """What lacks one column, and what was left aside."""
    bare = never(usages) if name == SUBSCRIPTION else frozenset()
    judged = [series for series in usages if series.customer_id not in bare]
    metrics = having(judged)
    lacking = [series for series in judged if series.missing and series.metric_key in metrics]
    groups = _groups([series for series in lacking if series.own])
    groups.sort(key=lambda group: -sum(series.missing for series in group))
    shown, note = limited(
        groups,
        f"findings without a {COLUMNS[name]}",
        lambda rest: counted(sum(usage.missing for group in rest for usage in group), "event"),
    )
    findings = [_own(examination, name, group) for group in shown]
    reported = {series.customer_id for group in groups for series in group}
    findings += _scattered(
        examination, name, lacking, reported, bare, {series.metric_key for series in usages} - metrics
    )
    if bare:
        others = {series.customer_id: series.missing for series in judged if series.missing}
        findings += _without(examination, bare, others)
    return findings, note


def _groups(own: list[Usage]) -> list[list[Usage]]:
    """What is one finding: a customer's metrics, or a metric's customers where these are many."""
    crowded = len({row.customer_id for row in own}) > MAX_CUSTOMERS()
    groups: dict[Any, list[Usage]] = {}
    for row in own:
        groups.setdefault(row.metric_key if crowded else row.customer_id, []).append(row)
    return list(groups.values())


def _own(examination: Examination, name: str, group: list[Usage]) -> Finding:
    """A finding about a customer, or about a metric of many customers."""
    since, until = examination.period.span
    if all(row.mostly_there for row in group):
        since = min(row.since for row in group if row.since is not None)
        until = min(until, max(row.until for row in group if row.until is not None) + DAY)
    customers = {row.customer_id for row in group}
    metrics = sorted({row.metric_key for row in group})
    question = examination.events_question(
        **valid_filters(customer_id=next(iter(customers)) if len(customers) == 1 else None),
        **({"metric_key": metrics} if all(valid_filters(metric_key=metric) for metric in metrics) else {}),
        missing=examination.missing(name),
        occurred_after=since,
        occurred_before=until,
    )
    usage = sum_of_counted(examination, question, examination.table.c.metric_key.in_(metrics))
    share = max(part(row.missing, row.events) for row in group)
    words = f"{percent(part(usage.events, group[0].events))} of that usage"
    if len(group) > 1:
        words = f"up to {percent(share)} of a customer's usage of a metric"
    whose = f"customer {next(iter(customers))}" if len(customers) == 1 else counted(len(usage.customers), "customer")
    return _finding(
        name,
        "high" if name != "product_id" and usage.events >= HIGH_EVENTS() and share >= HIGH_SHARE() else "medium",
        f"{counted(usage.events, 'event')} of {joined([data_value(metric) for metric in metrics])} by {whose} have no"
        f" {COLUMNS[name]}, {span_in(usage.since, usage.until, examination.period.zone)}: {words}"
        " in the period, while such events otherwise have one.",
        question,
        usage.fields(examination),
        usage.facts(),
    )


def _scattered(
    examination: Examination,
    name: str,
    lacking: list[Usage],
    reported: set[UUID],
    bare: frozenset[UUID],
    without: set[str],
) -> list[Finding]:
    """One finding on scattered events without the column, of customers without a finding of their own."""
    missing: dict[UUID, int] = {}
    for series in lacking:
        missing[series.customer_id] = missing.get(series.customer_id, 0) + series.missing
    if not missing.keys() - reported:
        return []
    metrics = [metric for metric in without if valid_filters(metric_key=metric)]
    question = examination.events_question(
        missing=examination.missing(name), exclude=_excluded(examination, reported | bare, missing, metrics)
    )
    column = examination.table.c.metric_key
    usage = sum_of_counted(examination, question, column.not_in(sorted(without)))
    events = sum(events for metric, (events, _) in examination.totals.metrics.items() if metric not in without)
    share = part(usage.events, events)
    return [
        _finding(
            name,
            "medium" if share >= MEDIUM_SHARE() else "low",
            f"{counted(usage.events, 'event')} of {counted(len(usage.customers), 'customer')} and"
            f" {counted(len(usage.metrics), 'metric')} have no {COLUMNS[name]}, {percent(share)} of all that"
            " otherwise have one, here and there.",
            question,
            usage.fields(examination),
            usage.facts(),
            kind="scattered" if name == SUBSCRIPTION else "",  # beside customers that never have one
        )
    ]


def _without(examination: Examination, bare: frozenset[UUID], others: Mapping[UUID, int]) -> list[Finding]:
    """The customers that never have a subscription."""
    question = examination.aggregate_question(
        missing=examination.missing(SUBSCRIPTION),
        exclude=_excluded(examination, set(others), others, []),
        group_by="customer_id",
        bucket="week",
    )
    events = examination.events_question(missing=examination.missing(SUBSCRIPTION))
    customer = examination.table.c.customer_id
    those = customer == any_(literal(sorted(bare, key=str), ARRAY(customer.type)))
    usage = sum_of_counted(examination, events, those)
    share = part(usage.events, examination.totals.events)
    return [
        _finding(
            SUBSCRIPTION,
            "medium" if share >= MEDIUM_SHARE() else "low",
            f"{counted(len(bare), 'customer')} never had a subscription in the period:"
            f" {counted(usage.events, 'event')}, {percent(share)} of all.",
            question,
            usage.fields(examination),
            (("customers", joined(sorted(map(str, bare)))), *usage.facts()),
            kind="never",
        )
    ]


def _excluded(
    examination: Examination, customers: set[UUID], missing: Mapping[UUID, int], metrics: list[str]
) -> dict[str, list[str]]:
    """The period's exclusions with these customers, the largest if they are too many, and metrics."""
    excluded = {name: list(values) for name, values in examination.period.exclude}
    largest = sorted(customers, key=lambda customer: (-missing.get(customer, 0), str(customer)))[:MAX_EXCLUDED]
    for name, values in (("customer_id", [str(customer) for customer in largest]), ("metric_key", metrics)):
        if values:
            excluded[name] = [*excluded.get(name, []), *values]
    return excluded


def _finding(
    name: str,
    severity: Severity,
    sentence: str,
    question: Any,
    fields: Mapping[str, Any],
    facts: tuple[tuple[str, str], ...],
    kind: str = "",
) -> Finding:
    return Finding(
        check=NAME,
        kind=f"{COLUMNS[name]} {kind}".strip(),
        severity=severity,
        sentence=sentence,
        question=question,
        facts=(("missing", COLUMNS[name]), *facts),
        **fields,
    )


@dataclass(frozen=True, slots=True)
class Usage:
    """A customer's usage of a metric: `events`, how many are `missing` a column, and how many of these on some days.

    `burst` are missing on days when at least half are, from the day that begins at `since` to the one at `until`.
    """

    customer_id: UUID
    metric_key: str
    events: int
    missing: int
    burst: int
    since: datetime | None
    until: datetime | None

    @property
    def mostly_there(self) -> bool:
        """Whether at least half of the events have it."""
        return part(self.missing, self.events) <= MOSTLY()

    @property
    def own(self) -> bool:
        """Whether so much is missing that it is a finding of its own."""
        return self.burst >= MIN_EVENTS() or (self.missing >= MIN_EVENTS() and not self.mostly_there)

    @classmethod
    def of(cls, row: Any, column: str) -> Usage:
        """A row of `statement` seen for one column."""
        counts = (getattr(row, f"{column}_{what}") for what in ("missing", "burst", "since", "until"))
        return cls(row.customer_id, row.metric_key, row.events, *counts)


def statement(table: Table, period: Period) -> Select[Any]:
    """Usage by `customer_id` and `metric_key`: `events`, and for each of `COLUMNS` how many are missing it.

    Further columns, bigint and timestamptz: `<column>_missing`, `<column>_burst` (missing on days when at least half
    are), `<column>_since` and `<column>_until` (the first and the last of those days). Days are of 24 hours from the
    period's start.
    """
    c = table.c
    instant = c.timestamp.type
    day = func.date_bin(literal(DAY, Interval), c.timestamp, literal(period.span[0], instant), type_=instant)
    events = func.count()
    days = (
        select(c.customer_id, c.metric_key, day.label("day"), events.label("events"))
        .add_columns(*((events - func.count(c[name])).label(name) for name in COLUMNS))
        .where(*conditions(table, period))
        .group_by(c.customer_id, c.metric_key, day)
        .cte("days")
    )
    d = days.c
    counts = [cast(func.sum(d.events), BigInteger).label("events")]
    for name in COLUMNS:
        missing = d[name]
        conspicuous = (missing >= MIN_DAY_EVENTS()) & (missing * 2 >= d.events)
        counts += [
            cast(func.sum(missing), BigInteger).label(f"{name}_missing"),
            cast(func.coalesce(func.sum(missing).filter(conspicuous), 0), BigInteger).label(f"{name}_burst"),
            func.min(d.day).filter(conspicuous).label(f"{name}_since"),
            func.max(d.day).filter(conspicuous).label(f"{name}_until"),
        ]
    return select(d.customer_id, d.metric_key, *counts).group_by(d.customer_id, d.metric_key)


def never(usages: Iterable[Usage]) -> frozenset[UUID]:
    """The customers none of whose events has it."""
    having_it = {series.customer_id for series in usages if series.missing < series.events}
    return frozenset(series.customer_id for series in usages) - having_it


def having(usages: Iterable[Usage]) -> frozenset[str]:
    """The metrics that have it: half of their customers on half of their events."""
    customers: dict[str, list[bool]] = {}
    for series in usages:
        customers.setdefault(series.metric_key, []).append(series.mostly_there)
    return frozenset(metric for metric, shares in customers.items() if part(sum(shares), len(shares)) >= MOSTLY())


CHECK = Check(
    name=NAME,
    title="Unrated usage",
    means="Usage without a price, product or subscription: it cannot be rated and appears on no invoice.",
    parameters=lambda: {
        "otherwise": f"a metric has a price, product or subscription where {percent(MOSTLY())} of its customers have"
        f" it on {percent(MOSTLY())} of their events",
        "own": f"a customer's own finding where at least {MIN_EVENTS()} events of a metric miss it and these are more"
        f" than {percent(MOSTLY())} of that usage, or lie on days when at least {MIN_DAY_EVENTS()} events and half of"
        " them miss it",
        "high": f"{HIGH_EVENTS()} events and {percent(HIGH_SHARE())} of a customer's usage of a metric without a price"
        " or a subscription; other findings of a customer are medium",
        "scattered": f"what lacks it here and there is one finding: medium from {percent(MEDIUM_SHARE())} of the"
        " events on, else low; so are customers that never have a subscription",
        "crowd": f"more than {MAX_CUSTOMERS()} customers with findings of their own: one finding for each metric",
        "absent": "what no event of the organization has is not judged; what none of the period's has, and events"
        " before it have, is one finding: high, of a product medium",
        "most": f"the {MAX_FINDINGS_PER_CHECK} largest of each kind",
    },
    unit="customers' metrics",
    one="customer's metric",
    bounds=(*BOUNDS, *usage_sums.BOUNDS),
    statement=statement,
    examine=examine,
)
