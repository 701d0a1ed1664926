"""The Events page: pages of raw events, newest first, one event in full, and the export of all events to a file."""

from __future__ import annotations

import tempfile
from codecs import BOM_UTF8
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import event_filters, grid, markdown, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.exports import escape_checkbox, prepared_download, snippets
from usage_explore.app.filters import FROM, UP_TO, chips, dimension_hints, reset_button, time_input
from usage_explore.app.grid import cells, counted, events_table
from usage_explore.app.header import closable_heading, header, opened_view
from usage_explore.app.navigation import Pages, changed, follow, go, leave_for, notice
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView
from usage_explore.app.problems import no_events, sentence, shown
from usage_explore.app.query_edits import Action
from usage_explore.decimals import dimension_text
from usage_explore.event_pages import EventPage
from usage_explore.export import MAX_XLSX_EVENTS
from usage_explore.names import NAME_COLUMNS
from usage_explore.query import buckets
from usage_explore.query.describe import file_dates, filter_words
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.results.types import Event

_PAGE_SIZES = (25, 50, 100)
_MAX_FULL_HEIGHT_ROWS, _SCROLLED_HEIGHT = 25, 900  # a table of more rows is 900 pixels high and scrolls
_FILE_KINDS = {"csv": "CSV", "parquet": "Parquet", "xlsx": "Excel"}
_FILE_HELP = {
    "xlsx": f"Up to {MAX_XLSX_EVENTS:,} events, times on the page's clock, and a sheet on the query. CSV and Parquet "
    "hold any number."
}
_AROUND_EVENT = timedelta(hours=1)
_NULL = ":gray[NULL]"
_COPIED = ("id", "idempotency_key", "customer_id", "product_id", "subscription_id", "organization_id")
"""Columns of an event that are copied rather than read."""


def draw(pages: Pages) -> None:
    """Draw the page of the address bar. Raises `UsageExploreError`."""
    opened = opened_view(EventsView, pages)
    if opened is None:
        return
    view, source = opened
    header(pages, view, source, known_at=source.now, pinned=lambda: _pinned(view, source))
    _window(view)
    chips(view, source)
    notice()
    with shown():
        dimension_hints(view.query, source)
        _page(pages, view, source)


def _page(pages: Pages, view: EventsView, source: Source) -> None:
    page = source.page(view.query)
    if not page.events:
        _nothing(pages, view, source)
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="pager"):
        # before the heading: Streamlit's toolbar over a table's right corner must not cover a button
        _pager(view, page)
        heading = st.empty()
    left, right = st.columns([5, 3], gap="medium") if view.event else (st.container(), None)
    with left.container(key="event_list"):  # of which the table takes the focus back, see keep_focus.js
        # one widget per page and open event: the selection is in the URL, not in the browser
        rows = [row for row, event in enumerate(page.events) if view.event == (event.timestamp, event.id)]
        key = f"events {view.query.cursor} {view.event}"
        events_table(
            page.events,
            view.timezone,
            page.names,
            visit=lambda event: leave_for(_customer(event, view, source)),
            height="content" if len(page.events) <= _MAX_FULL_HEIGHT_ROWS else _SCROLLED_HEIGHT,
            key=key,
            selection_default={"selection": {"rows": rows}},
            on_select=lambda: _select(view, page, grid.clicked(st.session_state[key], rows)),
            selection_mode=("single-row", "single-cell"),
            ranked=True,
        )
    if right and view.event:
        with right:
            _event_in_full(pages, view, source, page)
    # counted last, as counting may take longer than the rows
    number = counted(view.query, source)
    heading.markdown(f"**{number}**, {markdown.plain(page.names.in_text(_sentence(view)))}", width="content")
    _export(view, number, source)
    code = st.expander("Code for this view", key="code", on_change="rerun")
    if code.open:
        with code:
            snippets(view.query, "page = store.events(query)\npage.frame", source)


def _nothing(pages: Pages, view: EventsView, source: Source) -> None:
    """Say that no event matches, and when the organization has events."""
    extent, zone = source.extent(), ZoneInfo(view.timezone)
    if extent is None:
        no_events(pages.load, "No events match. This organization has no events.")
        return
    unbounded = view.query.replace(occurred_after=None, occurred_before=None)
    sentences = ["No events match."]
    if query_edits.filters(view.query):
        sentences.append("Remove a filter or widen the window." if unbounded != view.query else "Remove a filter.")
    first, last = (formatting.timestamp(moment, zone) for moment in extent)
    sentence(" ".join([*sentences, f"This organization's events lie between {first} and {last}, {view.timezone}."]))
    with st.container(horizontal=True, gap="small", key="nothing"):
        if unbounded != view.query:
            st.button(
                "Show all times", key="show_extent", on_click=lambda: go(view, lambda: view.with_query(unbounded))
            )
        reset_button(view)


