"""Numbers, shares, durations, dates, ids and values from the data as text to read.

One rule for each, in the app, the command line, the report and the charts. The text is never parsed and never part of
a copy or a download. The minus is the ASCII one, which every terminal has; `typographic` turns it into U+2212.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, ROUND_HALF_UP, Context, Decimal
from os.path import commonprefix
from pathlib import Path, PurePath
from zoneinfo import ZoneInfo

from usage_explore.decimals import Number, decimal_context, plain

NO_VALUE = "–"
"""Text in the place of a number that does not exist, such as a share of nothing."""

MAX_VALUE_CHARACTERS = 60
"""Characters of a value from the data that a sentence shows."""

MAX_PATH_CHARACTERS = 200
"""Characters of a path that a sentence shows."""

_FIRST_DIGITS = 12
"""Digits of a longer number that a sentence shows."""

_SHORT_DIGITS = 4
"""Digits that `short` shows of a number beyond its named units."""

MAX_NUMBER_CHARACTERS = 40
"""Characters of an exact number that a sentence shows."""

MAX_LISTED = 3
"""Values that a sentence names before it counts the others."""

_MIN_POWER, _MAX_POWER = -12, 18
"""Powers of ten between which `short` writes a number with a unit or all its decimals."""

_UNITS = ((12, "T"), (9, "B"), (6, "M"), (3, "k"))
_SIZES = ((9, "GB"), (6, "MB"), (3, "kB"))
_FOUR_DIGITS = Context(prec=4, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX)
_MIN_PERCENT, _MIN_CHANGE_PERCENT, _MAX_PERCENT = Decimal("0.000001"), Decimal("0.01"), Decimal(999_999)
_THOUSAND = Decimal("999.95")  # 1,000 with one decimal
_FRACTION = re.compile(r"(?<=:\d\d:\d\d)\.\d+")
_WORD_END = re.compile(r"[,;:]?\s")
_MINUTE = timedelta(minutes=1)
_MICROSECOND = timedelta(microseconds=1)
_UUID = re.compile(r"(?<!--organization-id )([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def exact(value: Number | None) -> str:
    """The number to the last digit, thousands separated by commas; NaN and infinities by their names; `–` for None.

    >>> exact(-1234567), exact(Decimal("12480000.50"))
    ('-1,234,567', '12,480,000.5')
    """
    if value is None:
        return NO_VALUE
    if isinstance(value, Decimal) and not value.is_finite():
        return str(value)
    whole, point, fraction = plain(value).partition(".")
    digits = whole.removeprefix("-")
    groups = [digits[max(0, end - 3) : end] for end in range(len(digits), 0, -3)]
    return "-" * whole.startswith("-") + ",".join(reversed(groups)) + point + fraction


def in_sentence(value: Number) -> str:
    """`exact`, or the first digits and the number of digits, if it has more than `MAX_NUMBER_CHARACTERS`.

    >>> in_sentence(Decimal("1234567.891")), in_sentence(Decimal("1.5E400")), in_sentence(Decimal("-1.25E-400"))
    ('1,234,567.891', '150000000000… (401 digits)', '-0.0…0125 (402 decimals)')
    """
    text = plain(value)
    if len(text) <= MAX_NUMBER_CHARACTERS or not Decimal(value).is_finite():
        return exact(value)
    return _first_digits(text, _FIRST_DIGITS)


def cents(amount: Decimal, places: int = 2) -> str:
    """An amount of money to the cent, half up: `1,234.50`; `< 0.01` for less, and NaN and infinities by their names.

    `places` are the decimals of a currency that has other than two.

    >>> cents(Decimal("20.2340944392")), cents(Decimal("-0.001")), cents(Decimal(0)), cents(Decimal("17.6"), 0)
    ('20.23', '> -0.01', '0.00', '18')
    """
    if not amount.is_finite():
        return str(amount)
    unit = Decimal(1).scaleb(-places)
    digits = max(amount.adjusted(), 0) + places + 2
    precise = Context(prec=digits, rounding=ROUND_HALF_UP, Emin=MIN_EMIN, Emax=MAX_EMAX)
    rounded = amount.quantize(unit, context=precise)
    if amount and not rounded:
        return f"< {unit:f}" if amount > 0 else f"> -{unit:f}"
    whole, point, fraction = format(rounded.copy_abs(), "f").partition(".")
    return f"{'-' if rounded < 0 else ''}{exact(int(whole))}{point}{fraction}"


def cents_in_sentence(amount: Decimal) -> str:
    """`cents` with words for less than a cent: `less than 0.01`, `more than -0.01`."""
    return cents(amount).replace("< ", "less than ").replace("> ", "more than ")


def money(amount: Decimal) -> str:
    """An amount with all its decimals, thousands separated by commas: `1,200.50`, `-3`, `0.125`."""
    whole, point, fraction = format(amount.copy_abs(), "f").partition(".")
    return f"{'-' if amount < 0 else ''}{exact(Decimal(whole))}{point}{fraction}"


def signed(value: Number) -> str:
    """`exact` with its sign: `+1,200`; `0` without."""
    return f"+{exact(value)}" if value > 0 else exact(value)


def signed_events(number: int) -> str:
    """A number of events more, or with a minus fewer: `-1 event`, `+1,200 events`."""
    return f"{signed(number)} {'event' if abs(number) == 1 else 'events'}"


def signed_short(value: Number | None) -> str:
    """`short` with its sign: `+84.2 k`; `0` without."""
    return f"+{short(value)}" if value is not None and value > 0 else short(value)


def short(value: Number | None) -> str:
    """About four digits: `12.48 M`, `84.2 k`, `9,871`, `0.0312`; `1234… (22 digits)` beyond the units; `–` for None."""
    if value is None:
        return NO_VALUE
    number = Decimal(value)
    size = _FOUR_DIGITS.plus(number).adjusted() if number else 0  # 999,960 is 1 M: rounding decides the unit
    if not _MIN_POWER < size < _MAX_POWER:
        return _first_digits(plain(number), _SHORT_DIGITS)
    for power, unit in _UNITS:
        if size >= max(power, 4):
            return f"{_four_digits(number.scaleb(-power), size - power)} {unit}"
    return _four_digits(number, size)


@decimal_context()
def percent(part: Number, whole: Number = 1) -> str:
    """A part of a whole in per cent; `–` where the whole is not positive.

    One decimal from 1 % on, two significant digits below; only nothing is `0 %`, only the whole `100 %`. Beyond
    999,999 % only that it is.

    >>> percent(Decimal("0.4")), percent(Decimal("0.000042")), percent(9999, 10000), percent(1, 0), percent(10**22)
    ('40.0 %', '0.0042 %', '> 99.9 %', '–', '> 999,999 %')
    """
    if whole <= 0:
        return NO_VALUE
    ratio = Decimal(part) / Decimal(whole)
    if ratio == 1:
        return "100 %"
    if ratio < 1 and f"{ratio:.3f}" == "1.000":
        return "> 99.9 %"
    return _percent(ratio * 100)


@decimal_context()
def change(ratio: Decimal | None) -> str:
    """A relative change in per cent with its sign: `+3.2 %`, `-0.042 %`, `0 %`; `new` for a change from nothing.

    Below 0.01 %, and beyond 999,999 %, only that it is, and its direction.

    >>> change(Decimal("-0.00042")), change(Decimal("-0.00000000042")), change(Decimal("0.000099"))
    ('-0.042 %', '-<0.01 %', '+<0.01 %')
    >>> change(Decimal("2.9E+20")), change(Decimal("-2.9E+20"))
    ('> +999,999 %', '< -999,999 %')
    """
    if ratio is None:
        return "new"
    if ratio and ratio.copy_abs() * 100 < _MIN_CHANGE_PERCENT:
        return f"{'+' if ratio > 0 else '-'}<{_MIN_CHANGE_PERCENT} %"
    text = _percent(ratio * 100)
    if ratio <= 0:
        return text
    return f"+{text}" if text[0].isdigit() else text.replace("> ", "> +")


_MINUS = re.compile(r"(?<![\w-])-(?=<?[\d.])")


def typographic(text: str) -> str:
    """The text with U+2212 for the minus of numbers, for large figures on a page; `us-east` stays as it is."""
    return _MINUS.sub("−", text)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A count with its noun: `1 event`, `1,234 events`; `plural` for nouns that take no "s"."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def values_and_missing(number: int, missing: bool, noun: str = "", plural: str | None = None) -> str:
    """Values folded into Other, and the events without one if they are, too.

    >>> values_and_missing(2, True, "other"), values_and_missing(2, False), values_and_missing(0, True)
    ('2 others and (missing)', '2', '(missing)')
    """
    values = counted(number, noun, plural) if noun else f"{number:,}"
    return " and ".join([values] * bool(number or not missing) + ["(missing)"] * missing)


def size(octets: float) -> str:
    """A size in decimal units: `1.2 MB`, `640 bytes`."""
    for power, unit in _SIZES:
        if octets >= 999.95 * 10 ** (power - 3):
            return f"{octets / 10**power:.1f} {unit}"
    return f"{octets:.0f} bytes"


def duration(length: timedelta) -> str:
    """The two largest units: `3 days 4 hours`, `12 minutes`, `1.5 seconds`."""
    if abs(length) < _MINUTE:
        seconds = plain(Decimal(format(length.total_seconds(), ".3f")))
        return f"{seconds} second{'' if seconds == '1' else 's'}"
    minutes = round(abs(length) / _MINUTE)
    parts = [(minutes // 1440, "day"), (minutes // 60 % 24, "hour"), (minutes % 60, "minute")]
    words = [counted(number, unit) for number, unit in parts if number]
    return ("-" if length < timedelta(0) else "") + " ".join(words[:2])


def elapsed(length: timedelta) -> str:
    """A measured time: `3 ms`, `1.24 s`, `2 min 5 s`."""
    seconds = length.total_seconds()
    if seconds < 0.9995:  # the unit is chosen after rounding
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 59.995 else f"{round(seconds) // 60} min {round(seconds) % 60} s"


def date(moment: datetime) -> str:
    """A day: `5 Nov 2026`."""
    return f"{moment.day} {moment:%b %Y}"


def date_and_time(moment: datetime) -> str:
    """A wall-clock time: `5 Nov 2026 14:30`; seconds if any, the offset where the zone's clock shows it twice."""
    clock = f"{moment:%H:%M:%S}" if moment.second or moment.microsecond else f"{moment:%H:%M}"
    return f"{date(moment)} {clock}{_fraction(moment)}{_offset_if_ambiguous(moment)}"


