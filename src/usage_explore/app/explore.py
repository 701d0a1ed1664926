"""The Explore page: controls, headline numbers, chart, ranking, and tabs for events, data, code and files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import get_args

import streamlit as st

from usage_explore import formatting
from usage_explore.answers import Aggregate
from usage_explore.app import event_filters, grid, markdown, query_edits, who, why
from usage_explore.app.cache import Key, Source
from usage_explore.app.compare import compare_input, custom_period_inputs, running_total_input
from usage_explore.app.explore_chart import chart
from usage_explore.app.explore_handover import download, ticket_text
from usage_explore.app.explore_ranking import ranking
from usage_explore.app.exports import snippets
from usage_explore.app.extracts import keep_fresh
from usage_explore.app.filters import (
    calendar_input,
    chips,
    dimension_hints,
    groups,
    preset_input,
    reset_button,
    window_inputs,
)
from usage_explore.app.grid import counted, events_table
from usage_explore.app.header import header, headline_number, opened_view
from usage_explore.app.navigation import Pages, changed, fits, follow, go, leave_for, notice
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView
from usage_explore.app.problems import no_events, sentence, shown
from usage_explore.app.query_edits import PRESETS, Action, group_label, preset, with_preset
from usage_explore.app.selected import (
    clear_button,
    exact_words,
    large_text,
    other_unit,
    selected_headline,
    selection_bar,
    unit_words,
)
from usage_explore.charts import labels
from usage_explore.comparison import change_note
from usage_explore.errors import DatabaseError, QueryError, UsageExploreError
from usage_explore.names import Names
from usage_explore.query.buckets import BUCKETS
from usage_explore.query.describe import describe, group_name
from usage_explore.query.filters import CURRENCY, DIMENSION
from usage_explore.query.queries import COST_METRICS, METRICS, AggregateQuery, EventQuery
from usage_explore.results import frames
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.types import Comparison
from usage_explore.selection import Selection, Windows, narrowed, selected, whole_of, windows
from usage_explore.store.display import ChartKind, Tab

_TOP_CHOICES = (3, 5, 8, 12, 20, 50, 0)  # 0: all series
_TAB_LABELS = ("Events behind this", "Who", "Why", "Data", "Code", "Download", "For a ticket")
_TABS: dict[Tab, str] = dict(zip(get_args(Tab), _TAB_LABELS, strict=True))
_MAX_DATA_ROWS = 20_000


def draw(pages: Pages) -> None:
    """Draw the page of the address bar. Raises `UsageExploreError`."""
    opened = opened_view(ExploreView, pages)
    if opened is None:
        return
    view, source = opened
    view, costs = _in_one_currency(view, source)
    header(pages, view, source, known_at=source.now, pinned=lambda: view.replace(query=source.pinned(view.query)))
    st.toggle("Measure, grouping, time and chart", key="show_controls")  # drawn on a phone only, where it unfolds them
    _controls(view, source)
    with st.container(horizontal=True, vertical_alignment="center", key="filters"):
        chips(view, source)
        compare_input(view, source)
        running_total_input(view)
        _chart_kind(view)
    custom_period_inputs(view, source)
    notice()
    if len(costs) > 1:
        _currency(view, costs)
    with shown():
        dimension_hints(view.query, source)
        _answer(pages, view, source)


def _in_one_currency(view: ExploreView, source: Source) -> tuple[ExploreView, tuple[CurrencyCost, ...]]:
    """The view of a cost in one currency, that of most events if the query chooses none; and the ones to choose from.

    None are to choose from if no cost is measured, or if the query groups by currency.
    """
    query = view.query
    if query.metric not in COST_METRICS or query.group_by == CURRENCY:
        return view, ()
    within = query_edits.without_group(query, CURRENCY).replace(bucket=None, metric=None, group_by=None, top=None)
    try:
        costs = source.currencies(within.resolve(source.now))
    except UsageExploreError:  # the answer will say it
        return view, ()
    if len(costs) > 1 and query_edits.without_group(query, CURRENCY) == query:
        view = view.with_query(query_edits.in_currency(query, costs[0].currency))
    return view, costs


def _chosen(query: AggregateQuery, costs: tuple[CurrencyCost, ...]) -> int | None:
    """The index of the currency that the query filters to."""
    named: tuple[str | None, ...] = (None,) if CURRENCY in query.missing else query.external_cost_currency
    places = [place for place, cost in enumerate(costs) if cost.currency in named]
    return places[0] if len(places) == 1 else None


def _only_in(query: AggregateQuery, costs: tuple[CurrencyCost, ...]) -> str | None:
    """Which costs are left out, in a sentence, if there are several currencies."""
    place = _chosen(query, costs)
    if place is None or len(costs) < 2:
        return None
    most = "" if place else ", the currency of most events"
    others = formatting.listed(formatting.data_value(cost.currency) for at, cost in enumerate(costs) if at != place)
    name = formatting.data_value(costs[place].currency)
    return f"Only costs in {name}{most}. Other costs are in {others}: amounts in different currencies do not add up."


def _currency(view: ExploreView, costs: tuple[CurrencyCost, ...]) -> None:
    """The currency to choose, and the ones that are left out."""
    query = view.query
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="costs"):
        key = follow("currency", _chosen(query, costs))
        st.selectbox(
            "Currency",
            range(len(costs)),
            key=key,
            format_func=lambda place: formatting.data_value(costs[place].currency),
            on_change=changed(
                key, view, lambda place: view.with_query(query_edits.in_currency(query, costs[place].currency))
            ),
            label_visibility="collapsed",
            placeholder="Currency",
            width=110,
        )
        if others := _only_in(query, costs):
            st.caption(markdown.plain(others), width="content")


def _metrics(query: AggregateQuery, source: Source) -> list[str]:
    """The measures to choose from: costs if some event has one."""
    try:
        has_costs = bool(source.currencies(EventQuery()))
    except DatabaseError:  # such as a timeout
        has_costs = True
    return [metric for metric in METRICS if has_costs or metric not in COST_METRICS or metric == query.metric]


def _answer(pages: Pages, view: ExploreView, source: Source) -> None:
    answer = source.aggregate(view.query)
    comparison = source.comparison(answer)
    if _is_empty(answer, source):
        _nothing(pages, view, source, answer.names)
        return
    selection = selected(answer, view.series, view.span, source.names_of)
    if selection is None:
        st.info("The selected time lies outside the window, so these numbers are those of the whole window.")
        clear_button(view)
        selection = Selection(answer.query)
    compared = windows(selection, comparison, answer, source.first_event(answer.query.as_of))
    if selection:
        selected_headline(source, answer, selection, compared)
    else:
        _headline(answer, comparison)
    dark = st.context.theme.type == "dark"
    if answer.query.group_by == "none":
        chart(view, source, answer, dark)
        selection_bar(view, answer, selection)
    else:
        with st.container(key="answer"):
            left, right = st.columns([5, 3], gap="medium")
        with right:  # first: its columns set the chart's width, and a chart that changes its width is drawn twice
            ranking(
                view,
                source,
                answer,
                selection,
                compared,
                dark,
                lambda basis, key, action: _filter(view, basis, key, action),
            )
        with left:
            chart(view, source, answer, dark)
            selection_bar(view, answer, selection)
    _tabs(pages, view, source, answer, selection, compared)
    if source.store.organization_id is not None:
        keep_fresh(source.store.organization_id)


def _is_empty(answer: Aggregate, source: Source) -> bool:
    """Whether no event matches. Quantities that add up to zero are events, too."""
    if any(point.value for series in answer.series for point in series.points):
        return False
    return not answer.series or not source.count(answer.events_at(answer.series[0]))


def _filter(view: ExploreView, basis: Aggregate, key: Key, action: Action) -> None:
    """Show only the series of the ranking's basis, or everything without it."""
    group = basis.query.group_by

    def edited() -> ExploreView:
        if action == "not":
            # the complement of Other is the series beside it
            query = query_edits.without_value(view.query, group, key[1])
        elif key[0] == "other":
            other = next(series for series in basis.series if series.kind == "other")
            query = narrowed(basis, view.query, other)
        else:
            query = query_edits.only(view.query, group, key[1])
        # another selected series has no events in the narrowed query
        return view.replace(series=None).with_query(query)

    go(view, edited)


