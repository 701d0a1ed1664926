"""Values in nested JSON by dotted paths, such as data.usage.input_tokens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from usage_explore.files.exact_json import loads, loads_object
from usage_explore.files.values import InvalidValue


def member(record: Mapping[str, Any], path: str) -> Any:
    """The value of a column, or of a dotted path into its JSON or JSON text; None where there is none."""
    if path in record:
        return record[path]
    name, dot, rest = path.partition(".")
    value = record.get(name) if dot else None
    while dot:
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = loads_object(value)
        if not isinstance(value, Mapping):
            return None
        if rest in value:
            return value[rest]
        name, dot, rest = rest.partition(".")
        value = value.get(name)
    return value


def exploded(record: Mapping[str, Any], path: str) -> Iterator[Mapping[str, Any]]:
    """A record for each item of the list at `path`, with the other columns; the record itself without a path.

    Raises `InvalidValue` where there is no list of objects.
    """
    if not path:
        yield record
        return
    items = member(record, path)
    if isinstance(items, str):
        items = loads(items)
    if not isinstance(items, list):
        raise InvalidValue(f"has no list {path!r}")
    rest = {name: value for name, value in record.items() if name != path}
    for item in items:
        if not isinstance(item, Mapping):
            raise InvalidValue(f"has an item in {path!r} that is no object")
        yield {**rest, **item}
