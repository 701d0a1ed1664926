"""What a visitor of the app does and sees, in a real browser."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit
from uuid import uuid4

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from playwright.sync_api import Browser, Locator, Page, expect

from support.waiting import PATIENCE, eventually

CHART = '[data-testid="stVegaLiteChart"] svg.marks'
ALERT = '[data-testid="stAlert"]'

_DISABLED_FEATURES = (
    *("WebUIOmniboxPopup", "WebUIOmniboxAimPopup"),
    # Playwright's own list, which this one replaces
    *("AvoidUnnecessaryBeforeUnloadCheckSync", "DestroyProfileOnBrowserClose", "HttpsUpgrades"),
    *("HttpsFirstBalancedModeAutoEnable", "LensOverlay", "MediaRouter", "PaintHolding"),
    *("ThirdPartyStoragePartitioning", "AvoidCorsURLLoaderRestartOnRedirect", "TcpPortRandomizationWin"),
    *("OptimizationHints", "NetworkTimeServiceQuerying", "AimEnabled", "PreconnectToSearch"),
    *("msForceBrowserSignIn", "msEdgeUpdateLaunchServicesPreferredVersion"),
)
"""Chromium draws the address bar's two popups as pages, in a process for each window: 0.6 to 0.7 s of CPU."""

BROWSER_FLAGS = (
    "--no-sandbox",
    "--js-flags=--min-semi-space-size=32 --no-opt",
    f"--disable-features={','.join(_DISABLED_FEATURES)}",
)
"""A tenth of the CPU less: room for what a page makes anew, and no optimized code, as no page lives long enough."""

_NO_TRANSITIONS = """{
    const sheet = new CSSStyleSheet()
    sheet.replaceSync('*, *::before, *::after { transition: none !important; animation: none !important }')
    document.adoptedStyleSheets = [sheet]
}"""
"""Run before a page's own scripts: nothing fades, which would be drawn 60 times a second."""


@dataclass(frozen=True)
class Site:
    """A running app, and the database it shows."""

    url: str
    database_url: str


class KeptPages:
    """Pages of one browser that tests use one after the other, each in a profile of its own.

    A page that is used again has compiled the app's scripts already and needs no new window: it loads the app in 2.2 s
    of CPU instead of 4.8 s. Between two tests it loses its document, cookies, stored values and permissions.
    """

    def __init__(self, browser: Browser) -> None:
        self._browser = browser
        self._free: defaultdict[str, list[Page]] = defaultdict(list)
        self._taken: list[tuple[str, Page]] = []
        self._hosts: set[str] = set()

    def take(self, color_scheme: Any = "light", **options: Any) -> Page:
        """An empty page of 1,400 × 1,200 pixels in a context with these options."""
        key = repr(sorted(options.items()))
        page = self._free[key].pop() if self._free[key] else self._new(options)
        self._taken.append((key, page))
        page.set_viewport_size({"width": 1400, "height": 1200})
        page.emulate_media(color_scheme=color_scheme, reduced_motion="reduce")  # animations cost a tenth of the CPU
        return page

    def release(self) -> set[str]:
        """Empty the pages that were taken; the hosts that they sent requests to."""
        for key, page in self._taken:
            if urlsplit(page.url).scheme == "http":
                page.evaluate("localStorage.clear(); sessionStorage.clear()")
            page.goto("about:blank")
            page.context.clear_cookies()
            page.context.clear_permissions()
            self._free[key].append(page)
        self._taken.clear()
        hosts, self._hosts = self._hosts, set()
        return hosts

    def _new(self, options: dict[str, Any]) -> Page:
        page = self._browser.new_context(**options).new_page()
        page.add_init_script(_NO_TRANSITIONS)
        page.set_default_timeout(PATIENCE * 1_000)
        page.on("request", lambda request: self._hosts.update(filter(None, [urlsplit(request.url).hostname])))
        return page


def address(page: str, **parameters: str | list[str]) -> str:
    return f"/{page}?{urlencode(parameters, doseq=True)}"


