"""Standard input as a file that can be read twice."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Self

from usage_explore.errors import LoadError
from usage_explore.files.containers import spooled

STANDARD_INPUT = Path("-")
"""The path that means standard input."""


class StandardInput:
    """A private temporary file (mode 0600) with all of standard input, deleted by `close`.

    `open_source` takes it any number of times. Raises `LoadError` where there is no input, or the disk is nearly full.
    """

    path = Path("<stdin>")
    """Its name in messages."""

    def __init__(self, stream: IO[bytes] | None = None) -> None:
        self._resources = ExitStack()
        stream = stream or (sys.stdin.buffer if sys.stdin else None)
        if stream is None or stream.isatty():
            raise LoadError(
                f"{self.path}: is a terminal; pipe a file into it, like: cat usage.csv | usage-explore load -"
            )
        with self._resources:
            try:
                self.file = spooled(stream, self._resources, self.path)
            except OSError as error:
                raise LoadError(f"{self.path}: cannot be copied: {error.strerror or error}") from error
            self._resources = self._resources.pop_all()

    def close(self) -> None:
        """Delete the file."""
        self._resources.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
