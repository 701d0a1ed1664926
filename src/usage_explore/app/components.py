"""What the page's own components in JavaScript share: their files, and the callbacks of their events."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import streamlit as st


@cache
def component(name: str) -> Any:
    """The component of `<name>.css` and `<name>.js`, which can call what `elements.js` defines."""
    folder = files(__package__)
    css, shared, own = (
        folder.joinpath(file).read_text(encoding="utf-8") for file in (f"{name}.css", "elements.js", f"{name}.js")
    )
    return st.components.v2.component(f"usage_explore_{name}", css=css, js=f"{shared}\n{own}")


def clicked(key: str, name: str, then: Callable[[Any], None]) -> Callable[[], None]:
    """The callback that calls `then` with an event `name` of the component with this key."""

    def callback() -> None:
        event = getattr(st.session_state[key], name, None)
        if event is not None:
            then(event)

    return callback
