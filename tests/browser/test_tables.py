"""What leaves the app's tables by their own download and by copying: values, never the text that is for the eye."""

from __future__ import annotations

import io
import json
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from decimal import Decimal
from uuid import UUID

import pandas as pd
import pytest
from playwright.sync_api import FloatRect, Locator, Page, expect

from support.browser_pages import Site, address, copied, examined, parameters, resized, settled, table_csv
from support.demo_database import ACME, WINDOW
from support.thoroughness import further
from support.waiting import eventually
from usage_explore import formatting
from usage_explore.app import grid
from usage_explore.db import ddl
from usage_explore.results import formulas

Visit = Callable[..., Page]

ORGANIZATION = "0f0f0f0f-0000-4000-8000-000000000001"
LINK = {"organization_id": ORGANIZATION, "since": "2026-09-01T00:00:00Z", "until": "2026-09-11T00:00:00Z"}
QUANTITIES = ["100", "-60", "-60", "-30", "10", "1234567.25"]
LONG = ["809.5804537469", "0.0000000042", "-12345678901234567890123456789.5", "0.1"]
KEYS = ["=1+1", "+cmd", "-60", "a\rb", "\ttab", "'tis"]


@pytest.fixture(scope="module", autouse=True)
def rows(site: Site) -> Iterator[None]:
    """Ten days of six events of the metric `short` and four of `long`."""
    found = []
    for day in range(1, 11):
        for metric, quantities in (("short", QUANTITIES), ("long", LONG)):
            for minute, quantity in enumerate(quantities):
                key = KEYS[minute]
                dimensions: dict[str, object] = {"total": key, "apiKeyID": f"Ab{minute}"}
                if metric == "long":
                    dimensions["list"] = [1, f"z{minute}"]
                at, name = f"2026-09-{day:02d}T12:{59 - minute}Z", f"{key}{metric}{day}"
                cost = (quantity, "USD") if minute == 1 else (None, None)
                found.append([ORGANIZATION, metric, quantity, at, name, json.dumps(dimensions), *cost])
    with ddl.connect(site.database_url) as connection:
        connection.cursor().executemany(
            "INSERT INTO usage_events (id, organization_id, customer_id, metric_key, quantity, timestamp,"
            " idempotency_key, dimensions, external_cost_amount, external_cost_currency)"
            " VALUES (gen_random_uuid(), %s, gen_random_uuid(), %s, %s, %s, %s, %s, %s, %s)",
            found,
        )
        connection.commit()
    yield
    with ddl.connect(site.database_url) as connection:
        connection.execute("DELETE FROM usage_events WHERE organization_id = %s", [ORGANIZATION])
        connection.commit()


def frames(page: Page) -> Locator:
    return page.locator('[data-testid="stDataFrame"]')


def data_table(page: Page, tables: str) -> tuple[Locator, FloatRect]:
    """The table of the Data tab and its place, when the page has as many tables as `tables` says, such as `== 2`."""
    page.get_by_role("tab", name="Data").click()
    page.wait_for_function(f"document.querySelectorAll('[data-testid=stDataFrame]').length {tables}")
    settled(page)
    eventually(lambda: frames(page).last.bounding_box())  # a table is hidden for a moment while it is drawn anew
    box = frames(page).last.bounding_box()
    assert box
    return frames(page).last, box


def element(frame: Locator) -> Locator:
    """The frame with its toolbar."""
    return frame.locator("xpath=ancestor::*[@data-testid='stFullScreenFrame'][1]")


def saved(page: Page, frame: Locator, **options: str) -> pd.DataFrame:
    return pd.read_csv(io.StringIO(table_csv(page, element(frame))), lineterminator="\n", **options)  # type: ignore[call-overload, no-any-return]


