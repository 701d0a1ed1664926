"""The process that reads a sheet of an Excel workbook (.xlsx), with an upper bound on its memory.

openpyxl keeps the workbook's shared texts in memory, and a few kilobytes can hold gigabytes of them. The operating
system therefore bounds the memory, as for Parquet (`parquet_decoder`).

Run by its path, so that nothing else of the package is loaded. Input: the arguments of `decode` as a JSON object.
Output: lines of JSON, first {"sheet": name, "rows": number or null}, then for each row with values [number, [values]].
A value is null, text, true, a number with its digits, or an object with one of the keys "datetime", "time", "seconds"
and "unreadable". The exit status says how it ended (`REFUSED`, `UNREADABLE`, `OUT_OF_MEMORY`), the standard error why.
"""

from __future__ import annotations

import json
import math
import re
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TextIO

from openpyxl import load_workbook
from openpyxl.utils.datetime import from_excel
from openpyxl.worksheet._reader import FORMULA_TAG, VALUE_TAG, WorkSheetParser

REFUSED, UNREADABLE, OUT_OF_MEMORY = 3, 4, 5
"""Exit statuses: a sheet that is not there or too large, an error of openpyxl, too little memory."""

MAX_REASON_CHARACTERS = 2_000
"""Characters of the reason on the standard error, which may quote the file."""

MAX_ROWS = 1_048_576
"""Rows of a sheet, by the format."""

MAX_DOUBLE_DIGITS = 17
"""Digits that a double needs at most; a number with more was not written from one, and is taken as it is."""

_LISTED_SHEETS = 20
_NUMBER = re.compile(
    r"(?P<integer>[+-]?[0-9]{1,400})|[+-]?(?P<digits>[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII
)


class Refused(Exception):
    """The sheet cannot be chosen or is too large; the message follows "PATH" in a sentence."""


class _Unreadable(Exception):
    """A cell has no value that can be read; the message is the reason."""


class SheetParser(WorkSheetParser):  # type: ignore[misc]  # openpyxl has no types
    """openpyxl's parser, with numbers as the digits that the file has, and without values that are not there."""

    def parse_cell(self, element: Any) -> dict[str, Any]:
        """The cell; its value is JSON text."""
        kind, formula = element.get("t", "n"), element.find(FORMULA_TAG)
        try:
            text = element.findtext(VALUE_TAG)
            if kind == "e":
                raise _Unreadable(f"is the spreadsheet error {(text or '')[:20]}")
            if kind == "n" and text and int(element.get("s", 0)) not in self.date_formats:
                return self._at(element, number_text(text))
            if formula is not None and not text and not (kind == "str" and text is not None):
                raise _Unreadable("is a formula without a stored result; open the file in Excel and save it again")
            if kind == "n" and text:
                is_duration = int(element.get("s", 0)) in self.timedelta_formats
                value = from_excel(float(text), self.epoch, timedelta=is_duration)
            else:
                return self._at_cell(super().parse_cell(element))
        except _Unreadable as error:
            return self._at(element, json.dumps({"unreadable": str(error)}))
        except (OverflowError, ValueError, IndexError) as error:
            return self._at(element, json.dumps({"unreadable": f"cannot be read: {error}"[:200]}))
        return self._at(element, json_text(value))

    def _at(self, element: Any, text: str) -> dict[str, Any]:
        """The cell with the JSON text, in the column that openpyxl finds."""
        for child in list(element):
            element.remove(child)
        element.attrib.pop("t", None)
        return {**super().parse_cell(element), "value": text}

    @staticmethod
    def _at_cell(cell: dict[str, Any]) -> dict[str, Any]:
        return {**cell, "value": json_text(cell["value"])}


def number_text(text: str) -> str:
    """A number's digits: an integer as it is, others as the shortest text of the double that was written."""
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    value = float(text) if match else math.nan
    if match is None or not math.isfinite(value):
        raise _Unreadable(f"{text[:60]} is not a number that a spreadsheet can hold")
    if match["integer"]:
        return str(int(text))
    if len(match["digits"].replace(".", "").strip("0")) > MAX_DOUBLE_DIGITS:
        return str(Decimal(text))
    return repr(value)


def json_text(value: object) -> str:
    """A cell's value as JSON."""
    if isinstance(value, str):
        return json.dumps(value) if value else "null"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, datetime):
        return json.dumps({"datetime": value.isoformat()})
    if isinstance(value, date):
        return json.dumps({"datetime": datetime(value.year, value.month, value.day).isoformat()})  # noqa: DTZ001 - naive
    if isinstance(value, time):
        return json.dumps({"time": value.isoformat()})
    if isinstance(value, timedelta):
        return json.dumps({"seconds": str(value.total_seconds())})
    return json.dumps({"unreadable": f"is a {type(value).__name__}"})


