"""Rows of the events table from the records of a file, by a `ColumnMapping`."""

from __future__ import annotations

import difflib
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid5

from usage_explore.db.schema import COLUMNS
from usage_explore.decimals import decimal_context, plain
from usage_explore.errors import LoadError
from usage_explore.files.exact_json import dumps, loads, loads_object
from usage_explore.files.values import (
    InvalidValue,
    code_text,
    idempotency_key_text,
    metric_key_text,
    number_text,
    plain_text,
    time_text,
    uuid_text,
)
from usage_explore.formatting import counted, listed
from usage_explore.load.mapping import ID_COLUMNS, ColumnMapping, Measure, zone
from usage_explore.load.readers import TimeReader, number_reader

Row = list[str | None]
"""Text for every documented column in order; None is null, in id, ingested_at and idempotency_key the default."""

Problems = list[tuple[str, str]]
"""(column, reason) for every value of a record that cannot be loaded."""

MAX_LISTED_COLUMNS = 20
"""Columns of a file that an error names."""

NAMESPACE = UUID("8b1f4f0e-2f5b-5d6c-9d0a-5f6f1c0f0c05")
"""Namespace of the UUIDv5s made from ids that are text. Stored ids and links depend on it: do not change it."""

LOCAL_ORGANIZATION = uuid5(NAMESPACE, "organization")
"""Organization of the events when none is given; its name is "local"."""

LOCAL_NAME = "local"
"""Name of that organization, and of the one customer of a file without a customer column."""


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

_INDEX = {column: index for index, column in enumerate(COLUMNS)}
_METRIC, _QUANTITY, _KEY, _COST, _DIMENSIONS, _CUSTOMER, _ORGANIZATION = (
    _INDEX[column]
    for column in (
        "metric_key",
        "quantity",
        "idempotency_key",
        "external_cost_amount",
        "dimensions",
        "customer_id",
        "organization_id",
    )
)
_REQUIRED = tuple(column for column, reader in READERS.items() if reader.required)

_ABSENT = object()

_MAX_PATH_DEPTH = 4
"""Objects within each other whose members' paths are taken for columns."""


class Field(NamedTuple):
    """A documented column of the events: its sources in the file and the function that reads a value."""

    column: str
    place: int
    sources: tuple[str, ...]
    read: Callable[[object], str]
    keeps_empty_text: bool


