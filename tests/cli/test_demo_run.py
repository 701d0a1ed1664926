"""Demo data made beside the app: by one process at a time, ended with the app, equal to `usage-explore demo`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest
from click.testing import CliRunner

from support.ports import free_port
from support.waiting import PATIENCE, eventually
from usage_explore import config, console
from usage_explore.cli import demo_run
from usage_explore.cli.main import main
from usage_explore.config import Settings
from usage_explore.console import progress_bar
from usage_explore.db import ddl, embedded
from usage_explore.db import demo_fill as fill

pytestmark = pytest.mark.database


@pytest.fixture
def settings(home: Path) -> Iterator[Settings]:
    yield config.settings(home=home)
    embedded.release(home)


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    with ddl.connect(url) as connection:
        return connection.execute(statement).fetchall()


def exists(url: str, name: str) -> bool:
    return rows(url, f"SELECT to_regclass('{name}') IS NOT NULL") == [(True,)]


def is_filling(url: str) -> bool:
    return fill.progress([row[0] for row in rows(url, fill.SESSIONS)]) is not None


@contextmanager
def unfinished(url: str) -> Iterator[None]:
    """Meanwhile a first run of the demo adds its rows and does not end: it waits for the table of names."""
    with ddl.connect(url) as connection:
        ddl.ensure_schema(connection, "other_events", names_table_name="usage_names")
        connection.execute("LOCK TABLE usage_names IN SHARE MODE")
        yield


@contextmanager
def app(home: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The app as a command that makes demo data, and its address."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "usage_explore", "app", "--home", str(home), "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "usage-explore is at" in line)
            yield process, line.split()[3]
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def test_the_server_answers_meanwhile_and_ctrl_c_undoes_what_is_unfinished(home: Path, settings: Settings) -> None:
    url = config.database_url(settings)
    with unfinished(url), app(home) as (process, address):
        assert is_filling(url)
        with urlopen(f"{address}/_stcore/health") as response:
            assert response.status == 200
        with app(home) as (second, _):
            busy = [name for (name,) in rows(url, fill.SESSIONS) if not name.endswith("waiting")]
            assert len(busy) == 1
            second.send_signal(signal.SIGINT)
            assert "Traceback" not in second.communicate(timeout=PATIENCE)[0]
        assert is_filling(url)
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=PATIENCE)[0]
        assert process.returncode == 0
        assert "Traceback" not in rest
    eventually(lambda: rows(url, fill.SESSIONS) == [])
    assert not exists(url, "usage_events")
    with demo_run.beside(settings, url, wanted=True, days=1):
        eventually(lambda: exists(url, "usage_events"))
    assert rows(url, "SELECT count(*), sum(events) FROM usage_explore_demo")[0][0] == 2
    assert rows(url, "SELECT (SELECT count(*) FROM usage_events) = (SELECT sum(events) FROM usage_explore_demo)") == [
        (True,)
    ]


def test_a_killed_app_ends_its_demo_run(settings: Settings) -> None:
    url = config.database_url(settings)
    code = (
        "import time; from usage_explore import config; from usage_explore.cli import demo_run;"
        " settings = config.settings(); url = config.database_url(settings)\n"
        "with demo_run.beside(settings, url, wanted=True): print('begun', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code]
    with (
        unfinished(url),
        subprocess.Popen(command, env=settings.environment(), stdout=subprocess.PIPE, text=True) as process,
    ):
        assert process.stdout is not None
        next(line for line in process.stdout if line == "begun\n")
        assert is_filling(url)
        process.kill()
        eventually(lambda: rows(url, fill.SESSIONS) == [])
    assert not exists(url, "usage_events")


def test_demo_data_made_beside_is_that_of_the_command(settings: Settings) -> None:
    url = config.database_url(settings)
    with demo_run.beside(settings, url, wanted=True, days=1):
        eventually(lambda: exists(url, "usage_events") and rows(url, fill.SESSIONS) == [])
    ((reach,),) = rows(url, "SELECT max(loaded_until) FROM usage_explore_demo")
    with ddl.connect(url) as connection:
        other = config.settings(home=settings.home, table="other_events")
        demo_run.run(connection, other, days=1, until=reach)
    columns = "SELECT * FROM usage_events EXCEPT ALL SELECT * FROM other_events"
    assert rows(url, columns) == []
    ((one, two),) = rows(url, "SELECT (SELECT count(*) FROM usage_events), (SELECT count(*) FROM other_events)")
    assert one == two > 5_000


def test_without_demo_data_an_empty_table_is_created_and_stays_empty(settings: Settings) -> None:
    url = config.database_url(settings)
    with demo_run.beside(settings, url, wanted=False):
        assert rows(url, "SELECT count(*) FROM usage_events") == [(0,)]
    with demo_run.beside(settings, url, wanted=True):
        assert rows(url, fill.SESSIONS) == []
    assert not exists(url, "usage_explore_demo")


def test_progress_without_a_terminal_is_a_line_every_few_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(1, 100))
    monkeypatch.setattr(console, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with progress_bar("Demo data", "days", shown=True) as show:
        for day in range(1, 11):
            show(day, 10)
    assert capsys.readouterr().err.splitlines() == [f"Demo data: {day} of 10 days" for day in (1, 5, 9, 10)]
    with progress_bar("Demo data", "days", shown=False) as show:
        show(1, 10)
    assert capsys.readouterr().err == ""


def test_a_taken_port_is_refused_before_a_database_is_created(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = CliRunner().invoke(main, ["app", "--home", str(home), "--port", port])
    assert (result.exit_code, result.stderr.startswith(f"Error: --port: {port} is in use")) == (1, True)
    assert not (home / "data").exists()
