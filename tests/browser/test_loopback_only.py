"""Without people to sign in, the app is for this machine: not under a name made to lead here, not at every address."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect

import usage_explore.app
from support.browser_pages import CHART, Site, address
from support.demo_database import ACME, WINDOW
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import config

NUMBERS = address("explore", **WINDOW, organization_id=ACME)


@pytest.fixture
def page(new_page: Callable[..., Page]) -> Page:
    return new_page()


@pytest.mark.parametrize(("host", "answered"), [("localhost", True), ("rebound.localhost", False)])
def test_only_the_machines_own_names_are_answered(site: Site, page: Page, host: str, answered: bool) -> None:
    page.goto(f"http://{host}:{urlsplit(site.url).port}{NUMBERS}")
    if answered:
        expect(page.locator(CHART)).to_be_visible()
    else:
        expect(page.get_by_text("for the one person on its machine")).to_be_visible()
        assert not page.locator(CHART).count()


def test_streamlit_told_to_listen_everywhere_lets_nobody_in(site: Site, page: Page, tmp_path: Path) -> None:
    port = free_port()
    script = Path(usage_explore.app.__file__).with_name("main.py")
    command = [sys.executable, "-P", "-m", "streamlit", "run", str(script)]
    command += ["--server.address", "0.0.0.0", "--server.port", str(port), "--server.headless", "true"]
    settings = config.settings(database_url=site.database_url, home=tmp_path)
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(command, env=settings.environment(), stdout=log, stderr=log, cwd=tmp_path)
    try:
        eventually(lambda: process.poll() is not None or answers(f"http://127.0.0.1:{port}/_stcore/health"))
        page.goto(f"http://127.0.0.1:{port}{NUMBERS}")
        expect(page.get_by_text("which other machines can reach, without sign-in")).to_be_visible()
        assert not page.locator(CHART).count()
    finally:
        process.terminate()
        process.wait(PATIENCE)
