"""Invoice lines to reconcile: read from a file or a frame, each value checked, exact.

Columns, in any order, upper or lower case, spaces or hyphens for underscores:

    customer_id      (or customer)      required  UUID
    metric_key       (or metric)        required, or price_key: what was billed
    price_key        (or price)         required, or metric_key
    subscription_id  (or subscription)            UUID
    wallet_currency  (or wallet)
    quantity                            required  decimal
    amount                                        decimal: the price charged for the quantity
    currency                                      of the amount
    period_start, period_end                      half-open: times with an offset, or dates

Usage is recomputed for what the lines tell apart: by customer and each of subscription, metric, price and wallet that
any line has. Where some lines have one and others are blank, blank stands for usage without one. Dates are midnights
of the validated period's time zone; an end may be the last day or the day after it, since a line is compared when it
lies in the period, and left aside when it does not. Several lines of one key are added up. Other columns are ignored,
and named in `Invoices.ignored`; one that looks like a misspelt known column is an error, since it would have been
compared.

Quantities and amounts are exact: text, integers and decimals are taken digit for digit, floats are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias

from usage_explore.errors import MAX_FAULTS, Fault, QueryError
from usage_explore.files.values import Bad
from usage_explore.query import validators
from usage_explore.validation.reconciliation.lines import COLUMNS, Line, exact_decimal, is_blank, sparing, values
from usage_explore.validation.records import Records, opened

if TYPE_CHECKING:
    from usage_explore.validation.records import RecordSource

InvoiceSource: TypeAlias = "RecordSource | Invoices"
"""What invoices can be read from."""

PARAMETER = "invoices"
"""The argument that faults name."""

MAX_LINES = 250_000
"""How many lines invoices may have together: read, they take up to 650 bytes each."""

MAX_FAULTY = 1_000
"""After how many faulty lines reading stops."""

KEYS = ("subscription_id", "metric_key", "price_key", "wallet_currency")
"""What lines may tell apart beside the customer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Invoices:
    """The lines of invoices. `columns` are the `KEYS` that they tell apart, `ignored` the source's other columns.

    `tolerance` is by how much an invoiced quantity may differ from the usage and still match.
    """

    lines: tuple[Line, ...]
    columns: tuple[str, ...]
    ignored: tuple[str, ...] = ()
    tolerance: Decimal = Decimal(0)


def read_invoices(source: InvoiceSource, tolerance: Decimal | int | str = 0) -> Invoices:
    """The lines in a `.csv` or `.parquet` file, a pandas frame or an Arrow table; `Invoices` are given back.

    Raises `QueryError` naming each faulty line, its column and the cure, and for more than 250,000 lines.

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
    told = tuple(name for name in KEYS if any(getattr(line, name) is not None for line in lines))
    return Invoices(lines=lines, columns=told, ignored=ignored, tolerance=allowed)


def _tolerance(given: object) -> Decimal:
    try:
        found = exact_decimal(given)
    except Bad as error:
        raise QueryError([Fault("tolerance", str(error))]) from None
    if found < 0:
        raise QueryError([Fault("tolerance", "is negative; give how far quantities may differ, 0 for not at all")])
    return found


_NAMES = {alias: name for name, column in COLUMNS.items() for alias in (name, column.alias) if alias}

_NEARLY = 0.85
"""How like a known name a column's must be to be a misspelling; customer_name and customer_id are 0.75 alike."""


def _columns(records: Records) -> tuple[dict[str, str], tuple[str, ...]]:
    """The source's column for each known one, and those that are none. Raises `QueryError`."""
    found: dict[str, str] = {}
    ignored: list[str] = []
    faults: list[Fault] = []
    for name in records.names:
        word = re.sub(r"[\s-]+", "_", name.strip().lower())
        known = _NAMES.get(word)
        if known in found:
            faults.append(
                _fault(f"column {validators.shorten(name)} is {known}, as is {validators.shorten(found[known])}")
            )
        elif known is not None:
            found[known] = name
        elif near := get_close_matches(word[:100], _NAMES, n=1, cutoff=_NEARLY):
            faults.append(_fault(f"column {validators.shorten(name)} is unknown, did you mean {near[0]}?"))
        else:
            ignored.append(name)
    faults += [
        _fault(f"there is no column {name}{_instead(name, ignored)}")
        for name in ("customer_id", "quantity")
        if name not in found
    ]
    if not {"metric_key", "price_key"} & set(found):
        faults.append(_fault(f"there is no column metric_key nor price_key{_instead('metric_key', ignored)}"))
    faults += [
        _fault(
            f"column {validators.shorten(found[name])} holds floats, which are not exact; make it decimals or text "
            '(pandas: read_csv(…, dtype="str"))'
        )
        for name in ("quantity", "amount")
        if found.get(name) in records.floats
    ]
    if faults:
        raise QueryError(faults)
    return found, tuple(ignored)


def _lines(records: Records, columns: Mapping[str, str]) -> tuple[Line, ...]:
    """Every line but those without any value. Raises `QueryError`."""
    readers = [(columns.get(name), name, sparing(column.read)) for name, column in COLUMNS.items()]
    lines: list[Line] = []
    faults: list[Fault] = []
    faulty = 0
    for number, record, unreadable in records.rows:
        if record is not None and all(map(is_blank, record.values())):
            continue
        found, wrong = ((), [unreadable or ""]) if record is None else values(record, readers)
        if wrong:
            faulty += 1
            faults += [_fault(f"{records.unit} {number:,}: {words}") for words in wrong]
            if faulty == MAX_FAULTY:
                stopped = _fault(f"{MAX_FAULTY:,} lines are faulty; nothing after {records.unit} {number:,} was read")
                raise QueryError([stopped, *faults[: MAX_FAULTS - 1]])
        elif len(lines) == MAX_LINES:
            raise QueryError([_fault(f"there are more than {MAX_LINES:,} lines; give them in several validations")])
        elif not faults:
            lines.append(Line(number, *found))
    if faults:
        raise QueryError(faults)
    return tuple(lines)


def _instead(name: str, ignored: Iterable[str]) -> str:
    """What to do about a required column that is not there."""
    given = [validators.shorten(column, 30) for column in list(ignored)[:5]]
    return f"; name it so, instead of {' or '.join(given)}" if given else f"; add {name}"


def _fault(message: str) -> Fault:
    return Fault(PARAMETER, message)
