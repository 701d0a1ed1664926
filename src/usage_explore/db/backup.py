"""Backup and restore of the embedded database: one file with every table, which a newer PostgreSQL reads, too.

The file is a ZIP archive of three members, which are never unpacked into a folder:

    manifest.json      format, versions, size and SHA-256 of the other members, rows and checksum of each table
    roles.sql          the roles, without passwords, as `pg_dumpall` writes them
    database.pgdump    schema and rows, as `pg_dump` writes them in its own format

A backup is one snapshot: `pg_dump` and the checksums read the same. A restore makes a new cluster, of the newest
PostgreSQL of this installation, in the folder `restoring`; compares every table with the manifest; and only then puts
it in the place of the old one. Until then nothing is changed.

The SQL of a backup runs with all rights of the embedded server: restore only files that you made.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import struct
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Literal
from urllib.parse import parse_qs, urlencode, urlsplit, urlunsplit

import psycopg
from psycopg import sql
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from usage_explore.db import ddl, embedded, programs
from usage_explore.errors import ConfigurationError, DatabaseError, UsageExploreError
from usage_explore.formatting import counted, listed, path_text, shortened
from usage_explore.query.validators import shorten
from usage_explore.results.whole_file import whole_file

MAX_MANIFEST_BYTES = 16 * 2**20

_MANIFEST, _ROLES, _DUMP = "manifest.json", "roles.sql", "database.pgdump"
_MEMBERS = (_MANIFEST, _ROLES, _DUMP)
_CHUNK_BYTES = 2**20
_LOCK_WAIT_SECONDS = 60
"""Time that a backup waits for a table that another process has locked, such as `init --migrate`."""

_MAX_REASON_CHARACTERS = 500

_Say = Callable[[str], object]

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
  AND NOT EXISTS (SELECT FROM pg_depend d
                  WHERE d.objid = c.oid AND d.classid = 'pg_class'::regclass::oid AND d.deptype = 'e')
ORDER BY 1, 2
"""
"""Tables with rows of their own, without those of extensions."""

_CHECKSUM = """
SELECT count(*), coalesce(sum(('x' || left(md5(t::text), 16))::bit(64)::bigint::numeric), 0)::text FROM ONLY {} AS t
"""
"""The number of rows, and the sum of the first 64 bits of each row's MD5: independent of the rows' order."""


class Strict(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Member(Strict):
    """A member of the archive beside the manifest."""

    name: str
    bytes: int
    sha256: str


class TableRows(Strict):
    """A table: its number of rows, and the sum of their checksums."""

    schema_name: str = Field(alias="schema")
    name: str
    rows: int
    checksum: str

    def __str__(self) -> str:
        return self.name if self.schema_name == "public" else f"{self.schema_name}.{self.name}"


class Manifest(Strict):
    """What a backup holds. `postgresql` is the version of the server, such as 18.4."""

    format: Literal["usage-explore backup 1"] = "usage-explore backup 1"
    created: str
    usage_explore: str
    postgresql: str
    members: tuple[Member, ...] = Field(strict=False)
    tables: tuple[TableRows, ...] = Field(strict=False)

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables)

    @property
    def major(self) -> int:
        """The major version of PostgreSQL."""
        return int(self.postgresql.partition(".")[0])


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: the backup's manifest, and the version of PostgreSQL that holds it now."""

    manifest: Manifest
    postgresql: str


def backup(home: Path, path: Path, say: _Say = bool) -> Manifest:
    """Write the embedded database under `home` to a file that only its owner can read.

    One snapshot, also while others write. `path` appears, or is replaced, when the file is whole and on disk.

    Raises `ConfigurationError` if there is no embedded database or the file cannot be written, `DatabaseError` if the
    database cannot be read.
    """
    if os.path.isdir(path):  # noqa: PTH112 - no error for a long name
        raise ConfigurationError(f"path: {path_text(path)} is a folder; name a file in it")
    if not embedded.exists(home):
        raise ConfigurationError(
            f"home: there is no embedded database under {path_text(home)}; name its folder with --home"
        )
    url = embedded.start(home)
    with contextlib.closing(ddl.connect(url)) as connection, whole_file(path, 0o600) as part:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        snapshot = _value(connection, "SELECT pg_export_snapshot()")
        connection.execute("SELECT set_config('lock_timeout', %s, true)", [f"{_LOCK_WAIT_SECONDS}s"])
        say("Adding up the rows.")
        try:
            tables = tuple(_tables(connection))
        except psycopg.errors.LockNotAvailable:
            raise DatabaseError(
                f"Nothing was written: another process has locked a table for {_LOCK_WAIT_SECONDS} s, such as `init"
                " --migrate`; try again when it has ended"
            ) from None
        say("Writing the backup.")
        database = _database(url)
        options = ("--format=custom", f"--snapshot={snapshot}", f"--lock-wait-timeout={_LOCK_WAIT_SECONDS}s")
        with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive:
            roles = _add(archive, _ROLES, home, "pg_dumpall", "--roles-only", "--no-role-passwords", database)
            dump = _add(archive, _DUMP, home, "pg_dump", *options, database)
            manifest = Manifest(
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                usage_explore=version("usage-explore"),
                postgresql=_server_version(connection),
                members=(roles, dump),
                tables=tables,
            )
            archive.writestr(_MANIFEST, manifest.model_dump_json(by_alias=True, indent=2))
        with part.open("rb") as file:
            os.fsync(file.fileno())
    return manifest


