"""Export of any number of raw events as CSV or Parquet, exact, in bounded memory.

Keyset pages are read in one REPEATABLE READ snapshot, so all rows are of the same moment, and the statement timeout
bounds a page, not the export. The first pass counts events and digits, the second writes. The file gets its name only
when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from secrets import token_hex
from typing import Any, Protocol, cast

import pyarrow as pa
from pyarrow import csv, parquet
from sqlalchemy import ColumnElement, Connection, DateTime, Numeric, Subquery, Table, Text, Uuid, func, select
from sqlalchemy.dialects.postgresql import aggregate_order_by

from usage_explore.errors import ConfigurationError
from usage_explore.names import NAME_COLUMNS, Names
from usage_explore.query import validators
from usage_explore.query.queries import EventQuery, Position
from usage_explore.results import formulas
from usage_explore.results.frames import DecimalSpan, integer_digits
from usage_explore.sql import filters

NamesOf = Callable[[Iterable[tuple[str, str]]], Names]
"""Reads the names of (column, id) pairs."""

Progress = Callable[[int, int], None]
"""Called with the number of events written so far, and in total."""

_PAGE_EVENTS = 20_000
_DECIMALS = ("quantity", "external_cost_amount")
_RFC3339 = 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The file, and its number of events."""

    path: Path
    events: int


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


def export(
    connection: Connection,
    table: Table,
    query: EventQuery,
    after: Position | None,
    path: Path | str,
    progress: Progress,
    escape_formulas: bool,
    names_of: NamesOf | None = None,
) -> ExportReport:
    """Write the events after a position, newest first, as `.csv` or `.parquet` by the path's suffix.

    CSV: decimals plain, times RFC 3339 in UTC, NULL empty and unquoted; with `escape_formulas` no text is a formula.
    Parquet: ids and JSON as text, decimals decimal128, times timestamp[us, UTC]. With `names_of` the columns of
    `NAME_COLUMNS` follow those of the table. Raises `ConfigurationError` for a path that cannot be written.
    """
    path = _path(path)
    as_csv = _suffix(path) == ".csv"
    if escape_formulas and not as_csv:
        raise ConfigurationError("escape_formulas: is for .csv; leave it out for .parquet, which has no formulas")
    with whole_file(path) as part:
        total, spans = _measure(connection, table, query, after)
        schema = _schema(table, spans, as_csv, names_of)
        written = 0
        progress(written, total)
        with _writer(part, schema, as_csv) as writer:
            for rows in _pages(connection, table, query, after, as_csv, _PAGE_EVENTS):
                writer.write_table(_arrow(rows, schema, escape_formulas, names_of))
                written += len(rows)
                progress(written, total)
    return ExportReport(path, written)


def csv_pages(
    connection: Connection,
    table: Table,
    query: EventQuery,
    after: Position | None,
    escape_formulas: bool,
    names_of: NamesOf | None = None,
) -> Iterator[bytes]:
    """The bytes of a CSV export, one chunk per page of events; the first has the header."""
    schema = _schema(table, {}, True, names_of)
    header = True
    for rows in _pages(connection, table, query, after, True, _PAGE_EVENTS):
        yield _csv(rows, schema, header, escape_formulas, names_of)
        header = False
    if header:
        yield _csv([], schema, header, escape_formulas, names_of)


def csv_page(
    connection: Connection,
    table: Table,
    query: EventQuery,
    after: Position | None,
    escape_formulas: bool,
    names_of: NamesOf | None = None,
) -> tuple[bytes, Position | None]:
    """One page of `query.limit` events as CSV, and the position before the next page, None after the last."""
    rows = next(_pages(connection, table, query, after, True, query.limit + 1), [])
    kept = rows[: query.limit]
    following = Position(kept[-1].at, kept[-1].row_id) if len(rows) > len(kept) else None
    return _csv(kept, _schema(table, {}, True, names_of), True, escape_formulas, names_of), following


