"""The layers of an aggregate's chart: the legend, the marks, the outline of what is selected, and transparent marks for
tooltips and clicks.

`picked` and `brushed` read the buckets and series selected in it, as Streamlit and JupyterChart report them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import altair as alt

from usage_explore.charts.chart_rows import Line, Row, split_tooltip
from usage_explore.charts.style import SHORT_NUMBER, Palette, millis

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData, Series

MAX_SPACED_BUCKETS = 60
"""Buckets up to which bars have gaps and lines have dots."""

_UNFINISHED_OPACITY, _MISSING_OPACITY = 0.25, 0.3
"""Fill opacity of unfinished buckets, and of the series (missing)."""

_FRAME_SHAPE = "M-1,-1H1V1H-1ZM-0.7,-0.7V0.7H0.7V-0.7Z"
"""SVG path of the legend symbol of (missing)."""

_NOT_YET_PIXELS = 44
"""Width that the words "not yet" need; a narrower band is without."""

RING_WIDTH = 2
"""Pixels of the outline of what is selected: wider than that of (missing)."""

SELECTED_OPACITY = 0.12
"""Fill opacity of a selected time, behind the marks."""

_DASH = [3, 2]
"""Pixels of dashes and gaps."""

_ESCAPED = re.compile(r"[\\\n\r\u2028\u2029]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Canvas:
    """What all layers have in common: the palette, the colour of each series by name, the axes, the legend.

    `steps` draws lines and areas as steps, `compared` adds the other period to tooltips.
    """

    palette: Palette
    colors: dict[str, str]
    lines: tuple[Line, ...]
    buckets: int
    x: dict[str, Any]
    y: dict[str, Any]
    legend: alt.Legend | None
    interactive: bool
    steps: bool = False
    compared: bool = False

    def place(self, field: str = "start") -> alt.X:
        """The time axis on a field."""
        return alt.X(f"{field}:Q", **self.x)

    def value(self) -> alt.Y:
        """The value axis."""
        return alt.Y("high:Q", **self.y)

    def color(self) -> alt.Color:
        """The colour of a series, and the legend."""
        return alt.Color("series:N", scale=self._scale(list(self.colors.values())), sort=None, legend=self.legend)

    def stroke(self) -> alt.Stroke:
        """The same colour for outlines."""
        return alt.Stroke("series:N", scale=self._scale(list(self.colors.values())), sort=None, legend=self.legend)

    @property
    def outline_width(self) -> float:
        """Pixels of the outline of (missing): narrow marks are pale alone, as outlines would darken the chart."""
        return 1 if self.buckets <= MAX_SPACED_BUCKETS else 0.5 if self.buckets <= 2 * MAX_SPACED_BUCKETS else 0

    def fill(self) -> alt.FillOpacity:
        """Fill opacity of complete buckets: (missing) is pale, so its outline shows."""
        levels = [_MISSING_OPACITY if line.kind == "missing" else 1.0 for line in self.lines]
        return alt.FillOpacity("series:O", scale=self._scale(levels), sort=None, legend=None)

    def pale(self) -> alt.FillOpacityValue:
        """Fill opacity of unfinished buckets."""
        return alt.FillOpacityValue(
            _UNFINISHED_OPACITY,
            condition={"test": self.is_missing(), "value": _MISSING_OPACITY * _UNFINISHED_OPACITY},
        )

    def is_missing(self) -> alt.FieldOneOfPredicate:
        """The test for rows of the series (missing)."""
        return alt.FieldOneOfPredicate(
            field="series", oneOf=[line.name for line in self.lines if line.kind == "missing"]
        )

    def shape(self) -> alt.Shape:
        """The legend symbol of a series: a frame for (missing), else a square."""
        shapes = [_FRAME_SHAPE if line.kind == "missing" else "square" for line in self.lines]
        return alt.Shape("series:N", scale=self._scale(shapes), sort=None, legend=self.legend)

    def dim(self) -> dict[str, Any]:
        """The opacity channel: series that are not selected in the legend fade."""
        if not self.interactive:
            return {}
        return {"opacity": alt.OpacityValue(0.12, condition={"param": "legend", "value": 1})}

    def shape_of_line(self) -> dict[str, Any]:
        """The argument of a mark for lines and areas."""
        return {"interpolate": "step"} if self.steps else {}

    def _scale(self, values: list[Any]) -> alt.Scale:
        return alt.Scale(type="ordinal", domain=list(self.colors), range=values)


def highlight() -> alt.Parameter:
    """The selection `legend`: the series whose legend entries are clicked."""
    return alt.selection_point(name="legend", fields=["series"], bind="legend")


def selections(palette: Palette) -> tuple[alt.Parameter, ...]:
    """The selections `pick` and `brush`, for one layer of a chart.

    The fill of a brush is behind the marks, so a bar as high as the chart would look like its neighbours: its outline,
    which is before them, has the colour of the text.
    """
    return (
        alt.selection_point(name="pick", fields=["start", "position"], toggle=False),
        alt.selection_interval(
            name="brush",
            encodings=["x"],
            mark=alt.BrushConfig(
                fill=palette.text, fillOpacity=SELECTED_OPACITY, stroke=palette.text, strokeWidth=RING_WIDTH
            ),
        ),
    )


def inline(rows: list[Row], name: str) -> alt.InlineData:
    """The rows as a named data set; as JSON text, because Altair would validate and copy every row for seconds."""
    return alt.InlineData(values=json.dumps(rows), format=alt.JsonDataFormat(type="json"), name=name)


def bands(canvas: Canvas, rows: list[Row]) -> alt.Chart:
    """A transparent band per bucket, with the exact value of every series in its tooltip.

    A click on a band, beside the marks, picks its bucket, which looks like a brushed one.
    """
    picked = {"param": "pick", "empty": False}
    band = alt.Chart(inline(rows, "buckets")).mark_rect(fill=canvas.palette.text)
    encoded: alt.Chart = band.encode(
        x=canvas.place(),
        x2=alt.X2("end:Q"),
        fillOpacity=alt.FillOpacityValue(0, condition={**picked, "value": SELECTED_OPACITY}),
        stroke=alt.StrokeValue("transparent", condition={**picked, "value": canvas.palette.text}),
        strokeWidth=alt.StrokeWidthValue(RING_WIDTH),
        tooltip=tooltip(canvas.lines, canvas.compared),
        description=_SPOKEN_BUCKET,
    )
    return encoded


def key(canvas: Canvas) -> alt.Chart:
    """The legend alone, as the first layer: Vega-Lite binds a selection to the legend of that only."""
    names = [{"series": line.name} for line in canvas.lines]
    point = alt.Chart(inline(names, "key")).mark_point(filled=True, size=0, opacity=1, aria=False)
    encoded: alt.Chart = point.encode(color=canvas.color(), shape=canvas.shape())
    return encoded.add_params(highlight()) if canvas.interactive else encoded


def not_yet(canvas: Canvas, start: int, end: int) -> list[alt.Chart]:
    """The part of the window that has not begun: shaded, so that it is not taken for zero."""
    base = alt.Chart(inline([{"start": start, "end": end, "middle": (start + end) // 2}], "not_yet"))
    return [
        base.mark_rect(color=canvas.palette.grid, opacity=0.55, aria=False).encode(
            x=canvas.place(), x2=alt.X2("end:Q")
        ),
        base.mark_text(
            text=alt.ExprRef(f"scale('x', {end}) - scale('x', {start}) < {_NOT_YET_PIXELS} ? '' : 'not yet'"),
            color=canvas.palette.soft,
            fontSize=12,
            baseline="top",
            y=8,
            aria=False,
        ).encode(x=canvas.place("middle")),
    ]


def by_state(rows: Iterable[Row], complete: alt.Chart, unfinished: alt.Chart) -> list[alt.Chart]:
    """The layers that have rows: an empty layer is a group without a name to screen readers."""
    states = {row["complete"] for row in rows}
    return [layer for state, layer in ((True, complete), (False, unfinished)) if state in states] or [complete]


def bars(canvas: Canvas, rows: list[Row]) -> list[alt.Chart]:
    """Stacked bars as wide as their buckets; unfinished ones pale with a dashed outline.

    As `steps` they have no gaps.
    """
    gap = (
        0.0
        if canvas.steps
        else 1.0
        if canvas.buckets <= MAX_SPACED_BUCKETS
        else 0.25
        if canvas.buckets <= 4 * MAX_SPACED_BUCKETS
        else 0.0
    )
    base = alt.Chart(alt.NamedData(name="points")).encode(
        x=canvas.place(),
        x2=alt.X2("end:Q"),
        y=canvas.value(),
        y2=alt.Y2("low:Q"),
        color=canvas.color(),
        stroke=canvas.stroke(),
        **canvas.dim(),
    )
    return by_state(
        rows,
        base.transform_filter("datum.complete")
        .mark_bar(strokeWidth=canvas.outline_width, xOffset=gap, x2Offset=-gap, aria=False)
        .encode(
            fillOpacity=canvas.fill(),
            strokeOpacity=alt.StrokeOpacityValue(0, condition={"test": canvas.is_missing(), "value": 1}),
        ),
        base.transform_filter("!datum.complete")
        .mark_bar(strokeWidth=1, strokeDash=_DASH, xOffset=gap, x2Offset=-gap, aria=False)
        .encode(fillOpacity=canvas.pale()),
    )


def areas(canvas: Canvas, unfinished: list[Row]) -> list[alt.Chart]:
    """Stacked areas through the middles of the buckets; unfinished ends pale with a dashed edge."""
    shared: dict[str, Any] = {
        "x": canvas.place("middle"),
        "y": canvas.value(),
        "color": canvas.color(),
        **canvas.dim(),
    }
    whole = alt.Chart(alt.NamedData(name="points")).transform_filter("datum.complete")
    end = alt.Chart(inline(unfinished, "ends"))
    edge = whole.transform_filter(canvas.is_missing()).mark_line(
        strokeWidth=canvas.outline_width, aria=False, **canvas.shape_of_line()
    )
    return [
        whole.mark_area(aria=False, **canvas.shape_of_line()).encode(
            **shared, y2=alt.Y2("low:Q"), fillOpacity=canvas.fill()
        ),
        *([edge.encode(**shared)] if canvas.outline_width else []),
        end.mark_area(aria=False, **canvas.shape_of_line()).encode(
            **shared, y2=alt.Y2("low:Q"), detail=alt.Detail("run:N"), fillOpacity=canvas.pale()
        ),
        end.mark_line(strokeWidth=1.5, strokeDash=_DASH, aria=False, **canvas.shape_of_line()).encode(
            **shared, detail=alt.Detail("run:N")
        ),
    ]


def curves(canvas: Canvas, unfinished: list[Row]) -> list[alt.Chart]:
    """Lines through the middles of the buckets; unfinished ends dashed, their dots hollow, (missing) dotted."""
    shared: dict[str, Any] = {
        "x": canvas.place("middle"),
        "y": canvas.value(),
        "color": canvas.color(),
        **canvas.dim(),
    }
    width = 2 if canvas.buckets <= 4 * MAX_SPACED_BUCKETS else 1
    dashes = alt.StrokeDash(
        "series:N",
        scale=alt.Scale(
            domain=list(canvas.colors), range=[[1, 3] if line.kind == "missing" else [1, 0] for line in canvas.lines]
        ),
        sort=None,
        legend=canvas.legend,
    )
    whole = alt.Chart(alt.NamedData(name="points")).transform_filter("datum.complete")
    end = alt.Chart(inline(unfinished, "ends"))
    return [
        whole.mark_line(strokeWidth=width, strokeJoin="round", aria=False, **canvas.shape_of_line()).encode(
            **shared, strokeDash=dashes
        ),
        end.mark_line(strokeWidth=width, strokeDash=[4, 4], aria=False, **canvas.shape_of_line()).encode(
            **shared, detail=alt.Detail("run:N")
        ),
    ]


def dots(canvas: Canvas, rows: list[Row]) -> list[alt.Chart]:
    """Dots on points; hollow if the bucket is unfinished."""
    base = alt.Chart(inline(rows, "dots")).encode(x=canvas.place("middle"), y=canvas.value(), **canvas.dim())
    hollow: dict[str, Any] = {"filled": True, "fill": canvas.palette.background, "strokeWidth": 1.5, "opacity": 1}
    return by_state(
        rows,
        base.transform_filter("datum.complete")
        .mark_point(filled=True, size=22, opacity=1, aria=False)
        .encode(color=canvas.color()),
        base.transform_filter("!datum.complete")
        .mark_point(size=26, aria=False, **hollow)
        .encode(stroke=canvas.stroke()),
    )


def targets(canvas: Canvas, kind: str) -> alt.Chart:
    """Transparent marks above the visible ones, with the selections and the tooltip."""
    base = (
        alt.Chart(alt.NamedData(name="points"))
        .transform_lookup(
            lookup="start",
            from_=alt.LookupData(data=alt.NamedData(name="buckets"), key="start", fields=_fields(canvas)),
        )
        .encode(
            color=canvas.color(),
            y=canvas.value(),
            tooltip=tooltip(canvas.lines, canvas.compared),
            description=_spoken_point(canvas.lines),
        )
    )
    if kind == "lines":
        marked = base.mark_point(filled=True, size=90, fillOpacity=0).encode(x=canvas.place("middle"))
    else:
        marked = base.mark_bar(fillOpacity=0).encode(x=canvas.place(), x2=alt.X2("end:Q"), y2=alt.Y2("low:Q"))
    return _selectable(marked, canvas)


def bucket_targets(canvas: Canvas, rows: list[Row]) -> alt.Chart:
    """Transparent marks for a chart with very many points: one per bucket, where a click selects the bucket."""
    base = alt.Chart(inline(rows, "buckets")).mark_rect(fillOpacity=0)
    return _selectable(
        base.encode(
            x=canvas.place(),
            x2=alt.X2("end:Q"),
            color=canvas.color(),
            tooltip=tooltip(canvas.lines, canvas.compared),
            description=_SPOKEN_BUCKET,
        ),
        canvas,
    )


def _selectable(marked: alt.Chart, canvas: Canvas) -> alt.Chart:
    picked = {"param": "pick", "empty": False, "value": canvas.palette.text}
    ring = alt.StrokeValue("transparent", condition=picked)
    encoded: alt.Chart = marked.encode(stroke=ring, strokeWidth=alt.StrokeWidthValue(RING_WIDTH)).add_params(
        *selections(canvas.palette)
    )
    return encoded


def tooltip(drawn: tuple[Line, ...], compared: bool) -> list[alt.Tooltip]:
    """The tooltip of a bucket: its time, its state, the total, every series, and the bucket it is compared with."""
    shown, hidden = split_tooltip(drawn)
    entries = [alt.Tooltip("when:N", title="title"), alt.Tooltip("state:N", title="State")]
    if len(drawn) > 1 or drawn[0].kind != "all":
        entries.append(alt.Tooltip("total:N", title="Total"))
    entries += [alt.Tooltip(f"v{index}:N", title=_property(line.name)) for index, line in enumerate(shown)]
    if hidden:
        entries.append(alt.Tooltip("hidden:N", title=f"{len(hidden):,} more series"))
    if compared:
        entries += [alt.Tooltip("before_when:N", title="Compared with"), alt.Tooltip("change:N", title="Change")]
    return entries


def _spoken_point(drawn: tuple[Line, ...]) -> alt.DescriptionValue:
    """What a screen reader says of a point: its time, series, exact value and state; of the least series a rounded one.

    The tooltip's texts, by the same look-up, so no data are added.
    """
    shown, _ = split_tooltip(drawn)
    values = ", ".join(f"datum.v{index}" for index in range(len(shown)))
    place = f"indexof({json.dumps([line.name for line in shown])}, datum.series)"
    rounded = SHORT_NUMBER.replace("datum.value", "(datum.high - datum.low)")
    return spoken(f"'; series: ' + datum.series + '; value: ' + ([{values}][{place}] || ({rounded}))")


def spoken(between: str) -> alt.DescriptionValue:
    """What a screen reader says of a mark: its time, a Vega expression for what is between, and its state."""
    return alt.DescriptionValue(alt.ExprRef(f"'time: ' + datum.when + {between} + '; state: ' + datum.state"))


_SPOKEN_BUCKET = spoken("'; total: ' + datum.total")


def _property(name: str) -> str:
    """The name for Vega-Lite's JavaScript, in which it escapes quotes only.

    The invisible character before it keeps the order of names such as 404: JavaScript lists numeric keys first.
    """
    return "\u2060" + _ESCAPED.sub(lambda match: json.dumps(match[0])[1:-1], name)


def _fields(canvas: Canvas) -> list[str]:
    return [tip.shorthand.partition(":")[0] for tip in tooltip(canvas.lines, canvas.compared)]


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


def brushed(answer: AggregateData, selection: Any) -> tuple[datetime, datetime] | None:
    """The brushed buckets as `[start, end)`, None without a brush.

    A bucket is selected if its middle is; a brush between two middles selects the bucket it is in. `selection` is
    Streamlit's (`event.selection`, or the event) or a JupyterChart's (`chart.selections`).
    """
    spans = _selection(selection, "brush")
    if not isinstance(spans, Mapping) or not spans:
        return None
    low, high = sorted(float(end) for end in next(iter(spans.values())))
    edges = [millis(edge) for edge in answer.edges]
    inside = [index for index in range(len(edges) - 1) if low <= (edges[index] + edges[index + 1]) / 2 <= high]
    if not inside:
        middle = (low + high) / 2
        inside = [index for index in range(len(edges) - 1) if edges[index] <= middle < edges[index + 1]]
    return (answer.edges[inside[0]], answer.edges[inside[-1] + 1]) if inside else None


def picked(answer: AggregateData, selection: Any) -> tuple[Series | None, datetime] | None:
    """The clicked mark as (series, bucket start), None without a click.

    The series is None if the click was on the whole bucket. A click on a bucket or series that this aggregate does not
    have, because it was made on another one, is None.
    """
    marks = _selection(selection, "pick")
    if isinstance(marks, Mapping):
        marks = [marks]
    if not isinstance(marks, Iterable):
        return None
    for mark in marks:
        start = {millis(edge): edge for edge in answer.edges[:-1]}.get(round(float(mark.get("start") or 0)))
        position = mark.get("position")
        if start is None or (position is not None and int(position) >= len(answer.series)):
            continue
        return (answer.series[int(position)] if position is not None and int(position) >= 0 else None), start
    return None


def _selection(selection: Any, name: str) -> Any:
    if isinstance(selection, Mapping):
        part = selection.get("selection", selection).get(name)
    else:
        part = getattr(getattr(selection, "selection", selection), name, None)
    return getattr(part, "value", part) if not isinstance(part, Mapping) else part
