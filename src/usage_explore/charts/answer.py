"""The chart of an aggregate and its combinations with other charts.

In Vega-Lite, only the top level has a look, and data and selections are identified by name. So combined charts pass
their look to the top, have data under unique names, and lose their selections; tooltips stay. Streamlit and
JupyterChart report selections by name: `pick` (a click), `brush` (an interval of time), `legend`; see `layers`.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import altair as alt
from altair.utils import schemapi

from usage_explore.charts import chart_rows, compared, labels, layers, style
from usage_explore.charts.layers import Marked
from usage_explore.charts.picture import Drawn
from usage_explore.charts.style import DARK, Palette, millis, theme
from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import parsed_instant
from usage_explore.query.describe import describe
from usage_explore.query.queries import RATIOS
from usage_explore.results import frames

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

Kind = Literal["bars", "lines", "area"]

MAX_MARKS = 2_500
"""Bars of a chart; more are drawn as areas or lines."""

_SELECTIONS = frozenset({"pick", "brush", "legend"})
_LOOK = ("config", "background", "padding")
_INDEPENDENT: dict[str, Any] = {
    part: dict.fromkeys(("color", "stroke", "shape", "strokeDash", "fillOpacity"), "independent")
    for part in ("scale", "legend")
}
"""Charts have separate colours and legends, as they may have different series."""

_unvalidated = threading.Lock()

_NARROW_PIXELS = 500
"""Width of a chart below which its legend leaves the marks their room."""

_AXIS_PIXELS, _SYMBOL_PIXELS = 80, 24
"""Width of the value axis, beside which a legend below the marks begins, and of a legend's symbol with its gaps."""

_CHARACTER_PIXELS, _FONT_RATIO = 6.5, 1.2
"""Mean width of a character, and how much wider text may be in a browser, which draws an SVG picture in its own font,
than where the picture is laid out.
"""

_MAX_LABEL_PIXELS = 170
"""Width of a label in a legend beside the marks."""

_MAX_ROWS_OF_ONE = 5
"""Series up to which long names in a legend below the marks have a row each; more rows would leave the marks no height.
"""

_PART_WIDTH = 480
"""Pixels of a chart that would fill its container, as a part of several."""


def chart(
    answer: AggregateData,
    *,
    kind: Kind = "bars",
    dark: bool = False,
    height: int = 360,
    width: int | Literal["container"] = "container",
    interactive: bool = True,
    colors: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    frequent: Sequence[str] = (),
    caption: str = "",
    selected: Marked | None = None,
) -> AnswerChart:
    """The aggregate as stacked bars, lines or stacked areas, its query as the title.

    Interactive, it has three selections: `pick` (a click: fields `start` in milliseconds and `position`, the
    series' index or -1), `brush` (an interval of time) and `legend` (a click there highlights a series); read them
    with `picked` and `brushed`. Bars become areas above `MAX_MARKS` of them; areas become lines where a
    value is negative; the subtitle says so. Running totals are drawn in steps without gaps. The period of the query's
    `compare` is a thin line, of all series together or, if they are drawn as lines, of each one.

    `colors` (#rrggbb) and `names` replace those of some series, by their label in `answer.frame`:
    `colors={"large": "#1489fa"}, names={"large": "Large model"}`. `chart + mark(time, text)` shows a moment, and charts
    can be put beside each other with `|` and below with `&`. `caption` is a line of its own under the title, such as
    `charts.caption(answer, answer.organization)`.

    `frequent` are the most frequent values of the group in all events; see `style.colors`. `selected` is outlined, for
    a chart that is not interactive.

    Raises `QueryError` for another kind, a label that no series has, two series of one name, and, naming `metric`, when
    the largest value lies beyond what a chart can draw: 1E-290 to 1E+290.
    """
    return AnswerChart(
        **_properties(
            answer,
            kind,
            dark=dark,
            height=height,
            width=width,
            interactive=interactive,
            colors=colors,
            names=names,
            frequent=frequent,
            caption=caption,
            selected=selected,
        )
    )


