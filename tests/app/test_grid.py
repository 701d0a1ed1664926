"""A table's cells hold values that are read back exactly, whatever the eye sees."""

from __future__ import annotations

import csv
import io
from decimal import Decimal
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from usage_explore.app import grid
from usage_explore.decimals import plain
from usage_explore.results import formulas

DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=12) | st.decimals(-1000, 1000, places=2)


@given(st.lists(st.none() | DECIMALS | st.integers(), min_size=1, max_size=5))
def test_numbers_are_read_back_exactly(values: list[Decimal | int | None]) -> None:
    column = grid.numbers("Quantity", values)
    for value, cell in zip(values, column.values, strict=True):
        if value is None:
            assert cell is None or cell != cell
        elif isinstance(cell, str):
            assert cell == plain(value)
        else:
            # what a browser writes of a number: no exponent, and the shortest digits that are this double
            assert cell == 0 or 1e-6 <= abs(cell) < 2**53
            assert Decimal(repr(float(cell))) == value
            assert column.shown
            assert Decimal(column.shown(cell).replace(",", "").replace("−", "-")) == value


@given(st.lists(st.none() | st.text(), min_size=1, max_size=5))
def test_texts_are_one_field_without_a_formula_and_shown_as_they_are(values: list[str | None]) -> None:
    column = grid.texts("Metric", values)
    for value, cell in zip(values, column.values, strict=True):
        if value is None:
            assert cell is None
            continue
        written = value.replace("\r", "\\r")
        assert cell == (formulas.escaped(written) or "'")  # Streamlit writes "" as it writes NULL
        assert formulas.original(cell) == written
        assert (column.shown(cell) if column.shown else cell) == (written or "(empty)")
        # as Streamlit writes it: quoted for a comma, a quote or a line feed alone
        quoted = f'"{cell.replace(chr(34), chr(34) * 2)}"' if any(each in cell for each in ',"\n') else cell
        assert [*csv.reader(io.StringIO(f"{quoted},x\n", newline=""))] == [[cell, "x"]]


def test_what_the_eye_sees_is_made_of_the_value_not_of_its_escape() -> None:
    column = grid.texts("Metric", ["=1", "", "'tis", "a", None], lambda text: f"<{text}>")
    assert column.shown
    assert [column.shown(each) for each in column.values if each is not None] == ["<=1>", "<>", "<'tis>", "<a>"]


@given(st.text() | st.from_regex(r"\A[=+\-@'\t\r\n ＝＋－＠;].*\Z") | st.text("=;'- 1"))
def test_what_is_escaped_begins_no_formula_and_is_read_back(text: str) -> None:
    written = formulas.escaped(text)
    assert formulas.original(written) == text
    for cell in (written, *written.split(";")[1:]):  # of CSV that is split at commas, or at semicolons
        begins = cell.lstrip()[:1]
        assert begins not in {*"=+-@＝＋－＠"} or float(cell) == float(cell)
        assert not cell.startswith(("\t", "\r", "\n"))


def test_numbers_are_no_formulas() -> None:
    for number in ("-60", "+5", "-0.000000000000001", "-1e-7", "12", "-Infinity", " -60"):
        assert formulas.escaped(number) == number
    for formula in ("-0;", "-60;5", "-60+1", "+cmd|' /C calc'!A0", "=1", "@SUM(A1)", "\t=1", " =1", "-", "+", "−60-"):
        assert formulas.escaped(formula) == (f"'{formula}" if formula != "−60-" else formula)


def test_many_rows_are_text_to_the_last_digit() -> None:
    values = [Decimal(109), Decimal("-13451.144"), None, 1234567] * 1_251
    assert [*grid.numbers("Quantity", values).values] == ["109", "-13451.144", None, "1234567"] * 1_251
    assert [*grid.ratios("Share", [0.1, None] * 2_501, str).values] == ["0.1", None] * 2_501


def test_a_ratio_beyond_the_integers_of_doubles_is_text_without_an_exponent() -> None:
    """Streamlit draws such a number as it is, not in its format."""
    column = grid.ratios("Change", [2.5e22, inf, -0.5, None], repr)
    assert [*column.values] == ["25000000000000000000000", "Infinity", "-0.5", None]
    assert column.shown
    assert list(map(column.shown, column.values[:3])) == ["2.5e+22", "inf", "-0.5"]


@pytest.mark.parametrize("text", ["[1, 2]", "[]", ' ["a"] '])
def test_a_button_s_text_is_no_list_of_buttons(text: str) -> None:
    assert not grid.on_button(text).strip().endswith("]")
    assert grid.on_button(text).removesuffix("\u200b") == text
    assert grid.on_button("[EU] west") == "[EU] west"


def test_moving_along_a_list_without_boxes_leaves_the_opened_row_open() -> None:
    """There an opened row has no ticked box: the focus that came back to the list closed it."""

    def selected(*cells: tuple[int, str], rows: tuple[int, ...] = ()) -> dict[str, dict[str, object]]:
        return {"selection": {"rows": list(rows), "cells": list(cells)}}

    assert grid.clicked(selected((2, grid.RANK)), [1], boxes=False) == 1
    assert grid.clicked(selected((2, grid.RANK)), [], boxes=False) is None
    assert grid.clicked(selected((2, "Severity")), [1], boxes=False) == 2
    assert grid.clicked(selected((1, "Severity")), [1], boxes=False) is None
    assert grid.clicked(selected((2, grid.RANK)), [1]) is None
    assert grid.clicked(selected((2, grid.RANK), rows=(1,)), [1]) == 1
