"""Ports of 127.0.0.1 for servers that tests start."""

from __future__ import annotations

import itertools
import os

from usage_explore.cli import uvicorn_server
from usage_explore.errors import ConfigurationError

_CANDIDATES = itertools.cycle(range(20_000, 30_000))
"""Below the ports that Linux gives to connections by itself."""

for _ in range(os.getpid() * 100 % 10_000):
    next(_CANDIDATES)


def free_port() -> int:
    """A port that is free, and that no test of this or another process is about to take.

    Seconds pass between the choice and the server's start: each process begins at another port and takes none twice.
    """
    for port in _CANDIDATES:
        try:
            return uvicorn_server.free_port(port)
        except ConfigurationError:
            continue
    raise AssertionError("the candidates do not end")
