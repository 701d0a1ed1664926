"""Time limits of queries: one thread for all of them, because starting one for each takes longer than short queries."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

_IDLE_SECONDS = 10.0
"""Seconds without a query after which the thread ends; the next query starts another one."""

_REPEAT_SECONDS = 0.5
"""Seconds after which a block that goes on is interrupted again: it may have been between two statements."""


@dataclass(eq=False, slots=True)
class _Limit:
    """A running block: when it must end, how to end it, and whether that was done."""

    deadline: float
    interrupt: Callable[[], object]
    is_expired: bool = False


@dataclass(eq=False)
class Watchdog:
    """Interrupts blocks that run for too long. Thread-safe."""

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _limits: set[_Limit] = field(default_factory=set)
    _thread: threading.Thread | None = None
    _wakes: float = 0.0
    _stopping: bool = False

    def stop(self) -> None:
        """End the thread if nothing runs; the next block starts another one."""
        with self._changed:
            thread, self._stopping = self._thread, True
            self._changed.notify()
        if thread is not None and thread.is_alive() and not self._limits:
            thread.join(_REPEAT_SECONDS)

    @contextlib.contextmanager
    def limited(self, timeout: timedelta, interrupt: Callable[[], object]) -> Iterator[Callable[[], bool]]:
        """Call `interrupt` when the block has run for `timeout`; gives a function that says whether that happened."""
        limit = _Limit(time.monotonic() + timeout.total_seconds(), interrupt)
        with self._changed:
            self._limits.add(limit)
            self._stopping = False
            if self._thread is None or not self._thread.is_alive():  # not alive: in the child of a fork
                self._wakes = limit.deadline
                self._thread = threading.Thread(target=self._watch, name="usage-explore-watchdog", daemon=True)
                self._thread.start()
            elif limit.deadline < self._wakes:
                self._changed.notify()
        try:
            yield lambda: limit.is_expired
        finally:
            with self._changed:
                self._limits.discard(limit)

    def _watch(self) -> None:
        with self._changed:
            idle_since = time.monotonic()
            while True:
                now = time.monotonic()
                for limit in self._limits:
                    if limit.deadline <= now:
                        limit.is_expired = True
                        limit.deadline = now + _REPEAT_SECONDS
                        limit.interrupt()
                if self._limits:
                    idle_since = now
                elif self._stopping or now - idle_since >= _IDLE_SECONDS:
                    self._thread = None
                    return
                self._wakes = min([now + _IDLE_SECONDS, *(limit.deadline for limit in self._limits)])
                self._changed.wait(max(self._wakes - now, 0))
