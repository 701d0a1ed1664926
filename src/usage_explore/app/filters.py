"""What narrows a page: its filters as chips, the picker that adds one, and inputs for the window's times."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from usage_explore import formatting
from usage_explore.app import markdown, query_edits
from usage_explore.app.cache import MAX_SEARCH_HITS, Source
from usage_explore.app.navigation import View, changed, follow, go
from usage_explore.app.page_state import CustomerView, ExploreView, ValidateView
from usage_explore.app.query_edits import TESTS, Filter, Test
from usage_explore.errors import QueryError
from usage_explore.names import Names, kind_of
from usage_explore.query import buckets, validators
from usage_explore.query.base import Query
from usage_explore.query.buckets import CALENDAR_WINDOWS
from usage_explore.query.describe import group_name, window_name
from usage_explore.query.filters import DIMENSION, GROUPS, ID_COLUMNS
from usage_explore.query.queries import AggregateQuery, EventQuery

FROM, UP_TO = "from", "up to, not included"
"""Labels of a window's ends."""

WindowView = ExploreView | ValidateView | CustomerView
"""A view whose query has a window in its own time zone."""

_POPOVER = "add_filter"
_TESTS_WITH_VALUES = ("is", "is not")
_MAX_HELP = 500  # characters of a chip's tooltip


def chips(view: View, source: Source) -> None:
    """Draw a chip per filter, removed by a click, then the picker, a reset, and hints about misspelt dimensions."""
    query, names = view.query, source.names(view.query)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="chips"):
        shown = query_edits.filters(query, ZoneInfo(view.timezone))
        for item in shown:
            st.button(
                markdown.plain(item.text(names)),
                key=f"chip {item.group} {item.test}",
                icon=":material/close:",
                icon_position="right",
                help=markdown.plain(
                    names.in_text(f"Remove this filter: {item.group} {item.test} {', '.join(item.values)}", ids=True)[
                        :_MAX_HELP
                    ]
                ),
                on_click=lambda item=item: go(view, lambda: view.with_query(query_edits.without_filter(query, item))),
            )
            if item.values:
                st.button(
                    "",
                    key=f"edit {item.group} {item.test}",
                    icon=":material/edit:",
                    type="tertiary",
                    help=markdown.plain(f"Edit the filter on {group_label(item.group)}"),
                    on_click=_edit,
                    args=(item,),
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
                on_click=lambda: go(view, lambda: view.with_query(query.replace(as_of=None))),
            )
        popover = st.popover("Filter", icon=":material/add:", type="tertiary", key=_POPOVER, on_change="rerun")
        if popover.open:
            with popover:
                _picker(view, source)
        if len(shown) + bool(query.as_of) > 1:
            st.button(
                "Reset filters",
                type="tertiary",
                key="reset_filters",
                on_click=lambda: go(
                    view, lambda: view.with_query(query_edits.without_filters(query).replace(as_of=None))
                ),
            )


def dimension_hints(query: Query, source: Source) -> None:
    """Warn of the query's dimensions that no event of the organization has, with similar ones."""
    groups = {item.group for item in query_edits.filters(query)}
    if isinstance(query, AggregateQuery):
        groups.add(query.group_by)
    named = sorted(group for group in groups if group.startswith(DIMENSION))
    if not named:
        return
    known = {DIMENSION + key for key in source.dimension_keys()}
    for group in named:
        if known and group not in known:
            near = validators.did_you_mean(group, known)
            text = f"No event has the dimension {validators.named(group)}{near}"
            st.warning(markdown.plain(text if near else f"{text}."), icon=":material/spellcheck:")


def reset_button(view: View) -> None:
    """If there are filters, draw a button that removes them all."""
    if query_edits.filters(view.query):
        unfiltered = query_edits.without_filters(view.query)
        st.button(
            "Remove all filters", key="without_filters", on_click=lambda: go(view, lambda: view.with_query(unfiltered))
        )