def spec(answer: AggregateData, *, kind: Kind, dark: bool = False, frequent: Sequence[str] = ()) -> dict[str, Any]:
    """The Vega-Lite specification of `chart`, for a page: the same drawing in a quarter of the time.

    Nothing is validated, as tests do that, and Altair combines no copies of the layers. The layers have the names that
    the selections at the top refer to. Raises as `chart`.
    """
    # Altair's switch is global: the lock keeps two threads from restoring each other's value
    with _unvalidated, schemapi.debug_mode(False):
        properties = _properties(answer, kind, dark=dark, frequent=frequent)
        drawn, params = [], []
        context: dict[str, Any] = {"top_level": False, "datasets": {}}
        for index, layer in enumerate(properties["layer"]):
            part = layer.to_dict(validate=False, context=context)
            for param in part.pop("params", ()):
                part["name"] = f"view_{index}"
                params.append({**param, "views": [part["name"]]})
            drawn.append(part)
        title = properties["title"].to_dict(validate=False)
    datasets = {"datasets": context["datasets"]} if context["datasets"] else {}
    return {"$schema": alt.SCHEMA_URL, **properties, **datasets, "title": title, "layer": drawn, "params": params}


def _properties(
    answer: AggregateData,
    kind: Kind,
    *,
    dark: bool,
    frequent: Sequence[str],
    height: int = 360,
    width: int | Literal["container"] = "container",
    interactive: bool = True,
    colors: Mapping[str, str] | None = None,
    names: Mapping[str, str] | None = None,
    caption: str = "",
    selected: Marked | None = None,
) -> dict[str, Any]:
    """The properties of the chart, its layers under `layer`."""
    try:
        kind = cast("Kind", validators.choice(kind, get_args(Kind)))
    except ValueError as error:
        raise QueryError([Fault("kind", str(error))]) from None
    if reason := labels.undrawable(answer):
        raise QueryError([Fault("metric", reason)])
    look = theme(dark)
    appearance = style.appearance(look)
    if labels.is_empty(answer):
        drawn = _empty(answer, look, interactive)
        notes: list[str] = []
    else:
        series_names = _own(answer, "names", names, labels.names(answer))
        if len({*series_names}) < len(series_names):
            raise QueryError([Fault("names", "give two series one name; each needs another")])
        own = _own(answer, "colors", colors, [""] * len(answer.series), "#[0-9a-fA-F]{6}")
        shades = style.colors(answer, dark, {index: color for index, color in enumerate(own) if color}, frequent)
        legend = _legend(answer, series_names, height, width)
        drawn, notes = _drawn(answer, kind, look, legend, shades, series_names, interactive, selected)
        if legend is not None and legend["orient"] == "right" and not interactive:
            longest = min(max(map(len, series_names)) * _CHARACTER_PIXELS, _MAX_LABEL_PIXELS)
            appearance["padding"]["right"] += ceil(longest * (_FONT_RATIO - 1))
    words = answer.names.in_text(describe(answer.query, whole_seconds=True))
    title = style.title(words, [*labels.notes(answer), *notes], width, caption)
    return {
        "layer": drawn,
        "width": width,
        "height": height,
        "title": title,
        "description": labels.summary(answer),
        **appearance,
    }


def _drawn(
    answer: AggregateData,
    kind: Kind,
    look: Palette,
    legend: alt.Legend | None,
    by_position: dict[int, str],
    series_names: Sequence[str],
    interactive: bool,
    selected: Marked | None,
) -> tuple[list[alt.Chart], list[str]]:
    drawn = chart_rows.lines(answer, series_names)
    actual, notes = _fitting(kind, drawn, answer)
    points = chart_rows.stacked(answer, drawn, stack=actual != "lines", zeros=actual != "bars")
    bands = compared.with_texts(answer, chart_rows.buckets(answer, drawn), drawn)
    canvas = layers.Canvas(
        palette=look,
        colors={line.name: by_position.get(line.position, look.muted) for line in drawn},
        lines=drawn,
        buckets=len(answer.edges) - 1,
        x=style.time_axis(answer),
        y=style.value_axis(answer),
        legend=legend,
        interactive=interactive,
        steps=answer.query.cumulative,
        compared=answer.comparison is not None,
    )
    shapes = {
        "bars": lambda: layers.bars(canvas, points),
        "lines": lambda: layers.curves(canvas, chart_rows.ends(points)),
        "area": lambda: layers.areas(canvas, chart_rows.ends(points)),
    }[actual]()
    dotted = chart_rows.lonely(points)
    if actual == "lines" and canvas.buckets <= layers.MAX_SPACED_BUCKETS:
        dotted = [row for row in points if row["high"] is not None]
    if actual != "bars" and dotted:
        shapes += layers.dots(canvas, dotted)
    clickable = len(points) <= MAX_MARKS
    if answer.comparison and (rows := compared.earlier(answer, answer.comparison, drawn, actual)):
        shapes += compared.outline(canvas, rows, actual)
    behind, before = layers.outlines(canvas, selected, points, actual) if selected else ([], [])
    # the points are sent once: with the first layer that names them
    shapes[0].data = layers.inline(chart_rows.slim(points, clickable=clickable), "points")
    key, visible = layers.key(canvas), [*_future(answer, canvas, bands), *behind, *shapes, *before]
    if not interactive:
        return [key, *visible], notes
    if not clickable:
        return [key, *visible, layers.bucket_targets(canvas, bands)], notes
    return [key, layers.bands(canvas, bands), *visible, layers.targets(canvas, actual)], notes


