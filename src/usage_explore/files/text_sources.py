"""CSV and JSON Lines files, plain or compressed with gzip, UTF-8."""

from __future__ import annotations

import csv
import gzip
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, cast

from usage_explore.errors import LoadError
from usage_explore.files.exact_json import loads
from usage_explore.files.sources import MAX_COLUMNS, MAX_ROW_BYTES, Record, Source
from usage_explore.files.values import InvalidValue

_QUOTED_EMPTY_FIELD = re.compile(r'(?:^|(?<=,))""(?=,|\r?\n|\r?$)')
_FIELD = re.compile(r'(?:"[^"]*(?:"|\Z))*[^,]*(?:,|\Z)')
_QUOTED_EMPTY_MARK = "\ufdd0\ufdd1\ufdd0"
"""Noncharacters that stand for a quoted empty field: Python's csv reader returns "" for it and for an absent value."""


class TextSource(Source):
    """A file of lines. `position` and `length` are bytes of the file on disk."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.line_number = 0
        self._raw = path.open("rb")
        self._file: IO[bytes] = self._raw
        self.length = path.stat().st_size
        if path.name.lower().endswith(".gz"):
            self._file = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw, mode="rb"))

    @property
    def position(self) -> int:
        """Bytes of the file on disk that have been read."""
        return self._raw.tell()

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()

    def _read_line(self) -> tuple[str, str | None]:
        """The next line with its ending and None, or the reason why it is not text; ("", None) at the end."""
        try:
            line = self._file.readline(MAX_ROW_BYTES)
        except (OSError, EOFError) as error:
            raise LoadError(f"{self.path}: cannot be read after line {self.line_number:,}: {error}") from error
        if not line:
            return "", None
        self.line_number += 1
        if len(line) >= MAX_ROW_BYTES:
            raise LoadError(f"{self.path}, line {self.line_number:,}: is longer than 16 MiB; is this a text file?")
        if self.line_number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise LoadError(f"{self.path}: is UTF-16; save it as UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            return line.decode(), "has a NUL character" if b"\0" in line else None
        except UnicodeDecodeError as error:
            return line.decode(errors="replace"), f"is not UTF-8 text: {error.reason} at byte {error.start + 1}"


class CsvSource(TextSource):
    """A CSV file: commas, double quotes, a header line. An unquoted empty field is null, a quoted one is empty text.

    Raises `LoadError` for a header that cannot name columns.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._row_quotes = self._row_characters = 0
        self._has_marks = False
        self._row_errors: list[str] = []
        self._reader = csv.reader(self._marked_lines(), strict=True)
        try:
            self.names = self._header()
        except BaseException:
            self.close()
            raise

    def _header(self) -> tuple[str, ...]:
        try:
            names = next(self._reader, [])
        except csv.Error as error:
            raise LoadError(f"{self.path}, line 1: is not a CSV header: {error}") from error
        if self._row_errors:
            raise LoadError(f"{self.path}: {self._row_errors[0]}")
        if not any(names):
            raise LoadError(f"{self.path}, line 1: there is no header line with the column names")
        names = ["" if name == _QUOTED_EMPTY_MARK else name for name in names]
        if len(names) == 1 and (separator := re.search("[;\t|]", names[0])):
            raise LoadError(
                f"{self.path}, line 1: the columns seem to be separated by {separator[0]!r}; save the file with commas"
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
        while (read := self._read_line())[0]:
            line, error = read
            self._row_characters += len(line)
            if self._row_characters > MAX_ROW_BYTES:
                raise LoadError(
                    f"{self.path}, line {self.line_number:,}: the row is longer than 16 MiB; is a quote never closed?"
                )
            if line.count(",") >= MAX_COLUMNS and self._has_too_many_fields(line):
                raise LoadError(
                    f"{self.path}, line {self.line_number:,}: has more than {MAX_COLUMNS:,} columns, the most that"
                    " can be read"
                )
            if error:
                self._row_errors.append(f"line {self.line_number:,} {error}")
            quotes = line.count('"')
            if quotes:
                if ',""' in line or line.startswith('""'):
                    line = self._mark(line)
                self._row_quotes += quotes
            yield line

    def _has_too_many_fields(self, line: str) -> bool:
        fields = _FIELD.finditer('"' + line if self._row_quotes % 2 else line)
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

        return _QUOTED_EMPTY_FIELD.sub(field, line)

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
