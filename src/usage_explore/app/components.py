"""The page's own components in JavaScript: their files, callbacks of their events, functions that draw them.

The picker of filters is a searchable list of rows to pick from, values several at once. The search works in the
browser, without a run of the page; `draw_picker` calls back for what is picked. Ticks take effect one by one, and stay
while the page follows.

Boards are a grid of small tables, whose names are buttons, without a canvas. Real tables and buttons are reached by the
keyboard and read by screen readers; all boards are one element of the page. The component holds no state:
`draw_boards` gives it texts, and calls `act`, `search` or `group` for a click.

The focus stays near a control that the page removes, such as a button that was pressed; what the headline then says
is announced to screen readers.

The width of the page's content is known where it is little: tables have fixed widths, so there they leave columns out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import streamlit as st

from usage_explore.app.query_edits import Action


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


def keep_focus() -> None:
    """Keep the keyboard's focus beside a control that the page removes, or on the button of its popover."""
    with st.container(key="kept_focus"):  # takes no room
        component("keep_focus")(key="kept focus")


def announce() -> None:
    """Let screen readers say the numbers of the page's headline when they have changed."""
    with st.container(key="announced"):  # takes no room
        component("announce")(key="announced changes")


_WRITING = ("sign_off", "decide_", "make_short_link", "revoke", "view_")
"""How the keys of buttons begin that write a record."""


def one_press() -> None:
    """Take a second press of a button that writes a record, within 0.7 seconds, for a part of the first."""
    with st.container(key="one_press"):  # takes no room
        component("one_press")(key="pressed once", data={"keys": _WRITING})


def popover_form(
    label: str, icon: str, key: str, width: int = 320, type: Literal["secondary", "tertiary"] = "secondary"
) -> Any | None:
    """The form in a popover, which the keyboard's focus enters when it opens; None while it is closed."""
    popover = st.popover(label, icon=icon, key=key, on_change="rerun", type=type)
    if not popover.open:
        return None
    form = popover.container(width=width, gap="small", key=f"{key}_form")
    with popover:
        focus(f".st-key-{key.replace(' ', '-')}_form", f"{key}_focus")
    return form


_WRITTEN = "written"
"""Session state: the button that wrote a record last, and the time at which it was done."""

_SECOND_PRESS_SECONDS = 5
"""How long the page may take to show what a button wrote, on a busy machine."""


def once(button: str, write: Callable[[], bool]) -> None:
    """Write the record of a button that was pressed; ignore a second press while the page follows the first.

    `button` names the button and what it writes; `write` returns whether it was written, else it may be tried again.
    """
    before, at = st.session_state.get(_WRITTEN, ("", 0.0))
    if (before != button or time.monotonic() - at > _SECOND_PRESS_SECONDS) and write():
        st.session_state[_WRITTEN] = button, time.monotonic()


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


@dataclass(frozen=True, slots=True)
class PickerChoice:
    """A row: the search looks into `find`, `count` is the text at the right.

    A value that is `alone` cannot be chosen together with others, but can be excluded with them.
    """

    id: str
    name: str
    title: str
    find: str
    count: str = ""
    alone: bool = False


def draw_picker(
    rows: Sequence[PickerChoice],
    *,
    key: str,
    label: str,
    placeholder: str,
    none: str,
    act: Callable[[Sequence[str], Action], None],
    field: str = "",
    typable: bool = False,
    searched: Callable[[str, Action], None] | None = None,
    ticked: Sequence[str] = (),
    action: Action = "only",
    refused: bool = False,
    current: str | None = None,
) -> None:
    """Draw the list. `act(ids, action)` is called for a field, or for all ticked values after each change of them.

    The rows are values of a `field`, or without one fields to choose, of which `current` is chosen. The `ticked` ones
    are those that the page is filtered to, or by `action` "not" the ones that it is without. `refused` says that the
    last ticks did not take effect. If it is `typable`, a text that is no row can be ticked, too, under the id "=text";
    `searched(text, action)` is called for it instead, if the text may be a part of a name. `none` is shown without a
    row.
    """

    def search(event: Any) -> None:
        if searched is not None:
            searched(event["text"], event["action"])

    component("picker")(
        key=key,
        data={
            "epoch": key,
            "rows": [asdict(row) for row in rows],
            "label": label,
            "placeholder": placeholder,
            "none": none,
            "field": field,
            "typable": typable,
            "searched": searched is not None,
            "ticked": list(ticked),
            "action": action,
            "refused": refused,
            "current": current,
        },
        on_act_change=clicked(key, "act", lambda event: act(event["ids"], event["action"])),
        on_typed_change=clicked(key, "typed", search),
    )


