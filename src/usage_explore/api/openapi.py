"""The OpenAPI 3.1 document: parameters, schemas and responses.

Parameters follow from the fields that the queries declare, an event's schema from the table's columns. Schemas are
strict: every field is required, no other is allowed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from sqlalchemy import DateTime, Numeric, Text, Uuid

from usage_explore.api import problems
from usage_explore.api.problems import ProblemType
from usage_explore.api.responses import CSV, JSON
from usage_explore.db.schema import events_table
from usage_explore.names import NAME_COLUMNS
from usage_explore.query import limits
from usage_explore.query.buckets import CALENDAR_WINDOWS
from usage_explore.query.filters import DIMENSION, EMPTY, EMPTY_COLUMNS, GROUPS, TEXT_COLUMNS
from usage_explore.query.queries import AggregateQuery, LeaderboardQuery
from usage_explore.query.url_params import NOT
from usage_explore.results.types import SeriesKind

Schema = dict[str, Any]

# bounds in bytes and bounds of several parameters together are in DESCRIPTION: JSON Schema cannot express them
_TEXT: Schema = {"type": "string", "minLength": 1}
_MANY: Schema = {"type": "array", "minItems": 1}
_DIMENSION = f"{DIMENSION}.+"
_GROUP = "|".join((*GROUPS, _DIMENSION))
_INSTANT_TEXT = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
_RELATIVE = r"^(now|-[1-9][0-9]{0,5}[hdw])(/[hdwM])?$"
_MONTH = "(19[7-9][0-9]|2[01][0-9]{2})-(0[1-9]|1[0-2])"
_NUMBER = r"^-?[0-9]+(\.[0-9]+)?$"
_SCHEMAS: dict[str, Schema] = {
    "id": {**_MANY, "items": {"type": "string", "format": "uuid"}},
    "window": {"type": "string", "pattern": f"^({'|'.join(CALENDAR_WINDOWS)}|{_MONTH})$"},
    "quantity_min": {"type": "string", "pattern": _NUMBER},
    "quantity_max": {"type": "string", "pattern": _NUMBER},
    "missing": {**_MANY, "items": {"type": "string", "pattern": f"^({_GROUP})$"}},
    "group_by": {"type": "string", "pattern": f"^(none|{_GROUP})$"},
    "compare": {
        "type": "string",
        "anyOf": [{"enum": ["previous", "year"]}, {"pattern": f"^{_INSTANT_TEXT}/{_INSTANT_TEXT}$"}],
    },
    "dimensions": {
        "type": "object",
        "patternProperties": {f"^{_DIMENSION}$": {"type": "string"}},
        "additionalProperties": False,
    },
    "exclude": {
        "type": "object",
        "patternProperties": {
            f"^{NOT}({_GROUP})$": {"type": "string"},
            f"^{NOT}missing$": {"type": "string", "pattern": f"^({_GROUP})$"},
            f"^{NOT}{EMPTY}$": {"type": "string", "enum": list(TEXT_COLUMNS)},
        },
        "additionalProperties": False,
    },
}
_EMPTY_PARAMETER: Schema = {
    "name": EMPTY,
    "in": "query",
    "required": False,
    "description": "The empty text as one of the values of this column; `price_key=` without a value is an error.",
    "schema": {**_MANY, "items": {"type": "string", "enum": list(EMPTY_COLUMNS)}, "examples": [["price_key"]]},
    "style": "form",
    "explode": True,
}
_OBJECT_NAMES = {"dimensions": DIMENSION.rstrip(":"), "exclude": NOT.rstrip(":")}


def parameters(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> list[Schema]:
    """The OpenAPI parameters of a query.

    `dim:<key>` and `not:<parameter>` are exploded objects: their properties are parameters, with the prefix.
    """
    properties = model.model_json_schema()["properties"]
    result = [
        _parameter(name, field, properties[name]) for name, field in model.model_fields.items() if name not in without
    ]
    return [*result, _EMPTY_PARAMETER] if "price_key" in properties else result


def _parameter(name: str, field: FieldInfo, declared: Schema) -> Schema:
    schema = {**_schema(name, field, declared)}
    if field.default not in (None, ()):
        schema["default"] = field.default
    if field.examples:
        schema["examples"] = [field.examples] if schema["type"] == "array" else field.examples
    elif "enum" in schema or "default" in schema:
        schema["examples"] = schema.get("enum") or [schema["default"]]
    parameter: Schema = {
        "name": _OBJECT_NAMES.get(name, name),
        "in": "query",
        "required": False,
        "description": field.description,
        "schema": schema,
    }
    if schema.get("type") in ("array", "object"):
        parameter |= {"style": "form", "explode": True}
    return parameter


def _schema(name: str, field: FieldInfo, declared: Schema) -> Schema:
    if name in _SCHEMAS:
        return _SCHEMAS[name]
    types = set(get_args(field.annotation))
    if UUID in types:
        return {"type": "string", "format": "uuid"}
    if datetime in types and str in types:
        return {"type": "string", "anyOf": [{"format": "date-time"}, {"pattern": _RELATIVE}]}
    if datetime in types:
        return {"type": "string", "format": "date-time"}
    if field.default == ():
        return {**_MANY, "items": _TEXT}
    # an optional value is left out, never null
    value = next((option for option in declared.get("anyOf", []) if option.get("type") != "null"), declared)
    schema = {key: value[key] for key in ("type", "enum", "minimum", "maximum") if key in value}
    return {**_TEXT, **schema} if schema == {"type": "string"} else schema


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
        compare=_nullable(_SCHEMAS["compare"]),
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


def _nullable(schema: Schema) -> Schema:
    return {**schema, "type": [schema["type"], "null"]}


Responses = dict[int | str, dict[str, Any]]

TITLE = "usage-explore"
DESCRIPTION = f"""\
Metered usage events, exactly: raw events, and usage over time. Queries have the same names, defaults, answers and
errors as in the Python package, the app and its links.

