"""Colours: the same key has the same colour everywhere, told apart also by people who see few colours.

Eight hues, each in two shades, for a light and for a dark background. Grey is Other, slate is (missing); these two
are told apart by more than colour wherever they are drawn.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData


@dataclass(frozen=True, slots=True, kw_only=True)
class Palette:
    """The colours on one background: `hues` first, `shades` for series nine to sixteen, `muted` beyond."""

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
    hues=("#1489fa", "#864f17", "#0b9261", "#a21559", "#4b2a9e", "#116e89", "#8a7300", "#e94c5c"),
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
    hues=("#4f8df6", "#f2994a", "#4cc38a", "#d699d3", "#7f5adc", "#6fe0ee", "#ecd06a", "#e0544a"),
    shades=("#a7c6fa", "#926035", "#32785a", "#826084", "#bfacee", "#468994", "#8f8047", "#f0aaa4"),
    muted="#8b95a7",
    other="#8a8f98",
    missing="#c3cad6",
)


FONT = "sans-serif"


def axes(look: Palette) -> dict[str, Any]:
    """How the axes of every chart look, for Altair's `configure_axis`."""
    return {
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
    }


def theme(dark: bool) -> Palette:
    """The palette for a dark or a light background."""
    return DARK if dark else LIGHT


def colors(answer: AggregateData, dark: bool = False, own: Mapping[int, str] | None = None) -> dict[int, str]:
    """The colour of every series of the answer, `#rrggbb` by the series' index.

    A key asks for the hue its hash names; where a larger series took it, it gets the next free one. `own` are colours
    that are given for some series: no other key gets these.
    """
    own = own or {}
    chosen = theme(dark)
    fixed = {"other": chosen.other, "missing": chosen.missing, "all": chosen.hues[0]}
    wheel = chosen.hues + chosen.shades
    taken = {wheel.index(color.lower()) for color in own.values() if color.lower() in wheel}
    keys = [
        series.key or "" for index, series in enumerate(answer.series) if series.kind == "value" and index not in own
    ]
    slots = iter(_slots(keys, taken))
    found = {}
    for index, series in enumerate(answer.series):
        if index in own:
            found[index] = own[index]
        elif series.kind == "value":
            slot = next(slots)
            found[index] = wheel[slot] if slot < len(wheel) else chosen.muted
        else:
            found[index] = fixed[series.kind]
    return found


def _slots(keys: Iterable[str], taken: Set[int]) -> list[int]:
    """A place for each key, beside those taken: in the first turn round the hues with a free one."""
    size = len(LIGHT.hues)
    used = {*taken}
    found = []
    turn = 0
    for key in keys:
        preferred = hashlib.blake2b(key.encode(), digest_size=2).digest()[0] % size
        while all(turn + step in used for step in range(size)):
            turn += size
        slot = next(place for step in range(size) if (place := turn + (preferred + step) % size) not in used)
        used.add(slot)
        found.append(slot)
    return found
