"""The Customer page in a real browser: exact values under the pointer, ways in and out, sharing, accessibility."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Locator, Page, expect

from support.browser_pages import (
    EITHER_WAY,
    Scheme,
    address,
    at_rest,
    choice,
    in_scheme,
    in_turns,
    parameters,
    resized,
    settled,
    violations,
)
from support.demo_database import ACME, WINDOW
from support.thoroughness import further
from usage_explore import AggregateQuery, Store
from usage_explore.formatting import exact

LINK = {"organization_id": ACME, **WINDOW}

Visit = Callable[..., Page]


@pytest.fixture
def largest(store: Store) -> str:
    return store.customers(AggregateQuery(**LINK))[0].value


def test_a_bucket_shows_its_exact_value_the_id_is_copied_whole_and_the_pinned_link_shows_the_same(
    visit: Visit, store: Store, largest: str
) -> None:
    page = settled(visit(address("customer", **LINK, customer_id=largest)))
    query = AggregateQuery(**LINK, customer_id=largest, group_by="metric_key", metric="sum_quantity", top=0)
    by_key = {series.key: series for series in store.aggregate(query).series}
    board = store.leaderboards(query.replace(metric="count", group_by=None, top=None))["metric_key"]
    first = by_key[board.leaders[0].key]
    cells = page.locator(".multiples .plot").first.locator("i")
    expect(cells).to_have_count(28)
    for index in (0, 5, 27):
        cells.nth(index).hover()
        shown = cells.nth(index).evaluate("cell => getComputedStyle(cell, '::after').content")
        assert f"{exact(first.points[index].value)} {first.key}" in shown
    bars = [cells.nth(index).evaluate("cell => cell.style.getPropertyValue('--to')") for index in range(28)]
    top = max(point.number for point in first.points)
    for point, bar in zip(first.points, bars, strict=True):
        assert abs(float(bar.removesuffix("%")) - float(100 * point.number / top)) < 0.1
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])  # taken back when the page is released
    code = page.locator(".st-key-customer_id code")
    assert code.evaluate("code => code.scrollWidth > code.clientWidth")
    page.locator(".st-key-customer_id").get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == largest
    shown = numbers(page)
    assert shown
    page.get_by_role("button", name="Share").click()
    pinned = page.locator('[data-testid="stPopoverBody"] code').inner_text()
    assert "/customer?" in pinned
    assert "as_of=" in pinned
    page.goto(pinned)
    assert numbers(settled(page)) == shown


def numbers(page: Page) -> list[str]:
    return [*page.locator(".multiples .figure").all_inner_texts(), *page.locator(".boards td").all_inner_texts()]


@pytest.mark.thorough  # app/customer/test_page follows the links, the next test goes back
def test_a_metric_opens_explore_and_back_returns(visit: Visit, largest: str) -> None:
    page = settled(visit(address("customer", **LINK, customer_id=largest)))
    before = page.url
    link = page.locator(".st-key-metrics a").first
    name = link.inner_text()
    link.click()
    expect(page.locator('[data-testid="stVegaLiteChart"]')).to_be_visible()
    assert parameters(page)["metric_key"] == [name]
    assert parameters(page)["customer_id"] == [largest]
    page.go_back()
    expect(page.locator(".st-key-metrics a").first).to_have_text(name)
    assert page.url == before


def test_each_change_opens_its_chart(visit: Visit, largest: str) -> None:
    later = {"organization_id": ACME, "since": "2026-09-16T00:00:00Z", "until": WINDOW["until"]}
    page = visit(address("customer", **later, customer_id=largest))
    settled(page)
    lists = ("movers", "metric_changes")
    for link in (link for key in lists for link in page.locator(f".st-key-{key} a").all()):
        link.click(trial=True)  # none lies over another
    for key in (lists[0], *further(lists[1])):
        settled(page)
        page.locator(f".st-key-{key} a").nth(1).click()
        expect(page.locator('[data-testid="stVegaLiteChart"]')).to_be_visible()
        assert parameters(page)["customer_id"] == [largest]
        page.go_back()
        expect(page.locator(".st-key-metrics")).to_be_visible()


@pytest.mark.thorough  # app/customer/test_page follows this link
def test_explore_filtered_to_a_customer_leads_to_its_page(visit: Visit, largest: str) -> None:
    page = settled(visit(address("", **LINK, customer_id=largest)))
    page.get_by_role("link", name="Customer", exact=True).click()
    expect(page.locator(".st-key-metrics")).to_be_visible()
    assert parameters(page) == {name: [value] for name, value in {**LINK, "customer_id": largest}.items()}


def test_one_click_opens_the_page_from_a_leaderboard_the_ranking_and_an_event(visit: Visit, largest: str) -> None:
    page = settled(visit(address("", **LINK, group_by="customer_id", tab="who")))
    before = page.url
    page.get_by_role("region", name="customer", exact=True).get_by_role("link").first.click()
    opened(page, largest)
    page.go_back()
    page.wait_for_url(before)
    settled(page)
    click_last_button(page, page.locator('[data-testid="stDataFrame"]').first)
    opened(page, largest)
    for path in further("", "events"):
        page.goto(address(path, organization_id=ACME, customer_id=largest, **({} if path else WINDOW)))
        settled(page)
        click_last_button(page, page.locator('[data-testid="stDataFrame"]').last)
        opened(page, largest)


def opened(page: Page, customer: str) -> None:
    page.wait_for_url(re.compile("/customer"))
    expect(page.locator(".st-key-metrics")).to_be_visible()
    assert parameters(page)["customer_id"] == [customer]


def click_last_button(page: Page, table: Locator) -> None:
    """Click the rightmost button of the first row; a table is a canvas, whose pointer shows where its buttons are."""
    table.scroll_into_view_if_needed()
    at_rest(page)
    box = table.bounding_box()
    assert box
    for right in range(20, int(box["width"]), 12):
        page.mouse.move(box["x"] + box["width"] - right, box["y"] + 52)
        if "pointer" in table.locator("canvas").evaluate_all("all => all.map(one => getComputedStyle(one).cursor)"):
            page.mouse.click(box["x"] + box["width"] - right, box["y"] + 52)
            return
    raise AssertionError("no button in the first row")


@pytest.mark.thorough  # app/customer/test_page chooses them, Explore goes back
def test_back_undoes_a_choice_of_currency_and_window(visit: Visit, largest: str) -> None:
    page = settled(visit(address("customer", **LINK, customer_id=largest)))
    names = page.locator(".st-key-customer_currency").get_by_role("radio").all_inner_texts()
    choice(page, names[1]).click()
    expect(page.get_by_text(f"Unit cost, {names[1]}")).to_be_visible()
    assert parameters(page)["currency"] == [names[1]]
    at_rest(page)
    page.go_back()
    expect(page.get_by_text(f"Unit cost, {names[0]}")).to_be_visible()
    expect(choice(page, names[0])).to_be_checked()


@EITHER_WAY
def test_the_page_is_accessible(visit: Visit, largest: str, schemes: tuple[Scheme, Scheme]) -> None:
    page = settled(visit(address("customer", **LINK, customer_id=largest), color_scheme=schemes[0]))
    for scheme, width in zip(schemes, (1400, 390), strict=True):
        in_scheme(page, scheme)
        resized(page, width, 1200)
        assert violations(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize(
    ("parameters", "scheme"),
    in_turns(
        [
            {"customer_id": "00000000-0000-4000-8000-00000000c057"},
            {"bucket": "day"},
            {"since": "2030-01-01T00:00:00Z", "until": "2030-02-01T00:00:00Z"},
            {},
        ]
    ),
)
def test_the_page_without_numbers_is_accessible(visit: Visit, parameters: dict[str, str], scheme: Scheme) -> None:
    page = visit(address("customer", **{**LINK, **parameters}), color_scheme=scheme)
    expect(page.locator('[data-testid="stAlert"], [data-testid="stHeading"]').first).to_be_visible()
    assert violations(at_rest(page)) == []
