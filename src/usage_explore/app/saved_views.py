"""Saved views in the app: the menu of the header, the line of the view that is open, and the changes to views.

A view is open while the page's parameters are those that it saved, live or pinned; so a copied link shows it, too.
Every change checks anew that the organization is visible to the user.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import cast
from uuid import UUID
from zoneinfo import ZoneInfo

import streamlit as st

from usage_explore import formatting
from usage_explore.app import cache, markdown, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.components import focus, once, popover_form
from usage_explore.app.navigation import Pages, View, fits, write_url
from usage_explore.app.page_state import CustomerView, EventsView, HomeView, Pairs
from usage_explore.errors import DatabaseError, QueryError, UsageExploreError
from usage_explore.query.base import Query, Windowed
from usage_explore.query.describe import measure_name
from usage_explore.query.queries import COST_METRICS, METRICS, AggregateQuery, EventQuery, Period
from usage_explore.records.texts import LOCAL_AUTHOR
from usage_explore.records.views import (
    MAX_VIEW_NAME_CHARACTERS,
    MAX_VIEW_NOTE_CHARACTERS,
    PAGES,
    Headline,
    SavedView,
)
from usage_explore.results.types import Change
from usage_explore.store import Store

MAX_UNSEARCHED_VIEWS = 8
"""Views up to which a list has no search box."""

_MENU, _NAME, _NOTE = "views", "view_name", "view_note"
"""Session state: whether the menu is open, and the texts typed there."""

_LAST, _DELETED, _ERROR = "view_last", "view_deleted", "view_error"
"""Session state: the view that was open last, the one that was deleted last, and the error of the last change."""

_OFFER_UNDO = "view_offer_undo"
"""Session state: whether "Undo" takes the focus, because the button "Delete" that had it is gone."""

_SavedQuery = AggregateQuery | EventQuery | Period


def menu(pages: Pages, view: View, source: Source) -> None:
    """Draw the button that opens the organization's saved views, and the form that saves this one."""
    form = popover_form("Views", ":material/bookmark:", _MENU, 420)
    if form is None:
        return
    with form:
        try:
            saved = source.views()
        except UsageExploreError as error:
            st.warning(markdown.plain(str(error)))
            return
        _error()
        _links(pages, view, searched(saved, "views_search"))
        _save_form(view, source, saved)


def searched(saved: tuple[SavedView, ...], key: str) -> tuple[SavedView, ...]:
    """Draw a search box if there are many views; the views whose name, note or author contain its text."""
    if len(saved) <= MAX_UNSEARCHED_VIEWS:
        return saved
    text = st.text_input(
        "Search views", key=key, placeholder=f"Search {len(saved):,} views", label_visibility="collapsed"
    )
    part = text.strip().casefold()
    hits = tuple(one for one in saved if part in "\n".join((one.name, one.note, one.author)).casefold())
    if not hits:
        st.caption("No view has that in its name, note or author.")
    return hits


