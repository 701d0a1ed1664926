"""Rows of the events table from records of a file, by documented column names or `--map column=source`."""

from __future__ import annotations

import difflib
import hashlib
import re
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID

from usage_explore.db.schema import COLUMNS
from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.exact_json import dumps, loads, loads_object
from usage_explore.files.values import (
    InvalidValue,
    code_text,
    idempotency_key_text,
    metric_key_text,
    number_text,
    time_text,
    uuid_text,
)

Row = list[str | None]
"""Text for every documented column in order; None is null, in id, ingested_at and idempotency_key the default."""

Problems = list[tuple[str, str]]
"""(column, reason) for every value of a record that cannot be loaded."""

MAX_LISTED_COLUMNS = 20
"""Columns of a file that an error names."""

_NO_SOURCE = "\0"
"""Source of a column that has none, because its own name is mapped to another column."""


class Reader(NamedTuple):
    """How a documented column is read: the kind of value, the function that reads it, whether it is required."""

    kind: str
    read: Callable[[object], str]
    required: bool = False


def _dimensions(raw: object) -> str:
    return _dimensions_text(raw) if type(raw) is str else dumps(loads_object(raw))


@lru_cache(maxsize=4096)
def _dimensions_text(text: str) -> str:
    return dumps(loads_object(text))


READERS: Mapping[str, Reader] = {
    "id": Reader("uuid", uuid_text),
    "organization_id": Reader("uuid", uuid_text, required=True),
    "customer_id": Reader("uuid", uuid_text, required=True),
    "product_id": Reader("uuid", uuid_text),
    "subscription_id": Reader("uuid", uuid_text),
    "metric_key": Reader("text", metric_key_text, required=True),
    "price_key": Reader("text", code_text),
    "quantity": Reader("number", number_text, required=True),
    "timestamp": Reader("time", time_text, required=True),
    "ingested_at": Reader("time", time_text),
    "idempotency_key": Reader("text", idempotency_key_text),
    "external_cost_amount": Reader("number", number_text),
    "external_cost_currency": Reader("text", code_text),
    "wallet_currency": Reader("text", code_text),
    "dimensions": Reader("object", _dimensions),
}
"""The documented columns, in order."""

SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "customer_id": ("customer", "customeruuid"),
    "metric_key": ("metric", "metricname", "meter", "metername"),
    "quantity": ("qty", "usage", "usagequantity", "usageamount"),
    "timestamp": ("time", "datetime", "eventtime", "occurredat"),
}
"""Required column -> names in other systems that mean the same, in lower case without spaces and punctuation."""

REQUIRED = tuple(column for column, reader in READERS.items() if reader.required)


