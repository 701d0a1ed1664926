"""The OpenAPI parameters of operations, which follow from the fields that their queries declare.

Beside them are the parts of all schemas: instants, exact decimals, counts, names; objects in which every field is
required.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Any, get_args
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from usage_explore.query.buckets import CALENDAR_WINDOWS
from usage_explore.query.filters import DIMENSION, EMPTY, EMPTY_COLUMNS, GROUPS, LOOKED_UP
from usage_explore.query.url_params import NOT
from usage_explore.remote.operations import BASELINES, REQUIRED
from usage_explore.results.types import json_value

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
SCHEMAS: dict[str, Schema] = {
    "id": {**_MANY, "items": {"type": "string", "format": "uuid"}},
    "window": {"type": "string", "pattern": f"^({'|'.join(CALENDAR_WINDOWS)}|{_MONTH})$"},
    "quantity_min": {"type": "string", "pattern": _NUMBER},
    "quantity_max": {"type": "string", "pattern": _NUMBER},
    "expected": {"type": "string", "pattern": _NUMBER},
    "group": {"type": "string", "pattern": f"^({_GROUP})$"},
    "baseline": {
        "type": "string",
        "anyOf": [{"enum": list(BASELINES)}, {"pattern": f"^{_INSTANT_TEXT}/{_INSTANT_TEXT}$"}],
    },
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
}
_OBJECT_NAMES = {"dimensions": DIMENSION.rstrip(":"), "exclude": NOT.rstrip(":")}


def parameters(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> list[Schema]:
    """The OpenAPI parameters of a query.

    `dim:<key>` and `not:<parameter>` are exploded objects: their properties are parameters, with the prefix.
    """
    properties = _properties(model)
    fields = {name: field for name, field in model.model_fields.items() if name not in without}
    own = {"exclude": _exclusions(model)} if "exclude" in fields else {}
    result = [_parameter(name, field, own.get(name) or properties[name]) for name, field in fields.items()]
    return [*result, _empty_parameter(model)] if "price_key" in fields else result


@cache
def _properties(model: type[BaseModel]) -> dict[str, Schema]:
    """The JSON Schema of each field; to make it takes 5 ms, and a query has several operations."""
    properties: dict[str, Schema] = model.model_json_schema()["properties"]
    return properties


def _exclusions(model: type[BaseModel]) -> Schema:
    excludable = "|".join((_GROUP, *(name for name in LOOKED_UP if name in model.model_fields)))
    return {
        "type": "object",
        "patternProperties": {
            f"^{NOT}({excludable})$": {"type": "string"},
            f"^{NOT}missing$": {"type": "string", "pattern": f"^({_GROUP})$"},
            f"^{NOT}{EMPTY}$": {"type": "string", "enum": _texts(model)},
        },
        "additionalProperties": False,
    }


def _empty_parameter(model: type[BaseModel]) -> Schema:
    return {
        "name": EMPTY,
        "in": "query",
        "required": False,
        "description": "The empty text as one of the values of this column; `price_key=` without a value is an error.",
        "schema": {**_MANY, "items": {"type": "string", "enum": _texts(model)}, "examples": [["price_key"]]},
        "style": "form",
        "explode": True,
    }


def _texts(model: type[BaseModel]) -> list[str]:
    """The columns of a query whose value may be the empty text."""
    return [name for name in EMPTY_COLUMNS if name in model.model_fields]


def _parameter(name: str, field: FieldInfo, declared: Schema) -> Schema:
    schema = {**_schema(name, field, declared)}
    if field.default not in (None, ()):
        schema["default"] = json_value(field.default)
    if field.examples:
        schema["examples"] = [field.examples] if schema["type"] == "array" else field.examples
    elif "enum" in schema or "default" in schema:
        schema["examples"] = schema.get("enum") or [schema["default"]]
    parameter: Schema = {
        "name": _OBJECT_NAMES.get(name, name),
        "in": "query",
        "required": field.json_schema_extra == REQUIRED,
        "description": field.description,
        "schema": schema,
    }
    if schema.get("type") in ("array", "object"):
        parameter |= {"style": "form", "explode": True}
    return parameter


def _schema(name: str, field: FieldInfo, declared: Schema) -> Schema:
    if name in SCHEMAS:
        return SCHEMAS[name]
    if declared.get("type") == "object":
        return declared
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


INSTANT: Schema = {"type": "string", "format": "date-time", "examples": ["2026-09-01T00:00:00Z"]}

EXISTS_SINCE: Schema = {
    **INSTANT,
    "type": ["string", "null"],
    "description": "Time of the first event, if older ones were removed and the window begins before: what began"
    " before it is not complete.",
}

_PLAIN = r"-?[0-9]+(\.[0-9]+)?"
DECIMAL: Schema = {
    "type": "string",
    "pattern": f"^{_PLAIN}$",
    "description": "An exact decimal, written plainly.",
    "examples": ["2.5"],
}
STORED_DECIMAL: Schema = {
    "type": "string",
    "pattern": f"^({_PLAIN}|NaN|-?Infinity)$",
    "description": "An exact decimal, written plainly; NaN or Infinity if the table has that.",
    "examples": ["2.5"],
}
NAME = "From the directory of names, null if unknown; not part of what a pinned query promises."
NAME_OF_ID: Schema = {"type": ["string", "null"], "description": f"{NAME} Only of an id."}
COUNT: Schema = {"type": "integer", "minimum": 0}


def ref(name: str) -> Schema:
    """A reference to a named schema."""
    return {"$ref": f"#/components/schemas/{name}"}


def strict_object(**properties: Schema) -> Schema:
    """An object with all of the properties and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def list_of(**properties: Schema) -> Schema:
    """A list of such objects."""
    return {"type": "array", "items": strict_object(**properties)}


def nullable(schema: Schema) -> Schema:
    """The schema, or null."""
    return {**schema, "type": [schema["type"], "null"]}
