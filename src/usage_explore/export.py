"""Export of any number of raw events as CSV or Parquet, or of up to 50,000 as Excel, exact, in bounded memory.

An `EventReader` gives the events: `EventPages` reads keyset pages of the table in one REPEATABLE READ snapshot, so all
rows are of the same moment, and the statement timeout bounds a page, not the export. The first pass counts events and
digits, the second writes. The file gets its name only when it is complete.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol, cast

import pyarrow as pa
from pyarrow import csv, parquet
from sqlalchemy import Connection, Table

from usage_explore.errors import ConfigurationError, Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.queries import EventQuery, Position
from usage_explore.results import arrow, workbook
from usage_explore.results.arrow import DECIMALS, NamesOf
from usage_explore.results.frames import DecimalSpan, integer_digits
from usage_explore.results.whole_file import whole_file
from usage_explore.results.workbook import About
from usage_explore.sql import filters
from usage_explore.sql import filters as statements

Progress = Callable[[int, int], None]
"""Called with the number of events written so far, and in total."""

MAX_XLSX_EVENTS = 50_000
"""Events of an Excel file; writing them takes about 20 seconds."""

_PAGE_EVENTS = 20_000


@dataclass(frozen=True, slots=True)
class ExportReport:
    """The file, and its number of events."""

    path: Path
    events: int


class _Writer(Protocol):
    def write_table(self, table: pa.Table) -> None: ...


class EventReader(Protocol):
    """All events of a query, newest first, in the columns of the table: as the text of CSV, or typed."""

    @property
    def as_csv(self) -> bool:
        """Whether all values are text."""
        ...

    @property
    def columns(self) -> list[str]:
        """The names of the columns."""
        ...

    def measure(self) -> tuple[int, dict[str, DecimalSpan]]:
        """The number of events, and the digits of their decimals."""
        ...

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """The events, some at a time."""
        ...


@dataclass(frozen=True, slots=True)
class EventPages:
    """The events of a query after a position, in keyset pages of the table."""

    connection: Connection
    table: Table
    query: EventQuery
    after: Position | None
    as_csv: bool

    @property
    def columns(self) -> list[str]:
        """The names of the table's columns."""
        return [column.name for column in self.table.columns]

    def measure(self) -> tuple[int, dict[str, DecimalSpan]]:
        """The number of events, and the digits of their decimals, measured page by page."""
        total, after = 0, self.after
        spans = dict.fromkeys(DECIMALS, DecimalSpan(0, 0))
        while True:
            page = filters.page(self.table, self.query, _PAGE_EVENTS, after)
            size, timestamp, row_id, *measures = self.connection.execute(
                statements.exported_digits(page, DECIMALS)
            ).one()
            if not size:
                return total, spans
            total += size
            after = Position(timestamp, row_id)
            for name, scale, most in zip(DECIMALS, measures[::2], measures[1::2], strict=True):
                spans[name] |= DecimalSpan(scale or 0, integer_digits(most or 0), most is None or most.is_finite())

    def tables(self, schema: pa.Schema, after: Position | None = None) -> Iterator[pa.Table]:
        """The events, a page at a time; `after` replaces the position."""
        after = after or self.after
        while rows := self.rows(_PAGE_EVENTS, after):
            yield arrow.from_rows([row[2:] for row in rows], self.columns).cast(schema)
            after = Position(rows[-1].at, rows[-1].row_id)

    def rows(self, size: int, after: Position | None) -> list[Any]:
        """One page of rows: `at` and `row_id` (the position), then the columns as in the file."""
        page = filters.page(self.table, self.query, size, after)
        return list(self.connection.execute(statements.exported_texts(page, as_csv=self.as_csv)))


