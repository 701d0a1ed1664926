"""What the page's own components in JavaScript share: their files, and the callbacks of their events."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from typing import Any

import streamlit as st


@cache
def component(name: str) -> Any:
    """The component of `<name>.js`, which can call what `elements.js` defines, with the style `<name>.css`, if any."""
    folder = files(__package__)
    shared, own = (folder.joinpath(file).read_text(encoding="utf-8") for file in ("elements.js", f"{name}.js"))
    style = folder.joinpath(f"{name}.css")
    css = style.read_text(encoding="utf-8") if style.is_file() else None
    return st.components.v2.component(f"usage_explore_{name}", css=css, js=f"{shared}\n{own}")


def focus(selector: str, key: str) -> None:
    """Put the keyboard's focus into the element of a CSS selector, when this is drawn for the first time.

    Of a group, the next Tab goes to its first control.
    """
    component("focus")(key=key, data={"selector": selector})


def popover_form(label: str, icon: str, key: str, width: int = 320) -> Any | None:
    """The form in a popover, which the keyboard's focus enters when it opens; None while it is closed."""
    popover = st.popover(label, icon=icon, key=key, on_change="rerun")
    if not popover.open:
        return None
    form = popover.container(width=width, gap="small", key=f"{key}_form")
    with popover:
        focus(f".st-key-{key}_form", f"{key}_focus")
    return form


def visit(href: str, key: str) -> None:
    """Go to a link of the app, such as `events?limit=50`, when this is drawn for the first time."""
    component("visit")(key=key, data={"href": href})


def clicked(key: str, name: str, then: Callable[[Any], None]) -> Callable[[], None]:
    """The callback that calls `then` with an event `name` of the component with this key."""

    def callback() -> None:
        # without a state where the run was cut short in which the component was first drawn
        event = getattr(st.session_state.get(key), name, None)
        if event is not None:
            then(event)

    return callback
