"""The chart of an explanation: one horizontal bar per part of the change, the largest first, everything else last."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Literal

import altair as alt

from usage_explore.charts.labels import DRAWABLE, wrapped
from usage_explore.charts.layers import inline
from usage_explore.charts.picture import Drawn
from usage_explore.charts.style import SHORT_NUMBER, Palette, appearance, theme
from usage_explore.errors import Fault, QueryError
from usage_explore.explain.result import EVERYTHING_ELSE, Cell, Part
from usage_explore.formatting import exact, percent, short_ids, signed, typographic
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.queries import METRICS

_BAR_HEIGHT, _BAR_GAP = 16, 14
"""Pixels of a bar, and between it and the label of the next one."""

_LABEL_LINE_HEIGHT, _TITLE_LINE_HEIGHT, _AXIS_HEIGHT = 16, 17, 70
"""Pixels."""

_LABEL_CHARACTERS, _MAX_LABEL_LINES = 52, 3
"""Characters that a line of a label has at least room for, on a phone of 390 pixels too, and its lines."""

_MAX_TITLE_LINES = 5

_INCREASE_HUE, _DECREASE_HUE = 0, 7
"""Indexes of the palette's hues. The side of the zero line shows the direction, too."""


def chart(
    cells: Sequence[Cell],
    rest: Part,
    metric: str,
    description: str,
    *,
    names: Names = NO_NAMES,
    dark: bool = False,
    width: int | Literal["container"] = "container",
    sentence: bool = True,
) -> alt.LayerChart:
    """One bar per cell, to the right for an increase and to the left for a decrease, then a grey one for the rest.

    The exact contribution, the share and the cell's values are written above each bar, ids by their names, else by
    their first eight digits; the tooltip has whole ids without a name, and the values before and after. `description`
    is read out by screen readers, and is the title if `sentence`.

    Raises `QueryError`, naming `metric`, for changes beyond what a chart can draw: 1E-290 to 1E+290.
    """
    look = theme(dark)
    _check_drawable([*cells, rest])
    max_characters = _LABEL_CHARACTERS if width == "container" else max(20, width // 7)
    parts: list[tuple[Part, str]] = [*((cell, names.in_text(cell.label)) for cell in cells), (rest, EVERYTHING_ELSE)]
    rows = [_row(index, part, label, look, max_characters) for index, (part, label) in enumerate(parts)]
    label_lines = max(len(row["lines"]) for row in rows)
    for row in rows:  # shorter labels end at their bars, too
        row["lines"] = [""] * (label_lines - len(row["lines"])) + row["lines"]
    label_height = _LABEL_LINE_HEIGHT * label_lines
    row_height = label_height + _BAR_HEIGHT + _BAR_GAP
    axis = alt.Axis(
        title=f"change in {METRICS[metric]}",
        labelExpr=SHORT_NUMBER,
        tickCount=5,
        labelOverlap=True,
        labelSeparation=8,
        grid=False,  # lines would cross the labels
    )
    base = alt.Chart(inline(rows, "cells")).encode(
        y=alt.Y("index:O", axis=None, scale=alt.Scale(padding=0)),
        tooltip=[
            alt.Tooltip(f"{name}:N", title="share of the change" if name == "share" else name)
            for name in ("where", "change", "share", "before", "after")
        ],
    )
    below_label = (label_height - _BAR_GAP) / 2 + 2
    bars = base.mark_bar(height=_BAR_HEIGHT, cornerRadius=2, yOffset=below_label)
    # with data of its own, because Altair would move shared data to the top, where Streamlit reads no JSON text
    zeros = base.properties(data=inline(rows, "zeros")).mark_tick(
        color=look.soft, size=_BAR_HEIGHT + 8, thickness=1, yOffset=below_label
    )
    labels = base.mark_text(
        align="left", baseline="top", dy=-row_height / 2, lineHeight=_LABEL_LINE_HEIGHT, color=look.text, fontSize=12
    )
    characters = 120 if width == "container" else max(20, width // 8)
    title_lines = wrapped(description, characters, _MAX_TITLE_LINES) if sentence else []
    properties = appearance(look)
    properties["config"]["title"] |= {"frame": "bounds", "fontSize": 13}
    return Drawn(
        layer=[
            bars.encode(x=alt.X("value:Q", axis=axis), color=alt.Color("color:N", scale=None)),
            labels.encode(x=alt.value(0), text="lines:N"),
            zeros.encode(x=alt.XDatum(0)),
        ],
        width=width,
        height=row_height * len(rows) + _TITLE_LINE_HEIGHT * len(title_lines) + _AXIS_HEIGHT,
        title=alt.TitleParams(text=title_lines) if title_lines else alt.Undefined,
        description=description,
        **properties,
    )


def _row(index: int, part: Part, label: str, look: Palette, max_characters: int) -> dict[str, Any]:
    change = part.contribution
    color, presence = look.other, ""
    if isinstance(part, Cell):
        color = look.hues[_INCREASE_HUE if change > 0 else _DECREASE_HUE]
        presence = "new" if part.is_new else "gone" if part.is_gone else ""
    share = "" if part.share is None else percent(part.share)
    details = ", ".join(filter(None, (part.share_words, presence)))
    text = f"{signed(change)}{f' ({details})' if details else ''}: {short_ids(label)}"
    return {
        "index": index,
        "value": float(change),
        "lines": wrapped(typographic(text), max_characters, _MAX_LABEL_LINES),
        "where": label,
        "change": signed(change),
        "share": share,
        "before": exact(part.before),
        "after": exact(part.after),
        "color": color,
    }


def _check_drawable(parts: list[Part]) -> None:
    least, most = DRAWABLE
    largest = max(Decimal(part.contribution).copy_abs() for part in parts)
    if largest and not least <= largest <= most:
        reason = "the changes are too large or small for a chart, which ends at 1E±290; the frame has them exactly"
        raise QueryError([Fault("metric", reason)])
