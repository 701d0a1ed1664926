"""Listening where others reach it: refused without access control, whatever the environment says; and making keys."""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from starlette.applications import Starlette

from support import generated_events
from support.api_server import EVENTS
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import config, connect
from usage_explore.access import bind_check, logs
from usage_explore.access.api_keys import Keyring
from usage_explore.cli import uvicorn_server
from usage_explore.cli.main import main
from usage_explore.db import ddl, embedded
from usage_explore.errors import ConfigurationError

Run = Callable[..., Result]

ELSEWHERE = ["0.0.0.0", "::", "192.0.2.7", "2001:db8::1", "usage.example", "localhost.example", "", "127.0.0.1.", "0"]
HERE = ["127.0.0.1", "127.0.0.2", "::1", "localhost", "LOCALHOST"]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in a folder of its own, with nothing of the user's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    url = ["--database-url", "postgresql://127.0.0.1:1/nowhere", "--home", str(tmp_path)]
    return lambda *arguments: CliRunner().invoke(main, [*url, *arguments])


def shared(home: Path) -> config.Settings:
    return config.settings(home=home)


@pytest.mark.parametrize("host", ELSEWHERE)
def test_elsewhere_needs_access_control(tmp_path: Path, host: str) -> None:
    settings = shared(tmp_path)
    with pytest.raises(ConfigurationError, match="keys create"):
        bind_check.check_api(host, settings)
    for lacks in ([], ["the sign-in"]):
        with pytest.raises(ConfigurationError, match=r"people\.toml"):
            bind_check.check_app(host, settings, lacks)
    key = Keyring(settings.keys).create(generated_events.ORGANIZATION, "a")
    settings.people.write_text("")
    bind_check.check_api(host, settings)
    bind_check.check_app(host, settings, [])
    with pytest.raises(ConfigurationError, match="missing: the sign-in"):
        bind_check.check_app(host, settings, ["the sign-in"])
    Keyring(settings.keys).revoke(key.split("_")[1])
    settings.people.write_text("[")
    with pytest.raises(ConfigurationError, match="keys create"):
        bind_check.check_api(host, settings)
    with pytest.raises(ConfigurationError, match="not TOML"):
        bind_check.check_app(host, settings, [])


@pytest.mark.parametrize("host", HERE)
def test_this_machine_needs_none_so_nothing_is_raised(tmp_path: Path, host: str) -> None:
    bind_check.check_api(host, shared(tmp_path))
    bind_check.check_app(host, shared(tmp_path), ["the sign-in"])


