"""The link that shows the same numbers next year."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import markdown, url
from usage_explore.app.navigation import View


def share(page: str, pinned: View, configured: str) -> None:
    """Draw the link to a pinned view, to copy, and say what it promises."""
    st.markdown("**Pinned link**")
    st.code(url.address(page, pinned.to_params(), configured), language=None, wrap_lines=True)
    zone = ZoneInfo(pinned.timezone)
    known = markdown.plain(f"{formatting.timestamp(pinned.query.as_of, zone)} {zone}") if pinned.query.as_of else ""
    st.caption(
        f"Absolute times, and only events that had arrived by {known}: it shows the same"
        " numbers whenever it is opened, whatever arrives late. The address bar holds the live link, which keeps "
        "moving with the clock."
    )
