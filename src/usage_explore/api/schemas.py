"""The OpenAPI schemas of answers; an event's follows from the table's columns.

They are strict: every field is required, no other is allowed.
"""

from __future__ import annotations

from typing import get_args

from sqlalchemy import DateTime, Numeric, Text, Uuid

from usage_explore.api.parameters import SCHEMAS, Schema
from usage_explore.api.problems import ProblemType
from usage_explore.api.validations import State
from usage_explore.db.schema import events_table
from usage_explore.names import NAME_COLUMNS, kind_of
from usage_explore.query import limits
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import AggregateQuery, LeaderboardQuery
from usage_explore.results.types import SeriesKind

_INSTANT: Schema = {"type": "string", "format": "date-time", "examples": ["2026-09-01T00:00:00Z"]}

_PLAIN = r"-?[0-9]+(\.[0-9]+)?"
_DECIMAL: Schema = {
    "type": "string",
    "pattern": f"^{_PLAIN}$",
    "description": "An exact decimal, written plainly.",
    "examples": ["2.5"],
}
_TOKEN: Schema = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{22}$",
    "description": "The last part of the link's address.",
}
_NO_RATIO: Schema = {"type": "null", "description": "A unit cost without a quantity to divide by."}
_STORED_DECIMAL: Schema = {
    "type": "string",
    "pattern": f"^({_PLAIN}|NaN|-?Infinity)$",
    "description": "An exact decimal, written plainly; NaN or Infinity if the table has that.",
    "examples": ["2.5"],
}
_HINTS: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What is probably a mistake in the query, one sentence each: an empty answer's names that no recent"
    " event has, or its window, if the organization's events lie before or after it. Empty without any; not part of"
    " what a pinned query promises.",
    "examples": [["dim:modell: none of the newest 10,000 events has it, did you mean dim:model?"]],
}
_NAME = "From the directory of names, null if unknown; not part of what a pinned query promises."
_NAME_OF_ID: Schema = {"type": ["string", "null"], "description": f"{_NAME} Only of an id."}
_COUNT: Schema = {"type": "integer", "minimum": 0}
_COLUMNS: dict[type, Schema] = {
    Uuid: {"type": "string", "format": "uuid"},
    Numeric: _STORED_DECIMAL,
    DateTime: _INSTANT,
    Text: {"type": "string"},
}


def components() -> dict[str, Schema]:
    """The named schemas of the document."""
    return {
        "Event": _event(),
        "EventPage": _object(
            data={"type": "array", "items": ref("Event"), "maxItems": 100},
            pagination=_object(
                cursor=_nullable({"type": "string", "description": "`cursor` of the next page; null on the last."}),
                has_more={"type": "boolean"},
                limit={"type": "integer", "minimum": 1, "maximum": 100},
            ),
            hints=_HINTS,
        ),
        "Links": _object(data={"type": "array", "items": ref("Link")}),
        "Link": _object(
            token=_TOKEN,
            url={"type": "string", "format": "uri", "description": "The address of the link."},
            organization_id={"type": "string", "format": "uuid"},
            by={"type": "string", "description": "Who made it: an e-mail address, the name of an API key, `local`."},
            created_at=_INSTANT,
            page={"type": "string", "description": "The page that it opens."},
            params={"type": "string", "description": "The page's pinned query string, without the organization."},
            without_sign_in={"type": "boolean", "description": "Whether it opens without sign-in."},
            expires_at=_nullable(_INSTANT),
            opened_at={**_nullable(_INSTANT), "description": "When it was last opened, to the minute."},
        ),
        "Point": _object(
            start={**_INSTANT, "description": "Start of the whole bucket, never clipped."},
            end={**_INSTANT, "description": "End of the whole bucket, never clipped."},
            value={"anyOf": [{"type": "integer", "description": "A count."}, _DECIMAL, _NO_RATIO]},
            complete={
                "type": "boolean",
                "description": "False if the bucket is cut by the window or still filling.",
            },
        ),
        "Series": _object(
            key=_nullable({"type": "string", "description": "The value; null unless `kind` is `value`."}),
            kind={"type": "string", "enum": list(get_args(SeriesKind))},
            label={"type": "string"},
            name=_nullable({"type": "string", "description": f"{_NAME} Only with `group_by` of an id."}),
            total={"anyOf": [{"type": "integer", "description": "A count."}, _DECIMAL, _NO_RATIO]},
            points={"type": "array", "items": ref("Point")},
        ),
        "Aggregate": _aggregate(),
        "Comparison": _comparison(),
        "Leaderboards": _leaderboards(),
        "Explanation": _explanation(),
        "PreviousPage": {"anyOf": [ref("EventPage"), {"type": "null"}]},
        "Count": _object(events=_COUNT),
        "Extent": _object(first=_nullable(_INSTANT), last=_nullable(_INSTANT)),
        "Choices": _object(choices=_list(value={"type": "string"}, events=_COUNT, name=_NAME_OF_ID)),
        "Currencies": _object(
            currencies=_list(currency={"type": ["string", "null"]}, events=_COUNT, cost=_STORED_DECIMAL)
        ),
        "Hits": _object(
            hits=_list(
                group={"type": "string", "description": "`id`, `idempotency_key`, a column, or `dim:<key>`."},
                value={"type": "string"},
                name=_NAME_OF_ID,
                events=_COUNT,
            )
        ),
        "Names": _object(
            names=_list(
                kind={"type": "string"},
                id={"type": "string", "format": "uuid"},
                external_id={"type": ["string", "null"]},
                name={"type": ["string", "null"]},
                preferred_currency={"type": ["string", "null"]},
            )
        ),
        "OrganizationState": _object(
            organization_id={"type": "string", "format": "uuid"},
            organization={"type": "string", "description": "Its name and id; the id alone without a name."},
            now={**_INSTANT, "description": "The database's clock."},
            known={**_INSTANT, "type": ["string", "null"], "description": "The latest arrival that has settled."},
            settle_seconds={"type": "number", "minimum": 0},
            app_url={"type": "string", "description": "The app's address; links begin with it."},
        ),
        "Organizations": _object(
            now={**_INSTANT, "description": "The database's clock."},
            organizations=_list(id={"type": "string", "format": "uuid"}, name=_NAME_OF_ID),
        ),
        "Validation": _validation(),
        "ValidationJob": _validation_job(),
        "ValidationJobs": _object(validations={"type": "array", "items": ref("ValidationJob")}),
        "Problem": _problem(),
        "State": _object(state={"type": "string", "enum": ["ok"]}),
    }


