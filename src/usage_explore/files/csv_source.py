"""CSV files: the delimiter, and the header below titles, are detected from the first bytes."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice, repeat
from pathlib import Path
from typing import NamedTuple

from usage_explore.errors import ConfigurationError, LoadError
from usage_explore.files.containers import START_BYTES, Content
from usage_explore.files.sources import MAX_COLUMNS, MAX_LOOKED_AT_ROWS, MAX_ROW_BYTES, Record, rows_before_header
from usage_explore.files.text_sources import BLOCK_BYTES, TextSource
from usage_explore.formatting import path_text

MAX_ROW_LINES = 100_000
"""Lines of a row, which are in quotes: bounds of rows do not end the reading of one."""

_QUOTED_EMPTY_MARK = "\ufdd0\ufdd1\ufdd0"
"""Noncharacters that stand for a quoted empty field: Python's csv reader returns "" for it and for an absent value."""


class _Csv(NamedTuple):
    """What a CSV row is searched for, by delimiter."""

    quoted_empty_field: re.Pattern[str]
    field: re.Pattern[str]
    before_quoted_empty: str


def _csv_patterns(delimiter: str) -> _Csv:
    d = re.escape(delimiter)
    return _Csv(
        re.compile(rf'(?:^|(?<={d}))""(?={d}|\r?\n|\r?$)'),
        re.compile(rf'(?:"[^"]*(?:"|\Z))*[^{d}]*(?:{d}|\Z)'),
        f'{delimiter}""',
    )


