"""The walk of an analyst through the app, and the links that must survive it."""

from __future__ import annotations

import io
import re
from codecs import BOM_UTF8
from collections.abc import Callable
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import openpyxl
import psycopg
import pytest
from playwright.sync_api import Page, WebSocket, expect
from psycopg import sql

from support.browser_pages import (
    ALERT,
    CHART,
    Site,
    address,
    at_rest,
    bars,
    choice,
    parameters,
    picture,
    resized,
    sees,
    settled,
    shows,
)
from support.demo_database import ACME, BIRCH, CEDAR, WINDOW
from support.thoroughness import further
from usage_explore import AggregateQuery, EventQuery, Store, formatting
from usage_explore.charts import theme
from usage_explore.db import ddl
from usage_explore.results import frames

LINK = {"organization_id": ACME, **WINDOW, "group_by": "metric_key"}

Visit = Callable[..., Page]


def test_a_link_shows_the_same_in_a_fresh_browser_and_in_any_time_zone(visit: Visit) -> None:
    link = address("", **LINK, metric="sum_quantity", bucket="week", timezone="America/Havana", chart="lines")
    seen = []
    for own in ({}, {"timezone_id": "America/New_York"}):  # the machine's own, in the page that other tests use too
        page = settled(visit(link, **own))
        for name in ("quantity", "week", "lines", "Custom"):
            expect(choice(page, name)).to_be_checked()
        expect(page.get_by_text("America/Havana").first).to_be_visible()
        inputs = [each.inner_text() for each in page.locator('[data-testid="stDateTimeInput"]').all()]
        page.get_by_role("tab", name="Data").click()
        settled(page)
        seen.append((picture(page), inputs, parameters(page)))
    assert seen[0] == seen[1]


def test_back_forward_and_reload_restore_what_was_shown_and_the_theme_is_followed(visit: Visit) -> None:
    page = settled(visit(address("", **LINK)))
    shown = [picture(page)]
    for name in ("week", *further("quantity"), "lines"):
        choice(page, name).click()
        settled(page)
        shown.append(picture(page))
    assert len({*shown}) == len(shown) >= 3
    for expected in reversed(shown[:-1]):
        page.go_back()
        shows(page, expected)
    for name in ("day", "events", "bars"):
        expect(choice(page, name)).to_be_checked()
    for expected in shown[1:]:
        page.go_forward()
        shows(page, expected)
    for name in ("Who", "Data"):
        page.get_by_role("tab", name=name).click()
        page.wait_for_url(re.compile(f"tab={name.lower()}"))
    light = page.evaluate(_GROUND, CHART)
    assert light == page.evaluate(_GROUND, ".stApp")
    page.emulate_media(color_scheme="dark")
    page.reload()
    settled(page)
    expect(page.get_by_role("tab", name="Data")).to_have_attribute("aria-selected", "true")
    assert page.evaluate(_GROUND, CHART) == page.evaluate(_GROUND, ".stApp") != light
    choice(page, "day").click()
    page.wait_for_url(lambda url: "bucket=" not in url)
    assert parameters(page)["tab"] == ["data"]
    for expected in ("Data", "Who", "Events behind this"):
        page.go_back()
        expect(page.get_by_role("tab", name=expected)).to_have_attribute("aria-selected", "true")
    assert "tab" not in parameters(page)


_GROUND = "selector => getComputedStyle(document.querySelector(selector)).backgroundColor"
"""The colour behind a part of the page."""


@pytest.mark.parametrize("path", ["", pytest.param("events", marks=pytest.mark.thorough)])
def test_the_whole_key_of_one_event_opens_it_and_back_returns(visit: Visit, store: Store, path: str) -> None:
    event = store.scoped(ACME).events(EventQuery(limit=1)).events[0]
    page = settled(visit(address(path, organization_id=ACME, metric_key="images")))
    before = page.url
    page.get_by_role("button", name="Search", exact=True).click()
    expect(page.get_by_role("textbox", name="Search")).to_be_focused()
    page.keyboard.type(event.idempotency_key)
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("/events.*event="))
    expect(page.get_by_text("Event in full")).to_be_visible()
    settled(page)
    assert parameters(page)["idempotency_key"] == [event.idempotency_key]
    expect(page.get_by_role("textbox", name="Search")).to_be_hidden()
    page.go_back()
    page.wait_for_url(before)
    settled(page)


