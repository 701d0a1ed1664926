"""CSV and JSON Lines files, in any text encoding, plain or in a gzip or ZIP container."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from usage_explore.errors import LoadError
from usage_explore.files.containers import READ_ERRORS, START_BYTES, Content
from usage_explore.files.delimiters import DELIMITERS, delimiter_named, detect_delimiter, separator_line
from usage_explore.files.encodings import as_utf_8, detect, label
from usage_explore.files.exact_json import loads
from usage_explore.files.sources import MAX_COLUMNS, MAX_ROW_BYTES, Record, Source, paths
from usage_explore.files.values import InvalidValue

_QUOTED_EMPTY_MARK = "\ufdd0\ufdd1\ufdd0"
"""Noncharacters that stand for a quoted empty field: Python's csv reader returns "" for it and for an absent value."""

NOT_UTF_8 = "; save the file as UTF-8, or name its encoding: --encoding cp1252 (Windows, Western Europe)"
"""What to do about text that is not UTF-8."""


class TextSource(Source):
    """A file of text. `position` and `length` are bytes of the file on disk.

    `encoding` is one of `encodings.ENCODINGS`; None detects UTF-8 and UTF-16. Raises `ConfigurationError` for another.
    """

    def __init__(self, file: Path | Content, *, encoding: str | None = None) -> None:
        self.content = file if isinstance(file, Content) else Content(file)
        super().__init__(self.content.path)
        self.encoding = detect(self.content.start, encoding)
        self._is_encoding_named = encoding is not None
        self.length = self.content.length
        self.line_number = 0
        with ExitStack() as stack:
            self._raw, stream = self.content.open(stack)
            self._file = as_utf_8(stream, self.encoding)
            self.own(stack)

    @property
    def position(self) -> int:
        """Bytes of the file on disk that have been read."""
        return min(self._raw.tell(), self.length)

    @property
    def description(self) -> str:
        """The format in words."""
        return ", ".join([*self._format(), label(self.encoding or ""), *reversed(self.content.containers)])

    def _format(self) -> list[str]:
        raise NotImplementedError

    def _read_line(self) -> tuple[str, str | None]:
        """The next line with its ending and None, or the reason why it is not text; ("", None) at the end."""
        try:
            line = self._file.readline(MAX_ROW_BYTES)
        except READ_ERRORS as error:
            raise LoadError(f"{self.path}: cannot be read after line {self.line_number:,}: {error}") from error
        if not line:
            return "", None
        self.line_number += 1
        if len(line) >= MAX_ROW_BYTES:
            raise LoadError(f"{self.path}, line {self.line_number:,}: is longer than 16 MiB; is this a text file?")
        if self.line_number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            return line.decode(), "has a NUL character" if b"\0" in line else None
        except UnicodeDecodeError as error:
            return line.decode(errors="replace"), self._not_text(error)

    def _not_text(self, error: UnicodeError) -> str:
        if self.encoding == "utf-8" and isinstance(error, UnicodeDecodeError):
            where = f": {error.reason} at byte {error.start + 1}"
            return f"is not UTF-8 text{where}{'' if self._is_encoding_named else NOT_UTF_8}"
        return f"is not {label(self.encoding or '')} text"


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
    """A CSV file: double quotes, a header line. An unquoted empty field is null, a quoted one is empty text.

    `delimiter` is one character; None detects a comma, tab, semicolon or pipe. Raises `LoadError` for a header that
    cannot name columns, `ConfigurationError` for other delimiters.
    """

    kind = "csv"

    def __init__(self, file: Path | Content, *, delimiter: str | None = None, encoding: str | None = None) -> None:
        named = None if delimiter is None else delimiter_named(delimiter)
        self._is_delimiter_named = named is not None
        super().__init__(file, encoding=encoding)
        self._row_quotes = self._row_characters = 0
        self._has_marks = False
        self._row_errors: list[str] = []
        start = self.content.start
        self.delimiter = self._delimiter = named or detect_delimiter(
            start.decode(self.encoding or "", "replace").removeprefix("\ufeff"), is_cut=len(start) == START_BYTES
        )
        self._patterns = _csv_patterns(self._delimiter)
        self._reader = csv.reader(self._marked_lines(), delimiter=self._delimiter, strict=True)
        try:
            self.names = self._header()
        except BaseException:
            self.close()
            raise

    def _format(self) -> list[str]:
        return ["CSV", DELIMITERS.get(self._delimiter, f"delimiter {self._delimiter!r}")]

    def _header(self) -> tuple[str, ...]:
        try:
            names = next(self._reader, [])
        except csv.Error as error:
            raise LoadError(f"{self.path}, line {self.line_number:,}: is not a CSV header: {error}") from error
        if self._row_errors:
            raise LoadError(f"{self.path}: {self._row_errors[0]}")
        if not any(names):
            raise LoadError(f"{self.path}, line 1: there is no header line with the column names")
        names = ["" if name == _QUOTED_EMPTY_MARK else name for name in names]
        if len(names) == 1 and (separator := re.search("[,;\t|]", names[0])) and self._is_delimiter_named:
            raise LoadError(
                f"{self.path}, line 1: the columns seem to be separated by {separator[0]!r}, not by"
                f" {self._delimiter!r}; leave out --delimiter, or name it"
            )
        if "" in names:
            raise LoadError(
                f"{self.path}, line 1: column {names.index('') + 1} has no name (pandas: to_csv(index=False))"
            )
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise LoadError(f"{self.path}, line 1: the header names {', '.join(map(repr, repeated))} more than once")
        return tuple(names)

    def _marked_lines(self) -> Iterator[str]:
        """Lines for the csv reader, with quoted empty fields marked.

        `,"",` may also be part of a quoted field, where it is an escaped quote between commas: it is a field of its
        own only after an even number of quotes in the row.
        """
        before = self._patterns.before_quoted_empty
        before_and_after = before + self._delimiter
        while (read := self._read_line())[0]:
            line, error = read
            if self.line_number == 1 and separator_line(line) == self._delimiter:
                continue
            self._row_characters += len(line)
            if self._row_characters > MAX_ROW_BYTES:
                raise LoadError(
                    f"{self.path}, line {self.line_number:,}: the row is longer than 16 MiB; is a quote never closed?"
                )
            if line.count(self._delimiter) >= MAX_COLUMNS and self._has_too_many_fields(line):
                raise LoadError(
                    f"{self.path}, line {self.line_number:,}: has more than {MAX_COLUMNS:,} columns, the most that"
                    " can be read"
                )
            if error:
                self._row_errors.append(f"line {self.line_number:,} {error}")
            quotes = line.count('"')
            if quotes:
                if (
                    before_and_after in line
                    or line.startswith('""')
                    or (before in line and line.rstrip("\r\n").endswith(before))
                ):
                    line = self._mark(line)
                self._row_quotes += quotes
            yield line

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
            self._has_marks = True
            return _QUOTED_EMPTY_MARK

        return self._patterns.quoted_empty_field.sub(field, line)

    def __iter__(self) -> Iterator[Record]:
        names = self.names or ()
        width = len(names)
        reader = self._reader
        while True:
            start = self.line_number + 1
            self._row_quotes = self._row_characters = 0
            self._has_marks = False
            self._row_errors.clear()
            try:
                values = next(reader, None)
            except csv.Error as error:
                yield start, None, _reason(error)
                continue
            if values is None:
                return
            if self._row_errors:
                yield start, None, "; ".join(self._row_errors)
            elif len(values) == width:
                if self._has_marks:
                    yield start, dict(zip(names, map(_unmarked, values), strict=True)), None
                else:
                    yield start, {name: v for name, v in zip(names, values, strict=True) if v}, None
            elif values:
                fields = "1 field" if len(values) == 1 else f"{len(values)} fields"
                yield start, None, f"has {fields} where the header has {width}"


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


class JsonLinesSource(TextSource):
    """A JSON Lines file: one JSON object per line, blank lines skipped. Each line has its own columns."""

    kind = "jsonl"

    def _format(self) -> list[str]:
        return ["JSON Lines"]

    def sample_names(self, rows: int = 100) -> tuple[str, ...]:
        """See `Source.sample_names`."""
        with JsonLinesSource(self.content, encoding=self.encoding) as again:
            return paths(record for _, record, _ in islice(again, rows) if record)

    def __iter__(self) -> Iterator[Record]:
        while (read := self._read_line())[0]:
            text, error = read
            if text.isspace():
                continue
            if error:
                yield self.line_number, None, error
                continue
            try:
                value = loads(text)
            except InvalidValue as invalid:
                yield self.line_number, None, str(invalid)
                continue
            if isinstance(value, dict):
                yield self.line_number, value, None
            else:
                yield self.line_number, None, "is JSON, but not an object; write one object per line"
