"""Events as Arrow tables with the columns of an export, typed or as the text of CSV.

Typed: ids and dimensions string, decimals decimal128(38, s) or string, times timestamp[us, UTC]. CSV: all string. In
memory, text columns that repeat their values are dictionaries; `in_memory` says which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from io import BytesIO
from itertools import chain
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from usage_explore.names import NAME_COLUMNS, Names
from usage_explore.results import formulas
from usage_explore.results.frames import DecimalSpan

if TYPE_CHECKING:
    import pandas as pd

DECIMALS = ("quantity", "external_cost_amount")
TIMES = ("timestamp", "ingested_at")

_DISTINCT = ("id", "idempotency_key", "dimensions")
"""Text columns whose values are nearly all different."""

_ENCODED = pa.dictionary(pa.int32(), pa.string())
_PLAIN_ROWS = 65_536
"""Rows that are decoded at once."""

_FACTS = b"usage_explore"
"""Key of the facts in a schema's metadata."""

NamesOf = Callable[[Iterable[tuple[str, str]]], Names]
"""Reads the names of (column, id) pairs."""


def schema(columns: Iterable[str], spans: Mapping[str, DecimalSpan] | None) -> pa.Schema:
    """The schema of a table with these columns; `spans` are the digits of the decimals, None for CSV."""

    def field(name: str) -> pa.Field[Any]:
        if spans is not None and name in DECIMALS:
            return spans[name].field(name)
        return pa.field(name, pa.timestamp("us", tz="UTC") if spans is not None and name in TIMES else pa.string())

    return pa.schema([field(name) for name in columns])


def in_memory(schema: pa.Schema) -> pa.Schema:
    """The schema with all text columns as dictionaries, except `_DISTINCT` and decimals that are text."""
    for number, field in enumerate(schema):
        if pa.types.is_string(field.type) and field.name not in (*_DISTINCT, *DECIMALS):
            schema = schema.set(number, field.with_type(_ENCODED))
    return schema


def collected(empty: pa.Table, tables: Iterable[pa.Table]) -> pa.Table:
    """All rows of tables of the schema of `empty`, with the types of `in_memory`.

    Each table is encoded and copied when it comes: a column that was kept as it is would keep the whole table in
    memory, as the columns of a result of DuckDB or of a batch of a stream are freed together. A dictionary has the
    values in the order in which they first occur, so that equal rows are equal tables.
    """
    schema = in_memory(empty.schema)
    parts: list[list[pa.Array[Any]]] = [[] for _ in schema]
    for table in chain([empty], tables):
        for field, chunks, column in zip(schema, parts, table.columns, strict=True):
            if field.type == _ENCODED:
                chunks += column.dictionary_encode().chunks
            elif column.num_chunks:
                chunks.append(pa.concat_arrays([*column.chunks, pa.array([], field.type)]))
    columns = []
    for field in schema:
        column = pa.chunked_array(parts.pop(0), field.type)
        columns.append(column.combine_chunks() if field.type == _ENCODED else column)
    return pa.Table.from_arrays(columns, schema=schema)


def plain(table: pa.Table) -> pa.RecordBatchReader:
    """The rows of a table of `collected` with text in place of dictionaries, decoded while they are read."""
    schema = table.schema
    for number, field in enumerate(schema):
        if field.type == _ENCODED:
            schema = schema.set(number, field.with_type(pa.string()))
    return table.to_reader(_PLAIN_ROWS).cast(schema)


def from_rows(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> pa.Table:
    """Rows of text, and datetimes in `TIMES`, as a table whose decimals are still text."""
    columns = zip(*rows, strict=True) if rows else ((),) * len(names)
    return pa.table({name: _array(name, values) for name, values in zip(names, columns, strict=True)})


def _array(name: str, values: Sequence[Any]) -> pa.Array[Any]:
    times = name in TIMES and values and not isinstance(values[0], str)
    return pa.array(values, pa.timestamp("us", tz="UTC") if times else pa.string())


def with_names(table: pa.Table, names_of: NamesOf | None) -> pa.Table:
    """The table and the columns of `NAME_COLUMNS`, if there are names."""
    if names_of is None:
        return table
    encoded = {column: table[column].combine_chunks().dictionary_encode() for column in NAME_COLUMNS.values()}
    different = {column: [str(id_) for id_ in ids.dictionary.to_pylist()] for column, ids in encoded.items()}
    names = names_of((column, id_) for column, ids in different.items() for id_ in ids)
    for heading, column in NAME_COLUMNS.items():
        known = pa.array([names.name(column, id_) for id_ in different[column]], pa.string())
        table = table.append_column(heading, known.take(encoded[column].indices))
    return table


def without_formulas(table: pa.Table) -> pa.Table:
    """The table, with all text escaped that a spreadsheet would run."""
    columns = []
    for column in table.columns:
        encoded = column.combine_chunks().dictionary_encode()
        columns.append(pa.array(formulas.column(encoded.dictionary.to_pylist()), pa.string()).take(encoded.indices))
    return pa.Table.from_arrays(columns, schema=table.schema)


def c_stream(table: pa.Table | pa.RecordBatchReader, requested_schema: object | None) -> object:
    """The table's Arrow stream, for `__arrow_c_stream__`.

    https://arrow.apache.org/docs/format/CDataInterface/PyCapsuleInterface.html
    """
    return table.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]


def stream(empty: pa.Table, facts: Mapping[str, Any], tables: Iterable[pa.Table]) -> Iterator[bytes]:
    """Tables of the schema of `empty` as an Arrow stream in chunks, with facts on all of them in its schema."""
    sink = BytesIO()
    metadata = {**(empty.schema.metadata or {}), _FACTS: json.dumps(facts).encode()}
    with pa.ipc.new_stream(sink, empty.schema.with_metadata(metadata)) as writer:
        for table in tables:
            writer.write_table(table)
            yield _taken(sink)
    yield _taken(sink)


def facts(schema: pa.Schema) -> tuple[pa.Schema, dict[str, Any]]:
    """The schema of a table that `stream` wrote, and the facts. Raises `ValueError` for another one."""
    metadata = dict(schema.metadata or {})
    found = json.loads(metadata.pop(_FACTS, b"null"))
    if not isinstance(found, dict):
        raise ValueError("the stream has no facts")
    return schema.with_metadata(metadata), found


def _taken(sink: BytesIO) -> bytes:
    content = sink.getvalue()
    sink.seek(0)
    sink.truncate()
    return content


def to_pandas(table: pa.Table, parsed: Callable[[str], Any]) -> pd.DataFrame:
    """A frame like that of a page of events: decimals `Decimal`, times datetime64[us, UTC], `dimensions` parsed."""
    import pandas as pd

    columns: dict[str, Any] = {}
    for name in table.column_names:
        column = plain(table.select([name])).read_all()[name]
        if name == "dimensions":
            values = [None if text is None else parsed(text) for text in column.to_pylist()]
            columns[name] = pd.Series(values, dtype="object")
        elif name in DECIMALS:
            values = column.to_pylist()
            if pa.types.is_string(column.type):
                values = [None if text is None else Decimal(text) for text in values]
            columns[name] = pd.Series(values, dtype="object")
        elif name in TIMES:
            columns[name] = column.to_pandas()
        else:
            columns[name] = pd.Series(column.to_pandas(), dtype="str")
    return pd.DataFrame(columns)
