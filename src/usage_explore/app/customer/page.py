"""The Customer page: one customer's metrics, costs, wallets, changes, findings and newest events, as of one instant."""

from __future__ import annotations

from decimal import Decimal
from uuid import UUID

import streamlit as st

from usage_explore import formatting
from usage_explore.app import grid, kept_runs, markdown, query_edits
from usage_explore.app.cache import Source
from usage_explore.app.customer import multiples, tables
from usage_explore.app.customer.multiples import Chart, changed
from usage_explore.app.customer.story import (
    MAX_COMPARED,
    MAX_METRICS,
    Metric,
    MetricChange,
    Mover,
    Story,
    as_of_one_moment,
    metric_query,
    read_story,
)
from usage_explore.app.filters import calendar_input, preset_input, window_inputs
from usage_explore.app.grid import events_table
from usage_explore.app.header import header, headline_number, opened_view
from usage_explore.app.navigation import Pages, fits, follow, go, notice
from usage_explore.app.navigation import changed as on_change
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView, ValidateView
from usage_explore.app.problems import no_events, sentence, shown
from usage_explore.app.query_edits import Filter, preset, with_extent, with_preset
from usage_explore.charts import theme
from usage_explore.comparison import length_note
from usage_explore.names import Names
from usage_explore.query.describe import group_name, window_words
from usage_explore.query.queries import COST_METRICS, METRICS, AggregateQuery, EventQuery, Period
from usage_explore.records.runs import Run
from usage_explore.results.types import Point
from usage_explore.results.units import singular, unit_text
from usage_explore.validation import unseen

_PRESETS = {"7d": "7 d", "30d": "30 d", "90d": "90 d", "custom": "Custom"}
_MAX_FINDINGS = 5
_COMMON_FINDINGS = "Findings of several customers are not listed here: open the validation"
_MAX_OFFERED = 12  # customers to choose from

_STYLE = """<style>
.st-key-customer_id [data-testid="stCode"] pre { padding: 0.1rem 2.4rem 0.1rem 0.5rem; min-height: 0; }
.st-key-customer_id code { display: inline-block; max-width: 11ch; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; vertical-align: bottom; }
.st-key-customer_id [data-testid="stCode"] > div { top: -0.75rem; }
:is(.st-key-movers, .st-key-metric_changes, .st-key-metrics, .st-key-customer_findings)
  [data-testid="stPageLink-NavLink"] { padding-left: 0; padding-right: 0; }
:is(.st-key-movers, .st-key-metric_changes, .st-key-customer_findings)
  [data-testid="stPageLink-NavLink"] :is(span, p) {
  white-space: normal; overflow: visible; line-height: 1.35; }
:is(.st-key-movers, .st-key-metric_changes, .st-key-customer_findings) [data-testid="stElementContainer"] {
  margin: 0.1rem 0; }
.st-key-newest_events h4 { padding: 0; }
.st-key-metrics [data-testid="stColumn"] [data-testid="stVerticalBlock"] { gap: 0; }
@media (max-width: 640px) { .st-key-metrics [data-testid="stHorizontalBlock"] { gap: 0.2rem; } }
</style>"""
"""The id is cut to eight digits on screen only, so that its button copies all of it."""


def draw(pages: Pages) -> None:
    """Draw the page of the address bar. Raises `UsageExploreError`."""
    opened = opened_view(CustomerView, pages)
    if opened is None:
        return
    view, source = opened
    header(pages, view, source, known_at=source.now, pinned=lambda: view.replace(query=source.pinned(view.query)))
    notice()
    with shown():
        if view.query.customer_id is None:
            _choice(pages, view, source)
        else:
            _customer(pages, view, view.query.customer_id, source)