def opened(pages: Pages, view: View, source: Source) -> None:
    """Draw the saved view whose parameters the page has: its name, note, and what changed since it was saved."""
    try:
        saved = source.views()
    except UsageExploreError:  # the menu says it
        return
    match = next(((one, pinned) for one in saved if (pinned := _is_open(one, view)) is not None), None)
    if match is None:
        return
    one, pinned = match
    st.session_state[_LAST] = one
    with st.container(gap=None, key="opened_view"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.markdown(f":material/bookmark: **{markdown.plain(one.name)}**", width="content")
            text, exact, has_changed = _since_saved(one, source, ZoneInfo(view.timezone), pinned)
            st.caption(markdown.plain(text), width="content", help=exact and markdown.plain(exact))
            if has_changed:
                _arrived_link(pages, view, one, source.now)
            if not pinned and one.pinned != one.params:
                st.button(
                    "As saved",
                    key="view_pinned",
                    type="tertiary",
                    on_click=lambda: write_url(one.pairs(pinned=True)),
                    help=markdown.plain(f"The numbers {_known_words(one, ZoneInfo(view.timezone))}"),
                )
            elif pinned and one.pinned != one.params:
                st.button("Now", key="view_live", type="tertiary", on_click=lambda: write_url(one.pairs()))
            edit(one, "opened")
        if one.note:
            st.caption(markdown.plain(one.note).replace("\n", "  \n"))


def undo(source: Source) -> None:
    """Draw the offer to undo the last deletion of a view of the organization."""
    deleted: SavedView | None = st.session_state.get(_DELETED)
    if deleted is None or deleted.organization_id != source.store.organization_id:
        return
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="deleted_view"):
        st.caption(f"The view **{markdown.plain(deleted.name)}** was deleted.", width="content")
        st.button(
            "Undo",
            key="view_undo",
            type="tertiary",
            on_click=once,
            args=(f"restore view {deleted.id}", lambda: _restore(deleted)),
        )
        st.button("Close", key="view_undo_close", type="tertiary", on_click=_close)
        if st.session_state.pop(_OFFER_UNDO, False):
            focus(".st-key-view_undo button", f"undo {deleted.id} {deleted.changed_at}")


def edit(saved: SavedView, key: str) -> None:
    """Draw the button that opens a view's name and note, to change or to delete it."""
    form = popover_form("Edit", ":material/edit:", f"view_edit {key}", 360, "tertiary")
    if form is None:
        return
    name, note = f"view_edit_name {key} {saved.changed_at}", f"view_edit_note {key} {saved.changed_at}"
    with form:
        _error()
        with st.form(f"view_edit_form {key}", border=False):
            st.text_input("Name", saved.name, key=name, max_chars=MAX_VIEW_NAME_CHARACTERS)
            st.text_area("Note", saved.note, key=note, max_chars=MAX_VIEW_NOTE_CHARACTERS, height=100)
            st.form_submit_button(
                "Save changes",
                key=f"view_change {key}",
                type="primary",
                on_click=once,
                args=(f"edit view {saved.id}", lambda: _edit(saved, f"view_edit {key}", name, note)),
            )
        st.button("Delete", key=f"view_delete {key}", on_click=lambda: _delete(saved, f"view_edit {key}"))


def link(pages: Pages, view: View, saved: SavedView, *, pinned: bool = False, label: str = "") -> None:
    """Draw a view's name, or the label, as a link that opens it; an unreadable view opens as the error that it is."""
    label = label or f"**{markdown.plain(saved.name)}**"
    try:
        pairs = saved.pairs(pinned=pinned)
    except QueryError:
        pairs = ()
    if saved.page not in PAGES or not pairs:
        st.markdown(f"{label} :gray[of another version of usage-explore]", width="content")
    elif (
        view.path or "explore"
    ) == saved.page:  # a page link to the page it is on would leave the address bar as it was
        st.button(
            label, key=f"view {saved.id} {pinned}", type="tertiary", on_click=_open_here, args=(pairs,), width="content"
        )
    else:
        st.page_link(getattr(pages, saved.page), label=label, query_params=pairs)


def saved_words(saved: SavedView, zone: ZoneInfo) -> str:
    """When a view was saved, and by whom: "saved 5 Nov 2026 14:30 by ana@example.com"."""
    author = "" if saved.author == LOCAL_AUTHOR else f" by {formatting.data_value(saved.author)}"
    return f"saved {formatting.minute(saved.saved_at.astimezone(zone))}{author}"


def _known_words(saved: SavedView, zone: ZoneInfo) -> str:
    """As of when the view's numbers were saved, which is the settle time before: "as known at 14:25"."""
    return f"as known at {formatting.minute(saved.as_of.astimezone(zone), saved.saved_at.astimezone(zone))}"


