"""Times as people export them: local times, dates, epoch seconds, names of months."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

from usage_explore.decimals import decimal_context
from usage_explore.files.values import EARLIEST, LATEST, InvalidValue, Unreadable, quoted

_MAX_TIME_CHARACTERS = 200  # a longer text is no time; patterns would take a minute for one of 60,000 spaces
_MAX_CACHED_TIMES = 65_536
"""Texts of times whose instant is remembered, as many rows of an export have the same."""

_EPOCH_UNITS = ((10**11, 1), (10**14, 10**3), (10**17, 10**6), (10**20, 10**9))
"""(first number that is larger, units in a second): 1.8e9 is seconds, 1.8e12 milliseconds, 1.8e15 microseconds."""

_FIRST_EPOCH = 10**8
"""Smaller numbers are no epoch time: 20261001 is a date."""

_FIRST_EPOCH_DAY = datetime(2000, 1, 1, tzinfo=UTC)
_MAX_DAYS_AHEAD = 5 * 366
"""Days from now up to which a number is read as an epoch time; others are local times, FILETIME or .NET ticks."""

_COMPACT_FORMS = {
    10: ("%Y%m%d%H",),
    12: ("%Y%m%d%H%M", "%y%m%d%H%M%S"),
    14: ("%Y%m%d%H%M%S",),
    17: ("%Y%m%d%H%M%S",),
}
"""Digits -> forms of times without separators, of which the first 14 digits are read."""
_UTC_NAMES = ("Z", "UTC", "GMT", "UT")
_CLOCK = (
    r"(?:(?:,?[Tt ]\s*|,?\s+(?:um|at)\s+|(?<=[0-9]{4}):)(?P<hour>[0-9]{1,2}):(?P<minute>[0-9]{2})"
    r"(?::(?P<second>[0-9]{2})(?:[.,](?P<fraction>[0-9]+))?)?(?:\s*(?P<half>[AaPp])\.?[Mm]\.?|\s*Uhr)?)?"
    r"(?:\s*(?P<zone>[Zz]|UTC|GMT|UT"
    r"|(?(hour)[+-][0-9]{2}(?::?[0-9]{2})?(?: UTC| GMT| \([A-Za-z ]+\))?|(?!))|(?![AP]M\b)[A-Z]{2,5}))?"
)
"""A time of day and an offset, or a name of UTC, or an abbreviation such as CET, which needs a zone that has it."""

_ISO = re.compile(r"(?P<year>[0-9]{4})(?P<separator>[-/])(?P<month>[0-9]{2})(?P=separator)(?P<day>[0-9]{2})" + _CLOCK)
_EXACT_ISO = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-](?:[01]\d|2[0-3]):?[0-5]\d)", re.ASCII
)
"""Times that `datetime.fromisoformat` reads exactly, and quickly."""

_NUMERIC = re.compile(
    r"(?P<first>[0-9]{1,2})(?P<separator>[./-])(?P<second_number>[0-9]{1,2})(?P=separator)(?P<year>[0-9]{4}|[0-9]{2})"
    + _CLOCK
)
_NAMED = re.compile(
    r"(?:(?P<weekday>[^\W\d_]{2,10})\.?,?\s+)?"
    r"(?:(?P<day>[0-9]{1,2})(?:\.\s*|(?:st|nd|rd|th)?(?P<separator>[ /-]))(?P<name>[^\W\d_]{3,9})"
    r"|(?P<name2>[^\W\d_]{3,9})\.?\s+(?P<day2>[0-9]{1,2})(?:st|nd|rd|th)?,?)"
    r"(?:\.?\s+|[./-])(?P<year>[0-9]{4}|[0-9]{2})" + _CLOCK
)

_MONTH_FORMS = (
    re.compile(r"(?P<year>[0-9]{4})[-/](?P<month>[0-9]{2})"),
    re.compile(r"(?P<month>[0-9]{2})[-/](?P<year>[0-9]{4})"),
    re.compile(r"(?P<month>[^\W\d_]{3,9})(?:\.?\s+|[-/])(?P<year>[0-9]{4})"),
)
"""Whole months: 2026-10, 10/2026, Oct 2026."""


def _numbered(*names: str) -> Mapping[str, int]:
    return {name: number for number, same in enumerate(names) for name in same.split()}


_MONTHS = _numbered(
    "",
    "jan january januar jänner jän",
    "feb february februar",
    "mar march märz maerz mär mrz",
    "apr april",
    "may mai",
    "jun june juni",
    "jul july juli",
    "aug august",
    "sep sept september",
    "oct october okt oktober",
    "nov november",
    "dec december dez dezember",
)
"""Names of months in English and German -> number."""

_WEEKDAYS = _numbered(
    "mon monday mo montag",
    "tue tues tuesday di dienstag",
    "wed wednesday mi mittwoch",
    "thu thur thurs thursday do donnerstag",
    "fri friday fr freitag",
    "sat saturday sa samstag sonnabend",
    "sun sunday so sonntag",
)
"""Names of weekdays -> `date.weekday()`."""

_EPOCH = re.compile(r"\d{9,20}(?:\.\d+)?", re.ASCII)
_COMPACT = re.compile(r"(\d{4})(\d\d)(\d\d)", re.ASCII)

_FIRST_SHORT_YEAR = 2010
"""Earlier years do not exclude that a date of three short numbers has another order: 05/10/26 is no day of 2005."""


class OpenDate(NamedTuple):
    """A date whose order of day, month and year is not certain. `month` is the name's number, else None."""

    first: int
    second: int
    year: int
    has_short_year: bool
    can_be_month_first: bool

    def orders(self) -> frozenset[str]:
        """The orders in which it is a date: "day", "month" or "year" is first; those of a short year are plausible."""
        chosen = {"day": (self.year, self.second, self.first)}
        if self.can_be_month_first:
            chosen["month"] = (self.year, self.first, self.second)
        if self.has_short_year:
            chosen["year"] = (2000 + self.first, self.second, self.year - 2000)
        return frozenset(order for order, parts in chosen.items() if self._is_date(*parts))

    def _is_date(self, year: int, month: int, day: int) -> bool:
        try:
            found = date(year, month, day)
        except ValueError:
            return False
        last = datetime.now(UTC).date() + timedelta(days=_MAX_DAYS_AHEAD)
        return not self.has_short_year or (found.year >= _FIRST_SHORT_YEAR and found <= last)


