"""The delimiter of a CSV file, detected from its header line and first rows."""

from __future__ import annotations

import csv
import io
import re
from itertools import islice

from usage_explore.errors import ConfigurationError

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "pipes"}
"""Delimiter -> its name in a description; of several that fit alike, the first is taken."""

_NAMES = {"comma": ",", "tab": "\t", "\\t": "\t", "semicolon": ";", "pipe": "|", "space": " "}

_SAMPLED_ROWS = 20

_SEPARATOR_LINE = re.compile(r'"?sep=([^\r\n"])"?\r?\n?')
"""A first line in which Excel names the delimiter: sep=;"""


def delimiter_named(name: str) -> str:
    """The delimiter as one character; it may be named: "tab". Raises `ConfigurationError` for what cannot be one."""
    delimiter = _NAMES.get(name.lower(), name)
    if len(delimiter) != 1 or delimiter in '"\r\n\0' or delimiter.isalnum():
        raise ConfigurationError(
            f"delimiter: {name!r} is not a delimiter; name one character, like ';', or comma, tab, semicolon, pipe"
        )
    return delimiter


def separator_line(line: str) -> str | None:
    """The delimiter that a line "sep=;" names, else None."""
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else None


def detect_delimiter(start: str, *, is_cut: bool) -> str:
    """The delimiter that gives header and rows the same number of fields, of at least two; quotes are respected.

    Where rows differ, the delimiter that gives most rows the header's number of fields, then the one that gives the
    most fields. A comma where there is one column. `start` is the text at the file's start; `is_cut` says that the file
    goes on.
    """
    if is_cut and (end := start.rfind("\n") + 1):
        start = start[:end]
    lines = start.splitlines(keepends=True)
    if lines and (named := separator_line(lines[0])):
        return named
    best, best_score = ",", (0.0, 0)
    for delimiter in DELIMITERS:
        width, fitting = _widths(start, delimiter)
        if width > 1 and (fitting, width) > best_score:
            best, best_score = delimiter, (fitting, width)
    return best


def _widths(start: str, delimiter: str) -> tuple[int, float]:
    """The number of fields of the header, and the share of the rows that have as many; 1 where there are no rows."""
    widths: list[int] = []
    try:
        rows = csv.reader(io.StringIO(start, newline=""), delimiter=delimiter)
        widths.extend(len(row) for row in islice((row for row in rows if row), _SAMPLED_ROWS + 1))
    except csv.Error:
        pass  # a field beyond the limit; the rows before it say enough
    if not widths:
        return 0, 0.0
    header, *rest = widths
    return header, sum(width == header for width in rest) / len(rest) if rest else 1.0