class CsvSource(TextSource):
    """A CSV file: double quotes, a header line, before which empty lines and titles may be (`rows_before_header`).

    Columns at the end of the header without a name have to be empty, as after a delimiter at each line's end.
    An unquoted empty field is null, a quoted one is empty text.

    `delimiter` is one character; None detects a comma, tab, semicolon or pipe. Raises `LoadError` for a header that
    cannot name columns, `ConfigurationError` for other delimiters.
    """

    kind = "csv"

    def __init__(self, file: Path | Content, *, delimiter: str | None = None, encoding: str | None = None) -> None:
        named = None if delimiter is None else delimiter_named(delimiter)
        self._is_delimiter_named = named is not None
        super().__init__(file, encoding=encoding)
        self._row_quotes = self._row_characters = self._row_lines = 0
        self._row_errors: list[tuple[int, str]] = []
        self._unnamed = 0
        is_cut = len(self.content.start) == START_BYTES
        start = self.content.start.decode(self.encoding or "", "replace").removeprefix("\ufeff")
        self.delimiter = self._delimiter = named or detect_delimiter(start, is_cut=is_cut)
        self._blank += self._delimiter.encode()
        if self._delimiter != ",":
            self.why_thousands = f"the file is separated by {DELIMITERS.get(self._delimiter, repr(self._delimiter))}"
        self._header_line, has_titles = _header_line(start, self._delimiter)
        if has_titles:
            self.notes = (f"header in line {self._header_line:,}",)
        self._patterns = _csv_patterns(self._delimiter)
        self._reader = csv.reader(self._marked_lines(), delimiter=self._delimiter, strict=True)
        try:
            self.names = self._header()
        except BaseException:
            self.close()
            raise

    def _format(self) -> list[str]:
        return ["CSV", DELIMITERS.get(self._delimiter, f"delimiter {self._delimiter!r}"), *self.notes]

    def _header(self) -> tuple[str, ...]:
        try:
            names = next(self._reader, [])
        except csv.Error as error:
            raise LoadError(
                f"{path_text(self.path)}, line {self.line_number:,}: is not a CSV header: {error}"
            ) from error
        if self._row_errors:
            line, reason = self._row_errors[0]
            raise LoadError(f"{path_text(self.path)}, line {line:,}: {reason}")
        where = f"{path_text(self.path)}, line {self._header_line:,}"
        if not any(names):
            raise LoadError(f"{where}: there is no header line with the column names")
        names = ["" if name == _QUOTED_EMPTY_MARK else name for name in names]
        while not names[-1]:
            names.pop()
            self._unnamed += 1
        if len(names) == 1 and (separator := re.search("[,;\t|]", names[0])) and self._is_delimiter_named:
            raise LoadError(
                f"{where}: the columns seem to be separated by {separator[0]!r}, not by"
                f" {self._delimiter!r}; leave out --delimiter, or name it"
            )
        if "" in names:
            number = names.index("") + 1
            hint = " (pandas: to_csv(index=False))" if number == 1 else "; name it in the header"
            raise LoadError(f"{where}: column {number} has no name{hint}")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise LoadError(f"{where}: the header names {', '.join(map(repr, repeated))} more than once")
        return tuple(names)

    def _marked_lines(self) -> Iterator[str]:
        """Lines for the csv reader, with quoted empty fields marked."""
        while (read := self._read_line())[0]:
            line = self._marked(*read)
            if line is not None:
                yield line

    def _marked(self, line: str, error: str | None) -> str | None:
        """The line with quoted empty fields marked; None before the header.

        `,"",` may also be part of a quoted field, where it is an escaped quote between commas: it is a field of its
        own only after an even number of quotes in the row.
        """
        if self.line_number < self._header_line:
            return None
        before = self._patterns.before_quoted_empty
        before_and_after = before + self._delimiter
        self._row_characters += len(line)
        self._row_lines += 1
        if self._row_characters > MAX_ROW_BYTES or self._row_lines > MAX_ROW_LINES:
            raise self._too_long()
        if line.count(self._delimiter) >= MAX_COLUMNS and self._has_too_many_fields(line):
            raise LoadError(
                f"{path_text(self.path)}, line {self.line_number:,}: has more than {MAX_COLUMNS:,} columns, the most"
                " that can be read"
            )
        if error:
            self._row_errors.append((self.line_number, error))
        quotes = line.count('"')
        if quotes:
            if (
                before_and_after in line
                or line.startswith('""')
                or (before in line and line.rstrip("\r\n").endswith(before))
            ):
                line = self._mark(line)
            self._row_quotes += quotes
        return line

    def _too_long(self) -> LoadError:
        bound = (
            "is longer than 16 MiB" if self._row_lines <= MAX_ROW_LINES else f"has more than {MAX_ROW_LINES:,} lines"
        )
        return LoadError(
            f"{path_text(self.path)}, line {self.line_number:,}: the row {bound}; is a quote never closed?"
        )

    def _has_too_many_fields(self, line: str) -> bool:
        fields = self._patterns.field.finditer('"' + line if self._row_quotes % 2 else line)
        return next(islice(fields, MAX_COLUMNS + 1, None), None) is not None

    def _mark(self, line: str) -> str:
        quotes, counted_to = self._row_quotes, 0

        def field(match: re.Match[str]) -> str:
            nonlocal quotes, counted_to
            quotes += line.count('"', counted_to, match.start())
            counted_to = match.start()
            if quotes % 2:
                return match[0]
            return _QUOTED_EMPTY_MARK

        return self._patterns.quoted_empty_field.sub(field, line)

    def __iter__(self) -> Iterator[Record]:
        for line, values, reason in self.rows():
            yield line, None if values is None else self.record(values), reason

    def record(self, values: Sequence[str]) -> dict[str, str | None]:
        """The values of a row by column, without those that are absent."""
        return {name: _unmarked(value) for name, value in zip(self.names or (), values, strict=True) if value}

    def columns(self, rows: Sequence[Sequence[str]]) -> list[Sequence[str | None]]:
        """The columns of rows; None where a value is absent."""
        columns: list[Sequence[str | None]] = []
        for column in zip(*rows, strict=True):
            if _QUOTED_EMPTY_MARK in column:
                columns.append([_unmarked(value) for value in column])
            else:
                columns.append([value or None for value in column] if "" in column else column)
        return columns

    def rows(self) -> Iterator[tuple[int, list[str] | None, str | None]]:
        """(line, values, None), or (line, None, reason) for a row that cannot be read.

        The values are for `record` and `columns`, in the order of `names`.
        """
        width = len(self.names or ())
        reader = self._reader
        errors = self._row_errors
        is_read_in_blocks = not (self._unnamed or self.content.containers) and self.encoding == "utf-8"
        while True:
            if is_read_in_blocks and not self._lines:
                yield from self._rows_of_blocks(width)
            start = self.line_number + 1
            self._row_quotes = self._row_characters = self._row_lines = 0
            errors.clear()
            try:
                values = next(reader, None)
            except csv.Error as error:
                yield start, None, _reason(error)
                continue
            if values is None:
                return
            if self._unnamed and len(values) == width + self._unnamed:
                beyond = next((number for number in range(width, len(values)) if _unmarked(values[number])), None)
                if beyond is not None and not errors:
                    yield start, None, f"has a value in column {beyond + 1}, which has no name in the header"
                    continue
                del values[width:]
            if errors:
                yield start, None, _joined(errors, start)
            elif len(values) == width:
                yield start, values, None
            elif values:
                fields = "1 field" if len(values) == 1 else f"{len(values)} fields"
                yield start, None, f"has {fields} where the header has {width + self._unnamed}"

    def _rows_of_blocks(self, width: int) -> Iterator[tuple[int, list[str], None]]:
        """The next rows, many at a time, up to a block in which some row needs a closer look."""
        d, blank = self._delimiter, self._blank.decode()
        marks = [mark.encode() for mark in (f'{d}""{d}', f'{d}""\n', f'{d}""\r', '\n""', "\0")]
        while block := self._read_block():
            is_plain = len(block) <= 2 * BLOCK_BYTES and not block.startswith(b'""') and not block.endswith(b'""')
            rows = None
            if is_plain and not any(mark in block for mark in marks):
                with suppress(UnicodeDecodeError, csv.Error):
                    lines = block.decode().removesuffix("\n").split("\n")
                    rows = list(csv.reader(lines, delimiter=d, strict=True))
            if (
                rows is None
                or len(rows) != len(lines)
                or set(map(len, rows)) != {width}
                or not all(map(str.strip, lines, repeat(blank)))  # a row without a value is counted below
            ):
                self._lines.extend(io.BytesIO(block))
                return
            self._blank_lines.see(False, "line", self.line_number)
            for row in rows:
                self.line_number += 1
                yield self.line_number, row, None


