"""Many rows of a CSV file at a time, column by column, which takes a fraction of the time of row by row.

Only files of plain columns are read so: each column of the events has one source at most, and nothing is computed. A
batch with a fault is read again row by row, so every fault and every count is that of `RowMapper.rows`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date
from functools import partial
from typing import Any

from usage_explore.db.schema import COLUMNS
from usage_explore.files.values import EARLIEST, LATEST, InvalidValue
from usage_explore.load.fields import KINDS
from usage_explore.load.row_mapper import RowMapper

ROWS_PER_BATCH = 2_000

_MAX_CACHED_VALUES = 50_000
"""Values of a column whose text for the database is remembered."""

Values = Sequence[str | None]
"""The values of a column of the file or of the events, or those of a row."""

Records = Callable[[], Iterable[Mapping[str, Any]]]
"""Gives the rows of a batch by column."""

_DIMENSIONS = COLUMNS.index("dimensions")


class _Known(dict[str | None, str | None]):
    """Texts of a column that were read, with what they became; absent values are None."""

    def __init__(self, read: Callable[[object], str], nothing: Sequence[str]) -> None:
        super().__init__({None: None} | dict.fromkeys(nothing))
        self._read = read

    def __missing__(self, raw: str | None) -> str | None:
        value = self._read(raw)
        if len(self) < _MAX_CACHED_VALUES:
            self[raw] = value
        return value


_EXACT_TIMES = re.compile(
    r"(?:[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{6})?Z\n)+"
)
_PLAIN = {
    "id": re.compile(r"(?:[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\n)+"),
    "number": re.compile(r"(?:-?[0-9]{1,100}(?:\.[0-9]{1,100})?\n)+"),
    "idempotency_key": re.compile(r"(?:[\x20-\x7e]+\n)+"),
}
"""Column, or kind of column, with many different values -> lines of values that need no look at each."""
_HEX = re.compile(r"(?:[0-9a-f]{32}\n)+")


class BatchMapper:
    """Makes columns of events from columns of a CSV file with a `RowMapper`, where that is possible."""

    def __init__(self, mapper: RowMapper) -> None:
        self._mapper = mapper
        self._places = {name: place for place, name in enumerate(mapper.names)}
        self._columns: dict[int, tuple[str, Callable[[Values], Values]]] = {}
        for field in mapper.fields:
            ((source, read), *_) = field.readers
            nothing = [*field.null, *([] if field.keeps_empty_text else [""])]
            kind = KINDS[field.column]
            if kind == "time":  # counted for the report, so every value is read
                self._columns[field.place] = source, partial(_times, _or_none(read), mapper.mapping.time_format is None)
            else:
                known = _Known(read, nothing).__getitem__
                is_plain = kind != "number" or mapper.mapping.decimal != ","
                plain = _PLAIN.get(kind if kind == "number" else field.column) if is_plain else None
                self._columns[field.place] = source, partial(_values, known, plain)
        self.is_possible = mapper.is_plain and not any(field.null for field in mapper.fields)
        self._reads_all = mapper.dimensions.reads_none_of(mapper.names)

    def columns(
        self, given: Sequence[Values], records: Callable[[], Iterable[Mapping[str, Any]]]
    ) -> list[Values] | None:
        """The columns of the events of rows; None where they have to be read one by one.

        `given` are the columns of the file; `records` gives the rows by column.
        """
        counters = [self._mapper.counts, *(times.counts for times in self._mapper.times.values())]
        before = [counts.copy() for counts in counters]
        columns = self._read(given, records)
        if columns is None:  # they are read and counted again
            for counts, earlier in zip(counters, before, strict=True):
                counts.clear()
                counts.update(earlier)
        return columns

    def _read(self, given: Sequence[Values], records: Records) -> list[Values] | None:
        try:
            columns: list[Values] = []
            for place, constant in enumerate(self._mapper.constant):
                if place in self._columns:
                    source, read = self._columns[place]
                    columns.append(read(given[self._places[source]]))
                else:
                    columns.append([constant] * len(given[0]))
            if not self._mapper.fill(columns):
                return None
            own = columns[_DIMENSIONS]
            if self._reads_all:
                columns[_DIMENSIONS] = [text or "{}" for text in own]
            else:
                columns[_DIMENSIONS] = list(map(self._mapper.dimensions.text, records(), own))
        except (InvalidValue, TypeError):
            return None
        return columns


def _or_none(read: Callable[[object], str]) -> Callable[[str | None], str | None]:
    return lambda raw: read(raw) if raw else None


def _values(read: Callable[[str | None], str | None], plain: re.Pattern[str] | None, values: Values) -> Values:
    if plain is not None and (text := _lines(values)):
        if plain.fullmatch(text):
            return values
        if plain is _PLAIN["id"] and _HEX.fullmatch(text):
            return [f"{raw[:8]}-{raw[8:12]}-{raw[12:16]}-{raw[16:20]}-{raw[20:]}" for raw in text.split()]
    return list(map(read, values))


def _times(read: Callable[[str | None], str | None], has_no_format: bool, values: Values) -> Values:
    if has_no_format and (text := _lines(values)) and _EXACT_TIMES.fullmatch(text):
        days = {value[:10] for value in values if value is not None}
        with suppress(ValueError):  # no such day; the reader says so
            if all(EARLIEST.date() <= date.fromisoformat(day) < LATEST.date() for day in days):
                return text[:-1].replace(".000000Z", "Z").replace("Z", "+00:00").split("\n")
    return list(map(read, values))


def _lines(values: Values) -> str:
    """The values with a line feed after each; "" where one is absent or has line feeds."""
    if None in values:
        return ""
    text = "\n".join(values) + "\n"  # type: ignore[arg-type]
    return text if text.count("\n") == len(values) else ""


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_text(first_ordinal: int, lines: Sequence[int], keyed: Sequence[bool], columns: Sequence[Values]) -> str:
    """The rows in COPY's text format, after their ordinal, line and whether the file has a key for them."""
    texts = [
        map(str, range(first_ordinal, first_ordinal + len(lines))),
        map(str, lines),
        ["t" if has_key else "f" for has_key in keyed],
        *map(_escaped, columns),
    ]
    return "".join(["\t".join(values) + "\n" for values in zip(*texts, strict=True)])


def _escaped(values: Values) -> Values:
    has_none = None in values
    text = "".join([value for value in values if value is not None])
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        return ["\\N" if value is None else value.translate(_ESCAPES) for value in values]
    return ["\\N" if value is None else value for value in values] if has_none else values
