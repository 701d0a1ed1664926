"""How the sentences of findings write counts, values from data, shares, spans and durations."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from usage_explore.decimals import plain
from usage_explore.query.describe import span_words

_LONGEST = 60
"""How many characters of a value from the data a sentence shows."""

_MINUTE = timedelta(minutes=1)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 event`, `1,234 events`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def named(value: str) -> str:
    """A value from the data: short, and without what moves a terminal's cursor or turns the writing round."""
    if not value:
        return "(empty)"
    short = value if len(value) <= _LONGEST else value[: _LONGEST - 1] + "…"
    return short if short.isprintable() else repr(short)[1:-1]


def listed(values: Iterable[str], most: int = 3) -> str:
    """`a, b and c`; beyond `most` the others are counted."""
    given = sorted(values)
    if len(given) > most:
        return f"{', '.join(map(named, given[: most - 1]))} and {len(given) - most + 1:,} more"
    return " and ".join(filter(None, (", ".join(map(named, given[:-1])), *map(named, given[-1:]))))


def number(value: Decimal) -> str:
    """`1,234.5`: exact and plain, with the thousands apart."""
    whole, point, rest = plain(value).partition(".")
    return f"{int(whole):,}{point}{rest}" if whole not in ("-0", "") else plain(value)


def percent(part: Decimal) -> str:
    """`0.42 %` of a part of 0.0042: two digits that count, and never 0 of something."""
    hundredths = part * 100
    places = next((places for places in range(1, 9) if abs(hundredths) >= Decimal(1).scaleb(1 - places)), 9)
    return f"{plain(Decimal(format(hundredths, f'.{places}f')))} %"


def when(since: datetime, until: datetime, zone: ZoneInfo) -> str:
    """The whole minutes that hold the half-open span, on the zone's clock."""
    first = since.astimezone(zone).replace(second=0, microsecond=0)
    last = until.astimezone(zone)
    cut = last.replace(second=0, microsecond=0)
    return span_words(
        first, cut if cut == last else (until + _MINUTE).astimezone(zone).replace(second=0, microsecond=0)
    )


def duration(length: timedelta) -> str:
    """`3 days 4 hours`, `12 minutes`, `1.5 seconds`: the two largest units that count."""
    if abs(length) < _MINUTE:
        return f"{plain(Decimal(format(length.total_seconds(), '.3f')))} seconds"
    minutes = round(abs(length) / _MINUTE)
    parts = [(minutes // 1440, "day"), (minutes // 60 % 24, "hour"), (minutes % 60, "minute")]
    words = [counted(number, unit) for number, unit in parts if number]
    return ("-" if length < timedelta(0) else "") + " ".join(words[:2])
