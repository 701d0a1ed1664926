"""Ctrl-C and SIGTERM in a command: KeyboardInterrupt, one line on stderr, exit code 130 or 143."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

import click

_IMPORT_FILE = "<frozen importlib._bootstrap>"
_IMPORT_POLL_SECONDS = 0.05
SIGNALS = "usage_explore.signals"
"""Key of those of the command in `click.Context.meta`."""


class Signals:
    """Raise KeyboardInterrupt on Ctrl-C and SIGTERM in a block: transactions are rolled back, servers released.

    At the end of the block a line says so, and the exit code is 130 or 143. An ignored Ctrl-C stays ignored. A signal
    waits for the end of an import, where modules in C abort the process. Libraries make another exception of
    KeyboardInterrupt, such as DuckDB a RuntimeError, or none: `raised` and `check` raise it again.
    """

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}

    @classmethod
    def current(cls) -> Signals:
        """Those of the command that runs."""
        signals: Signals = click.get_current_context().meta[SIGNALS]
        return signals

    @property
    def exit_code(self) -> int:
        """130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.number or signal.SIGINT)

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, before in self._before.items():
            signal.signal(number, before)
        if kind is KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            sys.exit(self.exit_code)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.number = number
        if not _is_importing(frame):
            self.check()
        signal.signal(signal.SIGALRM, lambda _, frame: self._handle(number, frame))
        signal.setitimer(signal.ITIMER_REAL, _IMPORT_POLL_SECONDS)

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise KeyboardInterrupt for a signal in the block of which another exception came, or none."""
        try:
            yield
        except Exception:
            self.check()
            raise
        self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal came, whatever became of it."""
        if self.number:
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORT_FILE:
            return True
        frame = frame.f_back
    return False
