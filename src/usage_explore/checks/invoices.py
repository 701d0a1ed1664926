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
of the validated period's time zone. Other columns are ignored, and named in `Invoices.ignored`; one that looks like a
misspelt known column is an error, since it would have been compared.

Quantities and amounts are exact: text, integers and decimals are taken digit for digit, floats are refused.
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

from usage_explore import parse
from usage_explore.checks.invoice_records import Records, opened
from usage_explore.errors import Fault, QueryError
from usage_explore.limits import MAX_FAULTS
from usage_explore.load.values import Bad, check_size, code_words, number_text, shown, uuid_text

if TYPE_CHECKING:
    from usage_explore.checks.invoice_records import RecordSource

InvoiceSource: TypeAlias = "RecordSource | Invoices"
"""What invoices can be read from."""

PARAMETER = "invoices"
"""The argument that faults name."""

MAX_LINES = 250_000
"""How many lines invoices may have together: read, they take up to 650 bytes each."""

MAX_FAULTY = 1_000
"""After how many faulty lines reading stops."""

MAX_DIGITS = 1_000
"""How many digits a quantity or an amount may have before its point, and after it."""

KEYS = ("subscription_id", "metric_key", "price_key", "wallet_currency")
"""What lines may tell apart beside the customer."""

Moment = date | datetime
"""An end of a line's period: an instant, or a date on whatever clock the period is validated by."""


class Line(NamedTuple):
    """One invoice line: which line of its file, whose, what, when, how much, and what it charges."""

    line: int
    customer_id: UUID
    subscription_id: UUID | None
    metric_key: str | None
    price_key: str | None
    wallet_currency: str | None
    period_start: Moment | None
    period_end: Moment | None
    quantity: Decimal
    amount: Decimal | None
    currency: str | None


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
        lines = _lines(records, columns)
    if not lines:
        raise QueryError([Fault(PARAMETER, "there are no lines; give the invoices of the period, or leave them out")])
    told = tuple(name for name in KEYS if any(getattr(line, name) is not None for line in lines))
    return Invoices(lines=lines, columns=told, ignored=ignored, tolerance=allowed)


def _tolerance(given: object) -> Decimal:
    try:
        found = _decimal(given)
    except Bad as error:
        raise QueryError([Fault("tolerance", str(error))]) from None
    if found < 0:
        raise QueryError([Fault("tolerance", "is negative; give how far quantities may differ, 0 for not at all")])
    return found


class _Column(NamedTuple):
    """How a column is read, and its other name."""

    read: Callable[[object], Any]
    alias: str = ""


def _moment(raw: object) -> Moment:
    """A date, also as text or as a midnight without a zone, else an instant with an offset."""
    if isinstance(raw, datetime):
        if raw.utcoffset() is None and (raw.hour, raw.minute, raw.second, raw.microsecond) == (0, 0, 0, 0):
            return raw.date()
    elif isinstance(raw, date):
        return raw
    word = raw.strip() if isinstance(raw, str) else raw
    if isinstance(word, str) and _DATE.fullmatch(word):
        try:
            return date.fromisoformat(word)
        except ValueError:
            raise Bad(f"{shown(word)} is not a date that exists") from None
    try:
        return parse.instant(word)
    except ValueError as error:
        raise Bad(str(error)) from None


def _decimal(raw: object) -> Decimal:
    if isinstance(raw, float):
        raise Bad(f"{shown(raw)} is a float, which is not exact; give a decimal, an integer or text")
    text = number_text(raw)
    if len(text) > 2 * MAX_DIGITS + 20:
        raise Bad(f"{shown(text)} has more than {MAX_DIGITS:,} digits before or after its point")
    found = check_size(text)
    exponent = found.as_tuple().exponent
    if found.adjusted() >= MAX_DIGITS or (isinstance(exponent, int) and exponent < -MAX_DIGITS):
        raise Bad(f"{shown(text)} has more than {MAX_DIGITS:,} digits before or after its point")
    return found


_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