def _own(
    answer: AggregateData, name: str, given: Mapping[str, str] | None, defaults: Sequence[str], form: str = "[^\0]+"
) -> list[str]:
    """The value given for each series by its label, else its default. Raises `QueryError`, naming the parameter."""
    known, given = frames.labels(answer), {} if given is None else given
    if not isinstance(given, Mapping):
        raise QueryError([Fault(name, f"{validators.shorten(given)} is not a mapping; write {{label: …}}")])
    faults = []
    for label, value in given.items():
        if label not in known:
            hint = validators.did_you_mean(label, known) if isinstance(label, str) else ""
            faults.append(Fault(name, f"{validators.shorten(label)} is the label of no series{hint}"))
        elif not isinstance(value, str) or not re.fullmatch(form, value):
            kind = "a color; write it like #1489fa" if name == "colors" else "a name; write a text"
            faults.append(Fault(name, f"{validators.shorten(value)} is not {kind}"))
    if faults:
        raise QueryError(faults)
    return [given.get(label, default) for label, default in zip(known, defaults, strict=True)]


def _future(answer: AggregateData, canvas: layers.Canvas, bands: list[chart_rows.Row]) -> list[alt.Chart]:
    """The layers for the buckets that have not begun, after the last one with a value."""
    start = max((band["end"] for band in bands), default=millis(answer.edges[0]))
    end = millis(answer.edges[-1])
    return layers.not_yet(canvas, start, end) if start < end else []


def _fitting(kind: Kind, drawn: tuple[chart_rows.Line, ...], answer: AggregateData) -> tuple[Kind, list[str]]:
    """The kind that can show these values, and notes on why it is not the requested one."""
    notes = []
    negative = any(value < 0 for line in drawn for value in line.values if value is not None)
    buckets = len(answer.edges) - 1
    marks = sum(1 for line in drawn for value in line.values if value)
    if kind == "area" and answer.query.cumulative:
        kind = "bars"  # the same steps, with the edges of the buckets
    if kind != "lines" and len(drawn) > 1 and not answer.adds_up:
        kind = "lines"
        what = "unit costs" if answer.query.metric in RATIOS else "costs in several currencies"
        notes.append(f"Drawn as lines, because {what} do not add up")
    elif kind == "bars" and marks > MAX_MARKS:
        kind = "lines" if negative else "area"
        notes.append(f"Drawn as {'lines' if negative else 'areas'}, because {marks:,} bars are too many to distinguish")
    elif kind == "area" and negative:
        kind = "lines"
        notes.append("Drawn as lines, because areas cannot stack negative values")
    elif kind == "area" and buckets < 2:
        kind = "bars"
    if drawn and len(drawn) < len(answer.series):
        one = sum(line.position < 0 for line in drawn)
        rest = len(answer.series) - len(drawn) + one
        notes.append(f"The {rest:,} smaller series are drawn as one; the table and the downloads have them all")
    return kind, notes


