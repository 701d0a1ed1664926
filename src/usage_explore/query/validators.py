"""Validation of single values: text or a Python value in, the canonical value out.

Every function raises `ValueError` with a message that says how to correct the value, without the parameter's name.
Source: contract 2.3 and 2.4.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import lru_cache
from itertools import zip_longest
from operator import index
from typing import Any, SupportsIndex, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from usage_explore.decimals import plain, rfc3339
from usage_explore.formatting import MAX_VALUE_CHARACTERS, cut
from usage_explore.query.buckets import CALENDAR_WINDOWS
from usage_explore.query.limits import MAX_DECIMAL_DIGITS, MAX_VALUE_BYTES

_T = TypeVar("_T")

EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
"""The earliest time that a parameter or an event may have."""

LATEST = datetime(2200, 1, 1, tzinfo=UTC)
"""The latest time that a parameter may have; events lie before it."""

_RFC3339 = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?([Zz]|[+\- ]\d\d:\d\d)?",
    re.ASCII,
)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_RELATIVE = re.compile(r"(?:now|-[1-9]\d{0,5}[hdw])(?:/[hdwM])?", re.ASCII)
_LIKE_RELATIVE = re.compile(
    r"(?P<word>today|yesterday)"
    r"|(?:now)?\s*(?P<sign>[-+\u2212]?)\s*(?P<number>\d{1,6})\s*(?P<unit>[a-z]+)?\s*(?:/\s*(?P<round>[a-z]*))?"
    r"|now\W*(?:/\s*(?P<round_now>[a-z]*))?",
    re.ASCII | re.IGNORECASE,
)
"""Relative times that are written as elsewhere: `now-1d`, `-7days`, `-0d/d`, with the minus sign of our own texts."""

_STARTS_AS_RELATIVE = re.compile(r"now|today|yesterday|[-+\u2212]\s*\d+|\d{1,6}\s*[a-z]", re.ASCII | re.IGNORECASE)
_MONTH = re.compile(r"(\d{4})-(\d{1,2})", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_INTEGER = re.compile(r"-?\d{1,9}", re.ASCII)
_DECIMAL = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)

_LIKE_PREFIX = re.compile(
    r"(?P<not>not\s*[:.]\s*)?(?P<dim>dim(?:ension)?s?\s*[:.]\s*)?(?P<rest>.+)", re.ASCII | re.IGNORECASE | re.DOTALL
)

_MAX_MESSAGES = 3
"""Faulty values of one parameter that its message names; further ones are counted."""

_SYNONYMS = {
    "since": ("occurred_after",),
    "until": ("occurred_before",),
    "occurred_after": ("since",),
    "occurred_before": ("until",),
    "start": ("since", "occurred_after"),
    "end": ("until", "occurred_before"),
    "by": ("group_by",),
    "tz": ("timezone",),
}
"""Names that another query, or another library, has for our parameters."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`, did you mean x?` for the most similar known word, blank if none is similar."""
    near = nearest(word, known) if len(word) <= MAX_VALUE_CHARACTERS else None
    return f", did you mean {near}?" if near is not None else ""


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The most similar known word, in any case; None if none is similar."""
    words = {name.lower(): name for name in known}
    similar = difflib.get_close_matches(word.lower(), words, n=1, cutoff=0.6)
    return words[similar[0]] if similar else None


def synonym(word: str, known: Iterable[str]) -> str | None:
    """The known parameter for a name that another query or library uses."""
    known = tuple(known)
    return next((name for name in _SYNONYMS.get(word, ()) if name in known), None)


def with_prefix(word: str) -> str | None:
    """The parameter that is meant by a name with a prefix that is almost `dim:` or `not:`, None without one.

    >>> with_prefix("Dim:model"), with_prefix("not.dims.model"), with_prefix("dim")
    ('dim:model', 'not:dim:model', None)
    """
    match = _LIKE_PREFIX.fullmatch(word)
    if match is None or not (match["not"] or match["dim"]):
        return None
    return f"{'not:' if match['not'] else ''}{'dim:' if match['dim'] else ''}{match['rest']}"


def unknown_hint(word: str, known: Iterable[str], written: Callable[[str], str], owner: str = "") -> str:
    """The end of the message for an unknown parameter: a synonym, the other queries that have it, or a similar name.

    Else how to write a dimension of that name: `written` gives the spelling of `dim:<key>` and `not:<parameter>`.
    `owner` is such as "aggregates (AggregateQuery)".
    """
    known = tuple(known)
    if meant := with_prefix(word):
        return f", did you mean {named(written(meant))}?"
    if meant := synonym(word, known):
        return f", did you mean {meant}?"
    if owner:
        return f"; it belongs to {owner}"
    return did_you_mean(word, known) or f"; for a dimension write {named(written('dim:' + word))}"


def text(value: object, *, blank: bool = False) -> str:
    """A text that PostgreSQL can store, of at most `MAX_VALUE_BYTES`; the empty text only with `blank`."""
    if not isinstance(value, str):
        inner = None
        with suppress(Exception):  # attributes of any class may raise anything
            inner = getattr(value, "value", None)
        several = "; give one value" if isinstance(value, list | tuple | set | frozenset) else ""
        raise ValueError(f"{shorten(value)} is not text{'; take its .value' if isinstance(inner, str) else several}")
    if not value and not blank:
        raise ValueError("is blank; give a value or leave the parameter out")
    if "\0" in value:
        raise ValueError("contains a NUL character, which no value can hold")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("is not valid Unicode text") from None
    if size > MAX_VALUE_BYTES:
        raise ValueError(f"has {size:,} bytes, more than the {MAX_VALUE_BYTES:,} that a value may have; shorten it")
    return value


def choice(value: object, allowed: Iterable[str]) -> str:
    """One of the allowed words."""
    names = tuple(allowed)
    word = text(value)
    if word not in names:
        raise ValueError(f"{shorten(word)} is not one of {', '.join(names)}{did_you_mean(word, names)}")
    return word


def uuid(value: object) -> UUID:
    """A UUID, from itself or its hexadecimal text."""
    if isinstance(value, UUID):
        return value
    word = text(value)
    if not _UUID.fullmatch(word):
        raise ValueError(f"{shorten(word)} is not a UUID such as 3f2b8c1e-0000-4000-8000-000000000000")
    return UUID(word)


def every(check: Callable[[Any], _T], values: Iterable[object], names: Sequence[str] = ()) -> list[_T]:
    """The result of `check` for each value; `names` are those of the values in messages, such as `since`.

    Raises `ValueError` with the messages of all faulty values.
    """
    results, messages = [], []
    for value, name in zip_longest(values, names, fillvalue=""):
        try:
            results.append(check(value))
        except ValueError as error:
            messages.append(f"its {name} {error}" if name else str(error))
    if messages:
        more = len(messages) - _MAX_MESSAGES
        raise ValueError("; ".join(messages[:_MAX_MESSAGES]) + (f"; and {more:,} more" if more > 0 else ""))
    return results


def instants(pair: Iterable[object]) -> list[datetime]:
    """The two instants of a window as text or datetimes. Raises `ValueError` that names each faulty one."""
    return every(instant, pair, ("since", "until"))


def integer(value: object, low: int, high: int) -> int:
    """A whole number from `low` to `high`."""
    number: int | None = None
    if isinstance(value, str):
        number = int(value) if _INTEGER.fullmatch(text(value)) else None
    elif isinstance(value, SupportsIndex) and not isinstance(value, bool):
        with suppress(TypeError):  # an array of several
            number = index(value)  # numpy's integers too
    if number is None or not low <= number <= high:
        raise ValueError(f"{shorten(value if number is None else number)} is not a whole number from {low} to {high}")
    return number


def decimal(value: object) -> Decimal:
    """An exact, finite decimal, without trailing zeros: 2.5 for "2.50", `Decimal("2.5")` and "02.5"."""
    number: Decimal | None = None
    if isinstance(value, float):
        raise ValueError(f"{shorten(value)} is a float, which is not exact; give text such as '0.1', or a Decimal")
    if isinstance(value, Decimal):
        number = value if value.is_finite() else None
    elif isinstance(value, SupportsIndex) and not isinstance(value, bool):
        with suppress(TypeError):  # an array of several
            number = Decimal(index(value))
    else:
        number = Decimal(word) if _DECIMAL.fullmatch(word := text(value)) else None
    if number is None:
        raise ValueError(f"{shorten(value)} is not a decimal such as 2.5, written without an exponent")
    exponent = number.as_tuple().exponent
    if number.adjusted() >= MAX_DECIMAL_DIGITS or (isinstance(exponent, int) and -exponent > MAX_DECIMAL_DIGITS):
        raise ValueError(f"has more than {MAX_DECIMAL_DIGITS:,} digits before or after the point")
    return Decimal(plain(number))


def calendar_window(value: object) -> str:
    """One of `CALENDAR_WINDOWS`, or a month from `1970-01` to `2199-12`."""
    word = text(value)
    if not (match := _MONTH.fullmatch(word)):
        try:
            return choice(word, CALENDAR_WINDOWS)
        except ValueError as error:
            raise ValueError(f"{error}; or a month such as 2026-09") from None
    year, month = match.groups()
    if not 1 <= int(month) <= 12:
        raise ValueError(f"{shorten(word)} is not a month: after the year come 01 to 12, as in {year}-09")
    if len(month) == 1:
        raise ValueError(f"{shorten(word)} is not a month with two digits; write {year}-0{month}")
    if not EARLIEST.year <= int(year) < LATEST.year:
        raise ValueError(f"{shorten(word)} lies outside 1970-01 to 2199-12")
    return word


def boolean(value: object) -> bool:
    """True or False, from itself or the texts `true` and `false`."""
    return value if isinstance(value, bool) else choice(value, ("true", "false")) == "true"


def compared_period(value: object) -> str:
    """`previous`, `year`, or the two instants of `<since>/<until>`, which may also be a pair, in UTC."""
    if isinstance(value, str) and "/" not in value:
        try:
            return choice(value, ("previous", "year"))
        except ValueError as error:
            raise ValueError(f"{error}; or write two times as <since>/<until>") from None
    parts = value.split("/") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or len(parts) != 2:
        raise ValueError(f"{shorten(value)} is not previous, year or two times as <since>/<until>")
    since, until = instants(parts)
    if since >= until:
        raise ValueError("has a since that is not before its until; swap them")
    return f"{rfc3339(since)}/{rfc3339(until)}"


def zone_name(value: object) -> str:
    """An IANA time zone name such as Europe/Berlin."""
    name = text(value.key if isinstance(value, ZoneInfo) else value)
    if name not in _zones():
        raise ValueError(
            f"{shorten(name)} is not an IANA time zone such as Europe/Berlin{did_you_mean(name, _zones())}"
        )
    return name


def instant(value: object) -> datetime:
    """An instant as an aware datetime in UTC, from 1970-01-01 to 2200-01-01, in whole microseconds."""
    if isinstance(value, datetime) and value != value:  # pandas' NaT
        raise ValueError("NaT is not a time; leave the parameter out to mean any")
    if not isinstance(value, datetime | str):
        raise ValueError(f"{shorten(value)} is not text such as 2026-09-01T00:00:00Z, nor an aware datetime")
    result = _from_datetime(value) if isinstance(value, datetime) else _from_text(text(value))
    if result is None or not EARLIEST <= result <= LATEST:
        raise ValueError("lies outside 1970-01-01T00:00:00Z to 2200-01-01T00:00:00Z")
    return result


def is_date(word: str) -> bool:
    """Whether a text is a date without a time of day."""
    return _DATE.fullmatch(word) is not None


def local_date(value: object) -> date | None:
    """The date of a value without a zone: a `date`, `2026-09-01`, pandas' Timestamp or Period at midnight.

    None for anything else, also for a naive datetime, whose zone was probably forgotten.
    """
    with suppress(Exception):  # a date that does not exist; attributes of any class may raise anything
        value = getattr(value, "start_time", value)  # of a Period
        if isinstance(value, datetime):
            of_pandas = getattr(value, "nanosecond", None) == 0 and value.utcoffset() is None
            return value.date() if of_pandas and value.time() == time.min else None
        if isinstance(value, str):
            return date.fromisoformat(value) if is_date(value) else None
        return value if isinstance(value, date) else None
    return None


def moment(value: object) -> datetime | str:
    """An instant, or a relative time: `now` or `-30d` (h, d, w); `/d` rounds down to the start of the day."""
    if isinstance(value, str) and _RELATIVE.fullmatch(value):
        return value
    if isinstance(value, str) and _STARTS_AS_RELATIVE.match(value):
        meant = _relative_meant(value)
        raise ValueError(
            f"{shorten(value)} is not a relative time{f', did you mean {meant}?' if meant else ''}; "
            "write now, -24h, -30d or -4w, "
            "with /h, /d, /w or /M to round down to the start of the hour, day, week or month"
        )
    return instant(value)


def _relative_meant(text: str) -> str | None:
    """The relative time that is probably meant, None if none is: there are no months, years or times in the future.

    >>> _relative_meant("-0d/d"), _relative_meant("now-7days"), _relative_meant("-1M")
    ('now/d', '-7d', None)
    """
    match = _LIKE_RELATIVE.fullmatch(text.strip())
    if match is None:
        return None
    if word := match["word"]:
        return {"today": "now/d", "yesterday": "-1d/d"}[word.lower()]
    amount = "now"
    if number := int(match["number"] or 0):
        amount = f"-{number}{(match['unit'] or '-')[0].lower()}"
    units = {"h": ("h", "hour"), "d": ("d", "day"), "w": ("w", "week"), "M": ("m", "month")}
    rounded = (match["round"] or match["round_now"] or "").lower().removesuffix("s")
    rounding = next((f"/{letter}" for letter, names in units.items() if rounded in names), "" if not rounded else "?")
    unit = (match["unit"] or "h").lower().removesuffix("s")
    is_known = match["sign"] != "+" and any(unit in names for names in list(units.values())[:3])
    return amount + rounding if is_known and _RELATIVE.fullmatch(amount + rounding) else None


def shorten(value: object, max_characters: int = MAX_VALUE_CHARACTERS) -> str:
    """The value as Python code, for an error message: one line, printable, cut at `max_characters`."""
    if isinstance(value, str):
        return repr(cut(str(value), max_characters))
    try:
        code = cut(repr(value), max_characters)
    except Exception:  # an integer of thousands of digits, a deeply nested list, a class with a faulty repr
        return f"this {type(value).__name__}"
    return code if code.isprintable() else repr(code)


def named(name: str) -> str:
    """A parameter's name for an error message: as `shorten`, without quotes."""
    return shorten(name)[1:-1]


