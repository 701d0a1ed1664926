"""The tab "Why": the few values and pairs that account for the change of the selection, each a click to filter, and
another one to its events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal

import streamlit as st

from usage_explore import formatting
from usage_explore.app import components, markdown, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.navigation import fits, go, link
from usage_explore.app.page_state import EventsView, ExploreView
from usage_explore.app.selected import settled_series
from usage_explore.app.validate.run import watched
from usage_explore.comparison import lengths
from usage_explore.errors import QueryError
from usage_explore.explain import Cell, Explanation, Part
from usage_explore.explain.result import EVERYTHING_ELSE
from usage_explore.explain.spans import words
from usage_explore.names import Names
from usage_explore.query.describe import group_name
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import METRICS, RATIOS, AggregateQuery
from usage_explore.selection import Selection, Windows

_MAX_EXACT_CHARACTERS = 12
"""Characters of a change up to which the table has all its digits; those of a longer one are in its tooltip."""


def draw(view: ExploreView, source: Source, selection: Selection, windows: Windows | str, adds: str = "") -> None:
    """Draw what accounts for the change between the two windows; that of the cost for a unit cost.

    `adds` says what unlike metrics the quantities add.
    """
    if isinstance(windows, str):
        st.info(markdown.plain(f"There is no change to explain: {windows}."))
        return
    now, before = windows.now, windows.before
    query = selection.query.replace(since=now.since, until=now.until, group_by="none", compare=None, cumulative=None)
    notes = _notes(query, windows, adds)
    if query.metric in RATIOS:
        query = query.replace(metric="sum_cost")
    place = st.empty()

    def watch(work: Callable[[], Explanation]) -> Explanation:
        def show(_: dict[str, float], seconds: float) -> None:
            place.caption(f":material/progress_activity: Searching for the causes · {seconds:.0f} s")

        return watched(lambda _: work(), show)

    explanation = source.explanation(query, (before.since, before.until), watch)
    place.empty()
    st.markdown(markdown.plain(formatting.typographic(formatting.short_ids(explanation.headline))))
    if explanation.cells:
        _table(view, selection, explanation)
    if notes := [*notes, *explanation.notes]:
        st.caption(markdown.plain(f"{'. '.join(notes)}."))


def _notes(query: AggregateQuery, windows: Windows, adds: str) -> list[str]:
    """What must be known to read the change: that it adds unlike metrics, or is of another measure or of windows of
    other lengths.
    """
    notes = [f"The quantity {adds}"] if adds else []
    if query.metric in RATIOS:
        notes.append("A unit cost is a ratio, whose change has no parts: this is the change of its cost")
    now, before = windows.now, windows.before
    if words := lengths(query, (now.since, now.until), (before.since, before.until)):
        notes.append(f"The two windows differ in length: {words}")
    return notes


def draw_parts(
    explanation: Explanation,
    key: str,
    act: Callable[[Cell, query_edits.Action], None] | None = None,
    exclude: Callable[[Cell, int], None] | None = None,
) -> tuple[components.BoardCell, ...]:
    """Draw the parts, each with a link to its events, and with what filters by it if there is an `act`; the rows."""
    cells = explanation.cells
    largest = max(Decimal(part.contribution).copy_abs() for part in (*cells, explanation.rest))
    rows = tuple(
        _row(explanation, part, label, largest)
        for part, label in (
            *((cell, explanation.names.in_text(cell.label)) for cell in cells),
            (explanation.rest, EVERYTHING_ELSE),
        )
    )
    if act is None:
        rows = tuple(replace(row, actionable=False, excludable=False, exclusions=()) for row in rows)
    table = components.BoardTable(
        id="causes", name="What changed", values="", rows=rows, search=None, searchable=False, groupable=False
    )

    def acted(_: str, row: int, action: query_edits.Action) -> None:
        if act is not None and row < len(cells):
            act(cells[row], action)

    def excluded(row: int, place: int) -> None:
        if exclude is not None and row < len(cells) and place < len(cells[row].where):
            exclude(cells[row], place)

    amounts = "before → after" if explanation.expected is None else "expected → actual"
    headings = ("change", "of the change" if explanation.change else "", amounts)
    components.draw_boards([table], headings, key=key, act=acted, exclude=excluded, layout="wide")
    if any(row.is_against for row in rows):
        st.caption(
            "A bar is as long as the part's change. Dashed: against the change of the total, so its percentage is "
            "negative; those of all parts add up to 100 %."
        )
    return rows


def _table(view: ExploreView, selection: Selection, explanation: Explanation) -> None:
    rows = draw_parts(
        explanation,
        "causes",
        lambda cell, action: go(view, lambda: filtered(view, selection, cell, action)),
        lambda cell, place: go(view, lambda: without_value(view, selection, cell, place)),
    )
    if any(row.exclusions for row in rows):
        st.caption(
            "A pair cannot be excluded alone, as filters know no “not both”. Each ≠ beside it excludes one of its "
            "values, with all other events of that value."
        )


def without_value(view: ExploreView, selection: Selection, cell: Cell, place: int) -> ExploreView:
    """The view without the events of one value of the cell, whatever their other values are."""
    settled = settled_series(view, selection)
    return settled.with_query(query_edits.without_value(settled.query, *cell.where[place]))


def filtered(view: ExploreView, selection: Selection, cell: Cell, action: query_edits.Action) -> ExploreView:
    """The view with only the cell's events, or without its one value; the selected time stays."""
    settled = settled_series(view, selection)
    query = settled.query
    if action == "not":
        return settled.with_query(query_edits.without_value(query, *cell.where[0]))
    named = [pair for pair in cell.always if pair[0] == ID_COLUMNS[0]]  # the label names its customer, too
    for group, value in (*named, *cell.where):
        query = query_edits.only(query, group, value)
    for group, value in cell.without:
        query = query_edits.without_value(query, group, value)
    return settled.with_query(query)


