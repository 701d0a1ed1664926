"""Messages of a page take turns, and those of a page that a link has left are not run."""

from __future__ import annotations

import asyncio

import pytest
from streamlit.proto.ClientState_pb2 import ClientState

from usage_explore.app import middleware
from usage_explore.app.middleware import MessageRate, PageOfTab


def test_messages_beyond_the_burst_wait_for_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    now, waited = [100.0], list[float]()

    async def sleep(seconds: float) -> None:
        waited.append(round(seconds, 6))
        now[0] += seconds

    async def send(number: int) -> None:
        for _ in range(number):
            await rate.turn()

    monkeypatch.setattr(middleware.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(middleware.asyncio, "sleep", sleep)
    rate = MessageRate(per_second=4, burst=3)
    asyncio.run(send(3))
    assert waited == []
    asyncio.run(send(2))
    assert waited == [0.25, 0.25]
    now[0] += 60
    asyncio.run(send(4))
    assert waited == [0.25, 0.25, 0.25]


def run(page: str, query: str, *, widgets: bool = False) -> ClientState:
    state = ClientState(page_script_hash=page, query_string=query)
    if widgets:
        state.widget_states.widgets.add(id="popover").bool_value = False
    return state


def test_a_widget_of_the_page_that_a_link_left_is_not_run() -> None:
    tab = PageOfTab()
    assert not tab.has_left(run("", "a=1"))
    assert not tab.has_left(run("explore", "a=1", widgets=True))
    assert not tab.has_left(run("home", "b=2"))
    assert tab.has_left(run("explore", "b=2", widgets=True))
    assert tab.has_left(run("explore", "b=2", widgets=True))
    assert not tab.has_left(run("home", "b=2", widgets=True))
    assert not tab.has_left(run("explore", "a=1"))  # back
    assert not tab.has_left(run("explore", "a=1", widgets=True))


def test_a_widget_of_the_first_page_is_not_run_after_a_link_either() -> None:
    tab = PageOfTab()
    assert not tab.has_left(run("", "a=1"))
    assert not tab.has_left(run("home", "b=2"))
    assert tab.has_left(run("explore", "b=2", widgets=True))


def test_a_page_that_the_server_went_to_is_run() -> None:
    tab = PageOfTab()
    assert not tab.has_left(run("load", "a=1", widgets=True))
    assert not tab.has_left(run("explore", "b=2", widgets=True))
    assert not tab.has_left(run("load", "a=1"))
    assert not tab.has_left(run("explore", "c=3", widgets=True))