def test_the_events_csv_and_copied_ids_are_whole_and_the_table_is_seen_at_every_width(visit: Visit) -> None:
    page = settled(visit(address("events", organization_id=ORGANIZATION, metric_key="short", limit="100")))
    table = saved(page, frames(page).first)
    assert len(table) == 10 * len(QUANTITIES)
    assert table["Quantity"].sum() == 10 * float(sum(map(Decimal, QUANTITIES)))
    assert table["Cost"].dropna().tolist() == [-60] * 10
    assert table["Price"].isna().all()
    first = table.iloc[: len(KEYS)]["Idempotency key"].tolist()
    assert first == ["'=1+1short10", "'+cmdshort10", "'-60short10", "a\\rbshort10", "'\ttabshort10", "''tisshort10"]
    box = frames(page).first.bounding_box()
    assert box
    place = box["width"] - 30, 52.0
    assert str(UUID(copied(page, frames(page).first, place, place)))
    exact = [formatting.exact(Decimal(each)) for each in (*QUANTITIES, *LONG)]
    needed = page.evaluate(
        """texts => {
            const font = getComputedStyle(document.querySelector('[data-testid="stDataFrame"]')).fontFamily;
            const ink = document.createElement('canvas').getContext('2d');
            ink.font = `14px ${font}`;
            return texts.map(text => ink.measureText(text).width + 16);
        }""",
        exact,
    )
    for text, pixels in zip(exact, needed, strict=True):
        assert grid.width("", [text]) >= pixels, text
    resized(page, 390, 1000)
    assert not covered(page)
    resized(page, 768, 1000)
    scroller = element(frames(settled(page)).first).locator(".dvn-scroller")
    page.evaluate("document.adoptedStyleSheets = []")  # of the tests, without animations
    clear = "rgba(0, 0, 0, 0)"
    look = "each => getComputedStyle(each).getPropertyValue('--more-right')"
    eventually(lambda: scroller.evaluate(look) != clear)  # its animation begins with the next frame
    scroller.evaluate("each => each.scrollTo(9999, 0)")
    eventually(lambda: scroller.evaluate(look) == clear)


def test_the_data_csv_holds_every_digit(visit: Visit) -> None:
    link = address("", **LINK, metric="sum_quantity", group_by="dim:apiKeyID", metric_key="long")
    page = settled(visit(link))
    page.get_by_role("tab", name="Data").click()
    page.wait_for_function("document.querySelectorAll('[data-testid=stDataFrame]').length == 2")
    settled(page)
    table = saved(page, frames(page).last, dtype="str")
    totals = {name: {*group["Quantity"]} for name, group in table.groupby("Series")}
    assert totals == {f"Ab{place}": {value} for place, value in enumerate(LONG)}


def test_copied_cells_are_values(visit: Visit) -> None:
    page = settled(visit(address("", **LINK, metric="sum_quantity", metric_key="short", group_by="dim:apiKeyID")))
    table, box = data_table(page, "== 2")
    text = copied(page, table, (20, 52), (box["width"] - 30, 52 + 34))
    rows = [line.split("\t") for line in text.splitlines()]
    assert [row[-2] for row in rows] == ["1234567.25"] * len(rows)
    assert len(rows) == 2


@pytest.mark.parametrize(
    ("metric_key", "group", "column", "expected"),
    [
        ("long", "dim:apiKeyID", -2, {LONG[2]}),
        ("short", "dim:total", 2, {"-60"}),
        pytest.param("short", "none", -2, {"-60"}, marks=pytest.mark.thorough),
    ],
)
def test_copied_cells_of_text_are_values(
    visit: Visit, metric_key: str, group: str, column: int, expected: set[str]
) -> None:
    parameters = {**LINK, "metric": "sum_quantity", "metric_key": metric_key, "group_by": group, "dim:apiKeyID": "Ab2"}
    page = settled(visit(address("", **parameters)))
    table, box = data_table(page, ">= 1")
    rows = copied(page, table, (20, 52), (box["width"] - 30, 52 + 4 * 34)).splitlines()
    assert len(rows) == 5
    assert {row.split("\t")[column] for row in rows} == expected


@pytest.mark.thorough  # app/test_grid has such texts
def test_a_series_that_reads_as_a_list_is_one_button(visit: Visit) -> None:
    link = address("", **LINK, metric_key="long", group_by="dim:list", **{"dim:apiKeyID": "Ab1"})
    page = settled(visit(link))
    box = frames(page).first.bounding_box()
    assert box

    def filtered() -> bool:
        page.mouse.click(box["x"] + 60, box["y"] + 52)
        settled(page)
        return parameters(page).get("dim:list") == ['[1, "z1"]']

    eventually(filtered)


@pytest.mark.parametrize(
    "group",
    [
        "dim:total",
        *(pytest.param(group, marks=pytest.mark.thorough) for group in ("customer_id", "dim:apiKeyID", "metric_key")),
    ],
)
def test_the_ranking_csv_names_its_series_and_holds_numbers(visit: Visit, group: str) -> None:
    page = settled(visit(address("", **LINK, metric="sum_quantity", metric_key="short", group_by=group, top="100")))
    table = saved(page, frames(page).first)
    assert list(table.columns) == ["series", "total", "share", "change", "shape"]
    assert table["total"].sum() == 10 * float(sum(map(Decimal, QUANTITIES)))
    assert table["share"].sum() == pytest.approx(1)
    assert table["change"].isna().all()  # the period before begins before the first event
    if group == "dim:total":
        assert {*table["series"]} == {"'=1+1", "'+cmd", "-60", "a\\rb", "'\ttab", "''tis"}
    if group == "customer_id":
        assert all(UUID(each) for each in table["series"])


