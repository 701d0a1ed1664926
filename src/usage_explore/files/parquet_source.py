"""Parquet, batch by batch. Every type is taken exactly: decimals, integers, times to the microsecond."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usage_explore.errors import LoadError
from usage_explore.files.sources import MAX_COLUMNS, Record, Source
from usage_explore.files.values import EARLIEST, LATEST, Unreadable

BATCH = 5_000
"""Rows that are decoded at a time."""

MAX_DECODED_BYTES = 64 * 1024 * 1024
"""Bytes of the rows that are decoded at a time, all columns together: fewer rows where they are large. One row may have
as many. A value that a dictionary holds once may stand in every row."""

MAX_EXPANSION, EXPANSION_FROM = 1_000, 1024 * 1024 * 1024
"""Times the file's size that its values may take once decoded, from so many bytes on."""

MAX_ROW_GROUP_BYTES = 2 * 1024 * 1024 * 1024
"""Uncompressed bytes of the columns read of a row group: one page may hold them all."""

MAX_NESTED_VALUES = 20_000_000
"""Values in a row group of a column inside lists or maps: one row may hold them all."""

MAX_FIXED_BYTES = 1_024
"""Bytes of a fixed-length value; a UUID has 16, a decimal at most 32."""

_EPOCH = EARLIEST
_LAST = (LATEST - EARLIEST) // timedelta(microseconds=1)

Kind = Callable[[Any], bool]


def _text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _number(kind: Any) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


FITS: Mapping[str, tuple[Kind, str]] = {
    "uuid": (
        lambda kind: _text(kind) or kind == pa.uuid() or kind == pa.binary(16),
        "make it text or a UUID",
    ),
    "words": (
        lambda kind: _text(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind),
        "make it text",
    ),
    "number": (lambda kind: _text(kind) or _number(kind), "make it a decimal, an integer or text"),
    "time": (lambda kind: _text(kind) or pa.types.is_timestamp(kind), "make it a timestamp in UTC"),
    "object": (
        lambda kind: _text(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind),
        "make it JSON text, a struct or a map",
    ),
}
"""Kind of documented column -> (does an Arrow type fit it, what to do when not)."""


class ParquetSource(Source):
    """A Parquet file; `line` of a record is the row's number, from 1."""

    unit = "row"
    unit_of_length = "rows"

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._file = pq.ParquetFile(path, pre_buffer=False, memory_map=False)
            schema = self._file.schema
            leaves = [schema.column(place) for place in range(min(len(schema.names), MAX_COLUMNS + 1))]
            # text stays in its dictionary until its decoded size is known
            texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY" and _is_text(leaf)]
            self._file.close()
            self._file = pq.ParquetFile(path, pre_buffer=False, memory_map=False, read_dictionary=texts)
        except (pa.ArrowException, OSError) as error:
            raise LoadError(f"{path}: is not a Parquet file: {error}") from error
        self._leaves = leaves
        self._check_widths()
        self.names = tuple(self._file.schema_arrow.names)
        self.length = self._file.metadata.num_rows
        self._row = 0
        self._times: frozenset[str] = frozenset()
        twice = sorted({name for name in self.names if self.names.count(name) > 1})
        if twice:
            self.close()
            raise LoadError(f"{path}: has {', '.join(map(repr, twice))} more than once")

    def only(self, columns: Iterable[str]) -> None:
        """Read no other columns."""
        chosen = set(columns)
        self.names = tuple(name for name in self.names or () if name in chosen)

    def _check_widths(self) -> None:
        if len(self._leaves) > MAX_COLUMNS:
            self.close()
            raise LoadError(f"{self.path}: has more than {MAX_COLUMNS:,} columns")
        for leaf in self._leaves:
            if leaf.length and leaf.length > MAX_FIXED_BYTES:
                self.close()
                raise LoadError(
                    f"{self.path}: column {leaf.path!r} has values of {leaf.length:,} bytes; at most"
                    f" {MAX_FIXED_BYTES:,} can be read"
                )

    def _check_row_groups(self, names: frozenset[str]) -> None:
        """Raise `LoadError` where reading the columns could take memory without bound."""
        metadata = self._file.metadata
        places = [place for place, leaf in enumerate(self._leaves) if leaf.path.split(".")[0] in names]
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            size = 0
            for place in places:
                chunk = group.column(place)
                size += chunk.total_uncompressed_size
                if self._leaves[place].max_repetition_level and chunk.num_values > MAX_NESTED_VALUES:
                    raise LoadError(
                        f"{self.path}: column {self._leaves[place].path!r} has {chunk.num_values:,} values in a row"
                        f" group; at most {MAX_NESTED_VALUES:,} can be read: write smaller row groups"
                    )
            if size > MAX_ROW_GROUP_BYTES:
                raise LoadError(
                    f"{self.path}: a row group has {size:,} bytes once uncompressed; at most {MAX_ROW_GROUP_BYTES:,}"
                    " can be read: write smaller row groups"
                )

    @property
    def position(self) -> int:
        """Rows read so far."""
        return self._row

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()

    def expect(self, columns: Mapping[str, str], *, assume_utc: bool) -> None:
        """Raise `LoadError` where a column's Arrow type cannot feed the column it is meant for."""
        self._times = frozenset(name for name, wanted in columns.items() if wanted == "time")
        for name, wanted in columns.items():
            kind = self._file.schema_arrow.field(name).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if pa.types.is_null(kind):
                continue
            fits, cure = FITS[wanted]
            if wanted == "time" and assume_utc and pa.types.is_date(kind):
                continue
            if not fits(kind):
                raise LoadError(f"{self.path}: column {name!r} is {kind}, which does not fit; {cure}")
            if wanted == "time" and pa.types.is_timestamp(kind) and kind.tz is None and not assume_utc:
                raise LoadError(
                    f"{self.path}: column {name!r} has no time zone, so its instants are unknown; "
                    f"set one (pandas: frame[{name!r}].dt.tz_localize('UTC'))"
                )

    def __iter__(self) -> Iterator[Record]:
        names = self.names or ()
        self._check_row_groups(frozenset(names))
        try:
            for batch in self._pieces(self._file.iter_batches(batch_size=BATCH, columns=list(names))):
                columns = [
                    _values(column, instants=name in self._times)
                    for name, column in zip(names, batch.columns, strict=True)
                ]
                for values in zip(*columns, strict=True):
                    self._row += 1
                    yield self._row, dict(zip(names, values, strict=True)), None
        except (pa.ArrowException, OSError, KeyError) as error:
            raise LoadError(f"{self.path}: cannot be read after row {self._row:,}: {error}") from error

    def _pieces(self, batches: Iterable[Any]) -> Iterator[Any]:
        """The batches, cut where their rows are large. Raises `LoadError` for a row that is, and for a file of them."""
        most, decoded = max(EXPANSION_FROM, MAX_EXPANSION * self.path.stat().st_size), 0
        for batch in batches:
            rows = [batch]
            while rows:
                piece = rows.pop()
                size = sum(map(_decoded_bytes, piece.columns))
                if size > MAX_DECODED_BYTES and len(piece) > 1:
                    half = len(piece) // 2
                    rows += [piece.slice(half), piece.slice(0, half)]
                    continue
                if size > MAX_DECODED_BYTES:
                    raise LoadError(
                        f"{self.path}, row {self._row + 1:,}: has {size:,} bytes; at most {MAX_DECODED_BYTES:,} can be"
                        " read"
                    )
                decoded += size
                if decoded > most:
                    raise LoadError(
                        f"{self.path}: its first {self._row:,} rows take more than {MAX_EXPANSION:,} times the size of"
                        " the file; is this an export? Save it without repeating large values"
                    )
                yield piece


