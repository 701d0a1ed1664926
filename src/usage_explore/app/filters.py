"""What narrows a page: its filters as chips, the picker that adds one, and inputs for the window's times."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import components, markdown, query_edits
from usage_explore.app.cache import MAX_SEARCH_HITS, Source
from usage_explore.app.navigation import View, changed, follow, go, latest
from usage_explore.app.page_state import CustomerView, ExploreView, ValidateView
from usage_explore.app.query_edits import Action, Filter, group_label
from usage_explore.decimals import plain
from usage_explore.errors import QueryError
from usage_explore.names import Names, kind_of
from usage_explore.query import buckets, validators
from usage_explore.query.base import EventFilters, Query
from usage_explore.query.buckets import CALENDAR_WINDOWS
from usage_explore.query.describe import group_name, window_name
from usage_explore.query.filters import DIMENSION, GROUPS, ID_COLUMNS
from usage_explore.query.queries import AggregateQuery, EventQuery

FROM, UP_TO = "from", "up to, not included"
"""Labels of a window's ends."""

WindowView = ExploreView | ValidateView | CustomerView
"""A view whose query has a window in its own time zone."""

_POPOVER, _EDITS, _FIELD, _PROBLEM = "add_filter", "filter_edits", "filter_field", "filter_problem"
_QUANTITY, _ARRIVED, _MISSING = "quantity", "arrived", "missing"
_OWN_FIELDS = {_QUANTITY: "quantity", _ARRIVED: "arrived", "id": "event id", "idempotency_key": "idempotency key"}
"""Fields of single events, which cannot be grouped by, and their labels."""

_BOUNDS = {_QUANTITY: ("quantity_min", "quantity_max"), _ARRIVED: ("ingested_after", "ingested_before")}
"""The parameters of the fields with bounds."""

_ALWAYS_PRESENT = ("customer_id", "metric_key")
"""Groups that every event has a value of."""

_MAX_HELP = 500  # characters of a chip's tooltip

_FIELDS_PIXELS, _VALUES_PIXELS = 190, 320
"""Widths of the picker's two lists."""


def chips(view: View, source: Source) -> None:
    """Draw the picker, which so keeps its place, then a chip per filter, removed by a click, and a reset."""
    query, names = view.query, source.names(view.query)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="chips"):
        popover = st.popover("Filter", icon=":material/add:", type="tertiary", key=_popover_key(), on_change="rerun")
        if popover.open:
            with popover:
                _picker(view, source)
        else:
            _choose(None)
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
        index=0 if picked else None,  # only None has a button that clears it, and a window there has to be
        key=key,
        format_func=lambda name: window_name(name).capitalize(),
        filter_mode="contains",
        placeholder="Week, month, quarter",
        on_change=changed(key, view, lambda name: with_window(name) if name else view),
        width=180,
    )


def window_inputs(view: WindowView, now: datetime, key: str, with_window: Callable[..., View] | None = None) -> None:
    """Draw both ends of a custom window.

    `with_window(since=…, until=…)` makes the view of another one, by default that of the query with it.
    """
    since, until = view.query.resolve(now).span

    def moved(name: str, picked: datetime | None) -> View:
        if picked is None:
            return view
        window = {"since": since, "until": until, name: picked}
        return with_window(**window) if with_window else view.with_query(view.query.replace(window=None, **window))

    for name, label, moment in (("since", FROM, since), ("until", UP_TO, until)):
        time_input(label, moment, view, partial(moved, name), key=f"{key}_{name}")


def groups(source: Source, *shown: str) -> tuple[str, ...]:
    """The groups to choose from: none, the columns, every dimension in the data, and those `shown` already."""
    dimensions = (DIMENSION + key for key in source.dimension_keys())
    return tuple(dict.fromkeys(("none", "metric_key", *dimensions, *GROUPS, *shown)))


def _picker(view: View, source: Source) -> None:
    """The list of fields, and beside it the chosen one."""
    field = st.session_state.get(_FIELD)
    own = _OWN_FIELDS if isinstance(view.query, EventFilters) else {}
    with st.container(horizontal=True, gap="medium", key="filter_panes"):
        with st.container(width=_FIELDS_PIXELS if field else _VALUES_PIXELS, key="filter_fields"):
            _fields([*(group for group in groups(source) if group != "none"), *own], field)
        if field is not None:
            with st.container(width=_VALUES_PIXELS, gap="small", key="filter_field"):
                _inputs(view, source, field, own)


