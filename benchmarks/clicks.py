"""How long a person waits for the Explore page in a real browser, and for its first chart.

    python -m benchmarks.clicks --beside ../older-checkout

The app is served on the configured database (`USAGE_EXPLORE_HOME`, `USAGE_EXPLORE_DATABASE_URL`) with demo data. Thirty
times a control is clicked. A change takes from the press of the button to the last change of the document, after which
the script has ended and the document rests for 300 ms. What a table writes for screen readers into its canvas, up to
200 ms after it has drawn its cells, does not count. The first chart takes from the navigation in an empty browser
profile to the chart's first marks. `--beside` measures the app of another checkout in turns, click by click, so that
other work on the machine slows both alike; CPU times are of the app's process and of the browser.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

import psutil  # type: ignore[import-untyped]
from playwright.sync_api import Browser, Page, sync_playwright

from usage_explore.cli import uvicorn_server
from usage_explore.demo import ORGANIZATIONS

CHANGES = 30
FIRST_CHARTS = 5
QUIET_MILLISECONDS = 300
PATIENCE_SECONDS = 120

CLICKS = (
    "7 d",
    "quantity",
    "hour",
    "lines",
    "day",
    "30 d",
    "events",
    "bars",
    "week",
    "90 d",
)
"""Labels of the segments that are clicked in turn; every second round begins with another group."""

START = {"since": "-29d/d", "group_by": "dim:model"}
GROUPS = ("metric", "region", "customer", "status", "model")

_CHART = '[data-testid="stVegaLiteChart"] svg.marks'

_WATCH = f"""
addEventListener('pointerdown', () => {{ window.pressed = performance.now() }}, true)
new MutationObserver(changes => {{
    if (changes.some(change => !change.target.parentElement?.closest('canvas')))
        window.changed = performance.now()
    if (window.firstChart === undefined && document.querySelector('{_CHART} [aria-roledescription]'))
        window.firstChart = performance.now()
}}).observe(document, {{subtree: true, childList: true, attributes: true, characterData: true}})
"""

_SETTLED = f"""() => document.querySelector('[data-testid="stApp"]')?.dataset.testScriptState === 'notRunning'
    && document.querySelector('{_CHART}') !== null
    && performance.now() - Math.max(window.changed, window.pressed ?? 0) >= {QUIET_MILLISECONDS}"""


@dataclass
class App:
    """A served app: its name in the report, its page, and what was measured, in milliseconds."""

    name: str
    url: str
    process: psutil.Process
    changes: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)
    browser_cpu: list[float] = field(default_factory=list)
    first_charts: list[float] = field(default_factory=list)


@contextlib.contextmanager
def served(name: str, source: Path) -> Iterator[App]:
    """The app of a checkout, from its folder `src`, until the block ends."""
    port = uvicorn_server.free_port(None, first=8900)
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-P", "-m", "usage_explore", "app", "--no-demo", "--port", str(port)]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name}: the app did not start")
            time.sleep(0.1)
        yield App(name, url, psutil.Process(process.pid))
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/_stcore/health", timeout=5):
            return True
    except (URLError, OSError):
        return False


def opened(browser: Browser, app: App) -> Page:
    """The page in an empty profile, settled; its first chart is measured."""
    page = browser.new_context(viewport={"width": 1440, "height": 1000}).new_page()
    page.set_default_timeout(PATIENCE_SECONDS * 1_000)
    page.add_init_script(_WATCH)
    page.goto(f"{app.url}/?{urlencode({'organization_id': next(iter(ORGANIZATIONS)), **START})}")
    page.wait_for_function(_SETTLED, polling=50)
    app.first_charts.append(page.evaluate("window.firstChart"))
    return page


def change(page: Page, app: App, label: str) -> None:
    """Click a segment, or choose a group, and measure."""
    if label in GROUPS:
        box = page.get_by_role("combobox", name="by", exact=True)
        box.click()
        target = page.get_by_role("option", name=label, exact=True)
    else:
        target = page.get_by_role("radio", name=label, exact=True)
    target.wait_for()
    page.wait_for_function(_SETTLED, polling=50)
    before = _cpu([app.process]), _cpu(_browser())
    target.click()
    page.wait_for_function(_SETTLED, polling=50)
    app.changes.append(page.evaluate("window.changed - window.pressed"))
    app.server_cpu.append(1_000 * (_cpu([app.process]) - before[0]))
    app.browser_cpu.append(1_000 * (_cpu(_browser()) - before[1]))


def _browser() -> list[psutil.Process]:
    """The processes of the browser, which are this process's children as are Playwright's and the app's."""
    return [child for child in psutil.Process().children(recursive=True) if "chrom" in child.name()]


def _cpu(processes: list[psutil.Process]) -> float:
    """Seconds of CPU that the processes have used."""
    times = [process.cpu_times() for process in processes]
    return float(sum(used.user + used.system for used in times))


def labels() -> Iterator[str]:
    """What is clicked, without end."""
    for group in itertools.cycle(GROUPS):
        yield from CLICKS
        yield group


def table(apps: list[App]) -> str:
    """The measured times as a Markdown table."""
    lines = [
        "| app | change, median | p95 | CPU of the app | CPU of the browser | first chart |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for app in apps:
        p95 = statistics.quantiles(app.changes, n=20, method="inclusive")[18]
        columns = (app.changes, [p95], app.server_cpu, app.browser_cpu, app.first_charts)
        texts = [f"{statistics.median(values):,.0f} ms" for values in columns]
        lines.append(f"| {' | '.join([app.name, *texts])} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description="Milliseconds from a click to the settled page, in a real browser.")
    parser.add_argument("--beside", type=Path, help="another checkout, measured in turns with this one")
    parser.add_argument("--changes", type=int, default=CHANGES, help=f"of a control (default {CHANGES})")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser (default /usr/bin/chromium)")
    given = parser.parse_args()
    checkouts = {"this checkout": Path(__file__).parents[1]} | ({"beside": given.beside} if given.beside else {})
    with contextlib.ExitStack() as stack, sync_playwright() as playwright:
        apps = [stack.enter_context(served(name, folder.resolve() / "src")) for name, folder in checkouts.items()]
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        for app in apps:  # the first visit of a server opens its database and imports its pages
            opened(browser, app).context.close()
            app.first_charts.clear()
        pages = [opened(browser, app) for app in apps]
        for _ in range(FIRST_CHARTS - 1):
            for app in apps:
                opened(browser, app).context.close()
        for label in itertools.islice(labels(), given.changes):
            for page, app in zip(pages, apps, strict=True):
                page.bring_to_front()
                change(page, app, label)
        browser.close()
    print(f"{given.changes} changes, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n\n{table(apps)}")


if __name__ == "__main__":
    main()
