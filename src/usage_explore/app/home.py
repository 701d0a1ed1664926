"""The Home page: an organization's saved views, the links opened last in this session, and the state of its data."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import kept_runs, markdown, navigation, saved_views
from usage_explore.app.cache import Source
from usage_explore.app.extracts import keep_fresh
from usage_explore.app.header import header, opened_view
from usage_explore.app.navigation import Pages, notice
from usage_explore.app.page_state import HomeView
from usage_explore.app.problems import no_events, shown
from usage_explore.app.validate.signing import signed_line
from usage_explore.errors import QueryError
from usage_explore.query.describe import describe, filter_words
from usage_explore.query.queries import EventQuery
from usage_explore.records.views import PAGES, SavedView
from usage_explore.validation import unseen

_STYLE = """<style>
.st-key-narrowed_validation [data-testid="stPageLink-NavLink"] :is(span, p) {
  white-space: normal; overflow: visible; line-height: 1.35; }
</style>"""


def draw(pages: Pages) -> None:
    """Draw the page of the address bar. Raises `UsageExploreError`."""
    opened = opened_view(HomeView, pages)
    if opened is None:
        return
    view, source = opened
    header(pages, view, source, known_at=source.now)
    notice()
    with st.container(key="home"):
        left, right = st.columns([5, 3], gap="large")
    with left:
        with shown():
            _views(pages, view, source)
        _recent(pages, view, source)
    with right:
        with shown():
            _data(pages, view, source)
        with shown():
            _validation(pages, view, source)


def _data(pages: Pages, view: HomeView, source: Source) -> None:
    """The newest event and arrival, the number of events where the extract counts them, and the extract's age."""
    st.subheader("Data", anchor=False)
    newest = source.newest()  # a few entries of two indexes: nothing here is older than the clock beside it
    if newest.extent is None:
        no_events(pages.load, "This organization has no events.")
        return
    zone = ZoneInfo(view.timezone)
    rows = {
        "First event": _moment(newest.extent[0], newest.now, zone),
        "Newest event": _moment(newest.extent[1], newest.now, zone),
    }
    if newest.arrival:
        rows["Newest arrival"] = _moment(newest.arrival, newest.now, zone)
    extract = source.extract()
    if isinstance(extract, str):
        rows["Copy on this machine"] = f"none: {extract}; charts read the database"
    else:
        rows["Events"] = formatting.exact(source.count(EventQuery(organization_id=view.query.organization_id)))
        rows["Copy on this machine"] = (
            f"refreshed {_ago(extract.refreshed, source.now)}; newer events are read from the database"
        )
    st.table({name: markdown.plain(text) for name, text in rows.items()}, border="horizontal", width="content")
    st.caption(markdown.plain(f"As of {formatting.timestamp(newest.now.replace(microsecond=0), zone)}, {zone}"))
    if source.store.organization_id is not None:
        keep_fresh(source.store.organization_id)


def _validation(pages: Pages, view: HomeView, source: Source) -> None:
    """The newest kept run of the checks on the whole organization, and a newer one with filters, each with a link; who
    signed its period off, and what changed since.

    Each is said, and opened, in its own time zone: a month of another one is none of this one's.
    """
    st.subheader("Validation", anchor=False)
    whole, narrowed = kept_runs.newest(source)
    if whole is None:
        st.caption(f"No validation of {'the whole' if narrowed else 'this'} organization is kept yet.")
        kept_runs.link(pages, view.validate, "Open Validate")
    else:
        zone = ZoneInfo(whole.timezone)
        kept, words = kept_runs.read(whole, source), kept_runs.words(whole, zone)
        found = kept.found()
        pinned = kept_runs.pinned_view(whole)
        kept_runs.link(pages, pinned, f"**{found[0].upper()}{found[1:]}**")
        st.caption(markdown.plain(f"{words[0].upper()}{words[1:]}, {zone}"))
        signed_line(source, pinned.query, None)
        if unseen.is_grave(kept.unseen):
            text = unseen.sentence(kept.unseen, whole.files, whole.period, zone)
            st.warning(markdown.plain(text), icon=":material/warning:")
            kept_runs.link_others(pages, kept.unseen, whole.period)
        if needed := kept_runs.needed_files(kept):
            st.caption(markdown.plain(f"Drop {needed} on Validate to see every finding of {words}."))
    if narrowed is not None:
        pinned = kept_runs.pinned_view(narrowed)
        filters = source.names(pinned.query).in_text(" and ".join(filter_words(pinned.query)))
        found = kept_runs.read(narrowed, source).found()
        examined = kept_runs.words(narrowed, ZoneInfo(narrowed.timezone))
        text = f"Newer, only where {filters}: {found} in {examined}, {narrowed.timezone}"
        with st.container(key="narrowed_validation"):
            st.html(_STYLE)
            kept_runs.link(pages, pinned, f":small[:gray[{markdown.plain(formatting.short_ids(text))}]]")


def _views(pages: Pages, view: HomeView, source: Source) -> None:
    """The saved views, each a link, with its query in words, its note and its author."""
    saved = source.views()
    st.subheader("Views", anchor=False)
    if not saved:
        st.caption(
            "No views yet. “Views” in the header of Explore, Events, Validate and a customer's page saves what the "
            "page shows under a name."
        )
        return
    for one in saved_views.searched(saved, "home_views_search"):
        _view(pages, view, source, one)


def _view(pages: Pages, view: HomeView, source: Source, saved: SavedView) -> None:
    zone = ZoneInfo(view.timezone)
    with st.container(gap=None, key=f"saved_view {saved.id}"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            saved_views.link(pages, view, saved)
            if saved.pinned != saved.params:
                saved_views.link(pages, view, saved, pinned=True, label="As saved")
            saved_views.edit(saved, str(saved.id))
        words = [saved.page.capitalize() if saved.page in PAGES else "", saved_views.saved_words(saved, zone)]
        try:
            words.insert(1, source.names(saved.query).in_text(describe(saved.query)))
        except QueryError as error:
            words.insert(1, f"cannot be shown: {error.faults[0]}")
        st.caption(markdown.plain(" · ".join(filter(None, words))))
        if saved.note:
            lines = (f":small[{markdown.plain(line)}]" for line in saved.note.split("\n") if line.strip())
            st.markdown("  \n".join(lines))


def _recent(pages: Pages, view: HomeView, source: Source) -> None:
    """The links of the organization that were opened in this session."""
    links = [link for link in navigation.recent_links() if link.organization_id == view.query.organization_id]
    if not links:
        return
    names = source.names_of(key for link in links for key in link.ids)
    st.subheader("Opened last", anchor=False)
    with st.container(gap=None):
        for link in links:
            text = formatting.short_ids(names.in_text(link.text))
            st.page_link(
                getattr(pages, link.page),
                label=f":gray[{link.page.capitalize()}] {markdown.plain(text)}",
                query_params=link.params,
            )
    st.caption("Of this session only; a saved view stays.")


def _moment(moment: datetime, now: datetime, zone: ZoneInfo) -> str:
    """A time on the page's clock, and how long ago it was."""
    return f"{formatting.timestamp(moment.replace(microsecond=0), zone)}, {_ago(moment, now)}"


def _ago(moment: datetime, now: datetime) -> str:
    """How long before now: "3 hours 5 minutes ago", "this minute"; "in 2 days" for a later time."""
    seconds = (now - moment).total_seconds()
    if abs(seconds) < 60:
        return "this minute"
    words = formatting.duration(abs(now - moment))
    return f"{words} ago" if seconds > 0 else f"in {words}"