BoardLayout = Literal["grid", "wide", "list"]


@dataclass(frozen=True, slots=True)
class BoardCell:
    """A row as it is drawn. `title` is the exact text of its tooltip, `share` between 0 and 1 the length of its bar,
    which is dashed if `is_against`.

    `actionable` rows have the button "only", `excludable` ones the button "not", those with a `link` one to that page,
    those with `rows` one to their events, with a tooltip.
    `exclusions` are the titles of further buttons, each of which excludes a part of the row's conditions.
    """

    name: str
    title: str
    total: str
    part: str
    change: str
    share: float
    actionable: bool
    excludable: bool
    link: str = ""
    exclusions: tuple[str, ...] = ()
    is_against: bool = False
    rows: str = ""
    rows_title: str = ""


@dataclass(frozen=True, slots=True)
class BoardTable:
    """A board as it is drawn. `id` is returned by its clicks; `search` is the text searched for, None if not open."""

    id: str
    name: str
    values: str
    rows: tuple[BoardCell, ...]
    search: str | None
    note: str = ""
    searchable: bool = True
    groupable: bool = True


def draw_boards(
    tables: Sequence[BoardTable],
    headings: tuple[str, str, str],
    *,
    key: str,
    act: Callable[[str, int, Action], None],
    search: Callable[[str, str | None], None] = lambda table, text: None,
    group: Callable[[str], None] = lambda table: None,
    exclude: Callable[[int, int], None] = lambda row, place: None,
    layout: BoardLayout = "grid",
) -> None:
    """Draw the boards. `act(table, row, action)` is called for a click in a row, `group(table)` for one on a title.

    `search(table, text)` is called for a text typed, None if the search is closed, `exclude(row, place)` for a click on
    one of a row's `exclusions`.
    The boards are a "grid", or "wide" with lines of their own; a "list" has names only.
    """
    component("boards")(
        key=key,
        data={"tables": [asdict(table) for table in tables], "headings": list(headings), "layout": layout},
        on_act_change=clicked(key, "act", lambda event: act(event["table"], event["row"], event["action"])),
        on_search_change=clicked(key, "search", lambda event: search(event["table"], event["text"])),
        on_exclude_change=clicked(key, "exclude", lambda event: exclude(event["row"], event["place"])),
        on_group_change=clicked(key, "group", lambda event: group(event["table"])),
    )


_KEY, _ROOM = "screen", "room in pixels"
"""Session state: the component that measures, and what it has measured, 0 for a wide screen."""

_WIDEST_PIXELS = 760
"""Width of a screen up to which it is measured."""

_PHONE_PIXELS = 360
"""Width of the content on a screen of 390 pixels, taken for a phone's until it is measured."""


def watch_room() -> None:
    """Watch the page in the browser; where it has another width or theme than it was drawn for, it is drawn again."""
    with st.container(key="room"):  # takes no room
        data = {"room": room_pixels() or 0, "widest": _WIDEST_PIXELS, "theme": st.context.theme.type}
        measured = clicked(_KEY, "room", _remember_room)
        component("room")(key=_KEY, data=data, on_room_change=measured, on_theme_change=lambda: None)


def _remember_room(room: int) -> None:
    st.session_state[_ROOM] = min(max(int(room), 0), _WIDEST_PIXELS)


def room_pixels() -> int | None:
    """The width of the content of a narrow screen, None of a wide one."""
    if _ROOM not in st.session_state:
        return _PHONE_PIXELS if "Mobi" in st.context.headers.get("User-Agent", "") else None
    return st.session_state[_ROOM] or None
