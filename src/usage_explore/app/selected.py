"""What the Explore page shows of its selection: its headline, and the bar with the list of times, Zoom and Clear."""

from __future__ import annotations

from datetime import datetime

import streamlit as st

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.app import markdown, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.header import headline_number
from usage_explore.app.navigation import changed, follow, go
from usage_explore.app.page_state import ExploreView
from usage_explore.charts import labels
from usage_explore.comparison import per_day
from usage_explore.decimals import UNIT_COST_DIGITS
from usage_explore.explain.spans import Span
from usage_explore.query import buckets
from usage_explore.query.buckets import Bucket
from usage_explore.query.queries import COST_METRICS, RATIOS
from usage_explore.results.types import Change
from usage_explore.results.units import value_name
from usage_explore.selection import Selection, Windows, whole_of

MAX_ZOOMED_BUCKETS = 400
"""Buckets up to which a zoom takes a finer one: more are too thin to pick."""

_MAX_NAME = 60  # characters of a series

_FINER: dict[str, tuple[Bucket, ...]] = {"month": ("day",), "week": ("day", "hour"), "day": ("hour",), "hour": ()}
"""Buckets that a zoom may take, the nearest first."""


def large_text(value: str) -> str:
    """A number as the Markdown of a headline."""
    return markdown.plain(formatting.typographic(value))


def unit_words(answer: Aggregate) -> str:
    """What the numbers are: "events", "tokens", "cost in USD"."""
    return labels.unit(answer) if answer.query.metric in COST_METRICS else value_name(answer, answer.total)


def exact_words(answer: Aggregate, unit: str) -> str:
    """The total with every digit, and what it is."""
    if len(answer.currencies) > 1:
        return "Amounts in different currencies do not add up."
    number = formatting.exact(answer.total)
    if answer.query.metric not in COST_METRICS:
        return f"Exactly {number} {unit}."
    if answer.query.metric not in RATIOS:
        return f"Exactly {number}, {unit}."
    meaning = f"the cost divided by the quantity of the events that have a cost, to {UNIT_COST_DIGITS} digits."
    return f"{number}, {unit}: {meaning}" if answer.total is not None else f"No quantity to divide by: {meaning}"


def other_unit(answer: Aggregate, unit: str | None) -> str:
    """The note beside a number of another period that is not in the answer's unit."""
    return "" if unit == answer.unit else " (of metrics in other units)"


def selected_headline(source: Source, answer: Aggregate, selection: Selection, compared: Windows | str) -> None:
    """The selection in words, its number, and its change."""
    whole = whole_of(selection)
    result = source.aggregate(whole)
    unit = unit_words(result)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="headline"):
        headline_number(
            large_text(formatting.short(result.total)),
            ", ".join(filter(None, (unit, selection.words(answer), result.adds))),
            formatting.typographic(exact_words(result, unit)),
        )
        if isinstance(compared, str):
            headline_number("–", compared, "A change needs an earlier period that lies wholly within the events.")
        else:
            ours, theirs = (
                result
                if span == Span(*whole.span)
                else source.aggregate(whole.replace(since=span.since, until=span.until))
                for span in (compared.now, compared.before)
            )
            now, before, other = ours.total, theirs.total, other_unit(result, theirs.unit) if theirs.metrics else ""
            change = Change(now, before)
            spans = [(span.since, span.until) for span in (compared.now, compared.before)]
            mean = formatting.typographic(per_day(whole, spans[0], spans[1], change))
            text = formatting.change(change.ratio) if now is not None and (now or before) else "–"
            headline_number(
                large_text("no change" if now is not None and now == before else text),
                ", ".join(filter(None, (compared.label, mean))),
                formatting.typographic(f"{formatting.exact(now)} {unit}, before {formatting.exact(before)}{other}."),
            )
        if result.adds_up and result.total is not None and answer.total is not None and whole.metric not in RATIOS:
            share = formatting.percent(result.total, answer.total)
            headline_number(large_text(share), "of the window", "The part of the total.")


