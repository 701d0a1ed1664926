"""The dimensions of an event: the file's further columns, JSON members and tags."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from usage_explore.files.exact_json import dumps, loads_object
from usage_explore.files.values import InvalidValue
from usage_explore.load.paths import member
from usage_explore.load.readers import is_number


class DimensionReader:
    """Gives the dimensions of records.

    `used` are columns and paths that are no dimensions. `flattened` are columns of which paths are used: their other
    members are dimensions by their path, but for numbers directly in `measured`. `tags` are JSON objects whose members
    are dimensions with a prefix. `keep` is whether further columns are dimensions at all. `null` are texts for no
    value.
    """

    def __init__(
        self,
        used: frozenset[str],
        flattened: frozenset[str],
        *,
        tags: Mapping[str, str],
        measured: str,
        keep: bool,
        null: frozenset[str],
    ) -> None:
        self._used = used
        self._flattened = flattened
        self._tags = tags
        self._measured = measured + "." if measured else ""
        self._keep = keep
        self._null = null

    def reads_none_of(self, names: Iterable[str]) -> bool:
        """Whether none of the columns becomes a dimension."""
        return not self._tags and self._used.issuperset(names)

    def text(self, record: Mapping[str, Any], own: str | None) -> str:
        """The dimensions as JSON text. `own` is that of the column `dimensions`. Raises `InvalidValue`."""
        if self._used.issuperset(record):
            return own or "{}"
        further: dict[str, Any] = {}
        for name, value in record.items():
            if value is None or name in self._used or (type(value) is str and value in self._null):
                continue
            if name in self._flattened:
                if isinstance(value, str) and value.lstrip().startswith("{"):
                    value = loads_object(value)
                if isinstance(value, Mapping):
                    further.update(self._members(value, name + "."))
                    continue
            if self._keep:
                further[name] = value
        for source, prefix in self._tags.items():
            further.update(self._tag_members(record, source, prefix))
        if own is None or own == "{}":
            return dumps(further)
        given = loads_object(own)
        for name, value in further.items():
            if name in given and given[name] != value:
                raise InvalidValue(f"has {name!r} too, with another value than the column {name!r}")
        return dumps({**given, **further})

    def _members(self, value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, item in value.items():
            path = prefix + name
            if item is None or path in self._used or not self._keep:
                continue
            if isinstance(item, Mapping):
                yield from self._members(item, path + ".")
            elif not (prefix == self._measured and is_number(item)):
                yield path, item

    def _tag_members(self, record: Mapping[str, Any], source: str, prefix: str) -> Iterator[tuple[str, Any]]:
        tags = member(record, source)
        if tags is None or tags == "" or (type(tags) is str and tags in self._null):
            return
        if type(tags) is str and not tags.lstrip().startswith("{"):
            tags = f"{{{tags}}}"
        try:
            members = loads_object(tags)
        except InvalidValue as error:
            raise InvalidValue(f"{source} {error}") from None
        for key, value in members.items():
            if value is not None:
                yield prefix + key, value
