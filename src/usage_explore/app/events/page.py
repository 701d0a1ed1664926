"""The Events page: raw events newest first, page by page, one of them in full, and all of them as a file."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.answers import EventPage
from usage_explore.app import grid, markdown, organization, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.chips import chips, without_filters
from usage_explore.app.code import snippets
from usage_explore.app.events import detail as event
from usage_explore.app.events.export import export
from usage_explore.app.events.table import counted, events_table
from usage_explore.app.header import header
from usage_explore.app.navigation import changed, follow, go, notice
from usage_explore.app.page_state import EventsView, ExploreView, shared_filters
from usage_explore.app.pages import Pages
from usage_explore.app.problems import no_events, sentence, shown
from usage_explore.app.share import share
from usage_explore.app.validate.view import ValidateView
from usage_explore.query.describe import filter_words
from usage_explore.query.queries import AggregateQuery, Period

_LIMITS = (25, 50, 100)


def draw(pages: Pages) -> None:
    """Draw the page that the address bar asks for. Raises `UsageExploreError`."""
    found = organization.opened(EventsView)
    if found is None:
        return
    view, source = found
    header(
        pages,
        view,
        now=source.now,
        timezone=view.timezone,
        in_zone=lambda zone: view.replace(timezone=zone),
        links=(_explore_view(view).to_params(), view.to_params(), _validate_view(view).to_params()),
        share=lambda: share("events", _pinned(view, source), source.store.app_url),
    )
    _window(view, source)
    chips(view, source)
    notice()
    with shown():
        _page(pages, view, source)


def _page(pages: Pages, view: EventsView, source: Source) -> None:
    page = source.page(view.query)
    if not page.events:
        _nothing(view, source)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="pager"):
        # before the heading: what Streamlit lays over a table's right corner must not cover a button
        _pager(view, page)
        heading = st.empty()
    left, right = st.columns([5, 3], gap="medium") if view.event else (st.container(), None)
    with left:
        # a table for each page and each open event: its selection is in the URL, not in the browser
        rows = [row for row, each in enumerate(page.events) if view.event == (each.timestamp, each.id)]
        key = f"events {view.query.cursor} {view.event}"
        events_table(
            page.events,
            view.timezone,
            height="content" if len(page.events) <= 25 else 900,
            key=key,
            selection_default={"selection": {"rows": rows}},
            on_select=lambda: _select(view, page, grid.clicked(st.session_state[key], rows)),
            selection_mode=("single-row", "single-cell"),
            ranked=True,
        )
    if right and view.event:
        with right:
            event.in_full(pages, view, source, page)
    # counting may take longer than the rows: they are there first
    number = counted(view.query, source)
    heading.markdown(f"**{number}**, {markdown.plain(_sentence(view))}", width="content")
    export(view.query, number, source)
    code = st.expander("Code for this view", key="code", on_change="rerun")
    if code.open:
        with code:
            snippets(view.query, "page = store.events(query)\npage.frame", source)


def _nothing(view: EventsView, source: Source) -> None:
    """No event: say so, and where there are some."""
    extent, zone = source.extent(), ZoneInfo(view.timezone)
    if extent is None:
        no_events("No events match. This organization has no events.")
        return
    everywhen = view.query.replace(occurred_after=None, occurred_before=None)
    said = ["No events match."]
    if query_edits.filters(view.query):
        said.append("Remove a filter or widen the window." if everywhen != view.query else "Remove a filter.")
    first, last = (formatting.timestamp(moment, zone) for moment in extent)
    sentence(" ".join([*said, f"This organization's events lie between {first} and {last}, {view.timezone}."]))
    with st.container(horizontal=True, gap="small", key="nothing"):
        if everywhen != view.query:
            st.button("Show all times", key="show_extent", on_click=lambda: go(lambda: view.asking(everywhen)))
        without_filters(view)


def _pager(view: EventsView, page: EventPage) -> None:
    query = view.query
    key = follow("limit", query.limit)
    st.selectbox(
        "Events on a page",
        sorted({*_LIMITS, query.limit}),
        key=key,
        format_func=lambda limit: f"{limit} a page",
        on_change=changed(key, lambda limit: view.asking(query.replace(limit=limit))),
        label_visibility="collapsed",
        width=130,
    )
    first = query.cursor is None
    at = partial(_at, view)
    st.button("Newest", key="newest", disabled=first, on_click=lambda: go(lambda: at(None)))
    st.button(
        "Newer",
        key="newer",
        icon=":material/chevron_left:",
        disabled=first,
        on_click=lambda: go(lambda: at(_before(page))),
    )
    st.button(
        "Older",
        key="older",
        icon=":material/chevron_right:",
        icon_position="right",
        disabled=page.cursor is None,
        on_click=lambda: go(lambda: at(page.cursor)),
    )


def _sentence(view: EventsView) -> str:
    """The question in words, its window on the clock of the page's zone."""
    query, zone = view.query, ZoneInfo(view.timezone)
    after, before = (edge and edge.astimezone(zone) for edge in (query.occurred_after, query.occurred_before))
    window = ""
    if after and before:
        window = f"{formatting.span(after, before)}, {view.timezone}"
    elif after or before:
        edge = after or before
        window = f"{'from' if after else 'before'} {formatting.timestamp(edge, zone) if edge else ''}, {view.timezone}"
    return ", ".join(part for part in ("newest first", window, *filter_words(query)) if part)