@pytest.mark.thorough  # app/test_search_and_windows presses the same controls
def test_presets_stay_relative_in_the_link(visit: Visit) -> None:
    page = settled(visit(address("", **LINK)))
    choice(page, "7 d").click()
    settled(page)
    assert parameters(page)["since"] == ["-6d/d"]
    choice(page, "hour").click()
    settled(page)
    assert parameters(page)["since"] == ["-6d/d"]
    choice(page, "week").click()
    settled(page)
    assert parameters(page)["since"] == ["-6d/d"], "a control of the buckets does not change the amount"
    page.get_by_role("combobox", name="or all of").click()
    page.get_by_role("option", name="Last month").click()
    settled(page)
    assert parameters(page)["window"] == ["last_month"]
    assert "since" not in parameters(page)


@pytest.mark.parametrize(
    "path", ["", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("events", "validate", "customer"))]
)
def test_the_header_is_one_row_from_1024_pixels_two_on_a_phone_and_not_covered(
    visit: Visit, store: Store, path: str
) -> None:
    customer = store.scoped(ACME).customers()[0].value  # with it, the header has all of its links
    link = WINDOW if path else {"window": "2026-09", "timezone": "America/Argentina/Buenos_Aires"}
    page = visit(address(path, organization_id=ACME, customer_id=customer, **(link if path != "events" else {})))
    page.locator(".st-key-header").get_by_role("button", name="Share").wait_for()
    header = page.locator(".st-key-header")
    links = [header.get_by_role("link", name=name) for name in ("Home", "Explore", "Events", "Validate", "Customer")]
    controls = [
        *(header.get_by_role("button", name=name) for name in ("Search", "Views", "Share")),
        *(header.get_by_role("combobox", name=name) for name in ("Organization", "Time zone")),
        header.get_by_text("as of"),
    ]
    hit = """([x, y]) => !!document.elementFromPoint(x, y).closest('.st-key-header')"""
    for width, rows, pixels in ((1440, 1, 50), *further((1280, 1, 50)), (1024, 1, 50), (768, 2, 90), (390, 2, 110)):
        resized(page, width, 900)
        boxes = [[part.bounding_box() for part in parts] for parts in (links, controls)]
        middles = [{round((box["y"] + box["height"] / 2) / 4) for box in row if box} for row in boxes]
        assert all(None not in row for row in boxes)
        assert all(max(middle) - min(middle) <= 1 for middle in middles), (width, middles)
        assert (min(middles[1]) > max(middles[0]) + 3) == (rows == 2), (width, middles)
        box = header.bounding_box()
        assert box
        assert box["height"] <= pixels, width
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        right = max(part["x"] + part["width"] for row in boxes for part in row if part)
        assert right == pytest.approx(box["x"] + box["width"], abs=2) if rows == 1 or width == 390 else right <= width
        under = [each for each in header.locator("a, button, [role=combobox], input").all() if each.is_visible()]
        places = [place for each in under if (place := each.bounding_box())]
        assert len(places) > 6, width
        for place in places:
            middle = [place["x"] + place["width"] / 2, place["y"] + place["height"] / 2]
            assert page.evaluate(hit, middle), (width, place)
    if path == "":
        folds_its_controls_and_squashes_no_icon(page)


