"""The built wheel carries the app and works outside the checkout."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest
from google.protobuf.json_format import MessageToDict
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.NewSession_pb2 import NewSession
from websockets.sync.client import connect

from support.waiting import PATIENCE

CHECKOUT = Path(__file__).parents[2]
SETTINGS = ["client.showErrorDetails", "server.fileWatcherType", "browser.gatherUsageStats", "server.maxUploadSize"]
ANOTHER_APP = """
[theme]
base = "dark"
font = "serif"
primaryColor = "#ff0000"
[theme.dark.sidebar]
backgroundColor = "#00ff00"
[client]
showErrorDetails = "full"
toolbarMode = "developer"
[server]
fileWatcherType = "poll"
maxUploadSize = 7
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder the wheel was unpacked into, built from the sdist of a copy: nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    copy = folder / "copy"
    shutil.copytree(CHECKOUT / "src", copy / "src", ignore=shutil.ignore_patterns("*.egg-info", "__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(CHECKOUT / name, copy)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(copy)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.fixture
def environment(installed: Path, home: Path) -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("USAGE_EXPLORE_")}
    return {**inherited, "PYTHONPATH": str(installed), "USAGE_EXPLORE_HOME": str(home)}


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder with the settings of another Streamlit app."""
    (tmp_path / ".streamlit").mkdir()
    (tmp_path / ".streamlit" / "config.toml").write_text(ANOTHER_APP)
    return tmp_path


@pytest.fixture
def app(installed: Path, environment: dict[str, str], elsewhere: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-P", "-m", "usage_explore", "app", "--no-demo"]
    process = subprocess.Popen(command, cwd=elsewhere, env=environment, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process
    process.terminate()
    process.wait(PATIENCE)
    process.stdout.close()


def test_the_package_is_whole(installed: Path) -> None:
    packed = {str(path.relative_to(installed)) for path in (installed / "usage_explore").rglob("*") if path.is_file()}
    source = {
        str(path.relative_to(CHECKOUT / "src"))
        for path in (CHECKOUT / "src" / "usage_explore").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source


def test_the_command_runs_from_elsewhere(installed: Path, environment: dict[str, str], tmp_path: Path) -> None:
    where = "import usage_explore; print(usage_explore.__file__)"
    found = subprocess.run(
        [sys.executable, "-P", "-c", where], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert Path(found.stdout.strip()).is_relative_to(installed)


def test_the_app_is_served_from_the_wheel(app: subprocess.Popen[str]) -> None:
    assert app.stdout is not None
    said = next(line for line in app.stdout if "http://" in line)
    address = next(word for word in said.split() if word.startswith("http://127.0.0.1:"))
    with urlopen(f"{address}/_stcore/health", timeout=PATIENCE) as answer:
        assert answer.read() == b"ok"
    with urlopen(address, timeout=PATIENCE) as answer:
        assert b"<title>" in answer.read()
    session = new_session(address)
    assert theme(session) == tomllib.loads((CHECKOUT / ".streamlit" / "config.toml").read_text())["theme"]
    assert session.config.toolbar_mode == session.config.ToolbarMode.VIEWER


def test_our_settings_win_over_those_of_the_folder(
    installed: Path, environment: dict[str, str], elsewhere: Path
) -> None:
    settings = tomllib.loads((CHECKOUT / ".streamlit" / "config.toml").read_text())
    code = (
        "import json\nfrom streamlit import get_option\nfrom usage_explore.cli import app_server\n"
        f"app_server.uvicorn_server.serve = lambda *_, **__: print(json.dumps([get_option(n) for n in {SETTINGS}]))\n"
        "app_server.run('127.0.0.1', 1, print)"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=elsewhere, env=environment, capture_output=True, text=True, check=True
    )
    wanted = [settings[section][option] for section, option in (name.split(".") for name in SETTINGS)]
    assert json.loads(found.stdout) == wanted


def new_session(address: str) -> NewSession:
    """What the app tells a browser that connects."""
    with connect(
        f"{address}/_stcore/stream".replace("http", "ws"), subprotocols=["streamlit"], origin=address
    ) as socket:
        socket.send(BackMsg(rerun_script={"query_string": ""}).SerializeToString())
        for message in socket:
            received = ForwardMsg.FromString(message)
            if received.HasField("new_session"):
                return received.new_session
    raise AssertionError("the app closed the connection")


def theme(session: NewSession) -> dict[str, object]:
    """The theme that a browser draws with, as its config.toml writes it; what is not set left out."""
    return MessageToDict(session.custom_theme)
