"""Run the app in this process on a free port."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable

from usage_explore import config
from usage_explore.config import DEFAULT_APP_URL, Settings
from usage_explore.errors import ConfigurationError

HOST = "127.0.0.1"
_FIRST_PORT = 8501
_PORTS_TRIED = 100


def app(settings: Settings, port: int | None, say: Callable[[str], object], host: str = HOST) -> None:
    """Serve the app until SIGTERM or Ctrl-C; `say` gets its URL once it answers.

    `port` None: 8501 or the next free one. The caller checks whether other machines may reach `host`.
    Raises `ConfigurationError` if the port is in use.
    """
    port = free_port(port, host=host)
    if settings.app_url == DEFAULT_APP_URL:
        settings = settings.model_copy(update={"app_url": address(host, port)})
    config.put_in_force(settings)  # read by the pages, which Streamlit runs
    from usage_explore.cli.serve import app_server

    app_server.run(host, port, lambda: say(f"usage-explore is at {settings.app_url}  (Ctrl-C ends it)"))


def address(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens at the host and port."""
    host = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened at
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(port: int | None, first: int = _FIRST_PORT, host: str = HOST) -> int:
    """The port, or for None the first free one of 100 from `first`.

    Raises `ConfigurationError` if none is free, or the host is not an address of this machine.
    """
    for candidate in [port] if port else range(first, first + _PORTS_TRIED):
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
