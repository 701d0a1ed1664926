"""The page `/open`: leads a signed-in user from a short link to the page that it names."""

from __future__ import annotations

import logging

import streamlit as st
from streamlit.navigation.page import Page

from usage_explore.access import logs
from usage_explore.app import cache, problems, sign_in
from usage_explore.app.components import visit
from usage_explore.app.navigation import read_url
from usage_explore.errors import LinkGone, UsageExploreError

_log = logging.getLogger(__name__)


def draw(home: Page) -> None:
    """Go to the page of the link in the address bar; say why that is not possible, with a way to the page `home`."""
    with problems.shown():
        _follow()
        return
    st.page_link(home, label="Home", icon=":material/home:")


def _follow() -> None:
    """Go to the page of the link in the address bar.

    Raises `LinkGone` in the same words for a link that is gone and for one of an organization that the user may not
    see.
    """
    given = [value for name, value in read_url() if name == "link"]
    if len(given) != 1 or "/" in given[0]:  # the part of an address after /s/ alone
        raise LinkGone
    link = cache.store().link(given[0])
    if not sign_in.grant().allows(link.organization_id):
        raise LinkGone
    target = link.target
    try:
        cache.store().link_opened(link)
    except UsageExploreError as error:
        _log.info("link: the time of opening was not kept", extra={"fields": {"reason": logs.reason(error)}})
    st.caption("Opening the link…")
    visit(target.removeprefix("/"), key=f"open {link.token}")
