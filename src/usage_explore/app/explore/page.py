"""The Explore page: a question, its chart, its ranking, and the events behind it."""

from __future__ import annotations

import streamlit as st

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.app import organization, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.chips import chips, without_filters
from usage_explore.app.explore.chart import chart
from usage_explore.app.explore.controls import chart_kind, controls
from usage_explore.app.explore.headline import headline
from usage_explore.app.explore.ranking import ranking
from usage_explore.app.explore.tabs import tabs
from usage_explore.app.header import header
from usage_explore.app.navigation import go, notice
from usage_explore.app.page_state import EventsView, ExploreView, shared_filters
from usage_explore.app.pages import Pages
from usage_explore.app.problems import no_events, sentence, shown
from usage_explore.app.share import share
from usage_explore.app.validate.view import ValidateView
from usage_explore.query.base import Windowed
from usage_explore.query.describe import describe
from usage_explore.query.queries import EventQuery, Period
from usage_explore.results.types import Series


def draw(pages: Pages) -> None:
    """Draw the page that the address bar asks for. Raises `UsageExploreError`."""
    found = organization.opened(ExploreView)
    if found is None:
        return
    view, source = found
    header(
        pages,
        view,
        now=source.now,
        timezone=view.query.timezone,
        in_zone=lambda zone: view.asking(view.query.replace(timezone=zone)),
        links=(view.to_params(), _events_view(view, source).to_params(), _validate_view(view).to_params()),
        share=lambda: share("", view.replace(query=source.pinned(view.query)), source.store.app_url),
    )
    controls(view, source)
    with st.container(horizontal=True, vertical_alignment="center", key="filters"):
        chips(view, source)
        chart_kind(view)
    notice()
    with shown():
        _answer(pages, view, source)


def _answer(pages: Pages, view: ExploreView, source: Source) -> None:
    answer = source.aggregate(view.query)
    comparison = source.comparison(answer)
    if _is_empty(answer, source):
        _nothing(view, source)
        return
    headline(answer, comparison)
    dark = st.context.theme.type == "dark"
    if answer.query.group_by == "none":
        chart(view, answer, dark)
    else:
        with st.container(key="answer"):
            left, right = st.columns([5, 3], gap="medium")
        with left:
            chart(view, answer, dark)
        with right:
            ranking(answer, comparison, dark, lambda series: _narrow(view, answer, series))
    tabs(pages, view, source, answer)


def _is_empty(answer: Aggregate, source: Source) -> bool:
    """Whether no event was found. Quantities that add up to zero are not nothing."""
    if any(point.value for series in answer.series for point in series.points):
        return False
    return not answer.series or not source.count(answer.events_at(answer.series[0]))


def _narrow(view: ExploreView, answer: Aggregate, series: Series) -> None:
    # all events of the narrowed question are the series': another one that was picked has none
    go(lambda: view.replace(series=None).asking(query_edits.into(answer, view.query, series)))


def _nothing(view: ExploreView, source: Source) -> None:
    """No event: say so, and where there are some."""
    query = view.query
    asked = query.resolve(source.now)
    said = [f"No events match: {describe(asked)}."]
    extent = source.extent()
    if extent is None:
        no_events(" ".join([*said, "This organization has no events."]))
        return
    first, last = (moment.astimezone(query.zone) for moment in extent)
    wide = query_edits.with_extent(query, first, last)
    wider = wide.span != asked.span
    if query_edits.filters(query):
        said.append("Remove a filter or widen the window." if wider else "Remove a filter.")
    days = formatting.span(*(edge.astimezone(query.zone) for edge in wide.span))
    sentence(" ".join([*said, f"This organization's events lie within {days}, {query.timezone}."]))
    with st.container(horizontal=True, gap="small", key="nothing"):
        if wider:
            st.button(f"Show {days}", key="show_extent", on_click=lambda: go(lambda: view.asking(wide)))
        without_filters(view)


def _events_view(view: ExploreView, source: Source) -> EventsView:
    """The Events page for the same filters and window; a live window stays open at its end."""
    since, until = view.query.resolve(source.now).span
    live = view.query.until == "now" and not view.query.window
    query = EventQuery(**shared_filters(view.query), occurred_after=since, occurred_before=None if live else until)
    return EventsView(query, view.query.timezone)


def _validate_view(view: ExploreView) -> ValidateView:
    """The Validate page for the same filters and window, which may stay relative."""
    window = {name: value for name, value in view.query.given().items() if name in Windowed.model_fields}
    return ValidateView(Period(**window))
