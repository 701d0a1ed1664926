"""Numbers and times as the app writes them: short in headlines, exact in tables, the zone always named."""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, ROUND_HALF_EVEN, Context, Decimal
from typing import Any
from zoneinfo import ZoneInfo

from usage_explore import decimals
from usage_explore.charts import words as charts
from usage_explore.decimals import Number
from usage_explore.query.base import Windowed

_MARKDOWN = frozenset("\\`*_{}[]()#+-.!|~$:<>")
_NAMED = re.compile(r"\\:(?!\d\d\\:)(?=[^\s:]+\\:)")
_UUID = re.compile(r"([0-9a-f]{8})(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CODE = re.compile(r"`([^`\n]+)`")
_LEAST, _MOST = -12, 18  # powers of ten between which a number is written without an exponent
_FOUR_DIGITS = Context(prec=4, rounding=ROUND_HALF_EVEN, Emin=MIN_EMIN, Emax=MAX_EMAX)
_THOUSAND = Decimal("999.95")  # what is 1,000 with one decimal
_STEPS = ((12, "T"), (9, "B"), (6, "M"), (3, "k"))


def short_ids(text: str) -> str:
    """The text with the first digits of each id in it, such as "5f0c2a91…"."""
    return _UUID.sub(r"\1…", text)


def exact(value: Number) -> str:
    """Every digit, thousands apart: 12,480,000.5."""
    return charts.exact(value).replace("-", "−")


def short(value: Number) -> str:
    """About four digits: 12.48 M, 84.2 k, 9,871, 0.0312; 1.234E+21 where units have no name."""
    number = Decimal(value)
    size = _FOUR_DIGITS.plus(number).adjusted() if number else 0  # 999,960 is 1 M: rounding decides the unit
    if not _LEAST < size < _MOST:
        return f"{number:.3E}".replace("-", "−")
    for power, unit in _STEPS:
        if size >= max(power, 4):
            return f"{_rounded(number.scaleb(-power), size - power)} {unit}"
    return _rounded(number, size)


def share(part: Number, whole: Number) -> str:
    """A part of a whole in per cent; nothing where there is no meaningful whole."""
    if whole <= 0:
        return "–"
    ratio = Decimal(part) / Decimal(whole) * 100
    if ratio and abs(ratio) < Decimal("0.1"):
        return "< 0.1 %" if ratio > 0 else "> −0.1 %"
    if abs(ratio) >= _THOUSAND:
        return f"{short(ratio)} %"
    return f"{ratio:.1f} %".replace("-", "−")


def change(ratio: Decimal | None) -> str:
    """A change in per cent with its sign; "new" where there was nothing before."""
    if ratio is None:
        return "new"
    percent = ratio * 100
    if abs(percent) >= _THOUSAND:
        return f"{'+' if percent > 0 else '−'}{short(abs(percent))} %"
    text = f"{percent:+.1f} %".replace("-", "−")
    return "0.0 %" if text in ("+0.0 %", "−0.0 %") else text


def local(moment: datetime, zone: ZoneInfo) -> str:
    """A time on the zone's clock, microseconds kept; with its offset where that clock shows it twice."""
    there = moment.astimezone(zone)
    text = there.strftime("%Y-%m-%d %H:%M:%S")
    if there.microsecond:
        text += f".{there.microsecond:06d}".rstrip("0")
    if there.utcoffset() != there.replace(fold=1 - there.fold).utcoffset():
        text += f" {there:%z}"
    return text


def date(moment: datetime) -> str:
    """A day: 5 Nov 2026."""
    return f"{moment.day} {moment:%b %Y}"


def file_dates(query: Windowed) -> str:
    """The first and the last day of a resolved window on the query's clock, for file names: 2026-10-01-2026-10-31."""
    since, until = query.span
    first, last = (edge.astimezone(query.zone).date() for edge in (since, until - timedelta(microseconds=1)))
    return f"{first}-{last}" if first != last else f"{first}"


def clock(moment: datetime, zone: ZoneInfo) -> str:
    """Hours and minutes on the zone's clock."""
    return f"{moment.astimezone(zone):%H:%M}"


def pretty_json(value: Any) -> str:
    """JSON to read, with every digit of its numbers."""
    return _exact_json(value, indent=2)


def compact_json(value: Any) -> str:
    """JSON on one line, with every digit of its numbers."""
    return _exact_json(value, indent=None)


def plural(number: int, noun: str) -> str:
    """A count with its noun: 1 event, 12,034 events."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(octets: int) -> str:
    """A file's size: 1.2 MB."""
    amount = float(octets)
    for unit in ("bytes", "kB", "MB"):
        if round(amount, 1) < 1000:
            return f"{amount:.0f} {unit}" if unit == "bytes" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def plain(text: str) -> str:
    """Text from data or a link as Markdown that shows it as it is."""
    escaped = "".join(f"\\{letter}" if letter in _MARKDOWN else letter for letter in text)
    # Streamlit looks for :names: of emoji and icons after Markdown is done: an invisible mark parts them
    return _NAMED.sub("\\\\:\u2060", escaped)


def prose(text: str) -> str:
    """A message as Markdown: its `commands` as code, all else as it is."""
    parts = _CODE.split(text)
    return "".join(f"`{part}`" if place % 2 else plain(part) for place, part in enumerate(parts))


def _rounded(number: Decimal, size: int) -> str:
    places = max(0, 3 - max(size, 0)) if size >= 0 else 3 - size
    if size >= 3 and number == number.to_integral_value():
        places = 0
    elif size < 3:
        places = min(places, 2) if size >= 0 else places
    rounded = number.quantize(Decimal(1).scaleb(-places), ROUND_HALF_EVEN)
    return exact(rounded)


def _exact_json(value: Any, indent: int | None) -> str:
    """json.dumps writes no Decimal: each stands in as a text that is put back as a bare number."""
    found: list[str] = []

    def stand_in(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: stand_in(each) for key, each in item.items()}
        if isinstance(item, list):
            return [stand_in(each) for each in item]
        if isinstance(item, Decimal):
            found.append(decimals.plain(item))
            return f"\0{len(found) - 1}\0"
        return item

    text = json.dumps(stand_in(value), ensure_ascii=False, indent=indent)
    for position, number in enumerate(found):
        text = text.replace(f'"\\u0000{position}\\u0000"', number)
    return text
