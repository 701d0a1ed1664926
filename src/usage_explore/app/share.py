"""The link that shows the same numbers next year."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st

from usage_explore.app import url
from usage_explore.app.url import Pairs


def share(page: str, pinned: Pairs, settle: timedelta, configured: str) -> None:
    """Draw the pinned link to copy, and say what it promises."""
    st.markdown("**Pinned link**")
    st.code(url.address(page, pinned, configured), language=None, wrap_lines=True)
    minutes = f"{settle.total_seconds() / 60:g}"
    st.caption(
        "Absolute times, and only events that had arrived "
        f"{minutes} minutes ago: it shows the same numbers whenever it is opened, whatever arrives late. "
        "The address bar holds the live link, which keeps moving with the clock."
    )