def _before(page: EventPage) -> str | None:
    previous = page.previous()
    return previous.query.cursor if previous else None


def _at(view: EventsView, cursor: str | None) -> EventsView:
    return view.replace(query=view.query.replace(cursor=cursor), event=None)


def _select(view: EventsView, page: EventPage, row: int | None) -> None:
    event = None if row is None else page.events[row]
    go(lambda: view.replace(event=event and (event.timestamp, event.id)))


def _window(view: EventsView, source: Source) -> None:
    """From and up to, both optional, on the zone's clock."""
    query = view.query
    zone = ZoneInfo(view.timezone)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="window"):
        for name, label in (("occurred_after", "Events from"), ("occurred_before", "up to")):
            edge: datetime | None = getattr(query, name)
            there = edge.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0) if edge else None
            key = follow(name, there)
            st.datetime_input(
                label,
                value=None,
                key=key,
                format="YYYY-MM-DD",
                on_change=changed(key, partial(_moved, view, name)),
                width=230,
            )
        st.caption(f"{view.timezone}; the end is not included", width="content")


def _moved(view: EventsView, name: str, picked: datetime | None) -> EventsView:
    moment = picked.replace(tzinfo=ZoneInfo(view.timezone)) if picked else None
    return view.asking(view.query.replace(**{name: moment}))


def _pinned(view: EventsView, source: Source) -> EventsView:
    """The same events for good: only what had arrived by then, and settled."""
    # a cursor belongs to the question that made it: the pinned one starts from its first page
    pinned = source.pinned(view.query.replace(cursor=None))
    return view.asking(pinned).replace(event=view.event)


def _explore_view(view: EventsView) -> ExploreView:
    """The Explore page for the same filters, and the same window where it has two ends."""
    query = view.query
    window: dict[str, Any] = {"since": "-30d/d"}
    if query.occurred_after and query.occurred_before:
        window = {"since": query.occurred_after, "until": query.occurred_before}
    shared = shared_filters(query)
    return ExploreView(AggregateQuery(**shared, **window, timezone=view.timezone, group_by="metric_key"))


def _validate_view(view: EventsView) -> ValidateView:
    """The Validate page for the same filters, and the same window where it has two ends, else last month's."""
    query = view.query
    window: dict[str, Any] = {"window": "last_month"}
    if query.occurred_after and query.occurred_before:
        window = {"since": query.occurred_after, "until": query.occurred_before}
    return ValidateView(Period(**shared_filters(query), **window, timezone=view.timezone))
