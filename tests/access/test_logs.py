"""One line of JSON for each request, whatever is in it, and never a secret."""

from __future__ import annotations

import json
import logging
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import httpx
import pytest

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, command, raw
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import config
from usage_explore.access import logs
from usage_explore.access.api_keys import Keyring
from usage_explore.db import ddl
from usage_explore.query.queries import EventQuery

PASSWORD = "correct horse"
TOKEN = "IjP_SkWTyJ-63bqDvbwBqA"
WINDOW = "since=2026-05-01T00:00:00Z&until=2026-11-10T00:00:00Z"


def line(message: str = "request", **fields: Any) -> dict[str, Any]:
    record = logging.LogRecord("usage_explore", logging.INFO, "", 0, message, None, None)
    record.fields = fields
    written = logs.JsonLines().format(record)
    assert written.isascii()
    assert written.isprintable()
    return json.loads(written)


def with_password(url: str) -> str:
    """The URL with a password that the server does not ask for."""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    user = user.partition(":")[0] or "postgres"
    return urlunsplit(parts._replace(netloc=f"{user}:{PASSWORD.replace(' ', '%20')}@{host}"))


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\n{}", "\x1b[31m", "\u2028", "\u202etxt", "\x00", '"}\n{"level": "error"']
)
def test_no_value_makes_a_line_of_its_own(text: str) -> None:
    assert line(query={text: [text]})["query"] == {text: [text]}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a ue_0a1b2c3d_" + "x-_" * 14 + ".", "a ue_***."),
        ("at postgresql://ana:p%20w@db:5432/x", "at postgresql://ana:***@db:5432/x"),
        ("host=db password=secret dbname=x", "host=db password=*** dbname=x"),
        ("password='two words' dbname=x", "password=*** dbname=x"),
        ("metric_key=ue_small", "metric_key=ue_small"),
    ],
)
def test_secrets_are_blotted_out(text: str, left: str) -> None:
    assert line(text)["event"] == left
    assert line(reason=text)["reason"] == left


def test_a_query_in_the_log_is_bounded() -> None:
    told = logs.parameter_fields([(f"{number}" * 1_000, "v" * 100_000) for number in range(5_000)])
    assert len(json.dumps(told)) < 100_000
    assert logs.parameter_fields([("token", "abc"), ("metric_key", "k"), ("dim:model", "m")]) == {
        "token": ["…"],
        "metric_key": ["k"],
        "dim:model": ["m"],
    }
    asked = EventQuery.from_params([("metric_key", "k" * 5_000), *((f"dim:{n}", "v") for n in range(20))])
    assert len(json.dumps(logs.query_fields(asked))) < 5_000


@pytest.mark.parametrize("word", ["api", "app"])
def test_every_request_is_one_line_without_secrets(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path, word: str
) -> None:
    generated_events.insert(events_connection, generated_events.generate(per_scene=1))
    url = with_password(events_database_url)
    settings = config.settings(database_url=url, home=tmp_path, app_url="http://127.0.0.1")
    key = Keyring(settings.keys).create(generated_events.ORGANIZATION, "billing bot")
    gone = Keyring(settings.keys).create(generated_events.ORGANIZATION, "revoked")
    Keyring(settings.keys).revoke(gone.split("_")[1])
    port = free_port()
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command(word, port), env=settings.environment(), stdout=subprocess.DEVNULL, stderr=output, cwd=tmp_path
        )
    base = f"http://127.0.0.1:{port}/api"
    sent = 0
    with httpx.Client(
        base_url=base, headers={"Authorization": f"Bearer {key}", "Cookie": "c=biscuit"}, timeout=PATIENCE
    ) as client:
        eventually(lambda: process.poll() is not None or answers(f"{base}/healthz"))

        def ask(path: str, status: int, **headers: str) -> None:
            nonlocal sent
            sent += 1
            assert client.get(path, headers={"X-Request-ID": f"id-{sent}", **headers}).status_code == status

        ask(f"{EVENTS}?limit=3&metric_key=tokens_in", 200)
        ask(f"{AGGREGATE}?{WINDOW}&bucket=week", 200)
        ask(f"{AGGREGATE}?{WINDOW}", 200, Accept="text/csv")
        ask(f"{AGGREGATE}.svg?{WINDOW}", 200)
        ask(EXPORT, 200)
        ask(f"{EVENTS}?key={key}", 400)
        ask(f"{EVENTS}?dim:{key}={key}&metric_key={key}", 200)
        ask(f"/{key}", 404)
        for place in ("v1/links/", "s/", "embed/"):
            ask(f"/{place}{TOKEN}", 405 if place == "v1/links/" else 404)
        ask(f"/a%0D%0A%7B%7D%1B%5B31m{key}", 404)
        ask(EVENTS, 200, **{"X-Request-ID": key})
        ask(EVENTS, 401, Authorization=f"Bearer {gone}")
        ask(EVENTS, 401, Authorization=f"Bearer {key}x")
        ask(EVENTS, 401, Authorization=f"Basic {key}")
        ask(f"{EVENTS}?organization_id={generated_events.NEIGHBOUR}", 403)
        ask(f"{EVENTS}?limit=0&nonsense=secret%0Aword", 400)
        events_connection.execute("ALTER TABLE usage_events RENAME TO elsewhere")
        events_connection.commit()
        ask(f"{EVENTS}?limit=7", 503)
        assert raw(client, b"/v1/usage-events?%FF%00=%0A")[0] == 401
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE) == 0
    said = log.read_text()
    for secret in (TOKEN, key, key.split("_", 2)[2], gone.split("_", 2)[2], PASSWORD, "correct%20horse", "biscuit"):
        assert secret not in said
    lines = [json.loads(each) for each in said.splitlines()]
    found = {
        each["request_id"]: each for each in lines if each["event"] == "request" and each["path"] != "/api/healthz"
    }
    assert len(found) == sent + (word == "api")  # a path of two lines is none of the API's beside the app
    assert {"level", "time", "method", "path", "status", "ms", "bytes", "client"} <= set(found["id-1"])
    user = {"key": key.split("_")[1], "name": "billing bot"}
    assert found["id-1"]["user"] == user
    assert found["id-1"]["rows"] <= 3
    assert found["id-1"]["query"] == {"limit": ["3"], "metric_key": ["tokens_in"]}
    assert found["id-1"]["organization_id"] == str(generated_events.ORGANIZATION)
    assert found["id-2"]["query"]["bucket"] == ["week"]
    assert found["id-6"]["query"] == {"key": ["…"]}
    assert found["id-6"]["problem"] == "query"
    assert found["id-14"]["user"] is None
    assert found[f"id-{sent}"]["level"] == "warning"
    assert found[f"id-{sent}"]["problem"] == "mismatch"
    assert "usage_events" in found[f"id-{sent}"]["reason"]
