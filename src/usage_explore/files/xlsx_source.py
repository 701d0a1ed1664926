"""A sheet of an Excel workbook (.xlsx), row by row, decoded in a process of its own: every number with its digits."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from datetime import datetime, time, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from usage_explore.errors import LoadError
from usage_explore.files.containers import directory, is_workbook, max_decoded_bytes, start_decoder
from usage_explore.files.exact_json import loads
from usage_explore.files.sources import (
    MAX_COLUMNS,
    MAX_LOOKED_AT_ROWS,
    MAX_ROW_BYTES,
    Record,
    Source,
    rows_before_header,
)
from usage_explore.files.values import MAX_SHEET_DIGITS, SheetNumber, Unreadable, quoted
from usage_explore.formatting import path_text

MAX_UNCOMPRESSED_BYTES = 2 * 1024 * 1024 * 1024
"""Bytes of the workbook's members once uncompressed, by its directory, beyond which nothing is read."""

MAX_DECODER_BYTES = 512 * 1024 * 1024
"""Memory in bytes of the process that decodes, beside the interpreter and its libraries; enforced on Linux."""


CHOOSE_A_SHEET = "; choose one with --sheet"
"""The advice of an error of a workbook with several sheets."""

_MAX_SECONDS_FOR_NAMES = 20
"""Time in seconds that reading the names of a workbook's sheets may take."""


def sheet_names(path: Path) -> tuple[str, ...]:
    """The names of a workbook's sheets, in order; none for other files and where it cannot be read."""
    with suppress(LoadError, OSError, subprocess.TimeoutExpired):
        if not zipfile.is_zipfile(path):
            return ()
        with path.open("rb") as raw:
            members = directory(raw, path)
        if not is_workbook(members, path) or sum(member.file_size for member in members) > MAX_UNCOMPRESSED_BYTES:
            return ()
        from usage_explore.files import xlsx_decoder

        request = json.dumps({"path": str(path), "max_memory_bytes": MAX_DECODER_BYTES})
        ended = subprocess.run(  # noqa: S603 - our own script in our own Python
            [sys.executable, "-I", xlsx_decoder.__file__],
            input=request.encode(),
            capture_output=True,
            timeout=_MAX_SECONDS_FOR_NAMES,
            check=False,
        )
        return tuple(json.loads(ended.stdout)) if ended.returncode == 0 else ()
    return ()