Decimals are strings, written plainly and exact to the last digit; times are RFC 3339 in UTC. Unknown parameters are
errors. Every error is `application/problem+json` and names each faulty parameter. The header `X-Request-ID` of a
request, up to 64 letters, digits and `._-`, is returned and logged.

Queries beyond these bounds are errors that name the parameter and the bound:
{limits.MAX_VALUES:,} values in all filters, `top` included if `group_by` is not `none`; {limits.MAX_DIMENSIONS}
different dimensions; {limits.MAX_VALUE_BYTES:,} bytes for a value, {limits.MAX_KEY_BYTES:,} for a dimension's key;
{limits.MAX_QUERY_STRING_BYTES:,} bytes and {limits.MAX_PARAMETERS:,} parameters for a query string;
{limits.MAX_POINTS:,} points for an answer, {limits.MAX_PICTURE_POINTS:,} for a picture. A window of more than
{limits.MAX_AGGREGATE_BUCKETS:,} buckets starts later, and the answer says so (`capped`).

The answer to a pinned query never changes: one with an organization, an absolute window and an `as_of` at or before
the latest `ingested_at` that is at least the settle time old. It may be cached for ever and has an ETag. No other
answer may be cached."""

_HEADERS = {
    "X-Request-ID": {"description": "Finds the request in the server's log.", "schema": {"type": "string"}},
}
_CACHING_HEADERS = {
    "ETag": {"description": "Only of an answer that never changes.", "schema": {"type": "string"}},
    "Cache-Control": {"schema": {"type": "string"}},
}
_RETRY_HEADERS = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
}
_QUERY_PROBLEMS = (
    ProblemType.QUERY,
    ProblemType.UNAUTHORIZED,
    ProblemType.FORBIDDEN,
    ProblemType.NOT_ACCEPTABLE,
    ProblemType.TOO_LONG,
    ProblemType.MISDIRECTED,
    ProblemType.TOO_MANY,
    ProblemType.INTERNAL,
    ProblemType.UNAVAILABLE,
)
_CHALLENGE_HEADERS = {
    "WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}},
}

SECURITY_SCHEME = "key"
SECURITY_SCHEMES = {
    SECURITY_SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "ue_<id>_<secret>",
        "description": "An API key of one organization, from `usage-explore keys create`. A server without keys "
        "answers only requests from its own machine.",
    }
}
_PROBLEM_HEADERS: dict[ProblemType, dict[str, Any]] = {
    ProblemType.UNAVAILABLE: _RETRY_HEADERS,
    ProblemType.TOO_MANY: _RETRY_HEADERS,
    ProblemType.UNAUTHORIZED: _CHALLENGE_HEADERS,
}


def answer_responses(schema: str | None, *others: str, description: str, link: bool = False) -> Responses:
    """A 200 with JSON of the named schema and other media types, and a 304; `link` for paged answers."""
    content: dict[str, Any] = {JSON: {"schema": ref(schema)}} if schema else {}
    content |= {other: {"schema": {"type": "string"}} for other in others}
    headers = {**_HEADERS, **_CACHING_HEADERS}
    if link:
        headers["Link"] = {"description": 'The next page, `rel="next"`.', "schema": {"type": "string"}}
    else:
        description_of_timing = "The path that answered, `extract` or `events`, and `dur`, the database's milliseconds."
        headers["Server-Timing"] = {"description": description_of_timing, "schema": {"type": "string"}}
    return {
        "200": {"description": description, "headers": headers, "content": content},
        "304": {"description": "`If-None-Match` has the ETag of this answer.", "headers": headers},
    }


def problem_responses(*more: ProblemType) -> Responses:
    """The problems of an operation with a query, by status; `more` adds to those of all such operations."""
    result: Responses = {}
    for problem in (*_QUERY_PROBLEMS, ProblemType.MISMATCH, ProblemType.TIMEOUT, *more):
        same_status = result.get(str(problem.status.value), {})
        description = f"{same_status.get('description', '')} {problem.title}. {problem.when}"
        result[str(problem.status.value)] = {
            "description": description.strip(),
            "headers": {**_HEADERS, **same_status.get("headers", {}), **_PROBLEM_HEADERS.get(problem, {})},
            "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
        }
    return result


def _response(
    status: int, description: str, content: dict[str, Any], headers: dict[str, Any] | None = None
) -> Responses:
    return {str(status): {"description": description, "headers": {**_HEADERS, **(headers or {})}, "content": content}}


def body(model: type[BaseModel]) -> Schema:
    """The body of a request, in JSON."""
    schema = {
        **model.model_json_schema(),
        "examples": [{"page": "explore", "params": "group_by=metric_key&since=-30d"}],
    }
    return {"required": True, "content": {JSON: {"schema": schema}}}


TOKEN: Schema = {
    "name": "token",
    "in": "path",
    "required": True,
    "description": "The last part of the link's address.",
    "schema": _TEXT,  # one that no link can have is a 410, as an unknown one is
}
LINKS = _response(200, "The links.", {JSON: {"schema": ref("Links")}})
NEW_LINK = _response(
    201,
    "The link.",
    {JSON: {"schema": ref("Link")}},
    {"Location": {"description": "The link's address.", "schema": {"type": "string", "format": "uri"}}},
)
REVOKED: Responses = {"204": {"description": "Revoked.", "headers": _HEADERS}}
ALIVE = _response(200, "Ready.", {JSON: {"schema": ref("State")}})
NOT_READY = _response(503, "Not ready.", {problems.MEDIA_TYPE: {"schema": ref("Problem")}}, _RETRY_HEADERS)
EXPORT = _response(
    200,
    "Every event, newest first. A stream that fails ends with a line `# error: …` and a connection cut short.",
    {CSV: {"schema": {"type": "string"}}},
)
