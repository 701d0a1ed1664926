"""The chart of an aggregate: stacked bars, lines or stacked areas, with unfinished and future buckets marked."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, cast, get_args

import altair as alt

from usage_explore.charts import axes, labels, layers, palette, rows
from usage_explore.charts.axes import millis
from usage_explore.charts.composition import AnswerChart
from usage_explore.charts.palette import Palette, theme
from usage_explore.charts.selection import selections
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.describe import describe
from usage_explore.results import frames

if TYPE_CHECKING:
    from usage_explore.results.types import AggregateData

Kind = Literal["bars", "lines", "area"]

MAX_MARKS = 2_500
"""Bars of a chart; more are drawn as areas or lines."""


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
    """The aggregate as stacked bars, lines or stacked areas, its query as the title.

    Interactive, it has three selections: `pick` (a click: fields `start` in milliseconds and `position`, the
    series' index or -1), `brush` (an interval of time) and `legend` (a click there highlights a series); read them
    with `picked` and `brushed`. Bars become areas above `MAX_MARKS` of them; areas become lines where a
    value is negative; the subtitle says so.

    `colors` (#rrggbb) and `names` replace those of some series, by their label in `answer.frame`:
    `colors={"large": "#1489fa"}, names={"large": "Large model"}`. `chart + mark(time, text)` shows a moment, and charts
    can be put beside each other with `|` and below with `&`.

    Raises `QueryError` for another kind, a label that no series has, two series of one name, and, naming `metric`, when
    the largest value lies beyond what a chart can draw: 1E-290 to 1E+290.
    """
    try:
        kind = cast("Kind", validators.choice(kind, get_args(Kind)))
    except ValueError as error:
        raise QueryError([Fault("kind", str(error))]) from None
    if reason := labels.undrawable(answer):
        raise QueryError([Fault("metric", reason)])
    look = theme(dark)
    if labels.is_empty(answer):
        drawn = _empty(answer, look, interactive)
        notes: list[str] = []
    else:
        series_names = _own(answer, "names", names, labels.names(answer))
        if len({*series_names}) < len(series_names):
            raise QueryError([Fault("names", "give two series one name; each needs another")])
        own = _own(answer, "colors", colors, [""] * len(answer.series), "#[0-9a-fA-F]{6}")
        shades = palette.colors(answer, dark, {index: color for index, color in enumerate(own) if color})
        drawn, notes = _drawn(answer, kind, look, height, shades, series_names, interactive)
    title = axes.title(describe(answer.query, whole_seconds=True), [*labels.notes(answer), *notes], width)
    chart = AnswerChart(layer=drawn, width=width, height=height, title=title, description=labels.summary(answer))
    return axes.configured(chart, look)


def _drawn(
    answer: AggregateData,
    kind: Kind,
    look: Palette,
    height: int,
    by_position: dict[int, str],
    series_names: Sequence[str],
    interactive: bool,
) -> tuple[list[alt.Chart], list[str]]:
    drawn = rows.lines(answer, series_names)
    actual, notes = _fitting(kind, drawn, answer)
    points = rows.stacked(answer, drawn, stack=actual != "lines", zeros=actual != "bars")
    bands = rows.buckets(answer, drawn)
    canvas = layers.Canvas(
        palette=look,
        colors={line.name: by_position.get(line.position, look.muted) for line in drawn},
        lines=drawn,
        buckets=len(answer.edges) - 1,
        x=axes.time_axis(answer),
        y=axes.value_axis(answer),
        legend=_legend(answer, height),
        interactive=interactive,
    )
    shapes = {
        "bars": lambda: layers.bars(canvas, points),
        "lines": lambda: layers.curves(canvas, rows.ends(points)),
        "area": lambda: layers.areas(canvas, rows.ends(points)),
    }[actual]()
    dotted = points if actual == "lines" and canvas.buckets <= layers.MAX_SPACED_BUCKETS else rows.lonely(points)
    if actual != "bars" and dotted:
        shapes += layers.dots(canvas, dotted)
    clickable = len(points) <= MAX_MARKS
    # the points are sent once: with the first layer that names them
    shapes[0].data = layers.inline(rows.slim(points, clickable=clickable), "points")
    key, visible = layers.key(canvas), [*_future(answer, canvas, bands), *shapes]
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


def _future(answer: AggregateData, canvas: layers.Canvas, bands: list[rows.Row]) -> list[alt.Chart]:
    """The layers for the buckets that have not begun, after the last one with a value."""
    start = max((band["end"] for band in bands), default=millis(answer.edges[0]))
    end = millis(answer.edges[-1])
    return layers.not_yet(canvas, start, end) if start < end else []


def _fitting(kind: Kind, drawn: tuple[rows.Line, ...], answer: AggregateData) -> tuple[Kind, list[str]]:
    """The kind that can show these values, and notes on why it is not the requested one."""
    notes = []
    negative = any(value < 0 for line in drawn for value in line.values)
    buckets = len(answer.edges) - 1
    marks = sum(1 for line in drawn for value in line.values if value)
    if kind == "bars" and marks > MAX_MARKS:
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


def _legend(answer: AggregateData, height: int) -> alt.Legend | None:
    if answer.query.group_by == "none":
        return None
    # narrower on a phone, for the marks
    limit = alt.ExprRef("containerSize()[0] < 500 ? 80 : 170")
    return alt.Legend(title=None, orient="right", labelLimit=limit, symbolLimit=max(4, (height - 60) // 20))


def _empty(answer: AggregateData, look: Palette, interactive: bool) -> list[alt.Chart]:
    edges = {"start": millis(answer.edges[0]), "end": millis(answer.edges[-1]), "position": -1, "series": ""}
    place = alt.X("start:Q", **axes.time_axis(answer))
    frame = alt.Chart(alt.InlineData(values=[edges])).mark_rect(opacity=0).encode(x=place, x2="end:Q")
    if interactive:
        frame = frame.add_params(*selections(), alt.selection_point(name="legend", fields=["series"]))
    text = (
        alt.Chart(alt.InlineData(values=[{"text": labels.NO_EVENTS}]))
        .mark_text(fontSize=15, color=look.soft, x=alt.ExprRef("width / 2"), y=alt.ExprRef("height / 2"))
        .encode(text="text:N")
    )
    return [frame, text]
