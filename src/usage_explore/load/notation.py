"""What all rows of a file say of how it writes times and numbers, where one row does not: is the day or the month first
in 03/04/2026, is 1.200 1.2 or 1200?
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from usage_explore import formatting
from usage_explore.errors import LoadError
from usage_explore.files.decimal_marks import MAX_ROWS_SEARCHED, OpenPoints, is_number
from usage_explore.files.values import InvalidValue, Unreadable
from usage_explore.formatting import path_text
from usage_explore.load.numbers import bare_number
from usage_explore.load.paths import member
from usage_explore.load.row_mapper import RowMapper
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


_DECIMAL_COMMA = re.compile(r"[+-]?(?![1-9]\d{0,2},\d{3}$)\d*,\d+", re.ASCII)
"""A number with a decimal comma; 1,234 may be a number with a decimal point and a thousands separator."""


class DecimalMarks:
    """Refuses a file without a stated decimal mark in which the points of a column of numbers may separate thousands.

    That is so where each of the column's numbers with a point looks like 1.200, none such as 12345 is without one, and
    the source says that points may (`why`); or the file has decimal commas in its first rows.
    """

    def __init__(self, mapper: RowMapper, why: str) -> None:
        self._points = OpenPoints(_number_columns(mapper), bare_number)
        self._why = why
        self._rows = 0
        self._with_comma: dict[str, tuple[int, str]] = {}
        self._with_text: set[str] = set()

    def sees(self, line: int, record: Mapping[str, Any]) -> bool:
        """Look at a row. Whether further rows matter."""
        for source in self._points.columns:
            self._points.see(source, line, _value(record, source))
        if self._rows < MAX_ROWS_SEARCHED:
            self._rows += 1
            for name, raw in record.items():
                if type(raw) is str and "," in raw and _DECIMAL_COMMA.fullmatch(bare_number(raw)):
                    self._with_comma.setdefault(name, (line, raw))
                elif type(raw) is str and not is_number(raw):
                    self._with_text.add(name)
        elif not self._why and not self._with_comma.keys() - self._with_text:
            return False
        return bool(self._points.columns)

    def decide(self, path: Path) -> None:
        """Raise `LoadError` where a point may separate thousands."""
        commas = [(name, *where) for name, where in self._with_comma.items() if name not in self._with_text]
        why = self._why
        if commas:
            name, line, raw = commas[0]
            why = f"{name!r} has decimal commas (line {line:,}: {raw!r})"
        if why and (question := self._points.question(why, has_commas=bool(commas))):
            raise LoadError(
                f"{path_text(path)}: {question}; name the mark: --decimal , where the point separates thousands,"
                " --decimal . where it is the decimal mark"
            )


def _number_columns(mapper: RowMapper) -> list[str]:
    """The columns and paths of the file whose numbers are read with the decimal mark."""
    mapping = mapper.mapping
    sources = [source for source, kind in mapper.kinds().items() if kind == "number"]
    sources += [source for measure in mapper.measures.values() for source in measure.minus]
    sources += mapper.resolved(source for source in (*mapping.cost_factors, *mapping.cost_plus))
    return [source for source in dict.fromkeys(sources) if not is_number(source)]


def _value(record: Mapping[str, Any], source: str) -> object:
    try:
        return member(record, source)
    except InvalidValue:
        return None