def _choice(pages: Pages, view: CustomerView, source: Source) -> None:
    """The customers of most events in the window, to choose from."""
    board = source.leaderboards(as_of_one_moment(view, source), _MAX_OFFERED)
    rows = [row for row in board["customer_id"].leaders if row.key is not None]
    st.subheader("Which customer?", anchor=False)
    _controls(view, source)
    if not rows:
        sentence("No customer has events in this window; choose another window.")
        return
    st.caption(
        f"The {len(rows):,} of {formatting.counted(board['customer_id'].values, 'customer')} with the most events; "
        "Search above finds any by name or id."
    )
    with st.container(gap=None):
        for row in rows:
            label = markdown.plain(board.names.label("customer_id", str(row.key)))
            st.button(
                f"**{label}** :gray[· {formatting.counted(int(row.total), 'event')}]",
                key=f"customer {row.key}",
                type="tertiary",
                on_click=lambda key=row.key: go(view, lambda: view.with_query(view.query.replace(customer_id=key))),
            )


def _customer(pages: Pages, view: CustomerView, customer_id: UUID, source: Source) -> None:
    query = as_of_one_moment(view, source)
    st.html(_STYLE)
    _heading(source.names(view.query), customer_id)
    _controls(view, source)
    story = read_story(query, view.currency, source)
    if story is None:
        _nothing(pages, view, query, source)
        return
    _headline(story)
    _changes(pages, view, story)
    _metrics(pages, view, story)
    _numbers(story)
    st.html(tables.drawn(story, theme(_is_dark())))
    with shown():
        _findings(pages, view, source, customer_id)
    _events(pages, view, story)


def _is_dark() -> bool:
    return st.context.theme.type == "dark"


def _heading(names: Names, customer_id: UUID) -> None:
    """The customer's name and id, of which the button copies all digits."""
    name = names.known("customer_id", customer_id)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="customer"):
        st.subheader(markdown.plain(name or "Customer without a name"), anchor=False, width="content")
        with st.container(key="customer_id", width="content"):
            st.code(str(customer_id), language=None, width="content")


def _controls(view: CustomerView, source: Source) -> None:
    query = view.query
    with st.container(horizontal=True, vertical_alignment="top", gap="small", key="controls"):
        preset_input(
            "for",
            _PRESETS,
            preset(query),
            "customer_preset",
            lambda name: view.with_query(with_preset(query, name, source.now)),
            view,
        )
        calendar_input(
            "or all of",
            _PRESETS,
            view,
            source,
            "customer_calendar",
            lambda name: view.with_query(query.replace(window=name)),
        )
    if preset(query) == "custom":
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium", key="exact_range"):
            window_inputs(view, source.now, "customer")


def _nothing(pages: Pages, view: CustomerView, query: AggregateQuery, source: Source) -> None:
    """Say that the customer has no events in the window, and when there are any."""
    zone = query.zone
    everything = EventQuery(**query.shared_with(EventQuery))
    extent = source.extent(everything)
    if extent is None:
        if source.extent() is None:
            no_events(pages.load, "This organization has no events.")
            return
        sentence("This organization has no events of a customer with this id. Search above finds customers by name.")
        st.button(
            "Choose a customer",
            key="choose_customer",
            on_click=lambda: go(view, lambda: view.with_query(view.query.replace(customer_id=None))),
        )
        return
    wide = with_extent(view.query, *(moment.astimezone(zone) for moment in extent))
    days = formatting.span(*(edge.astimezone(zone) for edge in wide.span))
    sentence(
        f"This customer has no events in {markdown.plain(window_words(query))}, {query.timezone}. "
        f"Its events lie within {days}."
    )
    st.button(f"Show {days}", key="show_extent", on_click=lambda: go(view, lambda: view.with_query(wide)))


