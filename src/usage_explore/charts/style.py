"""The colours, axes, titles and fonts that the charts of an aggregate share.

Eight hues, each in two shades, for a light and for a dark background: the same key has the same colour in all charts,
and hues differ for people with colour blindness, too. Grey is Other, slate is (missing), which also has another outline
or fill than the other series.

Marks are at their instants, in milliseconds since 1970, so no two buckets overlap, even if a wall clock shows the same
hour twice. Tick labels are text in the query's time zone, made here: the browser formats no time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import altair as alt
import pandas  # noqa: F401 - Altair takes it from the loaded modules, half of it if a thread is loading it

from usage_explore.charts.labels import unit, wrapped
from usage_explore.query.queries import COST_METRICS

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

MAX_TICKS = 9
"""Ticks of a time axis."""

_TITLE_CHARACTERS, _PIXELS_PER_CHARACTER = 80, 9
"""Characters of a line of the title if the chart fills its container, else the pixels for each."""

_DIGITS = "format(abs(datum.value), '.4~r')"

SHORT_NUMBER = (
    "abs(datum.value) >= 9.9995e17 ? (datum.value < 0 ? '−' : '') + "
    f"slice({_DIGITS}, 0, 4) + '… (' + length({_DIGITS}) + ' digits)' : "
    "datum.value && abs(datum.value) < 1e-12 ? (datum.value < 0 ? '−' : '') + "
    f"'0.0…0' + replace({_DIGITS}, regexp('^0[.]0*'), '') + ' (' + (length({_DIGITS}) - 2) + ' decimals)' : "
    "abs(datum.value) >= 9.999995e11 ? format(datum.value / 1e12, ',.6~r') + ' T' : "
    "abs(datum.value) >= 9.999995e8 ? format(datum.value / 1e9, '.6~r') + ' B' : "
    "abs(datum.value) >= 9.999995e5 ? format(datum.value / 1e6, '.6~r') + ' M' : "
    "abs(datum.value) >= 1e4 ? format(datum.value / 1e3, '.6~r') + ' k' : format(datum.value, ',.6~r')"
)
"""Vega expression for the number of a tick, as `formatting.short` writes it: `1.25 M`, `84.2 k`, `9,871`."""

_Rule = Callable[[datetime], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """Colours on one background: `hues` for eight keys, `shades` for the next eight, `muted` for all others."""

    background: str
    text: str
    soft: str
    grid: str
    hues: tuple[str, ...]
    shades: tuple[str, ...]
    muted: str
    other: str
    missing: str


LIGHT = Palette(
    background="#ffffff",
    text="#1f2430",
    soft="#5f6675",
    grid="#e7e9ee",
    hues=("#0a8aff", "#7e5525", "#1b9161", "#940249", "#4529ae", "#2d647f", "#897b00", "#ff3a64"),
    shades=("#0b4b8a", "#a8825c", "#065035", "#c7739b", "#937fc5", "#093d4b", "#4c3f00", "#802a33"),
    muted="#707a8c",
    other="#8a8f98",
    missing="#4d5666",
)


DARK = Palette(
    background="#0e1117",
    text="#eceef2",
    soft="#a3aab8",
    grid="#262b36",
    hues=("#5784ff", "#f2994a", "#5ec197", "#c396cf", "#694dc8", "#88eef8", "#ffe586", "#e0544a"),
    shades=("#a7c6fa", "#926035", "#32785a", "#826084", "#bfacee", "#468994", "#8f8047", "#f0aaa4"),
    muted="#8b95a7",
    other="#8a8f98",
    missing="#c3cad6",
)


MAX_COLORS = len(LIGHT.hues + LIGHT.shades)
"""Keys of a chart with a colour of their own."""


def theme(dark: bool) -> Palette:
    """The palette for a dark or a light background."""
    return DARK if dark else LIGHT


def colors(
    answer: AggregateData, dark: bool = False, own: Mapping[int, str] | None = None, frequent: Sequence[str] = ()
) -> dict[int, str]:
    """The colour of every series of the aggregate, `#rrggbb` by the series' index.

    `frequent` are the values that the group has in all of the organization's events, most frequent first: the first 16
    have their colours whatever the chart shows, so that a filter changes none. The hash of another key selects its
    hue; if a series of the chart has that, it gets the next free one. `own` are given colours of some series, by
    index, which no other key gets.
    """
    own = own or {}
    chosen = theme(dark)
    fixed = {"other": chosen.other, "missing": chosen.missing, "all": chosen.hues[0]}
    wheel = chosen.hues + chosen.shades
    taken = {wheel.index(color.lower()) for color in own.values() if color.lower() in wheel}
    keys = [
        series.key or "" for index, series in enumerate(answer.series) if series.kind == "value" and index not in own
    ]
    slots = _slots(keys, taken, frequent[: len(wheel)])
    result = {}
    for index, series in enumerate(answer.series):
        if index in own:
            result[index] = own[index]
        elif series.kind == "value":
            slot = slots[series.key or ""]
            result[index] = wheel[slot] if slot < len(wheel) else chosen.muted
        else:
            result[index] = fixed[series.kind]
    return result


def _slots(keys: Sequence[str], taken: Set[int], frequent: Sequence[str]) -> dict[str, int]:
    """An index in hues and shades for each key, other than `taken`."""
    reserved = _placed(frequent, set())
    fixed = {key: reserved[key] for key in keys if key in reserved and reserved[key] not in taken}
    return fixed | _placed([key for key in keys if key not in fixed], {*taken, *fixed.values()})


def _placed(keys: Sequence[str], used: Set[int]) -> dict[str, int]:
    """The first index for each key, from the hash of the key on, that is not used.

    The first eight keys share the hues and the next eight the shades, each in code-point order, so that two keys that
    change places in a ranking keep their colours.
    """
    size = len(LIGHT.hues)
    used = {*used}
    result: dict[str, int] = {}
    waiting = list(keys)
    turn = 0
    while waiting:
        free = [turn + step for step in range(size) if turn + step not in used]
        for key in sorted(waiting[: len(free)]):
            preferred = hashlib.blake2b(key.encode(), digest_size=2).digest()[0] % size
            slot = next(place for step in range(size) if (place := turn + (preferred + step) % size) not in used)
            used.add(slot)
            result[key] = slot
        waiting = waiting[len(free) :]
        turn += size
    return result


def millis(moment: datetime) -> int:
    """The instant in milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def title(text: str, notes: Sequence[str], width: int | Literal["container"], caption: str = "") -> alt.TitleParams:
    """The text as title, the caption and then the notes as subtitle, in lines that fit the width."""
    characters = _TITLE_CHARACTERS if width == "container" else max(20, width // _PIXELS_PER_CHARACTER)
    title = alt.TitleParams(text=wrapped(text, characters))
    if notes or caption:
        said = " ".join(f"{note}." for note in notes)
        title.subtitle = [line for part in (caption, said) for line in wrapped(part, characters * 5 // 4)]
    return title


def time_axis(answer: AggregateData) -> dict[str, Any]:
    """The arguments of `alt.X` for the time of the buckets, in milliseconds since 1970."""
    ticks = tick_labels(answer)
    axis = alt.Axis(
        values=list(ticks),
        labelExpr=_label_expression(ticks),
        title=f"{'week beginning' if answer.query.bucket == 'week' else answer.query.bucket} ({answer.query.timezone})",
        aria=False,  # Vega would describe it in milliseconds since 1970; the chart's description has the dates
        grid=False,
        labelOverlap=True,
        labelSeparation=8,
        labelFlush=False,
    )
    edges = [millis(answer.edges[0]), millis(answer.edges[-1])]
    return {"axis": axis, "scale": alt.Scale(domain=edges, nice=False, zero=False)}


def value_axis(answer: AggregateData) -> dict[str, Any]:
    """The arguments of `alt.Y` for the values."""
    title = unit(answer)
    if answer.query.metric in COST_METRICS:
        title = f"{title[0].upper()}{title[1:]}"
    axis = alt.Axis(title=title, labelExpr=SHORT_NUMBER, tickCount=5)
    if answer.query.metric == "count":
        axis.tickMinStep = 1
    return {"axis": axis, "scale": alt.Scale(zero=True, nice=True)}


def appearance(look: Palette) -> dict[str, Any]:
    """The properties of a chart at the top level: the fonts, colours and paddings that all charts have."""
    return {
        "background": look.background,
        "padding": {"left": 4, "right": 12, "top": 4, "bottom": 4},
        "autosize": {"type": "fit", "contains": "padding"},
        "config": {
            "font": "sans-serif",
            "view": {"stroke": None},
            "title": {
                "anchor": "start",
                "frame": "group",
                "color": look.text,
                "fontSize": 15,
                "fontWeight": 600,
                "subtitleColor": look.soft,
                "subtitleFontSize": 12,
                "offset": 14,
            },
            "axis": {
                "labelColor": look.soft,
                "titleColor": look.soft,
                "titleFontWeight": "normal",
                "titleFontSize": 12,
                "labelFontSize": 12,
                "gridColor": look.grid,
                "domainColor": look.grid,
                "tickColor": look.grid,
                "labelPadding": 6,
                "titlePadding": 10,
            },
            "axisY": {"domain": False, "ticks": False},
            "legend": {
                "labelColor": look.text,
                "labelFontSize": 12,
                "symbolType": "square",
                "symbolSize": 110,
                "rowPadding": 4,
                "offset": 16,
            },
        },
    }


def tick_labels(answer: AggregateData) -> dict[int, list[str]]:
    """At most `MAX_TICKS` ticks: the lines of text by the instant in milliseconds.

    A second line, with the day or the year, is left out if it is that of the tick before. The tick of an hour is at its
    start, that of a day, a week or a month in its middle.
    """
    starts = [edge.astimezone(answer.query.zone) for edge in answer.edges[:-1]]
    chosen = _chosen(starts, answer.query.bucket)
    by_hour = answer.query.bucket == "hour" and any(start.hour for start in chosen)
    by_month = answer.query.bucket == "month"
    ends = {millis(start): millis(end) for start, end in pairwise(answer.edges)}
    ticks: dict[int, list[str]] = {}
    above = ""
    for start in chosen:
        first = f"{start:%H:%M}" if by_hour else f"{start:%b}" if by_month else f"{start.day} {start:%b}"
        second = f"{start.day} {start:%b %Y}" if by_hour else f"{start:%Y}"
        position = millis(start)
        if answer.query.bucket != "hour":
            position = (position + ends[position]) // 2
        ticks[position] = [first] if second == above else [first, second]
        above = second
    return ticks


def _label_expression(labels: dict[int, list[str]]) -> str:
    """The Vega expression that gives a tick's lines of text."""
    return f"({json.dumps({str(position): lines for position, lines in labels.items()})})[toString(datum.value)]"


def _chosen(starts: list[datetime], bucket: str) -> list[datetime]:
    """The starts that the finest calendar rule with at most `MAX_TICKS` selects, else every n-th one."""
    if len(starts) <= MAX_TICKS:
        return starts
    for rule in _rules(bucket):
        chosen = [start for start in starts if rule(start)]
        if 2 < len(chosen) <= MAX_TICKS:
            return chosen
    return starts[:: -(-len(starts) // MAX_TICKS)]


def _rules(bucket: str) -> Iterator[_Rule]:
    if bucket == "week":
        return
    if bucket == "month":
        for months in (2, 3, 6, 12, 24, 60, 120):
            yield partial(_every_month_of_years, months)
        return
    if bucket == "hour":
        for hours in (1, 2, 3, 6, 12):
            yield partial(_every_hours, hours)
    opens: _Rule = _midnight if bucket == "hour" else _any
    for rule in (
        _any,
        partial(_every_days, 2),
        partial(_every_days, 5),
        _monday,
        partial(_every_months, 1),
        partial(_every_months, 3),
        partial(_every_months, 12),
    ):
        yield partial(_both, opens, rule)


def _both(first: _Rule, second: _Rule, start: datetime) -> bool:
    return first(start) and second(start)


def _any(start: datetime) -> bool:
    return True


def _midnight(start: datetime) -> bool:
    return not start.hour and not start.minute and not start.fold


def _every_hours(hours: int, start: datetime) -> bool:
    return start.hour % hours == 0 and not start.minute and not start.fold


def _every_days(days: int, start: datetime) -> bool:
    return (start.day - 1) % days == 0 and start.day <= 31 - days


def _monday(start: datetime) -> bool:
    return start.weekday() == 0


def _every_month_of_years(months: int, start: datetime) -> bool:
    """Whether a month is a multiple of `months` since the year 0: with 120, January of 2020, 2030 and so on."""
    return (start.year * 12 + start.month - 1) % months == 0


def _every_months(months: int, start: datetime) -> bool:
    return start.day == 1 and (start.month - 1) % months == 0
