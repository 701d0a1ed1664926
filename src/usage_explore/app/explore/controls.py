"""The controls of the Explore page, in the order of the sentence "show quantity by model per day for 30 days"."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import get_args

import streamlit as st

from usage_explore.app.cache import Source
from usage_explore.app.navigation import changed, follow
from usage_explore.app.page_state import ChartKind, ExploreView
from usage_explore.app.query_edits import PRESETS, preset, with_bucket, with_preset
from usage_explore.query.describe import group_name
from usage_explore.query.filters import DIMENSION, GROUPS
from usage_explore.query.queries import METRICS

_TOPS = (3, 5, 8, 12, 20, 50, 0)


def controls(view: ExploreView, source: Source) -> None:
    """Draw them; each change is a new view in the address bar."""
    query = view.query
    with st.container(horizontal=True, vertical_alignment="top", gap="medium", key="controls"):
        key = follow("metric", query.metric)
        st.segmented_control(
            "Show",
            tuple(METRICS),
            key=key,
            format_func=METRICS.__getitem__,
            required=True,
            on_change=changed(key, lambda picked: view.asking(query.replace(metric=picked))),
        )
        key = follow("group_by", query.group_by)
        st.selectbox(
            "by",
            groups(source, query.group_by),
            key=key,
            format_func=group_label,
            on_change=changed(key, lambda picked: view.asking(query.replace(group_by=picked))),
            width=170,
        )
        if query.group_by != "none":
            key = follow("top", query.top)
            st.selectbox(
                "keep",
                sorted({*_TOPS, query.top}, key=lambda top: (top == 0, top)),
                key=key,
                format_func=lambda top: f"top {top}" if top else "all",
                on_change=changed(key, lambda picked: view.asking(query.replace(top=picked))),
                width=100,
                help="The largest series are drawn on their own, the rest as one series called Other.",
            )
        key = follow("bucket", query.bucket)
        st.segmented_control(
            "per",
            ("hour", "day", "week"),
            key=key,
            required=True,
            on_change=changed(key, lambda picked: view.asking(with_bucket(query, picked))),
        )
        key = follow("preset", preset(query))
        st.segmented_control(
            "for",
            tuple(PRESETS),
            key=key,
            format_func=PRESETS.__getitem__,
            wrap=True,
            on_change=changed(
                key, lambda picked: view.asking(with_preset(query, picked, source.now)) if picked else view
            ),
        )
    if preset(query) == "custom":
        _exact_range(view, source)


def chart_kind(view: ExploreView) -> None:
    """How the answer is drawn."""
    key = follow("chart_kind", view.chart)
    st.segmented_control(
        "Drawn as",
        get_args(ChartKind),
        key=key,
        required=True,
        label_visibility="collapsed",
        on_change=changed(key, lambda picked: view.replace(chart=picked)),
    )


def groups(source: Source, *shown: str) -> tuple[str, ...]:
    """What can be grouped by: nothing, the columns, and every dimension found in the data."""
    found = (DIMENSION + key for key in source.dimension_keys())
    return tuple(dict.fromkeys(("none", "metric_key", *found, *GROUPS, *shown)))


def group_label(group: str) -> str:
    """A group in a list; where a dimension is named like a column, it says that it is one."""
    if group == "none":
        return "nothing"
    name = group_name(group)
    columns = {group_name(column) for column in GROUPS}
    return f"{name} (dimension)" if group.startswith(DIMENSION) and name in columns else name


def _exact_range(view: ExploreView, source: Source) -> None:
    query = view.query
    since, until = (edge.astimezone(query.zone) for edge in query.resolve(source.now).span)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="exact_range"):
        for name, label, edge in (("since", "from", since), ("until", "up to", until)):
            key = follow(f"exact_{name}", edge.replace(tzinfo=None, second=0, microsecond=0))
            st.datetime_input(
                label,
                key=key,
                format="YYYY-MM-DD",
                on_change=changed(key, partial(_moved, view, source, name)),
                width=230,
            )
        st.caption(f"{query.timezone}; the end is not included", width="content")


def _moved(view: ExploreView, source: Source, name: str, picked: datetime | None) -> ExploreView:
    if picked is None:
        return view
    resolved = view.query.resolve(source.now)
    changes = {"since": resolved.since, "until": resolved.until, name: picked.replace(tzinfo=resolved.zone)}
    return view.asking(view.query.replace(window=None, **changes))