def since_saved(
    saved: SavedView, now: Headline | None, clock: datetime, zone: ZoneInfo, pinned: bool = False
) -> tuple[str, str]:
    """The headline number that was saved against the one now, in a sentence, and both numbers exact.

    `now` is as of `clock`, None if it could not be computed. Both say as of when they are: what arrived in the minutes
    before the view was saved is in neither. A moved window, and one that was not over, are named.
    """
    words = _sentence_case(saved_words(saved, zone))
    if saved.total is None:
        return f"{words}.", ""
    query, then_query = saved.query, saved.pinned_query
    unit = _unit(query, saved)
    then_days, now_days = _days(then_query, clock, zone), _days(then_query if pinned else query, clock, zone)
    is_moved = then_days != now_days
    then = f"{formatting.short(saved.total)} {unit} {_known_words(saved, zone)}"
    if is_moved:
        then += f" ({then_days})"
    elif isinstance(then_query, Windowed) and then_query.span[1] > saved.saved_at:
        then += ", before the window was over"
    known = formatting.timestamp(saved.as_of.replace(microsecond=0), zone)
    exactly = f"Then exactly {formatting.exact(saved.total)} {unit}, as known at {known}"
    if now is None or now.total is None or now.currency != saved.currency:
        return f"{words}: {then}; no number to compare it with now.", f"{exactly}."
    exactly += f"; now exactly {formatting.exact(now.total)}."
    where = f"as of {formatting.minute(clock.astimezone(zone), saved.saved_at.astimezone(zone))}"
    if now.total == saved.total and not is_moved:
        return f"{words}: {then}, the same {where}.", exactly
    if is_moved:
        where += f" ({now_days})"
    elif pinned:
        where = f"in the same window {where}"
    change = Change(now.total, saved.total)
    words = f"{words}: {then}, {formatting.short(now.total)} {where}"
    if change.absolute and formatting.short(now.total) == formatting.short(saved.total):
        step = formatting.typographic(formatting.signed(change.absolute))
        return f"{words}, {step} {_measure(query, saved, change.absolute)}.", exactly
    if change.ratio is not None:
        words += f", {formatting.typographic(formatting.change(change.ratio))}"
    return f"{words}.", exactly


def _sentence_case(words: str) -> str:
    return words[0].upper() + words[1:]


def _unit(query: Query, saved: SavedView) -> str:
    """The name of what the total counts; a selection on the Explore page has a number of its own there."""
    whole = " in the whole window" if {"series", "span"} & dict(saved.pairs()).keys() else ""
    return _measure(query, saved) + whole


def _measure(query: Query, saved: SavedView, number: Decimal | int | None = None) -> str:
    """The name of what a number counts, by default the saved total."""
    counted = saved.total if number is None else number
    if not isinstance(query, AggregateQuery):
        return measure_name("count", counted)
    if query.metric in COST_METRICS:
        return f"{saved.currency or ''} {METRICS[query.metric]}".strip()
    return measure_name(query.metric, counted)


def _days(query: Query, clock: datetime, zone: ZoneInfo) -> str:
    """The days that a query's window touches, "" of events."""
    if not isinstance(query, Windowed):
        return ""
    since, until = (edge.astimezone(zone) for edge in query.resolve(clock).span)
    first, last = since.date(), (until - timedelta.resolution).date()
    return formatting.span(*(datetime.combine(day, time(), zone) for day in (first, last + timedelta(days=1))))


def _arrived_link(pages: Pages, view: View, saved: SavedView, now: datetime) -> None:
    """The link to the rows of the page's window and filters that arrived after the view's numbers were known."""
    query: _SavedQuery = view.query.resolve(now)
    shared = query.shared_with(EventQuery)
    arrived = saved.as_of + timedelta.resolution  # an event that arrived at `as_of` is counted
    own = {"ingested_after": max(shared.get("ingested_after", arrived), arrived), "as_of": None, "cursor": None}
    if isinstance(query, Windowed):
        own |= {"occurred_after": query.span[0], "occurred_before": query.span[1]}
    try:
        target = EventsView(EventQuery(**{**shared, **own}), view.timezone).to_params()
    except QueryError:  # only earlier arrivals are shown
        return
    label = "Rows that arrived since"
    if isinstance(view, EventsView):  # a page link to the page it is on would leave the address bar as it was
        st.button(label, key="view_arrived", type="tertiary", on_click=write_url, args=(target,))
    elif fits(target):
        st.page_link(pages.events, label=label, query_params=target)