def time_input(
    label: str,
    moment: datetime | None,
    view: View,
    moved: Callable[[datetime | None], View],
    *,
    key: str,
    help: str | None = None,
) -> None:
    """Draw a time to the minute on the clock of the view's zone; `moved` makes the view of another one."""
    zone = ZoneInfo(view.timezone)
    st.datetime_input(
        label,
        value=None,
        key=follow(key, moment.astimezone(zone).replace(tzinfo=None, second=0, microsecond=0) if moment else None),
        format="YYYY-MM-DD",
        on_change=changed(key, view, lambda picked: moved(picked and picked.replace(tzinfo=zone))),
        width=210,
        help=help,
    )


def preset_input(
    label: str, presets: Mapping[str, str], picked: str | None, key: str, with_preset: Callable[[str], View], view: View
) -> None:
    """Draw the windows to choose from, by name and label; the view stays if none is chosen."""
    key = follow(key, picked)
    st.segmented_control(
        label,
        tuple(presets),
        key=key,
        format_func=presets.__getitem__,
        wrap=True,
        on_change=changed(key, view, lambda name: with_preset(name) if name else view),
    )


def calendar_input(
    label: str,
    offered: Mapping[str, str],
    view: WindowView,
    source: Source,
    key: str,
    with_window: Callable[[str], View],
) -> None:
    """Draw the calendar windows that are not `offered` as presets: weeks, quarters, and the months with events."""
    zone, current = view.query.zone, view.query.window
    named = [name for name in CALENDAR_WINDOWS if name not in offered]
    months: list[str] = []
    if extent := source.extent():
        first, last = (buckets.local_date(moment, zone) for moment in extent)
        numbers = range(last.year * 12 + last.month - 1, first.year * 12 + first.month - 2, -1)
        months = [f"{number // 12}-{number % 12 + 1:02}" for number in numbers]
    picked = current if current not in offered else None
    key = follow(key, picked)
    st.selectbox(
        label,
        tuple(dict.fromkeys((*named, *months, *([picked] if picked else [])))),
        index=None,
        key=key,
        format_func=lambda name: window_name(name).capitalize(),
        filter_mode="contains",
        placeholder="Week, month, quarter",
        on_change=changed(key, view, lambda name: with_window(name) if name else view),
        width=180,
    )


def window_inputs(view: WindowView, now: datetime, key: str, with_window: Callable[..., View]) -> None:
    """Draw both ends of a custom window; `with_window(since=…, until=…)` makes the view of another one."""
    since, until = view.query.resolve(now).span

    def moved(name: str, picked: datetime | None) -> View:
        return view if picked is None else with_window(**{"since": since, "until": until, name: picked})

    for name, label, moment in (("since", FROM, since), ("until", UP_TO, until)):
        time_input(label, moment, view, partial(moved, name), key=f"{key}_{name}")


def groups(source: Source, *shown: str) -> tuple[str, ...]:
    """The groups to choose from: none, the columns, every dimension in the data, and those `shown` already."""
    dimensions = (DIMENSION + key for key in source.dimension_keys())
    return tuple(dict.fromkeys(("none", "metric_key", *dimensions, *GROUPS, *shown)))


def group_label(group: str) -> str:
    """The name of a group in a list; a dimension with the name of a column says that it is a dimension."""
    if group == "none":
        return "nothing"
    name = group_name(group)
    columns = {group_name(column) for column in GROUPS}
    return f"{name} (dimension)" if group.startswith(DIMENSION) and name in columns else name


def _picker(view: View, source: Source) -> None:
    """A field, a test and values, with the number of events that match the other filters."""
    options = [group for group in groups(source) if group != "none"]
    chosen = st.session_state.get("filter_group")
    if chosen is not None and chosen not in options:  # of a filter that is edited
        options.append(chosen)
    group = st.selectbox("Field", options, format_func=group_label, key="filter_group")
    st.session_state.setdefault("filter_test", "is")
    picked = st.segmented_control("Test", TESTS, key="filter_test", required=True, label_visibility="collapsed")
    test: Test = picked or "is"
    notes = st.container()
    # beside the values, never below: their open list would lie over the button, and a click there pick another value
    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key="filter_values"):
        ready = test not in _TESTS_WITH_VALUES or _values(view, source, group, test, notes)
        st.button(
            "Add filter", type="primary", key="filter_apply", disabled=not ready, on_click=_add, args=(view, source)
        )


