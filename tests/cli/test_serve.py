"""The same paths beside the app and alone, started by their commands."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from support import generated_events
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import config
from usage_explore.db import ddl


@pytest.mark.parametrize("alone", [True, False])
def test_both_commands_serve_the_api(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path, alone: bool
) -> None:
    generated_events.insert(events_connection, generated_events.generate(per_scene=1))
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = config.settings(
        database_url=events_database_url, organization_id=generated_events.ORGANIZATION, app_url=url
    )
    word = "api" if alone else "app"
    command = [sys.executable, "-P", "-m", "usage_explore", word, "--port", str(port)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=settings.environment(), stdout=output, stderr=output, cwd=tmp_path)
    try:
        eventually(lambda: process.poll() is not None or answers(f"{url}/api/healthz"))
        with httpx.Client(base_url=url, timeout=PATIENCE) as client:
            assert client.get("/api/readyz").json() == {"state": "ok"}
            page = client.get("/api/v1/usage-events?limit=3").json()
            assert len(page["data"]) == 3
            assert client.get("/api/openapi.json").json()["servers"] == [{"url": "/api"}]
            assert client.get("/api/nothing").headers["content-type"] == "application/problem+json"
            assert client.get("/api/v1/usage-events/export").text.count("\n") > 3
            front = client.get("/")
            assert front.status_code == (404 if alone else 200)
            assert ("<title>" in front.text) == (not alone)
    finally:
        process.terminate()
        code = process.wait(PATIENCE)
    assert code in (0, 143), log.read_text()
    assert "Traceback" not in log.read_text(), log.read_text()