_READ: Mapping[str, _Column] = {
    "customer_id": _Column(lambda raw: UUID(uuid_text(raw)), "customer"),
    "subscription_id": _Column(lambda raw: UUID(uuid_text(raw)), "subscription"),
    "metric_key": _Column(code_words, "metric"),
    "price_key": _Column(code_words, "price"),
    "wallet_currency": _Column(code_words, "wallet"),
    "period_start": _Column(_moment),
    "period_end": _Column(_moment),
    "quantity": _Column(_decimal),
    "amount": _Column(_decimal),
    "currency": _Column(code_words),
}
"""The columns in the order of `Line`."""

_NAMES = {alias: name for name, column in _READ.items() for alias in (name, column.alias) if alias}

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
            faults.append(_fault(f"column {parse.shorten(name)} is {known}, as is {parse.shorten(found[known])}"))
        elif known is not None:
            found[known] = name
        elif near := get_close_matches(word[:100], _NAMES, n=1, cutoff=_NEARLY):
            faults.append(_fault(f"column {parse.shorten(name)} is unknown, did you mean {near[0]}?"))
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
            f"column {parse.shorten(found[name])} holds floats, which are not exact; make it decimals or text "
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
    readers = [(columns.get(name), name, _sparing(column.read)) for name, column in _READ.items()]
    lines: list[Line] = []
    faults: list[Fault] = []
    faulty = 0
    for number, record, unreadable in records.rows:
        if record is not None and all(map(_is_blank, record.values())):
            continue
        values, wrong = ((), [unreadable or ""]) if record is None else _values(record, readers)
        if wrong:
            faulty += 1
            faults += [_fault(f"{records.unit} {number:,}: {words}") for words in wrong]
            if faulty == MAX_FAULTY:
                stopped = _fault(f"{MAX_FAULTY:,} lines are faulty; nothing after {records.unit} {number:,} was read")
                raise QueryError([stopped, *faults[: MAX_FAULTS - 1]])
        elif len(lines) == MAX_LINES:
            raise QueryError([_fault(f"there are more than {MAX_LINES:,} lines; give them in several validations")])
        elif not faults:
            lines.append(Line(number, *values))
    if faults:
        raise QueryError(faults)
    return tuple(lines)


def _values(
    record: Mapping[str, Any], readers: Iterable[tuple[str | None, str, Callable[[object], Any]]]
) -> tuple[tuple[Any, ...], list[str]]:
    """A line's values in the order of `_READ`, and everything wrong with them."""
    values: dict[str, Any] = {}
    wrong: list[str] = []
    for source, name, read in readers:
        raw = None if source is None else record.get(source)
        try:
            values[name] = None if _is_blank(raw) else read(raw)
        except Bad as error:
            wrong.append(f"{name}: {error}")
            values[name] = raw
    wrong += [f"{name}: is blank; each line needs one" for name in ("customer_id", "quantity") if values[name] is None]
    if values["metric_key"] is None and values["price_key"] is None:
        wrong.append("metric_key and price_key: both are blank; say what was billed")
    if not wrong:
        wrong += _period_faults(values["period_start"], values["period_end"])
    return tuple(values.values()), wrong


def _period_faults(start: Moment | None, end: Moment | None) -> list[str]:
    if (start is None) != (end is None):
        return [f"{'period_start' if start is None else 'period_end'}: is blank while its other end is given"]
    if start is None or end is None:
        return []
    if isinstance(start, datetime) != isinstance(end, datetime):
        return ["period_end: is not of the kind of period_start; give two dates or two times"]
    if end < start or (end == start and isinstance(start, datetime)):
        return ["period_end: is not after period_start"]
    return []


def _sparing(read: Callable[[object], Any]) -> Callable[[object], Any]:
    """The reader, keeping one value of equal texts: a million lines share few customers, metrics and times."""
    kept: dict[str, Any] = {}

    def reading(raw: object) -> Any:
        if type(raw) is not str:
            return read(raw)
        if raw not in kept:
            found = read(raw)
            if isinstance(found, Decimal):
                return found
            kept[raw] = found
        return kept[raw]

    return reading


def _is_blank(raw: object) -> bool:
    return raw is None or (isinstance(raw, str) and not raw.strip())


def _instead(name: str, ignored: Iterable[str]) -> str:
    """What to do about a required column that is not there."""
    given = [parse.shorten(column, 30) for column in list(ignored)[:5]]
    return f"; name it so, instead of {' or '.join(given)}" if given else f"; add {name}"


def _fault(message: str) -> Fault:
    return Fault(PARAMETER, message)
