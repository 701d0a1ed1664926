"""A file that has its name only when it is complete, and folders that other OS users cannot change."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from secrets import token_hex

from usage_explore.errors import ConfigurationError
from usage_explore.formatting import path_text


@contextmanager
def whole_file(path: Path, mode: int = 0o666) -> Iterator[Path]:
    """A temporary file beside `path` that is renamed to it at the end, or deleted on an error.

    It has the permissions `mode`, less the umask; of a file that it replaces at most those, and its owner's.

    Raises `ConfigurationError` if it cannot be created or renamed, or if `path` is a device, a pipe or a folder: the
    rename would replace it.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConfigurationError(
                f"path: {path_text(path)} is not a regular file and would be replaced; choose another"
            )
        part = path.with_name(f".{path.name}.{token_hex(4)}")
        part.touch(mode & (path.stat().st_mode | 0o600) if path.exists() else mode, exist_ok=False)
    except OSError as error:
        raise ConfigurationError(
            f"path: {path_text(path.parent)} cannot be written to ({error.strerror}); choose another"
        ) from None
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise ConfigurationError(f"path: {path_text(path)} could not be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


def make_folder(folder: Path, mode: int = 0o755, *, is_exact: bool = False) -> None:
    """Create a folder, with the permissions `mode` less the umask, and its parents, which only their owner may change.

    With `is_exact`, these and the parents that are created have `mode`, whatever the umask. A folder that exists stays
    as it is. Raises `OSError`.
    """
    if folder.exists():
        return
    make_folder(folder.parent, mode if is_exact else 0o755, is_exact=is_exact)
    with suppress(FileExistsError):
        folder.mkdir(0o700 if is_exact else mode)
        if is_exact:
            folder.chmod(mode)