class RowMapper:
    """Makes rows of the records of a file that has the columns `names` (paths for nested JSON).

    `organization` is the id for rows that name none. After the rows, `ids` has the id of every text that is no UUID, by
    (kind, text), `readable` their readable name by (kind, id), and `notes` the sentences for the report.
    """

    def __init__(self, mapping: ColumnMapping, names: Sequence[str], organization: UUID | None) -> None:
        self.mapping = mapping
        self.names = names
        self.ids: dict[tuple[str, str], str] = {}
        self.readable: dict[tuple[str, str], str] = {}
        self.counts: Counter[str] = Counter()
        self._organization = str(organization) if organization else None
        self._times = TimeReader(zone(mapping.timezone) if mapping.timezone else None, mapping.time_format)
        self._number = number_reader(mapping.decimal)
        quantity = number_reader(mapping.decimal, number_text)
        self._quantity = self._number_or_null(quantity)
        taken = {source for sources in mapping.columns.values() for source in sources}
        self.fields: list[Field] = []
        self.sources: dict[str, tuple[str, ...]] = {}
        for column, reader in READERS.items():
            if column in mapping.constants:
                continue
            sources = self._resolved(mapping.columns.get(column, ()))
            if column not in mapping.columns and column in names and column not in taken:
                sources = (column,)
            self.sources[column] = sources
            if not sources:
                continue
            read = reader.read
            if column in ID_COLUMNS:
                read = self._id_reader(column)
            elif reader.kind == "time":
                read = self._times.read
            elif column == "quantity":
                read = quantity
            elif reader.kind == "number":
                read = self._number
            chained = column in mapping.columns and (len(mapping.columns[column]) > 1 or bool(mapping.null_text))
            self.fields.append(Field(column, _INDEX[column], sources, read, reader.kind == "text" and not chained))
        self.measures = {
            self.resolve(source) or source: measure
            for source, measure in mapping.measures.items()
            if self.resolve(source) or source in mapping.stated
        }
        self._measure_sources = {
            source: Measure(metric_key=measure.metric_key, minus=self._resolved(measure.minus))
            for source, measure in self.measures.items()
        }
        self._key = self._resolved(mapping.key)
        self._tags = {self.resolve(source) or source: prefix for source, prefix in mapping.tags.items()}
        self._names = {column: self._resolved(sources) for column, sources in mapping.names.items()}
        self._only_with = [self.resolve(source) or source for source in mapping.only_with]
        self._cost_factors = [self.resolve(factor) or factor for factor in mapping.cost_factors]
        self._null = mapping.null
        self._null_text = mapping.null_text
        used = {sources[0] for sources in self.sources.values() if sources}  # fallbacks are dimensions too
        used |= {*self.measures, *self._tags, *self._only_with}
        for measure in self._measure_sources.values():
            used.update(measure.minus)
        paths = {source for source in used if source not in names and "." in source}
        if mapping.measure_members:
            paths.add(mapping.measure_members + ".")
        self._flattened = {path.split(".", 1)[0] for path in paths}
        shown = {
            source
            for column in ID_COLUMNS
            for source in self.sources.get(column, ())
            if column in mapping.columns and source != column
        }
        self._consumed = frozenset(
            (used - shown) | set(mapping.ignore) | ({mapping.explode} if mapping.explode else set())
        )
        self._known = self._consumed | {source for source in shown if not mapping.dimensions}
        self._constant = self._constants()

    def resolve(self, source: str) -> str | None:
        """The file's spelling of a column or path: exact, else the only one that differs in case; None for none."""
        if not self.names or source in self.names:
            return source
        same = [name for name in self.names if name.lower() == source.lower()]
        if len(same) == 1:
            return same[0]
        top, dot, _ = source.partition(".")
        return source if dot and top in self.names else None

    def _resolved(self, sources: Iterable[str]) -> tuple[str, ...]:
        return tuple(found for source in sources if (found := self.resolve(source)) is not None)

    def _constants(self) -> Row:
        row: Row = [None] * len(COLUMNS)
        for column, text in self.mapping.constants.items():
            if column in ID_COLUMNS:
                row[_INDEX[column]] = self._identifier(column, column, text)
            else:
                try:
                    row[_INDEX[column]] = READERS[column].read(text)
                except InvalidValue as error:
                    raise LoadError(f"set: {column}: {error}") from None
        return row

    def check(self, path: Path, *, sampled: bool) -> None:
        """Raise `LoadError`, with a hint, when a file with these columns cannot be loaded by the mapping.

        `sampled`: the columns are those of the first rows only (JSON).
        """
        present = dict.fromkeys(self.names)
        for column, sources in self.mapping.columns.items():
            if column in self.mapping.stated and not self.sources[column] and not sampled:
                raise LoadError(
                    f"{path}: has no column {sources[0]!r} to map to {column}{like(sources[0], present)}; "
                    f"it has {_list(present)}"
                )
        for source in self.mapping.measures:
            if source in self.mapping.stated and self.resolve(source) is None and not sampled:
                raise LoadError(
                    f"{path}: has no column {source!r} to measure{like(source, present)}; it has {_list(present)}"
                )
        missing = [column for column in _REQUIRED if not self._is_given(column)]
        if "organization_id" in missing and self._organization is not None:
            missing.remove("organization_id")
        if missing:
            options = (shlex.quote(f"{column}={synonym(column, present) or 'COLUMN'}") for column in missing)
            raise LoadError(
                f"{path}: the column{'s' if len(missing) > 1 else ''} {', '.join(missing)} "
                f"{'are' if len(missing) > 1 else 'is'} missing; where the file has them by other names, load it with "
                f"--map {' --map '.join(options)}; the file has {_list(present)}; --check proposes options"
            )

    def _is_given(self, column: str) -> bool:
        mapping = self.mapping
        if column in mapping.constants or column in mapping.defaults or self.sources.get(column):
            return True
        if column == "quantity":
            return bool(mapping.measures or mapping.measure_members)
        if column == "metric_key":
            return bool(mapping.measures)
        return column == "customer_id" and bool(mapping.measures or mapping.columns)

    def kinds(self) -> dict[str, str]:
        """Column of the file -> kind of value that it has to give, for sources with types."""
        loose = {"uuid": "text"}
        return {
            source: READERS[field.column].kind if field.column == "id" else loose.get(kind, kind)
            for field in self.fields
            for source in field.sources
            if (kind := READERS[field.column].kind) and source in self.names
        } | dict.fromkeys(self.measures, "number")

    def records(self, record: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The record, or a record for each item of the list that `explode` names."""
        if not self.mapping.explode:
            yield record
            return
        items = member(record, self.mapping.explode)
        rest = {name: value for name, value in record.items() if name != self.mapping.explode}
        for item in items if isinstance(items, list) else ():
            if isinstance(item, Mapping):
                yield {**rest, **item}

    def rows(self, record: Mapping[str, Any]) -> list[Row]:
        """The events of a record; none for a record that is not usage. Raises `InvalidValue`."""
        rows: list[Row] = []
        for single in self.records(record):
            if any(member(single, source) in (None, "") for source in self._only_with):
                self.counts["skipped"] += 1
                continue
            row = self._row(single)
            if self.mapping.measures or self.mapping.measure_members:
                rows.extend(self._measured(single, row))
            else:
                rows.append(row)
        return rows

    def _row(self, record: Mapping[str, Any]) -> Row:
        row = self._constant.copy()
        for _, index, sources, read, keeps_empty_text in self.fields:
            for source in sources:
                raw = record.get(source, _ABSENT)
                if raw is _ABSENT and "." in source:
                    raw = member(record, source)
                if raw is None or raw is _ABSENT or (raw == "" and not keeps_empty_text):
                    continue
                if type(raw) is str and (raw in self._null_text or (index in (_QUANTITY, _COST) and raw in self._null)):
                    continue
                row[index] = read(raw)
                break
        for column, text in self.mapping.defaults.items():
            if row[_INDEX[column]] is None:
                row[_INDEX[column]] = text
                self.counts[f"default {column}"] += 1
        self._complete(record, row)
        return row

    def _complete(self, record: Mapping[str, Any], row: Row) -> None:
        """Set what needs several columns: key, cost, names, dimensions, and the organization and customer of all."""
        if self._key and row[_KEY] is None:
            parts = [member(record, source) for source in self._key]
            if all(part not in (None, "") for part in parts):
                row[_KEY] = "/".join(plain_text(part) for part in parts)
        if row[_ORGANIZATION] is None:
            row[_ORGANIZATION] = self._organization
        if row[_CUSTOMER] is None and (self.mapping.columns or self.mapping.measures):
            row[_CUSTOMER] = self._identifier("customer_id", "customer_id", LOCAL_NAME)
            self.counts["without customer"] += 1
        if self._cost_factors and row[_COST] is None:
            row[_COST] = self._product(record)
        for column, sources in self._names.items():
            id_ = row[_INDEX[column]]
            name = next((raw for source in sources if (raw := member(record, source)) not in (None, "")), None)
            if id_ is not None and isinstance(name, str) and name not in self._null_text:
                self.readable[column.removesuffix("_id"), id_] = name
        for column in _REQUIRED:
            if row[_INDEX[column]] is None and not (
                column in ("quantity", "metric_key") and (self.mapping.measures or self.mapping.measure_members)
            ):
                raise InvalidValue("is missing")
        if self._known.issuperset(record):
            if row[_DIMENSIONS] is None:
                row[_DIMENSIONS] = "{}"
        else:
            row[_DIMENSIONS] = self._merged(record)

    def _product(self, record: Mapping[str, Any]) -> str | None:
        product = Decimal(1)
        with decimal_context():
            for factor in self._cost_factors:
                raw = member(record, factor)
                if raw is None and factor[:1].isdigit():
                    raw = factor
                if raw in (None, "") or (isinstance(raw, str) and raw in self._null):
                    return None
                product *= Decimal(self._number(raw))
        return plain(product)

    def _measured(self, record: Mapping[str, Any], row: Row) -> Iterator[Row]:
        """An event for each measure of the row; the first carries the cost, with quantity 0 where all are zero."""
        measures = [
            (measure.metric_key, self._measure(record, source, measure))
            for source, measure in self._measure_sources.items()
        ]
        if self.mapping.measure_members:
            measures = list(self._members(record, row))
        kept = [(metric, text) for metric, text in measures if text and (self.mapping.keep_zero or Decimal(text) != 0)]
        if not kept and Decimal(row[_COST] or 0) != 0:
            kept = [(measures[0][0], "0")] if measures else []
        if not kept:
            self.counts["nothing measured"] += 1
        for number, (metric, text) in enumerate(kept):
            event = row.copy()
            event[_METRIC], event[_QUANTITY] = metric_key_text(metric), text
            if row[_KEY] is not None and len(self._measure_sources) != 1:
                event[_KEY] = f"{row[_KEY]}:{metric}"
            if number:
                event[_COST] = None
            yield event

    def _measure(self, record: Mapping[str, Any], source: str, measure: Measure) -> str | None:
        text = self._quantity(member(record, source))
        for other in measure.minus if text else ():
            if less := self._quantity(member(record, other)):
                with decimal_context():
                    text = plain(Decimal(text or 0) - Decimal(less))
        return text

    def _members(self, record: Mapping[str, Any], row: Row) -> Iterator[tuple[str, str | None]]:
        members = member(record, self.mapping.measure_members)
        numbers = []
        for name, raw in members.items() if isinstance(members, Mapping) else ():
            try:
                numbers.append((f"{row[_METRIC]}.{name}", number_text(raw)))
            except InvalidValue:
                continue
        yield from numbers or [(str(row[_METRIC]), "1")]

    def _number_or_null(self, read: Callable[[object], str]) -> Callable[[object], str | None]:
        def number(raw: object) -> str | None:
            if raw is None or raw == "" or (type(raw) is str and (raw in self._null or raw in self._null_text)):
                return None
            return read(raw)

        return number

    def _id_reader(self, column: str) -> Callable[[object], str]:
        source = (self.sources.get(column) or (column,))[0]
        chain = self.sources.get(column) or ()

        def read(raw: object) -> str:
            if type(raw) is str and (known := self.ids.get((kind, raw))):
                return known
            return self._identifier(column, source, raw)

        kind = column.removesuffix("_id")
        if self.mapping.ids_by_column and len(chain) > 1:
            return lambda raw: self._identifier(column, source, raw)
        return read

    def _identifier(self, column: str, source: str, raw: object) -> str:
        """The UUID itself, or a UUIDv5 of kind (or column of the file) and text."""
        kind = column.removesuffix("_id")
        try:
            return uuid_text(raw)
        except InvalidValue:
            text = plain_text(raw).strip()
        if not text:
            raise InvalidValue("is the empty text")
        made = str(uuid5(NAMESPACE, f"{source if self.mapping.ids_by_column else kind}={text}"))
        self.ids[kind, text] = made
        return made

    def _merged(self, record: Mapping[str, Any]) -> str:
        """The dimensions, including the further columns of the record."""
        further: dict[str, Any] = {}
        for name, value in record.items():
            if value is None or name in self._known or (type(value) is str and value in self._null_text):
                continue
            if name in self._flattened and isinstance(value, Mapping):
                further.update(self._leaves(value, name + "."))
            elif self.mapping.dimensions:
                further[name] = value
        for source, prefix in self._tags.items():
            further.update(self._tag_members(record, source, prefix))
        own = next((member(record, source) for source in self.sources.get("dimensions", ())), None)
        if own is None or own == "":
            return dumps(further)
        given = loads_object(own)
        for name, value in further.items():
            if name in given and given[name] != value:
                raise InvalidValue(f"has {name!r} too, with another value than the column {name!r}")
        return dumps({**given, **further})

    def _leaves(self, value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
        """The members of an object of which the mapping reads some, but for those, by their path."""
        measured = self.mapping.measure_members and prefix == self.mapping.measure_members + "."
        for name, member in value.items():
            path = prefix + name
            if member is None or path in self._known or not self.mapping.dimensions:
                continue
            if isinstance(member, Mapping):
                yield from self._leaves(member, path + ".")
            elif not (measured and _is_number(member)):
                yield path, member

    def _tag_members(self, record: Mapping[str, Any], source: str, prefix: str) -> Iterator[tuple[str, Any]]:
        tags = member(record, source)
        if tags is None or tags == "" or (type(tags) is str and tags in self._null_text):
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

    def problems(self, record: Mapping[str, Any]) -> Problems:
        """All problems of a record for which `rows` raised."""
        problems: Problems = []
        for single in self.records(record):
            for column, _, sources, read, keeps_empty_text in self.fields:
                source, raw = next(
                    (
                        (source, raw)
                        for source in sources
                        if (raw := member(single, source)) is not None
                        and (raw != "" or keeps_empty_text)
                        and not (type(raw) is str and (raw in self._null_text or raw in self._null))
                    ),
                    (None, None),
                )
                if source is None:
                    continue
                try:
                    read(raw)
                except InvalidValue as error:
                    problems.append((self._label(column, source), str(error)))
            for column in _REQUIRED:
                if column == "organization_id" and self._organization:
                    continue
                sources = self.sources.get(column, ())
                if self._is_given(column) and not (sources and column not in self.mapping.constants):
                    continue
                absent = all(member(single, source) in (None, "", *self._null_text) for source in sources)
                if absent and column not in self.mapping.defaults:
                    problems.append((self._label(column, sources[0] if len(sources) == 1 else ""), "is missing"))
        if not problems:
            try:
                for single in self.records(record):
                    self._merged(single)
            except InvalidValue as error:
                problems.append(("dimensions", str(error)))
        return problems

    def _label(self, column: str, source: str) -> str:
        return f"{column} (from {source!r})" if source and source != column else column

    def decide_order(self, path: Path, values: Callable[[tuple[str, ...]], Iterator[tuple[int, object]]]) -> None:
        """Find out from all rows whether the day or the month is first in times such as 03/04/2026.

        `values` gives (line, value) of a column. Raises `LoadError` where no row decides, or rows contradict.
        """
        for field in self.fields:
            if READERS[field.column].kind != "time":
                continue
            deciding: dict[bool, tuple[int, object]] = {}
            first: tuple[int, object] | None = None
            for line, raw in values(field.sources):
                if raw is not None and first is None and not self._times.is_open(raw):
                    break  # decided by the first value: ISO times are not read twice
                if not self._times.is_open(raw):
                    continue
                first = first or (line, raw)
                order = self._times.shows_order(raw)
                if order is not None:
                    deciding.setdefault(order, (line, raw))
            if first is None:
                continue
            lines = "; ".join(
                f"line {line:,}, {raw!r}, has the {'day' if order else 'month'} first"
                for order, (line, raw) in sorted(deciding.items(), reverse=True)
            )
            if len(deciding) != 1:
                why = lines or (
                    f"no line decides (line {first[0]:,}: {first[1]!r}); a number above 12 in either place would"
                )
                raise LoadError(
                    f"{path}: {field.column}: is the day or the month first? {why}. Say the form with --time-format,"
                    " such as --time-format %m/%d/%Y or --time-format '%d/%m/%Y %H:%M'"
                )
            ((self._times.day_first, (line, raw)),) = deciding.items()
            self.counts[f"order {'day' if self._times.day_first else 'month'} first, by line {line:,}: {raw!r}"] += 1

    def notes(self) -> list[str]:
        """Sentences for the report on what was decided for the rows read."""
        counts, times, notes = self.counts, self._times, []
        notes += [f"times with the {key.removeprefix('order ')}" for key in counts if key.startswith("order ")]
        if times.dates:
            notes.append(f"{counted(times.dates, 'date')} read as midnight in {times.timezone}")
        if times.local_times:
            notes.append(f"{counted(times.local_times, 'time')} without an offset read in {times.timezone}")
        if times.repeated:
            notes.append(
                f"{counted(times.repeated, 'time')} that the clock of {times.timezone} shows twice or skips; the first"
                " is taken"
            )
        if times.truncated:
            notes.append(f"{counted(times.truncated, 'time')} finer than a microsecond; further digits are left out")
        for column in self.mapping.defaults:
            if rows := counts[f"default {column}"]:
                sources = " or ".join(self.mapping.columns.get(column, (column,)))
                notes.append(
                    f"{counted(rows, 'row')} without a value in {sources}: {column} {self.mapping.defaults[column]}"
                )
        if rows := counts["skipped"]:
            notes.append(f"{counted(rows, 'row')} without {listed(self.mapping.only_with)} skipped, as no usage")
        if rows := counts["nothing measured"]:
            notes.append(f"{counted(rows, 'row')} in which every measure is empty or zero")
        if rows := counts["without customer"]:
            notes.append(
                f"{counted(rows, 'row')} without a customer belong to the customer {LOCAL_NAME!r}; name a column with"
                " --map customer_id=COLUMN"
            )
        return notes


def member(record: Mapping[str, Any], path: str) -> Any:
    """The value of a column, or of a dotted path into its JSON; None where there is none."""
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


def sample_names(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The columns of records without a header: the names of their members, and the paths of nested ones."""
    names: dict[str, None] = {}

    def add(value: Mapping[str, Any], prefix: str) -> None:
        for name, item in value.items():
            names[prefix + name] = None
            if isinstance(item, Mapping) and prefix.count(".") < _MAX_PATH_DEPTH:
                add(item, f"{prefix}{name}.")
            elif isinstance(item, list) and item and isinstance(item[0], Mapping) and not prefix:
                add(item[0], "")

    for record in records:
        add(record, "")
    return tuple(names)


def _is_number(raw: object) -> bool:
    try:
        number_text(raw)
    except InvalidValue:
        return False
    return True


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


SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "customer_id": ("customer", "customeruuid", "customername", "account", "accountid", "client", "tenant", "user"),
    "metric_key": ("metric", "metricname", "meter", "metername", "sku", "eventname", "product", "service"),
    "quantity": ("qty", "usage", "usagequantity", "usageamount", "amount", "value", "count", "units"),
    "timestamp": ("time", "datetime", "eventtime", "occurredat", "date", "when", "createdat", "startdate", "starttime"),
}
"""Required column -> names in other systems that mean the same, in lower case without spaces and punctuation."""


def synonym(column: str, names: Iterable[str]) -> str | None:
    """The first of the names that means the column, by `SYNONYMS`; a similar spelling does not count."""
    meanings = {column.replace("_", ""), *SYNONYMS.get(column, ())}
    return next((name for name in names if re.sub(r"[\W_]", "", name).lower() in meanings), None)


def like(name: str, choices: Iterable[str]) -> str:
    """` (did you mean x?)` for the most similar choice, blank if none is."""
    near = difflib.get_close_matches(name.lower(), {choice.lower(): choice for choice in choices}, n=1)
    if not near:
        return ""
    return f" (did you mean {next(choice for choice in choices if choice.lower() == near[0])}?)"


def _list(names: Iterable[str]) -> str:
    quoted = [name if name.isidentifier() else repr(name) for name in names]
    more = len(quoted) - MAX_LISTED_COLUMNS
    return ", ".join(quoted[:MAX_LISTED_COLUMNS]) + (f" and {more} more" if more > 0 else "")
