"""Colours: the same key has the same colour in all charts, and hues differ for people with colour blindness, too.

Eight hues, each in two shades, for a light and for a dark background. Grey is Other, slate is (missing), which also has
another outline or fill than the other series.
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


def axis_config(look: Palette) -> dict[str, Any]:
    """The arguments of Altair's `configure_axis` for all charts."""
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
    """The colour of every series of the aggregate, `#rrggbb` by the series' index.

    The hash of a key selects its hue; if a larger series has that, it gets the next free one. `own` are given colours
    of some series, by index, which no other key gets.
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
    """An index in hues and shades for each key, other than `taken`: the first free one from the hash of the key on."""
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
