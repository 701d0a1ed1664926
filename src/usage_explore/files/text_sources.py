"""CSV: commas, double quotes, UTF-8, a header line. An unquoted empty field is null, a quoted one is empty text."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from usage_explore.errors import LoadError
from usage_explore.files.sources import LONGEST_LINE, MAX_COLUMNS, Lines, Record, Source

_QUOTED_EMPTY = re.compile(r'(?:^|(?<=,))""(?=,|\r?\n|\r?$)')
_FIELD = re.compile(r'(?:"[^"]*(?:"|\Z))*[^,]*(?:,|\Z)')
_EMPTY = "\ufdd0\ufdd1\ufdd0"
"""Noncharacters that stand for a quoted empty field: Python's csv reader returns "" for it and for an absent value."""


class CsvSource(Source):
    """A CSV file. Raises `LoadError` for a header that cannot name columns."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lines = Lines(path)
        self.length = self._lines.length
        self._quotes = self._characters = 0
        self._marked = False
        self._faults: list[str] = []
        self._reader = csv.reader(self._marked_lines(), strict=True)
        try:
            self.names = self._header()
        except BaseException:
            self.close()
            raise

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._lines.position

    def close(self) -> None:
        """Let go of the file."""
        self._lines.close()

    def _header(self) -> tuple[str, ...]:
        try:
            names = next(self._reader, [])
        except csv.Error as error:
            raise LoadError(f"{self.path}, line 1: is not a CSV header: {error}") from error
        if self._faults:
            raise LoadError(f"{self.path}: {self._faults[0]}")
        if not any(names):
            raise LoadError(f"{self.path}, line 1: there is no header line with the column names")
        names = ["" if name == _EMPTY else name for name in names]
        if len(names) == 1 and (found := re.search("[;\t|]", names[0])):
            raise LoadError(
                f"{self.path}, line 1: the columns seem to be separated by {found[0]!r}; save the file with commas"
            )
        if "" in names:
            raise LoadError(
                f"{self.path}, line 1: column {names.index('') + 1} has no name (pandas: to_csv(index=False))"
            )
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise LoadError(f"{self.path}, line 1: the header names {', '.join(map(repr, twice))} more than once")
        return tuple(names)

    def _marked_lines(self) -> Iterator[str]:
        """Lines for the csv reader, with quoted empty fields marked.

        `,"",` may also be part of a quoted field, where it is an escaped quote between commas: it is a field of its
        own only after an even number of quotes in the row.
        """
        while line := self._lines.read():
            self._characters += len(line)
            if self._characters > LONGEST_LINE:
                raise LoadError(
                    f"{self.path}, line {self._lines.number:,}: the row is longer than 16 MiB; is a quote never closed?"
                )
            if line.count(",") >= MAX_COLUMNS and self._has_too_many_fields(line):
                raise LoadError(
                    f"{self.path}, line {self._lines.number:,}: has more than {MAX_COLUMNS:,} columns, the most that"
                    " can be read"
                )
            if self._lines.fault:
                self._faults.append(f"line {self._lines.number:,} {self._lines.fault}")
            quotes = line.count('"')
            if quotes:
                if ',""' in line or line.startswith('""'):
                    line = self._mark(line)
                self._quotes += quotes
            yield line

    def _has_too_many_fields(self, line: str) -> bool:
        fields = _FIELD.finditer('"' + line if self._quotes % 2 else line)
        return next(islice(fields, MAX_COLUMNS + 1, None), None) is not None

    def _mark(self, line: str) -> str:
        quotes, counted_to = self._quotes, 0

        def field(match: re.Match[str]) -> str:
            nonlocal quotes, counted_to
            quotes += line.count('"', counted_to, match.start())
            counted_to = match.start()
            if quotes % 2:
                return match[0]
            self._marked = True
            return _EMPTY

        return _QUOTED_EMPTY.sub(field, line)

    def __iter__(self) -> Iterator[Record]:
        names = self.names or ()
        width = len(names)
        reader, lines = self._reader, self._lines
        while True:
            start = lines.number + 1
            self._quotes = self._characters = 0
            self._marked = False
            self._faults.clear()
            try:
                values = next(reader, None)
            except csv.Error as error:
                yield start, None, _why(error)
                continue
            if values is None:
                return
            if self._faults:
                yield start, None, "; ".join(self._faults)
            elif len(values) == width:
                if self._marked:
                    yield start, dict(zip(names, map(_unmarked, values), strict=True)), None
                else:
                    yield start, {name: v for name, v in zip(names, values, strict=True) if v}, None
            elif values:
                fields = "1 field" if len(values) == 1 else f"{len(values)} fields"
                yield start, None, f"has {fields} where the header has {width}"


def _unmarked(value: str) -> str | None:
    return "" if value == _EMPTY else value or None


def _why(error: csv.Error) -> str:
    text = str(error)
    if "field limit" in text:
        return "has a field longer than 131,072 characters; perhaps a quote is never closed"
    if "unexpected end of data" in text:
        return "ends inside a quoted field; a quote is never closed"
    if "new-line character" in text:
        return "has a carriage return outside quotes; end lines with a line feed"
    return f"is not CSV: {text}"