def _headline(story: Story) -> None:
    """The number of events, and the cost in each currency: they are never added."""
    with st.container(horizontal=True, vertical_alignment="center", gap="medium", key="headline"):
        events = int(story.boards.total)
        headline_number(
            formatting.short(events),
            "event" if events == 1 else "events",
            f"Exactly {formatting.counted(events, 'event')}.",
        )
        if isinstance(story.compared, str):
            headline_number("–", story.compared, "A change needs an earlier period that lies wholly within the events.")
        elif story.movers is not None:
            before = formatting.counted(int(story.movers.whole.before or 0), "event")
            note = formatting.typographic(length_note(story.quantities.query, story.compared, story.movers.whole))
            meaning = "; ".join(filter(None, (story.compared.label, note)))
            headline_number(changed(story.movers.whole), meaning, f"Before: {before}.")
        with st.container(
            horizontal=True, vertical_alignment="center", gap="medium", width="content", key="costs_by_currency"
        ):
            for cost in story.currencies:
                name = formatting.data_value(cost.currency)
                headline_number(
                    markdown.plain(formatting.typographic(formatting.short(cost.cost))),
                    f"cost in {name}" if cost.currency is not None else "cost without a currency",
                    f"Exactly {formatting.exact(cost.cost)}, of {formatting.counted(cost.events, 'event')} with a cost."
                    " Amounts in different currencies do not add up.",
                )


def _changes(pages: Pages, view: CustomerView, story: Story) -> None:
    """The metrics and the values that changed most, each a link to its chart."""
    if isinstance(story.compared, str) or story.movers is None:
        return
    _title("What changed most", story.compared.label)
    steps = story.changes
    left, right = st.columns(2, gap="medium") if steps else (None, st.container())
    if left is not None:
        with left, st.container(gap=None, key="metric_changes"):
            st.caption("Metrics, by relative change of quantity, cost or unit cost")
            for step in steps:
                target = ExploreView(_measured(_linked(view, story), step))
                st.page_link(pages.explore, label=_step(step), query_params=target.to_params())
    with right, st.container(gap=None, key="movers"):
        st.caption("Metrics and dimension values, by change of their number of events")
        for mover in story.movers.movers:
            target = _explored(_linked(view, story), mover)
            st.page_link(pages.explore, label=_mover(mover, story.names), query_params=target.to_params())
        if not story.movers.movers:
            st.markdown("All have as many events as before.")
        if story.movers.partial:
            st.caption(f"Of a dimension with more values, the {MAX_COMPARED} largest of each period are compared.")


def _step(step: MetricChange) -> str:
    measure = METRICS[step.measure]
    if step.measure in COST_METRICS:
        measure += f" in {formatting.data_value(step.currency)}" if step.currency is not None else " without a currency"
    numbers = " → ".join(formatting.short(value) for value in (step.change.before, step.change.now))
    return (
        f"**{markdown.plain(query_edits.short_value('metric_key', step.key))}** "
        f"{markdown.plain(f'{measure} {changed(step.change)}')} "
        f":gray[{markdown.plain(f'({formatting.typographic(numbers)})')}]"
    )


def _linked(view: CustomerView, story: Story) -> AggregateQuery:
    """The query of links to other pages: with the buckets of this page, and live if the page is."""
    return view.query.replace(bucket=story.query.bucket)


def _measured(query: AggregateQuery, step: MetricChange) -> AggregateQuery:
    """The measure of one metric, of a cost in its currency."""
    query = metric_query(query, step.key).replace(metric=step.measure)
    return query_edits.in_currency(query, step.currency) if step.measure in COST_METRICS else query


def _mover(mover: Mover, names: Names) -> str:
    value = "(missing)" if mover.key is None else query_edits.short_value(mover.group, mover.key, names)
    numbers = f"{formatting.exact(mover.change.before)} → {formatting.exact(mover.change.now)}"
    step = formatting.typographic(formatting.signed(mover.difference))
    return (
        f":gray[{markdown.plain(group_name(mover.group))}] **{markdown.plain(value)}** "
        f"{markdown.plain(f'{step} events, {changed(mover.change)}')} :gray[{markdown.plain(f'({numbers})')}]"
    )


def _explored(query: AggregateQuery, mover: Mover) -> ExploreView:
    """The events of a mover on the Explore page, by metric."""
    added = Filter(mover.group, "is missing") if mover.key is None else Filter(mover.group, "is", (mover.key,))
    by = "metric_key" if mover.group != "metric_key" else "none"
    return ExploreView(query_edits.with_filter(query.replace(group_by=by), added))


