"""FOCUS 1.0 exports (the FinOps Foundation's cost and usage specification, https://focus.finops.org) as events.

| FOCUS column | becomes |
|---|---|
| SubAccountId, else BillingAccountId | customer_id |
| ServiceName | product_id |
| SkuId, else ChargeCategory, else ServiceName | metric_key |
| SkuPriceId | price_key |
| ConsumedQuantity, else PricingQuantity, else 0 | quantity |
| ChargePeriodStart, read as UTC | timestamp |
| Id, where the export has one | idempotency_key |
| BilledCost, BillingCurrency | external_cost_amount, external_cost_currency |
| each key of Tags | dimension `tag:<key>` |
| every other column, SubAccountId and ServiceName again | dimension of its own name |

An id that is not a UUID becomes a UUIDv5 of its column and text. An empty value and the text NULL are null, and no
dimension. A column that gives a UUID is a dimension too, so that its text can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.exact_json import dumps, loads_object
from usage_explore.files.values import InvalidValue, plain_text, utc_time_text, uuid_text
from usage_explore.formatting import counted
from usage_explore.load.row_mapper import READERS, Problems, Row, RowMapper, check_mapping

NAMESPACE = UUID("8b1f4f0e-2f5b-5d6c-9d0a-5f6f1c0f0c05")
"""Problemspace of the UUIDv5s made from FOCUS ids. Stored ids and links depend on it: do not change it."""

ORGANIZATION = uuid5(NAMESPACE, "organization")
"""Organization of the events when none is given."""

SOURCES: Mapping[str, tuple[str, ...]] = {
    "customer_id": ("SubAccountId", "BillingAccountId"),
    "product_id": ("ServiceName",),
    "metric_key": ("SkuId", "ChargeCategory", "ServiceName"),
    "price_key": ("SkuPriceId",),
    "quantity": ("ConsumedQuantity", "PricingQuantity"),
    "timestamp": ("ChargePeriodStart",),
    "idempotency_key": ("Id",),
    "external_cost_amount": ("BilledCost",),
    "external_cost_currency": ("BillingCurrency",),
}
"""Documented column -> the FOCUS columns of which the first that is not null gives its value."""

TAGS = "Tags"
TAG_PREFIX = "tag:"

_NEEDED = ("timestamp", "external_cost_amount", "external_cost_currency", "customer_id", "metric_key")
"""Documented columns that need one of their FOCUS columns."""


def looks_like_focus(names: Iterable[str]) -> bool:
    """Whether the columns are those of a FOCUS export, maybe an incomplete one."""
    return {"ChargePeriodStart", "BilledCost"}.issubset(names)


def missing_sources(names: Iterable[str], sources: Mapping[str, tuple[str, ...]] = SOURCES) -> list[str]:
    """Needed FOCUS columns that the file lacks, such as `["BillingCurrency", "SubAccountId or BillingAccountId"]`."""
    present = set(names)
    return [" or ".join(sources[column]) for column in _NEEDED if present.isdisjoint(sources[column])]


def incomplete(missing: Sequence[str]) -> str:
    """The error for a FOCUS export without the `missing` columns; follows the file's name."""
    these, them = ("these columns", "them") if len(missing) > 1 else ("this column", "it")
    return (
        f"is a FOCUS export without {' and without '.join(missing)}, which a load needs; export it again with {these}, "
        f"or add {them} to the file"
    )


@lru_cache(maxsize=65_536)
def identifier(column: str, text: str) -> str:
    """The UUID for a FOCUS id: the id itself when it is a UUID, else a UUIDv5 of column and text."""
    try:
        return uuid_text(text)
    except InvalidValue:
        return str(uuid5(NAMESPACE, f"{column}={text}"))