def folds_its_controls_and_squashes_no_icon(page: Page) -> None:
    """Explore, on a phone at first: its chart is on the first screen, its controls unfold."""
    resized(page, 390, 844)
    chart = settled(page).locator(CHART).bounding_box()
    assert chart
    assert chart["y"] < 844 / 2 + 100
    controls, switch = page.locator(".st-key-controls"), page.locator(".st-key-show_controls")
    expect(controls).to_be_hidden()
    switch.locator("label").click()
    expect(controls).to_be_visible()
    page.set_viewport_size({"width": 1440, "height": 900})
    expect(switch).to_be_hidden()
    box = controls.bounding_box()
    assert box
    assert box["height"] < 80  # one row of labels and inputs
    settled(page)
    expect(page.get_by_role("combobox", name="or all of")).to_have_value("September 2026")
    expect(page.get_by_role("button", name="Clear value")).to_have_count(0)  # a window there has to be
    sizes = page.locator("svg[viewBox='0 0 24 24']:visible").evaluate_all(
        "all => all.map(each => each.getBoundingClientRect()).map(box => [box.width, box.height])"
    )
    assert sizes
    assert all(width == pytest.approx(height, abs=1) for width, height in sizes), sizes


def test_controls_show_the_link_though_a_click_interrupts_the_first_run(visit: Visit) -> None:
    page = visit("about:blank")
    for _ in (1, *further(2)):
        page.goto(address("", **LINK, bucket="week", chart="lines"))
        page.get_by_role("button", name="Filter", exact=True).click()
        settled(page)
        for name in ("events", "week", "lines", "Custom"):
            expect(choice(page, name)).to_be_checked()


def test_a_bar_opens_as_many_events_as_it_says_and_back_closes_them(visit: Visit) -> None:
    page = settled(visit(address("", **LINK)))
    bar = max(bars(page, "tokens_in"), key=lambda bar: bar.value)
    page.mouse.click(bar.x, bar.y)
    sees(page, formatting.counted(int(bar.value), "event") + " ·")
    assert parameters(page)["series"] == ["value:tokens_in"]
    page.go_back()
    settled(page)
    assert "series" not in parameters(page)
    page.go_forward()
    sees(page, formatting.counted(int(bar.value), "event") + " ·")
    page.get_by_role("link", name="Open in Events").click()
    sees(page, formatting.counted(int(bar.value), "event") + ",")
    assert parameters(page)["metric_key"] == ["tokens_in"]
    page.go_back()
    sees(page, formatting.counted(int(bar.value), "event") + " ·")


@pytest.mark.thorough  # the walk picks, groups anew and zooms; app/test_page_state says of each change what survives
def test_a_picked_bar_survives_another_measure_bucket_and_grouping(visit: Visit, store: Store) -> None:
    page = settled(visit(address("", **LINK)))
    bar = bars(page, "tokens_out")[5]
    page.mouse.click(bar.x, bar.y)
    events = formatting.counted(int(bar.value), "event") + " ·"
    sees(page, events)
    (span,) = parameters(page)["span"]
    for name in ("quantity", "lines", "week", "hour"):
        choice(page, name).click()
        changed = {"quantity": "metric", "lines": "chart"}.get(name, "bucket") + "=[^&]*" + name[:4]
        page.wait_for_url(re.compile(f"(?=.*{changed})(?=.*series=)(?=.*span=)"))
        sees(page, events)
        assert (parameters(page)["series"], parameters(page)["span"]) == (["value:tokens_out"], [span])
    choice(page, "day").click()
    page.wait_for_url(lambda url: "bucket=" not in url)
    sees(page, events)
    page.get_by_role("combobox", name="by").click()
    page.get_by_role("option", name="region").click()
    since, until = span.split("/")
    picked = {"organization_id": ACME, "metric_key": "tokens_out"}
    number = store.count(EventQuery(**picked, occurred_after=since, occurred_before=until))
    sees(page, formatting.counted(number, "event") + " ·")
    assert "series" not in parameters(page)  # it has become a filter
    assert (parameters(page)["metric_key"], parameters(page)["span"]) == (["tokens_out"], [span])
    for name, default in (("bars", "chart="), ("events", "metric=")):
        choice(page, name).click()
        page.wait_for_url(lambda url, default=default: default not in url)
        settled(page)
    complete = '[aria-label*="series: eu-central;"][aria-label*="state: complete"]'
    expect(page.locator(f"{CHART} {complete}").nth(9)).to_be_visible()
    bar = bars(page, "eu-central")[9]
    page.mouse.click(bar.x, bar.y)
    sees(page, formatting.counted(int(bar.value), "event") + " ·")
    assert parameters(page)["series"] == ["value:eu-central"]