def _legend(
    answer: AggregateData, names: Sequence[str], height: int, width: int | Literal["container"]
) -> alt.Legend | None:
    """The legend beside the marks, or below them in a narrow picture."""
    if answer.query.group_by == "none":
        return None
    if width != "container" and width < _NARROW_PIXELS:
        one, each = (((width - _AXIS_PIXELS) / columns - _SYMBOL_PIXELS) / _FONT_RATIO for columns in (1, 2))
        is_long = max(map(len, names)) * _CHARACTER_PIXELS > each
        columns, room = (1, one) if is_long and len(names) <= _MAX_ROWS_OF_ONE else (2, each)
        room = max(room, 30)
        padding = 10 + room * (_FONT_RATIO - 1)
        return alt.Legend(title=None, orient="bottom", columns=columns, columnPadding=padding, labelLimit=room)
    # narrower on a phone, for the marks
    limit = alt.ExprRef(f"containerSize()[0] < {_NARROW_PIXELS} ? 80 : {_MAX_LABEL_PIXELS}")
    return alt.Legend(title=None, orient="right", labelLimit=limit, symbolLimit=max(4, (height - 60) // 20))


def _empty(answer: AggregateData, look: Palette, interactive: bool) -> list[alt.Chart]:
    edges = {"start": millis(answer.edges[0]), "end": millis(answer.edges[-1]), "position": -1, "series": ""}
    place = alt.X("start:Q", **style.time_axis(answer))
    frame = alt.Chart(alt.InlineData(values=[edges])).mark_rect(opacity=0).encode(x=place, x2="end:Q")
    if interactive:
        frame = frame.add_params(*layers.selections(look), alt.selection_point(name="legend", fields=["series"]))
    text = (
        alt.Chart(alt.InlineData(values=[{"text": labels.NO_EVENTS}]))
        .mark_text(fontSize=15, color=look.soft, x=alt.ExprRef("width / 2"), y=alt.ExprRef("height / 2"))
        .encode(text="text:N")
    )
    return [frame, text]


class Mark(alt.LayerChart):
    """A line at an instant with its text, made by `mark`, or several marks; `mark + chart` is `chart + mark`."""

    def __add__(self, other: Any) -> Any:
        if isinstance(other, AnswerChart):
            return other + self
        if isinstance(other, Mark):
            return Mark(layer=[*self._each, *other._each])
        return super().__add__(other)

    @property
    def _each(self) -> list[Any]:
        """The marks that were added up, or this one; Altair keeps the data of equal ones once."""
        own: list[Any] = self.layer
        if not isinstance(own[0], Mark):
            return [self]
        return [Mark(data=self.data, layer=one.layer) if one.data is alt.Undefined else one for one in own]


class AnswerChart(Drawn):
    """The chart of an aggregate. `+` adds a `mark` or another layer; `|` and `&` put charts beside and below it."""

    def __iadd__(self, other: Any) -> Any:  # type: ignore[misc] # `+` copies, then adds by this
        if isinstance(other, AnswerChart):
            words = "is another answer's chart, with axes and a legend of its own; put it beside with | or below with &"
            raise QueryError([Fault("chart", words)])
        if isinstance(other, Mark):
            chart: Any = self
            for placed in [self._placed(each) for each in other._each]:
                chart = super(AnswerChart, chart).__iadd__(placed)
            return chart
        _check_layer(other)
        return super().__iadd__(other)

    def __or__(self, other: Any) -> Any:
        return _row(self) | other

    def __and__(self, other: Any) -> Any:
        return _column(self) & other

    def _placed(self, mark: Mark) -> Any:
        """The mark on this chart's time axis. Raises `QueryError` if it is outside."""
        own: list[Any] = self.layer
        x = next(layer.encoding.x for layer in own if layer.encoding.x is not alt.Undefined)
        first, last = x["scale"].domain
        look = theme(self.background == DARK.background)
        placed: Any = mark.copy(deep=True)
        instant = placed.data["values"][0]["at"]
        if not first <= instant <= last:
            since, until = (rfc3339(datetime.fromtimestamp(edge / 1000, UTC)) for edge in (first, last))
            fault = Fault("time", f"lies outside the chart, which is from {since} to {until}; widen the window")
            raise QueryError([fault])
        for layer in placed.layer:
            layer.encoding.x["scale"], layer.encoding.x["axis"] = x["scale"], x["axis"]
            layer.mark["color"] = look.text
            if layer.mark["type"] == "text" and 2 * instant > first + last:  # room is to its left
                layer.mark["align"] = "right"
        return placed


class Beside(alt.HConcatChart):
    """Charts beside each other; `|` puts another one to their right."""

    def __ior__(self, other: Any) -> Any:  # type: ignore[misc] # likewise
        return super().__ior__(_part(other))

    def __and__(self, other: Any) -> Any:
        return _column(self) & other


class Below(alt.VConcatChart):
    """Charts below each other; `&` puts another one below them."""

    def __iand__(self, other: Any) -> Any:  # type: ignore[misc] # likewise
        return super().__iand__(_part(other))

    def __or__(self, other: Any) -> Any:
        return _row(self) | other


def _row(chart: Any) -> Any:
    row: Any = Beside(hconcat=[], resolve=_INDEPENDENT, **{name: chart[name] for name in _LOOK})
    return row | chart


def _column(chart: Any) -> Any:
    column: Any = Below(vconcat=[], resolve=_INDEPENDENT, **{name: chart[name] for name in _LOOK})
    return column & chart


def mark(time: datetime | str, text: str) -> Mark:
    """A line at `time` with `text` above it, to add to the chart of an aggregate.

    >>> answer.chart() + charts.mark("2026-09-04T09:30:00Z", "release 4.2")  # doctest: +SKIP

    In either order.

    Raises `QueryError` for a time without an offset, if `text` is no string, and if added to a chart without that time.
    """
    instant = parsed_instant("time", time)
    if not isinstance(text, str):
        raise QueryError([Fault("text", f"{validators.shorten(text)} is not a text; write what happened then")])
    base = alt.Chart(alt.InlineData(values=[{"at": millis(instant), "text": text, "when": rfc3339(instant)}]))
    shown = base.encode(x=alt.X("at:Q"), tooltip=[alt.Tooltip("text:N", title="mark"), alt.Tooltip("when:N")])
    return Mark(
        layer=[
            shown.mark_rule(strokeWidth=1.5),
            shown.mark_text(align="left", baseline="bottom", y=-2, fontSize=11).encode(text="text:N"),
        ]
    )


def _check_layer(chart: Any) -> None:
    """Raise `QueryError` for a layer with times on x: Vega-Lite would put them at other places than the buckets."""
    spec = chart.to_dict() if isinstance(chart, alt.SchemaBase) else {}
    pending = [spec]
    while pending:
        layer = pending.pop()
        pending += layer.get("layer", [])
        x = [layer.get("encoding", {}).get(name, {}) for name in ("x", "x2")]
        if any(channel.get("type", "quantitative") != "quantitative" or "timeUnit" in channel for channel in x):
            words = "is not in milliseconds, as the time axis of an answer's chart is; add charts.mark(time, text), or"
            raise QueryError([Fault("x", f"{words} draw everything from answer.plot_frame")])


def _part(chart: Any) -> Any:
    """A chart as a part of several: without look and selections, with unique names of data."""
    if isinstance(chart, Beside | Below):  # its parts have neither
        chart = chart.copy(deep=True)
        for name in _LOOK:
            chart[name] = alt.Undefined
    if not isinstance(chart, AnswerChart):
        return chart
    spec: dict[str, Any] = {
        name: value for name, value in chart.to_dict().items() if name not in (*_LOOK, "autosize", "$schema")
    }
    datasets = spec.pop("datasets", {})
    if spec.get("width") == "container":
        spec["width"] = _PART_WIDTH
    own = hashlib.blake2b(json.dumps(spec).encode(), digest_size=6).hexdigest()
    return alt.LayerChart.from_dict(_alone(spec, own, datasets))


def _alone(value: Any, own: str, datasets: dict[str, Any]) -> Any:
    if isinstance(value, list):
        return [_alone(item, own, datasets) for item in value]
    if not isinstance(value, dict):
        return value
    result = {}
    for name, item in value.items():
        if name == "params":
            item = [param for param in item if param["name"] not in _SELECTIONS]
        elif name == "data" and isinstance(item, dict) and "name" in item:
            rows = datasets.get(item["name"])
            item = {"values": rows} if rows is not None else {**item, "name": f"{item['name']} {own}"}
        elif isinstance(item, dict) and _selected(item):
            continue
        if name != "data":
            item = _alone(item, own, datasets)
        if item != [] or name != "params":
            result[name] = item
    return result


def _selected(channel: dict[str, Any]) -> bool:
    """Whether an encoding depends on a removed selection."""
    condition = channel.get("condition")
    return isinstance(condition, dict) and condition.get("param") in _SELECTIONS
