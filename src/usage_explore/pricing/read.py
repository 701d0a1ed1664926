"""Reads a price book from a TOML, CSV, Excel or Parquet file, a frame, an Arrow table, or rows of Python.

TOML has one table per price, `[[prices]]`, with the names of `fields` as keys; a CSV file has them as columns, in any
order. All faults of a book are reported together, each with its place and field: "prices.csv line 3: unit_amount: …".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias
from zoneinfo import ZoneInfo

from usage_explore.errors import Fault, QueryError
from usage_explore.files.decimal_marks import DecimalMarks
from usage_explore.files.tables import counted_commas, opened
from usage_explore.files.toml import read_toml
from usage_explore.files.values import InvalidValue, is_blank
from usage_explore.pricing import fields
from usage_explore.pricing.book import PARAMETER, Price, PriceBook
from usage_explore.query import validators

if TYPE_CHECKING:
    from usage_explore.files.tables import RecordSource

PriceSource: TypeAlias = "RecordSource | Mapping[str, Any] | list[Any] | tuple[Any, ...] | PriceBook"
"""A `.toml`, `.csv`, `.xlsx` or `.parquet` file, a frame, an Arrow table, `{"prices": […]}`, mappings, or a book."""

MAX_PRICES = 100_000
"""Prices of a book."""

_MAX_TOML_BYTES = 2_000_000
_TABLE = "prices"
_UTC = ZoneInfo("UTC")

_Rows = Iterator[tuple[str, Mapping[str, Any] | None, str]]
"""The place of each row, its values, and why it cannot be read."""


def read_prices(source: PriceSource, name: str | None = None) -> PriceBook:
    """The price book in a source; a `PriceBook` is returned as it is. `name` stands for a file's name in messages.

    Raises `QueryError` on `prices` that names each faulty row, its field and a fix, two prices of one key that are
    valid at the same time, and more than 100,000 prices.

    >>> read_prices([{"metric_key": "calls", "unit_amount": "0.02", "currency": "USD"}]).prices[0].scale
    2
    """
    if isinstance(source, PriceBook):
        return source
    if isinstance(source, Path | str):
        path = Path(source)
        name = name or path.name
        if path.name.lower().endswith(".toml"):
            return _book(name, _python_rows(_toml(path, name), f"{validators.named(name)}, "))
        return _read_table(source, name)
    if isinstance(source, Mapping | list | tuple):
        return _book(PARAMETER, _python_rows(source, ""))
    return _read_table(source, PARAMETER)


def _read_table(source: RecordSource, name: str) -> PriceBook:
    with opened(source, PARAMETER, others=(".toml",)) as records:
        columns: dict[str, str] = {}
        faults: list[Fault] = []
        for column in records.names:
            try:
                field = fields.field_name(column)
            except InvalidValue as error:
                faults.append(Fault(PARAMETER, f"column {error}"))
                continue
            if field in columns:
                both = f"{validators.shorten(columns[field])} and {validators.shorten(column)}"
                faults.append(Fault(PARAMETER, f"columns {both} both are {field}; keep one"))
            columns[field] = column
        faults += [
            Fault(PARAMETER, f"column {column} holds floats, which are not exact; make it decimals or text")
            for field, column in columns.items()
            if column in records.floats and field not in fields.IGNORED
        ]
        if faults:
            raise QueryError(faults)
        where = "" if name == PARAMETER else f"{validators.named(name)} "
        numbers = [columns[field] for field in (*fields.NUMBERS, "tiers") if field in columns]
        marks = DecimalMarks(records.unit, numbers, records.why_thousands)

        def rows() -> _Rows:
            for number, record, unreadable in marks.rows(records.rows):
                place = f"{where}{records.unit} {number:,}"
                if record is None:
                    yield place, None, unreadable or "cannot be read"
                elif not all(map(is_blank, record.values())):
                    yield place, {field: record.get(column) for field, column in columns.items()}, ""

        book = _book(name, rows())
        if faults := [Fault(PARAMETER, error) for error in marks.question()]:
            raise QueryError(faults)
        return book


def _toml(path: Path, name: str) -> Mapping[str, Any]:
    shown = validators.named(name)
    try:
        return read_toml(path, _MAX_TOML_BYTES, "; save it as CSV")
    except OSError as error:
        raise QueryError([Fault(PARAMETER, f"{shown}: cannot be read: {error.strerror or error}")]) from None
    except InvalidValue as error:
        raise QueryError([Fault(PARAMETER, f"{shown}: {error}")]) from None


def _python_rows(source: Mapping[str, Any] | Iterable[Any], where: str) -> _Rows:
    if isinstance(source, Mapping):
        if unknown := sorted(str(name) for name in source if name != _TABLE):
            hint = validators.did_you_mean(unknown[0], (_TABLE,))
            message = f"{where}{validators.shorten(unknown[0])} is unknown{hint}; a book has tables [[{_TABLE}]] alone"
            raise QueryError([Fault(PARAMETER, message)])
        source = source.get(_TABLE, ())
        if not isinstance(source, list | tuple):
            raise QueryError([Fault(PARAMETER, f"{where}{_TABLE} is no list; begin each price with [[{_TABLE}]]")])
    for number, values in enumerate(source, 1):
        place = f"{where}price {number:,}"
        if isinstance(values, Price):
            yield place, fields.row(values), ""
        elif not isinstance(values, Mapping):
            yield place, None, f"{validators.shorten(values)} is no mapping of a price's fields"
        else:
            yield place, values, ""


def _book(name: str, rows: _Rows) -> PriceBook:
    prices: list[Price] = []
    faults: list[Fault] = []
    for number, (place, values, unreadable) in enumerate(rows, 1):
        if number > MAX_PRICES:
            raise QueryError([Fault(PARAMETER, f"there are more than {MAX_PRICES:,} prices")])
        if values is None:
            faults.append(Fault(PARAMETER, f"{place}: {unreadable}"))
            continue
        row, errors = _row(values)
        price, more = fields.price(place, row)
        errors += more
        faults += [Fault(PARAMETER, f"{place}: {error}") for error in errors]
        if price is not None:
            prices.append(price)
    if not prices and not faults:
        raise QueryError([Fault(PARAMETER, "there are no prices; give one or more, or leave the book out")])
    book = PriceBook(prices=tuple(prices), source=name)
    try:
        book.check(_UTC)
    except QueryError as error:
        faults += error.faults
    if faults:
        raise QueryError(counted_commas(faults))
    return book


def _row(values: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The values by field, and the faults of their names."""
    row: dict[str, Any] = {}
    errors: list[str] = []
    for name, value in values.items():
        try:
            field = fields.field_name(name)
        except InvalidValue as error:
            errors.append(str(error))
            continue
        if field in row:
            errors.append(f"{field}: is given twice; keep one")
        row[field] = value
    return row, errors
