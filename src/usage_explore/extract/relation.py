"""The organization's events as a relation of a DuckDB of its own, for SQL that the caller writes.

That DuckDB has the events and nothing else: it reads and writes no file, loads no extension, looks up no variables of
Python, and its settings are locked. Files of the extract are mapped into memory by Arrow, and stay readable when a
refresh removes them. https://duckdb.org/docs/stable/operations_manual/securing_duckdb/overview
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import duckdb
import pyarrow as pa
from pyarrow import dataset

from usage_explore.extract.connection import Resources, quoted
from usage_explore.extract.manifest import IDS
from usage_explore.extract.read import ExtractReader
from usage_explore.names import NAME_COLUMNS
from usage_explore.results.arrow import DECIMALS

NAME = "usage_events"
"""The name of the view that the relation reads; the relation also has it as an alias."""

_EXTRACT_TIMES = {"timestamp": "ts", "ingested_at": "ing"}
_EXACT_DIMENSIONS = (
    r"""regexp_replace(dimensions, '([^\\](?:\\\\)*)": (-?[0-9][0-9.eE+-]*)([,}])', '\1": "\2"\3', 'g')"""
)
"""SQL for the text of dimensions with numbers as texts: DuckDB's `->>` makes a float of a number, and 1.5 of 1.50."""

_RESOURCES = Resources(memory=1_000_000_000, threads=2)
"""What SQL over events that are held in memory may use beside them."""


def of_extract(reader: ExtractReader, resources: Resources) -> duckdb.DuckDBPyRelation:
    """The relation of all events of an extract and its tail. Raises `ExtractUnusable`."""
    scans, tail, spans = reader.parts()
    names = reader.columns
    organization = quoted(str(reader.query.organization_id))
    types = {name: f"DECIMAL(38, {spans[name].scale})" for name in DECIMALS}

    def stored(name: str) -> str:
        """A column of the extract's files, as that of the table."""
        if name == "organization_id":
            return f"{organization}::UUID"
        if name in IDS:
            return f"hex({name})::UUID"  # Arrow has 16 bytes
        if name in _EXTRACT_TIMES:
            return f"make_timestamptz({_EXTRACT_TIMES[name]})"
        return f"{name}::{types[name]}" if name in types else _typed(name)

    sources: dict[str, Any] = {"tail": tail}
    parts = [_select(names, "tail", {name: f"{name}::{type_}" for name, type_ in types.items()})]
    for number, scan in enumerate(scans):
        sources[f"segment_{number}"] = _mapped(scan.files)
        where = "".join(f" WHERE {condition}" for condition in scan.within("ts"))
        parts.append(_select(names, f"segment_{number}", {name: stored(name) for name in names}) + where)
    return _opened(sources, " UNION ALL ".join(parts), resources)


def of_table(table: pa.Table) -> duckdb.DuckDBPyRelation:
    """The relation of all events of a table of `Store.read`."""
    names = [name for name in table.column_names if name not in NAME_COLUMNS]
    return _opened({"events": table}, _select(names, "events", {}), _RESOURCES)


def _typed(name: str) -> str:
    """A column of text as the type that it has in the table."""
    if name in IDS or name == "organization_id":
        return f"{name}::UUID"
    return f"{_EXACT_DIMENSIONS}::JSON" if name == "dimensions" else name


def _select(names: Iterable[str], source: str, written: Mapping[str, str]) -> str:
    columns = ", ".join(f"{written.get(name, _typed(name))} AS {name}" for name in names)
    return f"SELECT {columns} FROM {source}"


def _mapped(files: Iterable[str]) -> dataset.Dataset:
    """Parquet files of one layout, mapped into memory."""
    layout = dataset.ParquetFileFormat()
    mapped: list[Any] = [pa.memory_map(file) for file in files]
    fragments = [layout.make_fragment(file) for file in mapped]
    return dataset.FileSystemDataset(fragments, fragments[0].physical_schema, layout)


def _opened(sources: Mapping[str, Any], view: str, resources: Resources) -> duckdb.DuckDBPyRelation:
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "python_enable_replacements": "false",
            "temp_directory": "",
        }
    )
    for name, source in sources.items():
        connection.register(name, source)
    for statement in (
        f"SET memory_limit = '{resources.memory}B'",
        f"SET threads = {resources.threads}",
        "SET TimeZone = 'UTC'",
        "SET enable_progress_bar = false",
        f"CREATE VIEW {NAME} AS {view}",
        "SET enable_external_access = false",
        "SET lock_configuration = true",
    ):
        connection.execute(statement)
    return connection.table(NAME)