def settled(page: Page) -> Page:
    """Wait until the page has drawn its chart or table, or said why not, and runs no more."""
    page.wait_for_selector(f'{CHART}, {ALERT}, [data-testid="stDataFrame"]')
    return at_rest(page)


QUIET_MILLISECONDS = 300
"""How long a page at rest has not changed: twice as long as tables and charts hold an event back.

Streamlit fades what it computes anew and back in, which changes no part of the document but its contrast.
"""

_AT_REST = """([call, quiet]) => {
    if (window.observedChanges === undefined) {
        window.observedChanges = new MutationObserver(() => { window.lastChange = performance.now() })
        const all = {subtree: true, childList: true, attributes: true, characterData: true}
        window.observedChanges.observe(document, all)
    }
    const app = document.querySelector('[data-testid="stApp"]')
    const fading = document.getAnimations().some(
        each => each.playState === 'running' && Number.isFinite(each.effect.getComputedTiming().endTime))
    if (window.restCall !== call || fading || app?.dataset.testScriptState !== 'notRunning') {
        window.restCall = call
        window.lastChange = performance.now()
    }
    return performance.now() - window.lastChange >= quiet
}"""


def at_rest(page: Page) -> Page:
    """Wait until the page runs no more and its document no longer changes."""
    page.wait_for_function(_AT_REST, arg=[uuid4().hex, QUIET_MILLISECONDS], polling=50)
    return page


_NOTICED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 200))))"
"""Waits for two frames and 200 ms: `room.js` sends a new width to the server 100 ms after the page was resized."""


def resized(page: Page, width: int, height: int) -> Page:
    """Resize a page at rest, and wait until the server knows its new size and it is at rest again."""
    at_rest(page)
    page.set_viewport_size({"width": width, "height": height})
    page.evaluate(_NOTICED)
    return at_rest(page)


def examined(page: Page) -> Page:
    """Run the checks, if they have not run for this period yet."""
    found = page.locator(".st-key-run_checks button")
    found.wait_for()
    at_rest(page)  # a button that is drawn anew between press and release takes no click
    if "Run checks again" not in found.inner_text():
        found.click()
    page.get_by_role("tab", name="Findings").wait_for()
    return settled(page)


def press_twice(page: Page, key: str = "Enter") -> None:
    """Press a key twice, 120 ms apart: the page sends the second press before it has followed the first."""
    page.keyboard.press(key)
    page.wait_for_timeout(120)
    page.keyboard.press(key)


def choice(page: Page, name: str) -> Locator:
    """A segment of a segmented control."""
    return page.get_by_role("radio", name=name, exact=True)


def parameters(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query, keep_blank_values=True)


def sees(page: Page, text: str) -> None:
    """Wait until the text is on the page, and the page is at rest."""
    expect(page.get_by_text(text).first).to_be_visible()
    settled(page)


_PICTURE = "document.querySelector(selector)?.outerHTML.replace(/clip\\d+|gradient_\\d+/g, 'part')"


def picture(page: Page) -> str:
    """The chart as the browser drew it, without the numbers a rendering gives its parts."""
    return str(page.evaluate(f"selector => {_PICTURE}", CHART))


def shows(page: Page, expected: str) -> None:
    """Wait until the chart is this picture, and the page is at rest: a busy browser rests before it draws, too."""
    page.wait_for_function(f"([selector, expected]) => {_PICTURE} === expected", arg=[CHART, expected], polling=50)
    settled(page)
    assert picture(page) == expected


@dataclass(frozen=True)
class Bar:
    """One bar of the chart: how high it is, and where its middle is on the screen."""

    value: float
    x: float
    y: float


def bars(page: Page, series: str) -> list[Bar]:
    """The finished bars of a series, as their accessible labels tell them."""
    found = []
    for each in page.locator(f'{CHART} [aria-label*="series: {series};"][aria-label*="state: complete"]').all():
        told = dict(part.split(": ", 1) for part in (each.get_attribute("aria-label") or "").split("; "))
        box = each.bounding_box()
        assert box
        value = float(told["value"].replace(",", ""))
        found.append(Bar(value, box["x"] + box["width"] / 2, box["y"] + box["height"] / 2))
    return found


