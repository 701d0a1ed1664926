"""The filters of a page as chips, and the picker that adds one."""

from __future__ import annotations

from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from usage_explore import formatting
from usage_explore.app import markdown, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.explore.controls import group_label, groups
from usage_explore.app.navigation import View, go
from usage_explore.app.query_edits import TESTS, Filter, Test
from usage_explore.errors import QueryError
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.queries import AggregateQuery, EventQuery

_OPEN = "add_filter"
_VALUED = ("is", "is not")


def chips(view: View, source: Source) -> None:
    """Draw one chip for each filter, each removed by a click, then the picker and a reset."""
    query = view.query
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="chips"):
        found = query_edits.filters(query)
        for each in found:
            st.button(
                markdown.plain(str(each)),
                key=f"chip {each.group} {each.test}",
                icon=":material/close:",
                icon_position="right",
                help=markdown.plain(f"Remove this filter: {each.group} {each.test} {', '.join(each.values)}"[:500]),
                on_click=lambda each=each: go(lambda: view.asking(query_edits.without_filter(query, each))),
            )
        if query.as_of:
            known = formatting.timestamp(query.as_of, ZoneInfo(view.timezone))
            st.button(
                f"as known at {known[:16]}",
                key="chip as_of",
                icon=":material/close:",
                icon_position="right",
                help=markdown.plain(
                    f"Only events ingested by {known} ({view.timezone}) are counted, so these numbers do not change. "
                    "Click to lift it."
                ),
                on_click=lambda: go(lambda: view.asking(query.replace(as_of=None))),
            )
        popover = st.popover("Filter", icon=":material/add:", type="tertiary", key=_OPEN, on_change="rerun")
        if popover.open:
            with popover:
                _picker(view, source)
        if len(found) + bool(query.as_of) > 1:
            st.button(
                "Reset filters",
                type="tertiary",
                key="reset_filters",
                on_click=lambda: go(lambda: view.asking(query_edits.without_filters(query).replace(as_of=None))),
            )


def without_filters(view: View) -> None:
    """Where filters leave no event: a button that removes them all."""
    if query_edits.filters(view.query):
        bare = query_edits.without_filters(view.query)
        st.button("Remove all filters", key="without_filters", on_click=lambda: go(lambda: view.asking(bare)))


def _picker(view: View, source: Source) -> None:
    """Pick a field, a test and values; the counts are of the events that the other filters leave."""
    options = [group for group in groups(source) if group != "none"]
    group = st.selectbox("Field", options, format_func=group_label, key="filter_group")
    test: Test = st.segmented_control(
        "Test", TESTS, key="filter_test", default="is", required=True, label_visibility="collapsed"
    )
    notes = st.container()
    # beside the values, never below: their open list would lie over the button, and a click there pick another value
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="filter_values"):
        ready = test not in _VALUED or _values(view, source, group, test, notes)
        st.button("Add filter", type="primary", key="filter_apply", disabled=not ready, on_click=_add, args=(view,))


def _values(view: View, source: Source, group: str, test: Test, notes: DeltaGenerator) -> bool:
    """Draw the values to pick from, and above them what to know; whether some are picked that can be filtered by."""
    within = query_edits.without_group(view.query, group)
    if isinstance(within, AggregateQuery):
        # other buckets, groups or series to keep find the same events
        within = within.replace(bucket=None, metric=None, group_by=None, top=None)
    elif isinstance(within, EventQuery):
        within = within.replace(cursor=None, limit=None)
    else:
        within = within.replace(finalized_at=None)
    try:
        found = source.values(group, within)
    except QueryError as error:
        notes.warning(markdown.plain(str(error)))
        return False
    counts = {choice.value: choice.events for choice in found}
    if not counts:
        notes.caption("No event here has one; type a value to filter by it anyway.")
    one = group in ID_COLUMNS and test == "is"
    key = _values_key(group, test)
    if key not in st.session_state:
        present = next(
            (each for each in query_edits.filters(view.query) if (each.group, each.test) == (group, test)), None
        )
        st.session_state[key] = list(present.values) if present else []
    picked = st.multiselect(
        "Value" if one else "Values",
        [*counts, *(value for value in st.session_state[key] if value not in counts)],
        key=key,
        max_selections=1 if one else None,
        format_func=lambda value: _labelled(value, counts),
        accept_new_options=True,
        select_all=False,
        placeholder="Pick, or type a value",
    )
    if group in ID_COLUMNS:
        for value in picked:
            try:
                UUID(value)
            except ValueError:
                notes.warning(markdown.plain(f"{value} is not a UUID."))
                return False
    return bool(picked)


def _labelled(value: str, counts: dict[str, int]) -> str:
    name = query_edits.named_value(value)
    return f"{name}  ·  {formatting.counted(counts[value], 'event')}" if value in counts else name


def _values_key(group: str, test: Test) -> str:
    return f"filter_values {group} {test}"


def _add(view: View) -> None:
    """Add what is picked at the click, which may be more than the page has drawn."""
    group, test = st.session_state["filter_group"], st.session_state["filter_test"]
    values = st.session_state.pop(_values_key(group, test), ()) if test in _VALUED else ()
    st.session_state[_OPEN] = False
    go(lambda: view.asking(query_edits.with_filter(view.query, Filter(group, test, tuple(values)))))
