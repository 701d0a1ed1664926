"""One app server on a small demo database that never changes, and a real browser to visit it with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from support.api_server import command
from support.browser_pages import Site
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import Store, config, connect

Visit = Callable[..., Page]

expect.set_options(timeout=PATIENCE * 1_000)


@pytest.fixture(scope="session")
def site(demo_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("app")
    log = folder / "log"
    with log.open("wb") as output:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        settings = config.settings(database_url=demo_url, app_url=url)
        environment = {**settings.environment(), "PYTHONWARNINGS": "ignore"}
        # outside the checkout, as users start it
        process = subprocess.Popen(command("app", port), env=environment, stdout=output, stderr=output, cwd=folder)
        try:
            eventually(lambda: process.poll() is not None or answers(f"{url}/_stcore/health"))
            assert process.poll() is None, log.read_text()
            yield Site(url, demo_url)
        finally:
            process.terminate()
            process.wait(PATIENCE)
        said = log.read_text()
        assert "Traceback" not in said, said


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    with connect(site.database_url) as opened:
        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, else Playwright's own; without either these tests are skipped, in CI they fail.

    Playwright keeps an event loop running in the thread: later modules of the same process need their own.
    """
    with sync_playwright() as playwright:
        browser = _launched(playwright)
        if browser is None:
            reason = "no browser: apt-get install chromium, or playwright install chromium"
            (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
        yield browser
        browser.close()


def _launched(playwright: Playwright) -> Browser | None:
    for path in ("/usr/bin/chromium", playwright.chromium.executable_path):
        if Path(path).exists():
            return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
    return None


@pytest.fixture
def visit(chromium: Browser, site: Site) -> Iterator[Visit]:
    """Open an address of the app in a fresh browser; nothing may be fetched from elsewhere."""
    contexts = []
    strangers: list[str] = []

    def watched(request: Any) -> None:
        if urlsplit(request.url).hostname not in ("127.0.0.1", None, ""):
            strangers.append(request.url)

    def open_page(address: str, **options: Any) -> Page:
        context = chromium.new_context(viewport={"width": 1400, "height": 1200}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE * 1_000)
        page.on("request", watched)
        page.goto(address if address.startswith("http") else site.url + address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not strangers
