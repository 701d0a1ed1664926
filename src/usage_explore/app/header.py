"""The top line: where we are, whose events, in which zone, as of when, and the link to share."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from zoneinfo import ZoneInfo, available_timezones

import streamlit as st

from usage_explore import formatting
from usage_explore.app import organization, sign_in
from usage_explore.app.navigation import View, changed, follow
from usage_explore.app.pages import Pages
from usage_explore.app.url import Pairs


def header(
    pages: Pages,
    view: View,
    *,
    now: datetime,
    timezone: str,
    in_zone: Callable[[str], View],
    links: tuple[Pairs, Pairs, Pairs],
    share: Callable[[], None],
) -> None:
    """Draw the header; `links` are the parameters that each page is opened with."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="header"):
        st.markdown("**usage-explore**", width="content")
        for page, pairs in zip(pages, links, strict=True):
            st.page_link(page, query_params=pairs)
        organization.picker(view)
        if organization.is_demo(view.query.organization_id):
            st.badge("Demo data", color="gray", help="Made up. Load your own events with `usage-explore load FILE`.")
        st.space("stretch")
        zone = ZoneInfo(timezone)
        known = min(now, view.query.as_of or now).astimezone(zone)
        day = "" if known.date() == now.astimezone(zone).date() else f"{formatting.date(known)} "
        key = follow("timezone", timezone)
        st.selectbox(
            "Time zone",
            _zones(),
            key=key,
            on_change=changed(key, in_zone),
            label_visibility="collapsed",
            width=190,
            help="All bucket edges and all times on the page follow this zone.",
        )
        st.caption(
            f"as of {day}{known.astimezone(zone):%H:%M}",
            width="content",
            help=f"Numbers are as the database knew them at {formatting.timestamp(known, zone)} ({timezone}).",
        )
        with st.popover("Share", icon=":material/share:"):
            share()
        sign_in.account()


@st.cache_data(show_spinner=False)
def _zones() -> tuple[str, ...]:
    """UTC first, then the world's cities; the same names that a link may carry."""
    names = sorted(available_timezones() - {"localtime", "Factory", "UTC"})
    return ("UTC", *(name for name in names if "/" in name), *(name for name in names if "/" not in name))
