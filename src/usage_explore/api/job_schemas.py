"""The OpenAPI schemas of jobs, and of the validations and ratings that they return."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

from usage_explore.api.jobs import State
from usage_explore.api.parameters import (
    COUNT,
    DECIMAL,
    EXISTS_SINCE,
    INSTANT,
    NAME_OF_ID,
    STORED_DECIMAL,
    Schema,
    list_of,
    nullable,
    ref,
    strict_object,
)
from usage_explore.names import kind_of
from usage_explore.query.filters import ID_COLUMNS

_PERIOD: Mapping[str, Schema] = {
    "organization_id": {"type": "string", "format": "uuid"},
    "organization_name": NAME_OF_ID,
    "period": {"type": "string", "description": "In words."},
    "since": INSTANT,
    "until": INSTANT,
    "timezone": {"type": "string"},
}
"""The head of a period's document, `describe.period_document`."""


def validation() -> Schema:
    """`Validation.to_dict`."""
    text, maybe, count = {"type": "string"}, {"type": ["string", "null"]}, COUNT
    instant = nullable(INSTANT)
    check = strict_object(
        check=text,
        title=text,
        skipped={**maybe, "description": "Why it judged nothing: what was not given or what the events lack."},
        failed={**maybe, "description": "Why it did not end."},
        looked_at=nullable(count),
        unit={**text, "description": "What `looked_at` counts."},
        note=text,
        partial={"type": "boolean", "description": "Whether usage was left unjudged."},
        findings=nullable(count),
        reported_by={"type": "array", "items": text, "description": "Checks that have some of its findings."},
        bounds={
            "type": "object",
            "additionalProperties": strict_object(value=text, unit=text),
            "description": "Those in force, by name.",
        },
        milliseconds={"type": "number", "minimum": 0},
    )
    named = {f"{kind_of(column)}_name": NAME_OF_ID for column in ID_COLUMNS}
    by_currency = {"type": ["object", "null"], "additionalProperties": STORED_DECIMAL}
    finding = strict_object(
        check=text,
        kind={**maybe, "description": "Which of the check's kinds of finding it is."},
        also_seen_by={"type": "array", "items": text},
        severity={"type": "string", "enum": ["high", "medium", "low"]},
        sentence=text,
        since=INSTANT,
        until=INSTANT,
        events=count,
        quantity={"anyOf": [STORED_DECIMAL, {"type": "null"}]},
        amounts={"type": "object", "additionalProperties": STORED_DECIMAL, "description": "By currency."},
        too_high={**by_currency, "description": "Part of `amounts` by which invoice lines are too high."},
        too_low={**by_currency, "description": "Part of `amounts` by which invoice lines are too low."},
        share={**DECIMAL, "description": "Part of `share_of` that is affected; 0.02 is two per cent."},
        share_of=maybe,
        customer_id=maybe,
        product_id=maybe,
        subscription_id=maybe,
        metric_key=maybe,
        price_key=maybe,
        wallet_currency=maybe,
        **named,
        facts={"type": "object", "additionalProperties": text},
        query={**text, "description": "What shows it, in words."},
        url={**text, "description": "The link that shows it."},
    )
    quantity = strict_object(events=count, quantity=STORED_DECIMAL)
    return strict_object(
        **_PERIOD,
        as_of=instant,
        finalized_at=instant,
        url=text,
        totals=strict_object(
            events=count,
            quantities={"type": "object", "additionalProperties": quantity, "description": "By metric."},
            costs=list_of(currency=maybe, amount=STORED_DECIMAL),
        ),
        unexamined=_unexamined(),
        findings_by_severity={"type": "object", "additionalProperties": count},
        changed_bounds={
            "type": "object",
            "additionalProperties": text,
            "description": "Bounds that differ from their defaults, in words, by name.",
        },
        unchecked={"type": "array", "items": text, "description": "What could not be checked, such as amounts."},
        checks={"type": "array", "items": check},
        findings={"type": "array", "items": finding, "description": "By impact."},
    )


def _unexamined() -> Schema:
    """`Unexamined.to_dict`, or null."""
    later = strict_object(events=COUNT, latest_ingested_at=INSTANT, settled_at=nullable(INSTANT))
    return {"anyOf": [later, {"type": "null"}], "description": "Events that arrived after `as_of`."}


def rating() -> Schema:
    """`Rating.to_dict`."""
    text, maybe = {"type": "string"}, {"type": ["string", "null"]}
    customer = {"customer_id": {"type": "string", "format": "uuid"}, "customer_name": NAME_OF_ID}
    usage = {**customer, "product_id": maybe, "metric_key": text, "price_key": maybe, "wallet_currency": maybe}
    numbers = {"events": COUNT, "quantity": DECIMAL}
    tiers = list_of(
        above=DECIMAL,
        up_to={**nullable(DECIMAL), "description": "Included; null without an end."},
        quantity=DECIMAL,
        unit_amount=DECIMAL,
        flat_amount=DECIMAL,
        amount=DECIMAL,
        packages=nullable(COUNT),
    )
    lines = list_of(
        **usage,
        currency=text,
        since=INSTANT,
        until=INSTANT,
        aggregation=text,
        model=text,
        **numbers,
        billable_quantity=DECIMAL,
        charged_quantity={**DECIMAL, "description": "After the included quantity."},
        exact_amount={**DECIMAL, "description": "Before rounding."},
        amount={**DECIMAL, "description": "With the currency's decimals."},
        tiers=tiers,
    )
    return strict_object(
        **_PERIOD,
        as_of=nullable(INSTANT),
        prices={**text, "description": "The price book."},
        events=COUNT,
        exists_since=EXISTS_SINCE,
        unexamined=_unexamined(),
        totals=list_of(currency=text, amount=DECIMAL),
        lines=lines,
        unpriced={
            **list_of(**usage, **numbers, reason=text),
            "description": "Usage without a price, which is no amount of 0.",
        },
        margins=list_of(
            **customer,
            metric_key=text,
            currency=maybe,
            revenue=nullable(DECIMAL),
            cost=nullable(DECIMAL),
            margin=nullable(DECIMAL),
            margin_ratio=nullable(DECIMAL),
            events_with_cost=COUNT,
            events=nullable(COUNT),
            unpriced_events=nullable(COUNT),
            events_without_cost=nullable(COUNT),
        ),
    )


def job(result: str) -> Schema:
    """A job that waits, runs or has ended, with a result of the named schema."""
    return strict_object(
        id={"type": "string"},
        state={"type": "string", "enum": list(get_args(State))},
        created=INSTANT,
        progress={
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
            "description": "The part of each step, such as a check, that is done, in the order in which they run.",
        },
        result={"anyOf": [ref(result), {"type": "null"}], "description": "Null unless `state` is `done`."},
        problem={"anyOf": [ref("Problem"), {"type": "null"}], "description": "Null unless `state` is `failed`."},
    )