def decode(path: str, sheet: str | None, max_columns: int, max_row_bytes: int, output: TextIO) -> None:
    """Write the sheet's rows to `output`. Raises `Refused`, and many errors where the file is damaged."""
    with Path(path).open("rb") as file:  # openpyxl refuses names of other formats
        _decode(
            load_workbook(file, read_only=True, data_only=True, keep_links=False),
            sheet,
            max_columns,
            max_row_bytes,
            output,
        )


def _decode(book: Any, sheet: str | None, max_columns: int, max_row_bytes: int, output: TextIO) -> None:
    chosen = _chosen(book, sheet)
    rows = chosen.max_row
    head = {"sheet": chosen.title, "rows": rows if isinstance(rows, int) and 0 < rows <= MAX_ROWS else None}
    output.write(json.dumps(head) + "\n")
    for number, cells in _rows(book, chosen):
        if number > MAX_ROWS:
            raise Refused(f", row {number:,}: a sheet has at most {MAX_ROWS:,} rows")
        width = max(column for column, _ in cells)
        if width > max_columns:
            raise Refused(f", row {number:,}: has more than {max_columns:,} columns, the most that can be read")
        values = ["null"] * width
        for column, text in cells:
            values[column - 1] = text
        line = f"[{number},[{','.join(values)}]]\n"
        if len(line) > max_row_bytes:
            raise Refused(f", row {number:,}: is longer than {max_row_bytes:,} bytes")
        output.write(line)


def _chosen(book: Any, sheet: str | None) -> Any:
    """The sheet of that name or number; without one, the only sheet that has values."""
    sheets = book.worksheets
    names = ", ".join(f"{number} {other.title!r}" for number, other in enumerate(sheets[:_LISTED_SHEETS], 1))
    if len(sheets) > _LISTED_SHEETS:
        names += f" and {len(sheets) - _LISTED_SHEETS:,} more"
    if not sheets:
        raise Refused(": has no sheet with cells")
    if sheet is not None:
        for other in sheets:
            if other.title == sheet:
                return other
        if sheet.isascii() and sheet.isdigit() and 0 < int(sheet[:9]) <= len(sheets):
            return sheets[int(sheet) - 1]
        raise Refused(f": has no sheet {sheet[:60]!r}; its sheets are {names}")
    filled = [other for other in sheets if next(_rows(book, other), None)]
    if len(filled) > 1:
        raise Refused(f": has {len(filled):,} sheets with values; choose one with --sheet: {names}")
    return (filled or sheets)[0]


def _rows(book: Any, sheet: Any) -> Iterator[tuple[int, list[tuple[int, str]]]]:
    """(row number, [(column number, JSON text)]) of each row that has values."""
    with sheet._get_source() as source:
        parser = SheetParser(
            source,
            sheet._shared_strings,
            data_only=True,
            epoch=book.epoch,
            date_formats=book._date_formats,
            timedelta_formats=book._timedelta_formats,
        )
        for number, row in parser.parse():
            parser.row_dimensions.clear()  # kept for each row with a height
            cells = [(cell["column"], cell["value"]) for cell in row if cell["value"] != "null"]
            if cells:
                yield number, cells


def main() -> int:
    """Decode the file that the standard input names; the exit status."""
    import resource  # not on Windows, where the constants of this module are imported too

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    request = json.load(sys.stdin)
    memory = request.pop("max_memory_bytes")
    with suppress(OSError):  # only Linux has /proc, and only Linux enforces the limit
        memory += int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    try:
        decode(**request, output=sys.stdout)
    except Refused as refused:
        status, reason = REFUSED, str(refused)
    except MemoryError:
        status, reason = OUT_OF_MEMORY, ""
    except (zipfile.BadZipFile, OSError) as error:
        status, reason = UNREADABLE, str(error)
    except Exception as error:  # openpyxl raises what its XML parser and its descriptors raise
        cause = error.__cause__ or error
        status, reason = UNREADABLE, " ".join(f"{type(cause).__name__}: {cause}".split())
    else:
        return 0
    sys.stdout.flush()
    sys.stderr.write(reason[:MAX_REASON_CHARACTERS])
    return status


if __name__ == "__main__":
    sys.exit(main())