def _title(text: str, more: str = "") -> None:
    st.markdown(f"#### {markdown.plain(text)}" + (f" :small[:gray[{markdown.plain(more)}]]" if more else ""))


def _metrics(pages: Pages, view: CustomerView, story: Story) -> None:
    """A row for each metric: its name, then its quantity, cost and unit cost over the same time."""
    query = story.query
    _title("Metrics", f"per {query.bucket}, {query.timezone}")
    headings = ["Quantity"]
    if story.currency is not None:
        name = formatting.data_value(story.currency.currency)
        headings += [f"Cost, {name}", f"Unit cost, {name}"]
    if len(story.currencies) > 1:
        _currency(view, story)
    look = theme(_is_dark())
    unfinished = any(not point.complete for point in story.quantities.series[0].points)
    note = "Each chart has its own scale, from zero" + ("; striped: unfinished." if unfinished else ".")
    with st.container(key="metrics", gap="xsmall"):
        st.html(multiples.style(len(headings), len(story.quantities.edges) - 1, look))
        left, right = st.columns([2, 9], gap="small")
        left.caption(note)
        right.html(multiples.axis(story.quantities, headings))
        for metric in story.metrics:
            left, right = st.columns([2, 9], gap="small")
            with left:
                st.page_link(
                    pages.explore,
                    label=f"**{markdown.plain(query_edits.named_value(formatting.shortened(metric.key, 40)))}**",
                    query_params=ExploreView(metric_query(_linked(view, story), metric.key)).to_params(),
                )
                share = formatting.percent(metric.share) if metric.share is not None else formatting.NO_VALUE
                st.caption(f"{formatting.counted(metric.events, 'event')} · {share}")
            right.html(multiples.row(story.quantities, _charts(metric, story)))
        if story.further_metrics:
            everything = ExploreView(_linked(view, story).replace(group_by="metric_key", top=50))
            st.page_link(
                pages.explore,
                label=f"and {formatting.counted(story.further_metrics, 'more metric', 'more metrics')}, "
                f"with fewer events than these {MAX_METRICS}",
                query_params=everything.to_params(),
            )


def _numbers(story: Story) -> None:
    """The charts' numbers in a table, for the keyboard, screen readers and copies; made when it is opened."""
    opened = st.expander("The charts' numbers", key="customer_numbers", on_change="rerun")
    if not opened.open:
        return
    zone, timezone = story.query.zone, story.query.timezone
    rows = [
        (metric, point, money)
        for metric in story.metrics
        for point, money in zip(
            metric.quantity.points,
            metric.money.series.points if metric.money else (None,) * len(metric.quantity.points),
            strict=True,
        )
    ]
    start, end = f"Start ({timezone})", f"End ({timezone})"
    columns = {
        "Metric": grid.texts("Metric", [metric.key for metric, _, _ in rows]),
        start: grid.texts(start, [formatting.timestamp(point.start, zone) for _, point, _ in rows]),
        end: grid.texts(end, [formatting.timestamp(point.end, zone) for _, point, _ in rows]),
        "Quantity": grid.numbers("Quantity", [point.value for _, point, _ in rows]),
    }
    if story.currency is not None:
        name = formatting.data_value(story.currency.currency)
        cost, unit = f"Cost, {name}", f"Unit cost, {name}"
        columns[cost] = grid.numbers(cost, [None if money is None else _spent(money) for _, _, money in rows])
        columns[unit] = grid.numbers(unit, [None if money is None else money.value for _, _, money in rows])
    columns["Complete"] = grid.texts("Complete", ["yes" if point.complete else "no" for _, point, _ in rows])
    with opened:
        grid.draw(columns, height=420, alt="The charts' numbers, exact", key="customer_numbers_table")


