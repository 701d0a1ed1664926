"""The top of every page: the organization, the links between the pages, the time zone, sharing, headline numbers.

After a change of the time zone, one sentence says what it did to the window. A window that the clock defines, such as
`this_month` or `-29d/d`, follows the clock of the new zone: it keeps its days and moves to other instants. A window
between two instants stays, and its days are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import streamlit as st

from usage_explore import formatting
from usage_explore.app import cache, markdown, navigation, saved_views, share_menu, sign_in
from usage_explore.app.cache import Source
from usage_explore.app.components import clicked, component, focus
from usage_explore.app.load import permission
from usage_explore.app.navigation import (
    Pages,
    View,
    changed,
    follow,
    forget_old_url,
    go,
    leave,
    read_url,
    write_url,
)
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView, HomeView, LoadView, Pairs, ValidateView
from usage_explore.app.problems import no_events
from usage_explore.app.query_edits import without_filters
from usage_explore.app.search_box import search_box
from usage_explore.demo import ORGANIZATIONS
from usage_explore.errors import ScopeError
from usage_explore.query.base import Windowed
from usage_explore.query.queries import AggregateQuery, EventQuery, Period

_View = TypeVar("_View", ExploreView, EventsView, ValidateView, CustomerView, HomeView)

_STORAGE, _LAST_ORGANIZATION = "browser_storage_of_organization", "last_organization"
"""Session state: the component that reads the browser's storage, and the organization that it has named."""

MAX_ORGANIZATION_BUTTONS = 12
"""Organizations up to which the choice is a list of buttons, beyond that a searchable box."""


Step = tuple[str, str, Callable[[], View] | None]
"""A button to the row before or after an opened one: label, icon, and the view, None at the end of the list."""


def header(
    pages: Pages,
    view: View,
    source: Source,
    *,
    known_at: datetime,
    why: str = "",
    pinned: Callable[[], View] | None = None,
) -> None:
    """Draw the header, and below it the saved view that is open. `known_at` is the database's time of the numbers.

    `why` says why that time is not now. `pinned` makes the view of the shared link; without it nothing is shared.
    """
    navigation.remember_link(view)
    _browser_storage({"opened": str(view.query.organization_id)}, lambda: None)
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key="header"):
        links = [linked.to_params() for linked in linked_views(view, source.now)]
        customer = None if isinstance(view, HomeView) else customer_view(view, source.now)
        shown = customer.to_params() if customer is not None else None
        page_links(pages, links, LoadView(view.query.organization_id), view.timezone, shown)
        search_box(pages, view, source)
        if not isinstance(view, HomeView) and (view.query.customer_id or not isinstance(view, CustomerView)):
            saved_views.menu(pages, view, source)
        _organization_picker(view)
        if view.query.organization_id in ORGANIZATIONS:
            with st.container(width="content", key="demo"):
                st.badge(
                    "Demo",
                    color="gray",
                    help="Made-up data. Load your own events on the page Load, or with `usage-explore load FILE`.",
                )
        st.space("stretch")
        zone = ZoneInfo(view.timezone)
        known = min(known_at, view.query.as_of or known_at).astimezone(zone)
        day = "" if known.date() == source.now.astimezone(zone).date() else f"{formatting.date(known)} "
        key = follow("timezone", view.timezone)
        st.selectbox(
            "Time zone",
            offered_timezones(),
            key=key,
            on_change=lambda: change_zone(view, st.session_state[key], source.now),
            label_visibility="collapsed",
            width=170,
            help="All bucket edges and all times on the page follow this zone.",
        )
        with st.container(width="content", key="known"):
            st.caption(
                f"as of {day}{known:%H:%M}",
                width="content",
                help=markdown.plain(
                    f"Numbers are as the database knew them at {formatting.timestamp(known, zone)} ({view.timezone}). "
                    f"{why}".strip()
                ),
            )
        if pinned is not None:
            with st.popover("Share", icon=":material/share:", key="share"):
                with st.container(key="share_form"):
                    share_menu.menu(view, pinned(), source)
                focus(".st-key-share_form", "share_focus")
        sign_in.account()
    draw_zone_change(view)
    if not isinstance(view, HomeView):
        saved_views.opened(pages, view, source)
    saved_views.undo(source)


