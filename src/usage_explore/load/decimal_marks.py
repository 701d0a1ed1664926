"""Whether the point in a column's numbers is a decimal mark or separates thousands: 1.200 is 1.2 or 1200."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from usage_explore.errors import LoadError
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import path_text
from usage_explore.load.numbers import bare_number, is_number
from usage_explore.load.paths import member
from usage_explore.load.row_mapper import RowMapper

_MAX_ROWS_SEARCHED_FOR_COMMAS = 1_000
"""First rows of a file without semicolons in which decimal commas are searched for."""

_MAX_LISTED_LINES = 3
"""Lines of a column that an error names."""

_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(?:\.\d{3})+", re.ASCII)
_DECIMAL_COMMA = re.compile(r"[+-]?(?![1-9]\d{0,2},\d{3}$)\d*,\d+", re.ASCII)
"""A number with a decimal comma; 1,234 may be a number with a decimal point and a thousands separator."""


class DecimalMarks:
    """Refuses a file without a stated decimal mark in which the points of a column of numbers may separate thousands.

    That is so where each of the column's numbers with a point looks like 1.200, and the file is separated by semicolons
    or has decimal commas in its first rows. Numbers that only a decimal mark explains, such as 0.125 or 1.25, end the
    search.
    """

    def __init__(self, mapper: RowMapper, delimiter: str | None) -> None:
        self._examples: dict[str, list[tuple[int, str]]] = {source: [] for source in _number_columns(mapper)}
        self._is_searched = delimiter != ";"
        self._rows = 0
        self._with_comma: dict[str, tuple[int, str]] = {}
        self._with_text: set[str] = set()

    def sees(self, line: int, record: Mapping[str, Any]) -> bool:
        """Look at a row. Whether further rows matter."""
        for source in tuple(self._examples):
            _see(line, _value(record, source), self._examples, source)
        if self._is_searched and self._rows < _MAX_ROWS_SEARCHED_FOR_COMMAS:
            self._rows += 1
            for name, raw in record.items():
                if type(raw) is str and "," in raw and _DECIMAL_COMMA.fullmatch(bare_number(raw)):
                    self._with_comma.setdefault(name, (line, raw))
                elif type(raw) is str and not is_number(raw):
                    self._with_text.add(name)
        elif self._is_searched and not self._with_comma.keys() - self._with_text:
            return False
        return bool(self._examples)

    def decide(self, path: Path) -> None:
        """Raise `LoadError` where a point may separate thousands."""
        commas = [(name, *where) for name, where in self._with_comma.items() if name not in self._with_text]
        lines = [(source, seen) for source, seen in self._examples.items() if seen]
        if not lines or (self._is_searched and not commas):
            return
        why = "the file is separated by semicolons"
        if self._is_searched:
            name, line, raw = commas[0]
            why = f"{name!r} has decimal commas (line {line:,}: {raw!r})"
        listed = "; ".join(
            f"{source}: {', '.join(f'{raw!r} (line {line:,})' for line, raw in seen)}" for source, seen in lines
        )
        text = bare_number(lines[0][1][0][1])
        raise LoadError(
            f"{path_text(path)}: does the point separate thousands? {listed} may be {text.replace('.', '')} or"
            f" {text}, as {why}"
            " and no number of the column shows its decimal mark; name the mark: --decimal , where the point separates"
            " thousands, --decimal . where it is the decimal mark"
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


def _see(line: int, raw: object, examples: dict[str, list[tuple[int, str]]], source: str) -> None:
    """Keep the value where its point may separate thousands; forget the column where it cannot."""
    if raw is None or raw == "":
        return
    if type(raw) is not str:
        del examples[source]
    elif "." in raw:
        text = bare_number(raw)
        if _THOUSANDS.fullmatch(text):
            if len(examples[source]) < _MAX_LISTED_LINES:
                examples[source].append((line, raw))
        elif is_number(text):
            del examples[source]
