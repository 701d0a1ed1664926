"""Where invoice lines come from: a CSV or Parquet file, a pandas frame or an Arrow table, as a stream of records.

A record is what `load.sources` calls one: its line, its values by column, or the reason why it cannot be read. A
number that only exists as a float is refused: which decimal it once was, nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from usage_explore.errors import Fault, LoadError, QueryError
from usage_explore.files.open import SUFFIXES, open_source
from usage_explore.files.sources import Record
from usage_explore.query import validators

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    RecordSource = Path | str | pd.DataFrame | pa.Table

_BATCH = 10_000
_MAX_ROWS = 5_000_000


@dataclass(frozen=True, slots=True)
class Records:
    """Columns as the source names them, those of them that are floats, and the rows; `unit` is what a row is called.

    `only`, called before the rows are read, leaves out other columns where the source can.
    """

    unit: str
    names: tuple[str, ...]
    floats: frozenset[str]
    rows: Iterable[Record]
    only: Callable[[Iterable[str]], None] = lambda columns: None


@contextmanager
def opened(source: RecordSource, parameter: str) -> Iterator[Records]:
    """The records of a source, to be read within. Raises `QueryError` on `parameter` for what cannot be read at all."""
    try:
        if isinstance(source, Path | str):
            with _file(Path(source)) as found:
                yield found
        else:
            yield _columns(source)
    except LoadError as error:
        said = str(error)
        if isinstance(source, Path | str):  # a file's name may be anything
            said = said.replace(str(source), validators.named(str(source)))
        raise QueryError([Fault(parameter, said)]) from None


@contextmanager
def _file(path: Path) -> Iterator[Records]:
    kinds = {suffix: kind for suffix, kind in SUFFIXES.items() if kind in ("csv", "parquet")}
    kind = next((kind for suffix, kind in kinds.items() if path.name.lower().endswith(suffix)), None)
    if kind is None:
        raise LoadError(f"{path}: is not named as a file that can be read; save it as {', '.join(kinds)}")
    with open_source(path, kind) as found:
        if kind == "parquet" and found.length > _MAX_ROWS:
            raise LoadError(f"{path}: has {found.length:,} rows; at most {_MAX_ROWS:,} can be read")
        yield Records(found.unit, found.names or (), found.floats, found, found.only)


def _columns(source: pd.DataFrame | pa.Table) -> Records:
    import pandas as pd
    import pyarrow as pa

    if isinstance(source, pd.DataFrame):
        names = tuple(str(name) for name in source.columns)
        rows = _frame_rows(source, names)
        floats = frozenset(name for place, name in enumerate(names) if _is_float(source.iloc[:, place]))
    elif isinstance(source, pa.Table):
        names = tuple(source.column_names)
        rows = _table_rows(source)
        floats = _floats(source.schema)
    else:
        raise LoadError(f"{validators.shorten(source)} is neither a path nor a frame nor an Arrow table")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise LoadError(f"has {', '.join(map(validators.shorten, twice))} more than once")
    return Records("row", names, floats, rows)


def _frame_rows(frame: pd.DataFrame, names: tuple[str, ...]) -> Iterator[Record]:
    import pandas as pd

    for start in range(0, len(frame), _BATCH):
        part = frame.iloc[start : start + _BATCH]
        columns = [part.iloc[:, place] for place in range(len(names))]
        there = [pd.notna(column).tolist() for column in columns]
        values = [column.astype(object).tolist() for column in columns]
        for at in range(len(part)):
            row = {name: values[place][at] for place, name in enumerate(names) if there[place][at]}
            yield start + at + 1, row, None


def _table_rows(table: pa.Table) -> Iterator[Record]:
    at = 0
    for batch in table.to_batches(max_chunksize=_BATCH):
        for row in batch.to_pylist():
            at += 1
            yield at, row, None


def _floats(schema: pa.Schema) -> frozenset[str]:
    import pyarrow as pa

    return frozenset(field.name for field in schema if pa.types.is_floating(field.type))


def _is_float(column: pd.Series[Any]) -> bool:
    """Whether a column holds floats; one without any value is of floats only because nobody said of what."""
    import pandas as pd

    return bool(pd.api.types.is_float_dtype(column.dtype) and column.notna().any())
