r"""Tables to look at. A cell holds its value: it is copied, downloaded and sorted by; formats are for the eye.

Numbers that a double holds exactly are numbers, shown with their thousands apart. A column with any other number, and
one of more than 2,000 rows, is plain text to the last digit, which Streamlit sorts as text: its heading says so. NULL
is no value, shown as –. Column ids head the CSV, labels the screen.

Streamlit's own CSV neither escapes formulas nor quotes a lone carriage return, and writes the empty text as it writes
NULL: values are escaped here, not on screen. A carriage return is written \r, the empty text as one apostrophe, which
is also what removing one leading apostrophe reads back; NULL is nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import ceil
from typing import Any, Literal

import pandas as pd
import streamlit as st

from usage_explore import formatting
from usage_explore.decimals import Number, plain
from usage_explore.results import formulas

_MAX_STYLED = 2_000
"""Rows up to which cells are formatted for the eye: pandas takes 0.1 ms for each row."""

_SAFE_INTEGER, _LEAST_PLAIN = 2**53 - 1, 1e-6
"""Between these a browser holds an integer exactly, and writes a number without an exponent."""

_LETTER, _PADDING, _WIDEST = 6.6, 18, 420
"""Pixels of a letter or digit, of a cell's padding, and of the widest column of digits."""

RANK = "#"
"""The first column of a list whose rows open something: the place of a row, and where the keyboard enters."""


@dataclass(frozen=True, slots=True)
class Column:
    """The values of a column, Streamlit's configuration of it, and what the eye sees of a value that is there.

    `width` is in pixels, 0 where Streamlit measures the column.
    """

    values: pd.Series[Any]
    config: Any
    shown: Callable[[Any], str] | None = None
    width: int = 0


def numbers(
    label: str, values: Sequence[Number | None], shown: Callable[[Number], str] = formatting.exact, **options: Any
) -> Column:
    """Exact numbers, as wide as the longest; beyond 420 pixels it is the last digits that are cut, not the first."""
    texts = [None if value is None else plain(value) for value in values]
    if len(values) <= _MAX_STYLED and all(text is None or _is_double(text) for text in texts):
        # the shortest decimal that is this double is the one that it was made of
        doubles = [None if text is None else float(text) for text in texts]
        return ratios(label, doubles, lambda value: shown(Decimal(repr(value))), **options)
    return _digits(label, texts, **options)


def ratios(label: str, values: Sequence[float | None], shown: Callable[[float], str], **options: Any) -> Column:
    """Numbers as near as a double comes to them."""
    if len(values) > _MAX_STYLED:
        return _digits(label, [None if value is None else repr(value) for value in values], **options)
    pixels = width(label, [None if value is None else shown(value) for value in values])
    config = st.column_config.NumberColumn(label, width=pixels, **options)
    return Column(pd.Series(values, dtype="float64"), config, shown, pixels)


def _digits(label: str, texts: Sequence[str | None], **options: Any) -> Column:
    """Numbers as text: Streamlit's own format "plain" writes 108.99999999999999 for 109."""
    options.setdefault("help", "Every digit, held as text: sorting by this column is alphabetical, not by size.")
    pixels = width(label, texts)
    alignment: Literal["left", "right"] = "right" if pixels < _WIDEST else "left"
    config = st.column_config.TextColumn(label, alignment=alignment, width=pixels, **options)
    return Column(pd.Series(texts, dtype="object"), config, width=pixels)


def texts(
    label: str, values: Sequence[str | None], shown: Callable[[str], str] | None = None, **options: Any
) -> Column:
    """Text, escaped for spreadsheets. `shown` makes of a value what the eye sees, by default the value or (empty)."""
    lines = [value and value.replace("\r", "\\r") for value in values]
    safe = ["'" if text == "" else text for text in formulas.column(lines)]
    eye = shown
    if safe != lines:

        def eye(text: str) -> str:
            value = text.removeprefix("'")
            return shown(value) if shown else value or "(empty)"

    return Column(pd.Series(safe, dtype="object"), st.column_config.TextColumn(label, **options), eye)


def ranks(rows: int) -> Column:
    """The column `RANK`: 1 for the first row."""
    return numbers(RANK, range(1, rows + 1))


def draw(columns: Mapping[str, Column], inks: Mapping[str, Sequence[str]] | None = None, **options: Any) -> Any:
    """Draw the columns by their ids. `inks` are the colours of a column's cells, `options` go to `st.dataframe`."""
    frame = pd.DataFrame({name: column.values for name, column in columns.items()})
    data: Any = frame
    if len(frame) <= _MAX_STYLED and (inks or any(column.shown for column in columns.values())):
        data = frame.style
        for name, column in columns.items():
            # without a text of its own a missing cell would be copied as None
            data = data.format(column.shown, subset=[name], na_rep="")
        for name, ink in (inks or {}).items():
            data = data.apply(lambda _, ink=ink: [f"color: {each}" for each in ink], subset=[name])
    return st.dataframe(
        data,
        hide_index=True,
        column_config={name: column.config for name, column in columns.items()},
        placeholder="–",
        **options,
    )


def clicked(selected: Any, opened: Sequence[int]) -> int | None:
    """The row that a click or its box selected, None where the box of the `opened` one was cleared.

    Cells of the first column open nothing: there the keyboard's focus enters the list and moves along it.
    """
    found = selected["selection"]
    # the box of the opened row stays selected beside another row's cell, and a cell beside another row's box
    clicked = [*found["rows"], *(row for row, column in found["cells"] if column != RANK)]
    return next((row for row in clicked if row not in opened), next(iter(found["rows"]), None))


def _is_double(text: str) -> bool:
    """Whether a browser's number is exactly this one, and is written without an exponent."""
    value = float(text)
    return (
        abs(value) <= _SAFE_INTEGER
        and (not value or abs(value) >= _LEAST_PLAIN)
        and Decimal(repr(value)) == Decimal(text)
    )


def width(label: str, texts: Sequence[str | None]) -> int:
    """Pixels that a column of these texts needs, at most 420."""
    return min(_WIDEST, _PADDING + ceil(_LETTER * max(len(text) for text in (label, *texts) if text is not None)))