def test_the_downloads_hold_every_event_and_escape_formulas_unless_they_are_to_be_exact(visit: Visit) -> None:
    page = settled(visit(address("", **LINK, metric_key="short", group_by="dim:total")))
    page.get_by_role("tab", name="Download").click()
    for escaped in (True, False):
        expected = [formulas.escaped(each) if escaped else each for each in KEYS]
        assert {*read(downloaded(page, escaped, "Data, CSV"))["label"]} == {*expected}
    page.goto(address("events", organization_id=ORGANIZATION, metric_key="short"))
    for escaped in (True, False):
        content = downloaded(page, escaped, "Prepare CSV", f"Download CSV: {10 * len(KEYS)} events")
        assert content.count(b"\n") == 10 * len(KEYS) + 1
        assert content.startswith(BOM_UTF8 + b'"id"')
        table = read(content)
        expected = [f"{each}short10" for each in KEYS]
        assert [*table["idempotency_key"][:6]] == [formulas.escaped(each) if escaped else each for each in expected]


def downloaded(page: Page, escaped: bool, *buttons: str) -> bytes:
    """The CSV that the last of the buttons gives."""
    box = page.get_by_text("Escape formulas in CSV")
    box.wait_for()
    if not escaped:
        box.click()
    for name in buttons[:-1]:
        settled(page).get_by_role("button", name=name).click()
    with settled(page).expect_download() as download:
        page.get_by_role("button", name=buttons[-1]).click()
    return download.value.path().read_bytes()


def read(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content), dtype="str", lineterminator="\n")


def test_the_whole_ranking_is_on_the_page(visit: Visit) -> None:
    link = address("", **{**LINK, "since": "2026-08-12T00:00:00Z"}, metric="sum_quantity", group_by="dim:apiKeyID")
    page = visit("about:blank")
    for width in (*further(1440, 1024), 768):
        page.set_viewport_size({"width": width, "height": 1000})
        page.goto(link)
        scroller = element(frames(settled(page)).first).locator(".dvn-scroller")
        assert scroller.evaluate("each => each.scrollWidth - each.clientWidth") <= 0, width


def test_the_ranking_fits_where_a_narrow_screen_leaves_columns_out(visit: Visit) -> None:
    link = {**WINDOW, "since": "2026-09-16T00:00:00Z", "organization_id": ACME, "group_by": "metric_key"}
    page = visit(address("", **link))
    for width in (390, *further(768), 1024, *further(1440)):
        resized(page, width, 1000)
        frame = frames(settled(page)).first
        box = frame.bounding_box()
        assert box
        assert box["x"] + box["width"] <= width
        scrolled, shown = page.locator(".dvn-scroller").first.evaluate("each => [each.scrollWidth, each.clientWidth]")
        assert scrolled <= shown, width
        headings = ["■", "Metric", "Total", "Change", "Pick"]
        if width > 390:
            headings[3:3], headings[5:5] = ["Share"], ["Shape"]
        assert [text.split()[0] for text in frame.locator("canvas th").all_inner_texts()][: len(headings)] == headings
        if width == 390:
            assert not covered(page)


@pytest.mark.thorough  # other tests look under the toolbars at 390 pixels, of Validate's list at all widths
@pytest.mark.parametrize("name", ["", "validate"])
def test_a_table_s_toolbar_covers_nothing(visit: Visit, name: str) -> None:
    page = visit(address(name, organization_id=ACME, **WINDOW))
    resized(page, 1440, 1000)
    if name == "validate":
        examined(page)
        box = frames(page).first.bounding_box()
        assert box
        page.mouse.click(box["x"] + 150, box["y"] + 50)
        page.get_by_role("button", name="Close").wait_for()
    assert not covered(page)


def covered(page: Page) -> list[str]:
    """What lies under the toolbars of the page's tables."""
    found: list[str] = []
    for frame in frames(settled(page)).all():
        frame.hover()
        toolbar = element(frame).locator('[data-testid="stElementToolbar"]')
        expect(toolbar).to_have_css("opacity", "1")  # until then it is on its way up
        found += page.evaluate(_COVERED, [toolbar.element_handle(), element(frame).element_handle()])
    return found


_COVERED = """([toolbar, frame]) => {
    const over = toolbar.getBoundingClientRect()
    return [...document.querySelectorAll('[data-testid="stMain"] :is(button, a, input, p, label)')].filter(each => {
        const its = each.getBoundingClientRect()
        return !frame.contains(each) && each.checkVisibility() && its.width && over.left < its.right
            && its.left < over.right && over.top < its.bottom && its.top < over.bottom
    }).map(each => each.outerHTML.slice(0, 80) + ': ' + each.innerText)
}"""
"""What lies under a toolbar, of the buttons, links, inputs and texts outside its table."""