def table_csv(page: Page, table: Locator) -> str:
    """What a table's own "Download as CSV" saves, its byte order mark left out."""
    # Chromium's own file dialog cannot be answered by a test; without it Streamlit lets the browser download
    page.evaluate("window.showSaveFilePicker = undefined")
    table.hover()
    with page.expect_download() as download:
        table.get_by_role("button", name="Download as CSV").dispatch_event("click")
    return download.value.path().read_bytes().decode("utf-8-sig")


def copied(page: Page, table: Locator, first: tuple[float, float], last: tuple[float, float]) -> str:
    """The text on the clipboard after the cells between two places in a table are selected and copied.

    They are selected again until something is copied: a table that is drawn anew loses its selection.
    """
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.evaluate("navigator.clipboard.writeText('')")

    def text() -> str:
        box = table.bounding_box()
        assert box
        page.mouse.click(box["x"] + first[0], box["y"] + first[1])
        page.keyboard.down("Shift")
        page.mouse.click(box["x"] + last[0], box["y"] + last[1])
        page.keyboard.up("Shift")
        page.keyboard.press("Control+c")
        return str(page.evaluate("navigator.clipboard.readText()"))

    found = [""]
    eventually(lambda: found.append(text()) or found[-1])
    return found[-1]


Scheme = Literal["light", "dark"]

SCHEMES: tuple[Scheme, Scheme] = ("light", "dark")

EITHER_WAY = pytest.mark.parametrize("schemes", [SCHEMES, pytest.param(SCHEMES[::-1], marks=pytest.mark.thorough)])
"""For a test that sees its first states in one colour scheme and the others in the other: the reverse is thorough."""


def in_turns(values: Iterable[Any]) -> list[Any]:
    """Parameters: each value with one colour scheme, in turns; with the other one it is thorough."""
    made = [*zip(values, itertools.cycle(SCHEMES), strict=False)]
    others = [pytest.param(each, SCHEMES[scheme == "light"], marks=pytest.mark.thorough) for each, scheme in made]
    return [*made, *others]


def in_scheme(page: Page, scheme: Scheme) -> Page:
    """The page at rest as it is in a colour scheme; the app's charts and own colours follow by a run of the page."""
    if not page.evaluate(f"matchMedia('(prefers-color-scheme: {scheme})').matches"):
        page.emulate_media(color_scheme=scheme)
        page.wait_for_function(_FOLLOWS, arg=CHART)
    return at_rest(page)


_FOLLOWS = """selector => {
    const [chart, app] = [selector, '.stApp'].map(each => document.querySelector(each))
    return !chart || getComputedStyle(chart).backgroundColor === getComputedStyle(app).backgroundColor
}"""
"""Whether the chart, if there is one, has the background of the page."""

EXCLUDED = {
    ".brush_brush_bg, .brush_brush": "Vega-Lite's two marks for the brush, which take no name",
    '[data-testid="stFileUploaderDropzone"]': "Streamlit's drop area has a presentation role and a tabindex",
}
"""What axe-core leaves out, by selector, and why: each is drawn by a library and cannot be changed from here."""


_VIOLATIONS = "context => axe.run(context, {resultTypes: ['violations']}).then(results => results.violations)"


def violations(page: Page, within: str | None = None) -> list[str]:
    """What axe-core finds wrong on the page, or within a part of it: the rule, the part of the page, and why."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
    context = {"exclude": [[selector] for selector in EXCLUDED], **({"include": [[within]]} if within else {})}
    found = page.evaluate(_VIOLATIONS, context)  # without what passed, which is most of a result
    return [
        f"{violation['id']}: {' '.join(node['target'])}: {node['html'][:200]}: {node['failureSummary']}"
        for violation in found
        for node in violation["nodes"]
    ]