def ref(name: str) -> Schema:
    """A reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def _event() -> Schema:
    fields: dict[str, Schema] = {}
    for column in events_table().columns:
        schema = next((schema for sql_type, schema in _COLUMNS.items() if isinstance(column.type, sql_type)), None)
        if schema is None:
            schema = {
                "description": "The event's free-form keys. Numbers that a double cannot represent exactly are text.",
                "type": ["object", "array", "string", "number", "boolean", "null"],
                "examples": [{"model": "large", "region": "eu"}],
            }
        fields[column.name] = _nullable(schema) if column.nullable else schema
    for name, named in NAME_COLUMNS.items():
        fields[name] = _nullable({"type": "string", "description": f"{_NAME} Of `{named}`."})
    return _object(**fields)


_ECHO: dict[str, Schema] = {
    "exists_since": {
        **_INSTANT,
        "type": ["string", "null"],
        "description": "Time of the first event, if older ones were removed and the window begins before: what began"
        " before it is not complete.",
    },
    "hints": _HINTS,
    "timezone": {"type": "string"},
    "as_of": {**_INSTANT, "type": ["string", "null"]},
    "metrics": {
        "type": "integer",
        "minimum": 0,
        "description": "Number of different metrics in the sum; of a cost, those that have one. Several have no unit.",
    },
    "currency": {
        "type": ["string", "null"],
        "description": "Currency of a cost; null for other measures, for costs without a currency, and with"
        " `group_by=external_cost_currency` for several, where `key` has it.",
    },
    "filters": {
        "type": "object",
        "description": "Filter parameters, each with its values.",
        "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
    },
}


def _leaderboards() -> Schema:
    declared = LeaderboardQuery.model_json_schema()["properties"]
    total = {"anyOf": [{"type": "integer", "description": "A count."}, _DECIMAL]}
    share = {
        **_DECIMAL,
        "description": "Part of the query's total, rounded half-even to 6 decimal places; null of a total of 0.",
        "examples": ["0.25"],
    }
    leader = _object(
        key=_nullable({"type": "string", "description": "The value; null unless `kind` is `value`."}),
        kind={"type": "string", "enum": ["value", "missing", "other"]},
        label={"type": "string"},
        name=_nullable({"type": "string", "description": f"{_NAME} Only of an id."}),
        total=total,
        share=_nullable(share),
        members={"type": "integer", "minimum": 0, "description": "Number of values in the row."},
    )
    board = _object(
        group={"type": "string", "description": "A column, or `dim:<key>`."},
        values={"type": "integer", "minimum": 0, "description": "Number of different values."},
        leaders={"type": "array", "items": leader, "maxItems": limits.MAX_LEADERS + 1},
    )
    return _object(
        metric={"enum": declared["metric"]["enum"], "type": "string"},
        since=_INSTANT,
        until=_INSTANT,
        top={name: declared["top"][name] for name in ("type", "minimum", "maximum")},
        total=total,
        omitted={
            "type": "integer",
            "minimum": 0,
            "description": f"Number of dimension keys beyond the {limits.MAX_LEADERBOARD_DIMENSIONS} of most events.",
        },
        **_ECHO,
        leaderboards={"type": "array", "items": board},
    )


def _aggregate() -> Schema:
    declared = AggregateQuery.model_json_schema()["properties"]
    echoed = {name: {"enum": declared[name]["enum"], "type": "string"} for name in ("bucket", "metric")}
    return _object(
        **echoed,
        group_by={"type": "string"},
        since={**_INSTANT, "description": "As it took effect: absolute, and later than requested if `capped`."},
        until=_INSTANT,
        top={name: declared["top"][name] for name in ("type", "minimum", "maximum")},
        capped={
            "type": "boolean",
            "description": f"Whether `since` was moved to stay within {limits.MAX_AGGREGATE_BUCKETS:,} buckets.",
        },
        **_ECHO,
        cumulative={"type": "boolean", "description": "Whether points are running totals since the window's start."},
        compare=_nullable(SCHEMAS["compare"]),
        series={"type": "array", "items": ref("Series")},
        comparison={"anyOf": [ref("Comparison"), {"type": "null"}], "description": "Null without `compare`."},
    )


def _comparison() -> Schema:
    number = {"anyOf": [{"type": "integer", "description": "A count."}, _DECIMAL, {"type": "null"}]}
    changes: dict[str, Schema] = {
        "change": {
            **number,
            "description": "The value of equally much elapsed time, less the other period's; null without one.",
        },
        "change_ratio": _nullable(
            {**_DECIMAL, "description": "`change` per absolute value of the other period, to 28 digits; null of 0."}
        ),
    }
    point = _object(
        start=_INSTANT,
        end=_INSTANT,
        value={**number, "description": "Of the other period; null for a unit cost without a quantity."},
        **changes,
        complete={"type": "boolean", "description": "False if the bucket is cut by the other period's window."},
    )
    total = {
        **number,
        "description": "Of the other period; null if it has not begun, for costs in several currencies, and for a unit"
        " cost without a quantity.",
    }
    series = _object(
        key=_nullable({"type": "string", "description": "The value; null unless `kind` is `value`."}),
        kind={"type": "string", "enum": list(get_args(SeriesKind))},
        label={"type": "string"},
        name=_nullable({"type": "string", "description": f"{_NAME} Only with `group_by` of an id."}),
        total=total,
        **changes,
        points={
            "type": "array",
            "items": {"anyOf": [point, {"type": "null"}]},
            "description": "By the position of the answer's buckets; null without a counterpart.",
        },
    )
    return _object(
        since=_INSTANT,
        until={**_INSTANT, "description": "End of the part that is compared: cut if either period is unfinished."},
        current_until={**_INSTANT, "description": "End of the part of the answer's window that is compared."},
        partial={"type": "boolean", "description": "Whether it begins before the organization's first event."},
        total=total,
        **changes,
        series={
            "type": "array",
            "items": series,
            "description": "Those of the answer, then `other` if only the other period has more values.",
        },
    )


def _explanation() -> Schema:
    number = {"anyOf": [{"type": "integer", "description": "A count."}, _DECIMAL]}
    numbers: dict[str, Schema] = {
        "before": number,
        "after": number,
        "contribution": {**number, "description": "`after` less `before`, exact."},
        "share": _nullable({**_DECIMAL, "description": "Part of the total change, six digits; null of none."}),
    }
    pairs = _list(group={"type": "string"}, value={"type": ["string", "null"]})
    window = _object(since=_INSTANT, until=_INSTANT)
    cell = _object(
        where={**pairs, "description": "The cell's events have all of these values; null is an absent one."},
        without={**pairs, "description": "They have none of these."},
        always={**pairs, "description": "Further values that all of them have."},
        **numbers,
        is_new={"type": "boolean", "description": "No events before."},
        is_gone={"type": "boolean", "description": "No events after."},
    )
    return _object(
        query=_ECHO["filters"] | {"description": "The parameters of the aggregate, as they took effect."},
        before={**window, "description": "The window compared with."},
        after={**window, "description": "The window explained."},
        currency=_ECHO["currency"],
        expected=_nullable(_DECIMAL),
        total=_object(**numbers),
        cells={"type": "array", "items": cell, "description": "By the size of their contributions."},
        rest=_object(**numbers),
        groups={"type": "array", "items": {"type": "string"}, "description": "Columns and dimensions searched."},
        notes={"type": "array", "items": {"type": "string"}, "description": "Limits of the search."},
        is_even={"type": "boolean", "description": "Whether every larger value changed by about as much."},
        peak={
            "anyOf": [_object(since=_INSTANT, until=_INSTANT, contribution=number), {"type": "null"}],
            "description": "The days in which most of the change happened, if there are such.",
        },
        sentence={"type": "string"},
    )


def _validation() -> Schema:
    text, maybe, count = {"type": "string"}, {"type": ["string", "null"]}, _COUNT
    instant = _nullable(_INSTANT)
    check = _object(
        check=text,
        title=text,
        skipped={**maybe, "description": "Why it judged nothing: what was not given or what the events lack."},
        failed={**maybe, "description": "Why it did not end."},
        looked_at=_nullable(count),
        unit={**text, "description": "What `looked_at` counts."},
        note=text,
        partial={"type": "boolean", "description": "Whether usage was left unjudged."},
        findings=_nullable(count),
        reported_by={"type": "array", "items": text, "description": "Checks that have some of its findings."},
        bounds={
            "type": "object",
            "additionalProperties": _object(value=text, unit=text),
            "description": "Those in force, by name.",
        },
        milliseconds={"type": "number", "minimum": 0},
    )
    named = {f"{kind_of(column)}_name": _NAME_OF_ID for column in ID_COLUMNS}
    finding = _object(
        check=text,
        kind={**maybe, "description": "Which of the check's kinds of finding it is."},
        also_seen_by={"type": "array", "items": text},
        severity={"type": "string", "enum": ["high", "medium", "low"]},
        sentence=text,
        since=_INSTANT,
        until=_INSTANT,
        events=count,
        quantity={"anyOf": [_STORED_DECIMAL, {"type": "null"}]},
        amounts={"type": "object", "additionalProperties": _STORED_DECIMAL, "description": "By currency."},
        share={**_DECIMAL, "description": "Part of `share_of` that is affected; 0.02 is two per cent."},
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
    quantity = _object(events=count, quantity=_STORED_DECIMAL)
    return _object(
        organization_id={"type": "string", "format": "uuid"},
        organization_name=_NAME_OF_ID,
        period={**text, "description": "In words."},
        since=_INSTANT,
        until=_INSTANT,
        timezone=text,
        as_of=instant,
        finalized_at=instant,
        url=text,
        totals=_object(
            events=count,
            quantities={"type": "object", "additionalProperties": quantity, "description": "By metric."},
            costs=_list(currency=maybe, amount=_STORED_DECIMAL),
        ),
        unexamined={
            "anyOf": [_object(events=count, latest_ingested_at=_INSTANT, settled_at=instant), {"type": "null"}],
            "description": "Events that arrived after `as_of`.",
        },
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


def _validation_job() -> Schema:
    return _object(
        id={"type": "string"},
        state={"type": "string", "enum": list(get_args(State))},
        created=_INSTANT,
        progress={
            "type": "object",
            "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1},
            "description": "The part of each check that is done, in the order in which they run.",
        },
        result={"anyOf": [ref("Validation"), {"type": "null"}], "description": "Null unless `state` is `done`."},
        problem={"anyOf": [ref("Problem"), {"type": "null"}], "description": "Null unless `state` is `failed`."},
    )


def _problem() -> Schema:
    fault = _object(parameter={"type": "string"}, message={"type": "string"})
    fields: Schema = {
        "type": {"type": "string", "format": "uri", "enum": [problem.urn for problem in ProblemType]},
        "title": {"type": "string"},
        "status": {"type": "integer", "enum": sorted({problem.status.value for problem in ProblemType})},
        "detail": {"type": "string"},
        "request_id": {"type": "string", "description": "Finds the request in the server's log."},
        "errors": {"type": "array", "items": fault, "description": "All faults of the query."},
    }
    return {**_object(**fields), "required": [name for name in fields if name != "errors"]}


def _object(**properties: Schema) -> Schema:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(**properties: Schema) -> Schema:
    return {"type": "array", "items": _object(**properties)}


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}
