"""The tab "Who": leaderboards of every column and dimension for the selection, with shares and changes.

A click on a value filters to it, the small button beside it excludes it, one on a title groups the chart by it. The
arrow of a customer opens its page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal

import streamlit as st

from usage_explore import formatting
from usage_explore.answers import Leaderboards
from usage_explore.app import components, markdown, query_edits
from usage_explore.app.cache import Key, Source
from usage_explore.app.explore_ranking import order_input
from usage_explore.app.leaders import MAX_COMPARED, OTHER, Board, Period, Row, board, moved
from usage_explore.app.navigation import go, link
from usage_explore.app.page_state import CustomerView, ExploreView
from usage_explore.app.selected import settled_series
from usage_explore.decimals import Number
from usage_explore.explain.spans import Span
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import METRICS, RATIOS, AggregateQuery
from usage_explore.results import units
from usage_explore.selection import Selection, Windows
from usage_explore.store.display import Order

_FIRST = ("customer_id", "metric_key", "product_id")
"""Groups whose boards come first: an analyst asks for the customer before all else."""

_SEARCHES = "leaderboard_searches"
"""Key of the session's state: the text searched for on each board that has its search open."""


def draw(view: ExploreView, source: Source, selection: Selection, windows: Windows | str) -> None:
    """Draw the leaderboards of the selection; those of the cost for a unit cost."""
    query = selection.query.replace(group_by="none", compare=None, cumulative=None)
    if query.metric in RATIOS:
        query = query.replace(metric="sum_cost")
    shown = source.leaderboards(query, MAX_COMPARED)
    period = _period(source, query, shown)
    compared = None
    spans = [Span(*query.span)]
    if isinstance(windows, Windows):
        now = period if windows.now == spans[0] else _of_span(source, query, windows.now)
        compared = now, _of_span(source, query, windows.before)
        spans.append(windows.before)
    searches: dict[str, str] = st.session_state.setdefault(_SEARCHES, {})
    made = []
    for group in _ordered(shown):
        text = searches.get(group)
        chosen = _found(source, query.replace(group_by=group), spans, text) if text else None
        made.append(board(group, shown[group].values, period, compared, view.order, chosen))
    names = source.names_of(
        (item.group, row.key[1]) for item in made if item.group in ID_COLUMNS for row in item.rows if row.key[1]
    )
    drawn, single = [], []
    for item in made:
        if item.group in searches or len(item.rows) > 1:
            drawn.append(item)
        elif any(row.key[0] == "value" for row in item.rows):
            single.append(f"{query_edits.group_label(item.group)} {_name(item.rows[0].key, item.group, names)}")
    same = compared is None or len(query.metric_key) == 1  # else the earlier numbers may be in another unit
    unit = (same and units.unit_text(shown.unit)) or METRICS[query.metric]
    tables = [_table(item, names, shown.total, view, unit, searches.get(item.group)) for item in drawn]
    about = f"Without changes, {windows}." if isinstance(windows, str) else f"Changes {windows.label}."
    if query.metric != selection.query.metric:
        about = f"These are costs; unit costs do not add up. {about}"
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="leaderboards_head"):
        if compared is not None:
            order_input(view, "leaderboards_order")
        st.caption(markdown.plain(f"{about} Click a name for only it, a title to group by it."), width="content")

    def act(table: str, row: int, action: query_edits.Action) -> None:
        item = next((item for item in drawn if item.group == table), None)
        if item is None or row >= len(item.rows):
            return
        key = item.rows[row].key
        st.session_state[_SEARCHES] = {}
        go(view, lambda: filtered(view, selection, table, key[1], action))

    def search(table: str, text: str | None) -> None:
        if text is None:
            searches.pop(table, None)
        else:
            searches[table] = text

    components.draw_boards(
        tables,
        ("total", "share", "change"),
        key="leaderboards",
        act=act,
        search=search,
        group=lambda table: go(view, lambda: view.with_query(view.query.replace(group_by=table))),
    )
    notes = []
    if single:
        notes.append(f"One value only: {formatting.listed(single, most=12)}.")
    if shown.omitted:
        notes.append(f"Without {formatting.counted(shown.omitted, 'rarer dimension')}.")
    if notes:
        st.caption(markdown.plain(" ".join(notes)))


def filtered(
    view: ExploreView, selection: Selection, group: str, value: str | None, action: query_edits.Action
) -> ExploreView:
    """The view with only a value of a group, or without it; the selection stays."""
    edit = query_edits.only if action == "only" else query_edits.without_value
    settled = settled_series(view, selection)
    return settled.with_query(edit(settled.query, group, value))


