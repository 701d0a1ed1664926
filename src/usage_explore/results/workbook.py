"""Results as Excel workbooks (.xlsx), exact and without formulas.

A number with at most 15 significant digits, as many as Excel keeps, is a number; one with more is text with every
digit. Times are Excel times on a zone's clock, which the heading names. Text from the data is always written as text,
so "=1+1" is no formula. The sheet "Query" says what the file holds, and what Excel cannot represent.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo
from zoneinfo import ZoneInfo

from usage_explore.decimals import Number, plain, rfc3339
from usage_explore.formatting import counted, zoned
from usage_explore.query import url_params
from usage_explore.query.base import Query
from usage_explore.query.describe import describe
from usage_explore.results import arrow, frames
from usage_explore.results.units import value_name

if TYPE_CHECKING:
    import pyarrow as pa

    from usage_explore.names import Names
    from usage_explore.results.types import AggregateData

MAX_NUMBER_DIGITS = 15
"""Significant digits of a number that Excel keeps; a number with more is text."""

MAX_CELL_CHARACTERS = 32_767
"""UTF-16 units of a cell's text, by Excel; a longer one is cut."""

MAX_SHEET_COLUMNS = 16_384
"""Columns of a sheet, by Excel."""

LONG, QUERY, WIDE, EVENTS = "Long", "Query", "Wide", "Events"
"""The names of the sheets."""

Facts = Sequence[tuple[str, str | Number | None]]
"""Rows of the sheet "Query": a name and its value."""