def restore(home: Path, path: Path, *, replace: bool = False, say: _Say = bool) -> Restored:
    """Put the database of a backup in the place of the embedded one under `home`, which no process may use.

    Every table of it is compared with the backup before. Whatever fails changes nothing.

    Raises `ConfigurationError` for a file that is no whole backup, or was made by a newer PostgreSQL; if tables of the
    database under `home` have rows, unless `replace`; and if other processes use it. `DatabaseError` if the restored
    tables differ from the backup.
    """
    home = home.expanduser().absolute()
    with _opened(path) as archive:
        manifest = _checked(archive, path)
        if manifest.major > programs.newest_version():
            raise ConfigurationError(
                f"{_name(path)}: was made by PostgreSQL {manifest.postgresql}, and this installation has"
                f" {programs.newest_version()}; install the usage-explore that made it"
                f" ({manifest.usage_explore}), or a newer one"
            )
        with embedded.exclusive(home) as server:
            if not replace:
                _refuse_rows(server)
            server.stop()
            restoring = home / "restoring"
            _remove(restoring)
            try:
                say("Restoring into a new database; it takes its place when all of its tables agree with the backup.")
                postgresql = _fill(restoring, archive, manifest, say)
                server.replace(restoring / "data")
            finally:
                _remove(restoring)
    return Restored(manifest, postgresql)


def _fill(home: Path, archive: zipfile.ZipFile, manifest: Manifest, say: _Say) -> str:
    """Restore into a new cluster under `home` and compare; the version of its PostgreSQL, which is stopped again."""
    url = embedded.start(home)
    try:
        with contextlib.closing(ddl.connect(url)) as connection:
            _create_roles(connection, archive.read(_ROLES))
            _restore(archive, home, "--exit-on-error", "--single-transaction", _database(url))
            say("Comparing every table with the backup.")
            connection.read_only = True
            restored = set(_tables(connection))
            connection.rollback()
            if differing := sorted(str(table) for table in restored ^ set(manifest.tables)):
                raise DatabaseError(
                    f"Nothing was changed: restored tables differ from the backup: {listed(sorted(set(differing)))}"
                )
            connection.read_only, connection.autocommit = None, True
            connection.execute("VACUUM ANALYZE")
            return _server_version(connection)
    finally:
        embedded.release(home)


def _create_roles(connection: ddl.Connection, script: bytes) -> None:
    """Run the statements of `pg_dumpall` without psql, whose own commands can run programs of this machine."""
    left_out = (b"\\", b"CREATE ROLE postgres;")  # psql's commands, and the role that every cluster has
    statements = b"\n".join(line for line in script.split(b"\n") if not line.startswith(left_out))
    try:
        connection.execute(statements)
        connection.commit()
    except psycopg.Error as error:
        reason = shortened(str(error.diag.message_primary or error), _MAX_REASON_CHARACTERS)
        raise DatabaseError(f"Nothing was changed: the roles of the backup cannot be created: {reason}") from None


def _refuse_rows(server: embedded.Server) -> None:
    """Raise `ConfigurationError` if a table of the server's database has rows, or it cannot be examined."""
    if not embedded.exists(server.home):
        return
    hint = "--replace puts the backup in its place; `usage-explore backup` keeps it before"
    try:
        with contextlib.closing(ddl.connect(server.run())) as connection:
            names = [sql.Identifier(*row) for row in connection.execute(_TABLES.encode())]
            filled = [
                name.as_string(connection)
                for name in names
                if _value(connection, sql.SQL("SELECT EXISTS (SELECT FROM {})").format(name))
            ]
    except UsageExploreError as error:
        raise ConfigurationError(
            f"home: the database under {server.home} cannot be examined ({error}); {hint}"
        ) from None
    if filled:
        tables = listed(name.replace('"', "").removeprefix("public.") for name in filled)
        raise ConfigurationError(
            f"home: the database under {server.home} has rows, in {counted(len(filled), 'table')}: {tables}; {hint}"
        )


def _remove(home: Path) -> None:
    """Remove the folder of a restore, also one that was killed and left its server running."""
    if home.exists():
        embedded.stop(home)
        shutil.rmtree(home)


def _tables(connection: ddl.Connection) -> Iterator[TableRows]:
    for schema, name in connection.execute(_TABLES.encode()).fetchall():
        statement = sql.SQL(_CHECKSUM).format(sql.Identifier(schema, name))
        rows, checksum = connection.execute(statement).fetchone() or (0, "")
        yield TableRows(schema=schema, name=name, rows=rows, checksum=checksum)


def _value(connection: ddl.Connection, statement: Any) -> Any:
    row = connection.execute(statement).fetchone()
    assert row is not None  # noqa: S101 - these statements have one row
    return row[0]


