"""A table given to a command or a method: a CSV, Excel or Parquet file, or a frame of any library, as records.

Frames are those of pandas, and every other one that Arrow can read without a copy: tables and readers of Arrow,
relations of DuckDB, frames of Polars, and what else narwhals knows.

A record is that of `files.sources`: its line, its values by column, or the reason why it cannot be read. Columns of
floats are named, so that they can be refused: a float has lost the decimal that it was written as.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from usage_explore.errors import Fault, LoadError, QueryError
from usage_explore.files.containers import MAX_BYTES_OF_SMALL_FILES
from usage_explore.files.open import SUFFIXES, open_source
from usage_explore.files.sources import Record, Source
from usage_explore.files.text_sources import NOT_UTF_8, SAVE_AS_UTF_8
from usage_explore.files.values import HAS_COMMA
from usage_explore.files.xlsx_source import CHOOSE_A_SHEET
from usage_explore.formatting import path_text
from usage_explore.query import validators

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    class ArrowStream(Protocol):
        """What Arrow reads without a copy."""

        def __arrow_c_stream__(self, requested_schema: object | None = None) -> object: ...

    RecordSource = Path | str | pd.DataFrame | pa.Table | ArrowStream

_BATCH_ROWS = 10_000
_MAX_ROWS = 1_000_000
"""Rows of a Parquet file, and lines of a CSV file, the blank ones included."""

_ended: ContextVar[Event | None] = ContextVar("reading_ended", default=None)


@contextmanager
def read_until(ended: Event) -> Iterator[None]:
    """Files opened inside the block raise `LoadError` at their next row once `ended` is set."""
    token = _ended.set(ended)
    try:
        yield
    finally:
        _ended.reset(token)


@dataclass(frozen=True, slots=True)
class Records:
    """Columns as the source names them, those of them that are floats, and the rows; `unit` is what a row is called.

    `only`, called before the rows are read, leaves out other columns where the source can. `why_thousands` is that of
    a `Source`.
    """

    unit: str
    names: tuple[str, ...]
    floats: frozenset[str]
    rows: Iterable[Record]
    only: Callable[[Iterable[str]], None] = lambda columns: None
    why_thousands: str = ""


@contextmanager
def opened(source: RecordSource, parameter: str, *, others: Sequence[str] = ()) -> Iterator[Records]:
    """The records of a source, to be read within. Raises `QueryError` on `parameter` for what cannot be read at all.

    `others` are suffixes of files that the caller reads itself, for the message about a file of another name.
    """
    try:
        if isinstance(source, Path | str):
            with _file(Path(source), others) as records:
                yield records
        else:
            yield _table(source)
    except LoadError as error:
        raise QueryError([Fault(parameter, _advised(str(error)))]) from None


def _advised(error: str) -> str:
    """The error without the advice to name an encoding, or a sheet, which only `load` takes."""
    return error.replace(NOT_UTF_8, SAVE_AS_UTF_8).replace(CHOOSE_A_SHEET, "; save the one that is meant as CSV")


@contextmanager
def _file(path: Path, others: Sequence[str]) -> Iterator[Records]:
    kinds = {suffix: kind for suffix, kind in SUFFIXES.items() if kind in ("csv", "parquet", "xlsx")}
    kind = next((kind for suffix, kind in kinds.items() if path.name.lower().endswith(suffix)), None)
    if kind is None and not os.path.exists(path):  # noqa: PTH110 - no error for a long name
        raise LoadError(f"{path_text(path)}: cannot be read: {os.strerror(errno.ENOENT)}")
    if kind is None:
        suffixes = ", ".join([*others, *kinds])
        raise LoadError(f"{path_text(path)}: is not named as a file that can be read; save it as {suffixes}")
    with open_source(path, kind, max_bytes=MAX_BYTES_OF_SMALL_FILES) as file:
        if kind == "parquet" and file.length > _MAX_ROWS:
            raise LoadError(f"{path_text(path)}: has {file.length:,} rows; at most {_MAX_ROWS:,} can be read")
        yield Records(file.unit, file.names or (), file.floats, _file_rows(file), file.only, file.why_thousands)


def _file_rows(file: Source) -> Iterator[Record]:
    ended = _ended.get()
    for number, values, unreadable in file:
        if ended is not None and ended.is_set():
            raise LoadError(f"{path_text(file.path)}: its reading was cancelled; send it again")
        if number > _MAX_ROWS:
            raise LoadError(
                f"{path_text(file.path)}: has more than {_MAX_ROWS:,} {file.unit}s, the most that can be read"
            )
        yield number, values, unreadable and _advised(unreadable)


MAX_COMMA_FAULTS = 3
"""Numbers with a comma in a file that are a fault each; more are one fault, as the file has another decimal mark."""


def counted_commas(faults: Sequence[Fault]) -> list[Fault]:
    """The faults of lines; of more than `MAX_COMMA_FAULTS` numbers with a comma the first, with the others' count."""
    others = [fault for fault in faults if not fault.message.endswith(HAS_COMMA)]
    if (number := len(faults) - len(others)) <= MAX_COMMA_FAULTS:
        return list(faults)
    first = next(fault for fault in faults if fault.message.endswith(HAS_COMMA))
    more = f"{number - 1:,} more numbers have one: an Excel file (.xlsx) of them can be given as it is"
    others.insert(faults.index(first), replace(first, message=f"{first.message}; {more}"))
    return others


