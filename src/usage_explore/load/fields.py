"""The documented columns of the events, how a value of each is read, and the key of a row without one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from usage_explore.db.schema import COLUMNS
from usage_explore.files.exact_json import dumps, loads, loads_object
from usage_explore.files.values import (
    code_text,
    idempotency_key_text,
    metric_key_text,
    number_text,
    uuid_text,
)
from usage_explore.load.joined_columns import currency_text, joined_time
from usage_explore.load.paths import member


def _dimensions(raw: object) -> str:
    return _dimensions_text(raw) if type(raw) is str else dumps(loads_object(raw))


@lru_cache(maxsize=4096)
def _dimensions_text(text: str) -> str:
    return dumps(loads_object(text))


KINDS: Mapping[str, str] = {
    "id": "uuid",
    "organization_id": "id",
    "customer_id": "id",
    "product_id": "id",
    "subscription_id": "id",
    "metric_key": "text",
    "price_key": "text",
    "quantity": "number",
    "timestamp": "time",
    "ingested_at": "time",
    "idempotency_key": "text",
    "external_cost_amount": "number",
    "external_cost_currency": "text",
    "wallet_currency": "text",
    "dimensions": "object",
}
"""The documented columns, in order, and the kind of value of each."""

REQUIRED = ("organization_id", "customer_id", "metric_key", "quantity", "timestamp")
"""Documented columns that every event has; the table makes the others."""

READERS: Mapping[str, Callable[[object], str]] = {
    "id": uuid_text,
    "metric_key": metric_key_text,
    "price_key": code_text,
    "quantity": number_text,
    "idempotency_key": idempotency_key_text,
    "external_cost_amount": number_text,
    "external_cost_currency": currency_text,
    "wallet_currency": code_text,
    "dimensions": _dimensions,
}
"""The function that reads a column; those of ids and times are made for each file."""


class Field(NamedTuple):
    """A documented column of the events: its sources in the file, each with the function that reads its values.

    `null` are texts for no value. An empty text is no value either, unless `keeps_empty_text`. `joined` are the sources
    of times that several columns of the file give: "Date+Time" -> ("Date", "Time").
    """

    column: str
    place: int
    readers: tuple[tuple[str, Callable[[object], str]], ...]
    keeps_empty_text: bool
    null: frozenset[str]
    joined: Mapping[str, tuple[str, ...]]

    def first(self, record: Mapping[str, Any]) -> tuple[str, Callable[[object], str], Any] | None:
        """The first of the sources that has a value in the record, with its reader and the value."""
        for source, read in self.readers:
            raw = record.get(source)
            if raw is None and (raw := self._computed(record, source)) is None:
                continue
            if raw == "" and not self.keeps_empty_text:
                continue
            if self.null and type(raw) is str and raw.strip() in self.null:
                continue
            return source, read, raw
        return None

    def _computed(self, record: Mapping[str, Any], source: str) -> Any:
        """The value that is in no column of the name: at a path, or joined from several columns."""
        if columns := self.joined.get(source):
            values = {name: member(record, name) for name in columns}
            return joined_time(
                {name: None if isinstance(raw, str) and raw in self.null else raw for name, raw in values.items()}
            )
        return member(record, source) if "." in source else None


_CANONICAL: Mapping[str, str] = {
    "quantity": "number",
    "external_cost_amount": "number",
    "dimensions": "object",
}
"""Columns whose text may differ for equal values."""

_KINDS = tuple(_CANONICAL.get(column) for column in COLUMNS)


def row_hash(row: Sequence[str | None]) -> str:
    """Equal for equal content in any file format and order of columns."""
    parts = [
        value if value is None or kind is None else _object(value) if kind == "object" else _number(value)
        for kind, value in zip(_KINDS, row, strict=True)
    ]
    return "row:" + hashlib.blake2b(dumps(parts).encode(), digest_size=16).hexdigest()


def _object(value: str) -> str:
    return "{}" if value == "{}" else dumps(loads(value), sort=True)


def _number(value: str) -> str:
    """The number as `<digits>e<power>`, without zeros at either end of the digits."""
    sign = "-" if value.startswith("-") else ""
    mantissa, _, exponent = value.lstrip("+-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    power = int(exponent or 0) - len(fraction) + len(digits) - len(digits.rstrip("0"))
    digits = digits.rstrip("0")
    return f"{sign}{digits}e{power}" if digits else "0"
