"""Uploaded files: their content in the session's memory, and private copies on the disk while one is read."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

_ENDING = re.compile(r"(?:\.[A-Za-z0-9]{1,8}){1,2}$")
"""End of a file's name that says what it is, such as .csv.gz."""


@dataclass(frozen=True)
class File:
    """An uploaded file."""

    name: str
    content: bytes = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of its name and content."""
        return hashlib.sha256(self.name.encode("utf-8", "surrogatepass") + b"\0" + self.content).hexdigest()

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of its content."""
        return hashlib.sha256(self.content).hexdigest()


@contextmanager
def private_copy(file: File) -> Iterator[Path]:
    """A copy of the file that only this OS user can read, deleted at the end; of its name it has the ending only."""
    ending = _ENDING.search(file.name)
    with tempfile.TemporaryDirectory(prefix="usage-explore-") as folder:  # mode 0700
        path = Path(folder) / f"given{ending[0].lower() if ending else ''}"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            copy.write(file.content)
        yield path