def minute(moment: datetime, beside: datetime | None = None) -> str:
    """A wall-clock time cut to the minute: `5 Nov 2026 14:30`; `14:30` if the time `beside` it is of the same day."""
    cut_off = moment.replace(second=0, microsecond=0)
    day_is_known = beside is not None and beside.date() == cut_off.date()
    return date_and_time(cut_off).removeprefix(f"{date(cut_off)} ") if day_is_known else date_and_time(cut_off)


def without_fractions(text: str) -> str:
    """A text of `date_and_time` without the fractions of its seconds."""
    return _FRACTION.sub("", text)


def timestamp(moment: datetime, zone: ZoneInfo) -> str:
    """ISO date and time on the zone's clock: `2026-11-05 14:30:00`; the offset where that clock shows it twice."""
    local = moment.astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M:%S}{_fraction(local)}{_offset_if_ambiguous(local)}"


def zoned(moment: datetime, zone: ZoneInfo) -> str:
    """ISO date and time on the zone's clock, always with the offset: `2026-10-01 00:05:00 +02:00`."""
    local = moment.astimezone(zone)
    offset = f"{local:%z}"
    return f"{local.replace(tzinfo=None).isoformat(sep=' ')} {offset[:3]}:{offset[3:5]}"


def span(since: datetime, until: datetime) -> str:
    """A half-open span of wall-clock times; whole days by their first and last date: `1–30 Sep 2026`."""
    if any((end.hour, end.minute, end.second, end.microsecond) != (0, 0, 0, 0) for end in (since, until)):
        return f"{date_and_time(since)} to {date_and_time(until)}"
    last = until - _MICROSECOND
    if since.date() == last.date():
        return date(since)
    if (since.year, since.month) == (last.year, last.month):
        return f"{since.day}–{date(last)}"
    if since.year == last.year:
        return f"{since.day} {since:%b} – {date(last)}"
    return f"{date(since)} – {date(last)}"


