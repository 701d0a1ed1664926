"""Lock files between processes: readable by their owner alone, so that no other OS user can hold them, and waited for
a bounded time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path
from typing import IO

_AGAIN = 0.05
"""Seconds between two attempts."""


def locked(path: Path, wait: float, *, shared: bool = False) -> IO[bytes]:
    """The file, made where it is missing and locked until it is closed.

    Raises `TimeoutError` when others hold it for longer than `wait` seconds, `OSError` when it cannot be opened.
    """
    file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b")
    with contextlib.suppress(PermissionError):  # another user's, who may let us in
        os.fchmod(file.fileno(), 0o600)
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise TimeoutError(f"{path} was held by another process for {wait:g} s") from None
            time.sleep(_AGAIN)
        else:
            return file
