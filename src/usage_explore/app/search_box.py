"""The search box of the header: where a text occurs, each place a click to its events or to a filter.

The text is not part of a link: its results are links.
"""

from __future__ import annotations

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.components import focus, visit
from usage_explore.app.navigation import Pages, View, go, link
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView, HomeView
from usage_explore.app.query_edits import Filter, group_label
from usage_explore.errors import QueryError
from usage_explore.query.base import Windowed
from usage_explore.query.describe import window_words
from usage_explore.query.filters import ID_COLUMNS, LOOKED_UP
from usage_explore.query.queries import EventQuery, LeaderboardQuery
from usage_explore.query.validators import EARLIEST
from usage_explore.results.types import Hit

_POPOVER, _TEXT, _CLOSING, _WHOLE = "search", "search_text", "search_closing", "search_whole"
"""Session state: whether the search is open, its text, and the (text, group) whose places are all listed."""

MAX_LISTED_PLACES = 5
"""Places of each column that are listed until a click lists all of them."""

MAX_PLACES = 50
"""Places of each column that are looked up, those with most events."""


def search_box(pages: Pages, view: View, source: Source) -> None:
    """Draw the button that opens the search, and its results."""
    if st.session_state.pop(_CLOSING, False):
        st.session_state[_POPOVER] = False
    popover = st.popover("Search", icon=":material/search:", key=_POPOVER, on_change="rerun")
    if not popover.open:
        return
    with popover:
        text = st.text_input(
            "Search",
            key=_TEXT,
            placeholder="Whole event id or key; part of a name, id, value …",
            label_visibility="collapsed",
            width=380,
        ).strip()
        focus(".st-key-search_text input", "search_focus")
        if not text:
            st.caption(
                "An event id or idempotency key, whole; any part of a name, other id, metric, price or dimension value."
            )
            return
        try:
            _results(pages, view, source, text)
        except QueryError as error:
            st.warning(markdown.plain(str(error)))


def _results(pages: Pages, view: View, source: Source, text: str) -> None:
    within = _window(view)
    hits = source.find(text, within, MAX_PLACES)
    when = "any time" if within.since == EARLIEST else markdown.plain(window_words(within))
    if not hits:
        st.markdown(f"Nothing has **{markdown.plain(formatting.data_value(text))}**.")
        st.caption(
            "Searched: ids and idempotency keys of all events, which must be whole; any part of names and external ids"
            f" of customers, products and subscriptions, and of values of every column and dimension, {when}."
        )
        return
    if len(hits) == 1 and _is_one_event(hits[0]):
        st.session_state[_CLOSING] = True
        visit(link(_events(view, source, hits[0])), key="search_visit")
    st.caption(
        f"Numbers are of {when}, without the page's filters; ids and keys are of any time. A click filters by it."
    )
    groups: dict[str, list[tuple[int, Hit]]] = {}
    for number, hit in enumerate(hits):
        groups.setdefault(hit.group, []).append((number, hit))
    with st.container(gap=None, key="hits"):
        for group, found in groups.items():
            is_whole = st.session_state.get(_WHOLE) == (text, group) or len(found) <= MAX_LISTED_PLACES
            for number, hit in found if is_whole else found[:MAX_LISTED_PLACES]:
                _result(pages, view, source, hit, number, text)
            if not is_whole:
                _more(text, group, len(found))
            elif len(found) == MAX_PLACES:
                st.caption(f"The {MAX_PLACES} with most events; a longer text finds fewer.")


def _more(text: str, group: str, number: int) -> None:
    """How many places of a column there are beside the listed ones, as a click that lists them."""
    at_least = "at least " if number == MAX_PLACES else ""
    st.button(
        f"{MAX_LISTED_PLACES} of {at_least}{number}, those with most events: show all",
        key=f"more {group}",
        type="tertiary",
        icon=":material/expand_more:",
        help=f"All places in {markdown.plain(group_label(group))}",
        on_click=st.session_state.update,
        args=({_WHOLE: (text, group)},),
    )


def _result(pages: Pages, view: View, source: Source, hit: Hit, number: int, text: str) -> None:
    """One place as a click: an event or the copies of a key on the Events page, else a filter of this page.

    A customer has a link to its page, too; on the Customer page, it is that page, and another value opens Explore.
    """
    label = _label(hit, text)
    if hit.group in LOOKED_UP:
        target = _events(view, source, hit)
        if isinstance(view, EventsView):  # a page link to the page it is on would leave the address bar as it was
            st.button(label, key=f"hit {number}", type="tertiary", on_click=_follow, args=(view, target))
        else:
            st.page_link(pages.events, label=label, query_params=target.to_params())
        return
    found = Filter(hit.group, "is", (hit.value,))
    if isinstance(view, HomeView):
        explore = view.explore.with_query(query_edits.with_filter(view.explore.query, found))
        st.page_link(pages.explore, label=label, query_params=explore.to_params())
        return
    if isinstance(view, CustomerView) and hit.group != "customer_id":  # which has no other filters
        chart = ExploreView(query_edits.with_filter(view.query.replace(group_by="metric_key"), found))
        st.page_link(pages.explore, label=label, query_params=chart.to_params())
        return
    edited = view.with_query(query_edits.with_filter(view.query, found))
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"hit_row {number}"):
        st.button(label, key=f"hit {number}", type="tertiary", on_click=_follow, args=(view, edited))
        if hit.group == "customer_id" and not isinstance(view, CustomerView):
            page = CustomerView.of(_window(view), hit.value)
            st.page_link(pages.customer, label="Customer page", icon=":material/person:", query_params=page.to_params())


def _is_one_event(hit: Hit) -> bool:
    return hit.group in LOOKED_UP and hit.events == 1


def _follow(view: View, target: View) -> None:
    st.session_state[_POPOVER] = False
    go(view, lambda: target)


def _label(hit: Hit, text: str) -> str:
    """A place in words: "customer **Acme** · 1,234 events · found in its id", which is said where it is not on view."""
    kind = "event" if hit.group == "id" else group_label(hit.group)
    shown = hit.name or query_edits.short_value(hit.group, hit.value)
    found = ""
    if hit.group in ID_COLUMNS and text.casefold() not in shown.casefold():
        found = f" · found in its {'id' if text.casefold() in hit.value.casefold() else 'external id'}"
    return (
        f":gray[{markdown.plain(kind)}] **{markdown.plain(formatting.data_value(shown))}**"
        f" :gray[· {formatting.counted(hit.events, 'event')}{found}]"
    )


def _events(view: View, source: Source, hit: Hit) -> EventsView:
    """The events of an id or key, of any time; if it is one event, it is opened."""
    query = EventQuery(organization_id=view.query.organization_id, as_of=view.query.as_of, **{hit.group: (hit.value,)})
    event = next(iter(source.page(query).events), None) if _is_one_event(hit) else None
    return EventsView(query, view.timezone, (event.timestamp, event.id) if event else None)


def _window(view: View) -> LeaderboardQuery:
    """The page's window and `as_of`, without its filters."""
    query = view.explore.query if isinstance(view, HomeView) else view.query
    shared = {"organization_id": query.organization_id, "as_of": query.as_of, "timezone": view.timezone}
    if isinstance(query, Windowed):
        window = {"window": query.window} if query.window else {"since": query.since, "until": query.until}
        return LeaderboardQuery(**shared, **window)
    return LeaderboardQuery(**shared, since=query.occurred_after or EARLIEST, until=query.occurred_before or "now")