def _charts(metric: Metric, story: Story) -> list[Chart | str]:
    unit = unit_text(story.quantities.units.get(metric.key)) or metric.key
    charts: list[Chart | str] = [
        Chart(metric.quantity, lambda point: point.value, unit, metric.quantity.total, metric.change)
    ]
    if story.currency is None:
        return charts
    currency = formatting.data_value(story.currency.currency)
    money = metric.money
    if money is None:
        return [*charts, f"no cost in {currency}", formatting.NO_VALUE]
    cost = Chart(money.series, _spent, currency, money.cost, money.cost_change)
    unit_cost = Chart(
        money.series,
        lambda point: point.value,
        f"{currency} per {singular(unit)}",
        money.series.total,
        money.unit_cost_change,
        "dot",
        "no quantity with a cost",
    )
    return [*charts, cost, unit_cost]


def _spent(point: Point) -> Decimal:
    return point.ratio.cost if point.ratio else Decimal(0)


def _currency(view: CustomerView, story: Story) -> None:
    """The currency of the costs that are drawn."""
    names = [cost.currency for cost in story.currencies if cost.currency is not None]
    chosen = None if story.currency is None else story.currency.currency
    key = follow("customer_currency", chosen)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="currency"):
        st.segmented_control(
            "Currency of the costs",
            names,
            key=key,
            format_func=formatting.data_value,
            on_change=on_change(key, view, lambda name: view.replace(currency=name)),
        )
        if view.currency is not None and view.currency != chosen:
            st.caption(markdown.plain(f"No cost in {formatting.data_value(view.currency)} in this window."))


def _findings(pages: Pages, view: CustomerView, source: Source, customer_id: UUID) -> None:
    """The findings that name the customer, of the kept run that examined most of the window; none is started."""
    query = view.query
    window = {"window": query.window} if query.window else {"since": query.since, "until": query.until}
    shared = {"organization_id": query.organization_id, "timezone": query.timezone, "customer_id": customer_id}
    _title("Findings")
    kept = kept_runs.closest(source, query.resolve(source.now).span, (("customer_id", str(customer_id)),))
    with st.container(gap=None, key="customer_findings"):
        if kept is None:
            st.caption("No kept validation examined this customer in this window.")
        else:
            _kept_findings(pages, kept, query, source, customer_id)
        own = ValidateView(Period(**shared, **window, as_of=query.as_of))
        kept_runs.run_button(own)


def _kept_findings(pages: Pages, kept: Run, query: AggregateQuery, source: Source, customer_id: UUID) -> None:
    examined = kept_runs.words(kept, query.zone)
    known = kept_runs.read(kept, source, str(customer_id))
    about = sorted(known.decided, key=lambda item: item.settled is not None)  # open ones first, as in Validate
    pinned = kept_runs.pinned_view(kept, query.timezone)
    if known.unseen:
        text = unseen.sentence(known.unseen, kept.files, kept.period, query.zone)
        kept_runs.warn_of_unseen(text, known.unseen, kept.period, pages, source, query.zone, on=" on Validate")
    if about:
        narrowed = pinned.replace(customers=(str(customer_id),))
        names = kept_runs.names_in((item.finding for item in about), source)
        for item in about[:_MAX_FINDINGS]:
            opened = narrowed.replace(finding=item.finding.identity.id)
            kept_runs.link(pages, opened, kept_runs.finding_words(item, names, query.zone))
        more = len(about) - _MAX_FINDINGS
        rest = f"and {more:,} more in {examined}" if more > 0 else f"{examined[0].upper()}{examined[1:]}"
        kept_runs.link(pages, narrowed, markdown.plain(rest))
    else:
        none = "None of those shown" if known.unseen else "None"
        kept_runs.link(pages, pinned, markdown.plain(f"{none} names this customer in {examined}"))
    if any(finding.identity.customer_id is None and not finding.folded_into for finding in kept.findings):
        kept_runs.link(pages, pinned, _COMMON_FINDINGS)


def _events(pages: Pages, view: CustomerView, story: Story) -> None:
    target = EventsView(
        query_edits.events_of(view.query.resolve(story.quantities.now)), story.query.timezone
    ).to_params()
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="newest_events"):
        st.markdown("#### Newest events", width="content")
        if fits(target):
            st.page_link(pages.events, label="Open in Events", icon=":material/open_in_new:", query_params=target)
    events_table(story.page.events, story.query.timezone, story.page.names, height="content", key="events-customer")
