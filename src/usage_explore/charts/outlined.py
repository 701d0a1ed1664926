"""The selected bar or span of a chart: what it is on the chart's axes, and its outline in a picture."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import altair as alt

from usage_explore.charts.chart_rows import Row
from usage_explore.charts.layers import RING_WIDTH, SELECTED_OPACITY, Canvas, inline
from usage_explore.charts.style import millis

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData


class Marked(NamedTuple):
    """The selected time within the chart, in milliseconds, and the index of the series if it is one bar."""

    start: int
    end: int
    position: int | None


def marked(
    answer: AggregateData, series: tuple[str, str | None] | None, span: tuple[datetime, datetime] | None
) -> Marked | None:
    """What a selection of a series, by kind and key, and a time is on the chart; None without a time in it."""
    if span is None or not (span[0] < answer.edges[-1] and answer.edges[0] < span[1]):
        return None
    start, end = max(span[0], answer.edges[0]), min(span[1], answer.edges[-1])
    index = next((index for index, item in enumerate(answer.series) if (item.kind, item.key) == series), None)
    return Marked(millis(start), millis(end), index if span in pairwise(answer.edges) else None)


def outlines(canvas: Canvas, chosen: Marked, rows: list[Row], kind: str) -> tuple[list[alt.Chart], list[alt.Chart]]:
    """The layers behind and before the marks: the outline of the selected bar, else of the whole time.

    They look like the selections of a chart in the browser (`layers.selections`).
    """
    ink = canvas.palette.text
    row = next((row for row in rows if (row["start"], row["position"]) == (chosen.start, chosen.position)), None)
    if row is not None and row["high"] is not None:
        one = alt.Chart(inline([row], "selected"))
        if kind == "lines":
            ring = one.mark_point(size=90, fillOpacity=0, stroke=ink, strokeWidth=RING_WIDTH, opacity=1, aria=False)
            return [], [ring.encode(x=canvas.place("middle"), y=canvas.value())]
        bar = one.mark_rect(fillOpacity=0, stroke=ink, strokeWidth=RING_WIDTH, aria=False)
        place = {"x": canvas.place(), "x2": alt.X2("end:Q"), "y": canvas.value(), "y2": alt.Y2("low:Q")}
        return [], [bar.encode(**place)]
    whole = alt.Chart(inline([{"start": chosen.start, "end": chosen.end}], "selected"))
    place = {"x": canvas.place(), "x2": alt.X2("end:Q")}
    fill = whole.mark_rect(fill=ink, fillOpacity=SELECTED_OPACITY, aria=False)
    ring = whole.mark_rect(fillOpacity=0, stroke=ink, strokeWidth=RING_WIDTH, aria=False)
    return [fill.encode(**place)], [ring.encode(**place)]
