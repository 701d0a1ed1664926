"""Filters by an event's own values: "only" and "not" for each of its columns and dimensions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from usage_explore.app import components, query_edits
from usage_explore.app.grid import dimensions, group_of_column
from usage_explore.decimals import dimension_text
from usage_explore.event_pages import EventPage
from usage_explore.names import Names
from usage_explore.query import filters
from usage_explore.query.filters import DIMENSION, GROUPS, dimension_group, dimension_key
from usage_explore.results.types import Event

Act = Callable[[str, str | None, query_edits.Action], None]
Pair = tuple[str, str | None]
"""A group and the event's value of it, None if it has none."""


def pairs(event: Event) -> list[Pair]:
    """The event's values of every group that it can be filtered by.

    Dimensions whose value is a list or an object are left out, as are keys that are too long for a filter.
    """
    columns = ((name, getattr(event, name)) for name in GROUPS)
    found: list[Pair] = [(name, None if value is None else str(value)) for name, value in columns]
    for key, value in dimensions(event).items():
        try:
            group = filters.group(dimension_group(dimension_key(f"{DIMENSION}{key}")))
        except ValueError:
            continue
        if not isinstance(value, list | dict):
            found.append((group, dimension_text(value)))
    return found


def pairs_of_column(event: Event, column: str) -> list[Pair]:
    """Those of `pairs` that a column of the table of events shows; none for times, numbers and the event's own id."""
    group = group_of_column(column)
    return [pair for pair in pairs(event) if group == pair[0] or (group == DIMENSION and pair[0].startswith(DIMENSION))]


def of_cell(page: EventPage, cells: Sequence[tuple[int, str]], act: Act) -> None:
    """Draw the filters by a selected cell, (row, column), of the table of a page's events; else how to select one."""
    if len(cells) != 1 or cells[0][0] >= len(page.events):
        st.caption("Click a cell for only its value, or not.")
        return
    row, column = cells[0]
    if shown := pairs_of_column(page.events[row], column):
        draw(shown, page.names, "cell_values", act)
    else:
        st.caption("This column is no filter.")


def draw(shown: Sequence[Pair], names: Names, key: str, act: Act) -> None:
    """Draw a row per value; `act(group, value, action)` is called for a click on its name or on its "not"."""
    rows = tuple(_row(group, value, names) for group, value in shown)
    table = components.BoardTable(
        id=key,
        name="Filter to a value, or exclude it",
        values="",
        rows=rows,
        search=None,
        searchable=False,
        groupable=False,
    )

    def clicked(_: str, row: int, action: query_edits.Action) -> None:
        if row < len(shown):
            act(*shown[row], action)

    components.draw_boards([table], ("", "", ""), key=key, act=clicked, layout="list")


def _row(group: str, value: str | None, names: Names) -> components.BoardCell:
    label, full = "(missing)", "(missing)"
    if value is not None:
        label = query_edits.short_value(group, value, names)
        full = value if label == value else f"{label} ({value})"
    field = query_edits.group_label(group)
    return components.BoardCell(
        name=f"{field} {label}",
        title=f"{field} {full}",
        total="",
        part="",
        change="",
        share=0.0,
        actionable=True,
        excludable=True,
    )