def selection_bar(view: ExploreView, answer: Aggregate, selection: Selection) -> None:
    """The selected time and series as lists, which the keyboard and screen readers reach; Zoom and Clear for a
    selection.
    """
    totals = labels.bucket_totals(answer)
    unit = unit_words(answer)
    spoken: dict[tuple[datetime, ...], str] = {(): "Select a time"}
    for index, (point, total) in enumerate(zip(answer.series[0].points, totals, strict=True)):
        if not labels.has_not_begun(answer, index, total):
            when = labels.bucket_label(answer, point).removesuffix(f", {answer.query.timezone}")
            spoken[point.start, point.end] = f"{when}: {formatting.exact(total)} {unit}"
    picked = selection.span or ()
    since, until = answer.query.span
    for start, end in (key for key in spoken if key):
        if picked == (max(start, since), min(end, until)):
            picked = start, end
    spoken.setdefault(picked, selection.words(answer))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="selection"):
        # a browser sends an option's text, which is unknown among options with other numbers: those are another list
        key = follow(f"selected_time {hash(tuple(spoken.values()))}", picked)
        st.selectbox(
            "Selected time",
            list(spoken),
            key=key,
            format_func=lambda span: spoken.get(span, ""),
            on_change=changed(key, view, lambda span: view.replace(span=span or None) if span in spoken else view),
            label_visibility="collapsed",
            width=300,
        )
        if len(answer.series) > 1:
            _series_input(view, answer, selection)
        if not selection:
            return
        span = selection.span
        if span is not None and span != answer.query.span:
            st.button(
                "Zoom",
                type="tertiary",
                icon=":material/zoom_in:",
                key="zoom",
                help="Make the selected time the window, in finer buckets.",
                on_click=lambda: go(view, lambda: zoomed(view, span)),
            )
        clear_button(view)


def _series_input(view: ExploreView, answer: Aggregate, selection: Selection) -> None:
    """The selected series as a list: in the chart and the ranking only a pointer selects one."""
    drawn = [(series.kind, series.key) for series in answer.series]
    spoken: dict[tuple[str, str | None] | tuple[()], str] = {(): "Select a series"}
    spoken.update(zip(drawn, labels.names(answer), strict=True))
    picked = (selection.series.kind, selection.series.key) if selection.series else ()
    spoken.setdefault(picked, selection.series_label(answer))
    key = follow(f"selected_series {hash(tuple(spoken))}", picked)
    st.selectbox(
        "Selected series",
        list(spoken),
        key=key,
        format_func=lambda series: formatting.shortened(formatting.short_ids(spoken.get(series, "")), _MAX_NAME),
        on_change=changed(key, view, lambda series: view.replace(series=series or None) if series in spoken else view),
        label_visibility="collapsed",
        width=220,
    )


def clear_button(view: ExploreView) -> None:
    """Draw the button that clears the selection."""
    st.button(
        "Clear",
        type="tertiary",
        icon=":material/close:",
        key="clear_selection",
        help="Clear the selection.",
        on_click=lambda: go(view, lambda: view.replace(series=None, span=None)),
    )


def settled_series(view: ExploreView, selection: Selection) -> ExploreView:
    """The view with its selected Other as filters: what Other contains changes with every other filter."""
    if selection.series is None or selection.series.kind != "other":
        return view
    return view.replace(query=query_edits.with_filters_of(view.query, selection.query), series=None)


def zoomed(view: ExploreView, span: tuple[datetime, datetime]) -> ExploreView:
    """The view whose window is the span, in a finer bucket; the selected series stays selected."""
    query = view.query.replace(window=None, since=span[0], until=span[1])
    bucket = query.bucket
    for finer in _FINER.get(bucket, ()):
        if len(buckets.edges(*span, finer, query.zone)) - 1 <= MAX_ZOOMED_BUCKETS:
            bucket = finer
    return view.replace(query=query.replace(bucket=bucket), span=None)
