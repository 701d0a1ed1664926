"""Whether the day or the month is first in the times of a column, such as 03/04/2026, by all rows of a file."""

from __future__ import annotations

import shlex
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.errors import LoadError
from usage_explore.files.values import Unreadable
from usage_explore.formatting import path_text
from usage_explore.load.times import TimeReader, open_date, time_formats


class DateOrder:
    """Sets from all rows which number of the times of `column` is the day, the month and the year.

    Of 03/04/2026 a row with a number above 12 shows it. A year of two digits is last, and of this century, if some row
    would be no date from 2010 until five years from now with the year first, as 05/10/26 would be in 2005, and all rows
    are such dates with the year last; with a year first the form has to be given.
    """

    def __init__(self, column: str, times: TimeReader) -> None:
        self._column = column
        self._times = times
        self._first: tuple[int, str] | None = None
        self._orders: set[str] = set()
        self._has_short_year = False
        self._excluded: dict[str, tuple[int, str]] = {}

    def sees(self, line: int, raw: object) -> bool:
        """Look at a row's value. Whether further rows matter: not where the first is a time of certain order."""
        if raw is None or raw == "" or isinstance(raw, Unreadable):
            return True
        if not isinstance(raw, str) or not self._times.is_open(raw):
            return self._first is not None
        found = open_date(raw)
        if found is None:
            return True
        self._first = self._first or (line, raw)
        self._has_short_year |= found.has_short_year
        possible = found.orders()
        orders = {"day"} | ({"month"} if found.can_be_month_first else set())
        orders |= {"year"} if found.has_short_year else set()
        self._orders |= orders
        if possible:  # else the row is rejected
            for order in orders - possible:
                self._excluded.setdefault(order, (line, raw))
        return True

    def decide(self, path: Path) -> None:
        """Set the order. Raises `LoadError` where no row decides, or rows contradict each other."""
        if self._first is None:
            return
        left = self._orders - self._excluded.keys()
        if len(left) != 1 or left == {"year"}:
            raise LoadError(f"{path_text(path)}: {self._column}: {self._problem(left, *self._first)}")
        self._times.day_first = left == {"day"} if "month" in self._orders else self._times.day_first
        self._times.has_short_years = self._has_short_year
        shown = dict.fromkeys(self._excluded.values())
        self._times.decided_by = " and ".join(f"line {line:,}: {raw!r}" for line, raw in shown)

    def _problem(self, left: set[str], line: int, raw: str) -> str:
        question = "is the day or the month first?" if "month" in self._orders else "is the day or the year first?"
        if not left:
            excluded = sorted((where, order) for order, where in self._excluded.items())
            lines = "; ".join(f"line {at:,}: {text!r} {_shows(text, order)}" for (at, text), order in excluded)
            return f"{question} {lines}; write all times in one form, or give it with --time-format"
        readings = " or ".join(
            f"--time-format {shlex.quote(form)} for {formatting.date(_day(raw, form))}"
            for first, form in time_formats([raw]).items()
            if first in left
        )
        decisive = "a number above 12 would; " if "month" in left else ""
        if left == {"year"}:
            return f"the year may be first in line {line:,}: {raw!r}; name the form: {readings}"
        return f"{question} no line decides, like line {line:,}: {raw!r}; {decisive}" + (
            f"name the form: {readings}" if readings else "write years with four digits"
        )


def _shows(raw: str, order: str) -> str:
    """What a value that excludes an order says."""
    possible = [*found.orders()] if (found := open_date(raw)) else []
    return f"has the {possible[0]} first" if len(possible) == 1 else f"cannot have the {order} first"


def _day(raw: str, form: str) -> datetime:
    return datetime.fromisoformat(TimeReader(ZoneInfo("UTC"), form).read(raw))
