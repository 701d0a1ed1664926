"""The extract of the organization on a page: refreshed in the background, or offered where a first build takes long."""

from __future__ import annotations

from uuid import UUID

import streamlit as st

from usage_explore import config
from usage_explore.extract.background import Background
from usage_explore.formatting import counted, duration, size


@st.cache_resource(show_spinner=False)
def _background() -> Background:
    """The thread that refreshes extracts, one for the server."""
    return Background(config.settings())


def keep_fresh(organization_id: UUID) -> None:
    """Have the organization's extract refreshed if it is due, and draw the offer of a first build that takes long."""
    background = _background()
    offer = background.look(organization_id)
    if background.is_building(organization_id):
        st.caption(
            "A copy of the events is being made on this machine. Until it is complete, charts read the database."
        )
    elif offer is not None:
        with st.container(horizontal=True, vertical_alignment="center", key="extract_offer"):
            st.caption(
                f"Charts read about {counted(offer.events, 'event')} from the database. A copy on this machine answers"
                f" in milliseconds: about {size(offer.bytes)} and {duration(offer.time)}."
            )
            st.button(
                "Make the copy",
                on_click=background.start,
                args=(organization_id,),
                type="tertiary",
                key="extract_start",
            )
