"""The files of a validation as they are sent to a server; read here first, for the faults of a local store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from usage_explore.decimals import plain
from usage_explore.errors import Fault, LoadError, QueryError
from usage_explore.files.tables import arrow_table, opened
from usage_explore.pricing.book import PriceBook
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.validation.inputs import read_inputs

Upload = tuple[str, bytes]
"""A file's name and its content."""


def uploads(**inputs: Any) -> dict[str, Upload]:
    """The inputs of a validation as files: paths as they are, frames and mappings as Parquet.

    Raises `QueryError` as `read_inputs`, for what was read already, and for more than `MAX_UPLOAD_MEGABYTES` in all.
    """
    inputs = {name: _kept(source) for name, source in inputs.items()}
    read_inputs(**inputs)
    files = {name: _upload(name, source) for name, source in inputs.items()}
    if sum(len(content) for _, content in files.values()) > MAX_UPLOAD_MEGABYTES * 2**20:
        message = f"more than {MAX_UPLOAD_MEGABYTES} MB are not sent to a server; validate beside the database"
        raise QueryError([Fault(name, message) for name in files])
    return files


def _kept(source: Any) -> Any:
    """The source; a frame that may only be read once as a table."""
    try:
        return source if isinstance(source, str | Path | Mapping) else arrow_table(source)
    except LoadError:  # `read_inputs` says what is wrong with it
        return source


def _upload(name: str, source: Any) -> Upload:
    if isinstance(source, str | Path):
        return name + "".join(Path(source).suffixes[-2:]).lower(), Path(source).read_bytes()
    if name == "prices" and isinstance(source, Mapping | list | tuple | PriceBook):
        raise QueryError([Fault(name, "are sent to a server as a file or a frame; write the book to one")])
    if isinstance(source, Mapping):
        owners: list[str | None] = [_text(owner) or "default" for owner in source]
        return _parquet(name, {"customer_id": owners, "currency": [_text(currency) for currency in source.values()]})
    with opened(source, name) as records:
        rows = [record or {} for _, record, _ in records.rows]
        return _parquet(name, {column: [_text(row.get(column)) for row in rows] for column in records.names})


def _parquet(name: str, columns: dict[str, list[str | None]]) -> Upload:
    """Columns of text as a file whose rows have the numbers of those of a frame."""
    sink = BytesIO()
    table = pa.table({column: pa.array(values, pa.string()) for column, values in columns.items()})
    parquet.write_table(table, sink, compression="zstd")
    return f"{name}.parquet", sink.getvalue()


def _text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime | date) else str(value)
