"""One event in full: every column exactly, its dimensions to read, and what its customer did around that time."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore.answers import EventPage
from usage_explore.app import markdown
from usage_explore.app.cache import Source
from usage_explore.app.events.table import cells
from usage_explore.app.navigation import go
from usage_explore.app.page_state import EventsView, ExploreView
from usage_explore.app.pages import Pages
from usage_explore.decimals import json_text
from usage_explore.query import buckets
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.results.types import Event

_AROUND = timedelta(hours=1)
_NULL = ":gray[NULL]"


def in_full(pages: Pages, view: EventsView, source: Source, page: EventPage) -> None:
    """Draw the event that the view names, on whichever page it is now."""
    if view.event is None:
        return
    event = _find(*view.event, view.query, source, page)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown("**Event in full**", width="content")
        st.space("stretch")
        st.button(
            "Close",
            type="tertiary",
            icon=":material/close:",
            key="close_event",
            on_click=lambda: go(lambda: view.replace(event=None)),
        )
    if event is None:
        st.info("This event is not among the events of this question; widen the window or remove a filter.")
        return
    texts = cells(event, view.timezone)
    del texts["dimensions"]
    heading = {"timestamp": f"timestamp ({view.timezone})", "ingested_at": f"ingested_at ({view.timezone})"}
    rows = {heading.get(name, name): _NULL if text is None else markdown.plain(text) for name, text in texts.items()}
    st.table({**rows, "organization_id": str(event.organization_id)}, border="horizontal")
    st.markdown("**dimensions**")
    st.code(json_text(event.dimensions, indent=2), language="json", wrap_lines=True)
    around = _around(event)
    # a page link to the page it is on would leave the address bar as it was
    st.button(
        "Everything of this customer around that time",
        key="around",
        type="tertiary",
        icon=":material/person_search:",
        on_click=lambda: go(lambda: EventsView(around, view.timezone)),
    )
    st.page_link(
        pages.explore,
        label="This customer's usage in the days around",
        icon=":material/bar_chart:",
        query_params=_usage_around(event, view.timezone).to_params(),
    )


def _find(moment: datetime, identity: UUID, query: EventQuery, source: Source, page: EventPage) -> Event | None:
    """The event on this page, else wherever the question has it: at that very microsecond."""
    for event in page.events:
        if event.id == identity:
            return event
    after, before = moment, moment + timedelta(microseconds=1)
    if (query.occurred_after and query.occurred_after > moment) or (
        query.occurred_before and query.occurred_before <= moment
    ):
        return None
    there = query.replace(cursor=None, limit=100, occurred_after=after, occurred_before=before)
    return next((event for event in source.page(there) if event.id == identity), None)


def _around(event: Event) -> EventQuery:
    return EventQuery(
        organization_id=event.organization_id,
        customer_id=event.customer_id,
        occurred_after=event.timestamp - _AROUND,
        occurred_before=event.timestamp + _AROUND,
    )


def _usage_around(event: Event, timezone: str) -> ExploreView:
    hour = buckets.floor(event.timestamp, "hour", ZoneInfo(timezone))
    query = AggregateQuery(
        organization_id=event.organization_id,
        customer_id=event.customer_id,
        since=hour - timedelta(days=3),
        until=hour + timedelta(days=3),
        bucket="hour",
        group_by="metric_key",
        timezone=timezone,
    )
    return ExploreView(query)
