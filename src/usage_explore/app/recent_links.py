"""The links that were opened last in this browser tab's session, for the Home page; they end with the session."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

import streamlit as st

from usage_explore.app.navigation import View, fits
from usage_explore.app.page_state import EventsView, HomeView, Pairs
from usage_explore.query.describe import describe
from usage_explore.results.named import filtered_ids

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


def remember(view: View) -> None:
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
    others = [other for other in links() if other[:3] != link[:3]]
    st.session_state[_LINKS] = [link, *others][:MAX_RECENT_LINKS]


def links() -> list[RecentLink]:
    """The links, newest first."""
    remembered: list[RecentLink] = st.session_state.get(_LINKS, [])
    return remembered
