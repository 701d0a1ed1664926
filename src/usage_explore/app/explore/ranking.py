"""The ranking: each series with its total, share, change and shape; a click on its name filters to it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import ceil, inf, isfinite

import pandas as pd
import streamlit as st

from usage_explore import charts, formatting
from usage_explore.answers import Aggregate
from usage_explore.app import grid
from usage_explore.charts.words import names
from usage_explore.comparison import Comparison
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, ID_COLUMNS
from usage_explore.results.types import Series

_WIDEST, _LONGEST = 16, 200
_SQUARE, _NAME, _WIDEST_NAME, _SHAPE, _WIDEST_SHAPE = 22, 80, 124, 72, 120
"""Pixels of a square, and of the narrowest and widest name and shape: all columns share what room is left."""
_BAR, _PADDING, _BORDER = 3.5, 15, 6
"""Pixels of a bar with its gap, of a cell's padding, and of what a table is wider than its columns."""
_SIDE_BY_SIDE = """<style>
.st-key-answer [data-testid="stColumn"] {{ flex: 1000 1 380px; min-width: 0 }}
.st-key-answer [data-testid="stColumn"]:last-child {{ flex: 1 1 {width}px }}
</style>"""
"""The ranking gets the width of its columns, the chart the rest; without room for both the chart stands above."""


def ranking(answer: Aggregate, comparison: Comparison | str, dark: bool, narrow: Callable[[Series], None]) -> None:
    """Draw it; `narrow` is called with the series whose name was clicked."""
    colours = charts.colors(answer, dark)
    total = answer.total
    totals = [series.total for series in answer.series]
    fits = all(len(formatting.exact(each)) <= _WIDEST for each in totals)
    name = group_name(answer.query.group_by)
    if not answer.query.group_by.startswith(DIMENSION):  # a key of the data keeps its case
        name = name.capitalize()
    shapes = [[] if charts.undrawable(answer) else _shape(series) for series in answer.series]
    key = "ranking"

    def clicked() -> None:
        click = st.session_state[key]
        if click is not None and click["row"] < len(answer.series):
            narrow(answer.series[click["row"]])

    # bars show a spike as it is, where there is room for them; lines smooth it
    room = ceil(_BAR * len(max(shapes, key=len))) + _PADDING
    shape = st.column_config.BarChartColumn if room <= _WIDEST_SHAPE else st.column_config.LineChartColumn
    shape_width = min(max(room, _SHAPE), _WIDEST_SHAPE)
    labels = [_label(answer, *each) for each in zip(answer.series, names(answer), strict=True)]
    name_width = min(max(_NAME, grid.width(name, labels)), _WIDEST_NAME)
    lowest = min([0.0, *(value for values in shapes for value in values)])
    button = st.column_config.ButtonColumn(
        name,
        key=key,
        on_click=clicked,
        type="tertiary",
        alignment="left",
        width=name_width,
        help="Click a name to filter to it",
    )
    drawing = shape(
        "Shape",
        help="The finished buckets of the window, from zero",
        color="gray",
        y_min=lowest,
        width=shape_width,
    )
    rounded = grid.numbers("Total", totals, formatting.exact if fits else formatting.short)
    if not fits and rounded.shown:  # without it the digits themselves are on screen
        rounded.config["help"] = "Long totals are rounded here; a copy has every digit"
    columns = {
        # Streamlit's CSV leaves buttons out: the whole name is the value behind the square
        # a heading without a text fails WCAG
        "series": grid.texts("■", names(answer), lambda _: "■", width=_SQUARE),
        "name": grid.Column(pd.Series(labels, dtype="object"), button),
        "shape": grid.Column(pd.Series(shapes, dtype="object"), drawing),
        "total": rounded,
        "share": grid.ratios(
            "Share",
            [float(Decimal(each) / Decimal(total)) if total > 0 else None for each in totals],
            lambda ratio: formatting.percent(Decimal(repr(ratio)), 1),
            help="Copied as a ratio",
        ),
        "change": grid.ratios(
            "Change",
            _changes(answer, comparison),
            lambda ratio: formatting.typographic(formatting.change(Decimal(repr(ratio)) if isfinite(ratio) else None)),
            help=comparison
            if isinstance(comparison, str)
            else f"{comparison.label}; copied as a ratio, new as Infinity",
        ),
    }
    width = _SQUARE + name_width + shape_width + sum(column.width for column in columns.values()) + _BORDER
    st.html(_SIDE_BY_SIDE.format(width=width))
    grid.draw(
        columns,
        inks={"series": [colours[index] for index in range(len(totals))]},
        height="auto" if len(answer.series) <= 10 else 390,
        alt=f"{name} ranked by total",
    )


def _label(answer: Aggregate, series: Series, called: str) -> str:
    """The series as the legend calls it; ids by their first digits, Other with how many values it holds."""
    if series.kind == "other" and series.members:
        return f"{called} ({series.members:,})"
    if answer.query.group_by in ID_COLUMNS and series.key:
        return formatting.short_ids(series.key)
    return called


def _shape(series: Series) -> list[float]:
    """The finished buckets: an unfinished one would look like a drop."""
    finished = [float(point.value) for point in series.points if point.complete]
    return (finished or [float(point.value) for point in series.points])[-_LONGEST:]


def _changes(answer: Aggregate, comparison: Comparison | str) -> list[float | None]:
    """The ratio by which each series changed: infinite where there was nothing before, None where nothing is known."""
    if isinstance(comparison, str):
        return [None] * len(answer.series)
    return [
        None if not (each.before or each.now) else inf if each.ratio is None else float(each.ratio)
        for each in comparison.series
    ]