def _nothing(pages: Pages, view: ExploreView, source: Source, names: Names) -> None:
    """Say that no event matches, and when the organization has events."""
    query = view.query
    resolved = query.resolve(source.now)
    sentences = [f"No events match: {names.in_text(describe(resolved))}."]
    extent = source.extent()
    if extent is None:
        no_events(pages.load, " ".join([*sentences, "This organization has no events."]))
        return
    first, last = (moment.astimezone(query.zone) for moment in extent)
    wide = query_edits.with_extent(query, first, last)
    is_wider = wide.span != resolved.span
    if query_edits.filters(query):
        sentences.append("Remove a filter or widen the window." if is_wider else "Remove a filter.")
    if query.as_of is not None:
        known = formatting.date_and_time(query.as_of.astimezone(query.zone))
        sentences.append(f"Events that arrived after {known} do not count here.")
    days = formatting.span(*(edge.astimezone(query.zone) for edge in wide.span))
    sentence(" ".join([*sentences, f"This organization's events lie within {days}, {query.timezone}."]))
    with st.container(horizontal=True, gap="small", key="nothing"):
        if is_wider:
            st.button(f"Show {days}", key="show_extent", on_click=lambda: go(view, lambda: view.with_query(wide)))
        if query.as_of is not None:
            live = query.replace(as_of=None)
            st.button("As known now", key="show_now", on_click=lambda: go(view, lambda: view.with_query(live)))
        reset_button(view)