@pytest.mark.parametrize("bucket", ["week", pytest.param("hour", marks=pytest.mark.thorough)])
def test_only_a_click_or_a_drag_changes_what_is_picked(visit: Visit, bucket: str) -> None:
    picked = {"series": "value:tokens_out", "span": "2026-09-08T00:00:00Z/2026-09-09T00:00:00Z"}
    page = settled(visit(address("", **LINK, bucket=bucket, **picked)))
    events = page.get_by_text("tokens_out, 8 Sep 2026, UTC")
    for width in (*further(1000), 700, 1400):
        page.set_viewport_size({"width": width, "height": 1200})
        page.wait_for_timeout(700)  # a resized chart reports its brush after 150 ms
        settled(page)
        expect(events).to_be_visible()
        assert {name: parameters(page)[name] for name in picked} == {name: [value] for name, value in picked.items()}
    box = page.locator(CHART).bounding_box()
    assert box
    page.mouse.dblclick(box["x"] + box["width"] * 0.7, box["y"] + 30)
    page.wait_for_url(lambda url: "span=" not in url and "series=" not in url)
    settled(page)
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + 30)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.6, box["y"] + 30, steps=5)
    page.mouse.up()
    page.wait_for_url(re.compile("span="))
    box = settled(page).locator(CHART).bounding_box()
    assert box
    brushed = page.url
    page.mouse.click(box["x"] + box["width"] * 0.9, box["y"] + 30)
    page.wait_for_url(lambda url: url != brushed)


def test_what_the_pointer_is_over_clicks_and_brushes_in_the_chart_is_marked_at_once(visit: Visit, store: Store) -> None:
    page = visit("about:blank")
    sent: list[str | bytes] = []

    def listen(socket: WebSocket) -> None:
        socket.on("framesent", lambda frame: sent.append(frame))

    page.on("websocket", listen)
    page.goto(address("", **LINK))
    settled(page)
    page.remove_listener("websocket", listen)  # the page is kept for other tests
    assert sent
    sent.clear()
    dimmed, whole = (page.locator(f"{CHART} path[opacity='{opacity}']") for opacity in ("0.3", "1"))
    expect(dimmed).to_have_count(0)
    number = whole.count()
    apart = number - page.locator(f"{CHART} [aria-label*='; series: ']").count()  # marks that are no bars
    for name in ("requests", "tokens_in"):
        bar = bars(page, name)[4]
        page.mouse.move(bar.x, bar.y, steps=3)
        expect(page.locator("#vg-tooltip-element")).to_contain_text("Sep 2026")
        expect(dimmed).not_to_have_count(0)
        assert whole.count() == apart + page.locator(f"{CHART} [aria-label*='; series: {name};']").count()
    tops = [mark.bounding_box() for mark in page.locator(f"{CHART} [aria-label*='; series: ']").all()]
    page.mouse.move(bar.x, min(top["y"] for top in tops if top) + 1, steps=3)  # the marks there are of whole buckets
    expect(page.locator("#vg-tooltip-element")).to_contain_text("Sep 2026")
    expect(dimmed).to_have_count(0)
    page.mouse.move(5, 5)
    expect(whole).to_have_count(number)
    assert not sent, "the browser alone dims the other series"
    outlines_a_bucket_clicked_above_its_bar(page)
    page.go_back()
    page.wait_for_url(lambda url: "span=" not in url)
    settled(page)
    outlines_brushed_buckets_and_lists_their_events(page, store)