_MIN_DOUBLE, _MAX_DOUBLE = Decimal("2.3e-308"), Decimal("9.99999999999999e307")
_MAX_PLACES = 30  # decimal places of Excel's number formats
_MIN_WIDTH, _MAX_WIDTH = 10, 60  # characters of a column
_TIME, _EXACT_TIME, _DATE, _TEXT = "yyyy-mm-dd hh:mm:ss", "yyyy-mm-dd hh:mm:ss.000", "yyyy-mm-dd", "@"
_SAID = ("organization_id", "as_of", "since", "until", "cursor", "limit")  # parameters that have a row of their own
_UNWRITABLE = re.compile(r"_x[0-9a-fA-F]{4}_|[\x00-\x08\x0b-\x1f\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a sheet. Times are aware; those of a "date" column are shown without their time of day."""

    heading: str
    kind: Literal["text", "number", "time", "date", "flag"] = "text"
    width: int = 0


_QUERY_COLUMNS = (Column("", width=16), Column("", width=_MAX_WIDTH))


@dataclass(slots=True)
class Losses:
    """What Excel cannot represent: numbers that became text, times rounded to milliseconds, and texts that were cut."""

    long_numbers: int = 0
    rounded_times: int = 0
    cut_texts: int = 0


@dataclass(slots=True)
class Sheet:
    """A sheet that is written row by row."""

    sheet: Any
    columns: Sequence[Column]
    zone: ZoneInfo
    losses: Losses
    is_cancelled: Callable[[], bool]
    rows: int = 0

    def append(self, values: Iterable[Any]) -> None:
        """Write a row: text, `Decimal` or int, aware times and bool by the columns' kinds; None is an empty cell.

        Raises `CancelledError` once the request for the workbook is cancelled.
        """
        if self.is_cancelled():
            raise CancelledError
        self.sheet.append([self._cell(value, column.kind) for value, column in zip(values, self.columns, strict=True)])
        self.rows += 1

    def _cell(self, value: Any, kind: str) -> Any:
        if value is None:
            return None
        match kind:
            case "number":
                return self._number(value)
            case "time" | "date":
                return self._time(value, kind)
            case "flag":
                return bool(value)
            case _:
                return self._text(value)

    def _number(self, value: Number) -> Any:
        double = as_double(value)
        if double is None:
            self.losses.long_numbers += 1
            cell = self._text(str(value) if isinstance(value, Decimal) and not value.is_finite() else plain(value))
            cell.number_format, cell.alignment = _TEXT, _right()
            return cell
        places = min(len(plain(value).partition(".")[2]), _MAX_PLACES)
        return self._styled(double, "#,##0." + "0" * places if places else "#,##0")

    def _time(self, value: datetime, kind: str) -> Any:
        local = value.astimezone(self.zone).replace(tzinfo=None)
        if local.microsecond % 1000:
            self.losses.rounded_times += 1
        return self._styled(local, _DATE if kind == "date" else _EXACT_TIME if local.microsecond else _TIME)

    def _styled(self, value: Any, number_format: str) -> Any:
        cell = _write_only_cell(self.sheet, value)
        cell.number_format = number_format
        return cell

    def _text(self, value: str) -> Any:
        text = _UNWRITABLE.sub(_escaped, value)
        units = len(text.encode("utf-16-le")) // 2 if len(text) > MAX_CELL_CHARACTERS // 2 else len(text)
        if units > MAX_CELL_CHARACTERS:
            self.losses.cut_texts += 1
            text = text.encode("utf-16-le")[: 2 * (MAX_CELL_CHARACTERS - 1)].decode("utf-16-le", "ignore") + "…"
        cell = _write_only_cell(self.sheet, text)
        cell.data_type = "s"  # openpyxl takes "=1+1" for a formula, and "#N/A" for an error
        return cell


@dataclass(slots=True)
class Workbook:
    """A workbook that is written sheet by sheet, in bounded memory."""

    book: Any
    zone: ZoneInfo
    is_cancelled: Callable[[], bool] = bool
    losses: Losses = field(default_factory=Losses)

    def sheet(self, name: str, columns: Sequence[Column], *, heading: bool = True) -> Sheet:
        """A new sheet; with `heading`, its first row has the columns' headings, stays in view, and filters."""
        from openpyxl.utils import get_column_letter

        sheet = self.book.create_sheet(name)
        for number, column in enumerate(columns, 1):
            width = column.width or len(column.heading) + 4
            sheet.column_dimensions[get_column_letter(number)].width = min(max(width, _MIN_WIDTH), _MAX_WIDTH)
        result = Sheet(sheet, columns, self.zone, self.losses, self.is_cancelled)
        if heading:
            sheet.freeze_panes = "A2"
            cells = [result._text(column.heading) for column in columns]
            for cell in cells:
                cell.font = _bold()
            sheet.append(cells)
        return result

    def query(self, sheet: Sheet, facts: Facts) -> None:
        """Write the sheet "Query" after all others: the facts, and what Excel could not represent in them."""
        for name, value in chain(facts, self._notes()):  # the notes last: writing the facts may add to them
            label = sheet._text(name)
            label.font = _bold()
            shown = sheet._text(value) if isinstance(value, str) else None if value is None else sheet._number(value)
            sheet.sheet.append([label, shown])

    def _notes(self) -> Iterator[tuple[str, str]]:
        losses = self.losses
        numbers = f"a number has up to {MAX_NUMBER_DIGITS} significant digits, as many as Excel keeps"
        if losses.long_numbers:
            numbers += f"; {counted(losses.long_numbers, 'number')} with more or without a finite value: text, exact"
        yield "Exactness", f"{numbers}; no digit is lost"
        times = f"on the clock of {self.zone.key}, without the offset, because Excel has no time zones"
        if losses.rounded_times:
            times += f"; {counted(losses.rounded_times, 'time')} shown to the millisecond, exact in the UTC column"
        yield "Times", times
        if losses.cut_texts:
            cells = counted(losses.cut_texts, "text")
            yield "Cut", f"{cells} longer than {MAX_CELL_CHARACTERS:,} characters, Excel's limit; CSV has them whole"


class _Archive(ZipFile):
    """An archive whose bytes follow from the content alone: no entry has a time."""

    def writestr(self, zinfo_or_arcname: str | ZipInfo, data: Any, *compression: Any, **more: Any) -> None:
        name = zinfo_or_arcname.filename if isinstance(zinfo_or_arcname, ZipInfo) else zinfo_or_arcname
        super().writestr(_entry(name, len(data)), data, *compression, **more)

    def write(self, filename: Any, arcname: Any = None, *_: Any, **__: Any) -> None:
        with Path(filename).open("rb") as source:
            entry = _entry(str(arcname or filename), os.fstat(source.fileno()).st_size)
            with self.open(entry, "w") as target:
                shutil.copyfileobj(source, target)


def _entry(name: str, size: int) -> ZipInfo:
    entry = ZipInfo(name)  # of 1 January 1980
    entry.compress_type, entry.file_size = ZIP_DEFLATED, size
    return entry


@contextmanager
def writing(
    target: Path | BinaryIO, zone: ZoneInfo, as_of: datetime | None = None, is_cancelled: Callable[[], bool] = bool
) -> Iterator[Workbook]:
    """A workbook that is saved at the end of the block; rows raise `CancelledError` when it `is_cancelled`.

    It says that it was made at `as_of`, by default now: equal answers as of one time are equal files.
    """
    from openpyxl import Workbook as Book
    from openpyxl.writer.excel import ExcelWriter

    book = Book(write_only=True)
    if as_of is not None:
        book.properties.created = book.properties.modified = as_of.astimezone(UTC).replace(tzinfo=None)
    try:
        yield Workbook(book, zone, is_cancelled)
        with _Archive(target, "w", ZIP_DEFLATED) as archive:  # `save` would write the time of the clock
            ExcelWriter(book, archive).write_data()
    finally:
        for sheet in book.worksheets:
            if not sheet.closed:  # the temporary file of a sheet that was not saved
                sheet.close()


def write_aggregate(
    answer: AggregateData,
    target: Path | BinaryIO,
    organization: str,
    links: Facts,
    is_cancelled: Callable[[], bool] = bool,
) -> None:
    """Write an aggregate: the sheets "Long", a row per series and bucket, "Query", and "Wide", a row per bucket.

    `organization` is its name and id, `links` the rows with its links. If "Wide" is left out, "Query" says why.
    Raises `CancelledError` at the next row when it `is_cancelled`.
    """
    query = answer.query
    with writing(target, query.zone, query.as_of, is_cancelled) as book:
        longer = answer.with_other()
        spellings = frames.labels(longer)
        edges = [
            Column(f"{name} ({query.timezone})", "date" if _midnights(answer) else "time", 22)
            for name in ("start", "end")
        ]
        # a clock that shows an hour twice needs the offset
        offset = [] if query.timezone == "UTC" else [Column("UTC offset of start")]
        columns = [*edges, *offset, Column("complete", "flag")]
        unit = value_name(answer)
        width = min(max((len(label) for label in spellings), default=0) + 2, _MAX_WIDTH)
        series_columns = [Column("series", width=width), Column("kind"), Column("key")]
        compared = []
        if answer.comparison is not None:
            earlier_start = Column(f"earlier start ({query.timezone})", edges[0].kind, 22)
            compared = [earlier_start, Column("earlier", "number", 20), Column("change", "number", 20)]
        long = book.sheet(LONG, [*columns, *series_columns, Column(unit, "number", 20), *compared])
        about = book.sheet(QUERY, _QUERY_COLUMNS, heading=False)
        buckets = [
            [start, end, *([zoned(start, query.zone)[-6:]] if offset else [])]
            for start, end in zip(answer.edges, answer.edges[1:], strict=False)
        ]
        for place, (label, series) in enumerate(zip(spellings, longer.series, strict=True)):
            for index, (bucket, point) in enumerate(zip(buckets, series.points, strict=True)):
                row = [*bucket, point.complete, label, series.kind, series.key, point.value]
                if answer.comparison is not None:
                    other = answer.comparison.series[place].points[index]
                    row += [other.start, other.before, other.absolute] if other else [None, None, None]
                long.append(row)
        facts = [*aggregate_facts(answer, organization), *links]
        if len(columns) + len(answer.series) > MAX_SHEET_COLUMNS:
            facts.append(("Wide", f"left out: {len(answer.series):,} series are more than Excel's columns"))
        else:
            headings = frames.labels(answer, [column.heading for column in columns])
            wide = book.sheet(WIDE, [*columns, *(Column(heading, "number", 16) for heading in headings)])
            for index, bucket in enumerate(buckets):
                values = [series.points[index].value for series in answer.series]
                wide.append([*bucket, answer.complete[index], *values])
        book.query(about, facts)


def aggregate_facts(answer: AggregateData, organization: str) -> Facts:
    """The rows of the sheet "Query" on an aggregate: sentence, organization, as-of, parameters, window and total."""
    query = answer.query
    facts: list[tuple[str, str | Number | None]] = [
        ("Query", answer.names.in_text(describe(query.replace(as_of=None)), ids=True)),
        *query_facts(query, organization, query.as_of or answer.now, answer.names, query.zone),
        ("Since", zoned(query.span[0], query.zone)),
        ("Until", zoned(query.span[1], query.zone)),
        ("Total", answer.total),
        ("Unit", value_name(answer) + (f", {answer.adds}" if answer.adds else "")),
    ]
    if other := answer.comparison:
        facts += [
            ("Compared", other.label),
            ("Other period", f"{zoned(other.since, query.zone)} to {zoned(other.until, query.zone)}"),
            ("Its total", other.total.before),
            ("Change", other.total.absolute),
        ]
    if answer.capped:
        facts.append(("Shortened", f"to the last {len(answer.edges) - 1:,} {query.bucket}s"))
    if answer.served.exists_since:
        facts.append(("Removed", f"events before {zoned(answer.served.exists_since, query.zone)}"))
    return facts


@dataclass(frozen=True, slots=True)
class About:
    """The zone of a workbook's times, and the rows of its sheet "Query"."""

    zone: ZoneInfo
    facts: Facts


@dataclass(frozen=True, slots=True)
class EventSheet:
    """The sheet "Events": the columns of an export, and after each time its exact text in UTC."""

    sheet: Sheet

    def write_table(self, table: pa.Table) -> None:
        """Write the events of a typed table."""
        columns: list[Iterable[Any]] = []
        for name in table.column_names:
            values = table[name].to_pylist()
            if name in arrow.DECIMALS:  # text where decimal128 does not hold all of them
                values = [None if value is None else Decimal(value) for value in values]
            columns.append(values)
            if name in arrow.TIMES:
                columns.append([None if value is None else rfc3339(value) for value in values])
        for row in zip(*columns, strict=True):
            self.sheet.append(row)


@contextmanager
def event_writer(target: Path, schema: pa.Schema, about: About) -> Iterator[EventSheet]:
    """The writer of a workbook with the sheets "Events" and "Query", saved at the end of the block."""
    columns: list[Column] = []
    for name in schema.names:
        if name in arrow.TIMES:
            columns += [Column(f"{name} ({about.zone.key})", "time", 24), Column(f"{name}, exact (UTC)", width=28)]
        else:
            columns.append(Column(name, "number" if name in arrow.DECIMALS else "text", 18))
    with writing(target, about.zone) as book:
        events = book.sheet(EVENTS, columns)
        query = book.sheet(QUERY, _QUERY_COLUMNS, heading=False)
        yield EventSheet(events)
        book.query(query, [*about.facts, ("Events", events.rows)])


def query_facts(query: Query, organization: str, as_of: datetime, names: Names, zone: ZoneInfo) -> Facts:
    """The organization, the time as of which the numbers are, and each parameter that is not a default."""
    parameters = [
        (name, names.full(name, value) if name.endswith("_id") else value)
        for name, value in url_params.values(query)
        if name not in _SAID
    ]
    return [
        ("Organization", organization),
        ("As of", f"{zoned(as_of, zone)}: events that were ingested later are not included"),
        *parameters,
    ]


def as_double(value: Number) -> float | None:
    """The double that Excel shows with exactly these digits; None if it keeps fewer.

    >>> as_double(Decimal("0.1")), as_double(1234567890123456)
    (0.1, None)
    """
    number = Decimal(value)
    if not number.is_finite():
        return None
    digits = plain(number).lstrip("-").replace(".", "").strip("0")
    if len(digits) > MAX_NUMBER_DIGITS or (number and not _MIN_DOUBLE <= abs(number) <= _MAX_DOUBLE):
        return None
    return float(number)


def _midnights(answer: AggregateData) -> bool:
    local = (edge.astimezone(answer.query.zone) for edge in answer.edges)
    return not any((edge.hour, edge.minute, edge.second) != (0, 0, 0) for edge in local)


def _escaped(match: re.Match[str]) -> str:
    """A character that XML cannot hold, or a text that reads like an escape, as Excel escapes it: _x000D_."""
    text = match[0]
    return f"_x005F{text}" if len(text) > 1 else f"_x{ord(text):04X}_"


def _write_only_cell(sheet: Any, value: Any) -> Any:
    from openpyxl.cell import WriteOnlyCell

    return WriteOnlyCell(sheet, value)


def _bold() -> Any:
    from openpyxl.styles import Font

    return Font(bold=True)


def _right() -> Any:
    from openpyxl.styles import Alignment

    return Alignment(horizontal="right")
