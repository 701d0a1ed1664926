"""One app server on a small demo database that never changes, and a real browser to visit it with."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from support.api_server import command
from support.browser_pages import BROWSER_FLAGS, KeptPages, Site
from support.database_servers import fresh_database
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import Store, config, connect

Visit = Callable[..., Page]

expect.set_options(timeout=PATIENCE * 1_000)


@pytest.fixture(scope="session")
def site(demo_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with _serving(demo_url, tmp_path_factory.mktemp("app")) as served:
        yield served


@pytest.fixture(scope="session")
def written_site(server_url: str, _template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server on a database that tests write to, each for an organization of its own; a server takes 4 s of CPU."""
    with fresh_database(server_url, _template) as url, _serving(url, tmp_path_factory.mktemp("written")) as served:
        yield served


@pytest.fixture
def organization() -> UUID:
    """An organization that no other test writes for."""
    return uuid4()


@pytest.fixture
def empty_site(events_database_url: str, tmp_path: Path) -> Iterator[Site]:
    """A server of its own on an empty table, which may be written to."""
    with _serving(events_database_url, tmp_path) as served:
        yield served


@contextmanager
def _serving(database_url: str, folder: Path) -> Iterator[Site]:
    log = folder / "log"
    with log.open("wb") as output:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        settings = config.settings(database_url=database_url, app_url=url)
        environment = {**settings.environment(), "PYTHONWARNINGS": "ignore"}
        # outside the checkout, as users start it
        process = subprocess.Popen(command("app", port), env=environment, stdout=output, stderr=output, cwd=folder)
        try:
            eventually(lambda: process.poll() is not None or answers(f"{url}/_stcore/health"))
            assert process.poll() is None, log.read_text()
            yield Site(url, database_url)
        finally:
            process.terminate()
            process.wait(PATIENCE)
        said = log.read_text()
        assert "Traceback" not in said, said


@pytest.fixture
def store(site: Site) -> Iterator[Store]:
    with connect(site.database_url) as opened:
        yield opened


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Debian's Chromium, else Playwright's own; without either these tests are skipped, in CI they fail.

    Playwright keeps an event loop running in the thread, which tests outside this package must not have.
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
            return playwright.chromium.launch(executable_path=path, args=BROWSER_FLAGS)
    return None


@pytest.fixture(scope="package")
def kept_pages(chromium: Browser) -> KeptPages:
    return KeptPages(chromium)


@pytest.fixture
def new_page(kept_pages: KeptPages) -> Iterator[Callable[..., Page]]:
    """Open an empty page in a profile without cookies or stored values; nothing may be fetched from elsewhere."""
    yield kept_pages.take
    assert [host for host in kept_pages.release() if not f".{host}".endswith((".127.0.0.1", ".localhost"))] == []


@pytest.fixture
def visit(new_page: Callable[..., Page], site: Site) -> Visit:
    """Open an address of the app as in a fresh browser; later `page.goto(address)` loads another one."""

    def open_page(address: str, **options: Any) -> Page:
        page = new_page(base_url=site.url, **options)
        page.goto(address)
        return page

    return open_page
