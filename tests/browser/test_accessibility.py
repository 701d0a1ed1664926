"""What axe-core, WCAG 2.2 AA's checker, says of every page in its states, light and dark.

Each state is seen in one colour scheme, and in the other one in a thorough run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from support.browser_pages import (
    ALERT,
    EITHER_WAY,
    SCHEMES,
    Scheme,
    address,
    at_rest,
    examined,
    in_scheme,
    settled,
    violations,
)
from support.demo_database import ACME, WINDOW
from support.thoroughness import further
from usage_explore import EventQuery, Store
from usage_explore.decimals import rfc3339

LINK = {"organization_id": ACME, **WINDOW}

Visit = Callable[..., Page]

TABS = ("Events behind this", "Who", "Why", "Data", "Code", "Download")
PANEL, MENU = '[role="tabpanel"]', '[data-testid="stPopoverBody"]'


@EITHER_WAY
def test_explore(visit: Visit, schemes: tuple[Scheme, Scheme]) -> None:
    link = address(
        "",
        **LINK,
        group_by="metric_key",
        metric_key=["tokens_in", "images"],
        as_of="2026-10-01T00:00:00Z",
        series="value:images",
        span="2026-09-08T00:00:00Z/2026-09-09T00:00:00Z",
    )
    page = settled(visit(link, color_scheme=schemes[0]))
    parts = zip(schemes, (TABS[:3], TABS[3:]), ("Filter", "Share"), strict=True)
    for scheme, (first, *others), menu in parts:
        in_scheme(page, scheme)
        page.get_by_role("tab", name=first).click()
        assert violations(settled(page)) == []
        for tab in others:
            page.get_by_role("tab", name=tab).click()
            assert violations(settled(page), PANEL) == []
        page.get_by_role("button", name=menu, exact=True).click()
        assert violations(settled(page), MENU) == []
        page.keyboard.press("Escape")


def test_the_changed_numbers_of_a_headline_are_announced(visit: Visit) -> None:
    page = settled(visit(address("", **LINK, group_by="metric_key", metric_key=["tokens_in", "images"])))
    status = page.locator("body > [role=status]")
    expect(status).to_have_attribute("data-known", "")  # on a busy machine later than the page is drawn
    assert status.text_content() == "", "what a page shows first is read as any page"
    page.get_by_role("radio", name="Quantity").click()
    expect(status).to_have_text(re.compile(r"^[0-9.]+ M quantity, adds 2 metrics in 2 units; "))


@pytest.mark.parametrize(
    ("more", "scheme"),
    [
        ({"group_by": "dim:model", "chart": "lines"}, "light"),
        *(pytest.param(*more, marks=pytest.mark.thorough) for more in itertools.product([{"chart": "area"}], SCHEMES)),
        pytest.param({"group_by": "dim:model", "chart": "lines"}, "dark", marks=pytest.mark.thorough),
    ],
)
def test_the_other_charts(visit: Visit, more: dict[str, str], scheme: Scheme) -> None:
    assert violations(settled(visit(address("", **LINK, **more), color_scheme=scheme))) == []


@EITHER_WAY
def test_events(visit: Visit, store: Store, schemes: tuple[Scheme, Scheme]) -> None:
    event = store.events(EventQuery(organization_id=ACME)).events[3]
    opened = {"event": f"{rfc3339(event.timestamp)}/{event.id}"}
    page = visit("about:blank")
    for scheme, more in zip(schemes, ({}, opened), strict=True):
        page.emulate_media(color_scheme=scheme)
        page.goto(address("events", organization_id=ACME, **more))
        assert violations(settled(page)) == []
    expect(page.get_by_text("Event in full")).to_be_visible()


@EITHER_WAY
def test_validate(visit: Visit, schemes: tuple[Scheme, Scheme]) -> None:
    page = visit(address("validate", **LINK), color_scheme=schemes[0])
    page.locator(".st-key-run_checks button").wait_for()
    assert violations(at_rest(page)) == []
    box = examined(page).locator('[data-testid="stDataFrame"] canvas').first.bounding_box()
    assert box
    page.mouse.click(box["x"] + 300, box["y"] + 50)
    expect(page.get_by_role("button", name="Close")).to_be_visible()
    assert violations(settled(page)) == []
    page.get_by_role("button", name="Close").click()
    expect(page.get_by_role("button", name="Close")).to_have_count(0)
    tabs = settled(page).get_by_role("tab").all()
    for scheme, (first, *others) in zip(schemes, (tabs[::2], tabs[1::2]), strict=True):
        in_scheme(page, scheme)
        first.click()
        assert violations(at_rest(page)) == []
        for tab in others:
            tab.click()
            assert violations(at_rest(page), PANEL) == []


@EITHER_WAY
def test_load(visit: Visit, schemes: tuple[Scheme, Scheme]) -> None:
    page = visit("/load", color_scheme=schemes[0])
    expect(page.get_by_role("heading", name="Load a file")).to_be_visible()
    assert violations(at_rest(page)) == []
    text = "when;user;in;out\n2026-10-01 10:00;a;1,5;n/a\n2026-10-02 11:00;b;x;4\n"
    file = {"name": "a <b> file.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.locator('input[type="file"]').set_input_files([file])
    page.locator(".st-key-load_file button").wait_for()
    for name in ("More columns", "The same in a terminal"):
        page.get_by_text(name).click()
        at_rest(page)
    assert violations(page) == []
    page.set_viewport_size({"width": 390, "height": 1200})
    assert violations(in_scheme(page, schemes[1])) == []


WITHOUT_NUMBERS = [
    {},
    {"organization_id": ACME, "buckt": "week"},
    {"organization_id": "00000000-0000-4000-8000-000000000000"},
    {**LINK, "metric_key": "no such metric"},
    {"organization_id": ACME, "since": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z"},
]
PAGES = ("", "events", "validate")


def _without_numbers() -> list[Any]:
    """Each state on one page and each page in some state; the others are thorough."""
    made = []
    for place, (name, parameters) in enumerate(itertools.product(PAGES, WITHOUT_NUMBERS)):
        marks = [] if place % 3 == 0 else [pytest.mark.thorough]
        made.append(pytest.param(name, parameters, SCHEMES[place % 2], marks=marks))
    return made


@pytest.mark.parametrize(("name", "parameters", "first"), _without_numbers())
def test_pages_without_numbers(visit: Visit, name: str, parameters: dict[str, str], first: Scheme) -> None:
    page = visit(address(name, **parameters), color_scheme=first)
    expect(page.locator(f'{ALERT}, [data-testid="stHeading"]').first).to_be_visible()
    for scheme in (first, *further(*SCHEMES)):
        assert violations(in_scheme(page, scheme)) == []
