"""Run the app in this process, at a free port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from usage_explore import config
from usage_explore.config import DEFAULT_APP_URL, Settings
from usage_explore.errors import ConfigurationError

HOST = "127.0.0.1"
_PORT = 8501


def app(settings: Settings, port: int | None, say: Callable[[str], object], host: str = HOST) -> None:
    """Serve the app until this process is told to stop; says its URL once it answers.

    `port` None takes 8501 or the next free one. Whether others may reach `host` is checked by the caller.
    Raises `ConfigurationError` when the port is taken.
    """
    port = free_port(port, host=host)
    if settings.app_url == DEFAULT_APP_URL:
        settings = settings.model_copy(update={"app_url": address(host, port)})
    config.put_in_force(settings)  # the pages, which Streamlit runs, look there
    from usage_explore.cli.serve import app_server

    app_server.run(host, port, lambda: say(f"usage-explore is at {settings.app_url}  (Ctrl-C ends it)"))


def address(host: str, port: int) -> str:
    """Where this machine reaches a server that listens at the host and port."""
    host = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened at
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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
