"""Which organization: the one in the link, the only one, or a choice; never a default among several."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

import streamlit as st

from usage_explore import formatting
from usage_explore.app import cache, markdown, url
from usage_explore.app.cache import Source
from usage_explore.app.navigation import View, changed, follow, go
from usage_explore.app.page_state import EventsView, ExploreView
from usage_explore.app.problems import no_events
from usage_explore.app.query_edits import without_filters
from usage_explore.app.validate.view import ValidateView
from usage_explore.demo import ORGANIZATIONS
from usage_explore.errors import ScopeError

_View = TypeVar("_View", ExploreView, EventsView, ValidateView)


def opened(kind: type[_View]) -> tuple[_View, Source] | None:
    """The view that the address bar asks for, its organization named, and that organization's events.

    None after offering a choice of organization instead. Raises `UsageExploreError`.
    """
    given = url.read()
    view = kind.from_params(given)
    organization_id = _chosen(view)
    if organization_id is None:
        return None
    view = view.replace(query=view.query.replace(organization_id=organization_id))
    try:
        source = cache.source(organization_id)
    except ScopeError as error:
        _refused(view, error)
        return None
    if "organization_id" not in dict(given):  # every other link stays as it was typed
        url.write(view.to_params())
    return view, source


def name(organization_id: UUID) -> str:
    """What to call an organization: its name in the demo, else its id."""
    return ORGANIZATIONS.get(organization_id, str(organization_id))


def is_demo(organization_id: UUID | None) -> bool:
    """Whether its events were made up."""
    return organization_id in ORGANIZATIONS


def _chosen(view: View) -> UUID | None:
    """The organization to show; None after offering a choice or how to load events. Raises `ScopeError`."""
    if view.query.organization_id:
        return view.query.organization_id
    found = cache.organizations()
    if not found:
        no_events()
        return None
    if len(found) > 1:
        _choice(view, found)
        return None
    return found[0]


def picker(view: View) -> None:
    """The organization in the header; another one keeps the window and the grouping, not the filters."""
    shown = view.query.organization_id
    options = tuple(dict.fromkeys((*cache.organizations(), shown)))
    key = follow("organization", shown)
    st.selectbox(
        "Organization",
        options,
        key=key,
        format_func=name,
        on_change=changed(key, lambda picked: of(view, picked)),
        label_visibility="collapsed",
        width=210,
        disabled=len(options) == 1,
    )


def of(view: View, organization_id: UUID) -> View:
    """The view of an organization; of another one than before without its filters, which would find nothing."""
    query = view.query
    if query.organization_id not in (None, organization_id):
        query = without_filters(query)
    if query == view.query.replace(organization_id=organization_id):
        return view
    # a first choice keeps everything the link says
    if view.query.organization_id is None:
        return view.replace(query=query.replace(organization_id=organization_id))
    return view.asking(query.replace(organization_id=organization_id))


def _refused(view: View, error: ScopeError) -> None:
    """Say that the link's organization is not there, or not the asker's to see, and offer those that are."""
    found = cache.organizations()
    if not found:
        no_events()
        return
    st.error(markdown.prose(str(error)), icon=":material/link_off:")
    _choice(view, found)


def _choice(view: View, found: tuple[UUID, ...]) -> None:
    st.subheader("Whose events?", anchor=False)
    st.caption(f"You can see {formatting.counted(len(found), 'organization')} here. Choose one; the link will name it.")
    if len(found) > 12:
        key = "organization_choice"
        st.selectbox(
            "Organization",
            found,
            index=None,
            key=key,
            format_func=name,
            placeholder="Choose an organization",
            on_change=changed(key, lambda picked: of(view, picked)),
            width=420,
        )
        return
    for each in found:
        st.button(
            name(each),
            key=f"organization_{each}",
            on_click=lambda each=each: go(lambda: of(view, each)),
            width=420,
        )