def _path(path: Path | str) -> Path:
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError
        return Path(path)
    except (TypeError, ValueError):
        raise ConfigurationError(f"path: {validators.shorten(path)} is not a path; name a file to write") from None


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet"):
        raise ConfigurationError(
            f"path: {validators.shorten(path.name)} ends neither in .csv nor in .parquet; name the format that way"
        )
    return suffix


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` that is renamed to it at the end, or deleted on an error.

    Raises `ConfigurationError` if it cannot be created or renamed.
    """
    try:
        part = path.with_name(f".{path.name}.{token_hex(4)}")
        part.touch(exist_ok=False)
    except OSError as error:
        raise ConfigurationError(
            f"path: {validators.shorten(str(path.parent), 200)} cannot be written to ({error.strerror}); choose another"
        ) from None
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ConfigurationError(
            f"path: {validators.shorten(str(path), 200)} could not be written: {error.strerror}"
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _measure(
    connection: Connection, table: Table, query: EventQuery, after: Position | None
) -> tuple[int, dict[str, DecimalSpan]]:
    """The number of events, and the digits of their decimals, measured page by page."""
    total = 0
    spans = dict.fromkeys(_DECIMALS, DecimalSpan(0, 0))
    while True:
        rows = filters.page(table, query, _PAGE_EVENTS, after).subquery()
        last = func.array_agg(aggregate_order_by(rows.c.id, rows.c.timestamp, rows.c.id))[1]
        size, timestamp, row_id, *measures = connection.execute(
            select(func.count(), func.min(rows.c.timestamp), last, *_measures(rows))
        ).one()
        if not size:
            return total, spans
        total += size
        after = Position(timestamp, row_id)
        for name, scale, most in zip(_DECIMALS, measures[::2], measures[1::2], strict=True):
            spans[name] |= DecimalSpan(scale or 0, integer_digits(most or 0), most is None or most.is_finite())


def _measures(rows: Subquery) -> Iterator[ColumnElement[Any]]:
    for name in _DECIMALS:
        yield func.max(func.scale(func.trim_scale(rows.c[name])))
        yield func.max(func.abs(rows.c[name].cast(Numeric)))


def _pages(
    connection: Connection, table: Table, query: EventQuery, after: Position | None, as_csv: bool, size: int
) -> Iterator[list[Any]]:
    """Pages of rows: `at` and `row_id` (the position), then the columns as in the file."""
    while True:
        rows = filters.page(table, query, size, after).subquery()
        statement = select(
            rows.c.timestamp.label("at"), rows.c.id.label("row_id"), *(_written(column, as_csv) for column in rows.c)
        ).order_by(rows.c.timestamp.desc(), rows.c.id.desc())
        page = list(connection.execute(statement))
        if not page:
            return
        yield page
        after = Position(page[-1].at, page[-1].row_id)


def _written(column: ColumnElement[Any], as_csv: bool) -> ColumnElement[Any]:
    if isinstance(column.type, Numeric):
        return func.trim_scale(column).cast(Text)
    if isinstance(column.type, DateTime):
        return func.to_char(func.timezone("UTC", column), _RFC3339) if as_csv else column
    return column if isinstance(column.type, Text) else column.cast(Text)


def _schema(table: Table, spans: dict[str, DecimalSpan], as_csv: bool, names_of: NamesOf | None) -> pa.Schema:
    fields: list[pa.Field[Any]] = []
    for column in table.columns:
        if as_csv or isinstance(column.type, Uuid):
            fields.append(pa.field(column.name, pa.string()))
        elif column.name in spans:
            fields.append(spans[column.name].field(column.name))
        elif isinstance(column.type, DateTime):
            fields.append(pa.field(column.name, pa.timestamp("us", tz="UTC")))
        else:
            fields.append(pa.field(column.name, pa.string()))
    if names_of:
        fields += [pa.field(name, pa.string()) for name in NAME_COLUMNS]
    return pa.schema(fields)


def _arrow(rows: list[Any], schema: pa.Schema, escape_formulas: bool, names_of: NamesOf | None) -> pa.Table:
    columns: list[Sequence[Any]] = [*list(zip(*rows, strict=True))[2:]] if rows else [()] * len(schema)
    if names_of and rows:
        ids = {column: columns[schema.get_field_index(column)] for column in NAME_COLUMNS.values()}
        names = names_of((column, id_) for column, values in ids.items() for id_ in values if id_ is not None)
        columns += [[names.name(column, id_) for id_ in values] for column, values in ids.items()]
    if escape_formulas:
        columns = [formulas.column(values) for values in columns]
    arrays = [
        pa.array(values, pa.string()).cast(field.type)
        if pa.types.is_decimal(field.type)
        else pa.array(values, field.type)
        for values, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _csv(rows: list[Any], schema: pa.Schema, header: bool, escape_formulas: bool, names_of: NamesOf | None) -> bytes:
    sink = BytesIO()
    csv.write_csv(_arrow(rows, schema, escape_formulas, names_of), sink, csv.WriteOptions(include_header=header))
    return sink.getvalue()


def _writer(path: Path, schema: pa.Schema, as_csv: bool) -> AbstractContextManager[_Writer]:
    writer = csv.CSVWriter(path, schema) if as_csv else parquet.ParquetWriter(path, schema, compression="zstd")
    return cast("AbstractContextManager[_Writer]", writer)
