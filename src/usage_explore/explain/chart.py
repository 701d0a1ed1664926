"""An explanation drawn: its contributions as ranked bars, everything else last. Pure, from cells to chart."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import altair as alt

from usage_explore.charts.layers import inline
from usage_explore.charts.palette import FONT, Palette, axes, theme
from usage_explore.charts.picture import Drawn
from usage_explore.charts.words import DRAWABLE
from usage_explore.errors import Fault, QueryError
from usage_explore.explain.cells import EVERYTHING_ELSE, Cell, Part
from usage_explore.formatting import exact, percent, signed
from usage_explore.query.queries import METRICS

_ROW = 52
"""Pixels for each bar."""

_LINE, _AXIS = 17, 70
"""Pixels for each line of the title, and for the axis and what is between."""

_LETTERS = 52
"""How many characters of a label fit on a line; a label has at most three."""

_ROOM = 0.3
"""How much of the bars' length is left free beside them for their texts."""

_MORE, _LESS = 0, 7
"""The hues of more and of less; the side tells it, too."""

_SHORT = (
    "abs(datum.value) >= 9.9995e11 ? format(datum.value, '.3~e') : "
    "abs(datum.value) >= 9.9995e8 ? format(datum.value / 1e9, '.4~r') + ' B' : "
    "abs(datum.value) >= 9.9995e5 ? format(datum.value / 1e6, '.4~r') + ' M' : "
    "abs(datum.value) >= 1e4 ? format(datum.value / 1e3, '.4~r') + ' k' : format(datum.value, ',.4~r')"
)


def chart(
    cells: Sequence[Cell],
    rest: Part,
    metric: str,
    said: str,
    *,
    dark: bool = False,
    width: int | Literal["container"] = "container",
    sentence: bool = True,
) -> alt.LayerChart:
    """A bar per cell, to the right for more and to the left for less, everything else last and grey.

    Each bar is labelled with its exact contribution and share; with `sentence` what is `said` is the title. The
    tooltip has what was before and after. Raises `QueryError`, naming `metric`, for values that no chart can hold.
    """
    look = theme(dark)
    _check([*cells, rest])
    rows = [_row(place, cell, cell.label, look) for place, cell in enumerate(cells)]
    rows.append(_row(len(rows), rest, EVERYTHING_ELSE, look))
    # the name of each bar comes from its place, so that no name is ever a key
    names = json.dumps([row["lines"] for row in rows])
    axis = alt.Axis(title=None, labelExpr=f"{names}[datum.value]", labelLimit=400, domain=False, ticks=False)
    x = alt.X(
        "value:Q",
        scale=alt.Scale(domain=_domain(rows), nice=False),
        axis=alt.Axis(title=f"change in {METRICS[metric]}", labelExpr=_SHORT, tickCount=5),
    )
    base = alt.Chart(inline(rows, "cells")).encode(
        y=alt.Y("place:O", axis=axis),
        tooltip=[alt.Tooltip(f"{name}:N", title=name) for name in ("where", "change", "share", "before", "after")],
    )
    layered = Drawn(
        layer=[
            base.mark_bar(height=20, cornerRadius=2).encode(x=x, color=alt.Color("color:N", scale=None)),
            _text(base, look, "datum.value >= 0", alt.X("value:Q")),
            _text(base, look, "datum.value < 0", alt.XDatum(0)),
            alt.Chart(inline([{"value": 0}], "zero")).mark_rule(color=look.soft).encode(x="value:Q"),
        ]
    )
    return _configured(layered, said, look, width, len(rows), sentence=sentence)


def _row(place: int, part: Part, label: str, look: Palette) -> dict[str, Any]:
    change = part.contribution
    color, born = look.other, ""
    if isinstance(part, Cell):
        color = look.hues[_MORE if change > 0 else _LESS]
        born = "new" if part.is_new else "gone" if part.is_gone else ""
    share = "" if part.share is None else percent(part.share)
    told = ", ".join(word for word in (share, born) if word)
    return {
        "place": place,
        "value": float(change),
        "text": f"{signed(change)}{f' ({told})' if told else ''}",
        "lines": textwrap.wrap(label, _LETTERS, max_lines=3, placeholder=" …") or [label],
        "where": label,
        "change": signed(change),
        "share": share,
        "before": exact(part.before),
        "after": exact(part.after),
        "color": color,
    }


def _check(parts: list[Part]) -> None:
    least, most = DRAWABLE
    largest = max(Decimal(part.contribution).copy_abs() for part in parts)
    if largest and not least <= largest <= most:
        said = "the changes are too large or small to draw, as no chart goes beyond 1E±290; the frame has them exactly"
        raise QueryError([Fault("metric", said)])


def _domain(rows: list[dict[str, Any]]) -> list[float]:
    """From the smallest to the largest value, with room for the texts right of the bars."""
    low, high = min(0.0, *(row["value"] for row in rows)), max(0.0, *(row["value"] for row in rows))
    length = high - low or 1.0
    return [low, high + _ROOM * length]


def _text(base: alt.Chart, look: Palette, side: str, x: alt.X | alt.XDatum) -> alt.Chart:
    """The change in words, always to the right of the bar: to the left are the labels."""
    text = base.transform_filter(side).mark_text(align="left", dx=6, color=look.text, fontSize=12)
    placed: alt.Chart = text.encode(x=x, text="text:N")
    return placed


def _configured(
    layered: alt.LayerChart,
    said: str,
    look: Palette,
    width: int | Literal["container"],
    bars: int,
    *,
    sentence: bool,
) -> alt.LayerChart:
    letters = 120 if width == "container" else max(20, width // 8)
    title = textwrap.wrap(said, letters, max_lines=5, placeholder=" …") if sentence else []
    configured: alt.LayerChart = (
        layered.properties(
            width=width,
            height=_ROW * bars + _LINE * len(title) + _AXIS,
            title=alt.TitleParams(text=title) if title else alt.Undefined,
            description=said,
            background=look.background,
            padding={"left": 4, "right": 12, "top": 4, "bottom": 4},
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        )
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_title(anchor="start", frame="bounds", color=look.text, fontSize=13, fontWeight=600, offset=14)
        .configure_axis(**axes(look))
        .configure_axisY(labelColor=look.text, grid=False)
    )
    return configured
