"""The chart of a finding: the total of each bucket, the buckets of the finding marked, and the expected values.

The bars are the exact sums over the result's series. The buckets of the finding have another colour and a band behind
them. Expected values are a dashed line inside an area from their lower to their upper bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from usage_explore.charts import labels, layers, style
from usage_explore.charts.picture import Drawn
from usage_explore.charts.style import Palette, millis, theme
from usage_explore.errors import Fault, QueryError
from usage_explore.formatting import exact, short, typographic
from usage_explore.query.describe import describe

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData


_BUCKETS = "buckets"
"""Name of the chart's data set."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The expected value of each bucket, with its lower and upper bound; None if the bucket was not examined.

    Floats, for drawing only.
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
    """The totals of the aggregate, the buckets that overlap `[since, until)` marked, `expected` behind them.

    Raises `QueryError`, naming `metric`, for values beyond what a chart can draw: 1E-290 to 1E+290.
    """
    if reason := labels.undrawable(answer):
        raise QueryError([Fault("metric", reason)])
    look = theme(dark)
    rows = _rows(answer, since, until, expected)
    channels = {"x": style.time_axis(answer), "y": style.value_axis(answer)}
    marked = [row for row in rows if row["marked"]]
    drawn = _band(look, channels) if expected else []
    drawn += [*_bars(look, channels, rows), _tooltips(channels, expected is not None)]
    # the buckets are sent once: with the first layer that names them
    drawn[0].data = layers.inline(rows, _BUCKETS)
    if marked and len(marked) < len(rows):
        drawn.insert(0, _mark(marked, look, channels))
    notes = [*labels.notes(answer)]
    if marked and len(marked) < len(rows):
        notes.append("Shaded: the finding")
    if expected:
        notes.append("Grey band: expected")
    words = answer.names.in_text(describe(answer.query.replace(as_of=None, group_by=None), whole_seconds=True))
    title = style.title(words, notes, width)
    description = labels.summary(answer)
    return Drawn(
        layer=drawn, width=width, height=height, title=title, description=description, **style.appearance(look)
    )


def _rows(answer: AggregateData, since: datetime, until: datetime, expected: Expected | None) -> list[dict[str, Any]]:
    result = []
    points = answer.series[0].points if answer.series else ()
    totals = labels.bucket_totals(answer) if answer.series else []
    for place, (point, total, (start, end)) in enumerate(zip(points, totals, pairwise(answer.edges), strict=True)):
        if total is None or labels.has_not_begun(answer, place, total):
            continue
        row: dict[str, Any] = {
            "start": millis(start),
            "middle": (millis(start) + millis(end)) // 2,
            "end": millis(end),
            "value": float(total),
            "zero": 0,
            "exact": typographic(exact(total)),
            "when": labels.bucket_label(answer, point),
            "state": labels.state(answer, point),
            "complete": point.complete,
            "marked": start < until and since < end,
        }
        if expected:
            row |= _expectation(expected, place)
        result.append(row)
    return result


def _expectation(expected: Expected, place: int) -> dict[str, Any]:
    value, low, high = expected.values[place], expected.low[place], expected.high[place]
    if value is None or low is None or high is None:
        return {"expected": None, "low": None, "high": None, "usual": "not examined"}
    return {
        "expected": value,
        "low": low,
        "high": high,
        "usual": typographic(f"{short(Decimal(value))}, {short(Decimal(low))} to {short(Decimal(high))}"),
    }


def _mark(marked: Sequence[dict[str, Any]], look: Palette, channels: dict[str, Any]) -> alt.Chart:
    row = {"start": marked[0]["start"], "end": marked[-1]["end"]}
    base = alt.Chart(layers.inline([row], "marked")).mark_rect(color=look.hues[7], opacity=0.13, aria=False)
    encoded: alt.Chart = base.encode(x=alt.X("start:Q", **channels["x"]), x2="end:Q")
    return encoded


def _band(look: Palette, channels: dict[str, Any]) -> list[alt.Chart]:
    base = alt.Chart(alt.NamedData(name=_BUCKETS)).transform_filter("isValid(datum.low)")
    x = alt.X("middle:Q", **channels["x"])
    return [
        base.mark_area(color=look.other, opacity=0.28, aria=False).encode(
            x=x, y=alt.Y("low:Q", **channels["y"]), y2="high:Q"
        ),
        base.mark_line(color=look.soft, strokeWidth=1.5, strokeDash=[4, 3], aria=False).encode(
            x=x, y=alt.Y("expected:Q", **channels["y"])
        ),
    ]


def _bars(look: Palette, channels: dict[str, Any], rows: list[dict[str, Any]]) -> list[alt.Chart]:
    gap = 1.0 if len(rows) <= layers.MAX_SPACED_BUCKETS else 0.25 if len(rows) <= 4 * layers.MAX_SPACED_BUCKETS else 0.0
    paint = alt.condition("datum.marked", alt.value(look.hues[7]), alt.value(look.hues[0]))
    base = alt.Chart(alt.NamedData(name=_BUCKETS)).encode(
        x=alt.X("start:Q", **channels["x"]), x2="end:Q", y=alt.Y("value:Q", **channels["y"]), y2="zero:Q", color=paint
    )
    return layers.by_state(
        rows,
        base.transform_filter("datum.complete").mark_bar(xOffset=gap, x2Offset=-gap, opacity=0.85, aria=False),
        base.transform_filter("!datum.complete")
        .mark_bar(xOffset=gap, x2Offset=-gap, fillOpacity=0.25, strokeWidth=1, strokeDash=[3, 2], aria=False)
        .encode(stroke=paint),
    )


def _tooltips(channels: dict[str, Any], expected: bool) -> alt.Chart:
    """A transparent band per bucket, with the exact value in its tooltip."""
    tips = [
        alt.Tooltip("when:N", title="title"),
        alt.Tooltip("state:N", title="State"),
        alt.Tooltip("exact:N", title="Value"),
    ]
    if expected:
        tips.append(alt.Tooltip("usual:N", title="Expected"))
    spoken = "'; value: ' + datum.exact" + (" + '; expected: ' + datum.usual" if expected else "")
    encoded: alt.Chart = (
        alt.Chart(alt.NamedData(name=_BUCKETS))
        .mark_rect(opacity=0)
        .encode(x=alt.X("start:Q", **channels["x"]), x2="end:Q", tooltip=tips, description=layers.spoken(spoken))
    )
    return encoded