def _ordered(shown: Leaderboards) -> list[str]:
    groups = [board.group for board in shown.boards]
    return [*(group for group in _FIRST if group in groups), *(group for group in groups if group not in _FIRST)]


def _of_span(source: Source, query: AggregateQuery, span: Span) -> Period:
    within = query.replace(since=span.since, until=span.until)
    return _period(source, within, source.leaderboards(within, MAX_COMPARED))


def _period(source: Source, query: AggregateQuery, result: Leaderboards) -> Period:
    def every(group: str) -> Mapping[Key, Number] | None:
        totals = source.totals(query.replace(group_by=group))
        return {key: total for key, total in totals.by_key.items() if total is not None} if totals else None

    def one(group: str, key: Key) -> Number | None:
        filtered = query_edits.only(query, group, key[1]).replace(group_by=group)
        totals = source.totals(filtered)
        return totals.by_key.get(key) if totals else None

    return Period(result, every, one)


def _found(source: Source, query: AggregateQuery, spans: Sequence[Span], text: str) -> set[Key]:
    """The values of the query's group, in any of the windows, with the text in their name or key, in any case."""
    result: set[Key] = set()
    for span in spans:
        totals = source.totals(query.replace(since=span.since, until=span.until))
        for key in totals.by_key if totals else ():
            known = totals.names.known(query.group_by, key[1]) if totals and key[1] else None
            spelled = (known or "", _name(key, query.group_by, NO_NAMES), key[1] or "")
            if any(text.casefold() in spelling.casefold() for spelling in spelled):
                result.add(key)
    return result


def _name(key: Key, group: str, names: Names) -> str:
    """The value as a row's name: a name, else an id's first digits; the others by their labels."""
    kind, value = key
    if kind == "missing":
        return "(missing)"
    return query_edits.short_value(group, value or "", names)


def _table(
    made: Board, names: Names, whole: Number, view: ExploreView, unit: str, search: str | None
) -> components.BoardTable:
    note = ""
    if search and not made.rows:
        note = "No value with this text here."
    elif not made.is_exact:
        note = f"Changes of the {MAX_COMPARED} largest values of each window; smaller ones are not compared."
    elif view.order == "total" and made.rows[-1].key == OTHER and any((row.total or 0) < 0 for row in made.rows):
        note = "Ranked by signed total: the most negative ones are in the last row."
    return components.BoardTable(
        id=made.group,
        name=query_edits.group_label(made.group),
        values=f"{made.values:,}",
        rows=tuple(_cell(row, made.group, names, whole, view, unit) for row in made.rows),
        search=search,
        note=note,
    )


def _cell(row: Row, group: str, names: Names, whole: Number, view: ExploreView, unit: str) -> components.BoardCell:
    name = (
        formatting.values_and_missing(row.members, row.with_missing, "more", "more")
        if row.key == OTHER and row.members
        else "the rest"
        if row.key == OTHER
        else _name(row.key, group, names)
    )
    full = name
    if row.key[0] == "value" and group in ID_COLUMNS and row.key[1]:
        full = f"{name} ({row.key[1]})" if names.known(group, row.key[1]) else row.key[1]
    elif row.key[0] == "value" and row.key[1]:
        full = row.key[1]
    total = row.total or 0
    exact = f"{full}: {formatting.exact(row.total)} {unit}"
    if row.change is not None:
        exact += f", before {formatting.exact(row.change.before)}"
    return components.BoardCell(
        name=name,
        title=formatting.typographic(exact),
        total=formatting.typographic(formatting.short(row.total)),
        part=formatting.typographic(formatting.percent(total, whole)),
        change=formatting.typographic(changed(row, view.order)),
        share=float(Decimal(total) / Decimal(whole)) if whole > 0 else 0.0,
        actionable=row.key != OTHER,
        excludable=row.key != OTHER,
        link=link(CustomerView.of(view.query, row.key[1])) if group == "customer_id" and row.key[1] else "",
    )


def changed(row: Row, order: Order) -> str:
    """The change as text: absolute in the order by change, else relative; new and gone values by these words."""
    step = moved(row.change)
    if row.change is None or step is None or not (row.change.now or row.change.before):
        return formatting.NO_VALUE
    if order == "change":
        return f"+{formatting.short(step)}" if step > 0 else formatting.short(step)
    if row.change.ratio is not None and row.change.ratio == -1:
        return "gone"
    return formatting.change(row.change.ratio)
