"""Waiting for what will happen: as long as a busy machine takes, at no cost on an idle one."""

from __future__ import annotations

import time
from collections.abc import Callable
from http.client import HTTPException
from urllib.error import HTTPError
from urllib.request import urlopen

PATIENCE = 120
"""Seconds until a test gives up on something that ought to happen."""

SLEEP = 5 * PATIENCE
"""Seconds that a statement sleeps, or may take, which only its cancellation is to end."""


def eventually(happened: Callable[[], object]) -> None:
    """Wait until something has happened."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Whether a server answers at the address, with 200."""
    try:  # by urllib, as HTTPX reads all certificates for each request: 30 ms
        with urlopen(url, timeout=10) as answer:
            return bool(answer.status == 200)
    except HTTPError as error:
        error.close()
    except (OSError, HTTPException):
        pass
    return False