@pytest.mark.parametrize("command", ["api", "app"])
def test_the_commands_refuse_to_listen(tmp_path: Path, command: str) -> None:
    environment = {
        **shared(tmp_path).environment(),
        "HOME": str(tmp_path),
        "STREAMLIT_SERVER_ADDRESS": "0.0.0.0",
        "USAGE_EXPLORE_HOST": "0.0.0.0",
    }
    # in a process of its own: Streamlit keeps the settings it has read once
    result = subprocess.run(
        [sys.executable, "-P", "-m", "usage_explore", command, "--host", "0.0.0.0"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1, result.stderr
    assert "what keeps them out is missing" in result.stderr
    assert ("[auth]" in result.stderr) == (command == "app")
    assert not (tmp_path / "data").exists(), "a database was started"


def test_an_address_of_another_machine_is_named(run: Run) -> None:
    run("keys", "create", "--name", "a", "--organization-id", str(generated_events.ORGANIZATION))
    result = run("api", "--host", "192.0.2.7")
    assert result.exit_code == 1
    assert "192.0.2.7 is not an address of this machine" in result.output


def test_a_file_of_access_that_every_user_may_write_is_warned_of(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run("keys", "create", "--name", "a", "--organization-id", str(generated_events.ORGANIZATION))
    keys, people = tmp_path / "keys.json", tmp_path / "people.toml"
    people.write_text("")
    for target, name in ((logs, "to_standard_error"), (uvicorn_server, "_return_free_memory")):
        monkeypatch.setattr(target, name, lambda: None)
    for name, value in (("_SWITCH_SECONDS", sys.getswitchinterval()), ("_COLLECT_AFTER", gc.get_threshold()[0])):
        monkeypatch.setattr(uvicorn_server, name, value)
    monkeypatch.setattr(uvicorn_server._Server, "run", lambda _: None)
    monkeypatch.setenv("USAGE_EXPLORE_HOME", str(tmp_path))

    def said() -> tuple[bool, bool, bool]:
        caplog.clear()
        uvicorn_server.serve(Starlette(), "127.0.0.1", 0)
        of_keys, of_people = (f"every user of this machine can change {path.name}" for path in (keys, people))
        return of_keys in caplog.text, of_people in caplog.text, of_keys in run("keys", "list").stderr

    assert said() == (False, False, False)
    keys.chmod(0o666)
    people.chmod(0o646)
    assert said() == (True, True, True)
    keys.chmod(0o600)
    people.chmod(0o600)
    tmp_path.chmod(0o777)  # who may write a folder may replace its files
    assert said() == (True, True, True)
    tmp_path.chmod(0o1777)
    assert said() == (False, False, False)


def test_a_key_is_shown_once_listed_and_revoked(run: Run, tmp_path: Path) -> None:
    made = run("keys", "create", "--name", "billing bot", "--organization-id", str(generated_events.ORGANIZATION))
    assert made.exit_code == 0, made.output
    text = made.stdout.strip()
    key = Keyring(tmp_path / "keys.json").find(text)
    assert key is not None
    assert (key.organization_id, key.name) == (generated_events.ORGANIZATION, "billing bot")
    listed = run("keys", "list").output
    assert text.split("_", 2)[2] not in listed
    assert all(word in listed for word in (key.id, str(generated_events.ORGANIZATION), "billing bot", "valid"))
    assert run("keys", "revoke", key.id).output == f"Revoked {key.id} (billing bot).\n"
    assert "revoked" in run("keys", "list").output
    assert Keyring(tmp_path / "keys.json").find(text) is None
    unknown = run("keys", "revoke", "nothing")
    assert (unknown.exit_code, "keys list" in unknown.output) == (1, True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--name", "a"], "--organization-id: is missing"),
        (["--name", " ", "--organization-id", str(generated_events.ORGANIZATION)], "--name"),
        (["--name", "a\nb", "--organization-id", str(generated_events.ORGANIZATION)], "--name"),
        (["--name", "a", "--organization-id", "x"], "is not a UUID"),
    ],
)
def test_a_key_needs_an_organization_and_a_name(run: Run, tmp_path: Path, arguments: list[str], said: str) -> None:
    result = run("keys", "create", *arguments)
    assert result.exit_code == 1
    assert said in result.output
    assert not (tmp_path / "keys.json").exists()


def test_keys_can_be_made_before_the_embedded_database(home: Path) -> None:
    place = home / "new"
    Keyring(place / "keys.json").create(generated_events.ORGANIZATION, "a")
    try:
        with connect(embedded.start(place)) as store:
            assert store.now()
    finally:
        embedded.release(place)


def _other_address() -> str | None:
    """An address of this machine that others reach, found without sending anything."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        found = str(probe.getsockname()[0])
        return None if bind_check.is_this_machine(found) else found
    return None


@pytest.fixture
def open_door(events_database_url: str, events_connection: ddl.Connection, tmp_path: Path) -> Iterator[int]:
    """The API alone, listening everywhere, with one key; its port."""
    generated_events.insert(events_connection, generated_events.generate(per_scene=1))
    settings = config.settings(database_url=events_database_url, home=tmp_path)
    (tmp_path / "key").write_text(Keyring(settings.keys).create(generated_events.ORGANIZATION, "a"))
    port = free_port()
    command = [sys.executable, "-P", "-m", "usage_explore", "api", "--host", "0.0.0.0", "--port", str(port)]
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=settings.environment(), stdout=output, stderr=output, cwd=tmp_path)
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/api/healthz") or process.poll() is not None)
        yield port
    finally:
        process.terminate()
        process.wait(PATIENCE)
    text = log.read_text()
    assert "Traceback" not in text, text
    assert (tmp_path / "key").read_text() not in text, "a key is in the log"


def test_listening_everywhere_stays_closed_when_the_keys_go(open_door: int, tmp_path: Path) -> None:
    key = {"Authorization": f"Bearer {(tmp_path / 'key').read_text()}"}
    address = _other_address()
    question = {"organization_id": str(generated_events.ORGANIZATION)}
    for host in filter(None, ("127.0.0.1", address)):
        url = f"http://{host}:{open_door}/api{EVENTS}"
        assert httpx.get(url, params=question, headers=key).status_code == 200
        assert httpx.get(url, params=question).status_code == 401
    (tmp_path / "keys.json").unlink()
    for host in filter(None, ("127.0.0.1", address)):
        url = f"http://{host}:{open_door}/api{EVENTS}"
        for headers in ({}, {"Host": "localhost"}, {"Host": "127.0.0.1"}, key):
            assert httpx.get(url, params=question, headers=headers).status_code == 401
