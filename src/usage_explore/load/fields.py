"""The documented columns of the events and how a value of each is read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from usage_explore.files.exact_json import dumps, loads_object
from usage_explore.files.values import (
    code_text,
    idempotency_key_text,
    metric_key_text,
    number_text,
    time_text,
    uuid_text,
)
from usage_explore.load.paths import member


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
    "organization_id": Reader("id", uuid_text, required=True),
    "customer_id": Reader("id", uuid_text, required=True),
    "product_id": Reader("id", uuid_text),
    "subscription_id": Reader("id", uuid_text),
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


class Field(NamedTuple):
    """A documented column of the events: its sources in the file, each with the function that reads its values.

    `null` are texts for no value. An empty text is no value either, unless `keeps_empty_text`.
    """

    column: str
    place: int
    readers: tuple[tuple[str, Callable[[object], str]], ...]
    keeps_empty_text: bool
    null: frozenset[str]

    def first(self, record: Mapping[str, Any]) -> tuple[str, Callable[[object], str], Any] | None:
        """The first of the sources that has a value in the record, with its reader and the value."""
        for source, read in self.readers:
            raw = record.get(source)
            if raw is None and ("." not in source or (raw := member(record, source)) is None):
                continue
            if raw == "" and not self.keeps_empty_text:
                continue
            if self.null and type(raw) is str and raw.strip() in self.null:
                continue
            return source, read, raw
        return None
