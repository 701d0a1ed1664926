"""The Explore page's chart, and the selection of a bar or a time span in it."""

from __future__ import annotations

from datetime import datetime
from itertools import pairwise
from typing import Any

import streamlit as st

from usage_explore import charts
from usage_explore.answers import Aggregate
from usage_explore.app import markdown
from usage_explore.app.navigation import go
from usage_explore.app.page_state import ChartKind, ExploreView, Span
from usage_explore.app.problems import sentence
from usage_explore.charts.style import millis
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Series, SeriesKind

_NOTHING: tuple[dict[str, dict[str, Any]], AggregateQuery | None] = ({}, None)
"""The state of a chart without a selection."""


def chart(view: ExploreView, answer: Aggregate, dark: bool) -> None:
    """Draw the chart under its title. If its selection differs from the URL's, it is drawn as a new widget.

    If the values are beyond what a chart can draw, a sentence says so.
    """
    if reason := charts.undrawable(answer):
        sentence(f"There is no chart: {reason}.")
        return
    shown_by_url = _shown(view, answer, view.series, view.span)
    if st.session_state.get("chart_shown", _NOTHING) != shown_by_url:
        st.session_state["chart_epoch"] = st.session_state.get("chart_epoch", 0) + 1
        st.session_state["chart_shown"] = st.session_state["chart_start"] = shown_by_url
    key = _key()
    spec = dict(_spec(answer, answer.query, answer.capped, answer.now, view.chart, dark))
    st.markdown(markdown.chart_title(spec.pop("title")))
    start, _ = st.session_state.get("chart_start", _NOTHING)
    spec["params"] = [param | start.get(param["name"], {}) for param in spec["params"]]
    st.vega_lite_chart(
        spec=spec,
        theme=None,
        key=key,
        on_select=lambda: _select(view, answer, key),
        selection_mode=["pick", "brush"],
    )


@st.cache_resource(ttl=60, max_entries=20, show_spinner=False, hash_funcs={AggregateQuery: repr})
def _spec(
    _answer: Aggregate, query: AggregateQuery, capped: bool, now: datetime, kind: ChartKind, dark: bool
) -> dict[str, Any]:
    """The chart as Vega-Lite, not validated: that takes longer than drawing, and the charts' tests do it."""
    spec: dict[str, Any] = charts.chart(_answer, kind=kind, dark=dark).to_dict(validate=False)
    return spec


def _shown(
    view: ExploreView, answer: Aggregate, series: tuple[SeriesKind, str | None] | None, span: Span | None
) -> tuple[dict[str, dict[str, Any]], AggregateQuery | None]:
    """The chart's marks of a selection, and the query whose axes they belong to; None without a selection."""
    return _marked(answer, series, span), view.query if span else None


def _marked(
    answer: Aggregate, series: tuple[SeriesKind, str | None] | None, span: Span | None
) -> dict[str, dict[str, Any]]:
    """The initial marks: the selected bar, else the selected span clipped to the chart."""
    if span is None or not (span[0] < answer.edges[-1] and answer.edges[0] < span[1]):
        return {}
    index = next((index for index, item in enumerate(answer.series) if (item.kind, item.key) == series), None)
    if index is not None and span in pairwise(answer.edges):
        return {"pick": {"value": [{"start": millis(span[0]), "position": index}]}}
    edges = [millis(max(span[0], answer.edges[0])), millis(min(span[1], answer.edges[-1]))]
    return {"brush": {"value": {"x": edges}}}


def _key() -> str:
    """The chart's widget key, which changes with its initial marks."""
    return f"chart {st.session_state.get('chart_epoch', 0)}"


def _select(view: ExploreView, answer: Aggregate, key: str) -> None:
    """Write a clicked bar, a brushed span, or a cleared selection to the URL.

    A chart also reports without a click. When resized, it reports its initial brush, which may be less than the
    selection in the URL, such as a day among hours without its series. When replaced, it reports pending events.
    """
    if key != _key():
        return
    shown_by_start = st.session_state.get("chart_start", _NOTHING)
    # a selection that is not in the report has not changed
    initial = {name: mark["value"] for name, mark in shown_by_start[0].items()}
    selection = initial | dict(st.session_state[key]["selection"])
    if st.session_state.get("chart_shown", _NOTHING) == shown_by_start and _marks(selection) == _marks(initial):
        return
    series: Series | None = None
    span = charts.brushed(answer, selection)
    if span is None and (bar := charts.picked(answer, selection)):
        series, start = bar
        span = start, answer.edges[answer.edges.index(start) + 1]
    picked = ((series.kind, series.key) if series else None), span
    st.session_state["chart_shown"] = _shown(view, answer, *picked)
    go(view, lambda: view.replace(series=picked[0], span=picked[1]))


def _marks(selection: dict[str, Any]) -> tuple[list[Any], list[int]]:
    """The selected bars, and the brush's edges rounded to seconds, as they are computed from pixels."""
    edges = [edge for edges in (selection.get("brush") or {}).values() for edge in edges]
    return list(selection.get("pick") or ()), [round(edge / 1_000) for edge in edges]