class RowMapper(ABC):
    """How the records of one file become rows."""

    assume_utc = False

    @abstractmethod
    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Column of the file -> kind of the documented column that it gives."""

    @abstractmethod
    def check(self, path: Path, names: Iterable[str]) -> None:
        """Raise `LoadError`, with a hint, when a file with these columns cannot be loaded this way."""

    @abstractmethod
    def row(self, record: Mapping[str, Any]) -> Row:
        """The row. Raises `InvalidValue` when a value cannot be loaded."""

    @abstractmethod
    def problems(self, record: Mapping[str, Any]) -> Problems:
        """All problems of a record for which `row` raised."""

    def notes(self) -> list[str]:
        """Sentences for the report on values that rows read since the last call lack."""
        return []


class DocumentedMapper(RowMapper):
    """Rows by documented column names; `mapping` (documented column -> column of the file) gives other names.

    Further columns are loaded as dimensions if `dimensions`, else they are an error. Empty text is null in a column
    that is not text. `organization_id` is the organization of rows that name none.
    """

    def __init__(self, mapping: Mapping[str, str], *, dimensions: bool, organization_id: UUID | None) -> None:
        check_mapping(mapping)
        self.mapping = dict(mapping)
        self._dimensions = dimensions
        self._organization = str(organization_id) if organization_id else None
        taken = set(self.mapping.values())
        self._source: dict[str, str] = {column: column for column in COLUMNS if column not in taken} | self.mapping
        self._known = frozenset(self._source.values())
        self._fields = [
            (self._source.get(column, _NO_SOURCE), column, reader.read, reader.kind == "text")
            for column, reader in READERS.items()
        ]
        self._required = [list(READERS).index(column) for column in REQUIRED]
        self._dimensions_index = list(READERS).index("dimensions")
        self._organization_index = list(READERS).index("organization_id")

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Source column -> kind of value it must have."""
        present = set(names)
        return {source: READERS[column].kind for column, source in self._source.items() if source in present}

    def check(self, path: Path, names: Iterable[str]) -> None:
        """Raise `LoadError` when columns are missing, unknown or not what is mapped."""
        present = dict.fromkeys(names)
        for column, source in self.mapping.items():
            if source not in present:
                raise LoadError(
                    f"{path}: has no column {source!r} to map to {column}{_like(source, present)}; "
                    f"it has {_list(present)}"
                )
        if self._source.get("organization_id") not in present and self._organization is None:
            raise LoadError(
                f"{path}: whose events are these? Give --organization-id UUID, "
                "or a column organization_id (--map organization_id=COLUMN)"
            )
        missing = [
            column for column in REQUIRED if column != "organization_id" and self._source.get(column) not in present
        ]
        if missing:
            free = [name for name in present if name not in self._known]
            options = (shlex.quote(f"{column}={_synonym(column, free) or 'COLUMN'}") for column in missing)
            taken = [
                f"; its column {column} is mapped to {target}"
                for target, column in self.mapping.items()
                if column in missing and column in present
            ]
            raise LoadError(
                f"{path}: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
                f"{'are' if len(missing) > 1 else 'is'} missing; where the file has them by other names, load it with "
                f"--map {' --map '.join(options)}; the file has {_list(present)}{''.join(taken)}"
            )
        unknown = [name for name in present if name not in self._known]
        if unknown and not self._dimensions:
            source = self.mapping.get(unknown[0])
            hint = f" ({unknown[0]} is mapped from {source!r})" if source else _like(unknown[0], COLUMNS)
            raise LoadError(
                f"{path}: unknown column{'s' if len(unknown) > 1 else ''} {_list(unknown)}{hint}; "
                "keep them as dimensions with --dimensions, or name their meaning with --map column=source"
            )

    def row(self, record: Mapping[str, Any]) -> Row:
        """The row. Raises `InvalidValue`."""
        get = record.get
        row: Row = []
        for source, _, read, text in self._fields:
            raw = get(source)
            row.append(None if raw is None or (raw == "" and not text) else read(raw))
        if row[self._organization_index] is None:
            row[self._organization_index] = self._organization
        for index in self._required:
            if row[index] is None:
                raise InvalidValue("is missing")
        if not self._known.issuperset(record):
            row[self._dimensions_index] = self._merged(record)
        elif row[self._dimensions_index] is None:
            row[self._dimensions_index] = "{}"
        return row

    def _merged(self, record: Mapping[str, Any]) -> str | None:
        """The dimensions, including the further columns of the record."""
        further = {name: value for name, value in record.items() if value is not None and name not in self._known}
        raw = record.get(self._source.get("dimensions", _NO_SOURCE))
        if raw is None or raw == "":
            return dumps(further)
        given = loads_object(raw)
        for name, value in further.items():
            if name in given and given[name] != value:
                raise InvalidValue(f"has {name!r} too, with another value than the column {name!r}")
        return dumps({**given, **further})

    def problems(self, record: Mapping[str, Any]) -> Problems:
        """All problems of the record."""
        problems: Problems = []
        for source, column, read, text in self._fields:
            raw = record.get(source)
            if raw is None or (raw == "" and not text):
                own = column != "organization_id" or self._organization is None
                if READERS[column].required and own:
                    problems.append((self._label(column), "is missing"))
                continue
            try:
                read(raw)
            except InvalidValue as error:
                problems.append((self._label(column), str(error)))
        if not problems:
            try:
                self._merged(record)
            except InvalidValue as error:
                problems.append(("dimensions", str(error)))
        return problems

    def _label(self, column: str) -> str:
        source = self.mapping.get(column)
        return f"{column} (from {source!r})" if source else column


def check_mapping(mapping: Mapping[str, str]) -> None:
    """Raise `ConfigurationError` for a mapping to something that is not a documented column."""
    for column in mapping:
        if column not in READERS:
            raise ConfigurationError(
                f"map: {column!r} is not a column of the events table{_like(column, COLUMNS)}; "
                f"there are {', '.join(COLUMNS)}"
            )


def row_hash(row: Row) -> str:
    """The idempotency key of a row without one: equal for equal content in any file format and order of columns."""
    parts = [
        value if value is None or READERS[column].kind in {"uuid", "text", "time"} else _canonical(column, value)
        for column, value in zip(COLUMNS, row, strict=True)
    ]
    return "row:" + hashlib.blake2b(dumps(parts).encode(), digest_size=16).hexdigest()


def _canonical(column: str, value: str) -> str:
    if READERS[column].kind == "object":
        return "{}" if value == "{}" else dumps(loads(value), sort=True)
    sign = "-" if value.startswith("-") else ""
    mantissa, _, exponent = value.lstrip("+-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction) + len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    return f"{sign}{digits}e{power}" if digits else "0"


def _like(name: str, choices: Iterable[str]) -> str:
    near = difflib.get_close_matches(name.lower(), {choice.lower(): choice for choice in choices}, n=1)
    if not near:
        return ""
    return f" (did you mean {next(choice for choice in choices if choice.lower() == near[0])}?)"


def _synonym(column: str, names: Iterable[str]) -> str | None:
    """The first of the names that means the column, by `SYNONYMS`; a similar spelling does not count."""
    meanings = {column.replace("_", ""), *SYNONYMS.get(column, ())}
    return next((name for name in names if re.sub(r"[\W_]", "", name).lower() in meanings), None)


def _list(names: Iterable[str]) -> str:
    quoted = [name if name.isidentifier() else repr(name) for name in names]
    more = len(quoted) - MAX_LISTED_COLUMNS
    return ", ".join(quoted[:MAX_LISTED_COLUMNS]) + (f" and {more} more" if more > 0 else "")