def span_in(since: datetime, until: datetime, zone: ZoneInfo) -> str:
    """`span` on the zone's clock, widened to whole minutes."""
    first = since.astimezone(zone).replace(second=0, microsecond=0)
    last = until.astimezone(zone)
    floor = last.replace(second=0, microsecond=0)
    ceiling = floor if floor == last else (until + _MINUTE).astimezone(zone).replace(second=0, microsecond=0)
    return span(first, ceiling)


def printable(text: str) -> str:
    """The text with control characters and changes of writing direction escaped; line breaks stay."""
    return "".join(letter if letter.isprintable() or letter == "\n" else repr(letter)[1:-1] for letter in text)


def cut(text: str, max_characters: int) -> str:
    """The text, or its first `max_characters - 1` characters and "…"."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + "…"


def cut_at_word(text: str, max_characters: int) -> str:
    """The text, or its first words and "…": `cut` without a part of a word, if it has more than one.

    >>> cut_at_word("their keys had arrived", 18), cut_at_word("their keys", 9), cut_at_word("keys", 3)
    ('their keys had…', 'their…', 'ke…')
    """
    if len(text) <= max_characters:
        return text
    ends = [end.start() for end in _WORD_END.finditer(text, 0, max_characters + 1) if end.start() < max_characters]
    return f"{text[: ends[-1]]}…" if ends else cut(text, max_characters)


def cut_apart(texts: Sequence[str], max_characters: int) -> list[str]:
    """The texts, cut in the middle where several are too long and begin alike, so that they differ in what is left.

    >>> cut_apart(["usage-of-model-07-of-40", "usage-of-model-08-of-40", "a text that is long"], 14)
    ['usag…-07-of-40', 'usag…-08-of-40', 'a text that is long']
    >>> cut_apart(["some-model-1-" + "x" * 30, "some-model-2-" + "x" * 30], 10)
    ['som…1-xxx…', 'som…2-xxx…']
    """
    alike: dict[str, list[str]] = {}
    for text in dict.fromkeys(texts):
        if len(text) > max_characters:
            alike.setdefault(text[:max_characters], []).append(text)
    shown: dict[str, str] = {}
    room = max_characters - 1
    for members in alike.values():
        if len(members) == 1:
            continue
        ends = (
            tail for tail in range(room * 3 // 4, room - 2) if len({text[-tail:] for text in members}) == len(members)
        )
        if tail := next(ends, 0):
            shown.update((text, f"{text[: room - tail]}…{text[-tail:]}") for text in members)
        else:
            differ = len(commonprefix(members))  # noqa: RUF071 - of texts
            shown.update((text, f"{text[:3]}…{cut(text[differ:], room - 3)}") for text in members)
    return [shown.get(text, text) for text in texts]


def on_one_line(text: str) -> str:
    """The text printable, with line breaks escaped."""
    return printable(text).replace("\n", "\\n")


def shortened(text: str, max_characters: int) -> str:
    """The text `cut`, on one line and printable."""
    return cut(on_one_line(text), max_characters)


def data_value(text: str | None, max_characters: int = MAX_VALUE_CHARACTERS) -> str:
    """A value from the data in a sentence: `(missing)`, `(empty)`, else `shortened`."""
    if text is None:
        return "(missing)"
    return shortened(text, max_characters) or "(empty)"


def path_text(path: PurePath | str, *, whole: bool = False) -> str:
    """A file or folder in a message, on one line, with control characters escaped.

    It is shown from the working directory, or from the home folder (`~/usage.csv`), if it lies below, else as it is; a
    long one keeps its end. `whole` neither shortens nor cuts it, for text that is copied into a command.
    """
    given = PurePath(path)
    shown = given
    if given.is_absolute() and not whole:
        with suppress(OSError, RuntimeError, ValueError):  # without a home folder, or not below it
            shown = PurePath("~", given.relative_to(Path.home()))
        with suppress(OSError, ValueError):
            shown = given.relative_to(Path.cwd())
    text = on_one_line(str(shown))
    return text if whole or len(text) <= MAX_PATH_CHARACTERS else f"…{text[1 - MAX_PATH_CHARACTERS :]}"


def listed(values: Iterable[str], most: int = MAX_LISTED) -> str:
    """Values in order: `a, b and c`; `a, b and 12 more` beyond `most`."""
    ordered = sorted(values)
    if len(ordered) > most:
        return f"{', '.join(map(data_value, ordered[: most - 1]))} and {len(ordered) - most + 1:,} more"
    return " and ".join(filter(None, (", ".join(map(data_value, ordered[:-1])), *map(data_value, ordered[-1:]))))


def short_ids(text: str) -> str:
    """The text with each UUID shortened to its first eight digits, `5f0c2a91…`, but for that in a command."""
    return _UUID.sub(r"\1…", text)


def _percent(percent: Decimal) -> str:
    size = percent.copy_abs()
    if not size:
        return "0 %"
    if size < _MIN_PERCENT:
        return f"< {plain(_MIN_PERCENT)} %" if percent > 0 else f"> -{plain(_MIN_PERCENT)} %"
    if size > _MAX_PERCENT:
        return f"> {exact(_MAX_PERCENT)} %" if percent > 0 else f"< -{exact(_MAX_PERCENT)} %"
    if size >= _THOUSAND:
        return f"{short(percent)} %"
    places = 1 if size >= Decimal("0.995") else 1 - size.adjusted()
    text = format(percent, f".{places}f")
    return f"{text if places == 1 else plain(Decimal(text))} %"


def _first_digits(text: str, most: int) -> str:
    """The first `most` significant digits of a `plain` number, and its number of digits or decimals."""
    sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
    whole, _, fraction = digits.partition(".")
    if len(whole) > most:
        return f"{sign}{whole[:most]}… ({len(whole):,} digits{' and decimals' if fraction else ''})"
    decimals = f"({len(fraction):,} decimals)"
    if whole.strip("0") or fraction[:most].strip("0"):
        return f"{sign}{whole}.{fraction[:most]}… {decimals}"
    significant = fraction.lstrip("0")
    return f"{sign}0.0…0{significant[:most]}{'…' if len(significant) > most else ''} {decimals}"


def _four_digits(number: Decimal, size: int) -> str:
    places = max(0, 3 - max(size, 0)) if size >= 0 else 3 - size
    if size >= 3 and number == number.to_integral_value():
        places = 0
    elif size < 3:
        places = min(places, 2) if size >= 0 else places
    return exact(number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN))


def _fraction(moment: datetime) -> str:
    return f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""


def _offset_if_ambiguous(moment: datetime) -> str:
    return f" {moment:%z}" if moment.utcoffset() != moment.replace(fold=1 - moment.fold).utcoffset() else ""