def _row(explanation: Explanation, part: Part, label: str, largest: Decimal) -> components.BoardCell:
    names, unit = explanation.names, METRICS[explanation.query.metric]
    before, after = formatting.exact(part.before), formatting.exact(part.after)
    change = formatting.signed(part.contribution)
    shown = change if len(change) <= _MAX_EXACT_CHARACTERS else explanation.rounded_change(part.contribution)
    is_single = isinstance(part, Cell) and len(part.where) == 1 and not part.without
    states, without = [], ""
    if isinstance(part, Cell):
        without = names.in_text(part.exclusions)
        states += ["new"] if part.is_new else ["gone"] if part.is_gone else []
    states += ["against the change"] if part.is_against else []
    size = Decimal(part.contribution).copy_abs()
    rows, rows_title = _rows(explanation, part) if isinstance(part, Cell) else ("", "")
    return components.BoardCell(
        name=formatting.short_ids(label) + (f" ({', '.join(states)})" if states else ""),
        title=formatting.typographic(
            f"{label}: {change}, {before} {unit} before, {after} after{without and f' ({without})'}"
        ),
        total=formatting.typographic(shown),
        part="" if part.share is None else formatting.typographic(formatting.percent(part.share)),
        change=formatting.typographic(f"{formatting.short(part.before)} → {formatting.short(part.after)}"),
        share=float(size / largest) if size else 0.0,
        is_against=part.is_against,
        actionable=isinstance(part, Cell),
        excludable=is_single,
        exclusions=_exclusions(part, names) if isinstance(part, Cell) and not is_single else (),
        rows=rows,
        rows_title=rows_title,
    )


def _rows(explanation: Explanation, cell: Cell) -> tuple[str, str]:
    """The link to exactly the cell's events, and its tooltip; blank if no link can hold it.

    They are those of the days that the sentence names, else those of the window; those before if there are none after.
    """
    span = explanation.before if cell.is_gone else explanation.after
    if explanation.peak is not None and cell is explanation.cells[0]:
        span = explanation.peak.span
    try:
        target = EventsView(cell.events(span), explanation.query.timezone)
    except QueryError:  # such as a value that is longer than those of filters
        return "", ""
    if not fits(target.to_params()):
        return "", ""
    return link(target), formatting.typographic(f"Its events {words(span, explanation.query)}")


def _exclusions(cell: Cell, names: Names) -> tuple[str, ...]:
    """The titles of the buttons that each exclude one of the cell's values."""
    values = [
        "(missing)" if value is None else query_edits.short_value(group, value, names) for group, value in cell.where
    ]
    return tuple(
        f"Not {group_name(group)} {value}, not only in this pair"
        for (group, _), value in zip(cell.where, values, strict=True)
    )
