"""Parquet files, read batch by batch: decimals and integers exactly, times to the microsecond."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from usage_explore.errors import LoadError
from usage_explore.files import parquet_decoder
from usage_explore.files.containers import max_decoded_bytes, start_decoder
from usage_explore.files.sources import MAX_COLUMNS, MAX_ROW_BYTES, Record, Source, paths
from usage_explore.files.values import EARLIEST, LATEST, MAX_KEY_BYTES, Unreadable
from usage_explore.formatting import path_text

MAX_BATCH_BYTES = MAX_ROW_BYTES
"""Bytes of decoded rows that are in memory at a time, fewer rows where they are large. One row may have as many, like a
line of a CSV or JSON Lines file."""

MAX_DECODER_BYTES = 512 * 1024 * 1024
"""Memory in bytes of the process that decodes, beside the interpreter and its libraries; enforced on Linux."""

MAX_VALUE_BYTES = 131_072
"""Bytes of a text for a documented column other than dimensions, as many as a field of a CSV file has characters."""

MAX_ROW_GROUP_BYTES = 2 * 1024 * 1024 * 1024
"""Uncompressed bytes of the columns read of a row group, by the file's footer: one page may hold them all."""

MAX_NESTED_VALUES = 20_000_000
"""Values in a row group of a column inside lists or maps, by the file's footer: one row may hold them all."""

MAX_FIXED_BYTES = 1_024
"""Bytes of a fixed-length value; a UUID has 16, a decimal at most 32."""

_LAST_MICROSECOND = (LATEST - EARLIEST) // timedelta(microseconds=1)


def _text(kind: Any) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _number(kind: Any) -> bool:
    return bool(pa.types.is_decimal(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind))


FITS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "uuid": (
        lambda kind: _text(kind) or kind == pa.uuid() or kind == pa.binary(16),
        "make it text or a UUID",
    ),
    "id": (
        lambda kind: FITS["uuid"][0](kind) or FITS["text"][0](kind),
        "make it text or a UUID",
    ),
    "text": (
        lambda kind: _text(kind) or pa.types.is_integer(kind) or pa.types.is_decimal(kind),
        "make it text",
    ),
    "number": (lambda kind: _text(kind) or _number(kind), "make it a decimal, an integer or text"),
    "time": (lambda kind: _text(kind) or pa.types.is_timestamp(kind), "make it a timestamp in UTC"),
    "part of a time": (
        lambda kind: _text(kind) or pa.types.is_temporal(kind),
        "make it text, a date or a time of day",
    ),
    "object": (
        lambda kind: _text(kind) or pa.types.is_struct(kind) or pa.types.is_map(kind),
        "make it JSON text, a struct or a map",
    ),
}
"""Kind of value -> (whether an Arrow type gives it, hint where it does not)."""


