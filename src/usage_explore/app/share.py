"""The link that shows the same numbers next year."""

from __future__ import annotations

import streamlit as st

from usage_explore.app import url
from usage_explore.app.navigate import View


def share(page: str, pinned: View, configured: str) -> None:
    """Draw the link to a pinned view, to copy, and say what it promises."""
    st.markdown("**Pinned link**")
    st.code(url.address(page, pinned.to_params(), configured), language=None, wrap_lines=True)
    st.caption(
        f"Absolute times, and only events that had arrived by {pinned.query.as_of:%Y-%m-%d %H:%M:%S} UTC: it shows "
        "the same numbers whenever it is opened, whatever arrives late. The address bar holds the live link, which "
        "keeps moving with the clock."
    )