def outlines_a_bucket_clicked_above_its_bar(page: Page) -> None:
    band = page.locator(f'{CHART} [aria-label^="time: Tue 8 Sep 2026"]').first
    box = band.bounding_box()
    assert box
    expect(band).to_have_attribute("stroke", "transparent")
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 3)
    expect(band).to_have_attribute("stroke", theme(False).text)
    page.wait_for_url(lambda url: "span=" in url)
    settled(page)
    expect(band).to_have_attribute("stroke", theme(False).text)
    assert "series" not in parameters(page)
    assert parameters(page)["span"] == ["2026-09-08T00:00:00Z/2026-09-09T00:00:00Z"]


def outlines_brushed_buckets_and_lists_their_events(page: Page, store: Store) -> None:
    few = bars(page, "tokens_in")[3:6]
    page.mouse.move(few[0].x - 6, few[0].y - 30)
    page.mouse.down()
    page.mouse.move(few[-1].x + 6, few[-1].y - 20, steps=6)
    page.mouse.up()
    page.wait_for_url("**span=*")
    settled(page)
    (span,) = parameters(page)["span"]
    since, until = span.split("/")
    number = store.count(EventQuery(organization_id=ACME, occurred_after=since, occurred_before=until))
    sees(page, formatting.counted(number, "event") + " ·")
    outline = page.locator(f"{CHART} .brush_brush path").first
    expect(outline).to_have_attribute("stroke", theme(False).text)
    inside = outline.bounding_box()
    assert inside
    assert inside["x"] < few[1].x < inside["x"] + inside["width"]
    order = f"[...document.querySelectorAll('{CHART} g')].map(group => group.getAttribute('class') ?? '')"
    groups = page.evaluate(order)
    marks = [place for place, name in enumerate(groups) if "mark-rect" in name and "layer" in name]
    assert next(place for place, name in enumerate(groups) if "brush_brush" in name and "bg" not in name) > max(marks)
    picks_a_brushed_bucket(page, few[1].x)


def test_a_name_in_the_ranking_filters_to_it_other_included_and_its_button_picks_it(visit: Visit, store: Store) -> None:
    answer = store.aggregate(AggregateQuery(**LINK, top=3))
    page = visit(address("", **LINK, top="3"))
    for row, series in ((0, answer.series[0]), (3, answer.series[3])):
        box = settled(page).locator('[data-testid="stDataFrame"]').first.bounding_box()
        assert box
        page.mouse.click(box["x"] + 70, box["y"] + 35 * (row + 1) + 17)
        page.wait_for_url(re.compile("metric_key="))
        sees(page, formatting.counted(int(series.total), "event") + " ·")
        page.go_back()
        page.wait_for_url(lambda url: "metric_key=" not in url)
        sees(page, formatting.counted(int(answer.total), "event") + " ·")
    box = page.locator('[data-testid="stDataFrame"]').first.bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] - 72, box["y"] + 35 * 2 + 17)
    page.wait_for_url(re.compile("series="))
    assert parameters(page)["series"] == [f"value:{answer.series[1].key}"]
    sees(page, formatting.counted(int(answer.series[1].total), "event") + " ·")
    page.mouse.click(box["x"] + box["width"] - 72, box["y"] + 35 * 2 + 17)
    page.wait_for_url(lambda url: "series=" not in url)
    page.go_back()
    page.wait_for_url(re.compile("series="))