def open_date(raw: object) -> OpenDate | None:
    """The date of a time such as 03/04/2026 or 3-Oct-26; None for a time whose order is certain."""
    text = _normal(raw)
    if match := _NUMERIC.fullmatch(text):
        is_dotted, second = match["separator"] == ".", int(match["second_number"])
    elif (match := _NAMED.fullmatch(text)) and (month := _MONTHS.get((match["name"] or match["name2"]).lower())):
        is_dotted, second = True, month
    else:
        return None
    is_short = len(match["year"]) == 2
    if is_dotted and not is_short:
        return None
    groups = match.groupdict()
    first = int(groups.get("first") or groups.get("day") or groups["day2"])
    return OpenDate(first, second, int(match["year"]) + 2000 * is_short, is_short, not is_dotted)


class TimeReader:
    """Reads times; those without an offset, and dates, are in `timezone`. `str` results are UTC to the microsecond.

    `format` is that of Python's strptime. `day_first` says what 03/04/2026 is, and `has_short_years` that the year is
    last in 03/04/26, which is 2026; where they are unset, such times are errors. `decided_by` are the lines that show
    it. An abbreviation such as CET is read only if the clock of `timezone` has it at that time. `counts` has for the
    report: "dates", "months" (read as their first day), "local_times", "ambiguous" (a clock shows the time twice, or
    not at all) and "truncated" (finer than a microsecond).
    """

    def __init__(self, timezone: ZoneInfo | None, format: str | None) -> None:
        self.timezone = timezone
        self._format = format
        self.day_first: bool | None = None
        self.has_short_years = False
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
        text = _normal(raw)
        try:
            instant = self._by_format(text, raw, counters) if self._format else self._by_shape(text, raw, counters)
        except (ValueError, OverflowError) as error:
            if isinstance(error, InvalidValue):
                raise
            raise InvalidValue(f"{quoted(raw)} is not a time: {error}") from None
        return _in_range(instant, raw), counters

    def _by_format(self, text: str, raw: str, counters: list[str]) -> datetime:
        form, name = str(self._format), ""
        if form.endswith("%Z") and (match := re.fullmatch(r"(.*?)\s*([A-Za-z]+)", text)):
            form, (text, name) = form.removesuffix("%Z").rstrip(), match.groups()  # strptime would forget the zone
        try:
            moment = datetime.strptime(text, form)  # noqa: DTZ007 - the zone is set below
        except ValueError:
            raise InvalidValue(f"{quoted(raw)} does not have the form {self._format} (--time-format)") from None
        if re.search("%[yx]", form.replace("%%", "")) and moment.year < 2000:
            moment = moment.replace(year=moment.year + 100)
        if not _has_parts(text, moment, form):
            raise InvalidValue(f"{quoted(raw)} is no time of the form {self._format}: its parts contradict each other")
        if name.upper() in _UTC_NAMES:
            return moment.replace(tzinfo=UTC)
        if name:
            return self._abbreviated(moment, name, raw, counters)
        if moment.tzinfo is not None:
            return moment
        if "%H" not in form and "%I" not in form:
            counters.append("dates")
        return self._local(moment, raw, counters)

    def _by_shape(self, text: str, raw: str, counters: list[str]) -> datetime:
        if match := _ISO.fullmatch(text):
            return self._dated(match, match["day"], match["month"], raw, counters)
        if _EPOCH.fullmatch(text):
            return _epoch(Decimal(text), raw, counters)
        if match := _NUMERIC.fullmatch(text):
            day, month = match["first"], match["second_number"]
            if match["separator"] != "." and not self._is_day_first(raw):
                day, month = month, day
            return self._dated(match, day, month, raw, counters)
        if match := _NAMED.fullmatch(text):
            number = _MONTHS.get((match["name"] or match["name2"]).lower())
            weekday = _WEEKDAYS.get(match["weekday"].lower()) if match["weekday"] else None
            if number and (weekday is not None or not match["weekday"]):
                day, month = match["day"] or match["day2"], str(number)
                instant = self._dated(match, day, month, raw, counters)
                if weekday not in (None, date(self._year(match["year"], raw), number, int(day)).weekday()):
                    raise InvalidValue(f"{quoted(raw)} has a weekday that is not that of its date")
                return instant
        if first := _first_of_month(text):
            counters.append("months")
            return self._local(first, raw, counters)
        if match := _COMPACT.fullmatch(text):
            return self._at((match[1], match[2], match[3]), (None, None, None, None), None, raw, counters)
        raise InvalidValue(
            f"{quoted(raw)} is not a time; write it like 2026-01-31T08:00:00Z, or give its form with --time-format"
        )

    def _dated(self, match: re.Match[str], day: str, month: str, raw: str, counters: list[str]) -> datetime:
        clock = (_hour(match["hour"], match["half"]), match["minute"], match["second"], match["fraction"])
        return self._at((str(self._year(match["year"], raw)), month, day), clock, match["zone"], raw, counters)

    def _year(self, text: str, raw: str) -> int:
        if len(text) == 4:
            return int(text)
        if not self.has_short_years:
            raise InvalidValue(f"{quoted(raw)} has a year of two digits; {_form_hint(raw)}")
        return 2000 + int(text)

    def _is_day_first(self, raw: str) -> bool:
        if self.day_first is None:
            date_ = open_date(raw)
            orders = sorted(date_.orders() - {"year"}) if date_ else []
            says = f"has the {orders[0]}" if len(orders) == 1 else "may have the day or the month"
            raise InvalidValue(f"{quoted(raw)} {says} first; {_form_hint(raw)}")
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
        if offset.upper() in _UTC_NAMES:
            return moment.replace(tzinfo=UTC)
        if offset.isalpha():
            return self._abbreviated(moment, offset, raw, counters)
        offset = offset.partition(" ")[0]
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
        if not {"dates", "months"} & {*counters}:
            counters.append("local_times")
        local = moment.replace(tzinfo=self.timezone)
        if local.utcoffset() != local.replace(fold=1).utcoffset():
            counters.append("ambiguous")
        return local.astimezone(UTC)

    def _abbreviated(self, moment: datetime, abbreviation: str, raw: str, counters: list[str]) -> datetime:
        """The instant of a time with an abbreviation such as CET, if the zone's clock has it then."""
        if self.timezone is None:
            raise InvalidValue(
                f"{quoted(raw)} has the abbreviation {abbreviation}, which is no offset, as zones share it; name the"
                " zone of the times, such as --timezone Europe/Berlin"
            )
        both = [moment.replace(tzinfo=self.timezone, fold=fold) for fold in (0, 1)]
        for local in both:
            if local.tzname() == abbreviation:
                counters.append("local_times")
                return local.astimezone(UTC)
        raise InvalidValue(
            f"{quoted(raw)} has the abbreviation {abbreviation}, but the clock of {self.timezone} has"
            f" {both[0].tzname()} then; name the zone of the times with --timezone, or write offsets such as +02:00"
        )

    def is_open(self, raw: object) -> bool:
        """Whether the order of day, month and year of a time has to be known."""
        return not self._format and open_date(raw) is not None