def _values(view: View, source: Source, group: str, test: Test, notes: DeltaGenerator) -> bool:
    """Draw the values to choose from, with warnings in `notes`; whether valid ones are chosen."""
    within = query_edits.without_group(view.query, group)
    if isinstance(within, AggregateQuery):
        # these parameters do not change which events match
        within = within.replace(bucket=None, metric=None, group_by=None, top=None, cumulative=None, compare=None)
    elif isinstance(within, EventQuery):
        within = within.replace(cursor=None, limit=None)
    else:
        within = within.replace(finalized_at=None)
    try:
        choices = source.values(group, within)
    except QueryError as error:
        notes.warning(markdown.plain(str(error)))
        return False
    counts = {choice.value: choice.events for choice in choices}
    names = Names({(kind_of(group), choice.value): choice.name for choice in choices if choice.name})
    if not counts:
        notes.caption("No event here has one; type a value to filter by it anyway.")
    single = group in ID_COLUMNS and test == "is"
    key = _values_key(group, test)
    if key not in st.session_state:
        present = (item.values for item in query_edits.filters(view.query) if (item.group, item.test) == (group, test))
        st.session_state[key] = list(next(present, ()))
    picked = st.multiselect(
        "Value" if single else "Values",
        [*counts, *(value for value in st.session_state[key] if value not in counts)],
        key=key,
        max_selections=1 if single else None,
        format_func=lambda value: _value_label(group, value, counts, names),
        filter_mode="contains",
        accept_new_options=True,
        select_all=False,
        placeholder="Pick, or type part of a name or id" if group in ID_COLUMNS else "Pick, or type a value",
    )
    if group in ID_COLUMNS:
        for value in picked:
            id_, note = _searched(group, value, source)
            if note:
                (notes.caption if id_ else notes.warning)(markdown.plain(note))
            if id_ is None:
                return False
    return bool(picked)


def _searched(group: str, text: str, source: Source) -> tuple[str | None, str]:
    """The id that is written or searched for, None if it is none or several, and what the search gave."""
    with suppress(ValueError):
        return str(UUID(text)), ""
    noun = group_name(group)
    hits = source.search(group, text)
    names = Names({(hit.kind, str(hit.id)): hit.name or hit.external_id or str(hit.id) for hit in hits})
    labels = [names.label(group, hit.id) for hit in hits]
    if len(hits) == 1:
        return str(hits[0].id), f"{text}: the {noun} {names.full(group, hits[0].id)}."
    if hits:
        more = "more than " if len(hits) == MAX_SEARCH_HITS else ""
        return None, f"{text} is in {more}{len(hits)} names: {formatting.listed(labels, most=6)}. Type more of one."
    return None, f"{text} is not a UUID, and in no {noun}'s name or id."


def _value_label(group: str, value: str, counts: dict[str, int], names: Names) -> str:
    """A value in the picker, whose search looks into this text: a name is followed by its id."""
    name = names.known(group, value)
    parts = [name or query_edits.named_value(value)]
    if value in counts:
        parts.append(formatting.counted(counts[value], "event"))
    return "  ·  ".join([*parts, value] if name else parts)


def _values_key(group: str, test: Test) -> str:
    return f"filter_values {group} {test}"


def _edit(item: Filter) -> None:
    """Open the picker with a filter's field, test and values."""
    st.session_state["filter_group"], st.session_state["filter_test"] = item.group, item.test
    st.session_state[_values_key(item.group, item.test)] = list(item.values)
    st.session_state[_POPOVER] = True


def _add(view: View, source: Source) -> None:
    """Add the filter that is chosen at the click, which may be newer than the page."""
    group, test = st.session_state["filter_group"], st.session_state["filter_test"]
    values = st.session_state.pop(_values_key(group, test), ()) if test in _TESTS_WITH_VALUES else ()
    if group in ID_COLUMNS:
        values = [_searched(group, value, source)[0] or value for value in values]
    st.session_state[_POPOVER] = False
    go(view, lambda: view.with_query(query_edits.with_filter(view.query, Filter(group, test, tuple(values)))))