def export(
    reader: EventReader,
    path: Path | str,
    progress: Progress,
    escape_formulas: bool,
    names_of: NamesOf | None = None,
    about: About | None = None,
) -> ExportReport:
    """Write the events of a reader, newest first, as `.csv`, `.parquet` or `.xlsx` by the path's suffix.

    CSV: decimals plain, times RFC 3339 in UTC, NULL empty and unquoted; with `escape_formulas` no text is a formula.
    Parquet: ids and JSON as text, decimals decimal128, times timestamp[us, UTC]. Excel: see `workbook`, with the zone
    and the sheet "Query" from `about`, at most `MAX_XLSX_EVENTS`. With `names_of` the columns of `NAME_COLUMNS` follow
    those of the table. Raises `ConfigurationError` for a path that cannot be written, `QueryError` for too many events.
    """
    path = _path(path)
    if escape_formulas and not reader.as_csv:
        raise ConfigurationError(
            f"escape_formulas: is for .csv; leave it out for {path.suffix.lower()}, which has no formulas"
        )
    with whole_file(path) as part:
        total, spans = reader.measure()
        if about is not None and total > MAX_XLSX_EVENTS:
            message = f"has {total:,} events, more than the {MAX_XLSX_EVENTS:,} of a .xlsx file; narrow it, or write"
            raise QueryError([Fault("query", f"{message} .csv or .parquet, which hold any number")])
        schema = arrow.schema(reader.columns, None if reader.as_csv else spans)
        written = 0
        progress(written, total)
        complete = _complete(schema.empty_table(), escape_formulas, names_of)
        with _writer(part, complete.schema, reader.as_csv, about) as writer:
            for table in reader.tables(schema):
                writer.write_table(_complete(table, escape_formulas, names_of))
                written += table.num_rows
                progress(written, total)
    return ExportReport(path, written)


def file_kind(path: Path | str) -> str:
    """The suffix of a path: `.csv`, `.parquet` or `.xlsx`. Raises `ConfigurationError` for any other."""
    return _suffix(_path(path))


def csv_pages(reader: EventReader, escape_formulas: bool, names_of: NamesOf | None = None) -> Iterator[bytes]:
    """The bytes of a CSV export, one chunk per table of the reader; the first has the header."""
    schema = arrow.schema(reader.columns, None)
    header = True
    for table in reader.tables(schema):
        yield _csv(table, header, escape_formulas, names_of)
        header = False
    if header:
        yield _csv(schema.empty_table(), header, escape_formulas, names_of)


def csv_page(
    pages: EventPages, escape_formulas: bool, names_of: NamesOf | None = None
) -> tuple[bytes, Position | None]:
    """One page of `query.limit` events as CSV, and the position before the next page, None after the last."""
    rows = pages.rows(pages.query.limit + 1, pages.after)
    kept = rows[: pages.query.limit]
    following = Position(kept[-1].at, kept[-1].row_id) if len(rows) > len(kept) else None
    table = arrow.from_rows([row[2:] for row in kept], pages.columns)
    return _csv(table, True, escape_formulas, names_of), following


def _complete(table: pa.Table, escape_formulas: bool, names_of: NamesOf | None) -> pa.Table:
    table = arrow.with_names(table, names_of)
    return arrow.without_formulas(table) if escape_formulas else table


def _csv(table: pa.Table, header: bool, escape_formulas: bool, names_of: NamesOf | None) -> bytes:
    sink = BytesIO()
    csv.write_csv(_complete(table, escape_formulas, names_of), sink, csv.WriteOptions(include_header=header))
    return sink.getvalue()


def _path(path: Path | str) -> Path:
    try:
        if b"\0" in os.fsencode(path):
            raise ValueError
        return Path(path)
    except (TypeError, ValueError):
        raise ConfigurationError(f"path: {validators.shorten(path)} is not a path; name a file to write") from None


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in (".csv", ".parquet", ".xlsx"):
        raise ConfigurationError(
            f"path: {validators.shorten(path.name)} does not end in .csv, .parquet or .xlsx; name the format that way"
        )
    return suffix


def _writer(path: Path, schema: pa.Schema, as_csv: bool, about: About | None) -> AbstractContextManager[_Writer]:
    if about is not None:
        return workbook.event_writer(path, schema, about)
    writer = csv.CSVWriter(path, schema) if as_csv else parquet.ParquetWriter(path, schema, compression="zstd")
    return cast("AbstractContextManager[_Writer]", writer)
