"""One invoice line: its columns, how each value is read, and what a line must have."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from usage_explore.files.values import Bad, check_size, code_words, metric_words, number_text, shown, uuid_text
from usage_explore.query import validators
from usage_explore.query.limits import MAX_VALUE_BYTES

MAX_DIGITS = 1_000
"""How many digits a quantity or an amount may have before its point, and after it."""

_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)

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


class Column(NamedTuple):
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
        return validators.instant(word)
    except ValueError as error:
        raise Bad(str(error)) from None


def exact_decimal(raw: object) -> Decimal:
    """The number digit for digit; `Bad` for a float and for more than 1,000 digits before or after the point."""
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


def _code(raw: object) -> str:
    """A price key or a currency, `Bad` if blank or longer than the longest value that a query can filter by."""
    text = code_words(raw)
    if len(text) > MAX_VALUE_BYTES // 4 and len(text.encode()) > MAX_VALUE_BYTES:
        raise Bad(f"{shown(text)} is longer than {MAX_VALUE_BYTES:,} bytes")
    return text


COLUMNS: Mapping[str, Column] = {
    "customer_id": Column(lambda raw: UUID(uuid_text(raw)), "customer"),
    "subscription_id": Column(lambda raw: UUID(uuid_text(raw)), "subscription"),
    "metric_key": Column(metric_words, "metric"),
    "price_key": Column(_code, "price"),
    "wallet_currency": Column(_code, "wallet"),
    "period_start": Column(_moment),
    "period_end": Column(_moment),
    "quantity": Column(exact_decimal),
    "amount": Column(exact_decimal),
    "currency": Column(_code),
}
"""The columns in the order of `Line`."""


def values(
    record: Mapping[str, Any], readers: Iterable[tuple[str | None, str, Callable[[object], Any]]]
) -> tuple[tuple[Any, ...], list[str]]:
    """A line's values in the order of `COLUMNS`, and everything wrong with them."""
    found: dict[str, Any] = {}
    wrong: list[str] = []
    for source, name, read in readers:
        raw = None if source is None else record.get(source)
        try:
            found[name] = None if is_blank(raw) else read(raw)
        except Bad as error:
            wrong.append(f"{name}: {error}")
            found[name] = raw
    wrong += [f"{name}: is blank; each line needs one" for name in ("customer_id", "quantity") if found[name] is None]
    if found["metric_key"] is None and found["price_key"] is None:
        wrong.append("metric_key and price_key: both are blank; say what was billed")
    if not wrong:
        wrong += _period_faults(found["period_start"], found["period_end"])
    return tuple(found.values()), wrong


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


def sparing(read: Callable[[object], Any]) -> Callable[[object], Any]:
    """The reader, keeping one value of equal texts: many lines share few customers, metrics and times."""
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


def is_blank(raw: object) -> bool:
    """Whether a cell says nothing."""
    return raw is None or (isinstance(raw, str) and not raw.strip())
