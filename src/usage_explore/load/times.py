"""Times as people export them: local times, dates, epoch seconds, names of months."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from usage_explore.decimals import decimal_context
from usage_explore.files.values import EARLIEST, LATEST, InvalidValue, Unreadable, quoted

_MAX_CACHED_TIMES = 65_536
"""Texts of times whose instant is remembered, as many rows of an export have the same."""

_EPOCH_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))
"""(first number that is larger, units in a second): 1.8e9 is seconds, 1.8e12 milliseconds, 1.8e15 microseconds."""

_FIRST_EPOCH = 10**8
"""Smaller numbers are no epoch time: 20261001 is a date."""

_FIRST_EPOCH_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_EPOCH_DAYS_AHEAD = 5 * 366
"""Days from now up to which a number is read as an epoch time; others are local times, FILETIME or .NET ticks."""

_COMPACT_FORMS = {
    10: ("%Y%m%d%H",),
    12: ("%Y%m%d%H%M", "%y%m%d%H%M%S"),
    14: ("%Y%m%d%H%M%S",),
    17: ("%Y%m%d%H%M%S",),
}
"""Digits -> forms of times without separators, of which the first 14 digits are read."""

_ISO = re.compile(
    r"(\d{4})([-/])(\d\d)\2(\d\d)(?:[Tt ](\d\d?):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?"
    r"\s*([Zz]|UTC|GMT|[+-]\d\d(?::?\d\d)?(?: UTC| GMT)?)?)?",
    re.ASCII,
)
_EXACT_ISO = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:?\d\d)", re.ASCII)
"""Times that `datetime.fromisoformat` reads exactly, and quickly."""

_NUMERIC = re.compile(
    r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})"
    r"(?:,?[Tt ]\s*(\d{1,2}):(\d\d)(?::(\d\d)(?:[.,](\d+))?)?(?:\s*([AaPp])\.?[Mm]\.?)?)?\s*([Zz]|UTC|GMT)?",
    re.ASCII,
)
_NAMED = re.compile(
    r"(?:(?P<day>\d{1,2})[ -](?P<name>[A-Za-z]{3,9})|(?P<name2>[A-Za-z]{3,9}) (?P<day2>\d{1,2}),?)[ -](?P<year>\d{4})"
    r"(?:,?\s+(?P<hour>\d{1,2}):(?P<minute>\d\d)(?::(?P<second>\d\d))?(?:\s*(?P<half>[AaPp])[Mm])?)?\s*(?P<zone>Z|UTC|GMT)?",
    re.ASCII,
)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_EPOCH = re.compile(r"\d{9,20}(?:\.\d+)?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)


class TimeReader:
    """Reads times; those without an offset, and dates, are in `timezone`. `str` results are UTC to the microsecond.

    `format` is that of Python's strptime. `day_first` says what 03/04/2026 is; where it is None, such a time is an
    error; `decided_by` is the line that shows it. `counts` has for the report: "dates", "local_times", "ambiguous" (a
    clock shows the time twice, or not at all) and "truncated" (finer than a microsecond).
    """

    def __init__(self, timezone: ZoneInfo | None, format: str | None) -> None:
        self.timezone = timezone
        self._format = format
        self.day_first: bool | None = None
        self.decided_by = ""
        self.counts: Counter[str] = Counter()
        self._text = lru_cache(maxsize=_MAX_CACHED_TIMES)(self._read_text)

    def read(self, raw: object) -> str:
        """The instant as text. Raises `InvalidValue`."""
        if type(raw) is str:
            if self._format is None and _EXACT_ISO.fullmatch(raw):
                return _exact(raw)
            text, counters = self._text(raw)
            if counters:
                self.counts.update(counters)
            return text
        counters = []
        try:
            instant = self._instant(raw, counters)
        except (ValueError, OverflowError) as error:
            if isinstance(error, InvalidValue):
                raise
            raise InvalidValue(f"{quoted(raw)} is not a time: {error}") from None
        self.counts.update(counters)
        return _in_range(instant, raw)

    def _instant(self, raw: object, counters: list[str]) -> datetime:
        if isinstance(raw, Decimal) or (isinstance(raw, (int, float)) and not isinstance(raw, bool)):
            return _epoch(Decimal(str(raw)), raw, counters)
        if isinstance(raw, datetime):
            return raw if raw.tzinfo else self._local(raw, raw, counters)
        if isinstance(raw, date):
            counters.append("dates")
            return self._local(datetime.combine(raw, time()), raw, counters)
        if isinstance(raw, Unreadable):
            raise InvalidValue(raw.reason)
        raise InvalidValue(f"{quoted(raw)} is not a time; write it like 2026-01-31T08:00:00Z")

    def _read_text(self, raw: str) -> tuple[str, list[str]]:
        counters: list[str] = []
        text = raw.strip()
        try:
            instant = self._by_format(text, raw, counters) if self._format else self._by_shape(text, raw, counters)
        except (ValueError, OverflowError) as error:
            if isinstance(error, InvalidValue):
                raise
            raise InvalidValue(f"{quoted(raw)} is not a time: {error}") from None
        return _in_range(instant, raw), counters

    def _by_format(self, text: str, raw: str, counters: list[str]) -> datetime:
        try:
            moment = datetime.strptime(text, str(self._format))  # noqa: DTZ007 - the zone is set below
        except ValueError:
            raise InvalidValue(f"{quoted(raw)} does not have the form {self._format} (--time-format)") from None
        if moment.tzinfo is not None:
            return moment
        if "%H" not in str(self._format) and "%I" not in str(self._format):
            counters.append("dates")
        return self._local(moment, raw, counters)

    def _by_shape(self, text: str, raw: str, counters: list[str]) -> datetime:
        if match := _ISO.fullmatch(text):
            year, _, month, day, hour, minute, second, fraction, offset = match.groups()
            return self._at((year, month, day), (hour, minute, second, fraction), offset, raw, counters)
        if _EPOCH.fullmatch(text):
            return _epoch(Decimal(text), raw, counters)
        if match := _NUMERIC.fullmatch(text):
            first, separator, second_number, year, hour, minute, second, fraction, half, offset = match.groups()
            day, month = (first, second_number) if self._is_day_first(separator, raw) else (second_number, first)
            return self._at((year, month, day), (_hour(hour, half), minute, second, fraction), offset, raw, counters)
        if match := _NAMED.fullmatch(text):
            name = (match["name"] or match["name2"])[:3].lower()
            if name in _MONTHS:
                day, month = match["day"] or match["day2"], str(_MONTHS.index(name) + 1)
                hour = _hour(match["hour"], match["half"])
                clock = (hour, match["minute"], match["second"], None)
                return self._at((match["year"], month, day), clock, match["zone"], raw, counters)
        if match := _COMPACT.fullmatch(text):
            return self._at((match[1], match[2], match[3]), (None, None, None, None), None, raw, counters)
        raise InvalidValue(
            f"{quoted(raw)} is not a time; write it like 2026-01-31T08:00:00Z, or give its form with --time-format"
        )

    def _is_day_first(self, separator: str, raw: str) -> bool:
        if separator == ".":
            return True
        if self.day_first is None:
            order = self.shows_order(raw)
            says = "may have the day or the month" if order is None else f"has the {'day' if order else 'month'}"
            form = f"%m{separator}%d{separator}%Y" if order is False else f"%d{separator}%m{separator}%Y"
            if ":" in raw:
                is_half = raw.rstrip(" .").lower().endswith("m")
                form += (" %I:%M" if is_half else " %H:%M") + ":%S" * (raw.count(":") > 1) + " %p" * is_half
            raise InvalidValue(
                f"{quoted(raw)} {says} first; give the form with --time-format, such as --time-format '{form}'"
            )
        return self.day_first

    def _at(
        self,
        day: tuple[str, str, str],
        clock: tuple[str | None, str | None, str | None, str | None],
        offset: str | None,
        raw: str,
        counters: list[str],
    ) -> datetime:
        hour, minute, second, fraction = clock
        digits = (fraction or "").rstrip("0")
        if len(digits) > 6:
            counters.append("truncated")
        moment = datetime.combine(
            date(int(day[0]), int(day[1]), int(day[2])),
            time(int(hour or 0), int(minute or 0), int(second or 0), int(digits[:6].ljust(6, "0"))),
        )
        if hour is None and offset is None:
            counters.append("dates")
        if offset is None:
            return self._local(moment, raw, counters)
        if offset.upper() in ("Z", "UTC", "GMT"):
            return moment.replace(tzinfo=UTC)
        offset = offset[:-4] if offset.endswith(("UTC", "GMT")) else offset
        hours, minutes = int(offset[1:3]), int(offset[3:].lstrip(":") or 0)
        if hours > 23 or minutes > 59:
            raise InvalidValue(f"{quoted(raw)} is not a time: the offset is out of range")
        shift = timedelta(hours=hours, minutes=minutes) * (-1 if offset[0] == "-" else 1)
        return moment.replace(tzinfo=UTC) - shift

    def _local(self, moment: datetime, raw: object, counters: list[str]) -> datetime:
        if self.timezone is None:
            raise InvalidValue(
                f"{quoted(raw)} has no offset; name its zone with --timezone, such as --timezone UTC or --timezone"
                " Europe/Berlin"
            )
        if "dates" not in counters:
            counters.append("local_times")
        local = moment.replace(tzinfo=self.timezone)
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            counters.append("ambiguous")
        return local.astimezone(UTC)

    def shows_order(self, raw: object) -> bool | None:
        """Whether a time such as 13/02/2026 has the day first (True) or the month (False); None where it is open."""
        match = _NUMERIC.fullmatch(raw.strip()) if type(raw) is str else None
        if match is None or match[2] == "." or self._format:
            return None
        if int(match[1]) > 12:
            return True
        return False if int(match[3]) > 12 else None

    def is_open(self, raw: object) -> bool:
        """Whether a time's order of day and month has to be known."""
        match = _NUMERIC.fullmatch(raw.strip()) if type(raw) is str else None
        return match is not None and match[2] != "." and not self._format


