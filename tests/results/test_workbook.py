"""Workbooks and wide CSV, read back by openpyxl and by the package's own reader: exact, without formulas."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from collections.abc import Sequence
from concurrent.futures import CancelledError
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from usage_explore.answers import Aggregate
from usage_explore.db import timeouts
from usage_explore.errors import ConfigurationError
from usage_explore.files.xlsx_source import XlsxSource
from usage_explore.query.queries import AggregateQuery
from usage_explore.results import frames, workbook
from usage_explore.results.types import Point, Series, Served

NOW = datetime(2026, 11, 5, 14, 5, tzinfo=UTC)
EVIL = ["=1+1", "#N/A", "<r>x</r>", "a\rb", "_x000D_", "\x01", "@SUM(A1)", " spaced ", "start", "kind", "\ufffe"]


def answer(columns: dict[str, Sequence[Any]], **parameters: Any) -> Aggregate:
    """An answer with a series per key and these values of its first buckets, 0 in the others."""
    parameters = {"since": "2026-10-01T00:00:00Z", "until": "2026-10-04T00:00:00Z", **parameters}
    query = AggregateQuery(
        organization_id=UUID(int=7), group_by="dim:model", **{"metric": "sum_quantity", **parameters}
    )
    edges = query.edges()
    series = []
    for key, first in columns.items():
        values = [*map(Decimal, first), *[Decimal(0)] * (len(edges) - 1 - len(first))]
        points = tuple(Point(*edge, value, edge[1] <= NOW) for edge, value in zip(pairwise(edges), values, strict=True))
        series.append(Series("value", key, sum(values, Decimal(0)), 1, points))
    served = Served("a test", timedelta(0))
    return Aggregate(query, tuple(series), edges, NOW, False, 1, served, "http://app")


def book(made: Aggregate) -> Any:
    return openpyxl.load_workbook(io.BytesIO(made.xlsx("Acme (7)", made.url(), "http://app/?pinned=1")))


def cells(sheet: Any) -> list[dict[str, Any]]:
    heading, *rows = sheet.iter_rows()
    return [dict(zip([cell.value for cell in heading], row, strict=True)) for row in rows]


def unescaped(text: str) -> str:
    return re.sub("_x([0-9A-F]{4})_", lambda match: chr(int(match[1], 16)), text)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.decimals(allow_nan=False, allow_infinity=False), min_size=3, max_size=3))
def test_every_digit_is_kept_as_a_number_up_to_15_digits_else_as_text(values: list[Decimal]) -> None:
    sheet = book(answer({"a": values}))["Long"]
    for value, row in zip(values, cells(sheet), strict=True):
        cell = row["quantity"]
        digits = str(int(abs(value).scaleb(-value.as_tuple().exponent))).strip("0") if value else ""
        if cell.data_type == "n":
            assert Decimal(repr(cell.value)) == value
            assert len(digits) <= 15
        else:
            assert Decimal(cell.value) == value
            assert len(digits) > 15 or not Decimal("1e-307") < abs(value) < Decimal("1e308")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("123456789012345", 123456789012345),
        ("1234567890123456", "1234567890123456"),
        ("-0.100", -0.1),
        ("0.1234567890123456", "0.1234567890123456"),
        ("1E+20", 1e20),
        ("-0", 0),
    ],
)
def test_fifteen_digits_are_the_border(value: str, shown: object, tmp_path: Path) -> None:
    made = answer({"a": [value]})
    assert cells(book(made)["Long"])[0]["quantity"].value == shown
    path = tmp_path / "a.xlsx"
    path.write_bytes(made.xlsx("Acme", made.url()))
    with XlsxSource(path, sheet="Long") as source:
        _, row, fault = next(iter(source))
    assert fault is None
    assert row is not None
    assert Decimal(row["quantity"]) == Decimal(value)


def test_a_workbook_ends_at_the_next_row_when_its_request_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of 110,000 points was written for a minute for a client that had left."""
    append, rows = workbook.Sheet.append, []

    def counting(sheet: workbook.Sheet, values: Any) -> None:
        append(sheet, values)
        rows.append(values)
        if len(rows) == 2:
            held.cancel()

    monkeypatch.setattr(workbook.Sheet, "append", counting)
    made = answer({"a": [1] * 3})
    with timeouts.cancellable() as held, pytest.raises(CancelledError):
        made.xlsx("Acme", made.url())
    assert len(rows) == 2


def test_text_is_never_a_formula_and_comes_back_whole() -> None:
    content = answer({key: [1] for key in EVIL}).xlsx("=Acme", "=link")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert not any(b"<f>" in archive.read(name) for name in archive.namelist())
    opened = openpyxl.load_workbook(io.BytesIO(content))
    rows = [row for row in cells(opened["Long"]) if row["quantity"].value]
    assert [unescaped(row["key"].value) for row in rows] == EVIL
    assert {cell.data_type for sheet in opened for row in sheet.iter_rows() for cell in row} <= {"s", "n", "d", "b"}