def _pager(view: EventsView, page: EventPage) -> None:
    query = view.query
    key = follow("limit", query.limit)
    st.selectbox(
        "Events on a page",
        sorted({*_PAGE_SIZES, query.limit}),
        key=key,
        format_func=lambda limit: f"{limit} a page",
        on_change=changed(key, view, lambda limit: view.with_query(query.replace(limit=limit))),
        label_visibility="collapsed",
        width=130,
    )
    first = query.cursor is None
    at = partial(_at, view)
    st.button("Newest", key="newest", disabled=first, on_click=lambda: go(view, lambda: at(None)))
    st.button(
        "Newer",
        key="newer",
        icon=":material/chevron_left:",
        disabled=first,
        on_click=lambda: go(view, lambda: at(_before(page))),
    )
    st.button(
        "Older",
        key="older",
        icon=":material/chevron_right:",
        icon_position="right",
        disabled=page.cursor is None,
        on_click=lambda: go(view, lambda: at(page.cursor)),
    )


def _sentence(view: EventsView) -> str:
    """The query in words, with its window on the page's clock."""
    query, zone = view.query, ZoneInfo(view.timezone)
    after, before = (edge and edge.astimezone(zone) for edge in (query.occurred_after, query.occurred_before))
    window = ""
    if after and before:
        window = f"{formatting.span(after, before)}, {view.timezone}"
    elif after or before:
        edge = after or before
        window = f"{'from' if after else 'before'} {formatting.timestamp(edge, zone) if edge else ''}, {view.timezone}"
    return ", ".join(part for part in ("newest first", window, *filter_words(query, zone)) if part)


def _before(page: EventPage) -> str | None:
    previous = page.previous()
    return previous.query.cursor if previous else None


def _at(view: EventsView, cursor: str | None) -> EventsView:
    return view.replace(query=view.query.replace(cursor=cursor), event=None)


def _select(view: EventsView, page: EventPage, row: int | None) -> None:
    event = None if row is None else page.events[row]
    go(view, lambda: view.replace(event=event and (event.timestamp, event.id)))


def _window(view: EventsView) -> None:
    """Both ends of the window, which may be empty."""
    query = view.query

    def moved(name: str, moment: datetime | None) -> EventsView:
        return view.with_query(query.replace(**{name: moment}))

    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="window"):
        ends = (("occurred_after", FROM, query.occurred_after), ("occurred_before", UP_TO, query.occurred_before))
        for name, label, moment in ends:
            time_input(label, moment, view, partial(moved, name), key=name)


def _pinned(view: EventsView, source: Source) -> EventsView:
    """The view with the same events at any later time: those that had been ingested and settled by now."""
    # a cursor belongs to one query: the pinned one starts from its first page
    pinned = source.pinned(view.query.replace(cursor=None))
    return view.with_query(pinned).replace(event=view.event)


def _export(view: EventsView, number: str, source: Source) -> None:
    """Draw a button per file kind that writes all pages to a file, then offers it; `number` is the events' number."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="export"):
        st.caption(f"Export all ({number}):", width="content")
        wanted = [
            suffix
            for suffix, label in _FILE_KINDS.items()
            if st.button(
                f"Prepare {label}", key=f"export {suffix}", icon=":material/file_save:", help=_FILE_HELP.get(suffix)
            )
        ]
        escape = escape_checkbox("export escape_formulas")
    for suffix in wanted:
        with shown():
            _write(view, suffix, source, escape and suffix == "csv")


def _write(view: EventsView, suffix: str, source: Source, escape_formulas: bool) -> None:
    label = _FILE_KINDS[suffix]
    bar = st.progress(0.0, f"Writing {label}")

    def progress(written: int, total: int) -> None:
        share = written / total if total else 1.0
        bar.progress(min(share, 1.0), f"Writing {label}: {written:,} of {formatting.counted(total, 'event')}")

    with tempfile.TemporaryDirectory(prefix="usage-explore-") as folder:
        path = Path(folder) / f"{export_file_name(view)}.{suffix}"
        every = view.query.replace(cursor=None, limit=None)
        report = source.export(every, path, progress, escape_formulas, view.timezone if suffix == "xlsx" else None)
        content = (BOM_UTF8 if suffix == "csv" else b"") + path.read_bytes()
    bar.empty()
    events = formatting.counted(report.events, "event")
    prepared_download(f"Download {label}: {events}", content, path.name, f"exported {suffix}")


def export_file_name(view: EventsView) -> str:
    """The name of an exported file without suffix: `usage-events-2026-10-01-2026-10-31`, on the page's clock."""
    after, before = view.query.occurred_after, view.query.occurred_before
    if after and before and after < before:
        return f"usage-events-{file_dates(Period(since=after, until=before, timezone=view.timezone))}"
    zone = ZoneInfo(view.timezone)
    if after:
        return f"usage-events-from-{after.astimezone(zone).date()}"
    return f"usage-events-before-{before.astimezone(zone).date()}" if before else "usage-events"


