"""What a finding is about, drawn: how much there was in each bucket, where it lies, and what was expected.

One series: the exact sum over the answer's series. The buckets that hold the finding are marked by colour and by a band
behind them; where a band of expectation is given, it is an area with the expectation as a dashed line through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from usage_explore.charts import _configured, _time_axis, _value_axis, layers, words
from usage_explore.charts.palette import Palette, theme
from usage_explore.charts.picture import Drawn
from usage_explore.charts.ticks import millis
from usage_explore.errors import Fault, QueryError
from usage_explore.formatting import exact
from usage_explore.query.describe import describe

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData


_BUCKETS = "buckets"
"""What the chart calls its data."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What was expected of each bucket of an answer, and the band around it; None where nothing was.

    Floats, for drawing: what is billed stays decimal elsewhere.
    """

    values: tuple[float | None, ...]
    low: tuple[float | None, ...]
    high: tuple[float | None, ...]


def chart(
    answer: AggregateData,
    since: datetime,
    until: datetime,
    *,
    expected: Expected | None = None,
    dark: bool = False,
    height: int = 240,
    width: int | Literal["container"] = "container",
) -> alt.LayerChart:
    """The answer with the buckets that overlap `[since, until)` marked, `expected` behind it.

    Raises `QueryError`, naming `metric`, when the largest value lies beyond what a chart can draw.
    """
    if reason := words.undrawable(answer):
        raise QueryError([Fault("metric", reason)])
    look = theme(dark)
    rows = _rows(answer, since, until, expected)
    axes = {"x": _time_axis(answer), "y": _value_axis(answer)}
    marked = [row for row in rows if row["marked"]]
    found = _band(look, axes) if expected else []
    found += [*_bars(look, axes, rows), _told(axes, expected is not None)]
    # the buckets travel once: the first layer that names them brings them
    found[0].data = layers.inline(rows, _BUCKETS)
    if marked and len(marked) < len(rows):
        found.insert(0, _mark(marked, look, axes))
    notes = [*words.notes(answer)]
    if marked and len(marked) < len(rows):
        notes.append("Shaded: where the finding lies")
    if expected:
        notes.append("Grey band: what was to be expected")
    letters = 80 if width == "container" else max(20, width // 9)
    title = alt.TitleParams(text=words.wrapped(describe(answer.query.replace(as_of=None), whole_seconds=True), letters))
    if notes:
        title.subtitle = words.wrapped(" ".join(f"{note}." for note in notes), letters * 5 // 4)
    layered = Drawn(layer=found).properties(
        width=width,
        height=height,
        title=title,
        description=words.summary(answer),
        background=look.background,
        padding={"left": 4, "right": 12, "top": 4, "bottom": 4},
        autosize=alt.AutoSizeParams(type="fit", contains="padding"),
    )
    return _configured(layered, look)


def _rows(answer: AggregateData, since: datetime, until: datetime, expected: Expected | None) -> list[dict[str, Any]]:
    found = []
    points = answer.series[0].points if answer.series else ()
    totals = words.bucket_totals(answer) if answer.series else []
    for place, (point, total, (start, end)) in enumerate(zip(points, totals, pairwise(answer.edges), strict=True)):
        if words.unborn(answer, point, total):
            continue
        row: dict[str, Any] = {
            "start": millis(start),
            "middle": (millis(start) + millis(end)) // 2,
            "end": millis(end),
            "value": float(total),
            "zero": 0,
            "told": exact(total),
            "when": words.bucket_label(answer, point),
            "state": words.state(answer, point),
            "complete": point.complete,
            "marked": start < until and since < end,
        }
        if expected:
            row |= _expectation(expected, place)
        found.append(row)
    return found


def _expectation(expected: Expected, place: int) -> dict[str, Any]:
    value, low, high = expected.values[place], expected.low[place], expected.high[place]
    if value is None or low is None or high is None:
        return {"expected": None, "low": None, "high": None, "usual": "not judged"}
    return {"expected": value, "low": low, "high": high, "usual": f"{_about(value)}, {_about(low)} to {_about(high)}"}


def _about(value: float) -> str:
    """An estimate: three figures that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _mark(marked: Sequence[dict[str, Any]], look: Palette, axes: dict[str, Any]) -> alt.Chart:
    row = {"start": marked[0]["start"], "end": marked[-1]["end"]}
    base = alt.Chart(layers.inline([row], "marked")).mark_rect(color=look.hues[7], opacity=0.13)
    encoded: alt.Chart = base.encode(x=alt.X("start:Q", **axes["x"]), x2="end:Q")
    return encoded


def _band(look: Palette, axes: dict[str, Any]) -> list[alt.Chart]:
    base = alt.Chart(alt.NamedData(name=_BUCKETS)).transform_filter("isValid(datum.low)")
    x = alt.X("middle:Q", **axes["x"])
    return [
        base.mark_area(color=look.other, opacity=0.28).encode(x=x, y=alt.Y("low:Q", **axes["y"]), y2="high:Q"),
        base.mark_line(color=look.soft, strokeWidth=1.5, strokeDash=[4, 3]).encode(
            x=x, y=alt.Y("expected:Q", **axes["y"])
        ),
    ]


def _bars(look: Palette, axes: dict[str, Any], rows: list[dict[str, Any]]) -> list[alt.Chart]:
    gap = 1.0 if len(rows) <= layers.FEW else 0.25 if len(rows) <= 4 * layers.FEW else 0.0
    paint = alt.condition("datum.marked", alt.value(look.hues[7]), alt.value(look.hues[0]))
    base = alt.Chart(alt.NamedData(name=_BUCKETS)).encode(
        x=alt.X("start:Q", **axes["x"]), x2="end:Q", y=alt.Y("value:Q", **axes["y"]), y2="zero:Q", color=paint
    )
    return layers.by_state(
        rows,
        base.transform_filter("datum.complete").mark_bar(xOffset=gap, x2Offset=-gap, opacity=0.85),
        base.transform_filter("!datum.complete")
        .mark_bar(xOffset=gap, x2Offset=-gap, fillOpacity=0.25, strokeWidth=1, strokeDash=[3, 2])
        .encode(stroke=paint),
    )


def _told(axes: dict[str, Any], expected: bool) -> alt.Chart:
    """An unseen band per bucket that tells the exact value."""
    tips = [
        alt.Tooltip("when:N", title="title"),
        alt.Tooltip("state:N", title="State"),
        alt.Tooltip("told:N", title="Value"),
    ]
    if expected:
        tips.append(alt.Tooltip("usual:N", title="Expected"))
    encoded: alt.Chart = (
        alt.Chart(alt.NamedData(name=_BUCKETS))
        .mark_rect(opacity=0)
        .encode(x=alt.X("start:Q", **axes["x"]), x2="end:Q", tooltip=tips)
    )
    return encoded
