"""The component that draws leaderboards: a grid of small tables, whose names are buttons, without a canvas.

Real tables and buttons are reached by the keyboard and read by screen readers; all boards are one element of the page.
The component holds no state: `draw` gives it texts, and calls `act`, `search` or `group` for a click.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from usage_explore.app.components import clicked, component
from usage_explore.app.query_edits import Action

Layout = Literal["grid", "wide", "list"]


@dataclass(frozen=True, slots=True)
class Cell:
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
class Table:
    """A board as it is drawn. `id` is returned by its clicks; `search` is the text searched for, None if not open."""

    id: str
    name: str
    values: str
    rows: tuple[Cell, ...]
    search: str | None
    note: str = ""
    searchable: bool = True
    groupable: bool = True


def draw(
    tables: Sequence[Table],
    headings: tuple[str, str, str],
    *,
    key: str,
    act: Callable[[str, int, Action], None],
    search: Callable[[str, str | None], None] = lambda table, text: None,
    group: Callable[[str], None] = lambda table: None,
    exclude: Callable[[int, int], None] = lambda row, place: None,
    layout: Layout = "grid",
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