def test_the_downloads_hold_the_answer(visit: Visit, store: Store) -> None:
    page = settled(visit(address("", **LINK)))
    page.get_by_role("tab", name="Download").click()
    settled(page)
    contents = {}
    for name in ("Workbook, Excel", "Wide table, CSV", "Data, CSV", "Data, Parquet", "Chart, PNG", "Chart, SVG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        contents[name] = download.value.path().read_bytes()
    answer = store.aggregate(AggregateQuery(**LINK))
    assert contents["Data, CSV"] == BOM_UTF8 + frames.to_csv(answer)
    assert contents["Wide table, CSV"] == BOM_UTF8 + frames.to_csv(answer, wide=True, escape_formulas=True)
    book = openpyxl.load_workbook(io.BytesIO(contents["Workbook, Excel"]))
    assert sum(row[-1] for row in book["Long"].iter_rows(min_row=2, values_only=True)) == answer.total
    about = dict(book["Query"].iter_rows(values_only=True))
    assert "as_of=" in about["Pinned link"]
    assert answer.organization == about["Organization"]
    assert str(answer.query.organization_id) in contents["Chart, SVG"].decode()
    assert contents["Data, Parquet"].startswith(b"PAR1")
    assert contents["Chart, PNG"].startswith(b"\x89PNG")
    assert b"</svg>" in contents["Chart, SVG"]


@pytest.mark.thorough  # the test of the pointer does it with bars; charts/test_charts has the marks of lines
@pytest.mark.parametrize("changes", [{}, {"chart": "lines"}, {"bucket": "hour", "group_by": "dim:model"}])
def test_a_brushed_bucket_has_its_tooltip_and_its_bars_can_be_picked(visit: Visit, changes: dict[str, str]) -> None:
    span = "2026-09-03T00:00:00Z/2026-09-20T00:00:00Z"
    page = settled(visit(address("", **{**LINK, **changes}, span=span)))
    chart = page.locator(CHART).bounding_box()
    assert chart
    picks_a_brushed_bucket(page, chart["x"] + chart["width"] * 0.4)


def picks_a_brushed_bucket(page: Page, x: float) -> None:
    """A bucket at a place within the brush has its tooltip, and a click picks it."""
    chart, brushed = page.locator(CHART).bounding_box(), parameters(page)["span"]
    assert chart
    tooltip = page.locator("#vg-tooltip-element")
    for height in (0.15, 0.8):  # in the empty part above the bars, and on them
        page.mouse.move(x, chart["y"] + chart["height"] * height, steps=3)
        expect(tooltip).to_contain_text("Sep 2026")
        assert "Total" in tooltip.inner_text()
        assert "true" not in tooltip.inner_text()
    page.mouse.click(x, chart["y"] + chart["height"] * 0.15)
    page.wait_for_url(lambda url: "span=" in url and parse_qs(urlsplit(url).query)["span"] != brushed)
    since, until = map(datetime.fromisoformat, parameters(page)["span"][0].split("/"))
    assert until - since in (timedelta(days=1), timedelta(hours=1))


def test_the_pinned_link_does_not_move_when_late_events_arrive(visit: Visit, site: Site, store: Store) -> None:
    cedar = {**LINK, "organization_id": CEDAR}
    page = settled(visit(address("", **cedar)))
    page.get_by_role("button", name="Share").click()
    pinned = page.locator('[data-testid="stPopoverBody"] code').inner_text()
    assert "as_of=" in pinned
    before = picture(page)
    with ddl.connect(site.database_url) as connection:
        connection.execute(
            "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp,"
            " idempotency_key) SELECT gen_random_uuid(), %s, %s, 'late', 1, '2026-09-10T12:00Z', 'late' || g"
            " FROM generate_series(1, 500) g",
            [CEDAR, CEDAR],
        )
        connection.commit()
    page.goto(pinned)
    assert picture(settled(page)) == before
    expect(page.get_by_text("as known at").first).to_be_visible()
    assert store.count(EventQuery(organization_id=CEDAR, metric_key="late")) == 500


@pytest.mark.thorough  # app/test_pages turns the pages; test_tables looks under the toolbar
def test_pages_of_events_forward_and_back(visit: Visit, store: Store) -> None:
    page = settled(visit(address("events", organization_id=ACME)))
    expect(page.get_by_role("button", name="Newer")).to_be_disabled()
    cursors = []
    expected = store.events(EventQuery(organization_id=ACME))
    for _ in range(2):
        # over the table Streamlit's toolbar appears, which must not cover a button
        page.locator('[data-testid="stDataFrame"]').hover()
        page.get_by_role("button", name="Older").click()
        page.wait_for_url(re.compile("cursor="))
        settled(page)
        cursors += parameters(page)["cursor"]
        assert cursors[-1] == expected.cursor
        expected = expected.next() or expected
    page.get_by_role("button", name="Newer").click()
    page.wait_for_url(lambda url: cursors[0] in url)
    settled(page)
    page.go_back()
    settled(page)
    assert parameters(page)["cursor"] == [cursors[1]]


@pytest.mark.thorough  # the next test opens a row, app/test_pages presses the button
def test_one_event_and_what_its_customer_did_around_it(visit: Visit, store: Store) -> None:
    event = store.events(EventQuery(organization_id=ACME)).events[1]
    page = settled(visit(address("events", organization_id=ACME)))
    box = page.locator('[data-testid="stDataFrame"]').first.bounding_box()
    assert box
    page.mouse.click(box["x"] + 16, box["y"] + 35 + 35 + 17)
    sees(page, event.idempotency_key)
    assert parameters(page)["event"][0].endswith(str(event.id))
    page.get_by_role("button", name="This customer's events around that time").click()
    page.wait_for_url(re.compile("customer_id="))
    settled(page)
    assert parameters(page)["customer_id"] == [str(event.customer_id)]
    page.go_back()
    sees(page, event.idempotency_key)


def test_the_whole_row_of_an_event_opens_it_and_its_number_does_not(visit: Visit, store: Store) -> None:
    found = [str(each.id) for each in store.events(EventQuery(organization_id=ACME)).events]
    page = settled(visit(address("events", organization_id=ACME)))
    box_column, rank, time, further = 15, 50, 120, 400

    def click(x: int, row: int, *opened: str) -> None:
        box = page.locator('[data-testid="stDataFrame"] canvas').first.bounding_box()
        assert box
        page.mouse.click(box["x"] + x, box["y"] + 35 * (row + 1) + 17)
        if not opened:
            page.wait_for_timeout(300)  # what must not be opened would come after 150 ms
        events = [*opened]
        page.wait_for_url(lambda url: [each[-36:] for each in parse_qs(urlsplit(url).query).get("event", [])] == events)
        settled(page)
        assert [each.rpartition("/")[2] for each in parameters(page).get("event", [])] == events

    click(rank, 1)
    for x, row in ((time, 0), (further, 2), (box_column, 1), (further, 1)):
        click(x, row, found[row])
    click(box_column, 1)


@pytest.mark.thorough  # app/test_pages takes the database away and back
def test_a_database_that_is_away_is_noticed_and_so_is_its_return(visit: Visit, store: Store, server_url: str) -> None:
    page = settled(visit(address("", **LINK)))
    before = picture(page)
    name = store.engine.url.database or ""
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}")
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(allow.format(sql.Identifier(name), sql.SQL("false")))
        try:
            admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [name])
            choice(page, "week").click()
            expect(page.locator(ALERT)).to_contain_text("refuses the connection")
            expect(page.locator(CHART)).to_have_count(0)
        finally:
            admin.execute(allow.format(sql.Identifier(name), sql.SQL("true")))
    page.wait_for_selector(CHART)
    settled(page)
    expect(page.locator(ALERT)).to_have_count(0)
    expect(choice(page, "week")).to_be_checked()
    page.go_back()
    shows(page, before)


