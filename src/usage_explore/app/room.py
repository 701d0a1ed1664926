"""How wide the page's content is, where that is little: tables have fixed widths, so there they leave columns out."""

from __future__ import annotations

import streamlit as st

from usage_explore.app.components import clicked, component

_KEY, _ROOM = "screen", "room in pixels"
"""Session state: the component that measures, and what it has measured, 0 for a wide screen."""

_WIDEST_PIXELS = 760
"""Width of a screen up to which it is measured."""

_PHONE_PIXELS = 360
"""Width of the content on a screen of 390 pixels, taken for a phone's until it is measured."""


def watch() -> None:
    """Measure the page in the browser; where it is another width than it was drawn for, it is drawn again."""
    with st.container(key="room"):  # takes no room
        data = {"room": pixels() or 0, "widest": _WIDEST_PIXELS}
        component("room")(key=_KEY, data=data, on_room_change=clicked(_KEY, "room", _remember))


def _remember(room: int) -> None:
    st.session_state[_ROOM] = min(max(int(room), 0), _WIDEST_PIXELS)


def pixels() -> int | None:
    """The width of the content of a narrow screen, None of a wide one."""
    if _ROOM not in st.session_state:
        return _PHONE_PIXELS if "Mobi" in st.context.headers.get("User-Agent", "") else None
    return st.session_state[_ROOM] or None
