"""Invoice lines to reconcile, read from a file or a frame: each value checked, numbers exact.

Columns in any order; upper or lower case; spaces or hyphens for underscores:

    customer_id      (or customer)      required  UUID
    metric_key       (or metric)        required, or price_key: what was billed
    price_key        (or price)         required, or metric_key
    subscription_id  (or subscription)            UUID
    wallet_currency  (or wallet)
    quantity                            required  decimal
    amount                                        decimal: the price charged for the quantity
    currency                                      of the amount; upper and lower case are one, spaces ignored
    period_start, period_end                      half-open: times with an offset, or dates

Usage is recomputed by customer and by those of subscription, metric, price and wallet that any line has. A line that
leaves one of them blank bills the usage without it. Dates are midnights of the validated period's time zone; an end may
be the last day or the day after it. Lines outside the validated period are not compared. Lines of one key are summed.
Other columns are ignored and listed in `Invoices.ignored`; one that looks like a misspelt known column is an error.

Quantities and amounts are exact: text, integers and decimals are taken digit for digit, floats are refused. A metric
key has at most 1,024 bytes, as in a loaded event, another key or a currency 4,096.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from uuid import UUID

from usage_explore.errors import MAX_FAULTS, Fault, QueryError
from usage_explore.files.tables import Records, opened
from usage_explore.files.values import (
    MAX_KEY_BYTES,
    InvalidValue,
    code_text,
    metric_key_text,
    number_text,
    quoted,
    uuid_text,
)
from usage_explore.query import validators
from usage_explore.validation.periods import currency_code

if TYPE_CHECKING:
    from usage_explore.files.tables import RecordSource

InvoiceSource: TypeAlias = "RecordSource | Invoices"
"""A `.csv` or `.parquet` file, a pandas frame, an Arrow table, or invoices that were read before."""

PARAMETER = "invoices"
"""The argument that faults name."""

MAX_LINES = 250_000
"""Lines of all invoices together; in memory a line takes up to 650 bytes."""

MAX_FAULTY_LINES = 1_000
"""Faulty lines after which reading stops."""

KEY_COLUMNS = ("subscription_id", "metric_key", "price_key", "wallet_currency")
"""Columns that usage may be recomputed by, beside the customer."""

_MIN_SIMILARITY = 0.85
"""Similarity from which an unknown column is a misspelling of a known one; customer_name and customer_id have 0.75."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

PeriodEdge = date | datetime
"""Start or end of a line's period: an instant, or a date in the validated period's time zone."""


class InvoiceLine(NamedTuple):
    """One invoice line; `line` is its number in the file, or its row in the frame, from 1."""

    line: int
    customer_id: UUID
    subscription_id: UUID | None
    metric_key: str | None
    price_key: str | None
    wallet_currency: str | None
    period_start: PeriodEdge | None
    period_end: PeriodEdge | None
    quantity: Decimal
    amount: Decimal | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoices:
    """The lines of invoices.

    `columns` are the `KEY_COLUMNS` that any line has a value in, `ignored` the source's unknown columns. `tolerance` is
    the largest difference between invoiced and used quantity that still matches.
    """

    lines: tuple[InvoiceLine, ...]
    columns: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    tolerance: Decimal = Decimal(0)


def read_invoices(source: InvoiceSource, tolerance: Decimal | int | str = 0) -> Invoices:
    """The lines in a `.csv` or `.parquet` file, a pandas frame or an Arrow table; `Invoices` are returned as they are.

    Raises `QueryError` that names each faulty line, its column and a fix, and for more than 250,000 lines.

    >>> read_invoices("september.csv", tolerance="0.01")  # doctest: +SKIP
    """
    if isinstance(source, Invoices):
        return source
    allowed = _tolerance(tolerance)
    with opened(source, PARAMETER) as records:
        columns, ignored = _columns(records)
        records.only(columns.values())
        lines = _lines(records, columns)
    if not lines:
        raise QueryError([Fault(PARAMETER, "there are no lines; give the invoices of the period, or leave them out")])
    keys = tuple(name for name in KEY_COLUMNS if any(getattr(line, name) is not None for line in lines))
    return Invoices(lines=lines, columns=keys, ignored=ignored, tolerance=allowed)


