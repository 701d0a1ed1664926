"""Lock files between processes, with a time limit. Only their owner may open them: no other OS user can hold them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import IO

_RETRY_SECONDS = 0.05
"""Time between two attempts."""


def locked(path: Path, wait: float, *, shared: bool = False) -> IO[bytes]:
    """The file, created if missing, and locked until it is closed; exclusively unless `shared`.

    A lock that root makes belongs to the owner of its folder, whose processes need it. Raises `TimeoutError` if other
    processes hold it for longer than `wait` seconds, `OSError` if it cannot be opened.
    """
    file = os.fdopen(open_own(path), "r+b")
    with contextlib.suppress(PermissionError):  # owned by another user, who may permit access
        os.fchmod(file.fileno(), 0o600)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(file.fileno(), folder.st_uid, folder.st_gid)
    deadline = time.monotonic() + wait
    while True:
        try:
            fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                file.close()
                raise TimeoutError(f"{path} was held by another process for {wait:g} s") from None
            time.sleep(_RETRY_SECONDS)
        else:
            return file


def open_own(path: Path) -> int:
    """Descriptor of a file to read and write, created if missing, for its owner alone.

    Never follows a symbolic link. Raises `OSError`, also for a hard link if this is root, who would change or give away
    the file that the folder's owner linked.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0 and os.fstat(descriptor).st_nlink > 1:
        os.close(descriptor)
        raise OSError(errno.EMLINK, "a link to another file", str(path))
    return descriptor
