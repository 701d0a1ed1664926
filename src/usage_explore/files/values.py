"""Values from files as text that PostgreSQL parses, without loss of digits.

A raw value is text (CSV), a JSON value with `Decimal` for numbers, or the Python value of an Arrow type. A float, which
only Parquet has, is read through its shortest text, so 0.1 is loaded as 0.1. The readers raise `InvalidValue`.

`MadeId` and the functions of ids read those in files of a validation or a price book, which may be any text, as in
files of events.

`load` makes an id of a text, and keeps the text as an external id in the directory of names. A text in another file
stands for the id that has it there, else for the id that `load` makes of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from uuid import UUID

from usage_explore.names import Key, Names, made_id
from usage_explore.query import validators

EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Bounds of an event's times; LATEST is excluded."""

MAX_DIGITS = 1_000
"""Digits of a decimal before its point, and after it, written without an exponent: 1e1000 has 1,001 before it."""

HAS_COMMA = "has a comma; write no thousands separators and a decimal point, like 1234.5"
"""What is wrong with a number with a comma, after its text."""

_ZERO = Decimal(0)
"""Zero that was written with an exponent of more than `MAX_DIGITS`."""

MAX_METRIC_BYTES = 1_024
"""Bytes of a metric key, so that it and a quantity fit in an entry of the covering index (2,704 bytes)."""

MAX_KEY_BYTES = 4_096
"""Bytes of a text in a file of which only keys and numbers are read, which are kept in memory."""

_DATE = re.compile(r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)", re.ASCII)
_DOTTED_DATE = re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})", re.ASCII)
"""A date of which the day is first, as in `load`."""
_HEX = re.compile(r"[0-9a-fA-F]{8}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{4}-?[0-9a-fA-F]{12}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,9})?")
_WITH_SIGN = re.compile(r"[+-]?(?:(?:US)?[$€£¥₹]\s*[+-]?[\d.,]+|[\d.,]+\s*[$€£¥₹])", re.ASCII)

Edge = date | datetime
"""An end of a span: an instant, or a date, which is its midnight in the time zone of the period that it is about."""


class InvalidValue(ValueError):
    """A value cannot be loaded. The message is the reason and follows the column's name: "'x' is not a UUID"."""


class Unreadable:
    """In a record, a value that its source could not read; every reader raises `InvalidValue` with its `reason`."""

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __str__(self) -> str:
        return f"a value that {self.reason}"


MAX_SHEET_DIGITS = 15
"""Digits that Excel keeps of a number; the further ones become zeros, so two long ids become one."""


class SheetNumber(Decimal):
    """A number of a spreadsheet with more digits before its point than `MAX_SHEET_DIGITS`: a quantity, but no id."""

    __slots__ = ()


_DECIMAL = re.compile(r"Decimal\('([^']*)'\)")
"""A number in the text of a list or an object."""


def quoted(raw: object) -> str:
    """The value in an error message: one line of at most 60 characters, text in quotes."""
    try:
        text = repr(raw) if isinstance(raw, str) else _DECIMAL.sub(r"\1", str(raw))
    except Exception:  # an integer of more than 4,300 digits, a class with a faulty repr
        return f"this {type(raw).__name__}"
    text = text if text.isprintable() else repr(text)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _refuse(raw: object, expected: str) -> InvalidValue:
    if isinstance(raw, Unreadable):
        return InvalidValue(raw.reason)
    return InvalidValue(f"{quoted(raw)} is {expected}")


def uuid_text(raw: object) -> str:
    """A UUID in lower case with hyphens; the file may have it without."""
    if type(raw) is str:
        text = raw.strip()
        if _HEX.fullmatch(text):
            text = text.lower()
            if len(text) != 36:
                text = text.replace("-", "")
                text = f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
            return text
    elif isinstance(raw, UUID):
        return str(raw)
    elif isinstance(raw, bytes) and len(raw) == 16:
        return str(UUID(bytes=raw))
    raise _refuse(raw, "not a UUID")


def number_text(raw: object) -> str:
    """A finite decimal number, digit for digit as the file has it, within `MAX_DIGITS`."""
    if type(raw) is str:
        text = raw.strip()
    elif isinstance(raw, Decimal):
        text = str(raw)
    elif isinstance(raw, int) and not isinstance(raw, bool):
        if abs(raw) >= 10**MAX_DIGITS:
            raise _too_long(raw, "before")
        text = str(raw)
    elif isinstance(raw, float):
        text = repr(raw)
    else:
        raise _refuse(raw, "not a number")
    if _NUMBER.fullmatch(text) is None:
        raise _number_error(raw, text)
    if len(text) > 300 or "e" in text or "E" in text:
        value = check_size(text)
        if value is _ZERO:
            return "0"
    return text


def _number_error(raw: object, text: str) -> InvalidValue:
    if text.strip("+-").lower() in {"nan", "snan", "inf", "infinity"}:
        return InvalidValue(f"{quoted(raw)} is not finite; NaN and infinite numbers have no exact sum")
    if _WITH_SIGN.fullmatch(text):
        return InvalidValue(f"{quoted(raw)} has a currency sign; write the number alone, and its currency in a column")
    if "," in text:
        return InvalidValue(f"{quoted(raw)} {HAS_COMMA}")
    return InvalidValue(f"{quoted(raw)} is not a decimal number")


