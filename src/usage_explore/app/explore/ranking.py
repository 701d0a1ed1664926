"""The ranking: each series with its total, share, change and shape; a click on its name filters to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from math import ceil, inf, isfinite

import pandas as pd
import streamlit as st

from usage_explore import charts, formatting
from usage_explore.answers import Aggregate
from usage_explore.app import grid
from usage_explore.charts.labels import names
from usage_explore.comparison import Comparison
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, ID_COLUMNS
from usage_explore.results import frames
from usage_explore.results.types import Point, Series

_WIDEST, _LONGEST = 13, 200
_SQUARE, _NAME, _WIDEST_NAME, _SHAPE, _WIDEST_SHAPE = 22, 80, 124, 72, 120
"""Pixels of a square, and of the narrowest and widest name and shape."""
_PHONE, _MARGINS = 360, 48
"""Pixels of a table on a screen of 390, and of the margins and scroll bar of a narrow page."""
_BAR, _PADDING, _BORDER, _SLACK = 3.5, 15, 2, 4
"""Pixels of a bar with its gap, of a cell's padding, of a table's border, and of what a table gets beyond that."""
_SIDE_BY_SIDE = """<style>
.st-key-answer [data-testid="stColumn"] {{ flex: 1000 1 380px; min-width: 0 }}
.st-key-answer [data-testid="stColumn"]:last-child {{ flex: 1 1 {width}px }}
@media (max-width: {narrow}px) {{
  .st-key-answer [data-testid="stColumn"]:last-child [data-testid="stFullScreenFrame"] {{ max-width: {shapeless}px }}
}}
</style>"""
"""The ranking gets the width of its columns, the chart the rest; without room for both the chart stands above.

On a screen that is narrower than the ranking the last column, the shape, is scrolled to: cut, it would end too early.
"""


def ranking(answer: Aggregate, comparison: Comparison | str, dark: bool, narrow: Callable[[Series], None]) -> None:
    """Draw it; `narrow` is called with the series whose name was clicked."""
    colours = charts.colors(answer, dark)
    total = answer.total
    totals = [series.total for series in answer.series]
    fits = all(len(formatting.exact(each)) <= _WIDEST for each in totals)
    name = group_name(answer.query.group_by)
    if not answer.query.group_by.startswith(DIMENSION):  # a key of the data keeps its case
        name = name.capitalize()
    points = [_begun(answer, series) for series in answer.series]
    shapes = [[] if charts.undrawable(answer) else _shape(each) for each in points]
    key = "ranking"

    def clicked() -> None:
        click = st.session_state[key]
        if click is not None and click["row"] < len(answer.series):
            narrow(answer.series[click["row"]])

    # bars show a spike as it is, where there is room for them; lines smooth it
    room = ceil(_BAR * len(max(shapes, key=len))) + _PADDING
    shape = st.column_config.BarChartColumn if room <= _WIDEST_SHAPE else st.column_config.LineChartColumn
    heading = "Shape to date" if any(each[-1].end > answer.closed_until for each in points) else "Shape"
    shape_width = min(max(room, _SHAPE, grid.width(heading, [])), _WIDEST_SHAPE)
    drawing = shape(
        heading,
        help="The buckets of the window up to now, from zero, relative to the largest of the series and copied so. "
        "A first bucket that is cut is left out; a newest one that is not finished is lower for that.",
        color="gray",
        # one zero line for all rows: Streamlit draws a row without a positive value from its own largest one
        y_min=min([0.0, *(value for values in shapes for value in values)]),
        y_max=1.0,
        width=shape_width,
    )
    rounded = grid.numbers("Total", totals, formatting.exact if fits else formatting.short)
    if not fits and rounded.shown:  # without it the digits themselves are on screen
        rounded.config["help"] = "Long totals are rounded here; a copy has every digit"
    ratios = {
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
    labels = [_label(answer, *each) for each in zip(answer.series, names(answer), strict=True)]
    others = _SQUARE + sum(column.width for column in ratios.values()) + _BORDER
    name_width = max(_NAME, min(grid.width(name, labels), _WIDEST_NAME, _PHONE - others))
    button = st.column_config.ButtonColumn(
        name,
        key=key,
        on_click=clicked,
        type="tertiary",
        alignment="left",
        width=name_width,
        help="Click a name to filter to it",
    )
    columns = {
        # Streamlit's CSV leaves buttons out: the series as a download has it is the value behind the square
        # a heading without a text fails WCAG
        "series": grid.texts("■", frames.spellings(answer), lambda _: "■", width=_SQUARE),
        "name": grid.Column(pd.Series(labels, dtype="object"), button),
        **ratios,
        "shape": grid.Column(pd.Series(shapes, dtype="object"), drawing),
    }
    shapeless = others + name_width
    width = shapeless + shape_width + _SLACK
    st.html(_SIDE_BY_SIDE.format(width=width, narrow=width + _MARGINS, shapeless=shapeless))
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


def _begun(answer: Aggregate, series: Series) -> Sequence[Point]:
    """The buckets that began before now, without a first one that is cut."""
    begun = [point for point in series.points if point.start < answer.closed_until] or series.points
    return begun[1:] if len(begun) > 1 and not begun[0].complete else begun


def _shape(points: Sequence[Point]) -> list[float]:
    """The newest values relative to the largest of them: rows with one scale have one zero line."""
    values = [float(point.value) for point in points[-_LONGEST:]]
    largest = max(map(abs, values)) or 1.0
    return [value / largest for value in values]


def _changes(answer: Aggregate, comparison: Comparison | str) -> list[float | None]:
    """The ratio by which each series changed: infinite where there was nothing before, None where nothing is known."""
    if isinstance(comparison, str):
        return [None] * len(answer.series)
    return [
        None if not (each.before or each.now) else inf if each.ratio is None else float(each.ratio)
        for each in comparison.series
    ]
