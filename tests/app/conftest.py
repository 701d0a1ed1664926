"""The app's script run in this process, on a small demo database that never changes."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterator

import pytest
import streamlit as st
from psycopg import sql
from streamlit.components.v2 import manifest_scanner
from streamlit.testing.v1 import AppTest, local_script_runner

from support.app_pages import MAIN, Open, opened, validate_page
from support.waiting import PATIENCE
from usage_explore import Store, connect
from usage_explore.app import problems
from usage_explore.db import ddl
from usage_explore.records.tables import DECISIONS, LINKS, RUNS, SIGNOFFS, VIEWS


@pytest.fixture(autouse=True, scope="session")
def _one_scan() -> Iterator[None]:
    """Scan the installed packages for components of Streamlit once; each `AppTest` would, for 0.3 s of CPU."""
    with pytest.MonkeyPatch.context() as patch:
        once = functools.cache(manifest_scanner.scan_component_manifests)
        patch.setattr(manifest_scanner, "scan_component_manifests", once)
        yield


@pytest.fixture(autouse=True, scope="session")
def _waits_at_rest() -> Iterator[None]:
    """Wait for the end of a script's thread; `AppTest` would wake up each millisecond and hold the script back."""
    whether_it_ended = local_script_runner.require_widgets_deltas

    def ended(runner: local_script_runner.LocalScriptRunner, timeout: float) -> None:
        if runner._script_thread is not None:
            runner._script_thread.join(timeout)
        whether_it_ended(runner, 0.1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local_script_runner, "require_widgets_deltas", ended)
        yield


@pytest.fixture(autouse=True)
def _nothing_unforeseen() -> Iterator[None]:
    """Fail a test in which a page failed unexpectedly: the page says so in one box among others."""
    failures: list[logging.LogRecord] = []
    kept = logging.Handler(logging.ERROR)
    kept.emit = failures.append  # type: ignore[method-assign]
    problems._log.addHandler(kept)
    yield
    problems._log.removeHandler(kept)
    assert [str(record.exc_info and record.exc_info[1]) for record in failures] == []


@pytest.fixture
def demo_url(demo_url: str) -> str:
    """The demo database without records: what a test before found with files would be open in this one."""
    with ddl.connect(demo_url) as connection:
        for kind in (VIEWS, DECISIONS, RUNS, SIGNOFFS, LINKS):
            connection.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(kind.name)))
    return demo_url


@pytest.fixture
def store(demo_url: str) -> Iterator[Store]:
    with connect(demo_url) as opened:
        yield opened


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Point the app at a database; nothing is remembered from the test before."""

    def point(url: str, **settings: str) -> None:
        monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", url)
        for name, value in settings.items():
            monkeypatch.setenv(f"USAGE_EXPLORE_{name}", value)
        st.cache_resource.clear()

    yield point
    st.cache_resource.clear()


@pytest.fixture
def explore(use: Callable[..., None], demo_url: str) -> Open:
    """Open the Explore page with these parameters."""
    use(demo_url)
    return lambda **parameters: opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), parameters)


@pytest.fixture
def events(use: Callable[..., None], demo_url: str) -> Open:
    """Open the Events page with these parameters."""
    use(demo_url)
    return lambda **parameters: opened(AppTest.from_function(_events_page, default_timeout=PATIENCE), parameters)


def _events_page() -> None:
    from usage_explore.app.main import run

    run("events")


@pytest.fixture
def validate(use: Callable[..., None], demo_url: str) -> Open:
    """Open the Validate page with these parameters, with the checks that are shipped."""
    use(demo_url)
    return lambda **parameters: opened(AppTest.from_function(validate_page, default_timeout=PATIENCE), parameters)


@pytest.fixture
def customer(use: Callable[..., None], demo_url: str) -> Open:
    """Open the Customer page with these parameters."""
    use(demo_url)
    return lambda **parameters: opened(AppTest.from_function(_customer_page, default_timeout=PATIENCE), parameters)


def _customer_page() -> None:
    from usage_explore.app.main import run

    run("customer")
