"""What axe-core, WCAG 2.2 AA's checker, says of every page in its states, light and dark.

A page is opened once and seen in both colour schemes: it is the same document in other colours.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from support.browser_pages import ALERT, SCHEMES, address, at_rest, examined, in_scheme, settled, violations
from support.check_results import identity
from support.demo_database import ACME, WINDOW
from usage_explore import EventQuery, Store
from usage_explore.decimals import rfc3339
from usage_explore.query.queries import Period

LINK = {"organization_id": ACME, **WINDOW}

Visit = Callable[..., Page]

TABS = ("Events behind this", "Who", "Why", "Data", "Code", "Download")


def test_explore(visit: Visit) -> None:
    page = settled(visit(address("", **LINK, group_by="metric_key")))
    for scheme, tabs in (("light", TABS), ("dark", TABS[::-1])):
        in_scheme(page, scheme)
        for tab in tabs:
            page.get_by_role("tab", name=tab).click()
            settled(page)
            assert violations(page) == []


@pytest.mark.parametrize("more", [{"group_by": "dim:model", "chart": "lines"}, {"chart": "area"}])
def test_the_other_charts(visit: Visit, more: dict[str, str]) -> None:
    page = settled(visit(address("", **LINK, **more)))
    assert violations(page) == []
    assert violations(in_scheme(page, "dark")) == []


def test_explore_with_filters_and_a_selection(visit: Visit) -> None:
    link = address(
        "",
        **LINK,
        group_by="metric_key",
        metric_key=["tokens_in", "images"],
        as_of="2026-10-01T00:00:00Z",
        series="value:images",
        span="2026-09-08T00:00:00Z/2026-09-09T00:00:00Z",
    )
    page = settled(visit(link))
    for scheme in SCHEMES:
        assert violations(in_scheme(page, scheme)) == []
        for name in ("Filter", "Share"):
            page.get_by_role("button", name=name, exact=True).click()
            settled(page)
            assert violations(page) == []
            page.keyboard.press("Escape")


def test_events(visit: Visit, store: Store) -> None:
    event = store.events(EventQuery(organization_id=ACME)).events[3]
    opened = {"event": f"{rfc3339(event.timestamp)}/{event.id}"}
    page = visit("about:blank")
    for more in ({}, opened):
        page.goto(address("events", organization_id=ACME, **more))
        settled(page)
        for scheme in SCHEMES:
            assert violations(in_scheme(page, scheme)) == []
    expect(page.get_by_text("Event in full")).to_be_visible()


def test_validate(visit: Visit, store: Store) -> None:
    page = visit(address("validate", **LINK))
    page.locator(".st-key-run_checks button").wait_for()
    for scheme in SCHEMES[::-1]:
        assert violations(in_scheme(page, scheme)) == []
    examined(page)
    for scheme in SCHEMES:
        in_scheme(page, scheme)
        for tab in page.get_by_role("tab").all():
            tab.click()
            at_rest(page)
            assert violations(page) == []
    finding = identity(store.validate(Period(**LINK)).findings[0])
    page.goto(address("validate", **LINK, finding=finding))
    expect(examined(page).get_by_role("button", name="Close")).to_be_visible()
    for scheme in SCHEMES[::-1]:
        assert violations(in_scheme(page, scheme)) == []


def test_load(visit: Visit) -> None:
    page = visit("/load")
    expect(page.get_by_role("heading", name="Load a file")).to_be_visible()
    for scheme in SCHEMES[::-1]:
        assert violations(in_scheme(page, scheme)) == []
    text = "when;user;in;out\n2026-10-01 10:00;a;1,5;n/a\n2026-10-02 11:00;b;x;4\n"
    file = {"name": "a <b> file.csv", "mimeType": "text/csv", "buffer": text.encode()}
    page.locator('input[type="file"]').set_input_files([file])
    page.locator(".st-key-load_file button").wait_for()
    for name in ("More columns", "The same in a terminal"):
        page.get_by_text(name).click()
        assert violations(at_rest(page)) == []
    page.set_viewport_size({"width": 390, "height": 1200})
    for scheme in SCHEMES:
        assert violations(in_scheme(page, scheme)) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"organization_id": ACME, "buckt": "week"},
        {"organization_id": "00000000-0000-4000-8000-000000000000"},
        {**LINK, "metric_key": "no such metric"},
        {"organization_id": ACME, "since": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z"},
    ],
)
@pytest.mark.parametrize("name", ["", "events", "validate"])
def test_pages_without_numbers(visit: Visit, name: str, parameters: dict[str, str]) -> None:
    page = visit(address(name, **parameters))
    expect(page.locator(f'{ALERT}, [data-testid="stHeading"]').first).to_be_visible()
    at_rest(page)
    for scheme in SCHEMES:
        assert violations(in_scheme(page, scheme)) == []