class XlsxSource(Source):
    """A sheet, whose header is the first row with values that is no title (`rows_before_header`).
    A cell without a value and an empty text are null.

    Numbers are decimals, dates and times `datetime`, with an offset only where ISO 8601 text has one, booleans `bool`;
    an error such as #N/A is unreadable. `sheet` is a name or a number from 1; None takes the only sheet that has
    values. `file` is where the bytes are, if not at `path`. Raises `LoadError` for other files, headers that cannot
    name columns, and several sheets.
    """

    kind = "xlsx"
    unit = "row"
    unit_of_length = "rows"
    why_thousands = "it is text in the workbook, not a number"

    def __init__(self, path: Path, *, sheet: str | int | None = None, file: Path | None = None) -> None:
        super().__init__(path)
        self._file = file or path
        self._row = 0
        self._rows_ahead: deque[Any] = deque()
        self._check_directory()
        self._bytes, self._max_bytes = 0, max_decoded_bytes(self._file.stat().st_size)
        with ExitStack() as stack:
            self._start(None if sheet is None else str(sheet))
            stack.callback(self._stop)
            head = self._next_line()
            if head is None:
                raise LoadError(f"{path_text(path)}: cannot be read as a workbook")
            self.sheet: str = head["sheet"]
            self.length = int(head["rows"] or 0)
            self.names = self._header()
            self.own(stack)

    @property
    def position(self) -> int:
        """The number of the last row that has been read."""
        return self._row

    @property
    def description(self) -> str:
        """The format in words."""
        return ", ".join([f"Excel, sheet {quoted(self.sheet)}", *self.notes])

    def _check_directory(self) -> None:
        with self._file.open("rb") as raw:
            members = directory(raw, self.path)
        if not is_workbook(members, self.path):
            raise LoadError(f"{path_text(self.path)}: is not an Excel workbook (.xlsx)")
        if (size := sum(member.file_size for member in members)) > MAX_UNCOMPRESSED_BYTES:
            raise LoadError(
                f"{path_text(self.path)}: has {size:,} bytes once uncompressed; at most"
                f" {MAX_UNCOMPRESSED_BYTES:,} can be read:"
                " save the sheet as CSV"
            )

    def _start(self, sheet: str | None) -> None:
        from usage_explore.files import xlsx_decoder  # which loads openpyxl: 0.15 s of CPU

        request = {
            "path": str(self._file),
            "sheet": sheet,
            "max_columns": MAX_COLUMNS,
            "max_row_bytes": MAX_ROW_BYTES,
            "max_memory_bytes": MAX_DECODER_BYTES,
        }
        self._process = start_decoder(xlsx_decoder.__file__, request)

    def _stop(self) -> None:
        self._process.kill()
        self._process.stdout.close()
        self._process.stderr.close()
        self._process.wait()

    def _next_line(self) -> Any:
        """The next line of the decoder's output; None at the end. Raises `LoadError` where it ended with an error."""
        line = self._process.stdout.readline()
        self._bytes += len(line)
        if self._bytes > self._max_bytes:
            raise LoadError(
                f"{path_text(self.path)}: has more than {self._max_bytes:,} bytes of values, too many for the size of"
                " the file; save the sheet as CSV"
            )
        if line.endswith(b"\n"):
            return loads(line.decode())
        reason = self._process.stderr.read().decode(errors="replace")
        status = self._process.wait()
        if not status:
            return None
        from usage_explore.files import xlsx_decoder

        if status == xlsx_decoder.REFUSED:
            raise LoadError(f"{path_text(self.path)}{reason}")
        if status in (xlsx_decoder.OUT_OF_MEMORY, -signal.SIGABRT, -signal.SIGSEGV, -signal.SIGXCPU):
            bound = "in the time" if status == -signal.SIGXCPU else f"with {MAX_DECODER_BYTES:,} bytes of memory"
            raise LoadError(f"{path_text(self.path)}: cannot be read {bound} it may take; save the sheet as CSV")
        after = f" after row {self._row:,}" if self._row else " as an Excel workbook (.xlsx)"
        raise LoadError(
            f"{path_text(self.path)}: cannot be read{after}:"
            f" {reason or f'the decoder ended with status {status}'}; save the sheet"
            " again, or as CSV"
        )

    def _header(self) -> tuple[str, ...]:
        rows = self._rows_ahead
        rows.extend(islice(iter(self._next_line, None), MAX_LOOKED_AT_ROWS))
        if not rows:
            raise LoadError(f"{path_text(self.path)}, sheet {quoted(self.sheet)}: has no row with the column names")
        titles = rows_before_header([sum(value is not None for value in values) for _, values in rows])
        for _ in range(titles):
            rows.popleft()
        row = rows.popleft()
        self._row = int(row[0])
        if titles:
            self.notes = (f"header in row {self._row:,}",)
        where = f"{path_text(self.path)}, row {self._row:,}"
        names = [_name(_value(value), f"{where}: the name of column {place}") for place, value in enumerate(row[1], 1)]
        if "" in names:
            raise LoadError(f"{where}: column {names.index('') + 1} has no name; the header has to name all columns")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise LoadError(f"{where}: the header names {', '.join(map(repr, repeated))} more than once")
        return tuple(names)

    def __iter__(self) -> Iterator[Record]:
        names = self.names or ()
        while (row := self._rows_ahead.popleft() if self._rows_ahead else self._next_line()) is not None:
            self._row, values = int(row[0]), row[1]
            if len(values) > len(names):
                yield self._row, None, f"has a value in column {len(values)} where the header has {len(names)}"
            else:
                cells = zip(names, values, strict=False)
                yield self._row, {name: _value(value) for name, value in cells if value is not None}, None


def _name(value: Any, where: str) -> str:
    if isinstance(value, Unreadable):
        raise LoadError(f"{where} {value.reason}")
    return "" if value is None else f"{value:f}" if isinstance(value, Decimal) else str(value)


def _value(value: Any) -> Any:
    """A cell's value from the decoder's JSON."""
    if isinstance(value, Decimal) and value.adjusted() >= MAX_SHEET_DIGITS:
        return SheetNumber(value)
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    match kind:
        case "datetime":
            return datetime.fromisoformat(text)
        case "time":
            return time.fromisoformat(text)
        case "seconds":
            return timedelta(microseconds=int(Decimal(text) * 1_000_000))
        case _:
            return Unreadable(text)
