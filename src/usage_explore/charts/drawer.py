"""The drawing process seen from this one: started for the first picture, replaced when it dies, ended with us."""

from __future__ import annotations

import atexit
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING

from usage_explore.errors import DrawingError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

LONGEST = 30
"""Seconds that a picture may take."""

_PATIENCE = 60  # seconds waited for the pictures of others
_SPARE = 5  # seconds beyond the longest in which the process ends itself
_BUSY = "The chart was not drawn: too many others are being drawn; try again shortly."
_SCRIPT = Path(__file__).with_name("worker.py")


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[bytes, bytes]

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Drawer:
    """One process that draws one picture at a time, for every thread of this one."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._worker: _Worker | None = None

    def draw(self, spec: str, form: str) -> bytes:
        """The picture of a specification. Raises `DrawingError` when there is none."""
        if not self._turn.acquire(timeout=_PATIENCE):
            raise DrawingError(_BUSY)
        try:
            return self._draw(spec, form)
        finally:
            self._turn.release()

    @property
    def pid(self) -> int | None:
        """The process that draws, None before the first picture."""
        return self._worker.process.pid if self._worker else None

    def end(self) -> None:
        """End the process; the next picture starts another."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def forget(self) -> None:
        """After a fork: the process is the parent's, and so is whoever holds the turn."""
        self._turn = threading.Lock()
        self._worker = None

    def _draw(self, spec: str, form: str) -> bytes:
        if self._worker is None or self._worker.process.poll() is not None:
            self.end()
            self._worker = _started()
        connection = self._worker.connection
        try:
            connection.send_bytes(form.encode())
            connection.send_bytes(spec.encode())
            if not connection.poll(LONGEST + _SPARE):
                raise TimeoutError
            outcome, body = connection.recv_bytes(), connection.recv_bytes()
        except (EOFError, OSError):
            self.end()
            raise DrawingError(
                f"The chart was not drawn: the process that draws ended, or took longer than {LONGEST} s. Draw fewer "
                "series or a shorter window, or try again."
            ) from None
        if outcome != b"drawn":
            raise DrawingError(f"The chart was not drawn: {body.decode(errors='replace')[:500]}")
        return body


def _started() -> _Worker:
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own script in our own Python
            [sys.executable, "-I", str(_SCRIPT), str(theirs.fileno()), str(LONGEST)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return _Worker(process, ours)


drawer = Drawer()
"""The one of this process."""

atexit.register(drawer.end)
os.register_at_fork(after_in_child=drawer.forget)
