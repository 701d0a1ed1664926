"""The filter picker, by mouse and keyboard: a filter in three clicks, three values in six."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Locator, Page, expect

from support.browser_pages import address, parameters, picture, sees, settled
from support.demo_database import ACME, WINDOW
from usage_explore import AggregateQuery, Store, formatting

LINK = {"organization_id": ACME, **WINDOW, "group_by": "metric_key"}

Visit = Callable[..., Page]


def pick(page: Page, field: str) -> None:
    page.get_by_role("button", name="Filter", exact=True).click()
    page.get_by_role("list", name="Field").get_by_role("button", name=field, exact=True).click()
    page.get_by_role("list", name=f"Values of {field}").or_(page.get_by_role("button", name="Apply")).wait_for()


def test_three_clicks_add_a_filter_to_the_link_and_the_chart(visit: Visit, store: Store) -> None:
    page = settled(visit(address("", **LINK)))
    before = picture(page)
    total = store.aggregate(AggregateQuery(**LINK, metric_key="images")).total
    page.get_by_role("button", name="Filter", exact=True).click()  # 1
    page.get_by_role("list", name="Field").get_by_role("button", name="metric", exact=True).click()  # 2
    row = page.get_by_title(f"images: {formatting.counted(total, 'event')}", exact=True)
    row.get_by_text("images").click()  # 3
    sees(page, "metric is images")
    assert parameters(page)["metric_key"] == ["images"]
    assert picture(page) != before
    expect(page.get_by_role("checkbox", name="Choose images")).to_be_checked()  # the list stays open for more
    sees(page, formatting.counted(total, "event"))
    page.get_by_role("button", name="Done", exact=True).click()
    expect(page.get_by_role("list", name="Values of metric")).to_have_count(0)
    page.get_by_role("button", name="metric is images").click()
    page.wait_for_url(lambda url: "metric_key=" not in url)
    settled(page)
    assert picture(page) == before
    pick(page, "metric")
    page.get_by_role("button", name="Not images").click()
    sees(page, "metric is not images")
    page.go_back()
    settled(page)
    assert "not:metric_key" not in parameters(page)


def test_a_field_is_found_and_a_value_filtered_to_by_the_keyboard_alone(visit: Visit) -> None:
    page = settled(visit(address("", **LINK)))
    page.get_by_role("button", name="Filter", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("searchbox", name="Field")).to_be_focused()
    page.keyboard.type("regi")
    page.keyboard.press("Enter")
    expect(page.get_by_role("searchbox", name="Values of region")).to_be_focused()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    second = page.get_by_role("list", name="Values of region").get_by_role("checkbox").nth(1)
    expect(second).to_be_focused()
    name = (second.get_attribute("aria-label") or "").removeprefix("Choose ")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile("dim%3Aregion="))
    assert parameters(page)["dim:region"] == [name]


@pytest.mark.parametrize(("width", "height"), [(390, 700), pytest.param(1400, 1200, marks=pytest.mark.thorough)])
def test_several_values_at_once_and_a_chip_edits_them(visit: Visit, width: int, height: int) -> None:
    page = settled(visit(address("", **LINK)))
    page.set_viewport_size({"width": width, "height": height})
    pick(page, "metric")
    for name in ("images", "requests"):
        page.get_by_role("checkbox", name=f"Choose {name}").check()
    page.get_by_role("searchbox", name="Values of metric").fill("tokens_in")
    page.get_by_role("checkbox", name="Choose tokens_in").check()  # the others stay ticked, though they are not listed
    chosen = ["images", "requests", "tokens_in"]
    page.wait_for_url(lambda url: parse_qs(urlsplit(url).query).get("metric_key") == chosen)
    page.get_by_role("button", name="Not ticked").click()
    page.wait_for_url(re.compile("not%3Ametric_key="))
    assert parameters(page)["not:metric_key"] == ["images", "requests", "tokens_in"]
    assert "metric_key" not in parameters(page)
    settled(page)
    page.keyboard.press("Escape")
    expect(page.get_by_role("list", name="Values of metric")).to_be_hidden()
    page.locator('[class*="st-key-edit-metric_key"] button').filter(visible=True).click()
    expect(page.get_by_role("button", name="Not ticked")).to_have_attribute("aria-pressed", "true")
    box = page.get_by_role("checkbox", name="Choose requests")
    expect(box).to_be_checked()
    box.uncheck()
    page.wait_for_url(lambda url: "requests" not in url)
    page.get_by_role("button", name="Only ticked").click()
    page.wait_for_url(lambda url: "not%3A" not in url)
    assert parameters(page)["metric_key"] == ["images", "tokens_in"]
    settled(page)
    page.go_back()
    page.wait_for_url(re.compile("not%3Ametric_key="))
    settled(page)
    expect(page.get_by_role("button", name="Not ticked")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("button", name="Untick 2").click()
    page.wait_for_url(lambda url: not {"metric_key", "not:metric_key"} & parse_qs(urlsplit(url).query).keys())


@pytest.mark.thorough  # the last test ticks in the list, app/test_picker makes the filters
def test_missing_is_a_row_like_the_others_but_is_chosen_alone(visit: Visit) -> None:
    page = settled(visit(address("", **LINK)))
    pick(page, "region")
    rows = page.get_by_role("list", name="Values of region")
    rows.get_by_text("us-east").click()
    page.wait_for_url(re.compile("dim%3Aregion=us-east"))
    rows.get_by_text("(missing)").click()  # no filter means "us-east or missing"
    page.wait_for_url(re.compile("missing=dim%3Aregion"))
    assert "dim:region" not in parameters(page)
    expect(page.get_by_role("checkbox", name="Choose us-east")).not_to_be_checked()
    page.get_by_role("button", name="Not ticked").click()
    page.wait_for_url(re.compile("not%3Amissing=dim%3Aregion"))
    rows.get_by_text("us-east").click()  # "neither" is one
    page.wait_for_url(re.compile("not%3Adim%3Aregion=us-east"))
    assert parameters(page)["not:missing"] == ["dim:region"]
    expect(page.get_by_role("button", name="Only ticked")).to_be_disabled()
    page.keyboard.press("Escape")
    page.locator('[class*="st-key-edit-dim-region"][class*="missing"] button').filter(visible=True).click()
    expect(page.get_by_role("checkbox", name="Choose (missing)")).to_be_checked()


@pytest.mark.thorough  # other tests tick several values at once, count them, and go back from each
def test_two_regions_without_one_model_take_six_clicks_and_back_undoes_each(visit: Visit, store: Store) -> None:
    clicks = 0

    def click(target: Locator) -> None:
        nonlocal clicks
        target.click()
        clicks += 1

    page = settled(visit(address("", **LINK)))
    fields = page.get_by_role("list", name="Field")
    click(page.get_by_role("button", name="Filter", exact=True))
    click(fields.get_by_role("button", name="region", exact=True))
    click(page.get_by_role("checkbox", name="Choose us-east"))
    click(page.get_by_role("checkbox", name="Choose eu-central"))  # without waiting for the first to take effect
    page.wait_for_url(lambda url: len(parse_qs(urlsplit(url).query).get("dim:region", ())) == 2)
    click(fields.get_by_role("button", name="model", exact=True))
    click(page.get_by_role("button", name="Not atlas-large", exact=True))
    page.wait_for_url(re.compile("not%3Adim%3Amodel="))
    assert clicks <= 6
    made = {"dim:region": ["eu-central", "us-east"], "not:dim:model": ["atlas-large"]}
    assert {name: parameters(page)[name] for name in made} == made
    sees(page, formatting.counted(int(store.aggregate(AggregateQuery.from_params({**LINK, **made})).total), "event"))
    seen = [parameters(page)]
    while {*made} & parameters(page).keys():
        url = page.url
        page.go_back()
        page.wait_for_url(lambda now, url=url: now != url)
        settled(page)
        seen.append(parameters(page))
    assert "not:dim:model" not in seen[1]
    assert seen[1]["dim:region"] == made["dim:region"]
    assert all(len(parameters.get("dim:region", ())) < 2 for parameters in seen[2:])


@pytest.mark.thorough  # what is missing is chosen alone, too; app/test_picker says which values are
def test_one_customer_at_a_time_is_ticked_but_several_are_excluded(visit: Visit, store: Store) -> None:
    first, second = store.scoped(ACME).customers(AggregateQuery(**LINK))[:2]
    page = settled(visit(address("", **LINK)))
    pick(page, "customer")
    for customer in (first, second):
        page.get_by_role("checkbox", name=f"Choose {customer.name}").click()
        page.wait_for_url(re.compile(f"customer_id={customer.value}"))
    settled(page)
    expect(page.get_by_role("checkbox", name=f"Choose {first.name}")).not_to_be_checked()
    page.get_by_role("button", name="Not ticked").click()
    page.wait_for_url(re.compile("not%3Acustomer_id="))
    page.get_by_role("checkbox", name=f"Choose {first.name}").click()
    page.wait_for_url(lambda url: len(parse_qs(urlsplit(url).query).get("not:customer_id", ())) == 2)
    expect(page.get_by_role("button", name="Only ticked")).to_be_disabled()


def test_a_typed_text_is_a_value_a_part_of_a_name_or_id_or_said_to_be_none(visit: Visit, store: Store) -> None:
    customer = store.scoped(ACME).customers(AggregateQuery(**LINK))[1]
    assert customer.name
    page = settled(visit(address("", **LINK)))
    pick(page, "metric")
    page.get_by_role("searchbox", name="Values of").fill("no such metric")
    page.get_by_role("button", name="Not “no such metric”").click()
    page.wait_for_url(re.compile("not%3Ametric_key="))
    assert parameters(page)["not:metric_key"] == ["no such metric"]
    expect(page.get_by_role("checkbox", name="Choose no such metric")).to_be_checked()
    settled(page)
    page.get_by_role("list", name="Field").get_by_role("button", name="customer", exact=True).click()
    for typed, said in (("Brightwater", "names: "), ("no such name", "is not a UUID, and in no customer's name or id")):
        page.get_by_role("searchbox", name="Values of customer").fill(typed)
        page.get_by_role("button", name=f"Only “{typed}”").click()
        sees(page, said)
        assert "customer_id" not in parameters(page)
    search = page.get_by_role("searchbox", name="Values of customer")
    for part in (customer.value[9:18], customer.name[1:-1].upper()):  # of the id, then of the name in another case
        search.fill(part)
        expect(page.get_by_role("checkbox", name=f"Choose {customer.name}", exact=True)).to_be_visible()
    page.get_by_role("checkbox", name=f"Choose {customer.name}", exact=True).click()
    sees(page, f"customer is {customer.name}")
    assert parameters(page)["customer_id"] == [customer.value]


@pytest.mark.thorough  # app/test_picker types the same bounds
def test_quantities_are_bounded_exactly_and_a_wrong_one_is_explained(visit: Visit, store: Store) -> None:
    page = settled(visit(address("", **LINK)))
    pick(page, "quantity")
    page.get_by_role("textbox", name="at least").fill("1,5")
    page.get_by_role("button", name="Apply").click()
    sees(page, "is not a decimal such as 2.5")
    page.get_by_role("textbox", name="at least").fill("0.000000000000000001")
    page.get_by_role("textbox", name="at most").fill("12")
    page.keyboard.press("Enter")
    sees(page, "quantity at least 0.000000000000000001")
    bounds = {"quantity_min": "0.000000000000000001", "quantity_max": "12"}
    assert {name: parameters(page)[name] for name in bounds} == {name: [value] for name, value in bounds.items()}
    sees(page, formatting.counted(store.aggregate(AggregateQuery(**LINK, **bounds)).total, "event"))
    page.locator('[class*="st-key-edit-quantity_min"] button').filter(visible=True).click()
    expect(page.get_by_role("textbox", name="at most")).to_have_value("12")
    page.get_by_role("textbox", name="at most").fill("")
    page.get_by_role("button", name="Apply").click()
    page.wait_for_url(lambda url: "quantity_max" not in url)


def test_a_cell_of_the_rows_narrows_in_two_clicks_and_back_undoes_it(visit: Visit, store: Store) -> None:
    selected = {"metric_key": "requests", "span": "2026-09-09T00:00:00Z/2026-09-10T00:00:00Z"}
    page = settled(visit(address("", **LINK, **selected)))
    table = page.locator('[data-testid="stDataFrame"]').last
    box = table.bounding_box()
    assert box
    page.mouse.click(box["x"] + 230, box["y"] + 52)  # 1: the metric of the newest event
    page.get_by_role("button", name="Not metric requests").wait_for()
    page.get_by_role("button", name="Not metric requests").click()  # 2
    page.wait_for_url(re.compile("not%3Ametric_key=requests"))
    assert parameters(page)["span"] == [selected["span"]]
    page.go_back()
    page.wait_for_url(lambda url: "not%3A" not in url)


def test_an_open_event_narrows_in_two_clicks_and_stays_open(visit: Visit, store: Store) -> None:
    page = settled(visit(address("events", organization_id=ACME, quantity_min="0")))
    box = page.locator('[data-testid="stDataFrame"]').first.bounding_box()
    assert box
    page.mouse.click(box["x"] + 330, box["y"] + 52)  # 1
    page.wait_for_url(re.compile("event="))
    only = page.get_by_role("button", name=re.compile("^Only customer "))
    only.click()  # 2
    page.wait_for_url(re.compile("customer_id="))
    assert {"customer_id", "event", "quantity_min"} <= parameters(page).keys()
    settled(page)
    expect(page.get_by_text("Event in full")).to_be_visible()
    page.go_back()
    page.wait_for_url(lambda url: "customer_id=" not in url)
    assert "event" in parameters(page)


def test_enter_ticks_the_value_that_is_the_text_and_missing_is_ticked_alone(
    new_page: Callable[..., Page],
) -> None:
    rows = [
        {"id": f"={name}", "name": name, "title": name, "find": name, "count": "", "alone": False}
        for name in ("1.50", "a+b", "(missing)", "0", "A", "a", "missing")
    ]
    rows.append({**rows[0], "id": "missing", "name": "no value", "find": "", "alone": True})
    data = {"epoch": "x", "rows": rows, "label": "Values", "placeholder": "", "none": "", "field": "dim:x"}
    data |= {"typable": True, "searched": False, "ticked": [], "action": "only", "refused": False, "current": None}
    folder = files("usage_explore.app")
    code = "\n".join(folder.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in ("elements", "picker"))
    page = new_page()
    page.set_content("<div id=place></div>")
    draw = """async ([code, data]) => {
      window.sent = []
      const { default: draw } = await import('data:text/javascript,' + encodeURIComponent(code))
      draw({ data, parentElement: document.querySelector('#place'), setTriggerValue: (_, one) => sent.push(one.ids) })
    }"""
    page.evaluate(draw, [code, data])
    values = page.get_by_role("searchbox", name="Values")
    for text, chosen in (("0", "0"), ("a", "a"), ("missing", "missing"), ("1.5", "1.50")):
        values.fill(text)
        values.press("Enter")
        assert page.evaluate("sent.pop()") == [f"={chosen}"]
        page.get_by_role("button", name="Untick 1").click()
    values.fill("")
    page.get_by_role("checkbox", name="Choose a+b").check()
    page.get_by_role("checkbox", name="Choose no value").check()
    assert page.evaluate("sent.pop()") == ["missing"]  # no filter means "a+b or missing"
    page.get_by_role("button", name="Not ticked").click()
    page.get_by_role("checkbox", name="Choose a+b").check()
    assert page.evaluate("sent.pop()") == ["=a+b", "missing"]  # "neither" is one
    expect(page.get_by_role("button", name="Only ticked")).to_be_disabled()
