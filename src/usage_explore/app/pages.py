"""The app's pages, for links from one to the other."""

from __future__ import annotations

from typing import NamedTuple

from streamlit.navigation.page import Page


class Pages(NamedTuple):
    """Each page by name."""

    explore: Page
    events: Page
    validate: Page