def _since_saved(saved: SavedView, source: Source, zone: ZoneInfo, pinned: bool) -> tuple[str, str, bool]:
    """`since_saved` with the number now, and whether events that arrived in the same window may have changed it.

    Of a pinned view also whether its numbers still are those that were saved.
    """
    try:
        then, query = saved.pinned_query, saved.query
    except QueryError:  # of another version
        return f"{_sentence_case(saved_words(saved, zone))}.", "", False
    now = _headline(then.replace(as_of=None) if pinned else query, source)
    text, exact = since_saved(saved, now, source.now, zone, pinned)
    if pinned and (shown := _headline(then, source)) and shown.total not in (None, saved.total):
        text += " The numbers below are no longer those that were saved: events were changed, removed or loaded late."
    is_moved = not pinned and _days(then, source.now, zone) != _days(query, source.now, zone)
    return text, exact, not is_moved and now is not None and now.total not in (None, saved.total)


def _headline(query: Query, source: Source) -> Headline | None:
    """A query's headline number, from the cache of the page's own results; None if it cannot be computed."""
    try:
        if isinstance(query, EventQuery):
            return Headline(source.count(query))
        if isinstance(query, Period):
            query = AggregateQuery(**query.shared_with(AggregateQuery))
        answer = source.aggregate(cast("AggregateQuery", query))
    except (QueryError, DatabaseError):
        return None
    return Headline(answer.total, answer.currency)


def _is_open(saved: SavedView, view: View) -> bool | None:
    """Whether the page shows the view pinned; None if it does not show it."""
    if saved.page != (view.path or "explore"):
        return None
    shown = _compared(view.to_params())
    try:
        pinned, live = (_compared(saved.pairs(pinned=pinned)) for pinned in (True, False))
    except QueryError:  # damaged
        return None
    return shown == pinned if shown in (pinned, live) else None


def _compared(pairs: Pairs) -> Pairs:
    """The parameters by which a saved view is recognized; in another tab it is the same view."""
    return tuple(sorted(pair for pair in pairs if pair[0] not in ("organization_id", "tab")))


def _links(pages: Pages, view: View, saved: tuple[SavedView, ...]) -> None:
    with st.container(gap=None, height=300 if len(saved) > MAX_UNSEARCHED_VIEWS else "content", border=False):
        for one in saved:
            with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                link(pages, view, one)
                st.space("stretch")
                if one.pinned != one.params:
                    link(pages, view, one, pinned=True, label="As saved")
    if not saved:
        st.caption("No views are saved yet.")
        return
    st.page_link(
        pages.home,
        label="All views, with notes",
        icon=":material/home:",
        query_params=HomeView(EventQuery(organization_id=view.query.organization_id), view.timezone).to_params(),
    )


def _save_form(view: View, source: Source, saved: tuple[SavedView, ...]) -> None:
    """The form that saves the page's state, under a new name or over the view of that name."""
    last: SavedView | None = st.session_state.get(_LAST)
    is_changed = (
        last in saved and last is not None and last.page == (view.path or "explore") and (_is_open(last, view) is None)
    )
    if _NAME not in st.session_state:
        st.session_state[_NAME] = last.name if is_changed and last else ""
    same = next((one for one in saved if one.name == st.session_state[_NAME].strip()), None)
    with st.form("view_form", border=False):  # Enter in a form's line presses its button
        st.text_input(
            "Save this view as",
            key=_NAME,
            max_chars=MAX_VIEW_NAME_CHARACTERS,
            placeholder="A name, such as Tokens by model",
        )
        if same is None:
            st.text_area("Note", key=_NOTE, max_chars=MAX_VIEW_NOTE_CHARACTERS, height=70)
        label = f"Overwrite {markdown.plain(formatting.data_value(same.name, 30))}" if same else "Save view"
        st.form_submit_button(label, key="view_save", type="primary", on_click=lambda: _save(view, same))
    if same:
        st.caption(
            f"{_sentence_case(saved_words(same, ZoneInfo(view.timezone)))}. Its name and note stay; its link and its"
            " number become those of this page."
        )
    else:
        try:
            st.caption(f"Everyone who may see this organization here sees its views. Saved in {_place(source)}.")
        except UsageExploreError as error:
            st.caption(markdown.plain(str(error)))


