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
class Answer:
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

    def ask(self, question: Query) -> Answer:
        """Ask once. Raises `RuntimeError` with the child's words when it could not answer."""
        self.wait()
        self._pipe.send(question)
        answer = self._hear()
        assert isinstance(answer, Answer)
        return answer

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
            answer = self._pipe.recv()
        except EOFError:
            self._process.join(5)
            raise RuntimeError(f"{self.name} ended with code {self._process.exitcode}") from None
        if isinstance(answer, str):
            raise RuntimeError(f"{self.name}: {answer}")
        return answer


def _serve(pipe: Connection, engine: Callable[..., Any], arguments: Any, more: Any) -> None:
    try:
        made = engine(*arguments, **more)
        pipe.send(None)
        while True:
            question = pipe.recv()
            pipe.send(_answer(made, question))
    except (EOFError, OSError, KeyboardInterrupt):  # the pipe is closed, or Ctrl-C
        return
    except Exception:
        pipe.send(traceback.format_exc(limit=-3))


def _answer(engine: Any, question: Query) -> Answer:
    engine.before(question)
    began = time.perf_counter()
    answer = engine.ask(question)
    took = (time.perf_counter() - began) * 1000
    engine.after()
    return Answer(engine.read(question, answer), took, engine.how(answer))