class FocusMapper(RowMapper):
    """Rows of a FOCUS export. `mapping` (documented column -> FOCUS column) replaces the columns of `SOURCES`.

    A row without a value for the quantity gets quantity 0 and is counted in `notes`.
    """

    assume_utc = True

    def __init__(self, mapping: Mapping[str, str], *, organization_id: UUID | None) -> None:
        check_mapping(mapping)
        if "dimensions" in mapping:
            raise ConfigurationError("map: dimensions of a FOCUS export are its other columns and its Tags")
        self._mapping = dict(mapping)
        self._organization = str(organization_id or ORGANIZATION)
        self._from = {
            column: (mapping[column],) if column in mapping else SOURCES.get(column, ()) for column in READERS
        }
        self._without_quantity = 0
        self._consumed = {
            sources[0] for column, sources in self._from.items() if sources and READERS[column].kind != "uuid"
        } | {TAGS}

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Column of the file -> kind of value it must have."""
        present = set(names)
        loose = {"uuid": "text"}
        return {
            source: loose.get(READERS[column].kind, READERS[column].kind)
            for column, sources in self._from.items()
            for source in sources
            if source in present
        } | ({TAGS: "object"} if TAGS in present else {})

    def check(self, path: Path, names: Iterable[str]) -> None:
        """Raise `LoadError` when columns are missing."""
        present = set(names)
        missing = missing_sources(present, self._from)
        missing += [name for name in self._mapping.values() if name not in present and name not in missing]
        if missing and looks_like_focus(present):
            raise LoadError(f"{path}: {incomplete(missing)}")
        if missing:
            raise LoadError(
                f"{path}: is not a FOCUS export: it has no {', no '.join(missing)}; without --format focus its columns "
                "are taken by name"
            )

    def row(self, record: Mapping[str, Any]) -> Row:
        """The row. Raises `InvalidValue`."""
        values = _present(record)
        row = [self._value(column, values) for column in READERS]
        self._without_quantity += self._first("quantity", values) is None
        return row

    def notes(self) -> list[str]:
        """A sentence on the rows without a quantity since the last call."""
        rows, self._without_quantity = self._without_quantity, 0
        sources = " or ".join(self._from["quantity"])
        return [f"{counted(rows, 'row')} without a value in {sources}: quantity 0"] if rows else []

    def problems(self, record: Mapping[str, Any]) -> Problems:
        """All problems of the record."""
        values = _present(record)
        problems: Problems = []
        for column in READERS:
            try:
                self._value(column, values)
            except InvalidValue as error:
                source = self._first(column, values)
                problems.append((f"{column} (from {source})" if source else column, str(error)))
        return problems

    def _first(self, column: str, values: Mapping[str, Any]) -> str | None:
        """The first of the column's sources that has a value in the row."""
        for source in self._from[column]:
            raw = values.get(source)
            if raw is not None and raw != "":
                return source
        return None

    def _value(self, column: str, values: Mapping[str, Any]) -> str | None:
        if column == "dimensions":
            return self._dimensions(values)
        source = self._first(column, values)
        if source is None:
            return self._absent(column)
        reader = READERS[column]
        if reader.kind == "uuid":
            return identifier(source, plain_text(values[source]))
        read: Callable[[object], str] = utc_time_text if reader.kind == "time" else reader.read
        return read(values[source])

    def _absent(self, column: str) -> str | None:
        if column == "organization_id":
            return self._organization
        if column == "quantity":
            return "0"
        if READERS[column].required:
            raise InvalidValue(f"is missing; there is no value in {' or '.join(self._from[column])}")
        return None

    def _dimensions(self, values: Mapping[str, Any]) -> str:
        dimensions = {name: value for name, value in values.items() if name not in self._consumed}
        tags = values.get(TAGS)
        if tags is not None and tags != "":
            try:
                given = loads_object(tags)
            except InvalidValue as error:
                raise InvalidValue(f"Tags {error}") from None
            for key, value in given.items():
                if value is not None:
                    dimensions[TAG_PREFIX + key] = value
        return dumps(dimensions)


def _present(record: Mapping[str, Any]) -> dict[str, Any]:
    """The values that are not null."""
    return {name: raw for name, raw in record.items() if raw is not None and raw != "NULL"}
