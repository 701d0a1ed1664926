"""The chart on the page, and what is clicked or brushed in it."""

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
from usage_explore.charts.axes import millis
from usage_explore.query.queries import AggregateQuery
from usage_explore.results.types import Series, SeriesKind

_NOTHING: tuple[dict[str, dict[str, Any]], AggregateQuery | None] = ({}, None)
"""The marks of a chart without a selection."""


def chart(view: ExploreView, answer: Aggregate, dark: bool) -> None:
    """Draw the chart under its title. Its own selection and the URL's are kept the same: where they differ, afresh.

    Where the values cannot be drawn a sentence says so.
    """
    if why := charts.undrawable(answer):
        sentence(f"There is no chart: {why}.")
        return
    shown_by_url = _shown(view, answer, view.series, view.span)
    if st.session_state.get("chart_shown", _NOTHING) != shown_by_url:
        st.session_state["chart_epoch"] = st.session_state.get("chart_epoch", 0) + 1
        st.session_state["chart_shown"] = st.session_state["chart_start"] = shown_by_url
    key = _key()
    spec = dict(_spec(answer, answer.query, answer.capped, answer.now, view.chart, dark))
    _title(spec.pop("title"))
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
    """The chart as Vega-Lite; the charts' own tests check it against the schema, which takes longer than drawing."""
    found: dict[str, Any] = charts.chart(_answer, kind=kind, dark=dark).to_dict(validate=False)
    return found


def _shown(
    view: ExploreView, answer: Aggregate, series: tuple[SeriesKind, str | None] | None, span: Span | None
) -> tuple[dict[str, dict[str, Any]], AggregateQuery | None]:
    """What a chart of the answer marks, and the question whose axes it is marked on; nothing where nothing is."""
    return _marked(answer, series, span), view.query if span else None


def _marked(
    answer: Aggregate, series: tuple[SeriesKind, str | None] | None, span: Span | None
) -> dict[str, dict[str, Any]]:
    """What a chart begins with: the bar that the link names, else its span as far as it lies in the chart."""
    if span is None or not (span[0] < answer.edges[-1] and answer.edges[0] < span[1]):
        return {}
    place = next((place for place, each in enumerate(answer.series) if (each.kind, each.key) == series), None)
    if place is not None and span in pairwise(answer.edges):
        return {"pick": {"value": [{"start": millis(span[0]), "position": place}]}}
    edges = [millis(max(span[0], answer.edges[0])), millis(min(span[1], answer.edges[-1]))]
    return {"brush": {"value": {"x": edges}}}


def _title(title: dict[str, Any]) -> None:
    """The chart's title as the page's text: it wraps on a narrow screen and is read out."""
    notes = "  \n".join(markdown.plain(note) for note in title.get("subtitle", ()))
    sentence = markdown.plain(" ".join(title["text"]))
    st.markdown(f"**{sentence}**" + (f"  \n:small[:gray[{notes}]]" if notes else ""))


def _key() -> str:
    """The key of the chart that is drawn; one that begins with other marks has another key."""
    return f"chart {st.session_state.get('chart_epoch', 0)}"


def _select(view: ExploreView, answer: Aggregate, key: str) -> None:
    """A bar was clicked, a span brushed, or either cleared: hold it in the URL.

    A chart also reports without a click. Resized, it reports the brush that it began with, which may be less than the
    URL holds, such as a picked day among hours without its series. Replaced, it reports what was pending.
    """
    if key != _key():
        return
    shown_by_start = st.session_state.get("chart_start", _NOTHING)
    # a selection that is not in the report is as it began
    begun = {name: mark["value"] for name, mark in shown_by_start[0].items()}
    selection = begun | dict(st.session_state[key]["selection"])
    if st.session_state.get("chart_shown", _NOTHING) == shown_by_start and _marks(selection) == _marks(begun):
        return
    series: Series | None = None
    span = charts.brushed(answer, selection)
    if span is None and (found := charts.picked(answer, selection)):
        series, start = found
        span = start, answer.edges[answer.edges.index(start) + 1]
    picked = ((series.kind, series.key) if series else None), span
    st.session_state["chart_shown"] = _shown(view, answer, *picked)
    go(lambda: view.replace(series=picked[0], span=picked[1]))


def _marks(selection: dict[str, Any]) -> tuple[list[Any], list[int]]:
    """The picked marks, and the brush's edges in whole seconds: they come back from pixels."""
    edges = [edge for edges in (selection.get("brush") or {}).values() for edge in edges]
    return list(selection.get("pick") or ()), [round(edge / 1_000) for edge in edges]
