"""The chart of an aggregate on the Explore page, with its selected bar or time span."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import streamlit as st

from usage_explore import charts
from usage_explore.answers import Aggregate
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.navigation import go
from usage_explore.app.page_state import ExploreView
from usage_explore.app.problems import sentence
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Series, SeriesKind
from usage_explore.store.display import ChartKind, Span

_NOTHING: tuple[dict[str, dict[str, Any]], AggregateQuery | None] = ({}, None)
"""The state of a chart without a selection."""

_HOVER = {
    "type": "point",
    "fields": ["series"],
    "on": {"type": "pointerover", "filter": "event.item && event.item.datum && event.item.datum.series"},
    "clear": "pointerout",
}
"""The selection of the series under the pointer; above the bars, where a mark is of a whole bucket, of none."""

_DIMMED = 0.3
"""Opacity of the other series."""


def chart(view: ExploreView, source: Source, answer: Aggregate, dark: bool) -> None:
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
    key = _chart_key()
    spec = dict(
        _spec(
            answer,
            answer.query,
            answer.capped,
            answer.now,
            view.chart,
            dark,
            source.frequent(answer.query.group_by),
        )
    )
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
    _answer: Aggregate,
    query: AggregateQuery,
    capped: bool,
    now: datetime,
    kind: ChartKind,
    dark: bool,
    frequent: tuple[str, ...],
) -> dict[str, Any]:
    """The chart without its legend, which is the ranking; a series under the pointer dims the others."""
    spec = charts.spec(_answer, kind=kind, dark=dark, frequent=frequent)
    pick = next(param for param in spec["params"] if param["name"] == "pick")
    # a selection that the page does not ask for stays in the browser
    hover = {"name": "hover", "select": _HOVER, "views": pick["views"]} if _has_series(spec, pick["views"]) else None
    for layer in spec["layer"]:
        encoding = layer.get("encoding", {})
        for channel in ("color", "stroke", "shape"):
            if "legend" in encoding.get(channel, {}):
                encoding[channel]["legend"] = None
        if encoding.get("opacity", {}).get("condition", {}).get("param") == "legend":
            del encoding["opacity"]
            if hover:
                encoding["opacity"] = {"value": _DIMMED, "condition": {"param": "hover", "value": 1}}
    spec["params"] = [*(param for param in spec["params"] if param["name"] != "legend"), *([hover] if hover else [])]
    return spec


def _has_series(spec: dict[str, Any], views: Sequence[str]) -> bool:
    """Whether the marks under the pointer are those of single series, of which there are several."""
    (layer,) = [layer for layer in spec["layer"] if layer.get("name") in views]
    domain = layer["encoding"].get("color", {}).get("scale", {}).get("domain", ())
    return layer["data"].get("name") == "points" and len(domain) > 1


def _shown(
    view: ExploreView, answer: Aggregate, series: tuple[SeriesKind, str | None] | None, span: Span | None
) -> tuple[dict[str, dict[str, Any]], AggregateQuery | None]:
    """The chart's marks of a selection, and the query whose axes they belong to; None without a selection."""
    return _marked(answer, series, span), view.query if span else None


def _marked(
    answer: Aggregate, series: tuple[SeriesKind, str | None] | None, span: Span | None
) -> dict[str, dict[str, Any]]:
    """The initial marks: the selected bar, else the selected span clipped to the chart."""
    chosen = charts.marked(answer, series, span)
    if chosen is None:
        return {}
    if chosen.position is not None:
        return {"pick": {"value": [{"start": chosen.start, "position": chosen.position}]}}
    return {"brush": {"value": {"x": [chosen.start, chosen.end]}}}


def _chart_key() -> str:
    """The chart's widget key, which changes with its initial marks."""
    return f"chart {st.session_state.get('chart_epoch', 0)}"


def _select(view: ExploreView, answer: Aggregate, key: str) -> None:
    """Write a clicked bar, a brushed span, or a cleared selection to the URL.

    A chart also reports without a click. When resized, it reports its initial brush, which may be less than the
    selection in the URL, such as a day among hours without its series. When replaced, it reports pending events.
    """
    if key != _chart_key():
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
