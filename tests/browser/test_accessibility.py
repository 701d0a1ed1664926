"""What axe-core, WCAG 2.2 AA's checker, says of every page in its states, light and dark."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from support.browser_pages import ALERT, address, at_rest, examined, settled, violations
from support.demo_database import ACME, WINDOW
from usage_explore import EventQuery, Store
from usage_explore.app.page_state import identity
from usage_explore.decimals import rfc3339
from usage_explore.query.queries import Period

pytestmark = pytest.mark.parametrize("scheme", ["light", "dark"])

LINK = {"organization_id": ACME, **WINDOW}

Visit = Callable[..., Page]


@pytest.mark.parametrize(
    "more", [{"group_by": "metric_key"}, {"group_by": "dim:model", "chart": "lines"}, {"chart": "area"}]
)
def test_explore(visit: Visit, scheme: str, more: dict[str, str]) -> None:
    page = settled(visit(address("", **LINK, **more), color_scheme=scheme))
    for tab in ("Events behind this", "Data", "Code", "Download"):
        page.get_by_role("tab", name=tab).click()
        settled(page)
        assert violations(page) == []


def test_explore_with_filters_and_a_selection(visit: Visit, scheme: str) -> None:
    link = address(
        "",
        **LINK,
        group_by="metric_key",
        metric_key=["tokens_in", "images"],
        as_of="2026-10-01T00:00:00Z",
        series="value:images",
        span="2026-09-08T00:00:00Z/2026-09-09T00:00:00Z",
    )
    page = settled(visit(link, color_scheme=scheme))
    assert violations(page) == []
    for name in ("Filter", "Share"):
        page.get_by_role("button", name=name, exact=True).click()
        settled(page)
        assert violations(page) == []
        page.keyboard.press("Escape")


def test_events(visit: Visit, store: Store, scheme: str) -> None:
    event = store.events(EventQuery(organization_id=ACME)).events[3]
    opened = {"event": f"{rfc3339(event.timestamp)}/{event.id}"}
    page = visit("about:blank", color_scheme=scheme)
    for more in ({}, opened):
        page.goto(address("events", organization_id=ACME, **more))
        assert violations(settled(page)) == []
    expect(page.get_by_text("Event in full")).to_be_visible()


def test_validate(visit: Visit, store: Store, scheme: str) -> None:
    page = visit(address("validate", **LINK), color_scheme=scheme)
    page.locator(".st-key-run_checks button").wait_for()
    assert violations(page) == []
    examined(page)
    for tab in page.get_by_role("tab").all():
        tab.click()
        at_rest(page)
        assert violations(page) == []
    finding = identity(store.validate(Period(**LINK)).findings[0])
    page.goto(address("validate", **LINK, finding=finding))
    expect(examined(page).get_by_role("button", name="Close")).to_be_visible()
    assert violations(page) == []


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
def test_pages_without_numbers(visit: Visit, scheme: str, name: str, parameters: dict[str, str]) -> None:
    page = visit(address(name, **parameters), color_scheme=scheme)
    expect(page.locator(f'{ALERT}, [data-testid="stHeading"]').first).to_be_visible()
    assert violations(at_rest(page)) == []