def _controls(view: ExploreView, source: Source) -> None:
    """The controls read as a sentence: show events by model, top 8 series, per day, for 30 d."""
    query = view.query
    with st.container(horizontal=True, vertical_alignment="top", gap="small", key="controls"):
        key = follow("metric", query.metric)
        st.segmented_control(
            "Show",
            _metrics(query, source),
            key=key,
            format_func=METRICS.__getitem__,
            required=True,
            on_change=changed(key, view, lambda picked: view.with_query(query.replace(metric=picked))),
        )
        key = follow("group_by", query.group_by)
        st.selectbox(
            "by",
            groups(source, query.group_by),
            key=key,
            format_func=group_label,
            on_change=changed(key, view, lambda picked: _grouped(view, source, picked)),
            width=140,
        )
        if query.group_by != "none":
            key = follow("top", query.top)
            st.selectbox(
                "series",
                sorted({*_TOP_CHOICES, query.top}, key=lambda top: (top == 0, top)),
                key=key,
                format_func=lambda top: f"top {top}" if top else "all",
                on_change=changed(key, view, lambda picked: view.with_query(query.replace(top=picked))),
                width=100,
                help="The largest series by signed total are drawn on their own, the rest as one series called Other.",
            )
        key = follow("bucket", query.bucket)
        st.segmented_control(
            "per",
            BUCKETS,
            key=key,
            required=True,
            on_change=changed(key, view, lambda picked: view.with_query(query.replace(bucket=picked))),
        )
        preset_input(
            "for",
            PRESETS,
            preset(query),
            "preset",
            lambda name: view.with_query(with_preset(query, name, source.now)),
            view,
        )
        calendar_input(
            "or all of", PRESETS, view, source, "calendar", lambda name: view.with_query(query.replace(window=name))
        )
    if preset(query) == "custom":
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="exact_range"):
            window_inputs(view, source.now, "exact")


def _grouped(view: ExploreView, source: Source, group: str) -> ExploreView:
    """The view in another grouping; a selected series, which that does not have, becomes a filter."""
    query = view.query.replace(group_by=group)
    if view.series is not None:
        selection = selected(source.aggregate(view.query), view.series, None)
        if selection:
            query = query_edits.with_filters_of(query, selection.query)
    return view.with_query(query)


