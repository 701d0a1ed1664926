"""The menu "Share": the pinned link of the page, short links to it, and the organization's short links."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from urllib.parse import unquote
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import config, formatting
from usage_explore.app import cache, markdown, query_edits, saved_views, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.components import once
from usage_explore.app.navigation import View, page_url
from usage_explore.app.page_state import ExploreView, HomeView, ValidateView
from usage_explore.charts import labels
from usage_explore.errors import QueryError, StatementTimeout, UsageExploreError
from usage_explore.names import Names
from usage_explore.query.base import Query
from usage_explore.query.describe import describe
from usage_explore.query.queries import EventQuery
from usage_explore.records.links import PATH, SharedLink
from usage_explore.records.texts import LOCAL_AUTHOR
from usage_explore.results.named import filtered_ids

_EXPIRIES: dict[str, timedelta | None] = {
    "in 7 days": timedelta(days=7),
    "in 30 days": timedelta(days=30),
    "in 90 days": timedelta(days=90),
    "never": None,
}
_MADE, _ERROR, _EXPIRY, _ANYONE = "short_link", "short_link_error", "short_link_expires", "short_link_anyone"
_MAX_QUERY_CHARACTERS = 200
_VIEW, _SEARCH = "short_link_view", "short_link_search"
_MAX_LISTED = 20
"""Short links in the list; a search finds the others."""

_NOT_SHOWN_OUTSIDE = ("rank", "tab")
"""Display parameters that the page of a link without sign-in does not have."""


def menu(view: View, pinned: View, source: Source) -> None:
    """Draw the content of the menu for a view and its pinned form."""
    app_url = source.store.app_url
    if st.session_state.get(_VIEW) != (view.path, view.to_params()):  # what was made and ticked is of another view
        st.session_state.pop(_MADE, None)
        st.session_state[_ANYONE] = False
        st.session_state[_VIEW] = (view.path, view.to_params())  # last: the run may end before any of these lines
    st.markdown("**Pinned link**")
    st.code(page_url(pinned.path, pinned.to_params(), app_url), language=None, wrap_lines=True)
    zone = ZoneInfo(pinned.timezone)
    known = markdown.plain(f"{formatting.timestamp(pinned.query.as_of, zone)} {zone}") if pinned.query.as_of else ""
    st.caption(
        f"Absolute times, and only events that had arrived by {known}: it shows the same"
        " numbers whenever it is opened, whatever arrives late. The address bar holds the live link, which keeps "
        "moving with the clock."
    )
    if text := _lacking(view, pinned, source, zone):
        st.warning(markdown.plain(text), icon=":material/schedule:")
    st.markdown("**Short link**")
    st.selectbox("Expires", list(_EXPIRIES), index=1, key=_EXPIRY)
    anyone = isinstance(pinned, ExploreView) and config.settings().public_links
    if anyone:
        st.checkbox(
            "Opens without sign-in",
            key=_ANYONE,
            help="Everyone who has the link sees the chart, the sentence, the totals and the selection of this view,"
            " and can download its data, until it expires or is revoked. Nothing else can be reached through it.",
        )
    link = f"short link {st.session_state[_VIEW]} {st.session_state[_EXPIRY]} {st.session_state.get(_ANYONE)}"
    st.button("Make a short link", key="make_short_link", on_click=once, args=(link, _made(pinned, source, anyone)))
    if text := st.session_state.pop(_ERROR, None):
        st.warning(markdown.plain(text))
    made: SharedLink | None = st.session_state.get(_MADE)
    if made is not None and made.organization_id == source.store.organization_id:
        st.code(_address(made, app_url), language=None, wrap_lines=True)
        st.caption(markdown.plain(_words([made], zone, source)[0]))
    listed = st.expander("Short links of this organization", key="short_links", on_change="rerun")
    if listed.open:
        with listed:
            _list(source, zone)


def _lacking(view: View, pinned: View, source: Source, zone: ZoneInfo) -> str:
    """How many events of the page arrived too recently to be in the pinned link, and from when a link has them."""
    if isinstance(view, ValidateView | HomeView) or pinned.query.as_of is None:
        return ""  # the page itself is pinned, or has no numbers
    query = view.query
    events = query if isinstance(query, EventQuery) else query_edits.events_of(query.resolve(source.now))
    after = max(pinned.query.as_of + timedelta(microseconds=1), events.ingested_after or pinned.query.as_of)
    if events.ingested_before is not None and events.ingested_before <= after:
        return ""
    try:
        number = source.count(events.replace(ingested_after=after))
    except StatementTimeout:  # the rest of the page is not to fail for it
        return "What arrived after that is not in the link; its events could not be counted in time."
    if not number:
        return ""
    are, they = ("is", "it") if number == 1 else ("are", "them")
    since = formatting.minute((source.now + source.store.settle + timedelta(minutes=1)).astimezone(zone))
    text = f"{formatting.counted(number, 'event')} of this page {are} too recent for the link"
    with suppress(QueryError, StatementTimeout):  # such as costs in several currencies, which the page says
        if isinstance(view, ExploreView) and isinstance(pinned, ExploreView):
            page, link = source.aggregate(view.query), source.aggregate(pinned.query)
            totals = f"{formatting.exact(link.total)} {labels.unit(link)}, not {formatting.exact(page.total)}"
            text += f", which has {totals}"
    return f"{text}. A link made from {since} on has {they}."


def _list(source: Source, zone: ZoneInfo) -> None:
    """The organization's links, newest first, each with a button that revokes it."""
    try:
        links = cache.short_links(source)
    except UsageExploreError as error:
        st.warning(markdown.plain(str(error)))
        return
    if not links:
        st.caption("There are none yet.")
        return
    text = ""
    if len(links) > _MAX_LISTED:
        text = st.text_input("Search", key=_SEARCH, placeholder="Address, author, value or day").strip().lower()
    found = [link for link in links if text in _searched(link, zone)]
    if len(found) > _MAX_LISTED:
        st.caption(f"The newest {_MAX_LISTED} of {len(found):,}; search for the others.")
    elif not found:
        st.caption("No link has this text.")
    shown = found[:_MAX_LISTED]
    words = dict(zip(shown, _words(shown, zone, source), strict=True))
    with st.container(height=300 if len(found) > 2 else "content", border=False):
        for link in shown:
            st.code(_address(link, source.store.app_url), language=None, wrap_lines=True)
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                is_over = link.expires_at is not None and link.expires_at <= source.now
                st.caption(markdown.plain(words[link] + (" It has expired." if is_over else "")))
                st.space("stretch")
                revoke = f"revoke {link.token}"
                st.button("Revoke", key=revoke, type="tertiary", on_click=once, args=(revoke, _revoked(link, source)))


