"""A file as a stream of records, read once from front to back in bounded memory."""

from __future__ import annotations

import gzip
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, cast

from usage_explore.errors import LoadError

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of a line, and of a CSV row over several lines."""

MAX_COLUMNS = 2_000
"""Columns of a file; the widest billing exports have about 400."""

Record = tuple[int, Mapping[str, Any] | None, str | None]
"""(line, values by column, None), or (line, None, reason) of a row that cannot be read at all."""


class Source(ABC):
    """A file read once from front to back, never whole.

    The line is the one a row starts on; absent values are left out or None. `names` are the columns where the file
    declares them, None where each row brings its own. `position` of `length` says how far it is, in `unit_of_length`.
    """

    unit = "line"
    names: tuple[str, ...] | None = None
    length: int = 0
    unit_of_length = "bytes"

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    @abstractmethod
    def position(self) -> int:
        """Bytes or rows read so far."""

    @abstractmethod
    def __iter__(self) -> Iterator[Record]:
        """The rows."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the file."""

    def expect(self, columns: Mapping[str, str], *, assume_utc: bool) -> None:  # noqa: B027 - text fits all
        """Say what kind of value each column is to give; `LoadError` where its type cannot."""

    def only(self, columns: Iterable[str]) -> None:  # noqa: B027 - a text file is read whole
        """Read no other columns, where the format allows it. `names` is then these columns."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Lines:
    """The physical lines of a text file, plain or gzip, as UTF-8 text with what is wrong with each."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.number = 0
        self.fault: str | None = None
        self._raw = path.open("rb")
        self._file: IO[bytes] = self._raw
        self.length = path.stat().st_size
        if path.name.endswith(".gz"):
            self._file = cast("IO[bytes]", gzip.GzipFile(fileobj=self._raw, mode="rb"))

    @property
    def position(self) -> int:
        """Bytes of the file on disk taken in so far."""
        return self._raw.tell()

    def read(self) -> str:
        """The next line with its ending, "" at the end; `fault` says why it is not text, else None."""
        try:
            line = self._file.readline(LONGEST_LINE)
        except (OSError, EOFError) as error:
            raise LoadError(f"{self.path}: cannot be read after line {self.number:,}: {error}") from error
        if not line:
            return ""
        self.number += 1
        if len(line) >= LONGEST_LINE:
            raise LoadError(f"{self.path}, line {self.number:,}: is longer than 16 MiB; is this a text file?")
        if self.number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise LoadError(f"{self.path}: is UTF-16; save it as UTF-8")
            line = line.removeprefix(b"\xef\xbb\xbf")
        self.fault = "has a NUL character" if b"\0" in line else None
        try:
            return line.decode()
        except UnicodeDecodeError as error:
            self.fault = f"is not UTF-8 text: {error.reason} at byte {error.start + 1}"
            return line.decode(errors="replace")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._raw.close()
