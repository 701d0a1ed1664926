"""An engine in a process of its own, so that its memory is its own: asked through a pipe, timed where it answers."""

from __future__ import annotations

import multiprocessing
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmarks.questions import Query

_PROCESSES = multiprocessing.get_context("spawn")


@dataclass(frozen=True)
class Told:
    """What an engine answered, how long it took in milliseconds, and which path answered where there are several."""

    answer: Any
    took: float
    path: str | None


class Worker:
    """`Worker(name, engine, …)` makes `engine(…)` in a child process. Used as a context manager, it ends with it."""

    def __init__(self, name: str, engine: Callable[..., Any], *arguments: Any, **more: Any) -> None:
        self.name = name
        self._pipe, theirs = _PROCESSES.Pipe()
        self._process = _PROCESSES.Process(target=_serve, args=(theirs, engine, arguments, more), daemon=True)
        self._process.start()
        theirs.close()
        self._made = False

    def wait(self) -> None:
        """Until the engine is made. Raises `RuntimeError` with the child's words when it cannot be."""
        if not self._made:
            self._hear()
            self._made = True

    def ask(self, question: Query) -> Told:
        """Ask once. Raises `RuntimeError` with the child's words when it could not answer."""
        self.wait()
        self._pipe.send(question)
        found = self._hear()
        assert isinstance(found, Told)
        return found

    def peak_memory(self) -> float:
        """The most memory the child has had, in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def __enter__(self) -> Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self._pipe.close()
        self._process.join(30)

    def _hear(self) -> Any:
        try:
            found = self._pipe.recv()
        except EOFError:
            self._process.join(5)
            raise RuntimeError(f"{self.name} ended with code {self._process.exitcode}") from None
        if isinstance(found, str):
            raise RuntimeError(f"{self.name}: {found}")
        return found


def _serve(pipe: Connection, engine: Callable[..., Any], arguments: Any, more: Any) -> None:
    try:
        asked = engine(*arguments, **more)
        pipe.send(None)
        while True:
            question = pipe.recv()
            pipe.send(_told(asked, question))
    except (EOFError, OSError, KeyboardInterrupt):  # nobody asks any more
        return
    except Exception:
        pipe.send(traceback.format_exc(limit=-3))


def _told(engine: Any, question: Query) -> Told:
    engine.before(question)
    began = time.perf_counter()
    found = engine.ask(question)
    took = (time.perf_counter() - began) * 1000
    engine.after()
    return Told(engine.read(question, found), took, engine.how(found))