def test_a_bad_link_says_what_is_wrong_and_offers_to_start_over(visit: Visit) -> None:
    page = settled(visit(address("", **LINK, custmer_id="x", bucket="year")))
    for words_ in ("did you mean customer_id?", "'year' is not one of hour, day, week, month"):
        expect(page.locator(ALERT)).to_contain_text(words_)
    expect(page.locator(CHART)).to_have_count(0)
    page.get_by_role("button", name="Start over").click()
    expect(page.get_by_text("Whose events?")).to_be_visible()
    page.get_by_role("button", name="Acme AI").click()
    page.wait_for_url(re.compile(f"organization_id={ACME}"))


def test_the_header_shows_the_link_s_zone_and_organization_after_every_step_between_pages(visit: Visit) -> None:
    page = settled(visit(address("", **{**LINK, "organization_id": BIRCH}), timezone_id="Europe/Berlin"))
    zone = page.get_by_role("combobox", name="Time zone")
    assert zone.input_value() == "UTC"
    zone.click()
    expect(page.get_by_role("option").first).to_have_text("Europe/Berlin")  # offered first, and not taken
    page.goto(address(""))
    expect(page.locator('[class*="st-key-organization_"] button').first).to_have_text("Birch Labs")  # opened last
    assert not page.locator(CHART).count()
    assert BIRCH not in str(page.context.cookies())
    page.goto(address("", organization_id=BIRCH, timezone="Asia/Kolkata"))
    utc = address("", organization_id=BIRCH, timezone="UTC")
    pages = [page, *(visit(utc, timezone_id=own) for own in further("America/New_York"))]
    for step in ("", "Events", "Validate", "Home", "Back", "Forward"):
        for page in pages:
            if step in ("Back", "Forward"):
                page.evaluate(f"history.{step.lower()}()")
            elif step:
                page.locator(".st-key-header").get_by_role("link", name=step, exact=True).click()
                page.wait_for_url(f"**/{step.lower()}?*")
        for page in pages:
            page.wait_for_timeout(3_100 // len(pages))  # by then, values of a link are no longer sent with every run
            at_rest(page)
            shown = [page.get_by_role("combobox", name=name).input_value() for name in ("Time zone", "Organization")]
            assert shown == [parameters(page).get("timezone", ["UTC"])[0], "Birch Labs"], step


@pytest.mark.parametrize("target", ["Home", pytest.param("Events", marks=pytest.mark.thorough)])
def test_a_link_that_is_clicked_while_a_menu_is_open_goes_to_its_page(visit: Visit, target: str) -> None:
    """The click also closes the menu, which asks for a run of the page that is being left."""
    page = visit(address("", organization_id=BIRCH, timezone="Asia/Kolkata", **WINDOW))
    settled(page).get_by_role("button", name="Filter", exact=True).click()
    at_rest(page)
    page.locator(".st-key-header").get_by_role("link", name=target, exact=True).click()
    page.wait_for_url(f"**/{target.lower()}?*")
    at_rest(page)
    assert page.url.split("?")[0].endswith(f"/{target.lower()}")
    shown = [page.get_by_role("combobox", name=name).input_value() for name in ("Time zone", "Organization")]
    assert shown == ["Asia/Kolkata", "Birch Labs"]


@pytest.mark.parametrize(
    "text",
    [
        "http://evil.example/x.png ![x](http://evil.example) www.evil.example a@evil.example",
        *(
            pytest.param(text, marks=pytest.mark.thorough)
            for text in (
                "http://evil.example/x.png",
                "![x](http://evil.example)",
                "www.evil.example",
                "a@evil.example",
            )
        ),
    ],
)
def test_values_and_faults_in_a_message_are_no_links(visit: Visit, text: str) -> None:
    page = visit("about:blank")
    for link in ({"metric_key": text, **WINDOW}, {"group_by": text}):
        page.goto(address("", organization_id=ACME, **link))
        expect(settled(page).get_by_text("evil.example").first).to_be_visible()
        targets = page.locator("a[href]").evaluate_all("links => links.map(link => link.protocol + link.hostname)")
        assert set(targets) == {"http:127.0.0.1"}


def test_a_link_that_is_not_utf8_is_a_bad_link(visit: Visit) -> None:
    page = settled(visit(address("", **LINK) + "&metric_key=%FF"))
    expect(page.locator(ALERT)).to_contain_text("percent-encoded")
    expect(page.locator(CHART)).to_have_count(0)