def _tolerance(value: object) -> Decimal:
    try:
        tolerance = _exact_decimal(value)
    except InvalidValue as error:
        raise QueryError([Fault("tolerance", str(error))]) from None
    if tolerance < 0:
        raise QueryError([Fault("tolerance", "is negative; give how far quantities may differ, 0 for not at all")])
    return tolerance


class _Column(NamedTuple):
    """The reader of a column's values, and its other name."""

    read: Callable[[object], Any]
    alias: str = ""


def _period_edge(raw: object) -> PeriodEdge:
    """A date (also as text, or as a midnight without a time zone), else an instant with an offset."""
    if isinstance(raw, datetime):
        if raw.utcoffset() is None and (raw.hour, raw.minute, raw.second, raw.microsecond) == (0, 0, 0, 0):
            return raw.date()
    elif isinstance(raw, date):
        return raw
    text = raw.strip() if isinstance(raw, str) else raw
    if isinstance(text, str) and _DATE.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise InvalidValue(f"{quoted(text)} is not a date that exists") from None
    try:
        return validators.instant(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None


def _exact_decimal(raw: object) -> Decimal:
    """The number digit for digit. Raises `InvalidValue` for a float, too."""
    if isinstance(raw, float):
        raise InvalidValue(f"{quoted(raw)} is a float, which is not exact; give a decimal, an integer or text")
    return Decimal(number_text(raw))


def _key(raw: object) -> str:
    """A price key or a currency; `InvalidValue` if blank or longer than 4,096 bytes."""
    text = code_text(raw)
    if len(text) > MAX_KEY_BYTES // 4 and len(text.encode()) > MAX_KEY_BYTES:
        raise InvalidValue(f"{quoted(text)} is longer than {MAX_KEY_BYTES:,} bytes")
    return text


def _currency(raw: object) -> str:
    """A currency in upper case without spaces around it: ` usd ` and `USD` are one."""
    return currency_code(_key(raw.strip() if isinstance(raw, str) else raw)) or ""


def _uuid(raw: object) -> UUID:
    return UUID(uuid_text(raw))


_COLUMNS: Mapping[str, _Column] = {
    "customer_id": _Column(_uuid, "customer"),
    "subscription_id": _Column(_uuid, "subscription"),
    "metric_key": _Column(metric_key_text, "metric"),
    "price_key": _Column(_key, "price"),
    "wallet_currency": _Column(_key, "wallet"),
    "period_start": _Column(_period_edge),
    "period_end": _Column(_period_edge),
    "quantity": _Column(_exact_decimal),
    "amount": _Column(_exact_decimal),
    "currency": _Column(_currency),
}
"""The columns in the order of `InvoiceLine`."""

_NAMES = {alias: name for name, column in _COLUMNS.items() for alias in (name, column.alias) if alias}


def _columns(records: Records) -> tuple[dict[str, str], tuple[str, ...]]:
    """The source's name of each known column, and its unknown columns. Raises `QueryError`."""
    columns: dict[str, str] = {}
    ignored: list[str] = []
    faults: list[Fault] = []
    for name in records.names:
        word = re.sub(r"[\s-]+", "_", name.strip().lower())
        known = _NAMES.get(word)
        if known in columns:
            faults.append(
                _fault(f"column {validators.shorten(name)} is {known}, as is {validators.shorten(columns[known])}")
            )
        elif known is not None:
            columns[known] = name
        elif near := get_close_matches(word[:100], _NAMES, n=1, cutoff=_MIN_SIMILARITY):
            faults.append(_fault(f"column {validators.shorten(name)} is unknown, did you mean {near[0]}?"))
        else:
            ignored.append(name)
    faults += [
        _fault(f"there is no column {name}{_rename_hint(name, ignored)}")
        for name in ("customer_id", "quantity")
        if name not in columns
    ]
    if not {"metric_key", "price_key"} & set(columns):
        faults.append(_fault(f"there is no column metric_key nor price_key{_rename_hint('metric_key', ignored)}"))
    faults += [
        _fault(
            f"column {validators.shorten(columns[name])} holds floats, which are not exact; make it decimals or text "
            '(pandas: read_csv(…, dtype="str"))'
        )
        for name in ("quantity", "amount")
        if columns.get(name) in records.floats
    ]
    if faults:
        raise QueryError(faults)
    return columns, tuple(ignored)


def _rename_hint(name: str, ignored: Iterable[str]) -> str:
    """The fix for a missing required column."""
    unknown = [validators.shorten(column, 30) for column in list(ignored)[:5]]
    return f"; name it so, instead of {' or '.join(unknown)}" if unknown else f"; add {name}"


def _lines(records: Records, columns: Mapping[str, str]) -> tuple[InvoiceLine, ...]:
    """All lines but blank ones. Raises `QueryError`."""
    readers = [(columns.get(name), name, _interned(column.read)) for name, column in _COLUMNS.items()]
    lines: list[InvoiceLine] = []
    faults: list[Fault] = []
    faulty = 0
    for number, record, unreadable in records.rows:
        if record is not None and all(map(_is_blank, record.values())):
            continue
        values, errors = ((), [unreadable or ""]) if record is None else _values(record, readers)
        if errors:
            faulty += 1
            faults += [_fault(f"{records.unit} {number:,}: {error}") for error in errors]
            if faulty == MAX_FAULTY_LINES:
                stopped = f"{faulty:,} lines are faulty; nothing after {records.unit} {number:,} was read"
                raise QueryError([_fault(stopped), *faults[: MAX_FAULTS - 1]])
        elif len(lines) == MAX_LINES:
            raise QueryError([_fault(f"there are more than {MAX_LINES:,} lines; give them in several validations")])
        elif not faults:
            lines.append(InvoiceLine(number, *values))
    if faults:
        raise QueryError(faults)
    return tuple(lines)


def _values(
    record: Mapping[str, Any], readers: Iterable[tuple[str | None, str, Callable[[object], Any]]]
) -> tuple[tuple[Any, ...], list[str]]:
    """A line's values in the order of `_COLUMNS`, and all their errors."""
    values: dict[str, Any] = {}
    errors: list[str] = []
    for source, name, read in readers:
        raw = None if source is None else record.get(source)
        try:
            values[name] = None if _is_blank(raw) else read(raw)
        except InvalidValue as error:
            errors.append(f"{name}: {error}")
            values[name] = raw
    errors += [f"{name}: is blank; each line needs one" for name in ("customer_id", "quantity") if values[name] is None]
    if values["metric_key"] is None and values["price_key"] is None:
        errors.append("metric_key and price_key: both are blank; say what was billed")
    if not errors:
        errors += _period_errors(values["period_start"], values["period_end"])
    return tuple(values.values()), errors


def _period_errors(start: PeriodEdge | None, end: PeriodEdge | None) -> list[str]:
    if (start is None) != (end is None):
        return [f"{'period_start' if start is None else 'period_end'}: is blank while its other end is given"]
    if start is None or end is None:
        return []
    if isinstance(start, datetime) != isinstance(end, datetime):
        return ["period_end: is not of the kind of period_start; give two dates or two times"]
    if end < start or (end == start and isinstance(start, datetime)):
        return ["period_end: is not after period_start"]
    return []


def _interned(read: Callable[[object], Any]) -> Callable[[object], Any]:
    """The reader, with one object for equal texts: many lines share few customers, metrics and times."""
    values: dict[str, Any] = {}

    def interned(raw: object) -> Any:
        if type(raw) is not str:
            return read(raw)
        if raw not in values:
            value = read(raw)
            if isinstance(value, Decimal):
                return value
            values[raw] = value
        return values[raw]

    return interned


def _is_blank(raw: object) -> bool:
    return raw is None or (isinstance(raw, str) and not raw.strip())


def _fault(message: str) -> Fault:
    return Fault(PARAMETER, message)