def _inputs(view: View, source: Source, field: str, own: Mapping[str, str]) -> None:
    """The values of a field to choose from, or inputs for the bounds or ids of one of the events' `own` fields."""
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f"**{markdown.plain(_field_label(field))}**", width="content")
        with st.container(
            key="filter_back", width="content"
        ):  # drawn on a phone only, which has room for one of the lists
            st.button(
                "Fields",
                key="filter_to_fields",
                type="tertiary",
                icon=":material/arrow_back:",
                on_click=_choose,
                args=(None,),
            )
        st.space("stretch")
        st.button("Done", key="filter_done", type="tertiary", icon=":material/check:", on_click=_close)
    if text := st.session_state.get(_PROBLEM):
        st.warning(markdown.plain(text))
    query = view.query
    if not isinstance(query, EventFilters) or field not in own:
        _values(view, source, field)
    elif field == _QUANTITY:
        _quantities(view, query)
    elif field == _ARRIVED:
        with st.container(gap="small", key="filter_bounds"):
            for name, label in zip(_BOUNDS[_ARRIVED], (f"arrived {FROM}", UP_TO), strict=True):
                time_input(label, getattr(query, name), view, partial(_bounded, view, name), key=f"filter {name}")
    else:
        _looked_up(view, query, field)


def _fields(fields: Sequence[str], chosen: str | None) -> None:
    rows = [
        components.PickerChoice(field, _field_label(field), field, f"{_field_label(field)} {field}") for field in fields
    ]
    components.draw_picker(
        rows,
        key="filter_field_list",
        label="Field",
        placeholder="Search a field",
        none="No field has this in its name.",
        current=chosen,
        act=lambda ids, _: _choose(ids[0]),
    )


def _field_label(field: str) -> str:
    return _OWN_FIELDS.get(field) or group_label(field)


def _choose(field: str | None) -> None:
    """Show the values of a field in the picker; the list of fields for None."""
    st.session_state[_FIELD] = field
    st.session_state.pop(_PROBLEM, None)


def _values(view: View, source: Source, group: str) -> None:
    """Draw the values to choose from, with the number of events that match the other filters."""
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
        st.warning(markdown.plain(str(error)))
        return
    action, present = query_edits.values_of(view.query, group)
    counts: dict[str, int | None] = {choice.value: choice.events for choice in choices}
    counts |= {value: None for value in present if value is not None and value not in counts}
    names = Names({(kind_of(group), choice.value): choice.name for choice in choices if choice.name})
    is_id = group in ID_COLUMNS
    rows = [_row(group, value, events, names, alone=is_id) for value, events in counts.items()]
    if group not in _ALWAYS_PRESENT:
        missing, number = f"without {group_label(group)}", source.missing(group, within)
        title = f"Events {missing}" if number is None else f"{formatting.counted(number, 'event')} {missing}"
        count = "" if number is None else f"{number:,}"
        rows.append(components.PickerChoice(_MISSING, "(missing)", title, f"(missing) {missing}", count, alone=True))
    components.draw_picker(
        rows,
        key=f"filter_values {group}",
        label=f"Values of {group_label(group)}",
        placeholder="Search, or type part of a name or id" if is_id else "Search, or type a value",
        none="No event here has one.",
        act=lambda ids, action: _tick(view, group, ids, action),
        field=group,
        typable=True,
        searched=(lambda text, action: _add_searched(view, source, group, text, action)) if is_id else None,
        ticked=[_MISSING if value is None else f"={value}" for value in present],
        action=action,
        refused=_PROBLEM in st.session_state or "notice" in st.session_state,  # a link that would be too long
    )


def _row(group: str, value: str, events: int | None, names: Names, alone: bool) -> components.PickerChoice:
    """A value in the picker, whose search looks into its name and its id."""
    name = names.known(group, value) or query_edits.named_value(value)
    count = "" if events is None else f"{events:,}"
    title = name if name == value else f"{name} ({value})"
    if events is not None:
        title = f"{title}: {formatting.counted(events, 'event')}"
    return components.PickerChoice(f"={value}", name, title, f"{name} {value}", count, alone)


def _searched(group: str, text: str, source: Source) -> tuple[str | None, str]:
    """The id that is written or searched for, None if it is none or several, and then why."""
    with suppress(ValueError):
        return str(UUID(text)), ""
    noun = group_name(group)
    hits = source.search(group, text)
    names = Names({(hit.kind, str(hit.id)): hit.name or hit.external_id or str(hit.id) for hit in hits})
    if len(hits) == 1:
        return str(hits[0].id), ""
    if hits:
        labels = [names.label(group, hit.id) for hit in hits]
        more = "more than " if len(hits) == MAX_SEARCH_HITS else ""
        return None, f"{text} is in {more}{len(hits)} names: {formatting.listed(labels, most=6)}. Type more of one."
    return None, f"{text} is not a UUID, and in no {noun}'s name or id."


