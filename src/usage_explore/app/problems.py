"""Errors and empty results as sentences on the page: what is wrong and what to do, never a stack trace."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st
from streamlit.navigation.page import Page

from usage_explore.app import cache, markdown, sign_in
from usage_explore.app.load import permission
from usage_explore.errors import DatabaseUnavailable, QueryError, ScopeError, UsageExploreError

_log = logging.getLogger(__name__)

_RETRY_SECONDS = 2  # between attempts to reach a database that is unavailable


@contextmanager
def shown() -> Iterator[None]:
    """Draw a part of a page; draw its error in its place."""
    try:
        yield
    except QueryError as error:
        _bad_link(error)
    except DatabaseUnavailable as error:
        _unavailable(error)
    except ScopeError as error:
        sentence(str(error), icon=":material/lock:")
    except UsageExploreError as error:
        st.error(markdown.prose(str(error)), icon=":material/error:")
    except Exception:
        _log.exception("A page failed unexpectedly")
        st.error(
            "This page failed in a way that was not foreseen; the server's log says how. Nothing was changed.",
            icon=":material/error:",
        )


def sentence(text: str, icon: str = ":material/info:") -> None:
    """Draw a note in place of missing content; `commands` in backquotes are shown as code."""
    st.info(markdown.prose(text), icon=icon)


def no_events(load: Page, text: str = "There are no events yet, or row-level security hides them.") -> None:
    """Draw how to load events, a link to the page `load` where it is offered, and a button to look again."""
    is_offered = permission.is_offered()
    sentence(
        f"{text} "
        + ("Load a file here, or in a terminal " if is_offered else "In a terminal, load yours ")
        + "with `usage-explore load FILE`, or make some with `usage-explore demo`."
    )
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="no_events"):
        if is_offered:
            st.page_link(load, label="Load a file", icon=":material/upload_file:")
        st.button("Look again", key="look_again", icon=":material/refresh:")


def _bad_link(error: QueryError) -> None:
    lines = "\n".join(
        f"- **{markdown.plain(fault.parameter) or 'a parameter without a name'}**: {markdown.plain(fault.message)}"
        for fault in error.faults
    )
    st.error(f"This link cannot be shown:\n\n{lines}", icon=":material/link_off:")
    st.button("Start over", on_click=st.query_params.clear, key="start_over")


def _unavailable(error: DatabaseUnavailable) -> None:
    text = str(error) if sign_in.is_alone() else error.public
    st.error(
        f"{markdown.prose(text)}\n\nNothing is shown until the database can be read; this page looks every "
        f"{_RETRY_SECONDS} seconds and continues by itself.",
        icon=":material/cloud_off:",
    )
    st.session_state["unavailable_since"] = time.monotonic()
    _watch()


@st.fragment(run_every=_RETRY_SECONDS)
def _watch() -> None:
    """Rerun the page once the database answers; not at once, else a database that fails half-way gives a loop."""
    if time.monotonic() - st.session_state["unavailable_since"] < _RETRY_SECONDS / 2:
        return
    try:
        cache.store().now()  # starts an embedded server that stopped
    except UsageExploreError:
        return
    st.rerun()
