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

_COMMA = re.compile(r"[+-]?(?:(?:\d+|\d{1,3}(?:\.\d{3})+)?,\d+|\d{1,3}(?:\.\d{3}){2,})(?:[eE][+-]?\d{1,9})?", re.ASCII)
"""A number with a decimal comma, or with more than one point between thousands."""
_OPEN_COMMA = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
"""1,234 may be a number with a decimal point and a thousands separator."""


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

    def decided(self, column: str) -> None:
        """Ask nothing of the column."""
        self._seen.pop(column, None)


class DecimalCommas:
    """The rows of a file with a decimal point in the numbers of the `columns`, also where the file has decimal commas.

    It has them where the first number of these columns that is certain has one: 12,5 or 1.234,50, not 1,234 or 1.234.
    Rows from the first uncertain number on wait for it. A text of several numbers has `separators` between them.
    """

    def __init__(self, unit: str, columns: Collection[str], why_thousands: str, separators: str = ";:") -> None:
        self._unit = unit
        self._columns = columns
        self._why = why_thousands
        self._between = re.compile(f"([{separators}])")
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
            yield from map(self._with_points, waiting)
            waiting.clear()
            yield self._with_points(row)
        yield from map(self._with_points, waiting)

    def question(self) -> list[str]:
        """The error of numbers whose points may separate thousands, once the rows were read; none without any."""
        has_commas = self._mark == ","
        why = f"{self._first} has a decimal comma" if has_commas else self._why
        question = self._points.question(why, self._unit, has_commas=has_commas) if why else ""
        decimals = "1,2 or 1,2000" if has_commas else "1.2 or 1.2000"
        fix = f"write 1200 where the point separates thousands, {decimals} where it is the decimal mark"
        return [f"{question}; {fix}"] if question else []

    def _decisive(self, number: int, record: Mapping[str, Any]) -> str:
        """The mark that the row shows; "?" where it has a number of either."""
        found = ""
        for column in self._columns:
            for text in self._texts(record.get(column)):
                if _OPEN_COMMA.fullmatch(text) or (_THOUSANDS.fullmatch(text) and text.count(".") == 1):
                    found = "?"
                elif _COMMA.fullmatch(text):
                    self._first = f"{quoted(text)} ({self._unit} {number:,})"
                    return ","
                elif "." in text and is_number(text):
                    return "."
        return found

    def _texts(self, raw: object) -> list[str]:
        """The numbers of a value that have a mark."""
        if type(raw) is not str or not ("," in raw or "." in raw):
            return []
        return [part.strip() for part in self._between.split(raw) if "," in part or "." in part]

    def _with_points(self, row: Record) -> Record:
        number, record, unreadable = row
        if record is None:
            return row
        changed: dict[str, Any] = {}
        for column in self._columns:
            raw = record.get(column)
            if self._mark == "," and (texts := self._texts(raw)):
                others = (text for text in texts if not (_COMMA.fullmatch(text) or _THOUSANDS.fullmatch(text)))
                if (wrong := next(others, None)) is not None:
                    changed[column] = Unreadable(f"{quoted(wrong)} has no decimal comma, as {self._first} has")
                    continue
                if any("," in text for text in texts):
                    self._points.decided(column)
                changed[column] = str(raw).replace(".", "").replace(",", ".")
            if column in self._points.columns and (self._why or self._mark == ","):
                for part in self._between.split(raw) if type(raw) is str else (raw,):
                    self._points.see(column, number, part)
        return (number, {**record, **changed}, unreadable) if changed else row


def is_number(raw: object) -> bool:
    """Whether the value is a number with a decimal point."""
    try:
        number_text(raw)
    except InvalidValue:
        return False
    return True