def page_links(
    pages: Pages, links: Sequence[Pairs], load: LoadView, timezone: str = "UTC", customer: Pairs | None = None
) -> None:
    """Draw the links to the pages: Explore, Events and Validate by `links`, Load where it is offered.

    A page that is filtered to one `customer` has a link to the customer's page, too.
    """
    home = HomeView(EventQuery(organization_id=load.organization_id), timezone)
    st.page_link(pages.home, label="Home", icon=":material/home:", query_params=home.to_params())
    for page, pairs in zip((pages.explore, pages.events, pages.validate), links, strict=True):
        st.page_link(page, query_params=pairs)
    if customer is not None:
        st.page_link(pages.customer, query_params=customer)
    if permission.is_offered():
        st.page_link(pages.load, query_params=load.to_params())


def linked_views(view: View, now: datetime) -> tuple[ExploreView, EventsView, ValidateView]:
    """The view of each page with the same filters and window, for the links between the pages.

    The Events page has absolute times: a window up to now is open at its end there, and ends now again on the others.
    """
    query = view.query
    if isinstance(view, HomeView):
        return view.explore, EventsView(view.query, view.timezone), view.validate
    if isinstance(view, EventsView):
        after, before = view.query.occurred_after, view.query.occurred_before
        window = {"since": after, "until": before or "now"} if after and (before or after < now) else None
        shared = {**query.shared_with(Period), "timezone": view.timezone}
        explore = AggregateQuery(**shared, **(window or {"since": "-29d/d"}), group_by="metric_key")
        return ExploreView(explore), view, ValidateView(Period(**shared, **(window or {"window": "last_month"})))
    since, until = view.query.resolve(now).span
    is_live = view.query.until == "now" and not view.query.window
    times = {"occurred_after": since, "occurred_before": None if is_live else until}
    events = EventsView(EventQuery(**query.shared_with(EventQuery), **times), view.timezone)
    explore = AggregateQuery(**{**query.shared_with(AggregateQuery), "group_by": "metric_key"})
    validate = Period(**query.shared_with(Period))
    return (
        view if isinstance(view, ExploreView) else ExploreView(explore),
        events,
        view if isinstance(view, ValidateView) else ValidateView(validate),
    )


def customer_view(view: View, now: datetime) -> CustomerView | None:
    """The page of the customer that a view is filtered to, in the view's window; None without such a filter."""
    if isinstance(view, CustomerView):
        return view
    query = view.query
    if query.customer_id is None:
        return None
    if not isinstance(view, EventsView):
        return CustomerView.of(query, query.customer_id)
    explore, _, _ = linked_views(view, now)
    return CustomerView.of(explore.query, query.customer_id)


def closable_heading(
    text: str,
    key: str,
    view: View,
    closed: Callable[[], View],
    beside: Sequence[Step] = (),
) -> None:
    """Draw the heading of an opened row, `text` in Markdown, with a button that goes to the view without it.

    `beside` are the buttons to the rows before and after it.
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"{key}_heading"):
        st.markdown(text, width="content")
        st.space("stretch")
        for label, icon, edited in beside:
            st.button(
                label,
                type="tertiary",
                icon=icon,
                disabled=edited is None,
                key=f"{key} {label}",
                on_click=lambda edited=edited: go(view, edited) if edited else None,
            )
        st.button("Close", type="tertiary", icon=":material/close:", key=key, on_click=lambda: go(view, closed))


def headline_number(value: str, meaning: str, help: str) -> None:
    """Draw a large number with its meaning in small print; `value` is Markdown."""
    st.subheader(f"{value} :small[:gray[{markdown.plain(meaning)}]]", anchor=False, width="content", help=help)


def offered_timezones() -> tuple[str, ...]:
    """`timezones` with the browser's own one first: offered, never taken by itself."""
    every, own = timezones(), browser_timezone()
    return (own, *(name for name in every if name != own)) if own else every


