"""A billing manager's walk: validate, acknowledge, sign off; then a late batch, and what changed since."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from support.browser_pages import (
    EITHER_WAY,
    Scheme,
    Site,
    address,
    at_rest,
    examined,
    in_scheme,
    parameters,
    press_twice,
    violations,
)
from support.generated_events import insert
from support.plain_events import JUNE, LARGE, event
from support.query_oracle import Row
from support.thoroughness import further
from usage_explore import connect
from usage_explore.db import ddl

WINDOW = {"since": "2026-09-01T00:00:00Z", "until": "2026-10-01T00:00:00Z"}
DAY = datetime(2026, 9, 10, 12, tzinfo=UTC)
COST = {"external_cost_amount": Decimal("0.14"), "external_cost_currency": "USD"}


def write(site: Site, rows: list[Row]) -> None:
    with ddl.connect(site.database_url) as connection:
        insert(connection, rows)
        connection.commit()


@pytest.fixture
def link(written_site: Site, organization: UUID) -> str:
    """The link to an organization's month in which 40 events were sent twice."""
    own = {"organization_id": organization, **COST}
    rows = [event(datetime(2026, 9, 30, 23, 59, tzinfo=UTC), **own)]
    for index in range(40):
        first = event(DAY + timedelta(minutes=index), customer_id=JUNE, **own)
        again = {"id": uuid4(), "ingested_at": first.ingested_at + timedelta(hours=1)}
        rows += [first, Row(**{**vars(first), **again})]
    write(written_site, rows)
    return address("validate", organization_id=str(organization), **WINDOW)


Visit = Callable[..., Page]


@pytest.fixture
def visit(written_site: Site, new_page: Callable[..., Page]) -> Visit:
    def open_page(address: str, **options: Any) -> Page:
        page = new_page(base_url=written_site.url, **options)
        page.goto(address)
        return page

    return open_page


def open_first(page: Page) -> None:
    box = page.locator('[data-testid="stDataFrame"] canvas').first.bounding_box()
    assert box
    page.mouse.click(box["x"] + 110, box["y"] + 35 + 33)
    page.get_by_role("button", name="Close").wait_for()
    at_rest(page)


def open_first_by_keyboard(page: Page) -> None:
    """Open the first finding; the table is drawn anew, and the focus stays in its row."""
    page.locator('[data-testid="stDataFrame"] canvas').first.focus()
    at_rest(page)
    page.keyboard.press("Shift+Space")
    page.get_by_role("button", name="Close").wait_for()
    at_rest(page)
    expect(page.get_by_test_id("glide-cell-1-0").first).to_be_focused()


class Held:
    """A page that gets nothing from the server after the first sign of a run of checks, until it is released."""

    def __init__(self, page: Page) -> None:
        self._is_holding = self._is_released = False
        self._messages: list[str | bytes] = []
        page.route_web_socket("**/_stcore/stream", self._pass)

    def _pass(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        self._socket = socket
        socket.on_message(server.send)
        server.on_message(self._receive)

    def _receive(self, message: str | bytes) -> None:
        if self._is_holding and not self._is_released:
            self._messages.append(message)
            return
        self._socket.send(message)
        self._is_holding |= isinstance(message, bytes) and b" checks done" in message

    def release(self) -> None:
        self._is_released = True
        for message in self._messages:
            self._socket.send(message)


def test_the_focus_waits_beside_a_control_while_a_long_run_goes_on(
    written_site: Site, link: str, new_page: Callable[..., Page]
) -> None:
    page = new_page(base_url=written_site.url, locale="en-GB")  # a page that no other test takes up
    server = Held(page)
    page.goto(link)
    button = page.locator(".st-key-run_checks button")
    button.wait_for()
    at_rest(page)
    button.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("group", name="Filter", exact=True)).to_be_focused()  # the nearest one before
    server.release()
    expect(page.get_by_role("tab", name="Findings")).to_be_visible()
    at_rest(page)
    page.keyboard.press("Tab")
    expect(button).to_be_focused()


def actions(page: Page) -> str:
    return page.locator(".st-key-finding_actions").inner_text()