def _chart_kind(view: ExploreView) -> None:
    key = follow("chart_kind", view.chart)
    st.segmented_control(
        "Drawn as",
        get_args(ChartKind),
        key=key,
        required=True,
        label_visibility="collapsed",
        on_change=changed(key, view, lambda picked: view.replace(chart=picked)),
    )


def _headline(answer: Aggregate, comparison: Comparison | str) -> None:
    """The headline numbers, exact in their tooltips. A `comparison` as text is the reason why there is none."""
    unit = unit_words(answer)
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="headline"):
        exactly = formatting.typographic(exact_words(answer, unit))
        if answer.adds:
            exactly += " Quantities of different metrics have no common unit: filter to one metric, or group by metric."
        headline_number(
            large_text(formatting.short(answer.total)),
            f"{unit}, {answer.adds}" if answer.adds else unit,
            f"{exactly} {markdown.plain(_served(answer))}",
        )
        _change(answer, comparison, unit)
        if answer.query.group_by != "none":
            _series(answer)


def _served(answer: Aggregate) -> str:
    """The query's time and its source, the extract or the events."""
    milliseconds = max(1, round(answer.served.took / timedelta(milliseconds=1)))
    if answer.served.because:
        because = f"because {answer.served.because}. The extract would give the same numbers."
        return f"Answered in {milliseconds:,} ms from the events, {because}"
    return f"Answered in {milliseconds:,} ms by the extract, which is exact."


def _change(answer: Aggregate, comparison: Comparison | str, unit: str) -> None:
    if isinstance(comparison, str):
        headline_number("–", comparison, "A change needs an earlier period that lies wholly within the events.")
        return
    total = comparison.total
    if total.now is None or not total.before:
        value = "new" if total.now else "–"
    elif total.now == total.before:
        value = "no change"
    else:
        value = formatting.change(total.ratio)
    meaning, zone = f"{comparison.label}, {formatting.signed_short(total.absolute)}", answer.query.zone
    now, then = (
        formatting.span(since.astimezone(zone), until.astimezone(zone))
        for since, until in ((answer.query.span[0], comparison.now_until), (comparison.since, comparison.until))
    )
    other, comma = other_unit(answer, comparison.unit), "," if answer.query.metric in COST_METRICS else ""
    headline_number(
        large_text(value),
        formatting.typographic("; ".join(filter(None, (meaning, change_note(answer, comparison))))),
        formatting.typographic(
            f"{now}: {formatting.exact(total.now)}{comma} {unit}. {then}: {formatting.exact(total.before)}{other}."
        ),
    )


def _series(answer: Aggregate) -> None:
    """The number of values of the group, and how many of them Other holds."""
    number = sum(series.members for series in answer.series)
    name = group_name(answer.query.group_by)
    if answer.query.group_by.startswith(DIMENSION):
        meaning = f"{'value' if number == 1 else 'values'} of {name}"
    else:
        meaning = name if number == 1 else f"{name.removesuffix('y')}ies" if name.endswith("y") else f"{name}s"
    folded = formatting.values_and_missing(answer.folded, answer.folded_missing)
    other = f", {folded} in Other" if answer.folded or answer.folded_missing else ""
    headline_number(f"{number:,}", meaning + other, 'Other holds the smallest ones; choose more "series" to show them.')


def _tabs(
    pages: Pages,
    view: ExploreView,
    source: Source,
    answer: Aggregate,
    selection: Selection,
    compared: Windows | str,
) -> None:
    """The tabs under the chart; only the open one queries the database."""

    def adds() -> str:
        return (source.aggregate(whole_of(selection)) if selection else answer).adds

    draw: dict[Tab, Callable[[], None]] = {
        "events": lambda: _events(pages, view, source, answer, selection),
        "who": lambda: who.draw(view, source, selection, compared),
        "why": lambda: why.draw(view, source, selection, compared, adds()),
        "data": lambda: _data(answer),
        "code": lambda: _code(view, source),
        "download": lambda: download(view, source, answer),
        "ticket": lambda: ticket_text(view, source),
    }
    names: dict[str, Tab] = {label: name for name, label in _TABS.items()}
    key = follow("tab", _TABS[view.tab])
    on_change = changed(key, view, lambda label: view.replace(tab=names[label]))
    tabs = st.tabs(list(_TABS.values()), key=key, on_change=on_change)
    for tab, content in zip(tabs, (draw[name] for name in _TABS), strict=True):
        if tab.open:
            with tab:
                try:
                    content()
                except QueryError as error:  # the chart is valid, but not this view of it
                    sentence(str(error))


