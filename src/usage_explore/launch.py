"""Run the app: Streamlit in a process of its own, ended together with this one."""

from __future__ import annotations

import dataclasses
import errno
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from usage_explore.config import DEFAULT_APP_URL, Settings
from usage_explore.errors import ConfigurationError

HOST = "127.0.0.1"
_PORT = 8501
_PATIENCE = 10  # seconds to end by itself


def app(settings: Settings, port: int | None, say: Callable[[str], object], host: str = HOST) -> int:
    """Run the app until it ends or this process is told to; its exit code.

    Says its URL once it answers. `port` None takes 8501 or the next free one. Whether others may reach `host` is
    checked by the caller. Raises `ConfigurationError` when the port is taken.
    """
    port = free_port(port, host=host)
    url = address(host, port)
    if settings.app_url == DEFAULT_APP_URL:
        settings = dataclasses.replace(settings, app_url=url)
    process = subprocess.Popen(command(port, host), env=settings.environment())  # noqa: S603 - our own Python
    try:
        if _answers(process, url):
            say(f"usage-explore is at {settings.app_url}  (Ctrl-C ends it)")
        return process.wait()
    except KeyboardInterrupt:
        return 0
    finally:
        process.terminate()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def address(host: str, port: int) -> str:
    """Where this machine reaches a server that listens at the host and port."""
    host = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened at
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def command(port: int, host: str = HOST) -> list[str]:
    """The command line that serves the packaged app and the API on the port."""
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": "true",
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": "false",
        "client.toolbarMode": "viewer",
        "logger.hideWelcomeMessage": "true",
    }
    script = Path(__file__).with_name("app") / "server.py"
    given = [f"--{name}={value}" for name, value in options.items()]
    return [sys.executable, "-P", "-m", "streamlit", "run", str(script), *given]


def free_port(port: int | None, first: int = _PORT, host: str = HOST) -> int:
    """The port when it is free at the host, without one the first free from `first`.

    Raises `ConfigurationError` when there is none, or the host is not an address of this machine.
    """
    for candidate in [port] if port else range(first, first + 100):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    words = f"--host: {host} is not an address of this machine; write one of its addresses"
                    raise ConfigurationError(words) from None
                continue
        return candidate
    raise ConfigurationError(f"--port: {port or f'{first} and the next ones'} is in use; choose another one")


def _answers(process: subprocess.Popen[bytes], url: str) -> bool:
    """Wait until the app answers; False when its process ends before."""
    while process.poll() is None:
        try:
            with urlopen(f"{url}/_stcore/health", timeout=1):  # noqa: S310 - our own address
                return True
        except (URLError, OSError):
            time.sleep(0.1)
    return False
