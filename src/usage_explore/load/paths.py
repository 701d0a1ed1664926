"""Values in nested JSON by dotted paths, such as data.usage.input_tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from usage_explore.files.exact_json import loads, loads_object
from usage_explore.files.values import InvalidValue

_TOTAL = re.compile(r"(?i)total_?(.*)|(.*?)_?total")


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
    """A record for each item of the list at `path`, with all but the list; the record itself without a path.

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
    rest = _without(record, path)
    for item in items:
        if not isinstance(item, Mapping):
            raise InvalidValue(f"has an item in {path!r} that is no object")
        yield {**rest, **item}


def _without(record: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The record without the member at a path, and without the objects that had nothing else."""
    others = {name: value for name, value in record.items() if name != path}
    top, dot, rest = path.partition(".")
    if path in record or not dot or top not in record:
        return others
    value = others[top]
    value = loads_object(value) if isinstance(value, str) else value
    if inner := _without(value, rest):
        return {**others, top: inner}
    del others[top]
    return others


def amounts(record: Mapping[str, Any], path: str) -> Iterator[Any]:
    """The values of a column, or those at a path into a list of objects: "credits.amount" of each of the credits."""
    value, rest = record.get(path), ""
    if value is None:
        name, _, rest = path.partition(".")
        value = record.get(name)
        if isinstance(value, str) and value.lstrip().startswith("["):
            value = loads(value)
    for item in value if isinstance(value, list) else [value]:
        amount = member(item, rest) if isinstance(item, Mapping) else item
        if amount is not None and amount != "":
            yield amount


def is_total(name: str, names: Iterable[str]) -> bool:
    """Whether a member is the sum of others: total_tokens beside prompt_tokens, or total beside anything."""
    match = _TOTAL.fullmatch(name)
    if match is None:
        return False
    unit = (match[1] or match[2] or "").lower()
    return any(other != name and not _TOTAL.fullmatch(other) and other.lower().endswith(unit) for other in names)