def _events(pages: Pages, view: ExploreView, source: Source, answer: Aggregate, selection: Selection) -> None:
    query = query_edits.events_of(selection.query)
    page = source.page(query)
    target = EventsView(query, answer.query.timezone)
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        heading = st.empty()
        if fits(target.to_params()):
            st.page_link(
                pages.events, label="Open in Events", icon=":material/open_in_new:", query_params=target.to_params()
            )
        if not selection:
            st.caption("Click a bar, or drag over a span, to see its events.", width="content")
    if page.events:
        # several cells, so that a range can still be copied; a key of its own per query, as the rows are others
        table = events_table(
            page.events,
            answer.query.timezone,
            page.names,
            visit=lambda event: leave_for(CustomerView.of(view.query, event.customer_id)),
            height=380,
            key=f"behind {hash(query)}",
            on_select="rerun",
            selection_mode="multi-cell",
        )
        event_filters.of_cell(
            page,
            table["selection"]["cells"],
            lambda *clicked: go(view, lambda: who.filtered(view, selection, *clicked)),
        )
    else:
        st.info("No events here.")
    # counted last, as counting may take longer than the rows
    zone = answer.query.zone
    of = f"{selection.series_label(answer)}, " if selection.series is not None else ""
    days = formatting.span(*(edge.astimezone(zone) for edge in selection.query.span))
    more = f", the newest {len(page.events)} shown" if page.cursor else ""
    sentence = markdown.plain(f"{of}{days}, {answer.query.timezone}{more}")
    heading.markdown(f"**{counted(query, source)}** · {sentence}", width="content")


def _data(answer: Aggregate) -> None:
    zone = answer.query.zone
    spellings = frames.spellings(answer)
    rows = [
        (name, series, point) for name, series in zip(spellings, answer.series, strict=True) for point in series.points
    ]
    if len(rows) > _MAX_DATA_ROWS:
        st.caption(f"The first {_MAX_DATA_ROWS:,} of {len(rows):,} rows; the download holds all of them.")
        rows = rows[:_MAX_DATA_ROWS]
    texts: dict[str, list[str | None]] = {
        f"Start ({answer.query.timezone})": [formatting.timestamp(point.start, zone) for _, _, point in rows],
        f"End ({answer.query.timezone})": [formatting.timestamp(point.end, zone) for _, _, point in rows],
        "Series": [name for name, _, _ in rows],
        "Kind": [series.kind for _, series, _ in rows],
    }
    columns = {heading: grid.texts(heading, values) for heading, values in texts.items()}
    value = labels.heading(answer)
    columns[value] = grid.numbers(value, [point.value for _, _, point in rows])
    if answer.comparison:
        compared = answer.comparison.series[: len(answer.series)]
        points = [point for series in compared for point in series.points][: len(rows)]
        columns["Before"] = grid.numbers("Before", [None if point is None else point.before for point in points])
        columns["Change"] = grid.numbers("Change", [None if point is None else point.absolute for point in points])
    columns["Complete"] = grid.texts("Complete", ["yes" if point.complete else "no" for _, _, point in rows])
    grid.draw(columns, height=420, alt="The chart's numbers, exact")


def _code(view: ExploreView, source: Source) -> None:
    kind = "" if view.chart == "bars" else f"kind={view.chart!r}"
    snippets(view.query, f"answer = store.aggregate(query)\nanswer.chart({kind})", source)
