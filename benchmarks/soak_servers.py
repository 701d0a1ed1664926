"""Everything the soak starts, and its end: the embedded database with demo data, the app with its API, the writer."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import psutil  # type: ignore[import-untyped]

from usage_explore import config
from usage_explore.cli import uvicorn_server
from usage_explore.db import embedded

_WRITER = Path(__file__).with_name("soak_writer.py")
_PATIENCE = 30


@dataclass(frozen=True)
class Running:
    """What runs: where the app answers, a key for each organization, whom to watch, and the settings of all."""

    address: str
    database_url: str
    keys: dict[UUID, str]
    app: psutil.Process
    postmaster: psutil.Process
    log: Path
    environment: dict[str, str]


@contextlib.contextmanager
def servers(organizations: list[UUID]) -> Iterator[Running]:
    """A database of its own with demo data, and the app on it; nothing is left of them afterwards."""
    home = Path(tempfile.mkdtemp(prefix="usage-soak-"))
    home.chmod(0o755)  # PostgreSQL runs as another user where this is root
    try:
        settings = config.settings(database_url=None, home=home, app_url=None)
        database_url = embedded.start(home)
        environment = {**settings.environment(), "PYTHONWARNINGS": "ignore"}
        _command(environment, "demo")
        keys = {
            each: _command(environment, "keys", "create", "--name", "soak", "--organization-id", str(each))
            for each in organizations
        }
        port = uvicorn_server.free_port(None, first=8900)
        address = f"http://127.0.0.1:{port}"
        log = home / "app.log"
        command = [sys.executable, "-P", "-m", "usage_explore", "app", "--no-demo", "--port", str(port)]
        with log.open("wb") as output, started(command, environment, output, output) as process:
            _wait(process, f"{address}/api/readyz", log)
            postmaster = int((home / "data" / "postmaster.pid").read_text().split()[0])
            yield Running(
                address=address,
                database_url=database_url,
                keys=keys,
                app=psutil.Process(process.pid),
                postmaster=psutil.Process(postmaster),
                log=log,
                environment=environment,
            )
    finally:
        if (home / "data").exists():
            embedded.start(home)
            embedded.release(home)
        shutil.rmtree(home)


@contextlib.contextmanager
def writer(database_url: str, rate: float, organizations: list[UUID]) -> Iterator[subprocess.Popen[bytes]]:
    """A process that appends events until it is told to stop."""
    command = [sys.executable, str(_WRITER), database_url, f"{rate:g}", *map(str, organizations)]
    with started(command, None, subprocess.PIPE, None) as process:
        yield process


@contextlib.contextmanager
def refreshing(running: Running) -> Iterator[None]:
    """The extract, refreshed every minute in a process of its own."""
    command = [sys.executable, "-P", "-m", "usage_explore", "extract", "--every", "1m"]
    with started(command, running.environment, subprocess.DEVNULL, subprocess.DEVNULL):
        yield


def differences(running: Running) -> list[str]:
    """What is wrong with the extract: nothing, where it counts what the events say."""
    command = [sys.executable, "-P", "-m", "usage_explore", "extract", "--verify"]
    done = subprocess.run(command, env=running.environment, capture_output=True, text=True)
    return [] if done.returncode == 0 else [f"extract: {done.stdout}{done.stderr}"[:1_000]]


def committed(process: subprocess.Popen[bytes]) -> dict[UUID, int]:
    """Tell the writer to stop; how many events it committed for each organization."""
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=_PATIENCE)
    return {UUID(name): number for name, number in json.loads(said).items()}


@contextlib.contextmanager
def started(
    command: list[str], environment: dict[str, str] | None, output: object, errors: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a session of its own, so that Ctrl-C reaches it through us alone; ended with all its children."""
    process = subprocess.Popen(command, env=environment, stdout=output, stderr=errors, start_new_session=True)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        family = _family(process.pid)
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_PATIENCE)
        end(family)
        process.wait()


def end(family: list[psutil.Process]) -> None:
    """Kill those that are still there, each by its own number."""
    for each in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def descendants() -> list[psutil.Process]:
    """Everything that this process started and that still runs."""
    return list(psutil.Process().children(recursive=True))


def _family(pid: int) -> list[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def _command(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-P", "-m", "usage_explore", *arguments]
    return subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(address, timeout=5).status_code == 200:
                return
        time.sleep(0.2)
    raise SystemExit(f"The app does not answer: {log.read_text()[-2000:]}")
