"""Answers drawn: pure, from an `Aggregate` to an Altair chart that tells what is unfinished, cut or folded.

>>> charts.chart(answer, kind="lines")  # doctest: +SKIP

Every time and every exact number in a chart is text made here, so a browser's zone and its floats change nothing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast, get_args

import altair as alt

from usage_explore.charts import layers, palette, rows, words
from usage_explore.charts.composition import AnswerChart, mark
from usage_explore.charts.palette import DARK, FONT, LIGHT, Palette, axes, colors, theme
from usage_explore.charts.picture import image
from usage_explore.charts.selection import brushed, picked
from usage_explore.charts.ticks import label_expression, millis, tick_labels
from usage_explore.charts.words import summary, undrawable
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.describe import describe
from usage_explore.results import frames

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

__all__ = [
    "DARK",
    "LIGHT",
    "MAX_MARKS",
    "AnswerChart",
    "Kind",
    "brushed",
    "chart",
    "colors",
    "image",
    "mark",
    "picked",
    "summary",
    "theme",
    "undrawable",
]

_Layered = TypeVar("_Layered", bound=alt.LayerChart)

Kind = Literal["bars", "lines", "area"]

MAX_MARKS = 2_500
"""More bars than this are drawn as areas or lines."""

_SHORT = (
    "abs(datum.value) >= 9.999995e14 || datum.value && abs(datum.value) < 1e-6 ? format(datum.value, '.4~e') : "
    "abs(datum.value) >= 9.999995e11 ? format(datum.value / 1e12, '.6~r') + ' T' : "
    "abs(datum.value) >= 9.999995e8 ? format(datum.value / 1e9, '.6~r') + ' B' : "
    "abs(datum.value) >= 9.999995e5 ? format(datum.value / 1e6, '.6~r') + ' M' : "
    "abs(datum.value) >= 1e4 ? format(datum.value / 1e3, '.6~r') + ' k' : format(datum.value, ',.6~r')"
)


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
) -> AnswerChart:
    """The answer as stacked bars, lines or stacked areas, the question as its title.

    Interactive, it has three selections: `pick` (a click: fields `start` in milliseconds and `position`, the
    series' index or -1), `brush` (an interval of time) and `legend` (a click there highlights a series); read them
    with `picked` and `brushed`. Bars become areas above `MAX_MARKS` of them; areas become lines where a
    value is negative; the subtitle says so.

    `colors` (#rrggbb) and `names` are your own for some series, by their label in `answer.frame`:
    `colors={"large": "#1489fa"}, names={"large": "Large model"}`. `chart + mark(time, text)` shows a moment, and charts
    can be put beside each other with `|` and below with `&`.

    Raises `QueryError` for another kind, a label that no series has, two series of one name, and, naming `metric`, when
    the largest value lies beyond what a chart can draw: 1E-290 to 1E+290.
    """
    try:
        kind = cast("Kind", validators.choice(kind, get_args(Kind)))
    except ValueError as error:
        raise QueryError([Fault("kind", str(error))]) from None
    if reason := undrawable(answer):
        raise QueryError([Fault("metric", reason)])
    look = theme(dark)
    if words.is_empty(answer):
        found = _empty(answer, look, interactive)
        notes: list[str] = []
    else:
        called = _own(answer, "names", names, words.names(answer))
        if len({*called}) < len(called):
            raise QueryError([Fault("names", "give two series one name; each needs another")])
        own = _own(answer, "colors", colors, [""] * len(answer.series), "#[0-9a-fA-F]{6}")
        shades = palette.colors(answer, dark, {index: each for index, each in enumerate(own) if each})
        found, notes = _drawn(answer, kind, look, height, shades, called, interactive)
    notes = [*words.notes(answer), *notes]
    letters = 80 if width == "container" else max(20, width // 9)
    title = alt.TitleParams(text=words.wrapped(describe(answer.query, whole_seconds=True), letters))
    if notes:
        title.subtitle = words.wrapped(" ".join(f"{note}." for note in notes), letters * 5 // 4)
    return _configured(
        AnswerChart(layer=found).properties(
            width=width,
            height=height,
            title=title,
            description=words.summary(answer),
            background=look.background,
            padding={"left": 4, "right": 12, "top": 4, "bottom": 4},
            autosize=alt.AutoSizeParams(type="fit", contains="padding"),
        ),
        look,
    )


def _drawn(
    answer: AggregateData,
    kind: Kind,
    look: Palette,
    height: int,
    by_position: dict[int, str],
    called: Sequence[str],
    interactive: bool,
) -> tuple[list[alt.Chart], list[str]]:
    drawn = rows.lines(answer, called)
    actual, notes = _fitting(kind, drawn, answer)
    points = rows.stacked(answer, drawn, stack=actual != "lines", zeros=actual != "bars")
    bands = rows.buckets(answer, drawn)
    canvas = layers.Canvas(
        palette=look,
        colors={line.name: by_position.get(line.position, look.muted) for line in drawn},
        lines=drawn,
        buckets=len(answer.edges) - 1,
        x=_time_axis(answer),
        y=_value_axis(answer),
        legend=_legend(answer, height),
        interactive=interactive,
    )
    shapes = {
        "bars": lambda: layers.bars(canvas, points),
        "lines": lambda: layers.curves(canvas, rows.ends(points)),
        "area": lambda: layers.areas(canvas, rows.ends(points)),
    }[actual]()
    dotted = points if actual == "lines" and canvas.buckets <= layers.FEW else rows.lonely(points)
    if actual != "bars" and dotted:
        shapes += layers.dots(canvas, dotted)
    clickable = len(points) <= MAX_MARKS
    # the points travel once: the first layer that names them brings them
    shapes[0].data = layers.inline(rows.lean(points, clickable=clickable), "points")
    found = [layers.key(canvas), *_future(answer, canvas, bands), *shapes]
    if interactive and not clickable:
        found.append(layers.bucket_targets(canvas, bands))
    elif interactive:
        found = [found[0], layers.bands(canvas, bands), *found[1:], layers.targets(canvas, actual)]
    return found, notes


def _own(
    answer: AggregateData, name: str, given: Mapping[str, str] | None, usual: Sequence[str], form: str = "[^\0]+"
) -> list[str]:
    """What is given for some series by their label, else the usual. Raises `QueryError`, naming the parameter."""
    labels, given = frames.labels(answer), {} if given is None else given
    if not isinstance(given, Mapping):
        raise QueryError([Fault(name, f"{validators.shorten(given)} is not a mapping; write {{label: …}}")])
    faults = []
    for label, value in given.items():
        if label not in labels:
            hint = validators.did_you_mean(label, labels) if isinstance(label, str) else ""
            faults.append(Fault(name, f"{validators.shorten(label)} is the label of no series{hint}"))
        elif not isinstance(value, str) or not re.fullmatch(form, value):
            kind = "a color; write it like #1489fa" if name == "colors" else "a name; write a text"
            faults.append(Fault(name, f"{validators.shorten(value)} is not {kind}"))
    if faults:
        raise QueryError(faults)
    return [given.get(label, each) for label, each in zip(labels, usual, strict=True)]


def _future(answer: AggregateData, canvas: layers.Canvas, bands: list[rows.Row]) -> list[alt.Chart]:
    """The buckets after the last one with anything to tell, when they have not begun."""
    start = max((band["end"] for band in bands), default=millis(answer.edges[0]))
    end = millis(answer.edges[-1])
    return layers.not_yet(canvas, start, end) if start < end else []


def _fitting(kind: Kind, drawn: tuple[rows.Line, ...], answer: AggregateData) -> tuple[Kind, list[str]]:
    """The kind that can show these values, and what to say when it is another than was asked for."""
    notes = []
    negative = any(value < 0 for line in drawn for value in line.values)
    buckets = len(answer.edges) - 1
    marks = sum(1 for line in drawn for value in line.values if value)
    if kind == "bars" and marks > MAX_MARKS:
        kind = "lines" if negative else "area"
        notes.append(f"Drawn as {'lines' if negative else 'areas'}, as {marks:,} bars would be too many to tell apart")
    elif kind == "area" and negative:
        kind = "lines"
        notes.append("Drawn as lines, as areas cannot stack negative values")
    elif kind == "area" and buckets < 2:
        kind = "bars"
    if drawn and len(drawn) < len(answer.series):
        one = sum(line.position < 0 for line in drawn)
        rest = len(answer.series) - len(drawn) + one
        notes.append(f"The {rest:,} smaller series are drawn as one; the table and the downloads have them all")
    return kind, notes


def _time_axis(answer: AggregateData) -> dict[str, Any]:
    labels = tick_labels(answer)
    axis = alt.Axis(
        values=list(labels),
        labelExpr=label_expression(labels),
        title=f"{'week beginning' if answer.query.bucket == 'week' else answer.query.bucket} ({answer.query.timezone})",
        aria=False,  # Vega would describe it in milliseconds since 1970; the chart's description has the dates
        grid=False,
        labelOverlap=True,
        labelSeparation=8,
        labelFlush=False,
    )
    edges = [millis(answer.edges[0]), millis(answer.edges[-1])]
    return {"axis": axis, "scale": alt.Scale(domain=edges, nice=False, zero=False)}


def _value_axis(answer: AggregateData) -> dict[str, Any]:
    axis = alt.Axis(title=words.unit(answer), labelExpr=_SHORT, tickCount=5)
    if answer.query.metric == "count":
        axis.tickMinStep = 1
    return {"axis": axis, "scale": alt.Scale(zero=True, nice=True)}


def _legend(answer: AggregateData, height: int) -> alt.Legend | None:
    if answer.query.group_by == "none":
        return None
    # on a phone the names leave the marks more room
    limit = alt.ExprRef("containerSize()[0] < 500 ? 80 : 170")
    return alt.Legend(title=None, orient="right", labelLimit=limit, symbolLimit=max(4, (height - 60) // 20))


def _empty(answer: AggregateData, look: Palette, interactive: bool) -> list[alt.Chart]:
    edges = {"start": millis(answer.edges[0]), "end": millis(answer.edges[-1]), "position": -1, "series": ""}
    place = alt.X("start:Q", **_time_axis(answer))
    frame = alt.Chart(alt.InlineData(values=[edges])).mark_rect(opacity=0).encode(x=place, x2="end:Q")
    if interactive:
        frame = frame.add_params(*layers.selections(), alt.selection_point(name="legend", fields=["series"]))
    text = (
        alt.Chart(alt.InlineData(values=[{"text": words.NO_EVENTS}]))
        .mark_text(fontSize=15, color=look.soft, x=alt.ExprRef("width / 2"), y=alt.ExprRef("height / 2"))
        .encode(text="text:N")
    )
    return [frame, text]


def _configured(found: _Layered, look: Palette) -> _Layered:
    configured: _Layered = (
        found.configure(font=FONT)
        .configure_view(stroke=None)
        .configure_title(
            anchor="start",
            frame="group",
            color=look.text,
            fontSize=15,
            fontWeight=600,
            subtitleColor=look.soft,
            subtitleFontSize=12,
            offset=14,
        )
        .configure_axis(**axes(look))
        .configure_axisY(domain=False, ticks=False)
        .configure_legend(
            labelColor=look.text, labelFontSize=12, symbolType="square", symbolSize=110, rowPadding=4, offset=16
        )
    )
    return configured
