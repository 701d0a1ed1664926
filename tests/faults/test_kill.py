"""kill -9 of the embedded server and of the process that uses it: nothing is lost, and nothing stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS
from support.breakable_server import refused
from support.ports import free_port
from support.waiting import PATIENCE, eventually
from usage_explore import connect
from usage_explore.db import ddl, embedded
from usage_explore.errors import DatabaseUnavailable

DIGEST = "SELECT md5(string_agg(e::text, '|' ORDER BY id)) FROM usage_events e"


def digest(home: Path) -> object:
    """Every value of every row, in one."""
    with ddl.connect(embedded.start(home)) as connection:
        return connection.execute(DIGEST).fetchone()


def postmaster(home: Path) -> int:
    return int((home / "data" / "postmaster.pid").read_text().splitlines()[0])


@pytest.fixture
def filled(home: Path) -> Path:
    """The folder of an embedded database with the generated rows."""
    with ddl.connect(embedded.start(home)) as connection:
        ddl.ensure_schema(connection, "usage_events")
        generated_events.insert(connection, generated_events.generate(per_scene=40))
    return home


@pytest.fixture
def served(filled: Path) -> Iterator[tuple[subprocess.Popen[bytes], httpx.Client]]:
    """The app as a process of its own, and a client of its API."""
    port = free_port()
    options = ["--home", str(filled), "--port", str(port), "--organization-id", str(generated_events.ORGANIZATION)]
    with (
        subprocess.Popen(
            [sys.executable, "-m", "usage_explore", "app", "--no-demo", *options],
            stdout=subprocess.DEVNULL,
        ) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}/api", timeout=PATIENCE) as client,
    ):
        eventually(lambda: process.poll() is not None or answers(client, "/healthz"))
        yield process, client
        process.kill()


def answers(client: httpx.Client, path: str) -> bool:
    """Whether the path answers, with 200 or not at all or with a problem to come back from."""
    try:
        answer = client.get(path)
    except httpx.TransportError:
        return False
    if answer.status_code != 200:
        refused(answer)
    return answer.status_code == 200


def test_nothing_is_lost_and_nothing_stays_behind(
    filled: Path, served: tuple[subprocess.Popen[bytes], httpx.Client]
) -> None:
    process, client = served
    before = digest(filled)
    embedded.release(filled)
    page = client.get(EVENTS).json()
    assert len(page["data"]) == 25
    os.kill(postmaster(filled), signal.SIGKILL)
    eventually(lambda: answers(client, EVENTS))
    assert client.get(EVENTS).json() == page
    assert client.get(AGGREGATE).status_code == 200
    helpers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    eventually(lambda: not any(helper.is_running() for helper in helpers))
    with pytest.raises(httpx.ConnectError):
        client.get("/healthz")
    assert digest(filled) == before
    with connect(home=filled, organization_id=generated_events.ORGANIZATION) as store:
        assert [str(event.id) for event in store.events().events] == [event["id"] for event in page["data"]]
    embedded.release(filled)
    assert not (filled / "data" / "postmaster.pid").exists()


def test_an_embedded_server_that_stands_still_is_not_waited_for_for_ever(
    filled: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_MAX_START_SECONDS", 1)
    monkeypatch.setattr(embedded, "_CONNECT_SECONDS", 2)
    with connect(home=filled, organization_id=generated_events.ORGANIZATION) as store:
        os.kill(postmaster(filled), signal.SIGSTOP)
        try:
            with pytest.raises(DatabaseUnavailable, match=r"does not answer .*timeout"):
                store.events()
        finally:
            os.kill(postmaster(filled), signal.SIGCONT)
        assert store.events().events
