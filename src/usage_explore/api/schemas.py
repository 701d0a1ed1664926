"""The OpenAPI schemas of answers; an event's follows from the table's columns.

They are strict: every field is required, no other is allowed.
"""

from __future__ import annotations

from typing import get_args

from sqlalchemy import DateTime, Numeric, Text, Uuid

from usage_explore.api import job_schemas
from usage_explore.api.parameters import (
    COUNT,
    DECIMAL,
    EXISTS_SINCE,
    INSTANT,
    NAME,
    NAME_OF_ID,
    SCHEMAS,
    STORED_DECIMAL,
    Schema,
    list_of,
    nullable,
    ref,
    strict_object,
)
from usage_explore.api.problems import ProblemType
from usage_explore.db.schema import events_table
from usage_explore.names import NAME_COLUMNS
from usage_explore.pricing.book import MODELS
from usage_explore.query import limits
from usage_explore.query.queries import AggregateQuery, LeaderboardQuery
from usage_explore.results.types import SeriesKind

_TOKEN: Schema = {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{22}$",
    "description": "The last part of the link's address.",
}
_NO_RATIO: Schema = {"type": "null", "description": "A unit cost without a quantity to divide by."}
_HINTS: Schema = {
    "type": "array",
    "items": {"type": "string"},
    "description": "What is probably a mistake in the query, one sentence each: an empty answer's names that no recent"
    " event has, or its window, if the organization's events lie before or after it. Empty without any; not part of"
    " what a pinned query promises.",
    "examples": [["dim:modell: none of the newest 10,000 events has it, did you mean dim:model?"]],
}
_COLUMNS: dict[type, Schema] = {
    Uuid: {"type": "string", "format": "uuid"},
    Numeric: STORED_DECIMAL,
    DateTime: INSTANT,
    Text: {"type": "string"},
}


