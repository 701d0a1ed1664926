"""Columns of numbers whose points may separate thousands: 1.200 is 1.2 with a decimal point, in German 1200; and files
with decimal commas.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any

from usage_explore.files.sources import Record
from usage_explore.files.values import InvalidValue, Unreadable, number_text, quoted

MAX_LISTED_LINES = 3
"""Lines of a column that an error names."""

MAX_ROWS_SEARCHED = 1_000
"""First rows of a file that are searched for numbers that are text."""

_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+", re.ASCII)
_WHOLE = re.compile(r"[+-]?[1-9]\d{3}(?P<more>\d+)?", re.ASCII)
"""A number of at least 1000 without a mark; `more` are the digits after the fourth."""

_SEPARATED = {
    mark: re.compile(
        rf"[+-]?(?:(?:\d+|[1-9]\d{{0,2}}(?:[{other}]\d{{3}})+)?[{mark}]\d{least}|[1-9]\d{{0,2}}(?:[{other}]\d{{3}})+)"
        r"(?:[eE][+-]?\d{1,9})?",
        re.ASCII,
    )
    for mark, other, least in ((",", ".", "+"), (".", ",", "*"))
}
"""Decimal mark -> a number with it, with thousands separators, or with both."""

_UNCERTAIN = re.compile(r"[+-]?[1-9]\d{0,2}[,.]\d{3}", re.ASCII)
"""1,234 and 1.234 may have a decimal mark or a thousands separator."""


class OpenPoints:
    """The columns of a file of which every number with a point looks like 1.200.

    One that only a decimal point explains, such as 0.125 or 1.25, decides for its column, and so does 12345, which
    is 12.345 where points separate thousands. 1234 decides only beside 1.200: some languages write 1234 and 12.345.
    Numbers that are no text, as in Excel, say nothing. `bare` takes signs of currencies and the like from a number.
    """

    def __init__(self, columns: Iterable[str], bare: Callable[[str], str] = str.strip) -> None:
        self._seen: dict[str, list[tuple[int, str]]] = {column: [] for column in columns}
        self._wholes: dict[str, set[str]] = {column: set() for column in self._seen}
        self._bare = bare

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that no number decides yet."""
        return tuple(self._seen)

    def see(self, column: str, line: int, raw: object) -> None:
        """Look at a value of one of the `columns`, or of one that was decided."""
        if column not in self._seen or not raw:
            return
        if type(raw) is not str:
            if line > MAX_ROWS_SEARCHED and not self._seen[column]:
                del self._seen[column]
        elif "." in raw:
            text = self._bare(raw)
            if _THOUSANDS.fullmatch(text):
                if len(self._seen[column]) < MAX_LISTED_LINES:
                    self._seen[column].append((line, raw))
                if len(text.lstrip("+-")) == len("1.200"):
                    self._wholes[column].add("1.200")
            elif is_number(text):
                del self._seen[column]
        elif len(raw) > 3 and (match := _WHOLE.fullmatch(self._bare(raw))):
            self._wholes[column].add("12345" if match["more"] else "1234")

    def question(self, why: str, unit: str = "line", *, has_commas: bool = False) -> str:
        """What is not decided, as `why` says that a point may separate thousands; blank if nothing is open.

        In a file that `has_commas` as decimal marks a whole number such as 12345 decides nothing.
        """
        open_columns = {
            column: seen for column, seen in self._seen.items() if seen and (has_commas or not self._has_whole(column))
        }
        if not open_columns:
            return ""
        listed = "; ".join(
            f"{column}: {', '.join(f'{raw!r} ({unit} {line:,})' for line, raw in seen)}"
            for column, seen in open_columns.items()
        )
        text = self._bare(next(iter(open_columns.values()))[0][1])
        return (
            f"does the point separate thousands? {listed} may be {text.replace('.', '')} or {text}, as {why} and no"
            " number of the column shows its decimal mark"
        )

    def _has_whole(self, column: str) -> bool:
        return "12345" in self._wholes[column] or {"1234", "1.200"} <= self._wholes[column]


class DecimalMarks:
    """The rows of a file, in the numbers of whose `columns` the decimal mark becomes a point, without other marks.

    The first number of these columns that is certain decides for the file: a comma for 12,5 or 1.234,50, a point for
    12.5 or 1,234.50, not 1,234 or 1.234. Rows from the first uncertain number on wait for it.
    """

    def __init__(self, unit: str, columns: Collection[str], why_thousands: str) -> None:
        self._unit = unit
        self._columns = columns
        self._why = why_thousands
        self._points = OpenPoints(columns)
        self._mark = ""
        self._first = ""

    def rows(self, rows: Iterable[Record]) -> Iterator[Record]:
        """The rows, in their order."""
        waiting: list[Record] = []
        for row in rows:
            number, record, _ = row
            found = self._mark or self._decisive(number, record or {})
            if found == "?" or (waiting and not found):
                waiting.append(row)
                continue
            self._mark = found
            yield from map(self._read, waiting)
            waiting.clear()
            yield self._read(row)
        yield from map(self._read, waiting)

    def question(self) -> list[str]:
        """The error of numbers whose points may separate thousands, once the rows were read; none without any."""
        question = self._points.question(self._why, self._unit) if self._why and self._mark != "," else ""
        fix = "write 1200 where the point separates thousands, 1.2 or 1.2000 where it is the decimal mark"
        return [f"{question}; {fix}"] if question else []

    def _decisive(self, number: int, record: Mapping[str, Any]) -> str:
        """The mark that the row shows; "?" where it has an uncertain number alone."""
        found = ""
        for column in self._columns:
            for text in _marked(record.get(column)):
                if _UNCERTAIN.fullmatch(text):
                    found = "?"
                    continue
                for mark, form in _SEPARATED.items():
                    if form.fullmatch(text):
                        self._first = f"{quoted(text)} ({self._unit} {number:,})"
                        return mark
        return found

    def _read(self, row: Record) -> Record:
        number, record, unreadable = row
        if record is None:
            return row
        changed: dict[str, Any] = {}
        for column in self._columns:
            raw = record.get(column)
            if self._mark and (texts := _marked(raw)):
                wrong = [text for text in texts if not _SEPARATED[self._mark].fullmatch(text)]
                if wrong and self._mark == "," and _SEPARATED["."].fullmatch(wrong[0]):
                    changed[column] = Unreadable(f"{quoted(wrong[0])} has no decimal comma, as {self._first} has")
                elif not wrong:
                    other = "." if self._mark == "," else ","
                    changed[column] = str(raw).replace(other, "").replace(self._mark, ".")
            if self._why and self._mark != "," and column in self._points.columns:
                for part in _BETWEEN.split(raw) if type(raw) is str else (raw,):
                    self._points.see(column, number, part)
        return (number, {**record, **changed}, unreadable) if changed else row


_BETWEEN = re.compile("[;:]")
"""Stands between the numbers of a tier."""


def _marked(raw: object) -> list[str]:
    """The numbers of a value that have a mark."""
    if type(raw) is not str or not ("," in raw or "." in raw):
        return []
    return [part.strip() for part in _BETWEEN.split(raw) if "," in part or "." in part]


def is_number(raw: object) -> bool:
    """Whether the value is a number with a decimal point."""
    try:
        number_text(raw)
    except InvalidValue:
        return False
    return True