def browser_timezone() -> str | None:
    """The browser's own zone; None where it is not known."""
    own = st.context.timezone
    return own if own in timezones() else None


@st.cache_data(show_spinner=False)
def timezones() -> tuple[str, ...]:
    """IANA names: UTC first, then those with a region such as Europe/Berlin, then the others."""
    names = sorted(available_timezones() - {"localtime", "Factory", "UTC"})
    return ("UTC", *(name for name in names if "/" in name), *(name for name in names if "/" not in name))


def opened_view(kind: type[_View], pages: Pages) -> tuple[_View, Source] | None:
    """The view of the address bar with its organization, and the `Source` of that organization's events.

    None after drawing a choice of organization, or how to load events. Raises `UsageExploreError`.
    """
    forget_old_url()
    leave()
    pairs = read_url()
    view = kind.from_params(pairs)
    organization_id = _chosen(view, pages)
    if organization_id is None:
        return None
    view = view.replace(query=view.query.replace(organization_id=organization_id))
    try:
        source = cache.source(organization_id)
    except ScopeError as error:
        _refused(view, pages, error)
        return None
    if "organization_id" not in dict(pairs):  # every other link stays as it was typed
        write_url(view.to_params())
    return view, source


def _chosen(view: View, pages: Pages) -> UUID | None:
    """The organization to show; None after drawing a choice or how to load events. Raises `ScopeError`."""
    if view.query.organization_id:
        return view.query.organization_id
    visible = cache.organizations()
    if not visible:
        no_events(pages.load)
        return None
    if len(visible) > 1:
        _choice(view, visible)
        return None
    return visible[0]


def _organization_picker(view: View) -> None:
    """Another organization keeps the window and the grouping, not the filters."""
    shown = view.query.organization_id
    label = _organization_label()
    options = _by_label({*cache.organizations(), *filter(None, [shown])}, label)
    key = follow("organization", shown)
    st.selectbox(
        "Organization",
        options,
        key=key,
        format_func=label,
        filter_mode="contains",
        on_change=changed(key, view, lambda picked: _with_organization(view, picked)),
        label_visibility="collapsed",
        width=170,
        disabled=len(options) == 1,
    )


def _organization_label() -> Callable[[UUID], str]:
    """The function from an organization's id to its name, or to the id if it has none."""
    names = cache.organization_names()

    def label(organization_id: UUID) -> str:
        known = names.known("organization", organization_id)
        return known or ORGANIZATIONS.get(organization_id, str(organization_id))

    return label


def _by_label(organization_ids: Iterable[UUID], label: Callable[[UUID], str]) -> tuple[UUID, ...]:
    """The organizations by name, those without one last."""

    def rank(organization_id: UUID) -> tuple[bool, str, str]:
        name = label(organization_id)
        return name == str(organization_id), name.casefold(), name

    return tuple(sorted(organization_ids, key=rank))


def _with_organization(view: View, organization_id: UUID) -> View:
    """The view of an organization. Filters of another organization are dropped: they would match nothing."""
    query = view.query
    if query.organization_id is None:
        return view.replace(query=query.replace(organization_id=organization_id))
    if query.organization_id == organization_id:
        return view
    return view.with_query(without_filters(query).replace(organization_id=organization_id))


def _refused(view: View, pages: Pages, error: ScopeError) -> None:
    """Say that the link's organization does not exist or is not visible to the user, and offer the visible ones."""
    visible = cache.organizations()
    if not visible:
        no_events(pages.load)
        return
    st.error(markdown.prose(str(error)), icon=":material/link_off:")
    _choice(view, visible)


def _opened_last(organization_ids: tuple[UUID, ...]) -> tuple[UUID, ...]:
    """The organizations, first the one that this browser opened last, known from the second run on."""
    stored = st.session_state.get(_LAST_ORGANIZATION)
    first = tuple(organization_id for organization_id in organization_ids if str(organization_id) == stored)
    _browser_storage({"first": stored or ""}, clicked(_STORAGE, "last", _remember_last))
    return tuple(dict.fromkeys((*first, *organization_ids)))


