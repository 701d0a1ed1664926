"""The embedded server: shared, released, recovered, under any folder, never losing what was loaded."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import UUID

import psutil
import psycopg
import pytest
import sqlalchemy
from click.testing import CliRunner

import usage_explore
from support.waiting import PATIENCE
from usage_explore.access import api_keys
from usage_explore.access.api_keys import Keyring
from usage_explore.cli.main import main
from usage_explore.db import ddl, embedded, programs
from usage_explore.errors import ConfigurationError, DatabaseUnavailable

AS_ROOT = os.geteuid() == 0
NOBODY = 65534

CLIENT = """
    import os
    import sys
    from pathlib import Path
    import psycopg
    from usage_explore.db import embedded, programs
    if len(sys.argv) > 2:  # become an ordinary user, who may be unable to enter Python's own folder
        os.setgroups([])
        os.setgid(int(sys.argv[2]))
        os.setuid(int(sys.argv[2]))
    url = embedded.start(Path(sys.argv[1]))
    with psycopg.connect(url) as connection:
        print(connection.execute("SELECT pg_postmaster_start_time()::text").fetchone()[0], flush=True)
    sys.stdin.readline()
"""


class Client:
    """Another process that uses the server under `home` until it is told to end."""

    def __init__(self, home: Path, script: str = CLIENT, user: int | None = None) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(script), str(home), *([str(user)] if user else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            text=True,
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> str:
        """Let it exit by itself; what it wrote to stderr."""
        _, complaint = self.process.communicate("\n", timeout=PATIENCE)
        return complaint

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


def postmaster(home: Path) -> int | None:
    """The pid of the server under home when it is alive."""
    try:
        pid = int((home / "data" / "postmaster.pid").read_text().splitlines()[0])
    except FileNotFoundError:
        return None
    return pid if psutil.pid_exists(pid) else None


def one(url: str, query: str) -> object:
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


@pytest.fixture
def killed(home: Path) -> str:
    """The URL of a server whose postmaster was killed right after a commit."""
    url = embedded.start(home)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT generate_series(1, 1000) AS n")
    pid = postmaster(home)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    return url


def test_variables_for_another_server_do_not_matter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """PGPORT and the like, set for another PostgreSQL server: the embedded one gave no answer within a minute."""
    variables = {
        "PGPORT": "1",
        "PGHOSTADDR": "127.0.0.1",
        "PGTARGETSESSIONATTRS": "standby",
        "PGREQUIREAUTH": "scram-sha-256",
        "PGREQUIREPEER": "another user",
        "PGCHANNELBINDING": "require",
        "PGGSSENCMODE": "require",
        "PGSSLNEGOTIATION": "direct",
        "PGSSLCERTMODE": "require",
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": "system",
        "PGSSLMINPROTOCOLVERSION": "unknown",
        "PGSSLMAXPROTOCOLVERSION": "TLSv1",
        "PGMINPROTOCOLVERSION": "unknown",
        "PGMAXPROTOCOLVERSION": "unknown",
        "PGLOADBALANCEHOSTS": "unknown",
    }
    before = embedded.start(home)
    monkeypatch.setattr(embedded, "_MAX_START_SECONDS", 1)
    for name, value in variables.items():
        with monkeypatch.context() as one_of_them:
            one_of_them.setenv(name, value)
            assert embedded.start(home) == before
            with ddl.connect(before) as connection:
                ddl.ensure_schema(connection, "usage_events")
            with usage_explore.connect(before) as store:
                assert store.organizations() == ()


def test_a_service_that_libpq_does_not_find_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embedded.start(home)
    monkeypatch.setattr(embedded, "_MAX_START_SECONDS", 1)
    monkeypatch.setenv("PGSERVICE", "reporting")
    with pytest.raises(ConfigurationError, match=r'PGSERVICE.*"reporting" not found.*unset it'):
        embedded.start(home)


def test_url_serves_psycopg_and_sqlalchemy(home: Path) -> None:
    url = embedded.start(home)
    assert one(url, "SELECT current_database()") == "usage_explore"
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        assert connection.scalar(sqlalchemy.text("SELECT current_database()")) == "usage_explore"
    engine.dispose()


def test_starting_again_joins(home: Path) -> None:
    url = embedded.start(home)
    pid = postmaster(home)
    assert embedded.start(home) == url
    assert postmaster(home) == pid


def test_server_sorts_by_code_point_speaks_utf8_and_has_no_tcp(home: Path) -> None:
    url = embedded.start(home)
    assert one(url, "SHOW server_encoding") == "UTF8"
    assert one(url, "SHOW listen_addresses") == ""
    assert one(url, "SELECT string_agg(t, '' ORDER BY t) FROM unnest(ARRAY['b', 'B', 'a', 'é']) t") == "Babé"
    assert one(url, "SELECT upper('é')") == "É"


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("with spaces", marks=pytest.mark.thorough),
        pytest.param("a,b", marks=pytest.mark.thorough),
        'it\'s, in $HOME, "quoted"',
        "Büro+50%",
        "deep/" * 60 + "down",
    ],
    ids=repr,
)
def test_any_folder_will_do(home: Path, name: str) -> None:
    folder = home / name
    try:
        assert one(embedded.start(folder), "SELECT 1") == 1
    finally:
        embedded.release(folder)
    assert postmaster(folder) is None


def test_processes_starting_at_once_share_one_server(home: Path) -> None:
    clients = [Client(home) for _ in range(3)]
    assert len({client.line() for client in clients}) == 1
    assert [client.end() for client in clients] == ["", "", ""]
    assert postmaster(home) is None


def test_only_the_last_user_stops_the_server(home: Path) -> None:
    embedded.start(home)
    client = Client(home)
    client.line()
    embedded.release(home)
    assert postmaster(home) is not None
    client.end()
    assert postmaster(home) is None


def test_server_of_a_killed_client_is_joined_and_then_stopped(home: Path) -> None:
    killed, later = Client(home), None
    started = killed.line()
    killed.kill()
    assert postmaster(home) is not None
    later = Client(home)
    assert later.line() == started
    later.end()
    assert postmaster(home) is None


def test_fork_keeps_the_server_and_leaves_it_to_its_parent(home: Path) -> None:
    client = Client(
        home,
        """
        import os, sys
        from pathlib import Path
        from usage_explore.db import embedded, programs
        embedded.start(Path(sys.argv[1]))
        child = os.fork()
        if child == 0:
            sys.exit()
        os.waitpid(child, 0)
        print("child gone", flush=True)
        sys.stdin.readline()
        """,
    )
    assert client.line() == "child gone"
    assert postmaster(home) is not None
    client.end()
    assert postmaster(home) is None


def test_a_server_that_a_killed_process_left_is_stopped_on_demand(home: Path) -> None:
    assert not embedded.stop(home)
    client = Client(home)
    client.line()
    with pytest.raises(ConfigurationError, match="is in use; end the app"):
        embedded.stop(home)
    assert postmaster(home) is not None
    client.kill()
    assert postmaster(home) is not None
    said = CliRunner().invoke(main, ["--home", str(home), "stop"])
    assert (said.exit_code, said.output) == (0, f"Stopped the embedded PostgreSQL under {home}.\n")
    assert postmaster(home) is None
    assert CliRunner().invoke(main, ["--home", str(home), "stop"]).output == f"None runs under {home}.\n"


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_no_other_user_can_open_the_lock_files(home: Path, umask: int) -> None:
    (home / "lock").touch(mode=0o644)  # as earlier versions made it
    before = os.umask(umask)
    try:
        embedded.start(home)
        Keyring(home / "keys.json").create(UUID(int=1), "a")
    finally:
        os.umask(before)
    for name in ("lock", "users", "keys.lock"):
        assert (home / name).stat().st_mode & 0o777 == 0o600, name


def test_a_lock_that_another_process_holds_is_waited_for_a_bounded_time(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (embedded, api_keys):
        monkeypatch.setattr(module, "_MAX_LOCK_SECONDS", 0.5)
    embedded.start(home)
    Keyring(home / "keys.json").create(UUID(int=1), "a")
    holder = Client(
        home,
        """
        import fcntl, sys
        held = [open(f"{sys.argv[1]}/{name}", "rb") for name in ("lock", "keys.lock")]
        for file in held:
            fcntl.flock(file, fcntl.LOCK_EX)
        print("held", flush=True)
        sys.stdin.readline()
        """,
    )
    assert holder.line() == "held"
    with pytest.raises(DatabaseUnavailable, match=f"Another process has held {home}/lock for 0.5 s"):
        embedded.start(home)
    with pytest.raises(ConfigurationError, match=r"keys\.lock was held by another process"):
        Keyring(home / "keys.json").create(UUID(int=1), "a")
    assert holder.end() == ""
    embedded.start(home)


def test_nothing_is_lost_when_the_server_is_killed(home: Path, killed: str) -> None:
    assert embedded.start(home) == killed
    assert one(killed, "SELECT count(*) FROM kept") == 1000


def test_number_of_a_dead_server_may_belong_to_another_process(home: Path, killed: str) -> None:
    for path in (home / "data" / "postmaster.pid", home / "socket" / ".s.PGSQL.5432.lock"):
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([f"{os.getpid()}\n", *lines[1:]]))
    assert embedded.start(home) == killed
    assert one(killed, "SELECT count(*) FROM kept") == 1000


@pytest.mark.usefixtures("initdb")
def test_half_made_cluster_is_made_anew(home: Path) -> None:
    half = home / "data.new"
    half.mkdir()
    (half / "PG_VERSION").write_text("18\n")
    assert one(embedded.start(home), "SELECT 1") == 1


def test_folder_that_is_a_file_is_a_configuration_error(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(ConfigurationError, match=r"^home: .*--home"):
        embedded.start(home / "file")


def test_cluster_of_an_unknown_version_is_a_configuration_error(home: Path) -> None:
    embedded.start(home)
    embedded.release(home)
    version = home / "data" / "PG_VERSION"
    made_by = version.read_text()
    version.write_text("99\n")
    try:
        with pytest.raises(ConfigurationError, match="made by PostgreSQL 99"):
            embedded.start(home)
    finally:
        version.write_text(made_by)


def test_broken_cluster_says_why(home: Path) -> None:
    embedded.start(home)
    embedded.release(home)
    control = home / "data" / "global" / "pg_control"
    whole = control.read_bytes()
    control.write_bytes(b"")
    try:
        with pytest.raises(DatabaseUnavailable, match=r"did not start: .*pg_control"):
            embedded.start(home)
    finally:
        control.write_bytes(whole)


@pytest.mark.skipif(not AS_ROOT, reason="only root runs the server as another OS user")
class TestAsRoot:
    def test_closed_folder_is_refused_and_stays_closed(self, home: Path) -> None:
        closed = home / "closed"
        closed.mkdir(mode=0o700)
        with pytest.raises(ConfigurationError, match=r"may not enter .*closed"):
            embedded.start(closed / "home")
        assert closed.stat().st_mode & 0o777 == 0o700

    def test_new_folders_can_be_entered_whatever_the_umask(self, home: Path) -> None:
        before = os.umask(0o077)
        try:
            assert one(embedded.start(home / "new" / "home"), "SELECT 1") == 1
        finally:
            os.umask(before)
            embedded.release(home / "new" / "home")

    def test_closed_python_environment_gets_a_copy_of_the_programs(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(programs, "_reaches", lambda user, folder: False)
        assert one(embedded.start(home), "SELECT 1") == 1
        embedded.release(home)
        assert len(list(home.glob("programs-*"))) == 1

    def test_user_that_another_process_creates_is_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Each of several workers, the first on a machine, begins with a server; `useradd` locks /etc/passwd."""
        refusals = iter([1, 9])

        def ensure_user_exists(name: str) -> pwd.struct_passwd:
            if (status := next(refusals, None)) is not None:
                raise subprocess.CalledProcessError(status, ["useradd", name])
            return pwd.getpwnam("root")

        monkeypatch.setattr(programs, "ensure_user_exists", ensure_user_exists)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        assert programs.account() == pwd.getpwnam("root")

    def test_user_that_cannot_be_created_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def ensure_user_exists(name: str) -> pwd.struct_passwd:
            raise subprocess.CalledProcessError(1, ["useradd", name])

        monkeypatch.setattr(programs, "ensure_user_exists", ensure_user_exists)
        monkeypatch.setattr(programs, "_MAX_USER_SECONDS", 0.2)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(ConfigurationError, match=f"user {programs.SERVER_USER} could not be created"):
            programs.account()

    def test_others_cannot_enter_the_data_or_the_socket(self, home: Path) -> None:
        embedded.start(home)
        owner = pwd.getpwnam(embedded.SERVER_USER).pw_uid
        for name in ("data", "socket"):
            status = (home / name).stat()
            assert (status.st_uid, status.st_mode & 0o077) == (owner, 0)

    @pytest.fixture
    def small_disk(self, home: Path) -> Iterator[Path]:
        disk = home / "disk"
        disk.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "none", str(disk)],
            capture_output=True,
            check=False,
        )
        if mounted.returncode:
            pytest.skip("needs the right to mount a small disk")
        yield disk
        subprocess.run(["umount", str(disk)], check=True)

    @pytest.mark.usefixtures("initdb")
    def test_full_disk_is_a_configuration_error(self, small_disk: Path) -> None:
        with pytest.raises(ConfigurationError, match=r"disk of .* is full"):
            embedded.start(small_disk)

    @pytest.fixture
    def theirs(self, home: Path) -> Iterator[Path]:
        """A home that belongs to an ordinary user."""
        os.chown(home, NOBODY, NOBODY)
        yield home
        assert postmaster(home) is None
        (home / "data").rename(home / "done")  # nothing for root to start

    def test_ordinary_user_has_a_server_of_their_own(self, theirs: Path) -> None:
        first, second = Client(theirs, user=NOBODY), Client(theirs, user=NOBODY)
        assert first.line() == second.line() != ""
        assert (theirs / "data").stat().st_uid == NOBODY
        assert (first.end(), second.end()) == ("", "")

    def test_ordinary_user_is_told_when_the_folder_is_not_theirs(self, home: Path) -> None:
        assert "ConfigurationError: home:" in Client(home, user=NOBODY).end()


@pytest.mark.parametrize("make", [os.symlink, os.link])
def test_a_link_in_place_of_the_log_changes_no_file_of_root(tmp_path: Path, make: Callable[..., None]) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives the log to the server's user")
    secret, home = tmp_path / "secret", tmp_path / "home"
    secret.touch(0o600)
    server = embedded.Server(home)
    make(secret, home / "server.log")
    with pytest.raises(OSError, match="link"):
        server.launch()
    assert secret.stat().st_uid == 0