def components() -> dict[str, Schema]:
    """The named schemas of the document."""
    return {
        "Event": _event(),
        "EventPage": strict_object(
            data={"type": "array", "items": ref("Event"), "maxItems": 100},
            pagination=strict_object(
                cursor=nullable({"type": "string", "description": "`cursor` of the next page; null on the last."}),
                has_more={"type": "boolean"},
                limit={"type": "integer", "minimum": 1, "maximum": 100},
            ),
            hints=_HINTS,
        ),
        "Links": strict_object(data={"type": "array", "items": ref("Link")}),
        "Link": strict_object(
            token=_TOKEN,
            url={"type": "string", "format": "uri", "description": "The address of the link."},
            organization_id={"type": "string", "format": "uuid"},
            by={"type": "string", "description": "Who made it: an e-mail address, the name of an API key, `local`."},
            created_at=INSTANT,
            page={"type": "string", "description": "The page that it opens."},
            params={"type": "string", "description": "The page's pinned query string, without the organization."},
            without_sign_in={"type": "boolean", "description": "Whether it opens without sign-in."},
            expires_at=nullable(INSTANT),
            opened_at={**nullable(INSTANT), "description": "When it was last opened, to the minute."},
        ),
        "Point": strict_object(
            start={**INSTANT, "description": "Start of the whole bucket, never clipped."},
            end={**INSTANT, "description": "End of the whole bucket, never clipped."},
            value={"anyOf": [{"type": "integer", "description": "A count."}, DECIMAL, _NO_RATIO]},
            complete={
                "type": "boolean",
                "description": "False if the bucket is cut by the window or still filling.",
            },
        ),
        "Series": strict_object(
            key=nullable({"type": "string", "description": "The value; null unless `kind` is `value`."}),
            kind={"type": "string", "enum": list(get_args(SeriesKind))},
            label={"type": "string"},
            name=nullable({"type": "string", "description": f"{NAME} Only with `group_by` of an id."}),
            total={"anyOf": [{"type": "integer", "description": "A count."}, DECIMAL, _NO_RATIO]},
            points={"type": "array", "items": ref("Point")},
        ),
        "Aggregate": _aggregate(),
        "Comparison": _comparison(),
        "Leaderboards": _leaderboards(),
        "Explanation": _explanation(),
        "PreviousPage": {"anyOf": [ref("EventPage"), {"type": "null"}]},
        "Count": strict_object(events=COUNT),
        "Extent": strict_object(first=nullable(INSTANT), last=nullable(INSTANT)),
        "Choices": strict_object(choices=list_of(value={"type": "string"}, events=COUNT, name=NAME_OF_ID)),
        "Currencies": strict_object(
            currencies=list_of(currency={"type": ["string", "null"]}, events=COUNT, cost=STORED_DECIMAL)
        ),
        "Hits": strict_object(
            hits=list_of(
                group={"type": "string", "description": "`id`, `idempotency_key`, a column, or `dim:<key>`."},
                value={"type": "string"},
                name=NAME_OF_ID,
                events=COUNT,
            )
        ),
        "Names": strict_object(
            names=list_of(
                kind={"type": "string"},
                id={"type": "string", "format": "uuid"},
                external_id={"type": ["string", "null"]},
                name={"type": ["string", "null"]},
                preferred_currency={"type": ["string", "null"]},
                unit={"type": ["string", "null"]},
            )
        ),
        "OrganizationState": strict_object(
            organization_id={"type": "string", "format": "uuid"},
            organization={"type": "string", "description": "Its name and id; the id alone without a name."},
            now={**INSTANT, "description": "The database's clock."},
            known={**INSTANT, "type": ["string", "null"], "description": "The latest arrival that has settled."},
            settle_seconds={"type": "number", "minimum": 0},
            app_url={"type": "string", "description": "The app's address; links begin with it."},
        ),
        "Organizations": strict_object(
            now={**INSTANT, "description": "The database's clock."},
            organizations=list_of(id={"type": "string", "format": "uuid"}, name=NAME_OF_ID),
        ),
        "Validation": job_schemas.validation(),
        "ValidationJob": job_schemas.job("Validation"),
        "ValidationJobs": strict_object(validations={"type": "array", "items": ref("ValidationJob")}),
        "Rating": job_schemas.rating(),
        "RatingJob": job_schemas.job("Rating"),
        "RatingJobs": strict_object(ratings={"type": "array", "items": ref("RatingJob")}),
        "Views": _views(),
        "Prices": _prices(),
        "Problem": _problem(),
        "State": strict_object(state={"type": "string", "enum": ["ok"]}),
    }


def _prices() -> Schema:
    text, number = nullable({"type": "string"}), nullable(DECIMAL)
    id_, edge = {**text, "format": "uuid"}, {**text, "description": "A date in the rating's time zone, or RFC 3339."}
    price = {
        **dict.fromkeys(("customer_id", "product_id"), id_),
        **dict.fromkeys(("metric_key", "price_key"), text),
        "aggregation": {"type": "string", "description": "`sum`, `count`, `max`, `latest` or `unique:<column>`."},
        "model": {"type": "string", "enum": list(MODELS)},
        **dict.fromkeys(("unit_amount", "flat_amount"), number),
        "tiers": {**text, "description": "`<up to>:<unit amount>[:<flat amount>]`, separated by semicolons."},
        "package_size": number,
        **dict.fromkeys(("included_quantity", "minimum_amount"), DECIMAL),
        "currency": {"type": "string"},
        "scale": {"type": "integer", "description": "Decimals of its amounts."},
        **dict.fromkeys(("valid_from", "valid_to"), edge),
    }
    return strict_object(source=text, prices=list_of(**price))


def _views() -> Schema:
    text = {"type": "string"}
    view = {
        "id": {"type": "string", "format": "uuid"},
        "organization_id": {"type": "string", "format": "uuid"},
        "name": text,
        "note": text,
        "author": {**text, "description": "An e-mail address, a name, or `local`."},
        "created_at": INSTANT,
        "changed_at": INSTANT,
        "saved_at": {**INSTANT, "description": "When query and headline number were saved."},
        "page": {**text, "description": "The page that it opens."},
        "params": {**text, "description": "The query string, live, without the organization."},
        "pinned": {**text, "description": "The query string with absolute times and `as_of`."},
        "total": {**nullable(DECIMAL), "description": "The headline number when it was saved."},
        "currency": {"type": ["string", "null"]},
        "as_of": INSTANT,
        "place": {**text, "enum": ["table", "file"], "description": "Beside the events, or in the data folder."},
    }
    return strict_object(views=list_of(**view))