class ParquetSource(Source):
    """A Parquet file. `file` is where its bytes are, if not at `path`.

    Raises `LoadError` for a file that is none, and for repeated or too many columns.
    """

    kind = "parquet"
    unit = "row"
    unit_of_length = "rows"
    description = "Parquet"

    def __init__(self, path: Path, *, file: Path | None = None) -> None:
        super().__init__(path)
        self._file_path = file or path
        try:
            self._file = pq.ParquetFile(self._file_path, pre_buffer=False, memory_map=False)
            schema = self._file.schema
            leaves = [schema.column(index) for index in range(min(len(schema.names), MAX_COLUMNS + 1))]
            self.names = tuple(self._file.schema_arrow.names)
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise LoadError(f"{path_text(path)}: is not a Parquet file: {error}") from error
        self._leaves = leaves
        self._check_widths()
        self.length = self._file.metadata.num_rows
        self.floats = frozenset(field.name for field in self._file.schema_arrow if pa.types.is_floating(field.type))
        self._row = 0
        self._times: frozenset[str] = frozenset()
        self._max_text_bytes: dict[str, int] = {}
        repeated = sorted({name for name in self.names if self.names.count(name) > 1})
        if repeated:
            self.close()
            raise LoadError(f"{path_text(path)}: has {', '.join(map(repr, repeated))} more than once")

    def only(self, columns: Iterable[str]) -> None:
        """Read no other columns."""
        chosen = set(columns)
        self.names = tuple(name for name in self.names or () if name in chosen)
        self._max_text_bytes = dict.fromkeys(self.names, MAX_KEY_BYTES)

    def _check_widths(self) -> None:
        if len(self._leaves) > MAX_COLUMNS:
            self.close()
            raise LoadError(f"{path_text(self.path)}: has more than {MAX_COLUMNS:,} columns")
        for leaf in self._leaves:
            if leaf.length and leaf.length > MAX_FIXED_BYTES:
                self.close()
                raise LoadError(
                    f"{path_text(self.path)}: column {leaf.path!r} has values of {leaf.length:,} bytes; at most"
                    f" {MAX_FIXED_BYTES:,} can be read"
                )

    def _check_row_groups(self, names: frozenset[str]) -> None:
        """Raise `LoadError` where the file itself says that a row group of these columns is too large."""
        metadata = self._file.metadata
        indexes = [index for index, leaf in enumerate(self._leaves) if leaf.path.split(".")[0] in names]
        for number in range(metadata.num_row_groups):
            group = metadata.row_group(number)
            size = 0
            for index in indexes:
                chunk = group.column(index)
                size += chunk.total_uncompressed_size
                if self._leaves[index].max_repetition_level and chunk.num_values > MAX_NESTED_VALUES:
                    raise LoadError(
                        f"{path_text(self.path)}: column {self._leaves[index].path!r} has {chunk.num_values:,}"
                        " values in a row"
                        f" group; at most {MAX_NESTED_VALUES:,} can be read: write smaller row groups"
                    )
            if size > MAX_ROW_GROUP_BYTES:
                raise LoadError(
                    f"{path_text(self.path)}: a row group has {size:,} bytes once uncompressed; at most"
                    f" {MAX_ROW_GROUP_BYTES:,}"
                    " can be read: write smaller row groups"
                )

    @property
    def position(self) -> int:
        """Rows that have been read."""
        return self._row

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()

    def sample_names(self, rows: int = 100) -> tuple[str, ...]:
        """See `Source.sample_names`; the names are those of the file's schema."""
        schema = self._file.schema_arrow
        return paths([{name: _shape(schema.field(name).type) for name in self.names or ()}])

    def expect(self, columns: Mapping[str, str], *, assume_utc: bool) -> None:
        """See `Source.expect`."""
        self._times = frozenset(name for name, wanted in columns.items() if wanted == "time")
        self._max_text_bytes = {name: MAX_VALUE_BYTES for name, wanted in columns.items() if wanted != "object"}
        for name, wanted in columns.items():
            kind = self._file.schema_arrow.field(name).type
            if pa.types.is_dictionary(kind):
                kind = kind.value_type
            if pa.types.is_null(kind):
                continue
            fits, hint = FITS[wanted]
            if wanted == "time" and assume_utc and pa.types.is_date(kind):
                continue
            if not fits(kind):
                raise LoadError(f"{path_text(self.path)}: column {name!r} is {kind}, which does not fit; {hint}")
            if wanted == "time" and pa.types.is_timestamp(kind) and kind.tz is None and not assume_utc:
                raise LoadError(
                    f"{path_text(self.path)}: column {name!r} has no time zone, so its instants are unknown; "
                    f"set one (pandas: frame[{name!r}].dt.tz_localize('UTC'))"
                )

    def __iter__(self) -> Iterator[Record]:
        names = self.names or ()
        self._check_row_groups(frozenset(names))
        try:
            for batch in self._batches(names):
                columns = [
                    _values(column, instants=name in self._times, max_text_bytes=self._max_text_bytes.get(name))
                    for name, column in zip(names, batch.columns, strict=True)
                ]
                for values in zip(*columns, strict=True):
                    self._row += 1
                    if self._row > self.length:
                        raise LoadError(f"{path_text(self.path)}: has more rows than the {self.length:,} that it names")
                    yield self._row, dict(zip(names, values, strict=True)), None
        except (pa.ArrowException, OSError, KeyError) as error:
            raise LoadError(f"{path_text(self.path)}: cannot be read{self._after()}: {error}") from error

    def _after(self) -> str:
        return f" after row {self._row:,}" if self._row else ""

    def _batches(self, names: tuple[str, ...]) -> Iterator[Any]:
        """Record batches from a process that decodes the file in bounded memory. Raises `LoadError`."""
        request = {
            "path": str(self._file_path),
            "columns": names,
            "max_batch_bytes": MAX_BATCH_BYTES,
            "max_file_bytes": max_decoded_bytes(self._file_path.stat().st_size),
            "max_memory_bytes": MAX_DECODER_BYTES,
        }
        with start_decoder(parquet_decoder.__file__, request) as process:
            try:
                if process.stdout.peek(1):
                    yield from pa.ipc.open_stream(process.stdout)
                reason = process.stderr.read().decode(errors="replace")
                status = process.wait()
            finally:
                process.kill()
        if status == parquet_decoder.REFUSED:
            raise LoadError(f"{path_text(self.path)}{reason}")
        if status in (parquet_decoder.OUT_OF_MEMORY, -signal.SIGABRT):
            raise LoadError(
                f"{path_text(self.path)}: cannot be decoded with {MAX_DECODER_BYTES:,} bytes of memory{self._after()};"
                " write smaller row groups and shorter values"
            )
        if status:
            raise OSError(reason or f"the decoding process ended with status {status}")


