"""The walk of who signs off: from a chart to its period, its findings, one of them, and an invoice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from support.browser_pages import CHART, Site, address, at_rest, examined, parameters, picture, resized, settled
from support.check_results import identity
from support.demo_database import ACME, WINDOW
from support.thoroughness import further
from usage_explore import Store, connect
from usage_explore.app.validate import findings
from usage_explore.query.queries import Period
from usage_explore.validation.check import Finding

Visit = Callable[..., Page]

LINK = {"organization_id": ACME, **WINDOW}


@pytest.fixture(scope="module")
def found(site: Site) -> Sequence[Finding]:
    """The findings of the demo month, which does not change."""
    with connect(site.database_url) as store:
        return store.validate(Period(**LINK)).findings


def test_a_chart_s_period_is_validated_and_a_finding_opened_by_its_row_its_link_and_the_keyboard(
    visit: Visit, found: Sequence[Finding]
) -> None:
    page = settled(visit(address("", **LINK, group_by="metric_key")))
    page.get_by_role("link", name="Validate").click()
    page.wait_for_url(lambda url: "/validate?" in url and "group_by" not in url)
    expect(page.get_by_text("1–28 Sep 2026").first).to_be_visible()
    assert parameters(page).keys() == {"organization_id", "since", "until"}
    examined(page)
    for severity in {finding.severity for finding in found}:
        number = sum(finding.severity == severity for finding in found)
        expect(page.get_by_text(f"{severity.capitalize()} {number:,}", exact=True)).to_be_visible()
    ids = [identity(each) for each in found]
    box_column, severity_column, sentence = 15, 110, 400

    def click(x: int, row: int, *opened: str) -> None:
        box = page.locator('[data-testid="stDataFrame"] canvas').first.bounding_box()
        assert box
        page.mouse.click(box["x"] + x, box["y"] + 35 + 66 * row + 33)
        page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("finding", []) == [*opened])
        settled(page)
        assert parameters(page).get("finding", []) == [*opened]

    click(severity_column, 0, ids[0])
    expect(page.get_by_role("button", name="Close")).to_be_visible()
    assert page.locator(CHART).count() >= 1
    page.go_back()
    expect(page.get_by_role("button", name="Close")).to_have_count(0)
    page.go_forward()
    expect(page.get_by_role("button", name="Close")).to_be_visible()
    settled(page)
    fresh = settled(visit(page.url))
    expect(fresh.get_by_role("button", name="Close")).to_be_visible()
    shows_its_sentences_whole(fresh, found)
    for x, row in ((sentence, 2), (box_column, 1), (sentence, 1)):
        click(x, row, ids[row])
    click(box_column, 1)
    page.get_by_role("button", name="Fullscreen").focus()
    for key in ("Tab", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
        settled(page)
    assert "finding" not in parameters(page)
    page.keyboard.press("ArrowRight")
    page.get_by_role("button", name="Close").wait_for()
    assert parameters(page)["finding"] == [ids[2]]


def shows_its_sentences_whole(page: Page, found: Sequence[Finding]) -> None:
    """The list beside the first finding, which is open, shows its sentences whole at every width."""
    table, opened = page.locator('[data-testid="stDataFrame"]').first, page.get_by_role("button", name="Close")
    for width, is_beside in (*further((1440, True)), (1280, True), (1024, False), *further((768, False))):
        resized(page, width, 1200)
        settled(page)
        listed, close = table.bounding_box(), opened.bounding_box()
        assert listed
        assert close
        assert listed["width"] >= 590  # its columns
        assert (listed["y"] < close["y"] + 100) == is_beside
        assert (listed["x"] + listed["width"] < close["x"]) == is_beside
        # its toolbar, 43 pixels above the table, covers no link
        links, rows = (
            page.locator(f".st-key-{key}").bounding_box() for key in ("finding_links", "plain-finding_events")
        )
        assert links
        assert rows
        assert rows["y"] - links["y"] - links["height"] >= 43
    resized(page, 390, 1200)
    settled(page)
    assert table.locator("canvas th").all_inner_texts() == ["#", "Severity", "Finding"]
    expect(page.get_by_role("button", name="Previous")).to_be_disabled()
    whole, sentence = table.locator(".dvn-scroller").evaluate("each => [each.scrollWidth, each.clientWidth]")
    assert whole <= sentence <= 360
    assert 0.6 * sentence <= sentence - findings._NARROW_RANK_PIXELS - findings._NARROW_SEVERITY_PIXELS
    page.get_by_role("button", name="Next").click()
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query)["finding"] == [identity(found[1])])


def test_files_are_dropped_once_for_all_tabs_and_a_picked_check_stays_without_its_findings(visit: Visit) -> None:
    """The browser sends the label that it drew, with the number of findings of then, with the next click."""
    page = examined(visit(address("validate", **LINK)))
    chosen = page.locator('input[type="file"]')
    bad = {"name": "bad.csv", "mimeType": "text/csv", "buffer": b"customer_id,metric_key,amount\nx,y,1\n"}
    book = b'[[prices]]\nmetric_key = "tokens_in"\nunit_amount = "0.001"\ncurrency = "USD"\n'
    chosen.set_input_files([bad, {"name": "book.toml", "mimeType": "", "buffer": book}])
    expect(page.get_by_text("This file was not used")).to_be_visible()
    expect(page.get_by_text("1 price · ")).to_be_visible()
    page.get_by_role("button", name="Remove bad.csv").click()
    expect(page.get_by_text("This file was not used")).to_have_count(0)
    page.get_by_role("button", name="Add files").click()
    line = f"customer_id,metric_key,quantity\n{uuid4()},tokens_in,1.50\n"
    chosen.set_input_files({"name": "lines.csv", "mimeType": "text/csv", "buffer": line.encode()})
    expect(page.get_by_text("1 line · ")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Reconciliation").click()
    expect(page.get_by_text("Uses invoice lines")).to_be_visible()
    page.get_by_role("tabpanel", name="Reconciliation").get_by_test_id("stDataFrame").wait_for()
    page.get_by_role("link", name="Explore").click()
    page.wait_for_url(lambda url: "/validate" not in url)
    page.go_back()
    expect(page.get_by_text("1 line · ")).to_be_visible()  # nothing is lost on the way
    page.get_by_role("tab", name="Reconciliation").click()
    page.get_by_role("button", name="Show in Findings").click()
    page.wait_for_url(lambda url: "check=reconciliation" in url)
    settled(page)
    page.wait_for_timeout(4_000)  # the widget follows the link by itself until then
    page.get_by_role("button", name="Remove lines.csv").click()
    expect(page.get_by_text("1 line · ")).to_have_count(0)
    settled(page)
    for tab in ("Checks", "Findings"):
        page.get_by_role("tab", name=tab, exact=True).click()
        at_rest(page)
        assert parameters(page)["check"] == ["reconciliation"]
    expect(page.get_by_text("This link cannot be shown")).to_have_count(0)


@pytest.mark.thorough  # as in Explore, which draws times in the same way
def test_two_browsers_in_two_zones_show_the_same(visit: Visit, store: Store) -> None:
    found = store.validate(Period(**LINK, timezone="America/Havana")).findings
    link = address("validate", **LINK, timezone="America/Havana", finding=identity(found[0]))
    seen = []
    for own in ({}, {"timezone_id": "America/New_York"}):
        page = examined(visit(link, **own))
        expect(page.get_by_role("button", name="Close")).to_be_visible()
        page.locator('[data-testid="stTable"]').wait_for()
        settled(page)
        told = [each.inner_text() for each in page.locator('[data-testid="stTable"]').all()]
        events = page.locator('[data-testid="stDataFrame"] canvas table').last.inner_text()
        seen.append((picture(page), told, events, parameters(page)))
    assert "America/Havana" in seen[0][2]
    assert seen[0] == seen[1]


@pytest.mark.thorough  # other tests open each page by its name
def test_a_page_answers_at_its_own_name(visit: Visit) -> None:
    page = visit("about:blank")
    for name in ("explore", "events", "validate"):
        page.goto(address(name, organization_id=ACME))
        expect(page.get_by_role("link", name=name.capitalize(), exact=True)).to_be_visible()
        page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')
        expect(page.get_by_text("Page not found")).to_have_count(0)
