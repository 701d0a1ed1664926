"""Pictures are drawn by a process of their own: what ends it ends no server, and nothing is left of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import pytest

from support.api_server import AGGREGATE, asking
from support.waiting import eventually
from usage_explore import Store
from usage_explore.charts import picture
from usage_explore.charts.picture import Drawer
from usage_explore.errors import DrawingError

SPEC = json.dumps({"data": {"values": [{"a": 1}]}, "mark": "point", "encoding": {"x": {"field": "a"}}})
ENDLESS = json.dumps(
    {"data": {"sequence": {"start": 0, "stop": 100_000_000}}, "mark": "point", "encoding": {"x": {"field": "data"}}}
)


@pytest.fixture
def drawer() -> Iterator[Drawer]:
    made = Drawer()
    yield made
    made.end()


def test_a_process_that_is_killed_is_replaced(drawer: Drawer) -> None:
    assert drawer.draw(SPEC, "svg").startswith(b"<svg")
    first = drawer.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    with ThreadPoolExecutor(2) as pool:
        drawing = [pool.submit(drawer.draw, SPEC, "svg") for _ in range(2)]
        eventually(drawer._turn.locked)
        time.sleep(0.5)  # until it waits for the stopped process
        os.kill(first, signal.SIGKILL)
        outcomes = [each.exception() for each in drawing]
    assert [type(error) for error in outcomes if error] == [DrawingError]
    assert drawer.draw(SPEC, "png").startswith(b"\x89PNG")
    assert drawer.pid != first
    assert not psutil.pid_exists(first), "it was not waited for"


def test_a_picture_that_takes_too_long_is_given_up(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "MAX_DRAWING_SECONDS", 1)
    with pytest.raises(DrawingError, match="took longer than 1 s"):
        drawer.draw(ENDLESS, "svg")
    monkeypatch.undo()
    assert drawer.draw(SPEC, "svg").startswith(b"<svg")


def test_who_waits_too_long_for_others_is_told(drawer: Drawer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(picture, "_MAX_WAIT_SECONDS", 0.01)
    with drawer._turn, pytest.raises(DrawingError, match="too many others"):
        drawer.draw(SPEC, "svg")


def test_what_is_no_chart_is_said_and_ends_nothing(drawer: Drawer) -> None:
    with pytest.raises(DrawingError, match="was not drawn"):
        drawer.draw("{", "svg")
    first = drawer.pid
    assert drawer.draw(SPEC, "svg").startswith(b"<svg")
    assert drawer.pid == first


def test_it_ends_with_the_process_it_draws_for() -> None:
    script = f"""
import time
from usage_explore.charts.picture import drawer
drawer.draw({SPEC!r}, "svg")
print(drawer.pid, flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            pid = int(process.stdout.readline())
            assert psutil.pid_exists(pid)
        finally:
            process.kill()
    eventually(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_the_api_outlives_the_process_that_draws(store: Store, monkeypatch: pytest.MonkeyPatch, drawer: Drawer) -> None:
    monkeypatch.setattr("usage_explore.charts.picture.drawer", drawer)
    with asking(store) as client:

        def ask() -> httpx.Response:
            return client.get(f"{AGGREGATE}.svg")

        assert ask().status_code == 200
        pid = drawer.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            eventually(drawer._turn.locked)
            os.kill(pid, signal.SIGKILL)
            answer = asked.result()
        if answer.status_code != 200:  # it may have been replaced before it was asked
            assert answer.status_code == 500
            assert answer.json()["type"] == "urn:usage-explore:problem:not-drawn"
            assert "try again" in answer.json()["detail"]
        assert ask().text.startswith("<svg")
