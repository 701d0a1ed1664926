"""The same small table in every format."""

from __future__ import annotations

import io
import json

import openpyxl

NAMES = ("id", "model", "amount", "note")
ROWS: list[tuple[str | None, ...]] = [
    ("1", "small", "0.10", "a;b,c|d\te"),
    ("2", "größe 日本", "1e-7", None),
    ("3", 'say "x"', "12345678901234567890.5", "two\nlines"),
]
RECORDS = [{name: value for name, value in zip(NAMES, row, strict=True) if value is not None} for row in ROWS]


def csv_text(delimiter: str = ",") -> str:
    """The table as CSV, every value in quotes but nulls."""
    lines = [NAMES, *ROWS]
    quote = '"'
    return "".join(
        delimiter.join("" if value is None else f'"{value.replace(quote, quote * 2)}"' for value in line) + "\r\n"
        for line in lines
    )


def json_records() -> list[dict[str, str | None]]:
    return [dict(zip(NAMES, row, strict=True)) for row in ROWS]


def workbook(sheets: dict[str, list[list[object]]], **formats: str) -> bytes:
    """An Excel workbook; `formats` are number formats by cell of the first sheet: B2="0.00"."""
    book = openpyxl.Workbook()
    book.remove(book.active)
    for title, rows in sheets.items():
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    for cell, number_format in formats.items():
        book.worksheets[0][cell].number_format = number_format
    content = io.BytesIO()
    book.save(content)
    return content.getvalue()


def json_text(value: object, **options: object) -> str:
    return json.dumps(value, ensure_ascii=False, **options)  # type: ignore[arg-type]
