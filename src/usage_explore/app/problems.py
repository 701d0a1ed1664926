"""Errors as sentences: what is wrong and what to do, never a stack trace, never a number beside it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from usage_explore.app import cache, markdown, sign_in
from usage_explore.errors import DatabaseUnavailable, QueryError, ScopeError, UsageExploreError

_log = logging.getLogger(__name__)

_PATIENCE = 2  # seconds between looks at a database that is away


@contextmanager
def shown() -> Iterator[None]:
    """Run a part of a page; where it fails on purpose, say so in its place."""
    try:
        yield
    except QueryError as error:
        _bad_link(error)
    except DatabaseUnavailable as error:
        _away(error)
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
    """One calm sentence where otherwise there would be nothing."""
    st.info(markdown.prose(text), icon=icon)


def no_events(said: str = "There are no events yet, or row-level security hides them.") -> None:
    """No event at all: how to get some, and another look once they are there."""
    sentence(
        f"{said} In a terminal, load yours with `usage-explore load FILE`, or make some with `usage-explore demo`."
    )
    st.button("Look again", key="look_again", icon=":material/refresh:")


def _bad_link(error: QueryError) -> None:
    lines = "\n".join(
        f"- **{markdown.plain(fault.parameter) or 'a parameter without a name'}**: {markdown.plain(fault.message)}"
        for fault in error.faults
    )
    st.error(f"This link cannot be shown:\n\n{lines}", icon=":material/link_off:")
    st.button("Start over", on_click=st.query_params.clear, key="start_over")


def _away(error: DatabaseUnavailable) -> None:
    said = str(error) if sign_in.is_alone() else error.public
    st.error(
        f"{markdown.prose(said)}\n\nNothing is shown until it answers again; this page looks every "
        f"{_PATIENCE} seconds and continues by itself.",
        icon=":material/cloud_off:",
    )
    st.session_state["away_since"] = time.monotonic()
    _watch()


@st.fragment(run_every=_PATIENCE)
def _watch() -> None:
    """Look whether the database is back; not at once, or a database that fails half-way would be asked in a loop."""
    if time.monotonic() - st.session_state["away_since"] < _PATIENCE / 2:
        return
    try:
        cache.wake()
    except UsageExploreError:
        return
    st.rerun()