def _is_text(leaf: Any) -> bool:
    return leaf.logical_type.type in ("STRING", "NONE", "JSON", "ENUM")


def _decoded_bytes(column: Any) -> int:
    """The size of a column's values once every row has its own copy of what dictionaries hold once."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if _text(kind.value_type) or pa.types.is_binary(kind.value_type):
            sizes = pc.binary_length(column.dictionary).take(column.indices)
            return int(pc.sum(sizes.cast(pa.int64())).as_py() or 0)
        return len(column) * (int(column.dictionary.nbytes) // max(len(column.dictionary), 1) + 1)
    if pa.types.is_struct(kind):
        return sum(_decoded_bytes(column.field(place)) for place in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _decoded_bytes(column.keys) + _decoded_bytes(column.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _decoded_bytes(column.flatten())
    return int(column.nbytes)


def _values(column: Any, *, instants: bool) -> list[Any]:
    """The column as Python values; None where null, `Unreadable` where no exact value exists.

    A struct has every key in every row, so a null in it says that the row lacks the key.
    """
    if pa.types.is_dictionary(column.type):
        if _text(column.type.value_type) and column.dictionary.null_count == 0:
            return _shared_texts(column)
        column = column.dictionary_decode()
    kind = column.type
    if instants and pa.types.is_timestamp(kind):
        return _instants(column)
    if pa.types.is_floating(kind) and kind != pa.float64():
        numbers = column.to_numpy(zero_copy_only=False)
        texts = [str(number) for number in numbers.astype(np.float16 if kind == pa.float16() else np.float32)]
        valid = column.is_valid().to_pylist()
        return [text if there else None for text, there in zip(texts, valid, strict=True)]
    values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    if pa.types.is_struct(kind):
        return [value and {key: item for key, item in value.items() if item is not None} for value in values]
    return values


def _shared_texts(column: Any) -> list[str | None]:
    """The texts of a dictionary column: rows with the same one share it."""
    places = column.indices.to_pylist()
    used = sorted({place for place in places if place is not None})
    texts = dict(zip(used, column.dictionary.take(pa.array(used, pa.int64())).to_pylist(), strict=True))
    return [None if place is None else texts[place] for place in places]


_PER_UNIT = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}


def _instants(column: Any) -> list[Any]:
    """UTC datetimes; without a zone the wall clock is taken as UTC, which `expect` allows for FOCUS only."""
    times, over = _PER_UNIT[column.type.unit]
    return [_instant(ticks, times, over) for ticks in column.cast(pa.int64()).to_pylist()]


def _instant(ticks: int | None, times: int, over: int) -> datetime | Unreadable | None:
    if ticks is None:
        return None
    microseconds, rest = divmod(ticks * times, over)
    if rest:
        return Unreadable("is finer than a microsecond; round it to microseconds")
    if not 0 <= microseconds <= _LAST:
        return Unreadable("is outside 1970-01-01 to 2200-01-01")
    return _EPOCH + timedelta(microseconds=microseconds)
