"""Parts of the OpenAPI schemas: instants, exact decimals, counts, names; objects in which every field is required."""

from __future__ import annotations

from usage_explore.api.parameters import Schema

INSTANT: Schema = {"type": "string", "format": "date-time", "examples": ["2026-09-01T00:00:00Z"]}

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
