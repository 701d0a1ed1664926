"""Take the pictures of the app in README.md and docs/app.md, on demo data: `make pictures`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from usage_explore import AggregateQuery, EventQuery
from usage_explore.demo import ORGANIZATIONS
from usage_explore.query.queries import Period

HERE = Path(__file__).parent
ACME = next(organization_id for organization_id, name in ORGANIZATIONS.items() if name == "Acme AI")
EXPLORE = AggregateQuery(
    organization_id=ACME, metric="sum_quantity", group_by="dim:model", since="-29d/d", timezone="Europe/Berlin"
)
HOURS = AggregateQuery(organization_id=ACME, group_by="metric_key", bucket="hour", since="-23h/h")
EVENTS = EventQuery(organization_id=ACME, metric_key="tokens_out", dimensions={"region": "eu-central"})
MONTH = Period(organization_id=ACME, window="last_month")
PICTURES = {
    "explore-light": ("", EXPLORE.query_string(), "light"),
    "explore-dark": ("", f"{HOURS.query_string()}&chart=lines", "dark"),
    "events-light": ("events", EVENTS.query_string(), "light"),
    "validate-light": ("validate", MONTH.query_string(), "light"),
    "validate-dark": ("validate", MONTH.query_string(), "dark"),
}


def take(browser: Browser, address: str, name: str) -> None:
    page_name, query, scheme = PICTURES[name]
    context = browser.new_context(
        viewport={"width": 1400, "height": 900}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(f"{address}/{page_name}?{query}")
    if page_name == "validate":
        examine(page)
    page.wait_for_selector("[data-testid=stDataFrame] canvas")
    page.wait_for_timeout(3_000)
    page.screenshot(path=HERE / f"{name}.png")
    context.close()


def examine(page: Page) -> None:
    """Run the checks where they were not yet, and open the finding of the largest impact."""
    run = page.locator(".st-key-run_checks button")
    run.wait_for()
    if "Run checks again" not in run.inner_text():
        run.click()
    table = page.locator("[data-testid=stDataFrame] canvas").first
    table.wait_for(timeout=180_000)
    page.wait_for_timeout(1_000)
    box = table.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 15, box["y"] + 50)
    page.get_by_role("button", name="Close").wait_for()
    page.wait_for_selector("[data-testid=stVegaLiteChart] svg")
    page.mouse.move(5, 5)


def main() -> None:
    command = [sys.executable, "-m", "usage_explore", "app", "--no-demo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as app, sync_playwright() as playwright:
        assert app.stdout is not None
        said = next(line for line in app.stdout if "http://" in line)
        address = next(word for word in said.split() if word.startswith("http://"))
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        for name in PICTURES:
            take(browser, address, name)
        browser.close()
        app.terminate()


if __name__ == "__main__":
    main()
