"""The address bar: reading and writing URL parameters, widgets that follow it, callbacks that change it.

It also remembers the links that were opened last in this browser tab, for the Home page, until its session ends.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.scriptrunner import get_script_run_ctx

from usage_explore.app import markdown
from usage_explore.app.components import visit
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView, HomeView, Pairs, ValidateView
from usage_explore.errors import UsageExploreError
from usage_explore.query import url_params
from usage_explore.query.describe import describe
from usage_explore.query.url_params import query_string
from usage_explore.results.named import filtered_ids

View = ExploreView | EventsView | ValidateView | CustomerView | HomeView

MAX_LINK_PARAMETERS, MAX_LINK_BYTES = 950, 60_000
"""Bounds of the links that the app writes: of a link beyond 1,000 parameters Streamlit reads none, and says nothing;
its server accepts request lines of 64 kB."""

_RESEND_SECONDS = 3
"""How long a widget's new value is sent with every run."""

_ABSENT = object()
_NOTHING_WRITTEN: tuple[frozenset[Pairs], Pairs] = (frozenset(), ())


class Pages(NamedTuple):
    """The app's pages, as the targets of links."""

    explore: Page
    events: Page
    validate: Page
    customer: Page
    load: Page
    home: Page


def follow(key: str, value: object) -> str:
    """Set the widget of the key to the value from the URL; returns the key."""
    now, context = time.monotonic(), get_script_run_ctx()
    page = context.page_script_hash if context is not None else ""
    set_on, set_at = st.session_state.get(f"{key} set", ("", now))
    # a key is another widget on another page, which has its default though the session still has the key's value
    if set_on != page or st.session_state.get(key, _ABSENT) != value:
        set_at = now
        st.session_state[f"{key} set"] = page, now
    # Streamlit sends a value only in the run that sets it; a click while the page loads starts another run, and the
    # browser may draw the widgets of that one first, with their defaults
    if now - set_at < _RESEND_SECONDS:
        st.session_state[key] = value
    return key


def go(drawn: View, edited: Callable[[], View]) -> None:
    """Show another view, as a new entry in the browser's history; if it is invalid or too long, say so and stay.

    `edited` changes the view that was drawn with the widget. If a click before it has changed the address bar, but not
    the page yet, only the parameters that `edited` changes are changed: of two quick clicks both take effect.
    """
    try:
        pairs = _merged(drawn, edited().to_params())
    except UsageExploreError as error:
        st.session_state["notice"] = str(error)
        return
    if fits(pairs):
        write_url(pairs)
    else:
        st.session_state["notice"] = "That needs more filters than a link can hold; narrow it first."


def latest(drawn: View) -> View:
    """The view of the address bar, which a click may have changed since the page was drawn.

    For edits of one thing by several clicks, such as ticks: each starts from what the one before it made.
    """
    try:
        current = type(drawn).from_params(_current_url())
    except UsageExploreError:
        return drawn
    if current.query.organization_id is None:
        return current.replace(query=current.query.replace(organization_id=drawn.query.organization_id))
    return current


def changed(key: str, drawn: View, edited: Callable[[Any], View]) -> Callable[[], None]:
    """A widget's callback that shows `edited(value)` for the widget's new value; see `go`."""
    return lambda: go(drawn, lambda: edited(st.session_state[key]))


def _merged(drawn: View, edited: Pairs) -> Pairs:
    """The parameters of the address bar, those replaced in which `edited` differs from the drawn view.

    A cursor is left out, as it belongs to the filters that it was made with. Raises `QueryError` if the result is
    invalid.
    """
    before = drawn.to_params()
    try:
        current = type(drawn).from_params(_current_url()).to_params()
    except UsageExploreError:
        return edited
    if "organization_id" not in dict(current):
        current = (*(pair for pair in before if pair[0] == "organization_id"), *current)
    if sorted(current) == sorted(before):
        return edited
    edits = {
        name
        for name, _ in (*before, *edited)
        if [pair for pair in before if pair[0] == name] != [pair for pair in edited if pair[0] == name]
    }
    if "organization_id" in edits:  # filters of another organization would match nothing
        return edited
    merged = tuple(
        pair
        for pair in (
            *(pair for pair in current if pair[0] not in edits),
            *(pair for pair in edited if pair[0] in edits),
        )
        if pair[0] != "cursor"
    )
    return type(drawn).from_params(merged).to_params()


