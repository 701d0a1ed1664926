"""What the first values of a file's columns are: times, numbers, or texts that repeat."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from usage_explore.load.column_names import LATER_TIME_WORDS, TIME_WORDS, words
from usage_explore.load.numbers import SIGNS, number_reader
from usage_explore.load.paths import member
from usage_explore.load.times import TimeReader, has_abbreviation, open_date, reads

_MAX_METRICS, _MAX_NULL_WORDS = 50, 3
"""Different texts of a column that can name the metric; words for no value in a column of numbers."""

SHARE_OF_KIND = 0.95
"""Share of a column's values that have to be times, or numbers, for the column to be one of times or numbers."""

_CLOCK = re.compile(
    r"(?:[01]?[0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]+)?)?(?:\s*[AaPp]\.?[Mm]\.?|\s*Uhr)?"
    r"(?P<zone>\s*(?:Z|[+-][0-9]{2}:?[0-9]{2}|(?![AP]M)[A-Z]{2,5}))?"
)
"""A time of day."""


@dataclass(kw_only=True)
class Profile:
    """What the first values of a column are: counts of times, numbers and words; `amounts` has an item per row.

    `dates` are times without a time of day, `clocks` times of day alone; `local_…` those without an offset.
    """

    name: str
    values: int = 0
    times: int = 0
    local_times: int = 0
    dates: int = 0
    short_years: int = 0
    clocks: int = 0
    local_clocks: int = 0
    numbers: int = 0
    commas: int = 0
    points: int = 0
    fractions: int = 0
    signs: Counter[str] = field(default_factory=Counter)
    amounts: list[Decimal | None] = field(default_factory=list)
    texts: Counter[str] = field(default_factory=Counter)
    other_words: Counter[str] = field(default_factory=Counter)

    def is_all(self, number: int) -> bool:
        """Whether `number` are nearly all of the values."""
        return self.values > 0 and number >= self.values * SHARE_OF_KIND

    @property
    def is_number(self) -> bool:
        """Whether the values are numbers, but for a few words for no value."""
        if not self.numbers or self.is_time:
            return False
        return self.is_all(self.numbers) or len(self.other_words) <= _MAX_NULL_WORDS

    @property
    def is_time(self) -> bool:
        """Whether the values are times; bare numbers, and dates like 1.2.26, are so only where the name says it."""
        if not self.is_all(self.times):
            return False
        return not (self.is_all(self.numbers) or self.short_years) or bool(
            {*words(self.name)} & {*TIME_WORDS, *LATER_TIME_WORDS}
        )

    @property
    def is_unique(self) -> bool:
        """Whether several values differ, of the first ones."""
        return len(self.texts) > 1 and max(self.texts.values()) == 1

    @property
    def can_be_metric(self) -> bool:
        """Whether the values are a few texts that repeat."""
        return 0 < len(self.texts) <= _MAX_METRICS and not self.is_number and not self.is_time


def profiles(names: Iterable[str], records: Sequence[Mapping[str, Any]], null: frozenset[str]) -> dict[str, Profile]:
    """The profile of every column that has plain values; values in `null` do not count."""
    day_first, month_first, zoned = (TimeReader(zone, None) for zone in (ZoneInfo("UTC"), ZoneInfo("UTC"), None))
    for times in (day_first, month_first, zoned):
        times.day_first, times.has_short_years = times is not month_first, True
    point, comma = number_reader("."), number_reader(",")
    found = {name: Profile(name=name) for name in names}
    for record in records:
        for name, profile in found.items():
            raw = member(record, name)
            profile.amounts.append(None)
            if raw is None or raw == "" or isinstance(raw, (Mapping, list)) or (isinstance(raw, str) and raw in null):
                continue
            profile.values += 1
            dates = day_first.counts["dates"] + month_first.counts["dates"]
            if has_abbreviation(raw):
                profile.times += 1
            elif reads(day_first.read, raw) or reads(month_first.read, raw):
                profile.times += 1
                profile.local_times += raw.tzinfo is None if isinstance(raw, datetime) else not reads(zoned.read, raw)
                is_date = day_first.counts["dates"] + month_first.counts["dates"] > dates
                profile.dates += is_date or (isinstance(raw, datetime) and raw.time() == time())
                profile.short_years += (date_ := open_date(raw)) is not None and date_.has_short_year
            elif clock := _CLOCK.fullmatch(str(raw).strip()):
                profile.clocks += 1
                profile.local_clocks += clock["zone"] is None
            is_point, is_comma = reads(point, raw), reads(comma, raw)
            if is_point or is_comma:
                profile.numbers += 1
                profile.points += is_point and not is_comma and isinstance(raw, str) and "," in raw
                profile.commas += is_comma and not is_point
                amount = Decimal((point if is_point else comma)(raw))
                profile.amounts[-1] = amount
                profile.fractions += amount != amount.to_integral_value()
                if isinstance(raw, str) and (sign := re.search(f"[{SIGNS}]", raw)):
                    profile.signs[sign[0]] += 1
            elif len(profile.other_words) <= _MAX_NULL_WORDS:
                profile.other_words[str(raw)] += 1
            if len(profile.texts) <= _MAX_METRICS:
                profile.texts[str(raw)] += 1
    return {name: profile for name, profile in found.items() if profile.values}