def has_abbreviation(raw: object) -> bool:
    """Whether a time ends with an abbreviation of its zone, such as CET."""
    text = _normal(raw)
    match = _ISO.fullmatch(text) or _NUMERIC.fullmatch(text) or _NAMED.fullmatch(text)
    return bool(match and match["zone"] and match["zone"].isalpha() and match["zone"].upper() not in _UTC_NAMES)


def _first_of_month(text: str) -> datetime | None:
    """The first day of a whole month, without a zone; None for other text."""
    match = next((match for form in _MONTH_FORMS if (match := form.fullmatch(text))), None)
    if match is None:
        return None
    month = _MONTHS.get(match["month"].lower()) or (int(match["month"]) if match["month"].isdigit() else 0)
    return datetime(int(match["year"]), month, 1) if 1 <= month <= 12 else None  # noqa: DTZ001 - a zone is set later


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


def _has_parts(text: str, moment: datetime, form: str) -> bool:
    """Whether a text has the numbers and words of the moment in this form.

    Of "2026 366" (%Y %j) strptime makes 1 January 2027, and it leaves out of account what contradicts other parts, such
    as a weekday.
    """
    form, found = form.replace("%%", "").replace("%z", ""), _parts(text)  # offsets are written in several ways
    fractions = {f"{moment.microsecond:06}"[:digits] for digits in (range(1, 7) if "%f" in form else (6,))}
    for expected in (_parts(moment.strftime(form.replace("%f", fraction))) for fraction in fractions):
        left = iter(found)
        if all(part in left for part in expected):
            return True
    return False


