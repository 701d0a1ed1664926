"""The address bar: reading and writing URL parameters, widgets that follow it, callbacks that change it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import streamlit as st
from streamlit.navigation.page import Page
from streamlit.runtime.scriptrunner import get_script_run_ctx

from usage_explore.app import markdown
from usage_explore.app.page_state import EventsView, ExploreView, Pairs, ValidateView
from usage_explore.errors import UsageExploreError
from usage_explore.query import url_params
from usage_explore.query.url_params import query_string

View = ExploreView | EventsView | ValidateView

MAX_LINK_PARAMETERS, MAX_LINK_BYTES = 950, 60_000
"""Bounds of the links that the app writes: of a link beyond 1,000 parameters Streamlit reads none, and says nothing;
its server accepts request lines of 64 kB."""

_RESEND_SECONDS = 3
"""How long a widget's new value is sent with every run."""

_ABSENT = object()


class Pages(NamedTuple):
    """The app's pages, as the targets of links."""

    explore: Page
    events: Page
    validate: Page


def follow(key: str, value: object) -> str:
    """Set the widget of the key to the value from the URL; returns the key."""
    now = time.monotonic()
    if st.session_state.get(key, _ABSENT) != value:
        st.session_state[f"{key} set at"] = now
    # Streamlit sends a value only in the run that sets it; a click while the page loads starts another run, and the
    # browser may draw the widgets of that one first, with their defaults
    if now - st.session_state.get(f"{key} set at", -_RESEND_SECONDS) < _RESEND_SECONDS:
        st.session_state[key] = value
    return key


def go(view: Callable[[], View]) -> None:
    """Show another view, as a new entry in the browser's history; if it is invalid or too long, say so and stay."""
    try:
        pairs = view().to_params()
    except UsageExploreError as error:
        st.session_state["notice"] = str(error)
        return
    if fits(pairs):
        write_url(pairs)
    else:
        st.session_state["notice"] = "That needs more filters than a link can hold; narrow it first."


def changed(key: str, view: Callable[[Any], View]) -> Callable[[], None]:
    """A widget's callback that shows `view(value)` for the widget's new value."""
    return lambda: go(lambda: view(st.session_state[key]))


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


def write_url(pairs: Iterable[tuple[str, str]]) -> None:
    """Put the parameters into the address bar: a new entry in the browser's history if they differ."""
    values: defaultdict[str, list[str]] = defaultdict(list)
    for name, value in pairs:
        values[name].append(value)
    shown = {name: sorted(st.query_params.get_all(name)) for name in st.query_params}
    if {name: sorted(texts) for name, texts in values.items()} != shown:
        st.query_params.from_dict(values)


def page_url(path: str, pairs: Iterable[tuple[str, str]], app_url: str) -> str:
    """An absolute link to a path of the app, on the host in the browser's address bar, else on `app_url`."""
    parts = urlsplit(st.context.url or app_url)
    root = parts.path.removesuffix("/")
    for name in Pages._fields:
        root = root.removesuffix(f"/{name}")
    return urlunsplit(parts._replace(path=f"{root}/{path}", query=query_string(pairs), fragment=""))
