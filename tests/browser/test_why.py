"""The tab Why: its parts are readable on a phone, and lead to exactly their events."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import Page

from support.browser_pages import address, sees, settled
from support.demo_database import ACME
from support.thoroughness import further

WEEK = {"since": "2026-09-15T00:00:00Z", "until": "2026-09-22T00:00:00Z"}
"""The week of a planted incident."""


def test_the_conditions_of_a_part_are_wide_enough_to_read_and_lead_to_its_events(visit: Callable[..., Page]) -> None:
    page = visit(address("", **WEEK, organization_id=ACME, tab="why"))
    table = page.get_by_role("table", name="What changed")
    for width in (*further(1440), 390):
        page.set_viewport_size({"width": width, "height": 1000})
        table.wait_for()
        assert table.get_by_role("row").count() > 1
        whole = table.bounding_box()
        assert whole
        assert whole["x"] + whole["width"] <= width
        for row in table.get_by_role("rowheader").all():
            box = row.bounding_box()
            assert box
            assert box["width"] >= 250
        cut = table.evaluate(_CUT)
        assert cut == []
    page.set_viewport_size({"width": 1400, "height": 1200})
    settled(page)
    links = table.get_by_role("link", name="Rows of")
    links.first.wait_for()
    for place in range(min(links.count(), 2)):  # the first one may have days of its own
        link = links.nth(place)
        row = link.locator("xpath=ancestor::tr")
        numbers = re.search(r"([\d,]+) events before, ([\d,]+) after", row.get_attribute("title") or "")
        assert numbers
        number, before = numbers[2] if numbers[2] != "0" else numbers[1], page.url
        days = (link.get_attribute("title") or "").removeprefix("Its events ")
        link.click()
        page.wait_for_url(re.compile("/events"))
        settled(page)
        if days == "in 15–21 Sep 2026" or numbers[2] == "0":
            sees(page, f"{number} events")
            page.go_back()
            page.wait_for_url(before)
        else:
            page.go_back()
            sees(page, f"of it {days}")
            assert place == 0


_CUT = """table => [...table.querySelectorAll("tbody *")]
    .filter(each => each.clientWidth && each.scrollWidth > each.clientWidth + 1).map(each => each.textContent)"""