def _remember_last(organization_id: str) -> None:
    st.session_state[_LAST_ORGANIZATION] = str(organization_id)


def _browser_storage(data: dict[str, str], on_last_change: Callable[[], None]) -> None:
    """Keep which organization is `opened` in the browser's storage, or read it if it is not `first` already."""
    with st.container(key="browser_storage"):  # takes no room
        component("organization")(key=_STORAGE, data=data, on_last_change=on_last_change)


def _choice(view: View, organization_ids: tuple[UUID, ...]) -> None:
    label = _organization_label()
    organization_ids = _opened_last(_by_label(organization_ids, label))
    st.subheader("Whose events?", anchor=False)
    number = formatting.counted(len(organization_ids), "organization")
    st.caption(f"You can see {number} here. Choose one; the link will name it.")
    if len(organization_ids) > MAX_ORGANIZATION_BUTTONS:
        key = "organization_choice"
        st.selectbox(
            "Organization",
            organization_ids,
            index=None,
            key=key,
            format_func=label,
            filter_mode="contains",
            placeholder="Choose an organization",
            on_change=changed(key, view, lambda picked: _with_organization(view, picked)),
            width=420,
        )
        return
    for organization_id in organization_ids:
        st.button(
            markdown.plain(label(organization_id)),
            key=f"organization_{organization_id}",
            on_click=lambda chosen=organization_id: go(view, lambda: _with_organization(view, chosen)),
            width=420,
        )


_CHANGE = "zone_change"


def change_zone(view: View, timezone: str, now: datetime) -> None:
    """Show the view in another time zone, and remember what that does to its window."""
    changed = view.in_timezone(timezone)
    st.session_state[_CHANGE] = _zone_window(changed), zone_sentence(view, changed, now)
    go(view, lambda: changed)


def draw_zone_change(view: View) -> None:
    """Draw the sentence, as long as the page has the time zone and the window that the change made."""
    window, text = st.session_state.get(_CHANGE, (None, ""))
    if text and window == _zone_window(view):
        st.caption(markdown.plain(text))


def zone_sentence(before: View, after: View, now: datetime) -> str:
    """What happened to the window; blank if the page has none, or the zones' clocks agree at its ends."""
    zone = ZoneInfo(after.timezone)
    old, new = _zone_span(before, now), _zone_span(after, now)
    if old is None or new is None:
        return ""
    if old == new:
        since, until = new
        if all(_offset(edge, before.timezone) == _offset(edge, after.timezone) for edge in new):
            return ""
        times = formatting.span(since.astimezone(zone), until.astimezone(zone))
        return f"The window is the same time as before, on the clock of {after.timezone}: {times}."
    moves = [(name, end - start) for name, start, end in zip(("begins", "ends"), old, new, strict=True) if start != end]
    if len({move for _, move in moves}) == 1:
        names = " and ".join(name for name, _ in moves)
        words = f"{names} {_moved(moves[0][1])}"
    else:
        words = " and ".join(f"{name} {_moved(move)}" for name, move in moves)
    days = formatting.span(*(edge.astimezone(zone) for edge in new))
    return f"The window follows the clock of {after.timezone}, {days}: it {words} than in {before.timezone}."


def _moved(by: timedelta) -> str:
    return f"{formatting.duration(abs(by))} {'later' if by > timedelta(0) else 'earlier'}"


def _offset(moment: datetime, timezone: str) -> timedelta | None:
    return moment.astimezone(ZoneInfo(timezone)).utcoffset()


def _zone_span(view: View, now: datetime) -> tuple[datetime, datetime] | None:
    query = view.query
    if isinstance(query, Windowed):
        return query.resolve(now).span
    if isinstance(query, EventQuery) and query.occurred_after and query.occurred_before:
        return query.occurred_after, query.occurred_before
    return None


def _zone_window(view: View) -> tuple[str, Pairs]:
    """The page, time zone and window of a view, as in its link."""
    names = {"window", "since", "until", "occurred_after", "occurred_before", "organization_id"}
    return f"{view.path} {view.timezone}", tuple(pair for pair in view.to_params() if pair[0] in names)
