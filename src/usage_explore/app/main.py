"""The script Streamlit runs: page config, the pages, and the one place where errors become sentences."""

from __future__ import annotations

import streamlit as st

from usage_explore.app import events, explore
from usage_explore.app.pages import Pages
from usage_explore.app.problems import shown


def run(first: str = "explore") -> None:
    """Draw the page that the address names; `first` is the one at `/`."""
    st.set_page_config(page_title="usage-explore", page_icon=":material/monitoring:", layout="wide")

    def explore_page() -> None:
        with shown():
            explore.draw(pages)

    def events_page() -> None:
        with shown():
            events.draw(pages)

    pages = Pages(
        explore=st.Page(explore_page, title="Explore", url_path="explore", default=first == "explore"),
        events=st.Page(events_page, title="Events", url_path="events", default=first == "events"),
    )
    st.navigation(list(pages), position="hidden").run()


if __name__ == "__main__":
    run()