def check_size(text: str) -> Decimal:
    """The decimal; zero whatever its exponent.

    Raises `InvalidValue` if it has more than `MAX_DIGITS` before or after its point.
    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        raise InvalidValue(f"{quoted(text)} is not a decimal number") from None
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        raise _number_error(text, text)
    if not value:
        return value if abs(exponent) <= MAX_DIGITS else _ZERO
    if value.adjusted() >= MAX_DIGITS:
        raise _too_long(text, "before")
    if -exponent > MAX_DIGITS:
        raise _too_long(text, "after")
    return value


def _too_long(raw: object, side: str) -> InvalidValue:
    return InvalidValue(f"{quoted(raw)} has more than {MAX_DIGITS:,} digits {side} its decimal point")


def plain_text(raw: object) -> str:
    """Text as it is in the file; an integer, decimal or UUID as text, but for a `SheetNumber`."""
    if type(raw) is str:
        if not raw.isascii():
            _check_unicode(raw)
        if "\0" in raw:
            raise InvalidValue(f"{quoted(raw)} has a NUL character, which PostgreSQL cannot keep")
        return raw
    if isinstance(raw, SheetNumber):
        raise InvalidValue(
            f"{raw:f} is a number of {raw.adjusted() + 1} digits, of which Excel keeps {MAX_SHEET_DIGITS}: two"
            " such ids may have become one; format the column as text before the ids are imported into it"
        )
    if isinstance(raw, Decimal):
        return f"{raw:f}"
    if isinstance(raw, UUID) or (isinstance(raw, int) and not isinstance(raw, bool)):
        return str(raw)
    raise _refuse(raw, "not text")


def _check_unicode(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidValue(f"{quoted(ascii(text))} has half a surrogate pair, which is not text") from None


def idempotency_key_text(raw: object) -> str:
    """Text that is not empty: an idempotency key."""
    text = plain_text(raw)
    if not text:
        raise InvalidValue("is the empty text; give a key, or leave it out and the row's own hash is taken")
    return text


def code_text(raw: object) -> str:
    """Text that is not empty: a price key or a currency."""
    text = plain_text(raw)
    if not text:
        raise InvalidValue("is the empty text; leave it out where there is none")
    return text


def metric_key_text(raw: object) -> str:
    """Text that is not empty, of at most 1,024 bytes, without the space around it: a metric key."""
    text = plain_text(raw).strip()
    if not text:
        raise InvalidValue("is the empty text; say what was metered")
    if len(text) > MAX_METRIC_BYTES // 4 and len(text.encode()) > MAX_METRIC_BYTES:
        raise InvalidValue(f"{quoted(text)} is longer than {MAX_METRIC_BYTES:,} bytes")
    return text


def is_blank(raw: object) -> bool:
    """Whether a value is absent, or a text of spaces."""
    return raw is None or (isinstance(raw, str) and not raw.strip())


def exact_decimal(raw: object) -> Decimal:
    """The number digit for digit. Raises `InvalidValue` for a float, too."""
    if isinstance(raw, float):
        raise InvalidValue(f"{quoted(raw)} is a float, which is not exact; give a decimal, an integer or text")
    return Decimal(number_text(raw))


def uuid(raw: object) -> UUID:
    """A UUID, in a text with or without hyphens."""
    return UUID(uuid_text(raw))


def edge(raw: object) -> Edge:
    """A date (also text, as 2026-10-01 or 1.10.2026, or a midnight without a zone), else an instant with an offset."""
    if isinstance(raw, datetime):
        if raw.utcoffset() is None and (raw.hour, raw.minute, raw.second, raw.microsecond) == (0, 0, 0, 0):
            return raw.date()
    elif isinstance(raw, date):
        return raw
    text = raw.strip() if isinstance(raw, str) else raw
    if isinstance(text, str) and (match := _DATE.fullmatch(text) or _DOTTED_DATE.fullmatch(text)):
        try:
            return date(int(match["year"]), int(match["month"]), int(match["day"]))
        except ValueError:
            raise InvalidValue(f"{quoted(text)} is not a date that exists") from None
    try:
        return validators.instant(text)
    except ValueError as error:
        raise InvalidValue(str(error)) from None


_NEARLY_UUID = re.compile(r"[0-9a-fA-F-]{30,40}")
"""A text that is a UUID with a typing error: no id is made of it."""


class MadeId(UUID):
    """The id that is made of a text of a kind, such as "customer"; `directory_ids` may have another one for it."""

    __slots__ = ("kind", "text")
    kind: str
    text: str

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(int=made_id(kind, text).int)
        object.__setattr__(self, "kind", kind)  # a UUID refuses to be changed
        object.__setattr__(self, "text", text)

    def __reduce__(self) -> tuple[type[MadeId], tuple[str, str]]:
        return MadeId, (self.kind, self.text)


def id_reader(kind: str) -> Callable[[object], UUID]:
    """The function that reads an id of a kind: a UUID, with or without hyphens, or any other text."""

    def read(raw: object) -> UUID:
        try:
            return uuid(raw)
        except InvalidValue:
            text = plain_text(raw).strip()
            if not text or _NEARLY_UUID.fullmatch(text):
                raise
        if len(text.encode()) > MAX_KEY_BYTES:
            raise InvalidValue(f"{quoted(text)} has more than {MAX_KEY_BYTES:,} bytes; give the id")
        return MadeId(kind, text)

    return read


def made_ids(ids: Iterable[UUID | None]) -> dict[Key, MadeId]:
    """Those that are made of texts, by kind and text."""
    return {(id_.kind, id_.text): id_ for id_ in ids if isinstance(id_, MadeId)}


def directory_ids(made: Mapping[Key, MadeId], found: Mapping[Key, UUID]) -> dict[UUID, UUID]:
    """The id of each one that is made of a text: that which was `found` for the text, else the same as a plain one."""
    return {id_: found.get(key, UUID(int=id_.int)) for key, id_ in made.items()}


def names_of(made: Mapping[Key, MadeId], ids: Mapping[UUID, UUID]) -> Names:
    """The texts as the names of the ids that they stand for."""
    return Names({(kind, str(ids[id_])): text for (kind, text), id_ in made.items()})
