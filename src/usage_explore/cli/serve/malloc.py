"""Memory of a server that runs for weeks: glibc gives back what is free, instead of keeping it for each thread."""

from __future__ import annotations

import ctypes
from contextlib import suppress

_ARENA_MAX, _TRIM_THRESHOLD = -8, -1  # of malloc.h
_ARENAS = 2
_TRIMMED = 1024 * 1024


def give_back() -> None:
    """Few pools for all threads, and none with more than 1 MiB free at its end; nothing happens without glibc."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_ARENA_MAX, _ARENAS)
        libc.mallopt(_TRIM_THRESHOLD, _TRIMMED)