def _parts(text: str) -> list[int | str]:
    return [int(part) if part.isdigit() else part.lower() for part in re.findall(r"\d+|[^\W\d_]+", text)]


def _normal(raw: object) -> str:
    text = raw.strip() if type(raw) is str and len(raw) <= _MAX_TIME_CHARACTERS else ""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


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
    if not (number.is_finite() and _FIRST_EPOCH <= number < _EPOCH_UNITS[-1][0]):
        raise InvalidValue(f"{quoted(raw)} is not a time; an epoch time has the seconds or milliseconds since 1970")
    units = next(units for above, units in _EPOCH_UNITS if number < above)
    with decimal_context():
        microseconds = number * 10**6 / units
    last = datetime.now(UTC) + timedelta(days=_MAX_DAYS_AHEAD)
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


_WITH_CLOCK = re.compile(
    r"(?P<date>[^:]+?)(?:(?P<gap>,?[Tt ] *)(?P<clock>[0-9]{1,2}:[0-9]{2})(?P<seconds>:[0-9]{2})?"
    r"(?:(?P<mark>[.,])[0-9]+)?(?P<half> *[AaPp][Mm])?)?(?P<zone> *(?:Z|[+-][0-9]{2}:?[0-9]{2}))?"
)


def time_formats(texts: Sequence[str]) -> dict[str, str]:
    """The forms of times like 03/04/26 8:00 PM by what is first: {"day": "%d/%m/%y %I:%M %p", "month": …, "year": …}.

    Only forms that read all the texts; none where the texts have no such form, or several.
    """
    text = _normal(texts[0]) if texts else ""
    found, match = open_date(text), _WITH_CLOCK.fullmatch(text)
    parts = re.fullmatch(r"([^\W_]+)([ ./-])([^\W_]+)\2[^\W_]+", match["date"]) if match else None
    if found is None or match is None or parts is None or parts[1].isalpha():
        return {}
    clock = ""
    if match["clock"]:
        clock = f"{match['gap']}{'%I' if match['half'] else '%H'}:%M{':%S' if match['seconds'] else ''}"
        clock += f"{match['mark']}%f" if match["mark"] else ""
        clock += f"{' ' * match['half'].count(' ')}%p" if match["half"] else ""
    zone = match["zone"] or ""
    zone = f"{' ' * zone.count(' ')}%z" if zone else ""
    year = "%y" if found.has_short_year else "%Y"
    month = "%m" if parts[3].isdigit() else "%b" if len(parts[3]) == 3 else "%B"
    orders = {"day": ("%d", month, year)}
    if found.can_be_month_first:
        orders["month"] = (month, "%d", year)
    if found.has_short_year:
        orders["year"] = (year, month, "%d")
    formats = {first: parts[2].join(form) + clock + zone for first, form in orders.items()}
    readers = {first: TimeReader(ZoneInfo("UTC"), form).read for first, form in formats.items()}
    return {first: form for first, form in formats.items() if all(reads(readers[first], text) for text in {*texts})}


def _form_hint(raw: str) -> str:
    forms = [f"--time-format {shlex.quote(form)}" for form in time_formats([raw]).values()]
    return f"give the form with --time-format{', such as ' if forms else ''}{' or '.join(forms)}"