def _quantities(view: View, query: EventFilters) -> None:
    """Inputs for the least and the largest quantity, exact decimals."""
    with st.form("filter_bounds", border=False):
        for name, label in zip(_BOUNDS[_QUANTITY], ("at least", "at most"), strict=True):
            bound = getattr(query, name)
            key = _input_key(name, query)
            st.session_state.setdefault(key, "" if bound is None else plain(bound))
            st.text_input(label, key=key, placeholder="such as 0.5", width=200)
        st.form_submit_button("Apply", type="primary", on_click=_bound_quantity, args=(view, query))


def _bound_quantity(view: View, query: EventFilters) -> None:
    texts = {name: st.session_state[_input_key(name, query)].strip() or None for name in _BOUNDS[_QUANTITY]}
    _applied(view, lambda: view.query.replace(**texts))


def _bounded(view: View, name: str, moment: datetime | None) -> View:
    return view.with_query(view.query.replace(**{name: moment}))


def _looked_up(view: View, query: EventFilters, field: str) -> None:
    """An input for ids or idempotency keys, one a line."""
    action, present = query_edits.values_of(query, field)
    key = f"{_input_key(field, query)} {action} {present}"
    st.session_state.setdefault(key, "\n".join(value for value in present if value is not None))
    with st.form("filter_lookup", border=False):
        st.text_area(f"{_OWN_FIELDS[field].capitalize()}s, one a line", key=key, height=110, width=330)
        with st.container(horizontal=True, gap="small"):
            st.form_submit_button("Apply", type="primary", on_click=_look_up, args=(view, field, key, "only"))
            st.form_submit_button(
                "Exclude",
                help="Only the events without these.",
                on_click=_look_up,
                args=(view, field, key, "not"),
            )


def _look_up(view: View, field: str, key: str, action: Action) -> None:
    lines = tuple(line.strip() for line in st.session_state[key].splitlines() if line.strip())
    _applied(view, lambda: query_edits.with_values(view.query, field, lines, action))


def _input_key(name: str, query: Query) -> str:
    """The key of an input, another one after its parameter changed."""
    return f"filter {name} {getattr(query, name)}"


def _edit(item: Filter) -> None:
    """Open the picker with a filter's field.

    As a new popover: a browser that has just closed the old one, by this same click or in a run that this click
    interrupts, would not learn that it is open again, because what the page sends has not changed.
    """
    bounds = {name: field for field, names in _BOUNDS.items() for name in names}
    _choose(bounds.get(item.group, item.group))
    st.session_state[_EDITS] = st.session_state.get(_EDITS, 0) + 1
    st.session_state[_popover_key()] = True


def _popover_key() -> str:
    """The key of the picker's popover: another one after each click on a chip's pencil."""
    return f"{_POPOVER} {st.session_state.get(_EDITS, 0)}"


def _close() -> None:
    st.session_state[_popover_key()] = False


def _tick(view: View, group: str, ids: Sequence[str], action: Action) -> None:
    """Filter to the ticked values, which replace those of the filter, or to the events without them."""
    values = tuple(None if id_ == _MISSING else id_.removeprefix("=") for id_ in ids)
    view = latest(view)
    _applied(view, lambda: query_edits.with_values(view.query, group, values, action))


def _add_searched(view: View, source: Source, group: str, text: str, action: Action) -> None:
    """Filter to an id by a part of its name, or exclude it beside those that are excluded."""
    value, problem = _searched(group, text, source)
    if value is None:
        st.session_state[_PROBLEM] = problem
        return
    view = latest(view)
    current, present = query_edits.values_of(view.query, group)
    others = present if (action, current) == ("not", "not") else ()
    values = tuple(dict.fromkeys((*others, value)))
    _applied(view, lambda: query_edits.with_values(view.query, group, values, action))


def _applied(view: View, edited: Callable[[], Query]) -> None:
    """Show the edited query; if it is invalid, the picker, which stays open, says why."""
    try:
        query = edited()
    except QueryError as error:
        st.session_state[_PROBLEM] = str(error)
        return
    st.session_state.pop(_PROBLEM, None)
    go(view, lambda: view.with_query(query))
