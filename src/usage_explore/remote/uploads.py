"""The files of a validation as they are sent to a server; read here first, for the faults of a local store."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from io import StringIO
from pathlib import Path
from typing import Any

from usage_explore.decimals import plain
from usage_explore.errors import Fault, QueryError
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.validation.input_tables import opened
from usage_explore.validation.inputs import read_inputs

Upload = tuple[str, bytes]
"""A file's name and its content."""


def uploads(**inputs: Any) -> dict[str, Upload]:
    """The inputs of a validation as files: paths as they are, frames and mappings as CSV.

    Raises `QueryError` as `read_inputs`, for what was read already, and for more than `MAX_UPLOAD_MEGABYTES` in all.
    """
    read_inputs(**inputs)
    files = {name: _upload(name, source) for name, source in inputs.items()}
    if sum(len(content) for _, content in files.values()) > MAX_UPLOAD_MEGABYTES * 2**20:
        message = f"more than {MAX_UPLOAD_MEGABYTES} MB are not sent to a server; validate beside the database"
        raise QueryError([Fault(name, message) for name in files])
    return files


def _upload(name: str, source: Any) -> Upload:
    if isinstance(source, str | Path):
        return name + "".join(Path(source).suffixes[-2:]).lower(), Path(source).read_bytes()
    if isinstance(source, Mapping):
        rows = ((key or "default", value) for key, value in source.items())
        return f"{name}.csv", _csv(("customer_id", "currency"), rows)
    with opened(source, name) as records:
        lines = ((record or {}) for _, record, _ in records.rows)
        return f"{name}.csv", _csv(records.names, ([line.get(column) for column in records.names] for line in lines))


def _csv(names: Iterable[str], rows: Iterable[Iterable[Any]]) -> bytes:
    sink = StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(names)
    writer.writerows([_text(value) for value in row] for row in rows)
    return sink.getvalue().encode()


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return plain(value)
    return value.isoformat() if isinstance(value, datetime | date) else str(value)