def _table(source: pd.DataFrame | pa.Table | ArrowStream) -> Records:
    import pandas as pd

    if isinstance(source, pd.DataFrame):
        names = tuple(str(name) for name in source.columns)
        rows = _frame_rows(source, names)
        floats = frozenset(name for index, name in enumerate(names) if _is_float(source.iloc[:, index]))
    else:
        table = arrow_table(source)
        names = tuple(table.column_names)
        rows = _table_rows(table)
        floats = _floats(table.schema)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LoadError(f"has {', '.join(map(validators.shorten, twice))} more than once")
    return Records("row", names, floats, rows)


def arrow_table(source: object) -> pa.Table:
    """The Arrow table of a frame of any library. Raises `LoadError` for what is none."""
    import narwhals as nw
    import pyarrow as pa

    if isinstance(source, pa.Table):
        return source
    frame: Any = nw.from_native(source, pass_through=True)
    try:
        if isinstance(frame, nw.LazyFrame):
            frame = frame.collect("pyarrow")
        if isinstance(frame, nw.DataFrame):
            return frame.to_arrow()
        if hasattr(source, "__arrow_c_stream__"):
            return pa.table(source)
    except Exception as error:  # of any library
        raise LoadError(f"the frame cannot be read by Arrow ({type(error).__name__}); give a file") from error
    raise LoadError(f"{type(source).__name__} is neither a path nor a frame nor an Arrow table")


def _frame_rows(frame: pd.DataFrame, names: tuple[str, ...]) -> Iterator[Record]:
    import pandas as pd

    for start in range(0, len(frame), _BATCH_ROWS):
        part = frame.iloc[start : start + _BATCH_ROWS]
        columns = [part.iloc[:, index] for index in range(len(names))]
        present = [pd.notna(column).tolist() for column in columns]
        values = [column.astype(object).tolist() for column in columns]
        for at in range(len(part)):
            row = {name: values[index][at] for index, name in enumerate(names) if present[index][at]}
            yield start + at + 1, row, None


def _table_rows(table: pa.Table) -> Iterator[Record]:
    at = 0
    for batch in table.to_batches(max_chunksize=_BATCH_ROWS):
        for row in batch.to_pylist():
            at += 1
            yield at, row, None


def _floats(schema: pa.Schema) -> frozenset[str]:
    import pyarrow as pa

    return frozenset(field.name for field in schema if pa.types.is_floating(field.type))


def _is_float(column: pd.Series[Any]) -> bool:
    """Whether a column holds floats; not one without any value, which pandas makes float64 by default."""
    import pandas as pd

    return bool(pd.api.types.is_float_dtype(column.dtype) and column.notna().any())
