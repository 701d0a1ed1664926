"""A file dropped in a real browser, mapped with pickers, loaded, and seen in Explore."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
from playwright.sync_api import Page, expect

from support.browser_pages import CHART, Site, at_rest, parameters, resized, settled
from support.demo_database import ACME
from usage_explore.load import LOCAL_ORGANIZATION

SAMPLES = Path(__file__).parents[1] / "load" / "samples"
SEMICOLONS = """customer;metric;quantity;when
M\u00fcller GmbH;seats;1.234,50;01.10.2026 08:00
Soci\u00e9t\u00e9 \u00c9;seats;7,25;02.10.2026 09:30
"""

NewPage = Callable[..., Page]


def drop(page: Page, name: str, content: bytes) -> None:
    page.locator('input[type="file"]').set_input_files([{"name": name, "mimeType": "text/csv", "buffer": content}])
    expect(page.locator(".st-key-load_file button")).to_be_enabled()
    at_rest(page)


def pick(page: Page, label: str, text: str, option: str | None = None) -> None:
    """Type into a picker and choose what it offers, by default the typed text."""
    box = page.get_by_role("combobox", name=label).first
    box.fill(text)
    page.get_by_role("option", name=option or text).first.click()
    at_rest(page)


def test_a_file_is_mapped_with_pickers_another_recognized_and_both_are_seen_in_explore(
    new_page: NewPage, empty_site: Site
) -> None:
    page = new_page(base_url=empty_site.url)
    page.goto("/")
    page.get_by_role("link", name="Load a file").click()
    drop(page, "semicolon_decimal_comma.csv", SEMICOLONS.encode())
    assert urlsplit(page.url).path == "/load"
    pick(page, "Time zone of the times", "Europe/Berlin")
    pick(page, "Metric", "= licences")
    page.get_by_text("The same in a terminal").click()
    expect(page.get_by_text("--set metric_key=licences")).to_be_visible()
    page.get_by_role("button", name="Load 2 events").click()
    expect(page.locator(".st-key-loaded")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Open in Explore")).to_be_focused()
    page.get_by_role("link", name="Open in Explore").click()
    expect(page.locator(CHART)).to_be_visible()
    settled(page)
    assert parameters(page) == {
        "organization_id": [str(LOCAL_ORGANIZATION)],
        "since": ["2026-10-01T06:00:00Z"],
        "until": ["2026-10-02T07:31:00Z"],
        "timezone": ["Europe/Berlin"],
        "bucket": ["hour"],
        "metric": ["sum_quantity"],
        "metric_key": ["licences"],
    }
    assert "1,241.75" in page.content()
    page.go_back()
    page.locator('input[type="file"]').wait_for(state="attached")
    assert urlsplit(page.url).path == "/load"
    at_rest(page)
    expect(page.get_by_text("This link cannot be shown")).to_be_hidden()
    page.go_forward()
    settled(page)
    with psycopg.connect(empty_site.database_url) as connection:
        rows = connection.execute("SELECT metric_key, sum(quantity)::text FROM usage_events GROUP BY 1").fetchall()
    assert rows == [("licences", "1241.75")]
    page.get_by_role("link", name="Load", exact=True).click()
    drop(page, "aws.csv", (SAMPLES / "aws-cur_2.csv").read_bytes())
    page.get_by_role("button", name="Load 5 events").click()
    page.get_by_role("link", name="Open in Explore").click()
    expect(page.locator(CHART)).to_be_visible()
    expect(page.get_by_text("7 events").first).to_be_visible()  # with the 2 of the other file, of the same days
    page.get_by_role("link", name="Load", exact=True).click()
    drop(page, "aws.csv", (SAMPLES / "aws-cur_2.csv").read_bytes())
    page.get_by_role("button", name="Load 5 events").click()
    expect(page.get_by_text("nothing was added")).to_be_visible()
    page.get_by_role("link", name=re.compile("^Validate [A-Z]")).click()
    page.wait_for_url(re.compile(f"/validate\\?organization_id={LOCAL_ORGANIZATION}&since="))
    page.locator(".st-key-run_checks button").wait_for()
    page.goto("/")  # a bare address opens Explore
    settled(page)
    assert parameters(page) == {
        "organization_id": [str(LOCAL_ORGANIZATION)],
        "since": ["-29d/d"],
        "group_by": ["metric_key"],
    }


@pytest.mark.parametrize("path", ["/load", pytest.param("/", marks=pytest.mark.thorough)])
def test_the_links_between_the_pages_share_a_line_on_a_phone(visit: Callable[..., Page], path: str) -> None:
    page = at_rest(visit(f"{path}?organization_id={ACME}"))
    resized(page, 390, 900)
    at_rest(page)
    links = [page.get_by_role("link", name=name, exact=True) for name in ("Explore", "Events", "Validate", "Load")]
    boxes = [link.bounding_box() for link in links]
    assert len({round(box["y"]) for box in boxes if box}) == 1, boxes
    header = page.locator(".st-key-header").bounding_box()
    assert header is not None
    assert header["height"] <= 110
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    if path == "/load":
        upload, heading = (
            page.get_by_test_id(name) for name in ("stFileUploaderDropzone", "stHeadingWithActionElements")
        )
        expect(upload.get_by_role("button").locator("p")).not_to_have_css("font-size", "0px")
        lefts = [box["x"] for part in (upload, heading) if (box := part.bounding_box())]
        assert lefts[0] == lefts[1]
