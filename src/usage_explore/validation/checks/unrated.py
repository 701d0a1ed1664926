"""Unrated: events without the price, product or subscription that such events otherwise have.

What a metric has is what most of its customers' events have: a metric that never has a product lacks nothing. A
customer that never has a subscription is told apart from one whose subscription is suddenly missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import any_, literal
from sqlalchemy.dialects.postgresql import ARRAY

from usage_explore.formatting import counted, data_value, percent, span_in
from usage_explore.validation.check import Check, Examination, Outcome
from usage_explore.validation.finding import MAX_FINDINGS_PER_CHECK, Finding, Severity, limited
from usage_explore.validation.missing_rating import (
    COLUMNS,
    DAY,
    DAY_FLOOR,
    FLOOR,
    MOSTLY,
    Usage,
    having,
    never,
    statement,
)
from usage_explore.validation.periods import has_column, preceding
from usage_explore.validation.totals import part
from usage_explore.validation.usage_sums import UsageSum, joined, sum_of_query, valid_filters

NAME = "unrated"

SUBSCRIPTION = "subscription_id"

GRAVE_EVENTS, GRAVE = 50, Decimal("0.1")
"""So many events, and this part of a customer's events of a metric, without a price or a subscription are high."""

NOTABLE = Decimal("0.01")
"""From this part of the events on, what is missing here and there is medium."""

CROWD = 10
"""More customers with findings of their own share one cause: they are told by metric."""

EXCLUDED = 900
"""Customers a question leaves out at most; it may have 1,000 values."""


def examine(examination: Examination) -> Outcome:
    """What lacks its price, product or subscription: by customer where much does, the rest together."""
    rows = list(examination.rows(statement(examination.table, examination.period)))
    findings: list[Finding] = []
    notes: list[str] = []
    absent: list[str] = []
    for name in COLUMNS:
        if name in examination.period.missing:  # then nothing has it, and whether anything otherwise does is not seen
            notes.append(f"the period is filtered to what has no {COLUMNS[name]}: whether it should is not judged")
            continue
        usages = [Usage.of(row, name) for row in rows]
        if usages and all(each.missing == each.events for each in usages):
            if not has_column(examination, name):
                absent.append(COLUMNS[name])
                continue
            if gone := _gone(examination, name):
                findings.append(gone)
                continue
        found, note = _column(examination, name, usages)
        findings += found
        notes += [note] if note else []
    never_there = f"no event of the organization has a {' or a '.join(absent)}: whether usage lacks it cannot be judged"
    if len(absent) == len(COLUMNS):
        return Outcome(skipped=never_there)
    return Outcome(
        findings=tuple(findings), looked_at=len(rows), note="; ".join([*notes, *([never_there] if absent else [])])
    )


def _gone(examination: Examination, name: str) -> Finding | None:
    """That no event of the period has what events before it have, or None where those have none either."""
    period = examination.period
    before = preceding(period)
    if before is None or not has_column(examination, name, before):
        return None
    question = examination.events_question(missing=examination.missing(name))
    found = _there(sum_of_query(examination, question))
    return _finding(
        name,
        "medium" if name == "product_id" else "high",
        f"None of the {counted(found.events, 'event')} of the period has a {COLUMNS[name]}, while events before it have"
        " one.",
        question,
        found.fields(examination),
        found.facts(),
    )


def _column(examination: Examination, name: str, usages: list[Usage]) -> tuple[list[Finding], str]:
    """What lacks one column, and what was left aside."""
    bare = never(usages) if name == SUBSCRIPTION else frozenset()
    judged = [each for each in usages if each.customer_id not in bare]
    metrics = having(judged)
    lacking = [each for each in judged if each.missing and each.metric_key in metrics]
    groups = _groups([each for each in lacking if each.own])
    groups.sort(key=lambda group: -sum(each.missing for each in group))
    shown, note = limited(
        groups,
        f"findings without a {COLUMNS[name]}",
        lambda rest: counted(sum(usage.missing for group in rest for usage in group), "event"),
    )
    findings = [_own(examination, name, group) for group in shown]
    told = {each.customer_id for group in groups for each in group}
    findings += _scattered(examination, name, lacking, told, bare, {each.metric_key for each in usages} - metrics)
    if bare:
        others = {each.customer_id: each.missing for each in judged if each.missing}
        findings += _without(examination, bare, others)
    return findings, note


def _groups(own: list[Usage]) -> list[list[Usage]]:
    """What is one finding: a customer's metrics, or a metric's customers where these are many."""
    crowded = len({each.customer_id for each in own}) > CROWD
    groups: dict[Any, list[Usage]] = {}
    for each in own:
        groups.setdefault(each.metric_key if crowded else each.customer_id, []).append(each)
    return list(groups.values())