def test_the_wide_sheet_has_a_column_per_series_whose_sums_are_the_totals() -> None:
    made = answer({key: [f"{rank}.125", 3] for rank, key in enumerate(EVIL)})
    wide = book(made)["Wide"]
    headings = [cell.value for cell in next(wide.iter_rows())]
    assert len({*headings}) == len(headings) == 3 + len(EVIL)
    for column, series in zip(wide.iter_cols(min_col=4, min_row=2, values_only=True), made.series, strict=True):
        assert sum((Decimal(repr(value)) for value in column), Decimal(0)) == series.total


def test_times_are_on_the_query_s_clock_with_the_offset_where_it_shows_an_hour_twice() -> None:
    made = answer(
        {"a": [1]}, since="2026-10-24T23:00:00Z", until="2026-10-25T03:00:00Z", bucket="hour", timezone="Europe/Berlin"
    )
    rows = cells(book(made)["Wide"])
    zone = ZoneInfo("Europe/Berlin")
    local = [edge.astimezone(zone) for edge in made.edges[:-1]]
    assert [row["start (Europe/Berlin)"].value for row in rows] == [edge.replace(tzinfo=None) for edge in local]
    assert [row["UTC offset of start"].value for row in rows] == ["+02:00", "+02:00", "+01:00", "+01:00"]


def test_the_query_sheet_says_what_the_file_holds() -> None:
    made = answer({"a": ["1234567890123456.5"]}, dimensions={"region": "eu"})
    rows = dict(book(made)["Query"].iter_rows(values_only=True))
    assert rows["Organization"] == "Acme (7)"
    assert rows["Query"] == "Quantity per day by model, 1–3 Oct 2026, UTC, region is eu"
    assert rows["As of"].startswith("2026-11-05 14:05:00 +00:00")
    assert rows["dim:region"] == "eu"
    assert Decimal(rows["Total"]) == made.total
    assert rows["Pinned link"] == "http://app/?pinned=1"
    assert "3 numbers with more" in rows["Exactness"]  # in both tables, and the total


def test_a_wide_table_beyond_excel_s_columns_is_left_out_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workbook, "MAX_SHEET_COLUMNS", 5)
    opened = book(answer({"a": [1], "b": [1], "c": [1]}))
    assert opened.sheetnames == ["Long", "Query"]
    assert "3 series" in dict(opened["Query"].iter_rows(values_only=True))["Wide"]


def test_a_text_longer_than_a_cell_is_cut_and_said() -> None:
    opened = book(answer({"é" + "\U0001f600" * 20_000: [1]}))
    assert opened["Long"]["F2"].value is not None
    text = opened["Long"]["F2"].value
    assert len(text.encode("utf-16-le")) // 2 <= workbook.MAX_CELL_CHARACTERS
    assert text.endswith("😀…")
    assert "longer than 32,767" in dict(opened["Query"].iter_rows(values_only=True))["Cut"]


@pytest.mark.parametrize("escape", [False, True])
def test_wide_csv_is_exact_with_unique_headings(escape: bool) -> None:
    big = "12345678901234567890.000000000000000001"
    made = answer({key: [big, "1E-7"] for key in [*EVIL, "end", "end (value)"]})
    heading, *rows = csv.reader(
        io.StringIO(frames.to_csv(made, wide=True, escape_formulas=escape).decode(), newline="")
    )
    assert len({*heading}) == len(heading)
    assert [*heading[:3]] == ["start", "end", "complete"]
    assert ("'=1+1" if escape else "=1+1") in heading
    for index, row in enumerate(rows):
        assert [Decimal(text) for text in row[3:]] == [series.points[index].value for series in made.series]
    assert rows[0][3] == big
    assert rows[1][3] == "0.0000001"


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    made = answer({"a": [1]})
    made.to_xlsx(tmp_path / "a.xlsx")
    made.to_csv(tmp_path / "a.csv", wide=True)
    assert (tmp_path / "a.csv").read_bytes() == frames.to_csv(made, wide=True)
    assert openpyxl.load_workbook(tmp_path / "a.xlsx").sheetnames == ["Long", "Query", "Wide"]
    with pytest.raises(ConfigurationError, match="path"):
        made.to_xlsx(tmp_path / "none" / "a.xlsx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.xlsx"]


def test_the_answer_as_of_a_time_is_one_file() -> None:
    """An immutable answer over HTTP has an ETag of its bytes, which had the clock's time in them."""
    made = answer({"a": [1]}, as_of="2026-11-01T00:00:00Z").xlsx("Acme (7)", "http://app/", "http://app/?pinned=1")
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    properties = openpyxl.load_workbook(io.BytesIO(made)).properties
    assert properties.created == properties.modified == datetime(2026, 11, 1)  # noqa: DTZ001 - naive UTC in the format
