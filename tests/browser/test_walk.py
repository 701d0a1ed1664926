"""The walk of an analyst: from an odd bar to who caused it, and to the rows behind it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from playwright.sync_api import Locator, Page, expect

from support.browser_pages import CHART, Site, address, parameters, sees, settled
from support.demo_database import ACME, WINDOW
from usage_explore import AggregateQuery, EventQuery, Store, demo, formatting
from usage_explore.db import ddl

LINK = {"organization_id": ACME, **WINDOW, "group_by": "metric_key"}

Visit = Callable[..., Page]


def bucket(page: Page, day: datetime) -> tuple[float, float]:
    """A point in the empty part above the day's bar."""
    mark = page.locator(f'{CHART} [aria-label^="time: {day:%a} {day.day} {day:%b %Y}"]').first
    box = mark.bounding_box()
    assert box
    return box["x"] + box["width"] / 2, box["y"] + 3


def board(page: Page, name: str) -> Locator:
    return page.get_by_role("region", name=name, exact=True)


def runaway(site: Site) -> demo.Incident:
    with ddl.connect(site.database_url) as connection:
        return next(each for each in demo.incidents(connection) if each.kind == "runaway_customer")


def test_the_runaway_is_named_after_two_clicks_and_its_rows_are_seen_after_four(
    visit: Visit, store: Store, site: Site
) -> None:
    planted = runaway(site)
    day = planted.starts.astimezone(UTC).replace(hour=0, minute=0)
    answer = store.aggregate(AggregateQuery(**LINK, top=0))
    totals = {point.start: 0 for point in answer.series[0].points}
    for series in answer.series:
        for point in series.points:
            totals[point.start] += int(point.value)
    assert max(totals, key=totals.__getitem__) == day  # the odd bar
    page = settled(visit(address("", **LINK)))

    page.mouse.click(*bucket(page, day))  # 1
    page.wait_for_url(re.compile("span="))
    sees(page, f"events, {formatting.date(day)}")
    page.get_by_role("tab", name="Who").click()  # 2
    names = board(page, "customer").get_by_role("button", name=re.compile("^Only "))
    expect(names.first).to_be_visible()
    name = store.scoped(ACME).names([("customer_id", planted.customer_id)]).label("customer_id", planted.customer_id)
    top = board(page, "customer").get_by_role("row").filter(has=page.get_by_role("button", name=f"Only {name}"))
    now, before = (
        store.count(
            EventQuery(
                organization_id=ACME,
                customer_id=planted.customer_id,
                occurred_after=start,
                occurred_before=start + timedelta(days=1),
            )
        )
        for start in (day, day - timedelta(days=7))
    )
    expect(top).to_have_attribute("title", re.compile(f": {now} events, before {before}$"))
    top.get_by_role("button", name=f"Only {name}").click()  # 3
    page.wait_for_url(re.compile("customer_id="))
    assert parameters(page)["customer_id"] == [str(planted.customer_id)]
    page.get_by_role("tab", name="Events behind this").click()  # 4
    sees(page, formatting.counted(now, "event") + " ·")
    page.go_back()  # to the other tab
    page.wait_for_url(re.compile("tab=who"))
    assert "customer_id" in parameters(page)
    page.go_back()  # to the page without the filter
    page.wait_for_url(lambda url: "customer_id" not in url)
    settled(page)
    assert "span" in parameters(page)


def test_a_selection_rules_headline_and_rows_and_is_cleared_or_zoomed(visit: Visit, store: Store) -> None:
    page = settled(visit(address("", **LINK)))
    day = datetime(2026, 9, 9, tzinfo=UTC)
    window = {"since": day, "until": day + timedelta(days=1)}
    total = store.aggregate(AggregateQuery(**{**LINK, **window})).total
    time = page.get_by_role("combobox", name="Selected time")
    time.focus()  # by the keyboard alone
    page.keyboard.press("Enter")
    time.fill("9 Sep 2026")
    expect(page.get_by_role("option", name=re.compile(f"Wed 9 Sep 2026: {total:,} events"))).to_be_visible()
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("span=2026-09-09"))
    for text in ("events, 9 Sep 2026", "vs Wed 2 Sep 2026", formatting.counted(int(total), "event") + " ·"):
        sees(page, text)
    page.get_by_role("combobox", name="by").click()
    page.get_by_role("option", name="region").click()
    page.wait_for_url(re.compile("group_by=dim%3Aregion"))
    sees(page, formatting.counted(int(total), "event") + " ·")
    page.get_by_role("button", name="Zoom").click()
    page.wait_for_url(re.compile("bucket=hour"))
    settled(page)
    assert parameters(page)["since"] == ["2026-09-09T00:00:00Z"]
    assert "span" not in parameters(page)
    sees(page, formatting.counted(int(total), "event") + " ·")
    page.go_back()
    page.wait_for_url(re.compile("span="))
    settled(page).get_by_role("button", name="Clear", exact=True).focus()
    page.keyboard.press("Enter")
    page.wait_for_url(lambda url: "span=" not in url)
    # the focus of the button, which is gone, is beside it
    beside = '[data-testid="stElementContainer"]:focus'  # of a control, which a second Enter would press
    expect(page.locator(beside).get_by_role("combobox", name="Selected series")).to_be_visible()
    expect(page.get_by_role("group", name="Selected series")).to_be_focused()


@pytest.mark.thorough  # app/test_selection groups both anew
def test_a_series_becomes_a_filter_in_another_grouping(visit: Visit, store: Store) -> None:
    span = "2026-09-09T00:00:00Z/2026-09-10T00:00:00Z"
    for series in ("value:tokens_in", "other"):
        page = settled(visit(address("", **LINK, top="3", series=series, span=span)))
        count = re.search(r"([\d,]+) events ·", page.locator('[data-testid="stMain"]').inner_text())
        assert count
        page.get_by_role("combobox", name="by").click()
        page.get_by_role("option", name="region").click()
        page.wait_for_url(re.compile("group_by=dim%3Aregion"))
        sees(page, f"{count[1]} events ·")
        assert "series" not in parameters(page)


def test_a_search_in_a_leaderboard_and_the_button_not(visit: Visit, store: Store) -> None:
    page = settled(visit(address("", **LINK)))
    page.get_by_role("tab", name="Who").click()
    customers = store.scoped(ACME).customers(AggregateQuery(**LINK))
    wanted = customers[20]
    assert wanted.name
    lens = board(page, "customer").get_by_role("button", name="Search customer")
    lens.click()
    search = board(page, "customer").get_by_role("searchbox")
    expect(search).to_be_focused()
    search.fill(wanted.name[1:].upper())
    found = board(page, "customer").get_by_role("button", name=f"Only {wanted.name}")
    expect(found).to_be_visible()
    expect(search).to_be_focused()
    only = page.get_by_role("button", name=f"Only {wanted.name}")
    row = board(page, "customer").get_by_role("row").filter(has=only)
    expect(row).to_have_attribute("title", re.compile(f": {wanted.events:,} events$"))
    row.hover()
    row.get_by_role("button", name="Not ").click()
    page.wait_for_url(re.compile("not%3Acustomer_id="))
    assert parameters(page)["not:customer_id"] == [wanted.value]
