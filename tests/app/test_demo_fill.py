"""The page while demo data is being made: its progress in place of charts, and the charts as soon as all is there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from support.app_pages import MAIN, opened
from support.demo_database import ACME, WINDOW
from support.waiting import PATIENCE
from usage_explore.app.demo_fill import described
from usage_explore.db import ddl, embedded
from usage_explore.db.demo_fill import FillProgress

Visit = Callable[[], AppTest]


@pytest.fixture
def visit(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Visit]]:
    """Open the Explore page on a database that stands for the embedded one."""

    def at(url: str) -> Visit:
        monkeypatch.delenv("USAGE_EXPLORE_DATABASE_URL", raising=False)
        monkeypatch.setattr(embedded, "start", lambda home: url)
        st.cache_resource.clear()
        view = {"organization_id": ACME, **WINDOW}
        return lambda: opened(AppTest.from_file(MAIN, default_timeout=PATIENCE), view)

    yield at
    st.cache_resource.clear()


def texts(page: AppTest) -> str:
    elements = (page.markdown, page.subheader, page.caption, page.info)
    return "\n".join(str(element.value) for kind in elements for element in kind)


def name(session: ddl.Connection, text: str) -> None:
    session.execute("SELECT set_config('application_name', %s, false)", [text])
    session.commit()


def test_without_a_table_the_page_shows_the_progress_of_the_demo(
    visit: Callable[[str], Visit], database_url: str
) -> None:
    open_page = visit(database_url)
    assert "There are no events yet" in texts(open_page())
    with ddl.connect(database_url) as session:
        name(session, "usage-explore demo first 12/93")
        page = open_page()
        assert "Making demo data" in texts(page)
        assert "There are no events" not in texts(page)
        assert not page.exception
        (bar,) = page.get("progress")
        assert bar.proto.text == "Demo data: 12 of 93 days"


def test_a_first_run_day_by_day_shows_no_partial_chart(visit: Callable[[str], Visit], demo_url: str) -> None:
    open_page = visit(demo_url)
    with ddl.connect(demo_url) as session:
        name(session, "usage-explore demo first 29/93")
        page = open_page()
        assert "Making demo data" in texts(page)
        assert not page.get("vega_lite_chart")


@pytest.mark.parametrize(
    ("session_name", "says_so"),
    [("usage-explore demo later 1/2", True), ("usage-explore demo extract", False), ("usage-explore", False)],
)
def test_whole_demo_data_is_drawn_while_more_is_coming(
    visit: Callable[[str], Visit], demo_url: str, session_name: str, says_so: bool
) -> None:
    open_page = visit(demo_url)
    with ddl.connect(demo_url) as session:
        name(session, session_name)
        page = open_page()
        assert page.get("vega_lite_chart")
        assert ("being brought up to now: 1 of 2 days" in texts(page)) == says_so


def test_a_database_of_ones_own_is_drawn_whatever_its_sessions_are_called(
    visit: Callable[[str], Visit], demo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page = visit(demo_url)
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", demo_url)
    with ddl.connect(demo_url) as session:
        name(session, "usage-explore demo first 29/93")
        assert open_page().get("vega_lite_chart")


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (FillProgress(done=0, total=0, first=False), "Demo data: starting"),
        (FillProgress(done=12, total=60, first=True), "Demo data: 12 of 60 days"),
        (FillProgress(done=60, total=60, first=True), "Demo data: all 60 days, creating indexes"),
    ],
)
def test_the_progress_in_words(run: FillProgress, words: str) -> None:
    assert described(run) == words
