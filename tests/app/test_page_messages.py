"""Messages of a page take turns, and those of a page that a link has left are not run."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.types import Message
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ClientState_pb2 import ClientState

from support.waiting import PATIENCE
from usage_explore.app import middleware
from usage_explore.app.middleware import MessageRate, PageOfTab, _wanted_messages


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


HOUR = 3600.0
MESSAGE = {"type": "websocket.receive", "bytes": BackMsg(stop_script=True).SerializeToString()}
LEFT = {"type": "websocket.disconnect", "code": 1005}


async def _no_answer(message: Message) -> None:
    raise AssertionError(message)


def test_a_tab_that_is_closed_while_its_message_waits_ends_at_once() -> None:
    """Short WebSockets of strangers, 40 at a time, used up 1,024 open files with sessions that waited for a turn."""

    async def read() -> Message:
        messages = iter([MESSAGE, LEFT])

        async def receive() -> Message:
            return next(messages)

        rate = MessageRate(per_second=1 / HOUR, burst=0)
        return await asyncio.wait_for(_wanted_messages(receive, _no_answer, [rate])(), PATIENCE)

    assert asyncio.run(read()) == LEFT


def test_a_message_that_left_gives_its_turn_back() -> None:
    async def read() -> None:
        rate = MessageRate(per_second=1 / HOUR, burst=1)
        for number in range(50):
            left = asyncio.ensure_future(rate.turn())
            await asyncio.sleep(0)
            assert left.done() == (number == 0)
            left.cancel()
        assert rate._due < time.monotonic() + HOUR

    asyncio.run(read())


def test_messages_that_come_while_one_waits_are_read_in_order() -> None:
    async def read() -> list[Message]:
        queue = asyncio.Queue[Message]()
        sent = [{**MESSAGE, "number": number} for number in range(5)]
        for message in sent[:3]:
            queue.put_nowait(message)
        following = _wanted_messages(queue.get, _no_answer, [MessageRate(per_second=50, burst=1)])
        seen = [await following(), await following(), await following()]
        for message in sent[3:]:
            queue.put_nowait(message)
        seen += [await following(), await following()]
        assert queue.empty()
        assert len(asyncio.all_tasks()) == 1
        return [message.get("number") for message in seen]

    assert asyncio.run(read()) == [0, 1, 2, 3, 4]


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
