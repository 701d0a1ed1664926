"""A view in a real browser: saved, opened in a fresh one, renamed, deleted, and the deletion undone."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from support.browser_pages import Site, address, at_rest, in_scheme, parameters, press_twice, settled, violations
from support.generated_events import insert
from support.plain_events import event
from support.thoroughness import further
from usage_explore import connect
from usage_explore.db import ddl


def write(site: Site, organization: UUID) -> None:
    """Two events of an organization."""
    now = datetime.now(UTC)
    own = {"organization_id": organization, "dimensions": '{"model": "a"}'}
    with ddl.connect(site.database_url) as connection:
        insert(connection, [event(now - timedelta(days=day), **own) for day in (2, 3)])
        connection.commit()


@pytest.fixture
def link(written_site: Site, organization: UUID) -> str:
    """The link to a view of an organization with two events."""
    write(written_site, organization)
    return address("", organization_id=str(organization), since="-29d/d", group_by="dim:model", chart="lines")


SAME = re.compile(r": 2 events as known at .*\d\d:\d\d, the same as of \d\d:\d\d\.")


def save(page: Page, name: str, note: str) -> None:
    page.get_by_role("button", name="Views").click()
    page.get_by_label("Note").fill(note)
    page.get_by_label("Save this view as").fill(name)
    press_twice(page)


def test_save_open_in_a_fresh_browser_rename_and_delete_with_names_shown_as_they_are(
    written_site: Site, organization: UUID, link: str, new_page: Callable[..., Page]
) -> None:
    """Streamlit resolves entities, and draws marks such as -> as others, after all escapes."""
    texts = ["R&amp;D", "x >= 1", "tier -- two", "y ~= z", "&lt;img&gt; -> <- b", "<->", "3 <= 4 <br>"]
    name, note = " and ".join(texts), "; ".join(texts)
    page = new_page(base_url=written_site.url)
    page.goto(link + "&" + urlencode([("not:dim:model", text) for text in texts[:2]]))
    settled(page)
    save(page, name, note)
    expect(page.locator(".st-key-opened_view")).to_contain_text(SAME)
    told = shown(page)
    assert "model is not R&amp;D, x >= 1" in told
    assert note in told

    fresh = new_page(base_url=written_site.url)
    fresh.goto(address("events", organization_id=str(organization)))
    settled(fresh)
    fresh.get_by_role("button", name="Views").click()
    listed = fresh.get_by_role("link", name="R&amp;D and x")
    expect(listed).to_be_visible()
    assert name in shown(fresh)
    listed.click()
    expect(fresh.locator(".st-key-opened_view")).to_contain_text(SAME)
    assert note in shown(fresh)
    assert parameters(fresh)["chart"] == ["lines"]
    fresh.get_by_role("button", name="As saved").click()
    expect(fresh.get_by_role("button", name="Now", exact=True)).to_be_visible()
    assert "as_of" in parameters(fresh)

    fresh.get_by_role("link", name="Home").click()
    expect(fresh.get_by_text("Newest event")).to_be_visible()
    for scheme in (*further("light"), "dark"):
        assert violations(in_scheme(fresh, scheme)) == []
    # the links opened last, of which one is opened again
    recent = fresh.get_by_role("link", name="Explore Events per day by model").first
    expect(recent).to_be_visible()
    recent.click()
    settled(fresh)
    assert parameters(fresh)["chart"] == ["lines"]
    fresh.go_back()
    expect(fresh.get_by_text("Newest event")).to_be_visible()
    at_rest(fresh)
    edit = fresh.get_by_role("button", name="Edit")
    edit.focus()  # by the keyboard alone
    fresh.keyboard.press("Enter")
    expect(fresh.locator('[class*="st-key-view_edit"][class*="_form"]')).to_be_focused()
    fresh.keyboard.press("Tab")
    expect(fresh.get_by_label("Name")).to_be_focused()
    fresh.get_by_label("Name").fill("Renamed")
    fresh.keyboard.press("Enter")
    expect(fresh.get_by_role("link", name="Renamed")).to_be_visible()
    expect(edit).to_be_focused()
    edit.click()
    fresh.get_by_role("button", name="Delete").focus()
    fresh.keyboard.press("Enter")
    expect(fresh.get_by_text("was deleted")).to_be_visible()
    expect(fresh.get_by_role("link", name="Renamed")).to_have_count(0)
    expect(fresh.get_by_role("button", name="Undo")).to_be_focused()
    fresh.keyboard.press("Enter")
    expect(fresh.get_by_role("link", name="Renamed")).to_be_visible()
    expect(fresh.locator("body")).not_to_be_focused()


def shown(page: Page) -> str:
    """The text of the page at rest, without the marks that keep Streamlit from drawing it as another one."""
    return at_rest(page).locator("body").inner_text().replace("\u2060", "")


@pytest.mark.thorough  # records/test_views saves and opens one; the test above clicks
def test_the_view_of_a_customer_is_saved_and_opened_again(
    written_site: Site, organization: UUID, new_page: Callable[..., Page]
) -> None:
    write(written_site, organization)
    with connect(written_site.database_url) as store:
        customer = store.scoped(organization).customers()[0].value
    page = new_page(base_url=written_site.url)
    page.goto(address("customer", organization_id=str(organization), customer_id=customer, since="-6d/d"))
    expect(page.locator(".st-key-metrics")).to_be_visible()
    at_rest(page)
    save(page, "Our customer", "")
    expect(page.locator(".st-key-opened_view")).to_contain_text(SAME)
    page.get_by_role("link", name="Home").click()
    page.get_by_role("link", name="Our customer").click()
    expect(page.locator(".st-key-metrics")).to_be_visible()
    expect(page.locator(".st-key-opened_view")).to_contain_text("Our customer")
    assert parameters(page) == {
        "organization_id": [str(organization)],
        "customer_id": [customer],
        "since": ["-6d/d"],
    }
