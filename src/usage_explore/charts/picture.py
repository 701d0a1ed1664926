"""Pictures of charts, made without a browser or network, in a process of their own.

The process is started for the first picture, replaced if it dies, and ends with this one.
"""

from __future__ import annotations

import atexit
import json
import os
import re
import subprocess
import sys
import threading
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import altair as alt

from usage_explore.errors import DrawingError

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

MAX_DRAWING_SECONDS = 30
"""Time limit of a picture."""

_MAX_WAIT_SECONDS = 60
"""Time limit for the pictures of other threads."""

_EXIT_SECONDS = 5
"""Time in which the process ends itself after `MAX_DRAWING_SECONDS`."""

_BUSY = "The chart was not drawn, because too many others are waiting; try again shortly."
_SCRIPT = Path(__file__).with_name("worker.py")
_UNDRAWABLE = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_ESCAPED = re.compile(r"(?<!\\)((?:\\\\)*)(\\(?:u00(?:0[0-8bcef]|1[0-9a-f])|ufff[ef]|[bf]))", re.IGNORECASE)


FILE_WIDTH = 960
"""Pixels of a chart in a file that would fill its container on a page."""


class Drawn(alt.LayerChart):
    """A chart that fills its container on a page, and has `FILE_WIDTH` in a file."""

    def save(self, *given: Any, **options: Any) -> None:
        """As Altair's `save`, in any format; a chart that fills its container is made 960 pixels wide."""
        chart = self.properties(width=FILE_WIDTH) if self["width"] == "container" else self
        super(Drawn, chart).save(*given, **options)


def image(chart: Any, form: Literal["png", "svg"]) -> bytes:
    """The chart as PNG (twice the pixels) or SVG; one that fills its container is made 960 wide.

    Control characters, which no SVG can hold, are drawn as their symbols. Raises `ValueError` for another form and
    `DrawingError` when it cannot be drawn or takes longer than 30 s.
    """
    if form not in ("png", "svg"):
        raise ValueError(f"form: {form!r} is not a picture; choose png or svg")
    return drawer.draw(json.dumps(_drawable(sized(chart.to_dict()))), form)


def sized(spec: dict[str, Any]) -> dict[str, Any]:
    """The specification with a width in pixels."""
    return {**spec, "width": FILE_WIDTH} if spec.get("width") == "container" else spec


def _drawable(value: Any, *, encoded: bool = False) -> Any:
    """The specification without characters that end vl-convert's process; `encoded`: strings are JSON themselves."""
    if isinstance(value, dict):
        return {key: _drawable(item, encoded=key == "values") for key, item in value.items()}
    if isinstance(value, list):
        return [_drawable(item) for item in value]
    if isinstance(value, str):
        if encoded:
            value = _ESCAPED.sub(lambda match: match[1] + _symbol(json.loads(f'"{match[2]}"')), value)
        return _UNDRAWABLE.sub(lambda match: _symbol(match[0]), value)
    return value


def _symbol(character: str) -> str:
    """Unicode's symbol for a control character, else the replacement character."""
    return chr(0x2400 + ord(character)) if ord(character) < 32 else "\ufffd"


@dataclass(frozen=True)
class _Worker:
    process: subprocess.Popen[bytes]
    connection: Connection[bytes, bytes]

    def end(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()


class Drawer:
    """A process that draws one picture at a time, for all threads of this process."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._worker: _Worker | None = None

    def draw(self, spec: str, form: str) -> bytes:
        """The picture of a Vega-Lite specification in JSON, as `png` or `svg`. Raises `DrawingError`."""
        if not self._turn.acquire(timeout=_MAX_WAIT_SECONDS):
            raise DrawingError(_BUSY)
        try:
            return self._draw(spec, form)
        finally:
            self._turn.release()

    @property
    def pid(self) -> int | None:
        """The id of the drawing process, None before the first picture."""
        return self._worker.process.pid if self._worker else None

    def end(self) -> None:
        """End the process; the next picture starts another."""
        if self._worker is not None:
            self._worker.end()
            self._worker = None

    def forget(self) -> None:
        """After a fork: the drawing process and its lock belong to the parent."""
        self._turn = threading.Lock()
        self._worker = None

    def _draw(self, spec: str, form: str) -> bytes:
        if self._worker is None or self._worker.process.poll() is not None:
            self.end()
            self._worker = _start()
        connection = self._worker.connection
        try:
            connection.send_bytes(form.encode())
            connection.send_bytes(spec.encode())
            if not connection.poll(MAX_DRAWING_SECONDS + _EXIT_SECONDS):
                raise TimeoutError
            outcome, body = connection.recv_bytes(), connection.recv_bytes()
        except (EOFError, OSError):
            self.end()
            raise DrawingError(
                f"The chart was not drawn: the process that draws ended, or took longer than {MAX_DRAWING_SECONDS} s. "
                "Draw fewer series or a shorter window, or try again."
            ) from None
        if outcome != b"drawn":
            raise DrawingError(f"The chart was not drawn: {body.decode(errors='replace')[:500]}")
        return body


def _start() -> _Worker:
    ours, theirs = Pipe()
    with theirs:
        process = subprocess.Popen(  # noqa: S603 - our own script in our own Python
            [sys.executable, "-I", str(_SCRIPT), str(theirs.fileno()), str(MAX_DRAWING_SECONDS)],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return _Worker(process, ours)


drawer = Drawer()
"""The drawing process of this process."""

atexit.register(drawer.end)
os.register_at_fork(after_in_child=drawer.forget)