def _joined(errors: list[tuple[int, str]], start: int) -> str:
    """The errors of a row that starts on the line `start`, each of another line with that line's number."""
    return "; ".join(error if line == start else f"line {line:,} {error}" for line, error in errors)


def _unmarked(value: str) -> str | None:
    return "" if value == _QUOTED_EMPTY_MARK else value or None


def _reason(error: csv.Error) -> str:
    text = str(error)
    if "field limit" in text:
        return "has a field longer than 131,072 characters; perhaps a quote is never closed"
    if "unexpected end of data" in text:
        return "ends inside a quoted field; a quote is never closed"
    if "new-line character" in text:
        return "has a carriage return outside quotes; end lines with a line feed"
    return f"is not CSV: {text}"


DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "pipes"}
"""Delimiter -> its name in a description; of several that fit alike, the first is taken."""

_NAMES = {"comma": ",", "tab": "\t", "\\t": "\t", "semicolon": ";", "pipe": "|", "space": " "}

_SAMPLED_ROWS = 20

_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n"])"?\r?\n?')
"""A first line in which Excel names the delimiter: sep=;"""


def delimiter_named(name: str) -> str:
    """The delimiter as one character; it may be named: "tab". Raises `ConfigurationError` for what cannot be one."""
    delimiter = _NAMES.get(name.lower(), name)
    if len(delimiter) != 1 or delimiter in '"\r\n\0' or delimiter.isalnum() or "\ud800" <= delimiter <= "\udfff":
        raise ConfigurationError(
            f"delimiter: {name!r} is not a delimiter; name one character, like ';', or comma, tab, semicolon, pipe"
        )
    return delimiter


def separator_line(line: str) -> str | None:
    """The delimiter that a line "sep=;" names, else None."""
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else None


def _header_line(start: str, delimiter: str) -> tuple[int, bool]:
    """The line that the header begins on, and whether lines are before it other than "sep=;"."""
    first = 2 if separator_line(start.partition("\n")[0]) == delimiter else 1
    lines, filled = [], []
    reader = csv.reader(io.StringIO(start, newline="\n"), delimiter=delimiter)
    try:
        for row in islice(reader, MAX_LOOKED_AT_ROWS + first - 1):
            lines.append(reader.line_num + 1)
            filled.append(sum(map(bool, row)))
    except csv.Error:
        pass  # the rows before the fault say enough
    before = rows_before_header(filled[first - 1 :])
    return (lines[before + first - 2] if before + first > 1 else 1), before > 0


def detect_delimiter(start: str, *, is_cut: bool) -> str:
    """The delimiter that gives header and rows the same number of fields, of at least two; quotes are respected.

    Where rows differ, the delimiter that gives most rows the header's number of fields, then one by which the first row
    is the header and no title, then the one that gives the most fields. A comma where there is one column. `start` is
    the text at the file's start; `is_cut` says that the file goes on.
    """
    if is_cut and (end := start.rfind("\n") + 1):
        start = start[:end]
    lines = start.splitlines(keepends=True)
    if lines and (named := separator_line(lines[0])):
        return named
    best, best_score = ",", (0.0, False, 0)
    for delimiter in DELIMITERS:
        score = _fit(start, delimiter)
        if score[-1] > 1 and score > best_score:
            best, best_score = delimiter, score
    return best


def _fit(start: str, delimiter: str) -> tuple[float, bool, int]:
    """The share of the rows that have as many fields as the header, whether that is the first row, and its fields.

    The share is 1 where there are no rows.
    """
    widths: list[int] = []
    try:
        rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter)
        widths.extend(len(row) for row in islice((row for row in rows if row), _SAMPLED_ROWS + 1))
    except csv.Error:
        pass  # a field beyond the limit; the rows before it say enough
    if not widths:
        return 0.0, False, 0
    titles = rows_before_header(widths)
    header, *rest = widths[titles:]
    return sum(width == header for width in rest) / len(rest) if rest else 1.0, not titles, header