def _searched(link: SharedLink, zone: ZoneInfo) -> str:
    """The text in which a link is searched: its address, values, author and time, in lower case."""
    return f"{link.url} {unquote(link.params)} {link.author} {_minute(link.created_at, zone)}".lower()


def _words(links: Sequence[SharedLink], zone: ZoneInfo, source: Source) -> list[str]:
    """What links are: "Events per day, 1–30 Oct 2026, UTC. Explore, made 5 Nov 2026 14:30 by ana@example.com. …"."""
    queries = [_query(link) for link in links]
    names = source.names_of(id_ for query in queries if query is not None for id_ in filtered_ids(query))
    return [_described(link, query, names, zone) for link, query in zip(links, queries, strict=True)]


def _query(link: SharedLink) -> Query | None:
    try:
        return link.query
    except UsageExploreError:
        return None


def _described(link: SharedLink, query: Query | None, names: Names, zone: ZoneInfo) -> str:
    shown = "A view of another version of usage-explore"
    if query is not None:
        shown = names.in_text(describe(query.replace(as_of=None), whole_seconds=True))
    author = "" if link.author == LOCAL_AUTHOR else f" by {formatting.data_value(link.author)}"
    parts = [
        formatting.shortened(formatting.printable(shown), _MAX_QUERY_CHARACTERS),
        f"{link.page.capitalize()}, made {_minute(link.created_at, zone)}{author}",
        "Opens without sign-in" if link.without_sign_in else "Opens in the app",
        f"Expires {_minute(link.expires_at, zone)}" if link.expires_at else "Never expires",
        f"Last opened {_minute(link.opened_at, zone)}" if link.opened_at else "Not opened yet",
    ]
    return ". ".join(parts) + "."


def _minute(moment: datetime, zone: ZoneInfo) -> str:
    return formatting.date_and_time(moment.astimezone(zone).replace(second=0, microsecond=0))


def _address(link: SharedLink, app_url: str) -> str:
    return page_url(f"{PATH.strip('/')}/{link.token}", (), app_url)


def _made(pinned: View, source: Source, may_be_anyones: bool) -> Callable[[], bool]:
    def act() -> bool:
        st.session_state.pop(_MADE, None)
        anyone = may_be_anyones and bool(st.session_state.get(_ANYONE))
        query, display = saved_views.state(pinned)
        if anyone:
            display = tuple(pair for pair in display if pair[0] not in _NOT_SHOWN_OUTSIDE)
        try:
            store = cache.source(_organization(source)).store  # checks again that the user may see it
            st.session_state[_MADE] = store.share(
                query,
                expires=_EXPIRIES[st.session_state[_EXPIRY]],
                without_sign_in=anyone,
                author=sign_in.current_user() or LOCAL_AUTHOR,
                display=display,
                page=pinned.path or "explore",
            )
        except UsageExploreError as error:
            st.session_state[_ERROR] = str(error)
            return False
        return True

    return act


def _revoked(link: SharedLink, source: Source) -> Callable[[], bool]:
    def act() -> bool:
        try:
            cache.source(_organization(source)).store.revoke_link(link)
        except UsageExploreError as error:
            st.session_state[_ERROR] = str(error)
            return False
        finally:
            if st.session_state.get(_MADE) == link:
                st.session_state.pop(_MADE)
        return True

    return act


def _organization(source: Source) -> UUID:
    assert source.store.organization_id is not None  # noqa: S101 - a page's source has one
    return source.store.organization_id
