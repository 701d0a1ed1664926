"""What `/api/metrics` counts of the app, after a real browser has visited it."""

from __future__ import annotations

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

from browser.conftest import Visit
from support.browser_pages import Site, address, settled
from support.demo_database import ACME, WINDOW
from support.waiting import PATIENCE, eventually

Counts = dict[tuple[str, str], float]

PAGES = {"explore", "events", "validate", "customer", "load", "home", "open"}


def counts(site: Site) -> Counts:
    """The app's metrics, without buckets, by name and by the value of the label, "" without one."""
    with urlopen(f"{site.url}/api/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    return {
        (sample.name.removeprefix("usage_explore_app_"), next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.startswith("usage_explore_app_") and "le" not in sample.labels
    }


def test_sessions_and_runs_are_counted_by_page(visit: Visit, site: Site) -> None:
    before = counts(site)
    page = visit(address("", organization_id=ACME, **WINDOW))
    settled(page)
    page.goto(address("events", organization_id=ACME, limit="5"))
    settled(page)
    page.goto(address(f"{'x' * 20}"))
    page.wait_for_selector('[data-testid="stApp"][data-test-script-state="notRunning"]')

    def more(name: str, label: str) -> float:
        return counts(site)[name, label] - before.get((name, label), 0)

    assert more("run_seconds_count", "explore") >= 1
    assert more("run_seconds_count", "events") >= 1
    assert more("run_seconds_sum", "explore") > 0
    assert more("session_events_total", "connect") >= 3
    assert counts(site)["sessions", ""] >= 1
    assert {label for name, label in counts(site) if name.startswith("run_")} <= PAGES
    page.goto("about:blank")
    eventually(lambda: more("session_events_total", "disconnect") >= 3)
