"""The process that reads a sheet of an Excel workbook (.xlsx), with an upper bound on its memory.

openpyxl keeps the workbook's shared texts in memory, and a few kilobytes can hold gigabytes of them. The operating
system therefore bounds the memory, as for Parquet (`parquet_decoder`).

Run by its path, so that nothing else of the package is loaded. Input: the arguments of `decode` as a JSON object, or
{"path": …} for the names of all sheets (`sheet_names`).

Output: lines of JSON, first {"sheet": name, "rows": number or null}, then for each row with values [number, [values]].
A value is null, text, true, a number with its digits, or an object with one of the keys "datetime" (with an offset
where the file has one), "time", "seconds" and "unreadable". The exit status says how it ended (`REFUSED`, `UNREADABLE`,
`OUT_OF_MEMORY`), the standard error why.
"""

from __future__ import annotations

import json
import math
import re
import signal
import sys
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path
from time import process_time
from typing import Any, TextIO

if __name__ == "__main__":
    sys.modules["numpy"] = None  # type: ignore[assignment]  # openpyxl would import it, for types that no file has

from openpyxl import load_workbook
from openpyxl.cell.text import Text
from openpyxl.utils import column_index_from_string
from openpyxl.utils.datetime import from_excel, from_ISO8601
from openpyxl.xml.constants import SHEET_MAIN_NS
from openpyxl.xml.functions import iterparse

REFUSED, UNREADABLE, OUT_OF_MEMORY = 3, 4, 5
"""Exit statuses: a sheet that is not there or too large, an error of openpyxl, too little memory."""

MAX_REASON_CHARACTERS = 2_000
"""Characters of the reason on the standard error, which may quote the file."""

MAX_ROWS = 1_048_576
"""Rows of a sheet, by the format."""

MAX_DOUBLE_DIGITS = 17
"""Digits that a double needs at most; a number with more was not written from one, and is taken as it is."""

MAX_OPENING_SECONDS, MAX_ROW_SECONDS = 60, 20
"""Processor time that reading the workbook's shared texts and styles may take, and that one row may."""

GRACE_SECONDS = 10
"""Processor time after which the process ends where it could not say that it took too long."""

_LISTED_SHEETS = 20
_XML_ERRORS = {
    "EntitiesForbidden": "its XML defines entities, which Excel does not write and which can grow to gigabytes",
    "DTDForbidden": "its XML has a document type, which Excel does not write",
    "ExternalReferenceForbidden": "its XML refers to other files, which Excel does not do",
}
"""Errors of defusedxml, with which openpyxl refuses hostile files where it is installed, in words."""

_DATA, _ROW, _CELL, _VALUE, _FORMULA, _INLINE, _TEXT = (
    f"{{{SHEET_MAIN_NS}}}{tag}" for tag in ("sheetData", "row", "c", "v", "f", "is", "t")
)
_NUMBER = re.compile(
    r"(?P<integer>[+-]?[0-9]{1,400})|[+-]?(?P<digits>[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4})?", re.ASCII
)


class Refused(Exception):
    """The sheet cannot be chosen or is too large; the message follows "PATH" in a sentence."""


class _Unreadable(Exception):
    """A cell has no value that can be read; the message is the reason."""


class _Cells:
    """Reads the cells of a sheet as JSON text: numbers as the digits that the file has, and only values that are there.

    openpyxl itself gives floats, and nothing at all for a formula without a stored result.
    """

    def __init__(self, book: Any, sheet: Any) -> None:
        self._texts = sheet._shared_strings
        self._epoch = book.epoch
        self._dates, self._durations = book._date_formats, book._timedelta_formats
        self._columns: dict[str, int] = {}

    def row(self, element: Any) -> list[tuple[int, str]]:
        """(column number, JSON text) of each cell that has a value."""
        cells = []
        column = 0
        for cell in element:
            if cell.tag != _CELL:
                continue
            place = cell.get("r")
            column = self._column(place) if place else column + 1
            if (text := self._text(cell)) is not None:
                cells.append((column, text))
        return cells

    def _column(self, place: str) -> int:
        letters = place.rstrip("0123456789")
        if letters not in self._columns:
            self._columns[letters] = column_index_from_string(letters)
        return self._columns[letters]

    def _text(self, cell: Any) -> str | None:
        try:
            return self._value(cell)
        except _Unreadable as error:
            return json.dumps({"unreadable": str(error)})
        except (OverflowError, ValueError, IndexError) as error:
            return json.dumps({"unreadable": f"cannot be read: {error}"[:200]})

    def _value(self, cell: Any) -> str | None:
        kind, stored = cell.get("t", "n"), cell.findtext(_VALUE)
        if kind == "e":
            raise _Unreadable(f"is the spreadsheet error {(stored or '')[:20]}")
        if kind == "inlineStr":
            inline = cell.find(_INLINE)
            if inline is None:
                return None
            runs = list(inline)
            is_plain = len(runs) == 1 and runs[0].tag == _TEXT
            return json_text((runs[0].text or "") if is_plain else Text.from_tree(inline).content)
        if not stored:
            if cell.find(_FORMULA) is not None and not (kind == "str" and stored is not None):
                raise _Unreadable("is a formula without a stored result; open the file in Excel and save it again")
            return None
        match kind:
            case "n":
                style = int(cell.get("s", 0))
                if style not in self._dates:
                    return number_text(stored)
                return json_text(from_excel(float(stored), self._epoch, timedelta=style in self._durations))
            case "s":
                return json_text(self._texts[int(stored)])
            case "b":
                return "true" if int(stored) else "false"
            case "d":
                return json_text(_iso_time(stored))
            case _:
                return json_text(stored)