def _shape(kind: Any) -> Any:
    """A type as an empty value with the keys of its structs."""
    if pa.types.is_struct(kind):
        return {field.name: _shape(field.type) for field in kind}
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return [_shape(kind.value_type)]
    return None


def _values(column: Any, *, instants: bool, max_text_bytes: int | None) -> list[Any]:
    """The column as Python values; None where null, `Unreadable` where no exact value exists or a text is too long.

    An Arrow struct has every key in every row, so a key whose value is null is left out.
    """
    if max_text_bytes and _text(column.type):
        is_long = pc.greater(pc.binary_length(column), pa.scalar(max_text_bytes))
        if pc.any(is_long).as_py():
            too_long = Unreadable(f"is longer than {max_text_bytes:,} bytes")
            short = pc.if_else(is_long, None, column).to_pylist()
            return [too_long if long else text for long, text in zip(is_long.to_pylist(), short, strict=True)]
    kind = column.type
    if instants and pa.types.is_timestamp(kind):
        return _instants(column)
    try:
        values: list[Any] = column.to_pylist(maps_as_pydicts="strict")
    except (ValueError, OverflowError, TypeError):  # the text of one cell is not UTF-8, its date beyond 9999, …
        values = [_value(cell) for cell in column]
    if _has_short_floats(kind):
        values = [_with_short_floats(value, kind) for value in values]
    if pa.types.is_struct(kind):
        return [
            {key: item for key, item in value.items() if item is not None} if isinstance(value, dict) else value
            for value in values
        ]
    return values


def _value(cell: Any) -> Any:
    """One cell as a Python value, `Unreadable` where Python has none."""
    try:
        return cell.as_py(maps_as_pydicts="strict")
    except (ValueError, OverflowError, TypeError) as error:
        return Unreadable(f"cannot be read: {error}")


def _inner_types(kind: Any) -> list[Any]:
    if pa.types.is_map(kind):
        return [kind.key_type, kind.item_type]
    if pa.types.is_nested(kind):
        return [kind.field(index).type for index in range(kind.num_fields)]
    return [kind.value_type] if pa.types.is_dictionary(kind) else []


def _has_short_floats(kind: Any) -> bool:
    """Whether the type is, or contains, floats of 16 or 32 bits."""
    return kind in (pa.float16(), pa.float32()) or any(map(_has_short_floats, _inner_types(kind)))


def _with_short_floats(value: Any, kind: Any) -> Any:
    """The value with each float of 16 or 32 bits as the double of its shortest decimal text: 0.1, not 0.10000000149."""
    if value is None or isinstance(value, Unreadable):
        return value
    if kind in (pa.float16(), pa.float32()):
        return float(str((np.float16 if kind == pa.float16() else np.float32)(value)))
    if pa.types.is_map(kind):
        return {key: _with_short_floats(item, kind.item_type) for key, item in value.items()}
    if pa.types.is_struct(kind):
        return {field.name: _with_short_floats(value[field.name], field.type) for field in kind}
    inner = _inner_types(kind)
    return [_with_short_floats(item, inner[0]) for item in value] if isinstance(value, list) and inner else value


_MICROSECONDS_PER_UNIT = {"s": (1_000_000, 1), "ms": (1_000, 1), "us": (1, 1), "ns": (1, 1_000)}
"""Unit of an Arrow timestamp -> (factor, divisor) to microseconds."""


def _instants(column: Any) -> list[Any]:
    """Datetimes in UTC; without a zone where the column has none."""
    factor, divisor = _MICROSECONDS_PER_UNIT[column.type.unit]
    instants = [_instant(ticks, factor, divisor) for ticks in column.cast(pa.int64()).to_pylist()]
    if column.type.tz is None:
        return [at.replace(tzinfo=None) if isinstance(at, datetime) else at for at in instants]
    return instants


def _instant(ticks: int | None, factor: int, divisor: int) -> datetime | Unreadable | None:
    if ticks is None:
        return None
    microseconds, rest = divmod(ticks * factor, divisor)
    if rest:
        return Unreadable("is finer than a microsecond; round it to microseconds")
    if not 0 <= microseconds <= _LAST_MICROSECOND:
        return Unreadable("is outside 1970-01-01 to 2200-01-01")
    return EARLIEST + timedelta(microseconds=microseconds)
