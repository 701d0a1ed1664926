"""The tab Why is readable on a phone: each part's conditions have the width of the table."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page

from support.browser_pages import address
from support.demo_database import ACME

WEEK = {"since": "2026-09-15T00:00:00Z", "until": "2026-09-22T00:00:00Z"}
"""The week of a planted incident."""


@pytest.mark.parametrize("width", [390, 1440])
def test_the_conditions_of_a_part_are_wide_enough_to_read(visit: Callable[..., Page], width: int) -> None:
    page = visit(address("", **WEEK, organization_id=ACME, tab="why"))
    page.set_viewport_size({"width": width, "height": 1000})
    table = page.get_by_role("table", name="What changed")
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


_CUT = """table => [...table.querySelectorAll("tbody *")]
    .filter(each => each.clientWidth && each.scrollWidth > each.clientWidth + 1).map(each => each.textContent)"""