def _place(source: Source) -> str:
    """Where views are saved; on a shared server without the path."""
    place = source.store.views_place()
    if not sign_in.is_alone() and place.startswith("the file"):
        return "a file on this server"
    return markdown.plain(place)


def _save(view: View, same: SavedView | None) -> None:
    if _NAME not in st.session_state:  # a second press, where the menu has closed
        return
    name = st.session_state[_NAME].strip()
    query, display = state(view)
    page = view.path or "explore"

    def act() -> SavedView:
        if same is not None and same.name == name:
            return _store(same).change_view(same, query=query, display=display, page=page)
        store = cache.source(cast("UUID", query.organization_id)).store
        return store.save_view(
            name,
            query,
            st.session_state.get(_NOTE, ""),
            author=sign_in.current_user() or LOCAL_AUTHOR,
            display=display,
            page=page,
        )

    def save() -> bool:
        if is_saved := _changed(_MENU, act):
            st.session_state.pop(_NAME, None)
            st.session_state[_NOTE] = ""
        return is_saved

    once(f"save view {name} {st.session_state.get(_NOTE, '')} {view.to_params()}", save)


def state(view: View) -> tuple[_SavedQuery, Pairs]:
    """The query of the page, and its parameters that only concern the display."""
    query: _SavedQuery = view.query
    if isinstance(view, EventsView):
        query = view.query.replace(cursor=None)
    own = ("currency",) if isinstance(view, CustomerView) else type(query).VIEW
    return query, tuple(pair for pair in view.to_params() if pair[0] in own)


def _store(saved: SavedView) -> Store:
    """The store of the view's organization, if the user may still see it."""
    return cache.source(saved.organization_id).store


def _edit(saved: SavedView, popover: str, name: str, note: str) -> bool:
    """Change the name and the note to the texts of the widgets of these keys."""
    texts = {"name": st.session_state.get(name, saved.name), "note": st.session_state.get(note, saved.note)}
    return _changed(popover, lambda: _store(saved).change_view(saved, **texts))


def _delete(saved: SavedView, popover: str) -> None:
    def act() -> None:  # the view as it was, which may be newer than the page
        st.session_state[_DELETED] = _store(saved).delete_view(saved)

    once(f"delete view {saved.id}", lambda: _changed(popover, act))
    st.session_state[_OFFER_UNDO] = True


def _restore(saved: SavedView) -> bool:
    if is_restored := _changed("", lambda: _store(saved).restore_view(saved)):
        st.session_state.pop(_DELETED, None)
    return is_restored


def _close() -> None:
    st.session_state.pop(_DELETED, None)


def _changed(popover: str, act: Callable[[], object]) -> bool:
    """Run a change, close the popover and read the views anew; if it fails, remember the error and return False."""
    try:
        act()
    except UsageExploreError as error:
        st.session_state[_ERROR] = str(error)
        return False
    finally:
        cache.forget_views()
    if popover:
        st.session_state[popover] = False
    return True


def _error() -> None:
    """Draw the error of the last change, once."""
    if text := st.session_state.pop(_ERROR, None):
        st.warning(markdown.plain(text))


def _open_here(pairs: Pairs) -> None:
    st.session_state[_MENU] = False
    write_url(pairs)
