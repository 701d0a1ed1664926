"""JSON Lines: one JSON object per line, UTF-8, blank lines skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from usage_explore.files.exact_json import loads
from usage_explore.files.sources import Lines, Record, Source
from usage_explore.files.values import Bad


class JsonLinesSource(Source):
    """A JSON Lines file; each line brings its own columns, so `names` is None."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._lines = Lines(path)
        self.length = self._lines.length

    @property
    def position(self) -> int:
        """Bytes read so far."""
        return self._lines.position

    def close(self) -> None:
        """Let go of the file."""
        self._lines.close()

    def __iter__(self) -> Iterator[Record]:
        lines = self._lines
        while text := lines.read():
            if text.isspace():
                continue
            if lines.fault:
                yield lines.number, None, lines.fault
                continue
            try:
                value = loads(text)
            except Bad as bad:
                yield lines.number, None, str(bad)
                continue
            if isinstance(value, dict):
                yield lines.number, value, None
            else:
                yield lines.number, None, "is JSON, but not an object; write one object per line"
