"""Short links in a real browser: made in the menu Share, opened by others, listed and revoked; charts in frames."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from playwright.sync_api import Page, expect

from support.browser_pages import CHART, Site, address, at_rest, choice, parameters, press_twice, settled, violations
from support.generated_events import insert
from support.plain_events import event
from usage_explore.db import ddl

LINK = re.compile(r"/s/[\w-]{22}$")


@pytest.fixture
def view(written_site: Site, organization: UUID) -> str:
    """The link to a view of an organization with three events."""
    now = datetime.now(UTC)
    own = {"organization_id": organization, "dimensions": '{"model": "<b>a</b>"}'}
    with ddl.connect(written_site.database_url) as connection:
        insert(connection, [event(now - timedelta(days=day), **own) for day in (2, 3, 4)])
        connection.commit()
    return address("", organization_id=str(organization), since="-29d/d", group_by="dim:model", chart="lines")


def make_link(page: Page) -> str:
    """Make a short link in the open menu Share; its address."""
    page.get_by_role("button", name="Make a short link").focus()
    press_twice(page)
    shown = page.get_by_text(LINK).first  # the list of links below may have it, too
    expect(shown).to_be_visible()
    return shown.inner_text()


def test_links_are_made_opened_listed_and_revoked(written_site: Site, view: str, new_page: Callable[..., Page]) -> None:
    page = new_page(base_url=written_site.url)
    page.goto(view)
    settled(page)
    page.get_by_role("button", name="Share").click()
    page.get_by_text("Opens without sign-in", exact=True).click()
    at_rest(page)
    link = make_link(page)
    expect(page.get_by_text("Opens without sign-in. Expires")).to_be_visible()

    other = new_page()
    other.goto(link)
    expect(other.get_by_role("heading")).to_contain_text("Events per day by model")
    expect(other.get_by_text("Total 3 events")).to_be_visible()
    expect(other.get_by_role("row", name="<b>a</b> 3")).to_be_visible()
    picture = other.get_by_role("img")
    assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
    assert violations(other) == []
    with other.expect_download() as download:
        other.get_by_role("link", name="Data as CSV").click()
    assert "<b>a</b>" in download.value.path().read_text()
    assert other.evaluate("document.cookie") == ""

    # neither the link nor its reach is of another view
    page.keyboard.press("Escape")
    choice(page, "7 d").click()
    settled(page)
    page.get_by_role("button", name="Share").click()
    expect(page.get_by_text("Opens without sign-in", exact=True)).to_be_visible()
    expect(page.get_by_text(LINK)).to_have_count(0)
    expect(page.get_by_role("checkbox", name="Opens without sign-in")).not_to_be_checked()
    page.get_by_text("Short links of this organization").click()
    # not the title of the page
    expect(page.locator("p:not(:has(strong))", has_text="Events per day by model, ")).to_be_visible()
    expect(page.get_by_text("Last opened")).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("There are none yet.")).to_be_visible()
    answer = other.goto(link)
    assert answer
    assert answer.status == 410
    expect(other.get_by_text("This link is unknown, has expired or was revoked.")).to_be_visible()
    assert violations(other) == []
    other.get_by_role("link", name="Open usage-explore").click()
    # the app asks for the organization where other tests wrote to this server before
    choice_of_organization = other.get_by_role("heading", name="Whose events?")
    expect(choice_of_organization.or_(other.locator(CHART)).first).to_be_visible()

    other.goto(make_link(page))  # one into the app opens the pinned view
    settled(other)
    given = parameters(other)
    assert (given["chart"], given["group_by"]) == (["lines"], ["dim:model"])
    assert "as_of" in given
    expect(other.locator(CHART)).to_be_visible()


@pytest.mark.parametrize("path", ["/embed", "/explore"])
def test_another_site_frames_nothing_unless_it_is_named(
    written_site: Site, view: str, new_page: Callable[..., Page], path: str
) -> None:
    """Without the setting the browser shows neither the chart nor a page in a frame of another site."""
    query = urlsplit(view).query

    class Wiki(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(f'<iframe src="{written_site.url}{path}?{query}"></iframe>'.encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Wiki) as wiki:
        Thread(target=wiki.serve_forever, daemon=True).start()
        page = new_page()
        with page.expect_console_message(lambda message: "frame-ancestors" in message.text):
            page.goto(f"http://localhost:{wiki.server_port}")
        page.frames[1].wait_for_url(re.compile("^chrome-error:"))
        wiki.shutdown()


def test_the_embedded_chart_has_title_and_as_of_and_no_controls(
    written_site: Site, view: str, new_page: Callable[..., Page]
) -> None:
    page = new_page(base_url=written_site.url)
    page.set_viewport_size({"width": 480, "height": 400})
    page.goto(f"/embed?{urlsplit(view).query}&theme=dark")
    expect(page.get_by_role("heading")).to_contain_text("Events per day by model")
    expect(page.get_by_text(re.compile(r"as of \d+ \w{3} 20\d\d .*UTC"))).to_be_visible()
    assert page.get_by_role("img").evaluate("image => image.complete && image.naturalWidth > 0")
    assert page.locator("a, button, input, select, form, script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert violations(page) == []
