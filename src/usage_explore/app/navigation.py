"""From a widget to the address bar: callbacks that write the changed view, widgets that follow it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from usage_explore.app import markdown, url
from usage_explore.app.page_state import EventsView, ExploreView
from usage_explore.app.validate.view import ValidateView
from usage_explore.errors import UsageExploreError
from usage_explore.query.url_params import query_string

View = ExploreView | EventsView | ValidateView

# Streamlit reads at most 1,000 parameters and silently none of a longer link; its server takes 64 kB.
MOST_PARAMETERS, LONGEST = 950, 60_000

_SETTLING = 3  # seconds in which a widget's new value is sent again

_ABSENT = object()


def follow(key: str, value: object) -> str:
    """Make the widget of that key show what the URL says; gives the key back."""
    now = time.monotonic()
    if st.session_state.get(key, _ABSENT) != value:
        st.session_state[f"{key} set at"] = now
    # Streamlit sends a value only in the run that sets it; a click while the page loads starts another run, and the
    # browser may draw the widgets of that one first, with their defaults
    if now - st.session_state.get(f"{key} set at", -_SETTLING) < _SETTLING:
        st.session_state[key] = value
    return key


def go(view: Callable[[], View]) -> None:
    """Show another view, as a new entry in the browser's history; where there is none, keep this one and say why."""
    try:
        pairs = view().to_params()
    except UsageExploreError as error:
        st.session_state["notice"] = str(error)
        return
    if fits(pairs):
        url.write(pairs)
    else:
        st.session_state["notice"] = "That needs more filters than a link can hold; narrow it first."


def changed(key: str, view: Callable[[Any], View]) -> Callable[[], None]:
    """A widget's callback: the view that its new value makes."""
    return lambda: go(lambda: view(st.session_state[key]))


def fits(pairs: url.Pairs) -> bool:
    """Whether a link can hold the parameters."""
    return len(pairs) <= MOST_PARAMETERS and len(query_string(pairs)) <= LONGEST


def notice() -> None:
    """What the last callback could not do, said once."""
    if text := st.session_state.pop("notice", None):
        st.warning(markdown.plain(text).replace("\n", "  \n"), icon=":material/info:")
