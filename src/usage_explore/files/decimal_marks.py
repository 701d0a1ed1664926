"""Columns of numbers whose points may separate thousands: 1.200 is 1.2 with a decimal point, in German 1200."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from usage_explore.files.values import InvalidValue, number_text

MAX_LISTED_LINES = 3
"""Lines of a column that an error names."""

MAX_ROWS_SEARCHED = 1_000
"""First rows of a file that are searched for numbers that are text."""

_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+", re.ASCII)
_WHOLE = re.compile(r"[+-]?[1-9]\d{3}(?P<more>\d+)?", re.ASCII)
"""A number of at least 1000 without a mark; `more` are the digits after the fourth."""


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


def is_number(raw: object) -> bool:
    """Whether the value is a number with a decimal point."""
    try:
        number_text(raw)
    except InvalidValue:
        return False
    return True