def _iso_time(text: str) -> object:
    """A date or time in ISO 8601, with its offset and microseconds, both of which openpyxl drops."""
    if "T" in text:
        with suppress(ValueError):
            return datetime.fromisoformat(text)
    return from_ISO8601(text)


def number_text(text: str) -> str:
    """A number's digits: an integer as it is, others as the shortest text of the double that was written.

    A whole number has no decimal point, however it is written: an id 4711 is one in a cell with 4711.0 or 4.711E3.
    """
    text = text.strip()
    match = _NUMBER.fullmatch(text)
    value = float(text) if match else math.nan
    if match is None or not math.isfinite(value):
        raise _Unreadable(f"{text[:60]} is not a number that a spreadsheet can hold")
    if match["integer"]:
        return str(int(text))
    if len(match["digits"].replace(".", "").strip("0")) > MAX_DOUBLE_DIGITS:
        return str(Decimal(text))
    return str(int(value)) if value.is_integer() and abs(value) < 10**MAX_DOUBLE_DIGITS else repr(value)


def json_text(value: object) -> str | None:
    """A cell's value as JSON; None for the empty text."""
    if isinstance(value, str):
        return json.dumps(value) if value else None
    if isinstance(value, datetime):
        return json.dumps({"datetime": value.isoformat()})
    if isinstance(value, date):
        return json.dumps({"datetime": datetime(value.year, value.month, value.day).isoformat()})  # noqa: DTZ001 - naive
    if isinstance(value, time):
        return json.dumps({"time": value.isoformat()})
    if isinstance(value, timedelta):
        return json.dumps({"seconds": str(value.total_seconds())})
    return json.dumps({"unreadable": f"is a {type(value).__name__}"})


def _allow(seconds: int, what: str) -> None:
    """Set the processor time, in seconds, that reading `what` may take; after it `Refused` is raised.

    The next call sets the time anew, for the next row. A comment or a nesting of some megabytes of XML, which a file of
    kilobytes can hold, takes minutes to parse.
    """
    import resource  # as in `main`

    def expired(*_: object) -> None:
        raise Refused(f": {what} takes more than {seconds} s to read; save the sheet as CSV")

    signal.signal(signal.SIGPROF, expired)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    # ends the process: Python 3.11 without memory for an exception's own state tries for ever, and runs no handler
    ends, (_, most) = math.ceil(process_time() + seconds + GRACE_SECONDS), resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (ends if most == resource.RLIM_INFINITY else min(ends, most), most))


def decode(path: str, sheet: str | None, max_columns: int, max_row_bytes: int, output: TextIO) -> None:
    """Write the sheet's rows to `output`. Raises `Refused`, and many errors where the file is damaged."""
    _allow(MAX_OPENING_SECONDS, "the workbook")
    with Path(path).open("rb") as file:  # openpyxl refuses names of other formats
        _decode(
            load_workbook(file, read_only=True, data_only=True, keep_links=False),
            sheet,
            max_columns,
            max_row_bytes,
            output,
        )


def sheet_names(path: str, output: TextIO) -> None:
    """Write the names of the workbook's sheets to `output`, as a list in JSON."""
    with Path(path).open("rb") as file:
        book = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        output.write(json.dumps([sheet.title for sheet in book.worksheets]) + "\n")


def _decode(book: Any, sheet: str | None, max_columns: int, max_row_bytes: int, output: TextIO) -> None:
    chosen = _chosen(book, sheet)
    rows = chosen.max_row
    head = {"sheet": chosen.title, "rows": rows if isinstance(rows, int) and 0 < rows <= MAX_ROWS else None}
    output.write(json.dumps(head) + "\n")
    for number, cells in _rows(book, chosen):
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
        raise Refused(": has no sheet that can be read; save a Strict Open XML Spreadsheet as Excel Workbook (.xlsx)")
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
    cells = _Cells(book, sheet)
    number, read, data = 0, 0, None
    _allow(MAX_ROW_SECONDS, "row 1")
    with sheet._get_source() as source:
        for event, element in iterparse(source, events=("start", "end")):
            if event == "start":
                if element.tag == _DATA:
                    data = element
            elif element.tag == _ROW and data is not None:
                number, read = int(element.get("r", number + 1)), read + 1
                if max(number, read) > MAX_ROWS:
                    raise Refused(f", row {number:,}: a sheet has at most {MAX_ROWS:,} rows")
                row = cells.row(element)
                data.clear()  # else the rows that have been read stay in memory
                _allow(MAX_ROW_SECONDS, f"row {number + 1:,}")
                if row:
                    yield number, row
            elif element is data:
                return


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
        (sheet_names if request.keys() == {"path"} else decode)(**request, output=sys.stdout)
    except Refused as refused:
        status, reason = REFUSED, str(refused)
    except MemoryError:
        status, reason = OUT_OF_MEMORY, ""
    except (zipfile.BadZipFile, OSError) as error:
        status, reason = UNREADABLE, str(error)
    except Exception as error:  # openpyxl raises what its XML parser and its descriptors raise
        cause = error.__cause__ or error
        is_amplified = "amplification" in str(cause)
        known = _XML_ERRORS.get("EntitiesForbidden" if is_amplified else type(cause).__name__)
        status, reason = UNREADABLE, known or " ".join(f"{type(cause).__name__}: {cause}".split())
    else:
        return 0
    sys.stdout.flush()
    sys.stderr.write(reason[:MAX_REASON_CHARACTERS])
    return status


if __name__ == "__main__":
    sys.exit(main())
