"""OpenAPI parameters made from the fields that the questions declare: nothing is said twice."""

from __future__ import annotations

from datetime import datetime
from typing import Any, get_args
from uuid import UUID

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from usage_explore.query.filters import DIMENSION, EMPTY, GROUPS, TEXT_COLUMNS
from usage_explore.query.url_params import NOT

Schema = dict[str, Any]

# the bounds in bytes, and of several parameters together, no schema can say: the document's description does
_TEXT: Schema = {"type": "string", "minLength": 1}
_MANY: Schema = {"type": "array", "minItems": 1}
_DIMENSION = f"{DIMENSION}.+"
_GROUP = "|".join((*GROUPS, _DIMENSION))
_RELATIVE = r"^(now|-[1-9][0-9]{0,5}[hdw])(/[hdw])?$"
_VALUES: dict[str, Schema] = {
    "missing": {**_MANY, "items": {"type": "string", "pattern": f"^({_GROUP})$"}},
    "group_by": {"type": "string", "pattern": f"^(none|{_GROUP})$"},
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
_EMPTY_TEXT: Schema = {
    "name": EMPTY,
    "in": "query",
    "required": False,
    "description": "The empty text as one of the values of this column: `price_key=` without a value is an error.",
    "schema": {**_MANY, "items": {"type": "string", "enum": list(TEXT_COLUMNS)}, "examples": [["price_key"]]},
    "style": "form",
    "explode": True,
}
_SPREAD = {"dimensions": DIMENSION.rstrip(":"), "exclude": NOT.rstrip(":")}


def parameters(model: type[BaseModel], *, without: tuple[str, ...] = ()) -> list[Schema]:
    """The query parameters of a question, each as OpenAPI 3.1 describes it.

    `dim:<key>` and `not:<parameter>` are objects whose properties are written one by one, prefix and all.
    """
    properties = model.model_json_schema()["properties"]
    found = [
        _parameter(name, field, properties[name]) for name, field in model.model_fields.items() if name not in without
    ]
    return [*found, _EMPTY_TEXT] if "price_key" in properties else found


def _parameter(name: str, field: FieldInfo, declared: Schema) -> Schema:
    schema = {**_schema(name, field, declared)}
    if field.default not in (None, ()):
        schema["default"] = field.default
    if field.examples:
        schema["examples"] = [field.examples] if schema["type"] == "array" else field.examples
    elif "enum" in schema or "default" in schema:
        schema["examples"] = schema.get("enum") or [schema["default"]]
    found: Schema = {
        "name": _SPREAD.get(name, name),
        "in": "query",
        "required": False,
        "description": field.description,
        "schema": schema,
    }
    if schema.get("type") in ("array", "object"):
        found |= {"style": "form", "explode": True}
    return found


def _schema(name: str, field: FieldInfo, declared: Schema) -> Schema:
    if name in _VALUES:
        return _VALUES[name]
    kinds = set(get_args(field.annotation))
    if UUID in kinds:
        return {"type": "string", "format": "uuid"}
    if datetime in kinds and str in kinds:
        return {"type": "string", "anyOf": [{"format": "date-time"}, {"pattern": _RELATIVE}]}
    if datetime in kinds:
        return {"type": "string", "format": "date-time"}
    if field.default == ():
        return {**_MANY, "items": _TEXT}
    # an optional value is left out, never null
    chosen = next((each for each in declared.get("anyOf", []) if each.get("type") != "null"), declared)
    kept = {key: chosen[key] for key in ("type", "enum", "minimum", "maximum") if key in chosen}
    return {**_TEXT, **kept} if kept == {"type": "string"} else kept
