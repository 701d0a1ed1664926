"""The Validate page: a billing period, what is wrong with it, and which events are to blame."""

from __future__ import annotations

from datetime import timedelta

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from usage_explore import formatting
from usage_explore.app import markdown, organization
from usage_explore.app.cache import Source
from usage_explore.app.chips import chips, without_filters
from usage_explore.app.header import header
from usage_explore.app.navigation import go, notice
from usage_explore.app.page_state import EventsView, ExploreView, shared_filters
from usage_explore.app.pages import Pages
from usage_explore.app.problems import no_events, sentence, shown
from usage_explore.app.share import share
from usage_explore.app.validate import run
from usage_explore.app.validate.controls import controls, over
from usage_explore.app.validate.files import amended
from usage_explore.app.validate.headline import WANTED, headline, run_button
from usage_explore.app.validate.progress import Progress
from usage_explore.app.validate.tabs import tabs
from usage_explore.app.validate.view import ValidateView
from usage_explore.query import buckets
from usage_explore.query.base import Windowed
from usage_explore.query.describe import describe
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.validation import Validation
from usage_explore.validation.registry import CHECKS
from usage_explore.validation.report.wording import unexamined


def draw(pages: Pages) -> None:
    """Draw the page that the address bar asks for. Raises `UsageExploreError`."""
    found = organization.opened(ValidateView)
    if found is None:
        return
    view, source = found
    validation = run.known(source, view.query)
    pinned = validation.period if validation else source.pinned(view.query)
    header(
        pages,
        view,
        now=validation.period.as_of or source.now if validation else source.now,
        timezone=view.query.timezone,
        in_zone=lambda zone: view.asking(view.query.replace(timezone=zone)),
        links=(_explore_view(view).to_params(), _events_view(view, source).to_params(), view.to_params()),
        share=lambda: share("validate", view.replace(query=pinned), source.store.app_url),
    )
    controls(view, source)
    chips(view, source)
    notice()
    with shown():
        _answer(pages, view, source, validation)


def _answer(pages: Pages, view: ValidateView, source: Source, validation: Validation | None) -> None:
    top = st.empty()
    if st.session_state.pop(WANTED, False):
        _run(view, source, top)
    if validation is None:
        with top.container():
            _not_yet(view, source)
        return
    found = amended(source, validation)
    with top.container():
        headline(found.validation, source.now)
    if found.validation.totals.events:
        tabs(pages, view, source, found)
    else:
        _nothing(view, source, found.validation)


def _run(view: ValidateView, source: Source, top: DeltaGenerator) -> None:
    """Run the checks, with progress in that place; where they fail, they are offered again."""
    top.empty()
    progress = Progress(tuple(CHECKS.values()))
    try:
        run.run(source, view.query, progress)
    except Exception:
        progress.clear()
        with top.container():
            _not_yet(view, source)
        raise
    st.rerun()


def _not_yet(view: ValidateView, source: Source) -> None:
    """Say that nothing was examined yet, and what would be."""
    st.subheader("Not examined yet", anchor=False)
    what = markdown.plain(describe(view.query.resolve(source.now)))
    titles = markdown.plain("; ".join(check.title.lower() for check in CHECKS.values()))
    st.markdown(
        f"{what}.  \n:gray[{formatting.counted(len(CHECKS), 'check')} look for what would make its invoice wrong: "
        f"{titles}. That takes seconds, of very many events a minute or two.]"
    )
    run_button("Run the checks", type="primary", icon=":material/play_arrow:")


def _nothing(view: ValidateView, source: Source, validation: Validation) -> None:
    """No event: say so, and where there are some; nothing found in nothing is not clean."""
    said = f"No events match, so nothing was checked: {describe(validation.period)}."
    if validation.unexamined:
        said = f"Nothing was checked: {unexamined(validation)}"
    extent, zone = source.extent(), view.query.zone
    if extent is None:
        no_events(f"{said} This organization has no events.")
        return
    first, last = (formatting.timestamp(moment, zone) for moment in extent)
    sentence(f"{said} This organization's events lie between {first} and {last}, {view.query.timezone}.")
    start = extent[1].astimezone(zone).date().replace(day=1)
    month = [buckets.day_start(day, zone) for day in (start, (start + timedelta(days=31)).replace(day=1))]
    newest = over(view.query, source.now, window=None, since=month[0], until=month[1])
    with st.container(horizontal=True, gap="small", key="nothing"):
        if newest.resolve(source.now).span != validation.period.span:
            st.button(f"Show {start:%B %Y}", key="show_extent", on_click=lambda: go(lambda: view.asking(newest)))
        without_filters(view)


def _explore_view(view: ValidateView) -> ExploreView:
    """The Explore page for the same filters and window, which may stay relative."""
    window = {name: value for name, value in view.query.given().items() if name in Windowed.model_fields}
    return ExploreView(AggregateQuery(**window, group_by="metric_key"))


def _events_view(view: ValidateView, source: Source) -> EventsView:
    """The Events page for the same filters and window."""
    since, until = view.query.resolve(source.now).span
    query = EventQuery(**shared_filters(view.query), occurred_after=since, occurred_before=until)
    return EventsView(query, view.query.timezone)