def _exact(raw: str) -> str:
    """The instant of a time in the form `_EXACT_ISO`. Raises `InvalidValue`."""
    try:
        instant = datetime.fromisoformat(raw)
    except ValueError as error:
        raise InvalidValue(f"{quoted(raw)} is not a time: {error}") from None
    if raw[-1] == "Z" and "1970" <= raw[:4] < "2200":
        end = 26 if instant.microsecond else 19
        return f"{raw[:10]}T{raw[11:-1][: end - 11]:0<{8 if end == 19 else 15}}+00:00"
    return _in_range(instant, raw)


def _hour(hour: str | None, half: str | None) -> str | None:
    if hour is None or half is None:
        return hour
    if not 1 <= int(hour) <= 12:
        raise ValueError("the hour must be 1 to 12 before AM or PM")
    return str(int(hour) % 12 + (12 if half in "pP" else 0))


def _epoch(number: Decimal, raw: object, counters: list[str]) -> datetime:
    text = str(raw).strip()
    if form := _compact_form(text):
        raise InvalidValue(f"{quoted(raw)} looks like a date and a time; give its form: --time-format {form}")
    if not _FIRST_EPOCH <= number < _EPOCH_UNITS[-1][0]:
        raise InvalidValue(f"{quoted(raw)} is not a time; an epoch time has the seconds or milliseconds since 1970")
    units = next(units for above, units in _EPOCH_UNITS if number < above)
    with decimal_context():
        microseconds = number * 10**6 / units
    last = datetime.now(UTC) + timedelta(days=_MAX_EPOCH_DAYS_AHEAD)
    if not _FIRST_EPOCH_DAY <= (instant := EARLIEST + timedelta(microseconds=int(microseconds))) <= last:
        raise InvalidValue(
            f"{quoted(raw)} is not an epoch time between 2000 and {last.year}; give its form with --time-format, such"
            " as --time-format %Y%m%d%H%M, or write it like 2026-01-31T08:00:00Z"
        )
    if microseconds != int(microseconds):
        counters.append("truncated")
    return instant


def _compact_form(text: str) -> str | None:
    """The form of a time from 1990 to 2099 without separators, such as 202604031011; None where it is none."""
    for form in _COMPACT_FORMS.get(len(text), ()):
        with suppress(ValueError):
            if 1990 <= datetime.strptime(text[:14], form).year < 2100:  # noqa: DTZ007 - only its year counts
                return form if len(text) <= 14 else f"{form}%f"
    return None


def _in_range(instant: datetime, raw: object) -> str:
    if not EARLIEST <= instant < LATEST:
        raise InvalidValue(f"{quoted(raw)} is outside 1970-01-01 to 2200-01-01")
    return instant.astimezone(UTC).isoformat()


def reads(read: Callable[[object], str], raw: object) -> bool:
    """Whether the function reads the value."""
    try:
        read(raw)
    except InvalidValue:
        return False
    return True
