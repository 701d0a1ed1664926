"""Waiting for what will happen: as long as a busy machine takes, at no cost on an idle one."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

import httpx

PATIENCE = 120
"""Seconds until a test gives up on something that ought to happen."""

SLEEP = 5 * PATIENCE
"""Seconds that a statement sleeps, or may take, which only its cancellation is to end."""


def eventually(happened: Callable[[], object]) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.02)


def answers(url: str) -> bool:
    """Whether a server answers at the address, with 200."""
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(url, timeout=10).status_code == 200
    return False
