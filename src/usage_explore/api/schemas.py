"""The JSON Schemas of the answers: strict, every field required. An event's follows from the table's columns."""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import DateTime, Numeric, Text, Uuid

from usage_explore.api.problems import Kind
from usage_explore.db.schema import events_table
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Kind as SeriesKind

Schema = dict[str, Any]

INSTANT: Schema = {"type": "string", "format": "date-time", "examples": ["2026-09-01T00:00:00Z"]}

_PLAIN = r"-?[0-9]+(\.[0-9]+)?"
_DECIMAL: Schema = {
    "type": "string",
    "pattern": f"^{_PLAIN}$",
    "description": "An exact decimal, written plainly.",
    "examples": ["2.5"],
}
_STORED: Schema = {
    "type": "string",
    "pattern": f"^({_PLAIN}|NaN|-?Infinity)$",
    "description": "An exact decimal, written plainly; NaN or Infinity where the table holds that.",
    "examples": ["2.5"],
}
_COLUMNS: dict[type, Schema] = {
    Uuid: {"type": "string", "format": "uuid"},
    Numeric: _STORED,
    DateTime: INSTANT,
    Text: {"type": "string"},
}


def components() -> dict[str, Schema]:
    """The named schemas of the document."""
    return {
        "Event": _event(),
        "EventPage": _object(
            data={"type": "array", "items": ref("Event"), "maxItems": 100},
            pagination=_object(
                cursor=_nullable({"type": "string", "description": "Ask with it for the next page; null on the last."}),
                has_more={"type": "boolean"},
                limit={"type": "integer", "minimum": 1, "maximum": 100},
            ),
        ),
        "Point": _object(
            start={**INSTANT, "description": "Start of the whole bucket, never clipped."},
            end={**INSTANT, "description": "End of the whole bucket, never clipped."},
            value={"anyOf": [{"type": "integer", "description": "A count."}, _DECIMAL]},
            complete={
                "type": "boolean",
                "description": "False where the bucket is cut by the window or still filling.",
            },
        ),
        "Series": _object(
            key=_nullable({"type": "string", "description": "The value; null unless `kind` is `value`."}),
            kind={"type": "string", "enum": list(get_args(SeriesKind))},
            label={"type": "string"},
            total={"anyOf": [{"type": "integer", "description": "A count."}, _DECIMAL]},
            points={"type": "array", "items": ref("Point")},
        ),
        "Aggregate": _aggregate(),
        "Problem": _problem(),
        "State": _object(state={"type": "string", "enum": ["ok"]}),
    }


def ref(name: str) -> Schema:
    """A reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def _event() -> Schema:
    fields: dict[str, Schema] = {}
    for column in events_table().columns:
        schema = next((schema for kind, schema in _COLUMNS.items() if isinstance(column.type, kind)), None)
        if schema is None:
            schema = {
                "description": "The event's free-form keys. Numbers that a float does not carry exactly are text.",
                "type": ["object", "array", "string", "number", "boolean", "null"],
                "examples": [{"model": "large", "region": "eu"}],
            }
        fields[column.name] = _nullable(schema) if column.nullable else schema
    return _object(**fields)


def _aggregate() -> Schema:
    declared = AggregateQuery.model_json_schema()["properties"]
    echoed = {name: {"enum": declared[name]["enum"], "type": "string"} for name in ("bucket", "metric")}
    return _object(
        **echoed,
        group_by={"type": "string"},
        since={**INSTANT, "description": "As it took effect: absolute, and capped where `capped` says so."},
        until=INSTANT,
        timezone={"type": "string"},
        top={name: declared["top"][name] for name in ("type", "minimum", "maximum")},
        as_of=_nullable(INSTANT),
        capped={"type": "boolean", "description": "Whether `since` was moved to keep 2,400 buckets."},
        metrics={
            "type": "integer",
            "minimum": 0,
            "description": "How many different metrics are added up: a sum over several has no unit.",
        },
        filters={
            "type": "object",
            "description": "Each filter parameter to its values.",
            "additionalProperties": {"type": "array", "items": {"type": "string"}, "minItems": 1},
        },
        series={"type": "array", "items": ref("Series")},
    )


def _problem() -> Schema:
    fault = _object(parameter={"type": "string"}, message={"type": "string"})
    fields: Schema = {
        "type": {"type": "string", "format": "uri", "enum": [kind.urn for kind in Kind]},
        "title": {"type": "string"},
        "status": {"type": "integer", "enum": sorted({kind.status.value for kind in Kind})},
        "detail": {"type": "string"},
        "request_id": {"type": "string", "description": "Finds the request in the server's log."},
        "errors": {"type": "array", "items": fault, "description": "Everything wrong with the question."},
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