def _server_version(connection: ddl.Connection) -> str:
    return str(_value(connection, "SELECT current_setting('server_version')")).partition(" ")[0]


def _name(path: Path) -> str:
    return shorten(path.name or str(path))


def _add(archive: zipfile.ZipFile, name: str, home: Path, program: str, *arguments: str) -> Member:
    """Write the output of one of PostgreSQL's programs as a member of the archive."""
    digest, octets = hashlib.sha256(), 0
    entry = zipfile.ZipInfo(name, datetime.now(UTC).timetuple()[:6])
    with archive.open(entry, "w", force_zip64=True) as member, _running(home, program, *arguments) as process:
        assert process.stdout is not None  # noqa: S101 - a pipe
        while chunk := process.stdout.read(_CHUNK_BYTES):
            member.write(chunk)
            digest.update(chunk)
            octets += len(chunk)
    return Member(name=name, bytes=octets, sha256=digest.hexdigest())


def _restore(archive: zipfile.ZipFile, home: Path, *arguments: str) -> None:
    """Send the dump in the archive to `pg_restore`."""
    with archive.open(_DUMP) as member, _running(home, "pg_restore", *arguments) as process:
        assert process.stdin is not None  # noqa: S101 - a pipe
        with contextlib.suppress(BrokenPipeError):  # it ended early: its status says so
            shutil.copyfileobj(member, process.stdin, _CHUNK_BYTES)
            process.stdin.close()


def _database(url: str) -> str:
    """The option of PostgreSQL's programs with the server's socket alone: older ones do not know all parameters."""
    parts = urlsplit(url)
    (host,) = parse_qs(parts.query)["host"]
    return f"--dbname={urlunsplit(parts._replace(query=urlencode({'host': host})))}"


@contextlib.contextmanager
def _running(home: Path, program: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """One of PostgreSQL's programs with pipes for its input and output. Raises `DatabaseError` if it fails."""
    with tempfile.TemporaryFile() as messages:
        process = subprocess.Popen(  # noqa: S603 - PostgreSQL's own programs
            [str(programs.program(home, program)), "--no-password", *arguments],
            env={"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=messages,
        )
        with process:
            try:
                yield process
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            messages.seek(0)
            reason = " ".join(messages.read().decode(errors="replace").split()) or f"exit code {process.returncode}"
            raise DatabaseError(f"Nothing was changed: {program} failed: {shortened(reason, _MAX_REASON_CHARACTERS)}")


_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    OSError,
)
"""What reading a damaged archive raises."""


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive of a backup. Raises `ConfigurationError` if there is no such file or it is no archive."""
    if path.exists() and not path.is_file():  # to open a pipe would wait for a writer
        raise ConfigurationError(f"{_name(path)}: is no file; name a backup")
    with contextlib.ExitStack() as opened:
        try:
            file: IO[bytes] = opened.enter_context(path.open("rb"))
        except OSError as error:
            raise ConfigurationError(f"{_name(path)}: cannot be read ({error.strerror}); name a backup") from None
        try:
            archive = opened.enter_context(zipfile.ZipFile(file))
        except _DAMAGE:
            raise _damaged(path, "it is no archive, or cut off") from None
        yield archive


def _checked(archive: zipfile.ZipFile, path: Path) -> Manifest:
    """The manifest, after the size and the SHA-256 of every member were compared with it.

    Raises `ConfigurationError` for an archive that is no whole backup.
    """
    entries = archive.infolist()
    if sorted(entry.filename for entry in entries) != sorted(_MEMBERS):
        raise _damaged(path, f"it does not consist of {listed(_MEMBERS)}")
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise _damaged(path, "its members are compressed")
    if archive.getinfo(_MANIFEST).file_size > MAX_MANIFEST_BYTES:
        raise _damaged(path, f"its {_MANIFEST} is too large")
    try:
        text = archive.read(_MANIFEST)
        manifest = Manifest.model_validate_json(text)
        members = [_measured(archive, name) for name in (_ROLES, _DUMP)]
        is_whole = members == list(manifest.members) and manifest.major > 0
    except ValidationError as error:
        raise _damaged(path, f"its {_MANIFEST} is of another version, or no manifest ({_first(error)})") from None
    except _DAMAGE:
        is_whole = False
    if not is_whole:
        raise _damaged(path, "its content does not match its checksums")
    return manifest


def _measured(archive: zipfile.ZipFile, name: str) -> Member:
    """The size and SHA-256 of a member."""
    digest, octets = hashlib.sha256(), 0
    with archive.open(name) as member:
        while chunk := member.read(_CHUNK_BYTES):
            digest.update(chunk)
            octets += len(chunk)
    return Member(name=name, bytes=octets, sha256=digest.hexdigest())


def _first(error: ValidationError) -> str:
    fault = error.errors(include_input=False, include_url=False)[0]
    return ".".join(str(part) for part in fault["loc"]) or "not JSON"


def _damaged(path: Path, reason: str) -> ConfigurationError:
    return ConfigurationError(
        f"{_name(path)}: is no whole backup of usage-explore: {reason}; nothing was changed. Copy it again, or take"
        " another one"
    )