def _event_in_full(pages: Pages, view: EventsView, source: Source, page: EventPage) -> None:
    """Draw the selected event, which may be on another page of the results."""
    if view.event is None:
        return
    event = _find(*view.event, view.query, source, page)
    closable_heading("**Event in full**", "close_event", view, lambda: view.replace(event=None))
    if event is None:
        st.info("This event is not among the events shown; widen the window or remove a filter.")
        return
    _fields(event, view.timezone)
    st.markdown("**dimensions**")
    if by_key := grid.dimensions(event):
        values = {markdown.plain(key): _value(dimension_text(value)) for key, value in by_key.items()}
        st.table(values, border="horizontal")
    else:
        st.caption(_value(dimension_text(event.dimensions)) if event.dimensions else "none")
    event_filters.draw(
        event_filters.pairs(event),
        page.names,
        "event_values",
        lambda *clicked: go(view, lambda: _filtered(view, *clicked)),
    )
    around = _around(event)
    with st.container(gap="xsmall", key="event_links"):
        # a page link to the page it is on would leave the address bar as it was
        st.button(
            "This customer's events around that time",
            key="around",
            type="tertiary",
            icon=":material/person_search:",
            on_click=lambda: go(view, lambda: EventsView(around, view.timezone)),
        )
        st.page_link(
            pages.explore,
            label="This customer's usage in the days around",
            icon=":material/bar_chart:",
            query_params=_usage_around(event, view.timezone).to_params(),
        )
        st.page_link(
            pages.customer,
            label="This customer's page",
            icon=":material/person:",
            query_params=_customer(event, view, source).to_params(),
        )


def _fields(event: Event, timezone: str) -> None:
    """Draw the event's columns without its dimensions, ids last: cut on screen, with a button that copies all of it."""
    texts = cells(event, timezone)
    del texts["dimensions"]
    texts["organization_id"] = str(event.organization_id)
    for column in ("quantity", "external_cost_amount"):
        if (number := getattr(event, column)) is not None:
            texts[column] = formatting.typographic(formatting.exact(number))
    headings = {"timestamp": f"timestamp ({timezone})", "ingested_at": f"ingested_at ({timezone})"}
    names = {column: name for name, column in NAME_COLUMNS.items() if getattr(event, name)}
    rows: dict[str, str] = {}
    for column, text in texts.items():
        if name := names.get(column):
            rows[name] = _value(formatting.data_value(getattr(event, name)))
        if column not in _COPIED or text is None:
            rows[headings.get(column, column)] = _value(text)
    st.table(rows, border="horizontal")
    with st.container(horizontal=True, gap="small", key="event_ids"):
        for column in _COPIED:
            if text := texts[column]:
                with st.container(gap=None, width="content"):
                    st.caption(column)
                    st.code(text, language=None)


def _value(text: str | None) -> str:
    return _NULL if text is None else markdown.plain(text or "(empty)")


def _filtered(view: EventsView, group: str, value: str | None, action: Action) -> EventsView:
    """Only the events with a value of the open event, which stays open, or those without it."""
    if action == "not":
        return view.with_query(query_edits.without_value(view.query, group, value))
    return view.with_query(query_edits.only(view.query, group, value)).replace(event=view.event)


def _find(moment: datetime, identity: UUID, query: EventQuery, source: Source, page: EventPage) -> Event | None:
    """The event on this page, else at its microsecond among all events of the query."""
    for event in page.events:
        if event.id == identity:
            return event
    after, before = moment, moment + timedelta(microseconds=1)
    if (query.occurred_after and query.occurred_after > moment) or (
        query.occurred_before and query.occurred_before <= moment
    ):
        return None
    at_moment = query.replace(cursor=None, limit=100, occurred_after=after, occurred_before=before)
    return next((event for event in source.page(at_moment) if event.id == identity), None)


def _around(event: Event) -> EventQuery:
    return EventQuery(
        organization_id=event.organization_id,
        customer_id=event.customer_id,
        occurred_after=event.timestamp - _AROUND_EVENT,
        occurred_before=event.timestamp + _AROUND_EVENT,
    )


def _customer(event: Event, view: EventsView, source: Source) -> CustomerView:
    """The page of the event's customer: in the view's window, or the last 30 days, if that holds the event."""
    link = (("organization_id", str(event.organization_id)), ("customer_id", str(event.customer_id)))
    page = CustomerView.from_params(link).in_timezone(view.timezone)
    after, before = view.query.occurred_after, view.query.occurred_before
    if after and (before or after < source.now):
        page = page.with_query(page.query.replace(since=after, until=before))
    since, until = page.query.resolve(source.now).span
    if not since <= event.timestamp < until:
        page = page.with_query(_usage_around(event, view.timezone).query)
    return page.replace(query=page.query.replace(as_of=view.query.as_of))


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
