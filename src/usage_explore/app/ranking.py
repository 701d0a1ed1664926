"""The ranking: each series with its total, share, change and shape; a click on its name filters to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
import streamlit as st

from usage_explore import charts
from usage_explore.answers import Aggregate, Series
from usage_explore.app import words
from usage_explore.charts.words import names
from usage_explore.comparison import Comparison
from usage_explore.describe import group_name
from usage_explore.filters import ID_COLUMNS

_WIDEST, _FEW, _LONGEST = 16, 48, 200


def ranking(answer: Aggregate, comparison: Comparison | str, dark: bool, narrow: Callable[[Series], None]) -> None:
    """Draw it; `narrow` is called with the series whose name was clicked."""
    colours = charts.colors(answer, dark)
    total = answer.total
    totals = [words.exact(series.total) for series in answer.series]
    fits = all(len(text) <= _WIDEST for text in totals)
    name = group_name(answer.query.group_by).capitalize()
    frame = pd.DataFrame(
        {
            "": "■",
            name: [_label(answer, *each) for each in zip(answer.series, names(answer), strict=True)],
            "Total": totals if fits else [words.short(series.total) for series in answer.series],
            "Share": [words.share(series.total, total) for series in answer.series],
            "Change": _changes(answer, comparison),
            "Shape": [[] if charts.undrawable(answer) else _shape(series) for series in answer.series],
        }
    )
    key = "ranking"

    def clicked() -> None:
        click = st.session_state[key]
        if click is not None and click["row"] < len(answer.series):
            narrow(answer.series[click["row"]])

    # bars show a spike as it is, where there is room for them; lines smooth it
    shape = st.column_config.BarChartColumn if len(answer.edges) <= _FEW else st.column_config.LineChartColumn
    lowest = min([0.0, *(value for values in frame["Shape"] for value in values)])
    config: dict[str, Any] = {
        "": st.column_config.TextColumn("", width=20),
        name: st.column_config.ButtonColumn(
            name,
            key=key,
            on_click=clicked,
            type="tertiary",
            alignment="left",
            width=150,
            help="Click a name to filter to it",
        ),
        "Total": st.column_config.TextColumn(
            "Total" if fits else "Total, rounded", alignment="right", help="Exact totals are in the Data tab"
        ),
        "Share": st.column_config.TextColumn("Share", alignment="right"),
        "Change": st.column_config.TextColumn(
            "Change", alignment="right", help=comparison if isinstance(comparison, str) else comparison.label
        ),
        "Shape": shape("Shape", help="The finished buckets of the window, from zero", color="gray", y_min=lowest),
    }
    styled = frame.style.apply(
        lambda column: [f"color: {colours[index]}" for index in range(len(column))], axis=0, subset=[""]
    )
    st.dataframe(
        styled,
        hide_index=True,
        column_config=config,
        height="auto" if len(answer.series) <= 10 else 390,
        alt=f"{name} ranked by total",
    )


def _label(answer: Aggregate, series: Series, called: str) -> str:
    """The series as the legend calls it; ids by their first digits, Other with how many it holds."""
    if series.kind == "other":
        return f"{called} ({series.members:,})"
    if answer.query.group_by in ID_COLUMNS and series.key:
        return f"{series.key[:8]}…"
    return called


def _shape(series: Series) -> list[float]:
    """The finished buckets: an unfinished one would look like a drop."""
    finished = [float(point.value) for point in series.points if point.complete]
    return (finished or [float(point.value) for point in series.points])[-_LONGEST:]


def _changes(answer: Aggregate, comparison: Comparison | str) -> list[str]:
    if isinstance(comparison, str):
        return ["–"] * len(answer.series)
    return [words.change(each.ratio) if each.before or each.now else "–" for each in comparison.series]
