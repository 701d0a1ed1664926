"""The files of validations and ratings as they are sent to a server; read here first, for a local store's faults."""

from __future__ import annotations

import json
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
from usage_explore.files.values import MadeId
from usage_explore.formatting import path_text
from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.fields import FIELDS, row
from usage_explore.pricing.read import read_prices
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.validation import registry
from usage_explore.validation.bounds import Bounds, BoundsSource
from usage_explore.validation.control.totals import ControlTotals
from usage_explore.validation.inputs import Preferences, read_inputs
from usage_explore.validation.reconciliation.invoices import Invoices

Upload = tuple[str, bytes]
"""A file's name and its content."""


_READ = PriceBook | Invoices | ControlTotals | Preferences
"""Inputs that were read before."""


def uploads(**inputs: Any) -> dict[str, Upload]:
    """The inputs of a validation as files: paths as they are, frames and mappings as Parquet.

    Raises `QueryError` as `read_inputs`, for what was read already, and for more than `MAX_UPLOAD_MEGABYTES` in all.
    """
    bounds = inputs.pop("bounds", None)
    inputs = {name: _kept(source) for name, source in inputs.items()}
    read_inputs(**inputs)
    files = {name: _upload(name, source) for name, source in inputs.items()}
    if bounds is not None:
        files["bounds"] = _bounds(bounds)
    return _bounded(files)


def rating_uploads(prices: PriceBook | None, wallets: Any) -> dict[str, Upload]:
    """A price book and the wallets' preferences as files. Raises `QueryError` as `uploads`."""
    files: dict[str, Upload] = {}
    if prices is not None:
        files["prices"] = _book(prices)
    if wallets is not None:
        source = _kept(wallets)
        read_inputs(wallets=source)
        files["wallets"] = _upload("wallets", source)
    return _bounded(files)


def _bounded(files: dict[str, Upload]) -> dict[str, Upload]:
    if sum(len(content) for _, content in files.values()) > MAX_UPLOAD_MEGABYTES * 2**20:
        message = f"more than {MAX_UPLOAD_MEGABYTES} MB are not sent to a server; connect to its database for it"
        raise QueryError([Fault(name, message) for name in files])
    return files


def _kept(source: Any) -> Any:
    """The source; a frame that may only be read once as a table."""
    try:
        return source if isinstance(source, str | Path | Mapping | list | tuple | _READ) else arrow_table(source)
    except LoadError:  # `read_inputs` says what is wrong with it
        return source


def _upload(name: str, source: Any) -> Upload:
    if isinstance(source, str | Path):
        return name + "".join(Path(source).suffixes[-2:]).lower(), Path(source).read_bytes()
    if name == "prices" and isinstance(source, Mapping | list | tuple | PriceBook):
        return _book(read_prices(source))
    if isinstance(source, Invoices | ControlTotals):
        return _lines(name, source)
    if isinstance(source, Preferences):
        default = {} if source.default is None else {None: source.default}
        source = {**source.customers, **default}
    if isinstance(source, Mapping):
        owners: list[str | None] = [_text(owner) or "default" for owner in source]
        return _parquet(name, {"customer_id": owners, "currency": [_text(currency) for currency in source.values()]})
    with opened(source, name) as records:
        rows = [record or {} for _, record, _ in records.rows]
        return _parquet(name, {column: [_text(row.get(column)) for row in rows] for column in records.names})


def _lines(name: str, given: Invoices | ControlTotals) -> Upload:
    """Lines that were read before, each as the row of its number; the rows between them are blank, and not read."""
    columns = type(given.lines[0])._fields[1:]
    rows: dict[str, list[str | None]] = {column: [None] * given.lines[-1].line for column in columns}
    for line in given.lines:
        for column, value in zip(columns, line[1:], strict=True):
            rows[column][line.line - 1] = _text(value)
    return _parquet(name, rows)


def _book(book: PriceBook) -> Upload:
    """A price book as a file that reads as the same prices, in order."""
    rows = [row(price) for price in book.prices]
    return _parquet("prices", {field: [_text(values[field]) for values in rows] for field in FIELDS})


def _bounds(source: BoundsSource) -> Upload:
    """Bounds as TOML. The server reads them, as it may have checks of its own."""
    file = "bounds.toml"
    if isinstance(source, str | Path):
        try:
            return file, Path(source).read_bytes()
        except OSError as error:
            message = f"{path_text(source)}: cannot be read: {error.strerror}"
            raise QueryError([Fault("bounds", message)]) from None
    tables = source if isinstance(source, Mapping) else _tables(source)
    lines: list[str] = []
    for check, table in tables.items():
        if not isinstance(table, Mapping):
            message = f"{check} is a value; write a table [{check}] with a line for each bound"
            raise QueryError([Fault("bounds", message)])
        lines += [
            f"[{json.dumps(str(check))}]",
            *(f"{json.dumps(str(key))} = {_toml(raw)}" for key, raw in table.items()),
        ]
    return file, "\n".join(lines).encode()


def _tables(bounds: Bounds) -> dict[str, dict[str, object]]:
    """The tables of bounds that were read before."""
    known = {bound.key: bound for bound in registry.all_bounds()}
    tables: dict[str, dict[str, object]] = {}
    for key, value in bounds.changed:
        tables.setdefault(known[key].check, {})[known[key].name] = Decimal(known[key].number(value))
    return tables


def _toml(value: object) -> str:
    """A number as TOML has it, anything else as text, which no bound is."""
    if isinstance(value, bool | int | float) or (isinstance(value, Decimal) and not value.is_finite()):
        return str(value).lower().replace("infinity", "inf")
    return plain(value) if isinstance(value, Decimal) else json.dumps(str(value))


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
    if isinstance(value, MadeId):
        return value.text
    return value.isoformat() if isinstance(value, datetime | date) else str(value)
