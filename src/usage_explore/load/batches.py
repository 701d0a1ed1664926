"""Many rows of a CSV file at a time, column by column, which takes a fraction of the time of row by row.

Only files of plain columns are read so: each column of the events has one source at most, and nothing is computed. A
batch with a fault is read again row by row, so every fault and every count is that of `RowMapper.rows`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

from usage_explore.db.schema import COLUMNS
from usage_explore.files.values import InvalidValue
from usage_explore.load.fields import KINDS
from usage_explore.load.row_mapper import Row, RowMapper

ROWS_PER_BATCH = 2_000

_MAX_CACHED_VALUES = 50_000
"""Values of a column whose text for the database is remembered."""

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


class BatchMapper:
    """Makes rows of the records of a CSV file with a `RowMapper`, many at a time where that is possible."""

    def __init__(self, mapper: RowMapper) -> None:
        self._mapper = mapper
        self._columns: dict[int, tuple[str, Callable[[str | None], str | None]]] = {}
        for field in mapper.fields:
            ((source, read), *_) = field.readers
            if KINDS[field.column] == "time":  # counted for the report, so every value is read
                self._columns[field.place] = source, _or_none(read)
            else:
                nothing = [*field.null, *([] if field.keeps_empty_text else [""])]
                self._columns[field.place] = source, _Known(read, nothing).__getitem__
        self._is_possible = mapper.is_plain and not any(field.null for field in mapper.fields)
        self._reads_all = mapper.dimensions.reads_none_of(mapper.names)

    def rows(self, records: Sequence[Mapping[str, Any]]) -> list[Row] | None:
        """A row for each record; None where they have to be read one by one."""
        if not self._is_possible:
            return None
        counters = [self._mapper.counts, *(times.counts for times in self._mapper.times.values())]
        before = [counts.copy() for counts in counters]
        rows = self._rows(records)
        if rows is None:  # they are read and counted again
            for counts, earlier in zip(counters, before, strict=True):
                counts.clear()
                counts.update(earlier)
        return rows

    def _rows(self, records: Sequence[Mapping[str, Any]]) -> list[Row] | None:
        try:
            columns: list[list[str | None]] = []
            for place, constant in enumerate(self._mapper.constant):
                if place in self._columns:
                    source, read = self._columns[place]
                    columns.append([read(record.get(source)) for record in records])
                else:
                    columns.append(list(repeat(constant, len(records))))
            if not self._mapper.fill(columns):
                return None
            own = columns[_DIMENSIONS]
            if self._reads_all:
                columns[_DIMENSIONS] = [text or "{}" for text in own]
            else:
                read_dimensions = self._mapper.dimensions.text
                columns[_DIMENSIONS] = list(map(read_dimensions, records, own))
        except (InvalidValue, TypeError):
            return None
        return list(map(list, zip(*columns, strict=True)))


def _or_none(read: Callable[[object], str]) -> Callable[[str | None], str | None]:
    return lambda raw: read(raw) if raw else None


_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})


def copy_text(first_ordinal: int, lines: Sequence[int], keyed: Sequence[bool], rows: Sequence[Row]) -> str:
    """The rows in COPY's text format, after their ordinal, line and whether the file has a key for them."""
    columns = [
        map(str, range(first_ordinal, first_ordinal + len(rows))),
        map(str, lines),
        ["t" if has_key else "f" for has_key in keyed],
        *map(_escaped, zip(*rows, strict=True)),
    ]
    return "".join(["\t".join(values) + "\n" for values in zip(*columns, strict=True)])


def _escaped(values: tuple[str | None, ...]) -> list[str]:
    text = "".join([value for value in values if value is not None])
    if "\\" in text or "\t" in text or "\n" in text or "\r" in text:
        return ["\\N" if value is None else value.translate(_ESCAPES) for value in values]
    return ["\\N" if value is None else value for value in values]
