"""A file as a stream of records, read once from front to back in bounded memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

MAX_ROW_BYTES = 16 * 1024 * 1024
"""Bytes of a line, of a CSV row over several lines, and of a Parquet row once decoded."""

MAX_COLUMNS = 2_000
"""Columns of a file; the widest billing exports have about 400."""

Record = tuple[int, Mapping[str, Any] | None, str | None]
"""(line, values by column, None), or (line, None, reason) for a row that cannot be read. The line is the one that the
row starts on, from 1; in a Parquet file it is the row's number. Absent values are left out or None."""


class Source(ABC):
    """A file whose rows are read once, in order, in bounded memory. Iterating gives a `Record` for each row.

    `names` are the file's columns; None for JSON Lines, where each row has its own. `unit` is what `Record` numbers
    ("line" or "row"). For a progress bar, `position` and `length` are counted in `unit_of_length`.
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
        """Close the file."""

    def expect(self, columns: Mapping[str, str], *, assume_utc: bool) -> None:  # noqa: B027 - text fits all
        """Declare each column's kind of value ("uuid", "text", "number", "time", "object"; `load.fields.READERS`).

        Raises `LoadError` for a column whose type in the file cannot give such values.
        """

    def only(self, columns: Iterable[str]) -> None:  # noqa: B027 - a text file is read whole
        """Read no other columns, where the format allows it; `names` has no others then."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