def _own(examination: Examination, name: str, group: list[Usage]) -> Finding:
    """A finding about a customer, or about a metric of many customers."""
    since, until = examination.period.span
    if all(each.mostly_there for each in group):
        since = min(each.since for each in group if each.since is not None)
        until = min(until, max(each.until for each in group if each.until is not None) + DAY)
    customers = {each.customer_id for each in group}
    metrics = sorted({each.metric_key for each in group})
    question = examination.events_question(
        **valid_filters(customer_id=next(iter(customers)) if len(customers) == 1 else None),
        **({"metric_key": metrics} if all(valid_filters(metric_key=each) for each in metrics) else {}),
        missing=examination.missing(name),
        occurred_after=since,
        occurred_before=until,
    )
    found = _there(sum_of_query(examination, question, examination.table.c.metric_key.in_(metrics)))
    share = max(part(each.missing, each.events) for each in group)
    words = f"{percent(part(found.events, group[0].events))} of that usage"
    if len(group) > 1:
        words = f"up to {percent(share)} of a customer's usage of a metric"
    whose = f"customer {next(iter(customers))}" if len(customers) == 1 else counted(len(found.customers), "customer")
    return _finding(
        name,
        "high" if name != "product_id" and found.events >= GRAVE_EVENTS and share >= GRAVE else "medium",
        f"{counted(found.events, 'event')} of {joined([data_value(each) for each in metrics])} by {whose} have no"
        f" {COLUMNS[name]}, {span_in(found.since, found.until, examination.period.zone)}: {words}"
        " in the period, while such events otherwise have one.",
        question,
        found.fields(examination),
        found.facts(),
    )


def _scattered(
    examination: Examination,
    name: str,
    lacking: list[Usage],
    told: set[UUID],
    bare: frozenset[UUID],
    without: set[str],
) -> list[Finding]:
    """What is missing here and there, all together, of neither those told apart nor those that never have it."""
    missing: dict[UUID, int] = {}
    for each in lacking:
        missing[each.customer_id] = missing.get(each.customer_id, 0) + each.missing
    if not missing.keys() - told:
        return []
    metrics = [each for each in without if valid_filters(metric_key=each)]
    question = examination.events_question(
        missing=examination.missing(name), exclude=_excluded(examination, told | bare, missing, metrics)
    )
    column = examination.table.c.metric_key
    found = _there(sum_of_query(examination, question, column.not_in(sorted(without))))
    events = sum(events for metric, (events, _) in examination.totals.metrics.items() if metric not in without)
    share = part(found.events, events)
    return [
        _finding(
            name,
            "medium" if share >= NOTABLE else "low",
            f"{counted(found.events, 'event')} of {counted(len(found.customers), 'customer')} and"
            f" {counted(len(found.metrics), 'metric')} have no {COLUMNS[name]}, {percent(share)} of all that"
            " otherwise have one, here and there.",
            question,
            found.fields(examination),
            found.facts(),
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
    found = _there(sum_of_query(examination, events, those))
    share = part(found.events, examination.totals.events)
    return [
        _finding(
            SUBSCRIPTION,
            "medium" if share >= NOTABLE else "low",
            f"{counted(len(bare), 'customer')} never had a subscription in the period:"
            f" {counted(found.events, 'event')}, {percent(share)} of all.",
            question,
            found.fields(examination),
            (("customers", joined(sorted(map(str, bare)))), *found.facts()),
        )
    ]


def _excluded(
    examination: Examination, customers: set[UUID], missing: Mapping[UUID, int], metrics: list[str]
) -> dict[str, list[str]]:
    """The period's exclusions with these customers, the largest if they are too many, and metrics."""
    excluded = {name: list(values) for name, values in examination.period.exclude}
    largest = sorted(customers, key=lambda each: (-missing.get(each, 0), str(each)))[:EXCLUDED]
    for name, values in (("customer_id", [str(each) for each in largest]), ("metric_key", metrics)):
        if values:
            excluded[name] = [*excluded.get(name, []), *values]
    return excluded


def _there(found: UsageSum | None) -> UsageSum:
    """What was counted a moment ago in the same snapshot, and so is there."""
    if found is None:
        raise LookupError("events that were counted are gone")
    return found


def _finding(
    name: str,
    severity: Severity,
    sentence: str,
    question: Any,
    fields: Mapping[str, Any],
    facts: tuple[tuple[str, str], ...],
) -> Finding:
    return Finding(
        check=NAME,
        severity=severity,
        sentence=sentence,
        question=question,
        facts=(("missing", COLUMNS[name]), *facts),
        **fields,
    )


CHECK = Check(
    name=NAME,
    title="Unrated usage",
    means="This usage has nothing to be rated by: it is billed at no price, or on nobody's invoice.",
    parameters={
        "otherwise": f"a metric has a price, product or subscription where {percent(MOSTLY)} of its customers have"
        f" it on {percent(MOSTLY)} of their events",
        "own": f"a customer's own finding where at least {FLOOR} events of a metric miss it and these are more than"
        f" {percent(MOSTLY)} of that usage, or lie on days when at least {DAY_FLOOR} events and half of them miss it",
        "high": f"{GRAVE_EVENTS} events and {percent(GRAVE)} of a customer's usage of a metric without a price or a"
        " subscription; other findings of a customer are medium",
        "scattered": f"what misses it here and there is told together: medium from {percent(NOTABLE)} of the events on,"
        " else low; so are customers that never have a subscription",
        "crowd": f"more than {CROWD} customers with findings of their own are told by metric",
        "absent": "what no event of the organization has is not judged; what none of the period's has, and events"
        " before it have, is one finding: high, of a product medium",
        "most": f"the {MAX_FINDINGS_PER_CHECK} largest of each kind",
    },
    unit="customers' metrics",
    statement=statement,
    examine=examine,
)