def leave_for(target: View) -> None:
    """Go to a view of any page, in the next run: for callbacks, which can draw nothing."""
    st.session_state["leave_for"] = target


def leave() -> None:
    """Go to the view that a callback has left this page for."""
    if target := st.session_state.pop("leave_for", None):
        visit(link(target), key="leave")


def link(view: View) -> str:
    """The relative link to a view, for a page of the app."""
    return f"{view.path or 'explore'}?{query_string(view.to_params())}"


def fits(pairs: Pairs) -> bool:
    """Whether a link can hold the parameters."""
    return len(pairs) <= MAX_LINK_PARAMETERS and len(query_string(pairs)) <= MAX_LINK_BYTES


def notice() -> None:
    """Draw the error of the last callback, once."""
    if text := st.session_state.pop("notice", None):
        st.warning(markdown.plain(text).replace("\n", "  \n"), icon=":material/info:")


def read_url() -> Pairs:
    """The parameters in the address bar, with repeated names and blank values.

    Raises `QueryError` if the query string is not valid UTF-8, which Streamlit would replace.
    """
    context = get_script_run_ctx()
    if context is not None:
        url_params.pairs(context.query_string)
    return tuple((name, value) for name in st.query_params for value in st.query_params.get_all(name))


def _current_url() -> Pairs:
    """The parameters last written, where the browser has not received them yet and sends older ones."""
    pairs = read_url()
    older, written = st.session_state.get("url_written", _NOTHING_WRITTEN)
    return written if tuple(sorted(pairs)) in older else pairs


def forget_old_url() -> None:
    """Call when a page is drawn: older parameters in the address bar mean that the user went back to them."""
    _, written = st.session_state.get("url_written", _NOTHING_WRITTEN)
    if sorted(read_url()) != sorted(written):
        st.session_state.pop("url_written", None)


def write_url(pairs: Iterable[tuple[str, str]]) -> None:
    """Put the parameters into the address bar: a new entry in the browser's history if they differ."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)
    shown = {name: sorted(st.query_params.get_all(name)) for name in st.query_params}
    if {name: sorted(texts) for name, texts in values.items()} != shown:
        older, written = st.session_state.get("url_written", _NOTHING_WRITTEN)
        target = tuple((name, value) for name, texts in values.items() for value in texts)
        before = {tuple(sorted(pairs)) for pairs in (written, read_url())}
        st.session_state["url_written"] = ({*older, *before} - {tuple(sorted(target))}, target)
        st.query_params.from_dict(values)


def page_url(path: str, pairs: Iterable[tuple[str, str]], app_url: str) -> str:
    """An absolute link to a path of the app, on the host in the browser's address bar, else on `app_url`."""
    parts = urlsplit(st.context.url or app_url)
    root = parts.path.removesuffix("/")
    for name in Pages._fields:
        root = root.removesuffix(f"/{name}")
    return urlunsplit(parts._replace(path=f"{root}/{path}", query=query_string(pairs), fragment=""))


MAX_RECENT_LINKS = 8
"""Links that are remembered."""

_LINKS = "recent_links"


class RecentLink(NamedTuple):
    """A link that was opened: the page's path, the view in words without names, and its URL parameters.

    `ids` are the (column, id) in its filters, for their names.
    """

    page: str
    text: str
    organization_id: UUID | None
    params: Pairs
    ids: tuple[tuple[str, str], ...] = ()


def remember_link(view: View) -> None:
    """Put the view in front of the links. Views that differ only in what they select or display are one link."""
    if isinstance(view, HomeView) or not fits(view.to_params()):
        return
    query = view.query.replace(cursor=None) if isinstance(view, EventsView) else view.query
    link = RecentLink(
        view.path or "explore",
        describe(query, whole_seconds=True),
        query.organization_id,
        view.to_params(),
        tuple(filtered_ids(query)),
    )
    others = [other for other in recent_links() if other[:3] != link[:3]]
    st.session_state[_LINKS] = [link, *others][:MAX_RECENT_LINKS]


def recent_links() -> list[RecentLink]:
    """The links, newest first."""
    remembered: list[RecentLink] = st.session_state.get(_LINKS, [])
    return remembered
