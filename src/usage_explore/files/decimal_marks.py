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


class OpenPoints:
    """The columns of a file of which every number with a point looks like 1.200.

    One that only a decimal point explains, such as 0.125 or 1.25, decides for its column. Numbers that are no text, as
    in Excel, say nothing. `bare` takes signs of currencies and the like from a number.
    """

    def __init__(self, columns: Iterable[str], bare: Callable[[str], str] = str.strip) -> None:
        self._seen: dict[str, list[tuple[int, str]]] = {column: [] for column in columns}
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
            elif is_number(text):
                del self._seen[column]

    def question(self, why: str, unit: str = "line") -> str:
        """What is not decided, as `why` says that a point may separate thousands; blank if nothing is open."""
        open_columns = {column: seen for column, seen in self._seen.items() if seen}
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


def is_number(raw: object) -> bool:
    """Whether the value is a number with a decimal point."""
    try:
        number_text(raw)
    except InvalidValue:
        return False
    return True
