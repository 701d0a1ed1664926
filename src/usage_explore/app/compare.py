"""The controls of the Explore page for running totals and for the period to compare with."""

from __future__ import annotations

from datetime import datetime
from functools import partial

import streamlit as st

from usage_explore.app.cache import Source
from usage_explore.app.filters import FROM, UP_TO, time_input
from usage_explore.app.navigation import changed, follow
from usage_explore.app.page_state import ExploreView
from usage_explore.comparison import other_span

_PERIODS = {
    "off": "chart this period only",
    "previous": "chart with period before",
    "year": "chart with year before",
    "custom": "chart with custom period",
}
"""The periods to draw beside the window's, and their labels. The headline compares with the period before anyway."""


def compare_input(view: ExploreView, source: Source) -> None:
    """Draw the choice of the period that the chart and the tables compare with."""
    compare = view.query.compare

    def picked(name: str) -> ExploreView:
        period: object = None if name == "off" else name
        if name == "custom":
            query = view.query.resolve(source.now)
            period = other_span(query.replace(compare=compare or "previous"))
        return view.with_query(view.query.replace(compare=period))

    key = follow("compare", "off" if compare is None else compare if compare in _PERIODS else "custom")
    st.selectbox(
        "compared with",
        tuple(_PERIODS),
        key=key,
        format_func=_PERIODS.__getitem__,
        on_change=changed(key, view, picked),
        width=215,
        label_visibility="collapsed",
    )


def custom_period_inputs(view: ExploreView, source: Source) -> None:
    """Draw both ends of a custom period to compare with, if it is chosen."""
    query = view.query
    if query.compare is None or query.compare in _PERIODS:
        return
    since, until = other_span(query.resolve(source.now))

    def moved(name: str, picked: datetime | None) -> ExploreView:
        edges = {"since": since, "until": until}
        return view.with_query(query.replace(compare=tuple((edges | {name: picked or edges[name]}).values())))

    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="compared_range"):
        for name, label, moment in (("since", f"compared {FROM}", since), ("until", UP_TO, until)):
            time_input(label, moment, view, partial(moved, name), key=f"compared_{name}")


def running_total_input(view: ExploreView) -> None:
    """Draw the switch between values per bucket and running totals."""
    key = follow("cumulative", view.query.cumulative)
    st.toggle(
        "Running total",
        key=key,
        on_change=changed(key, view, lambda on: view.with_query(view.query.replace(cumulative=on))),
    )
