"""Visitors of the app in real browsers: they open links, change what is shown, page through events and go back."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from playwright.async_api import Browser, BrowserContext, Error, Page, async_playwright

import soak_questions as questions
from soak_log import Failed, Log, Marks

ACTIONS = 6
"""What one does in a window before it is closed."""

_PATIENCE = 60_000
_DRAWN = '[data-testid="stVegaLiteChart"] svg.marks, [data-testid="stAlert"], [data-testid="stDataFrame"]'
_AT_REST = '[data-testid="stApp"][data-test-script-state="notRunning"]'
_WRONG = '[data-testid="stException"], [data-testid="stAlertContentError"]'
_CHOICES = ("hour", "day", "week", "events", "quantity", "bars", "lines", "area", "7 d", "30 d", "24 h")


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium, else Playwright's own."""
    async with async_playwright() as playwright:
        system = Path("/usr/bin/chromium")
        browser = await playwright.chromium.launch(
            executable_path=system if system.exists() else None,
            args=["--no-sandbox"],
            handle_sigint=False,
            handle_sigterm=False,
        )
        try:
            yield browser
        finally:
            await browser.close()


@dataclass
class Person:
    """Somebody with a browser."""

    log: Log
    marks: Marks
    browser: Browser
    address: str
    organizations: list[UUID]
    draw: random.Random
    think: float

    async def live(self) -> None:
        """Visit the app until cancelled."""
        await self._pause()
        while True:
            context = await self.browser.new_context(viewport={"width": 1400, "height": 1000})
            try:
                await self._visit(context)
            except Failed:
                await self._pause()
            except Error as error:
                self.log.error("app in a browser", str(error))
                await self._pause()
            finally:
                await context.close()

    async def _visit(self, context: BrowserContext) -> None:
        own = self.draw.choice(self.organizations)
        page = await context.new_page()
        page.set_default_timeout(_PATIENCE)
        page.on("pageerror", lambda error: self.log.error("app in a browser", str(error)))
        page.on("request", lambda request: self._own_address(request.url))
        name, asked = questions.app_link(self.draw, own)
        with self.log.timed(f"app {name or 'explore'} opened, browser"):
            await page.goto(f"{self.address}/{name}?{urlencode(asked)}")
            await self._settled(page)
        await self._looked_at(page, own)
        changes = 0
        for _ in range(self.draw.randint(2, ACTIONS)):
            await self._pause()
            with self.log.timed("app step, browser"):
                if changes and self.draw.random() < 0.25:
                    await page.go_back()
                    changes -= 1
                else:
                    changes += await (self._older(page) if name == "events" else self._changed(page))
                await self._settled(page)
            await self._looked_at(page, own)

    async def _changed(self, page: Page) -> bool:
        """Choose something else to see; whether the address is another one now."""
        choice = page.get_by_role("radio", name=self.draw.choice(_CHOICES), exact=True)
        if not await choice.count() or await choice.first.is_checked():
            return False
        before = page.url
        await choice.first.click()
        await page.wait_for_url(lambda url: url != before)
        return True

    async def _older(self, page: Page) -> bool:
        """Turn to the next page of events; whether there is one."""
        await page.locator('[data-testid="stDataFrame"]').first.hover()
        button = page.get_by_role("button", name="Older")
        if not await button.count() or not await button.is_enabled():
            return False
        before = page.url
        await button.click()
        await page.wait_for_url(lambda url: url != before)
        return True

    async def _settled(self, page: Page) -> None:
        await page.wait_for_selector(_DRAWN)
        await page.wait_for_selector(_AT_REST)
        await page.wait_for_function("() => !document.querySelector('[data-stale=\"true\"]')")

    async def _looked_at(self, page: Page, own: UUID) -> None:
        for wrong in await page.locator(_WRONG).all_inner_texts():
            self.log.error("app in a browser", f"{wrong} at {page.url}")
        shown = await page.content()
        strangers = self.marks.strangers(shown.encode(), own, listed=True)
        self.log.law("nothing of another organization", not strangers, f"{page.url} {sorted(strangers)[:3]}")
        frames = re.search(r"[?&]organization_id=([0-9a-f-]{36})", page.url)
        self.log.law("the address names the organization", bool(frames and frames[1] == str(own)), page.url)

    def _own_address(self, url: str) -> None:
        host = urlsplit(url).hostname
        self.log.law("the app fetches nothing from elsewhere", host in ("127.0.0.1", None, ""), url)

    async def _pause(self) -> None:
        await asyncio.sleep(self.draw.uniform(0.5, 1.5) * self.think)
