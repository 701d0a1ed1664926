"""What several columns of a file give together: the time of an event, its cost, and its dimensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, time
from decimal import Decimal
from typing import Any

from usage_explore.decimals import exact_product, plain, total
from usage_explore.files.decimal_marks import is_number
from usage_explore.files.exact_json import dumps, loads, loads_object
from usage_explore.files.values import InvalidValue, Unreadable, code_text
from usage_explore.load.mapping import NamePattern
from usage_explore.load.numbers import CODES_OF_SIGNS
from usage_explore.load.paths import amounts, member


def currency_text(raw: object) -> str:
    """A currency code in capitals, as some APIs write usd; of a sign that means one currency its code."""
    text = code_text(code_text(raw).strip()).upper()
    return CODES_OF_SIGNS.get(text, text)


def joined_time(parts: Mapping[str, object]) -> str | Unreadable | None:
    """The text of a time from the columns of its parts, such as date and time of day, with a space between them.

    None where all are empty. `parts` are the values by column.
    """
    texts = {name: value.strip() if isinstance(value, str) else value for name, value in parts.items()}
    empty = [name for name, value in texts.items() if value is None or value == ""]
    if len(empty) == len(parts):
        return None
    if empty:
        filled = next(name for name in parts if name not in empty)
        return Unreadable(f"has a value in {filled!r}, but none in {empty[0]!r}")
    for value in texts.values():
        if isinstance(value, Unreadable):
            return value
    return " ".join(map(_part, texts.values()))


def _part(value: object) -> str:
    """The text of a date or a time of day; a spreadsheet's date is a datetime at midnight."""
    if isinstance(value, datetime) and value.time() == time():
        value = value.date()
    return str(value)


class CostReader:
    """Gives the cost of a record, exactly.

    `factors` are columns, or numbers, whose product is the cost of a record without one of its own; `plus` are columns,
    or paths into lists of objects, that are added. `number` reads a number, None where there is none.
    """

    def __init__(
        self, factors: Sequence[str | Decimal], plus: Sequence[str], number: Callable[[object], str | None]
    ) -> None:
        self._factors = factors
        self._plus = plus
        self._number = number

    def cost(self, own: str | None, record: Mapping[str, Any]) -> str | None:
        """The cost as text; `own` is that of the cost column. Raises `InvalidValue`."""
        if own is None and self._factors:
            own = self._product(record)
        texts = [self._number(value) for source in self._plus for value in amounts(record, source)]
        parts = [Decimal(text) for text in texts if text is not None]
        return plain(total([Decimal(own or 0), *parts])) if parts else own

    def _product(self, record: Mapping[str, Any]) -> str | None:
        factors = []
        for factor in self._factors:
            text = self._number(member(record, factor)) if isinstance(factor, str) else factor
            if text is None:
                return None
            factors.append(Decimal(text))
        return plain(exact_product(factors))


class DimensionReader:
    """Gives the dimensions of records.

    `used` are columns and paths that are no dimensions. `flattened` are columns of which paths are used: their other
    members are dimensions by their path, but for numbers directly in `measured` whose name fits `measure_name`;
    `flatten` does so with every object. `tags` are JSON objects whose members are dimensions with a prefix, and
    `tag_columns` beginnings of columns that are such members. `all_columns` is whether all further columns are
    dimensions; `keep` are those that are in any case. `null` are texts for no value.
    """

    def __init__(
        self,
        used: frozenset[str],
        flattened: frozenset[str],
        *,
        tags: Mapping[str, str],
        tag_columns: Mapping[str, str],
        measured: Sequence[str],
        measure_name: NamePattern,
        all_columns: bool,
        keep: Sequence[str],
        flatten: bool,
        null: frozenset[str],
    ) -> None:
        self._used = used
        self._flattened = flattened
        self._tags = tags
        self._tag_columns = tag_columns
        self._measured = [f"{source}." for source in measured]
        self._measure_name = measure_name
        self._all_columns = all_columns
        self._keep = keep
        self._flatten = flatten
        self._null = null

    def reads_none_of(self, names: Iterable[str]) -> bool:
        """Whether none of the columns becomes a dimension."""
        return not (self._tags or self._tag_columns or self._keep) and self._used.issuperset(names)

    def text(self, record: Mapping[str, Any], own: str | None) -> str:
        """The dimensions as JSON text. `own` is that of the column `dimensions`. Raises `InvalidValue`."""
        if self._used.issuperset(record):
            return own or "{}"
        further: dict[str, Any] = {}
        for name, value in record.items():
            if name in self._used or self._is_empty(value):
                continue
            if name in self._flattened or (self._flatten and isinstance(value, Mapping)):
                if isinstance(value, str) and value.lstrip().startswith("{"):
                    value = loads_object(value)
                if isinstance(value, Mapping):
                    further.update(self._members(value, name + "."))
                    continue
            dimension = self._dimension(name)
            if self._all_columns or dimension != name:
                further[dimension] = value
        for source in self._keep:
            value = member(record, source)
            if value != "" and not self._is_empty(value):
                further[source] = value
        for source, prefix in self._tags.items():
            further.update(self._tag_members(record, source, prefix))
        if own is None or own == "{}":
            return dumps(further)
        given = loads_object(own)
        for name, value in further.items():
            if name in given and given[name] != value:
                raise InvalidValue(f"has {name!r} too, with another value than the column {name!r}")
        return dumps({**given, **further})

    def _is_empty(self, value: object) -> bool:
        return value is None or (self._flatten and value == []) or (type(value) is str and value in self._null)

    def _dimension(self, name: str) -> str:
        """The name of the dimension that a column becomes: the tag's, where the column is one."""
        for start, prefix in self._tag_columns.items():
            if name.startswith(start):
                return prefix + name.removeprefix(start)
        return name

    def _members(self, value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        for name, item in value.items():
            path = prefix + name
            if path in self._used or not self._all_columns or self._is_empty(item):
                continue
            if isinstance(item, Mapping):
                yield from self._members(item, path + ".")
            elif not (prefix in self._measured and self._measure_name.matches(name) and is_number(item)):
                yield path, item

    def _tag_members(self, record: Mapping[str, Any], source: str, prefix: str) -> Iterator[tuple[str, Any]]:
        tags = member(record, source)
        if tags == "" or self._is_empty(tags):
            return
        try:
            members = _tags(tags)
        except InvalidValue as error:
            raise InvalidValue(f"{source} {error}") from None
        for key, value in members.items():
            if value is not None:
                yield prefix + key, value


def _tags(value: object) -> Mapping[str, Any]:
    """The tags in a JSON object, in its members without braces, or in a list of {"key": ..., "value": ...}.

    Text whose quotes are doubled, {""env"": ""prod""}, is read as {"env": "prod"}. Raises `InvalidValue`.
    """
    if isinstance(value, str):
        text = value.strip()
        if not text.startswith(("{", "[")):
            text = f"{{{text}}}"
        try:
            value = loads(text)
        except InvalidValue:
            if '""' not in text:
                raise
            value = loads(text.replace('""', '"'))
    if isinstance(value, list):
        return {str(item["key"]): item.get("value") for item in value if isinstance(item, Mapping) and item.get("key")}
    return loads_object(value)
