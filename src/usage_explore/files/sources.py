"""A file as a stream of records, read once from front to back in bounded memory."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from usage_explore.errors import LoadError
from usage_explore.formatting import path_text

MAX_ROW_BYTES = 16 * 1024 * 1024
"""Bytes of a line, of a CSV row over several lines, of a JSON object in an array, and of a decoded Parquet row."""

MAX_COLUMNS = 2_000
"""Columns of a file; the widest billing exports have about 400. A JSON record may have as many dotted paths."""

MAX_BLANK_ROWS = 100_000
"""Blank lines, and rows without a value, that follow each other."""

MAX_LOOKED_AT_ROWS = 20
"""Rows at the start of a file among which the header is looked for."""

_MAX_TITLE_CELLS = 2
"""Cells with a value of a row before the header: a title, or a label and its text ("Period", "October 2026")."""

_MIN_COLUMNS = 4
"""Columns of a table that may have titles above it; with fewer, a title and a header look alike."""

Record = tuple[int, Mapping[str, Any] | None, str | None]
"""(line, values by column, None), or (line, None, reason) for a row that cannot be read. The line is the one that the
row starts on, from 1; in a Parquet file and in a spreadsheet it is the row's number. Absent values are left out or
None."""

MAX_SAMPLED_NAMES, MAX_PATH_KEYS = 10_000, 4
"""Names that `Source.sample_names` gives at most, and keys of a dotted path: a.b.c.d."""


class BlankRows:
    """Counts the rows of a file that have no value and follow each other: no bound of rows ends reading them."""

    def __init__(self, path: Path, what: str) -> None:
        self._path, self._what = path, what
        self._number = 0

    def see(self, is_blank: bool, unit: str, number: int) -> None:
        """Count the row of this number. Raises `LoadError` after `MAX_BLANK_ROWS`."""
        self._number = self._number + 1 if is_blank else 0
        if self._number > MAX_BLANK_ROWS:
            raise LoadError(
                f"{path_text(self._path)}, {unit} {number:,}: more than {MAX_BLANK_ROWS:,} {self._what} follow each"
                " other; delete them"
            )


class Source(ABC):
    """A file whose rows are read once, in order, in bounded memory. Iterating gives a `Record` for each row.

    `names` are the file's columns; None for JSON, where each row has its own. `unit` is what `Record` numbers ("line",
    "row", or "record" in JSON without line breaks). For a progress bar, `position` and `length` are counted in
    `unit_of_length`; a length of 0 is unknown.

    `notes` are sentences about what was decided for the file, such as which row is the header.

    `kind` is "csv", "jsonl", "json", "parquet" or "xlsx"; `description` says it in words: "CSV, semicolons, UTF-16".
    `floats` are the columns that hold floats in a Parquet file.
    `why_thousands` is a clause that says why a point in a number that is text may separate thousands; blank if not.
    `delimiter` is that of a CSV file, `encoding` that of a text file ("utf-8", "utf-16-le", "cp1252"), else None.
    """

    kind: str
    unit = "line"
    names: tuple[str, ...] | None = None
    floats: frozenset[str] = frozenset()
    length: int = 0
    unit_of_length = "bytes"
    delimiter: str | None = None
    why_thousands: str = ""
    encoding: str | None = None
    notes: tuple[str, ...] = ()

    def __init__(self, path: Path) -> None:
        self.path = path
        self._resources = ExitStack()

    @property
    @abstractmethod
    def description(self) -> str:
        """The format in words."""

    @property
    @abstractmethod
    def position(self) -> int:
        """Bytes or rows read so far."""

    @abstractmethod
    def __iter__(self) -> Iterator[Record]:
        """The rows."""

    def close(self) -> None:
        """Close the file, and delete temporary copies of it."""
        self._resources.close()

    def own(self, resources: ExitStack) -> None:
        """Close `resources` when this source is closed."""
        self._resources.push(resources.pop_all())

    def sample_names(self, rows: int = 100) -> tuple[str, ...]:
        """The names that the first records have: columns or keys, and dotted paths of at most `MAX_PATH_KEYS` keys.

        Objects in lists count too: "results.amount.value". The file is read anew from its start, so no row is lost.
        """
        return self.names or ()

    def expect(self, columns: Mapping[str, str], *, assume_utc: bool) -> None:  # noqa: B027 - text fits all
        """Declare each column's kind of value: "uuid", "text", "number", "time", "part of a time", "object".

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


def rows_before_header(filled: Sequence[int]) -> int:
    """The number of rows that are before the header: empty rows, and titles.

    `filled` are the numbers of cells with a value of the first rows. A title has at most `_MAX_TITLE_CELLS`, and at
    most half as many as two of the rows below it.
    """
    for index, cells in enumerate(filled):
        below = sorted(filled[index + 1 :])
        is_title = cells <= _MAX_TITLE_CELLS and len(below) > 1 and below[-2] >= max(2 * cells, _MIN_COLUMNS)
        if cells and not is_title:
            return index
    return 0


def paths(records: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """The keys of the records and the dotted paths below them, in the order of their first use."""
    found: dict[str, None] = {}
    pending: list[tuple[Any, str, int]]
    for record in records:
        pending = [(record, "", 0)]
        while pending and len(found) < MAX_SAMPLED_NAMES:
            value, prefix, keys = pending.pop()
            if isinstance(value, list):
                pending += [(item, prefix, keys) for item in reversed(value) if isinstance(item, Mapping)]
            elif isinstance(value, Mapping) and keys < MAX_PATH_KEYS:
                inner = [(item, f"{prefix}{key}") for key, item in value.items()]
                found.update(dict.fromkeys(name for _, name in inner))
                pending += [(item, f"{name}.", keys + 1) for item, name in reversed(inner)]
    return tuple(islice(found, MAX_SAMPLED_NAMES))


def too_many_keys(text: str, value: Any) -> str | None:
    """Why a JSON value with this text has too many keys: more than `MAX_COLUMNS` dotted paths. Else None.

    Objects in one list share their paths: a list of 10,000 objects with the same 20 keys has 20.
    """
    if text.count(":") <= MAX_COLUMNS:  # a key has one
        return None
    found: set[str] = set()
    pending: list[tuple[Any, str]] = [(value, "")]
    while pending:
        inner, prefix = pending.pop()
        if isinstance(inner, list):
            pending += [(item, prefix) for item in inner if isinstance(item, (Mapping, list))]
        elif isinstance(inner, Mapping):
            found.update(f"{prefix}{key}" for key in inner)
            if len(found) > MAX_COLUMNS:
                return (
                    f"has more than {MAX_COLUMNS:,} keys, those of inner objects included; a record has at most as many"
                )
            pending += [(item, f"{prefix}{key}.") for key, item in inner.items() if isinstance(item, (Mapping, list))]
    return None
