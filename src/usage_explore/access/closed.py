"""Files that close a server, the allow list and the API keys: one that vanishes while the server runs opens nothing."""

from __future__ import annotations

from pathlib import Path

_SEEN: set[Path] = set()
"""The files that were there since the process began; paths only, the same for all of its users."""


def is_closed(path: Path, now: bool) -> bool:
    """Whether a file closes the server: `now` says that it is there and does so, and once it did it always does."""
    if now:
        _SEEN.add(path.absolute())
    return now or path.absolute() in _SEEN