def test_validate_acknowledge_sign_off_and_see_a_late_batch(
    written_site: Site, organization: UUID, link: str, visit: Visit
) -> None:
    page = examined(visit(link))
    expect(page.get_by_text("First run of this period that is kept: every finding is new.")).to_be_visible()
    open_first_by_keyboard(page)
    finding = parameters(page)["finding"][0]
    expect(page.get_by_text("New · open")).to_be_visible()
    sentence = page.get_by_text("their idempotency keys had arrived before").last
    before = sentence.bounding_box()
    page.get_by_role("button", name="Acknowledge").focus()  # by the keyboard alone
    page.keyboard.press("Enter")
    expect(page.get_by_label("Reason, if any")).to_be_visible()
    at_rest(page)
    expect(page.locator(".st-key-decide_acknowledge_form")).to_be_focused()
    expect(page.get_by_role("group", name="Acknowledge")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Reason, if any")).to_be_focused()
    page.keyboard.type("A retry, credited.")
    page.locator(".st-key-decide_acknowledge_save button").focus()
    press_twice(page)
    expect(page.get_by_role("button", name="Reopen")).to_be_visible()
    at_rest(page)
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Reopen")).to_be_focused()
    assert sentence.bounding_box() == before, "nothing on the page moves"
    expect(page.get_by_text("New · acknowledged by local")).to_be_visible()
    expect(page.get_by_text("1 acknowledged.")).to_be_visible()

    page.get_by_role("tab", name="Sign-off").click()
    button = page.locator(".st-key-sign_off button").first
    expect(button).to_be_disabled()
    expect(page.get_by_text("1 high (0 open)")).to_be_visible()
    page.get_by_label("Your name").fill("Ana Lindqvist")
    page.keyboard.press("Tab")
    expect(button).to_be_enabled()
    expect(button.locator("p")).to_have_text("Sign off")
    button.focus()
    press_twice(page)
    expect(page.get_by_text("Signed off by Ana Lindqvist").first).to_be_visible()
    expect(page.get_by_text("; unchanged at ").first).to_be_visible()
    at_rest(page)
    page.keyboard.press("Tab")  # not to the first control of the page, though all here is drawn anew
    expect(page.get_by_role("tab", name="Sign-off")).to_be_focused()

    with connect(written_site.database_url, organization) as store:
        (signed,) = store.signoffs()
        assert (signed.author, signed.events, signed.open) == ("Ana Lindqvist", 81, ())
        late = {"organization_id": organization, "customer_id": LARGE, "quantity": Decimal("2"), **COST}
        late["ingested_at"] = signed.as_of + timedelta(milliseconds=1)
        write(written_site, [event(DAY + timedelta(days=day), **late) for day in range(3)])
        page.get_by_role("button", name="Run checks again").focus()
        page.keyboard.press("Enter")
        expect(page.get_by_text("+3 events, external cost +0.42 USD, arrived late").first).to_be_visible()
        expect(page.get_by_text("Since the run of").first).to_be_visible()
        at_rest(page)
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name="Run checks again")).to_be_focused()
        with page.expect_download() as download:
            page.get_by_role("button", name="Supplements and credits, CSV").click()
        (row,) = csv.DictReader(io.StringIO(Path(download.value.path()).read_text(encoding="utf-8-sig")))
        assert (row["correction"], row["customer_id"], row["events"], row["cost"]) == (
            "supplement",
            str(LARGE),
            "3",
            "0.42",
        )
        assert len(store.runs()) == 2
        (made,) = store.decisions()
        assert made.finding.identity.id == finding

    fresh = examined(visit(f"{link}&finding={finding}"))  # a colleague's link shows what was decided
    expect(fresh.get_by_text("acknowledged by local")).to_be_visible()
    expect(fresh.get_by_text("Known since").first).to_be_visible()


@EITHER_WAY
def test_mute_assign_note_reopen_and_the_filter_accessibly(
    link: str, visit: Visit, schemes: tuple[Scheme, Scheme]
) -> None:
    page = examined(visit(link, color_scheme=schemes[0]))
    open_first(page)
    expect(page.locator('[role="group"]:focus')).to_have_count(0)  # after a click the focus is moved nowhere
    assert violations(page) == []
    page.get_by_role("button", name="Assign", exact=True).click()
    page.get_by_label("Person or team").fill("Metering team")
    page.keyboard.press("Enter")
    expect(page.get_by_text("New · open · assigned to Metering team")).to_be_visible()
    page.get_by_role("button", name="Note", exact=True).click()
    page.locator(".st-key-decide_note_text textarea").fill("A retry of the gateway.")
    page.locator(".st-key-decide_note_save button").click()
    expect(page.get_by_text("History, 2 decisions")).to_be_visible()
    page.get_by_role("button", name="Mute").click()
    page.get_by_label("Your name").fill("Ana Lindqvist")
    page.keyboard.press("Enter")  # of three buttons presses none, and the panel stays
    at_rest(page)
    page.get_by_role("button", name="For a week").click()
    expect(page.get_by_text("New · muted until")).to_be_visible()
    expect(page.locator('[data-testid="stPopoverBody"]')).to_have_count(0)
    page.get_by_text("History, 3 decisions").click()
    expect(page.get_by_text("A retry of the gateway.")).to_be_visible()
    expect(page.get_by_text("Ana Lindqvist: muted").first).to_be_visible()
    page.get_by_role("button", name="Reopen").click()
    page.locator(".st-key-decide_reopen_save button").click()
    expect(page.get_by_text("New · open")).to_be_visible()
    at_rest(page)
    page.get_by_role("tab", name="Sign-off").click()
    page.get_by_label("Your name").fill("Ana")
    page.keyboard.press("Tab")
    at_rest(page)
    assert violations(in_scheme(page, schemes[1])) == []
    for _ in further(1):
        page.goto(f"{link}&state=muted")
        examined(page)
        expect(page.get_by_text("listed with these filters")).to_be_visible()
    page.goto(f"{link}&state=assigned")
    examined(page)
    expect(page.locator('[data-testid="stDataFrame"]')).to_have_count(1)