def _event() -> Schema:
    fields: dict[str, Schema] = {}
    for column in events_table().columns:
        schema = next((schema for sql_type, schema in _COLUMNS.items() if isinstance(column.type, sql_type)), None)
        if schema is None:
            schema = {
                "description": "The event's free-form keys. A number such as 1.50, 0.0 or one with more digits than a"
                " double holds is text, as PostgreSQL's `->>` gives it; so are lists and objects that contain one.",
                "type": ["object", "array", "string", "number", "boolean", "null"],
                "examples": [{"model": "large", "region": "eu"}],
            }
        fields[column.name] = nullable(schema) if column.nullable else schema
    for name, named in NAME_COLUMNS.items():
        fields[name] = nullable({"type": "string", "description": f"{NAME} Of `{named}`."})
    return strict_object(**fields)


_ECHO: dict[str, Schema] = {
    "exists_since": EXISTS_SINCE,
    "hints": _HINTS,
    "timezone": {"type": "string"},
    "as_of": {**INSTANT, "type": ["string", "null"]},
    "metrics": {
        "type": "integer",
        "minimum": 0,
        "description": "Number of different metrics in the sum; of a cost, those that have one.",
    },
    "unit": {
        "type": ["string", "null"],
        "description": "Unit of a sum of quantities, and of what a unit cost is divided by; null if it is not known for"
        " every metric in it, for several units, and for counts and costs.",
        "examples": ["tokens"],
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
    total = {"anyOf": [{"type": "integer", "description": "A count."}, DECIMAL]}
    share = {
        **DECIMAL,
        "description": "Part of the query's total, rounded half-even to 6 decimal places; null of a total of 0.",
        "examples": ["0.25"],
    }
    leader = strict_object(
        key=nullable({"type": "string", "description": "The value; null unless `kind` is `value`."}),
        kind={"type": "string", "enum": ["value", "missing", "other"]},
        label={"type": "string"},
        name=nullable({"type": "string", "description": f"{NAME} Only of an id."}),
        total=total,
        share=nullable(share),
        members={"type": "integer", "minimum": 0, "description": "Number of values in the row."},
    )
    board = strict_object(
        group={"type": "string", "description": "A column, or `dim:<key>`."},
        values={"type": "integer", "minimum": 0, "description": "Number of different values."},
        leaders={"type": "array", "items": leader, "maxItems": limits.MAX_LEADERS + 1},
    )
    return strict_object(
        metric={"enum": declared["metric"]["enum"], "type": "string"},
        since=INSTANT,
        until=INSTANT,
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
    return strict_object(
        **echoed,
        group_by={"type": "string"},
        since={**INSTANT, "description": "As it took effect: absolute, and later than requested if `capped`."},
        until=INSTANT,
        top={name: declared["top"][name] for name in ("type", "minimum", "maximum")},
        capped={
            "type": "boolean",
            "description": f"Whether `since` was moved to stay within {limits.MAX_AGGREGATE_BUCKETS:,} buckets.",
        },
        **_ECHO,
        cumulative={"type": "boolean", "description": "Whether points are running totals since the window's start."},
        compare=nullable(SCHEMAS["compare"]),
        series={"type": "array", "items": ref("Series")},
        comparison={"anyOf": [ref("Comparison"), {"type": "null"}], "description": "Null without `compare`."},
    )


def _comparison() -> Schema:
    number = {"anyOf": [{"type": "integer", "description": "A count."}, DECIMAL, {"type": "null"}]}
    changes: dict[str, Schema] = {
        "change": {
            **number,
            "description": "The value of equally much elapsed time, less the other period's; null without one.",
        },
        "change_ratio": nullable(
            {**DECIMAL, "description": "`change` per absolute value of the other period, to 28 digits; null of 0."}
        ),
    }
    point = strict_object(
        start=INSTANT,
        end=INSTANT,
        value={**number, "description": "Of the other period; null for a unit cost without a quantity."},
        **changes,
        complete={"type": "boolean", "description": "False if the bucket is cut by the other period's window."},
    )
    total = {
        **number,
        "description": "Of the other period; null if it has not begun, for costs in several currencies, and for a unit"
        " cost without a quantity.",
    }
    series = strict_object(
        key=nullable({"type": "string", "description": "The value; null unless `kind` is `value`."}),
        kind={"type": "string", "enum": list(get_args(SeriesKind))},
        label={"type": "string"},
        name=nullable({"type": "string", "description": f"{NAME} Only with `group_by` of an id."}),
        total=total,
        **changes,
        points={
            "type": "array",
            "items": {"anyOf": [point, {"type": "null"}]},
            "description": "By the position of the answer's buckets; null without a counterpart.",
        },
    )
    return strict_object(
        since=INSTANT,
        until={**INSTANT, "description": "End of the part that is compared: cut if either period is unfinished."},
        current_until={**INSTANT, "description": "End of the part of the answer's window that is compared."},
        partial={"type": "boolean", "description": "Whether it begins before the organization's first event."},
        unit={**_ECHO["unit"], "description": "Unit of the quantities of both periods; null as that of the answer."},
        total=total,
        **changes,
        series={
            "type": "array",
            "items": series,
            "description": "Those of the answer, then `other` if only the other period has more values.",
        },
    )


def _explanation() -> Schema:
    number = {"anyOf": [{"type": "integer", "description": "A count."}, DECIMAL]}
    numbers: dict[str, Schema] = {
        "before": number,
        "after": number,
        "contribution": {**number, "description": "`after` less `before`, exact."},
        "share": nullable({**DECIMAL, "description": "Part of the total change, six digits; null of none."}),
    }
    pairs = list_of(group={"type": "string"}, value={"type": ["string", "null"]})
    window = strict_object(since=INSTANT, until=INSTANT)
    cell = strict_object(
        where={**pairs, "description": "The cell's events have all of these values; null is an absent one."},
        without={**pairs, "description": "They have none of these."},
        always={**pairs, "description": "Further values that all of them have."},
        **numbers,
        is_new={"type": "boolean", "description": "No events before, and none were removed."},
        is_gone={"type": "boolean", "description": "No events after, and none were removed."},
    )
    return strict_object(
        query=_ECHO["filters"] | {"description": "The parameters of the aggregate, as they took effect."},
        before={**window, "description": "The window compared with."},
        after={**window, "description": "The window explained."},
        currency=_ECHO["currency"],
        expected=nullable(DECIMAL),
        total=strict_object(**numbers),
        cells={"type": "array", "items": cell, "description": "By the size of their contributions."},
        rest=strict_object(**numbers),
        groups={"type": "array", "items": {"type": "string"}, "description": "Columns and dimensions searched."},
        notes={"type": "array", "items": {"type": "string"}, "description": "Limits of the search."},
        is_even={"type": "boolean", "description": "Whether every larger value changed by about as much."},
        common={**pairs, "description": "Values of all events, where one window has none or no value differs."},
        peak={
            "anyOf": [strict_object(since=INSTANT, until=INSTANT, contribution=number), {"type": "null"}],
            "description": "The days in which most of the change happened, if there are such.",
        },
        exists_since=EXISTS_SINCE,
        sentence={"type": "string"},
    )


def _problem() -> Schema:
    fault = strict_object(parameter={"type": "string"}, message={"type": "string"})
    fields: Schema = {
        "type": {"type": "string", "format": "uri", "enum": [problem.urn for problem in ProblemType]},
        "title": {"type": "string"},
        "status": {"type": "integer", "enum": sorted({problem.status.value for problem in ProblemType})},
        "detail": {"type": "string"},
        "request_id": {"type": "string", "description": "Finds the request in the server's log."},
        "errors": {"type": "array", "items": fault, "description": "All faults of the query."},
    }
    return {**strict_object(**fields), "required": [name for name in fields if name != "errors"]}