@lru_cache(maxsize=1)
def _zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"localtime", "Factory"})


def _from_datetime(value: datetime) -> datetime | None:
    """The instant in UTC, None beyond the years of datetime."""
    if value.utcoffset() is None:
        raise ValueError("has no time zone; give an aware datetime, e.g. with tzinfo=UTC")
    if getattr(value, "nanosecond", 0):
        raise ValueError("has nanoseconds; round it to microseconds")
    try:
        return datetime.fromisoformat(value.isoformat()).astimezone(UTC)
    except OverflowError:
        return None


def _from_text(word: str) -> datetime:
    match = _RFC3339.fullmatch(word)
    if is_date(word):
        raise ValueError(f"{shorten(word)} is not RFC 3339: it has no time and no offset; write {word}T00:00:00Z")
    if not match:
        raise ValueError(f"{shorten(word)} is not RFC 3339; write a time such as 2026-09-01T00:00:00Z")
    day, clock, fraction, offset = match.groups()
    if offset is None:
        raise ValueError(f"{shorten(word)} has no offset; append Z or an offset such as +02:00")
    if offset.startswith(" "):
        raise ValueError(f"{shorten(word)} has a space in place of +; in a URL write %2B for +")
    if fraction and len(fraction) > 6:
        raise ValueError(f"{shorten(word)} is finer than microseconds; write at most six decimals")
    if clock.endswith(":60"):
        raise ValueError(
            f"{shorten(word)} is a leap second, which the database cannot hold; write :59 or the next minute"
        )
    try:
        naive = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '').ljust(6, '0')}")
        return naive.replace(tzinfo=_offset(offset)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(f"{shorten(word)} is not a time that exists") from None


def _offset(offset: str) -> timezone:
    if offset in "Zz":
        return UTC
    hours, minutes = int(offset[1:3]), int(offset[4:6])
    if hours > 23 or minutes > 59:
        raise ValueError
    shift = timedelta(hours=hours, minutes=minutes)
    return timezone(-shift if offset[0] == "-" else shift)
