"""Where an extract lies, who may write it, and whether its files are whole.

    <home>/extract/<database-table-role-hash>/<organization>/manifest.json, removed.json, *.parquet, lock

The first folder stands for a table as one database role sees it: row-level security may show roles different rows. Its
hash covers the server's address and system identifier, so that a server made anew at the same address has its own. All
folders are readable by their owner only.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import time
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import psycopg
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.db.locks import locked
from usage_explore.errors import TableMismatch, UsageExploreError
from usage_explore.extract import manifest as files
from usage_explore.extract.connection import ExtractError
from usage_explore.extract.manifest import File, Manifest
from usage_explore.extract.visibility import ROLE
from usage_explore.formatting import path_text
from usage_explore.results.whole_file import make_folder
from usage_explore.sql.identifiers import identifier

_LOCK = "lock"
_TEMPORARY = "temporary"
_READ_BYTES = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)

_SOURCE = f"""
SELECT c.oid::bigint, n.nspname, c.relname, current_database(), {ROLE},
       has_function_privilege('pg_control_system()', 'EXECUTE')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = to_regclass(%s)::oid
"""


class ExtractBusy(UsageExploreError):
    """Another process refreshes the extract; what it does is not lost, so nothing has to be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A table as one role sees it. `relation` is its oid, `system` the server's identifier, blank if it is hidden.

    `role` also names the role that signed in, where another one reads.
    """

    host: str
    port: str
    database: str
    options: str
    schema: str
    table: str
    role: str
    system: str
    relation: int

    @property
    def name(self) -> str:
        """The folder's name: readable, and different for every source."""
        identity = [self.host, self.port, self.database, self.options, self.schema, self.table, self.role, self.system]
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        words = "-".join((self.database, f"{self.schema}.{self.table}", self.role))
        return f"{re.sub(r'[^A-Za-z0-9._-]', '_', words)[:80]}-{digest}"

    def folder(self, home: Path, organization_id: UUID) -> Path:
        """The folder of an organization's extract, which may be missing."""
        return home / "extract" / self.name / str(organization_id)


def source(connection: Connection, url: str, events: Table) -> Source:
    """The identity of the table that the connection, made from `url`, sees. Raises `TableMismatch` if there is none."""
    with connection.transaction():
        name = identifier(events).as_string(connection)
        row = connection.execute(_SOURCE, [name]).fetchone()
        if row is None:
            raise TableMismatch(f"{events.fullname}: there is no such table or view in this database")
        relation, schema, table, database, role, readable = row
        system = ""
        if readable:
            with suppress(psycopg.Error), connection.transaction():
                found = connection.execute("SELECT system_identifier::text FROM pg_control_system()").fetchone()
                system = found[0] if found else ""
    given = conninfo_to_dict(url)
    return Source(
        host=str(given.get("host") or given.get("hostaddr") or ""),
        port=str(given.get("port") or ""),
        database=database,
        options=str(given.get("options") or ""),
        schema=schema,
        table=table,
        role=role,
        system=system,
        relation=relation,
    )


@contextmanager
def writing(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Hold the lock of the only writer, in a folder that exists and has no remains of writers that died.

    Raises `ExtractBusy` if another process holds it for longer than `wait` seconds, `ExtractError` if the folder cannot
    be written.
    """
    with errors(folder):
        _make(folder)
        try:
            lock = locked(folder / _LOCK, wait)
        except TimeoutError:
            raise ExtractBusy(f"{path_text(folder)}: another process is refreshing this extract") from None
        with lock:
            _clean(folder)
            try:
                yield
            finally:
                shutil.rmtree(temporary(folder), ignore_errors=True)


@contextmanager
def errors(folder: Path) -> Iterator[None]:
    """Raise `ExtractError` in place of an `OSError`."""
    try:
        yield
    except OSError as error:
        reason = "the disk is full" if error.errno in _FULL else error.strerror or str(error)
        fix = "run this as the user whose folder it is" if isinstance(error, PermissionError) else "free space there"
        raise not_written(folder, reason, fix=fix) from error


def not_written(folder: Path, reason: str, *, fix: str = "free space there") -> ExtractError:
    """The error of an extract that could not be written, and how to correct it."""
    return ExtractError(
        f"{path_text(folder)}: the extract could not be written: {reason}; {fix}, or move it with --home"
        " (USAGE_EXPLORE_HOME)."
        " What was there before is unharmed."
    )


def temporary(folder: Path) -> Path:
    """The folder for what does not fit into memory while the lock is held."""
    return folder / _TEMPORARY


def described(path: Path, rows: int) -> File:
    """The file with its size and checksum, on disk when this returns."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return File(name=path.name, bytes=path.stat().st_size, crc=_crc(path), rows=rows)


def is_whole(path: Path, file: File) -> bool:
    """Whether a file is there, with the size and the checksum of the manifest."""
    try:
        return path.stat().st_size == file.bytes and _crc(path) == file.crc
    except OSError:
        return False


def damaged(folder: Path, held: Manifest) -> list[str]:
    """The names of files that are missing, or have another size or checksum."""
    return [file.name for file in _files(held) if not is_whole(folder / file.name, file)]


def replace(folder: Path, before: Manifest | None, after: Manifest) -> None:
    """Write the manifest. Files that it no longer names stay for `GRACE` from now."""
    kept = {file.name for file in _files(after)}
    for file in _files(before) if before else ():
        if file.name not in kept:
            with suppress(OSError):
                os.utime(folder / file.name)
    files.write(folder, after)


def drop(folder: Path) -> bool:
    """Remove the extract; False if there is none. Readers answer from the events from now on.

    Which events were removed from the table stays known, see `manifest.removal`.
    Raises `ExtractBusy` while another process refreshes it.
    """
    with errors(folder):
        if not folder.is_dir():
            return False
    with writing(folder):
        there = (folder / files.NAME).exists()
        forget(folder)
    return there  # the folder and its lock stay: another process may be waiting for it


def forget(folder: Path) -> None:
    """Remove manifest and files, but not what is known of removed events, while the lock is held."""
    if (held := files.read(folder)) is not None:
        files.keep_removal(folder, held)  # one of an earlier version has no file of it
    (folder / files.NAME).unlink(missing_ok=True)
    for path in folder.glob("*.parquet"):
        path.unlink(missing_ok=True)


def held(source: Source, home: Path) -> Iterator[Manifest]:
    """The manifests of all extracts of a source that can be read, without regard to who may see them."""
    with suppress(PermissionError):  # of another user
        for path in (home / "extract" / source.name).glob("*/"):
            if (manifest := files.read(path)) is not None:
                yield manifest


def _files(held: Manifest) -> Iterator[File]:
    for segment in held.segments:
        yield from segment.files


def _crc(path: Path) -> int:
    crc = 0
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            crc = zlib.crc32(part, crc)
    return crc


def _make(folder: Path) -> None:
    for made in (folder.parent.parent, folder.parent, folder):
        make_folder(made, 0o700)
        if made.lstat().st_uid == os.geteuid():  # root does not follow links of another user
            made.chmod(0o700)


def _clean(folder: Path) -> None:
    """Remove what writers that died left, and files that no manifest has named for `GRACE`."""
    shutil.rmtree(temporary(folder), ignore_errors=True)
    for name in (files.NAME, files.REMOVED):
        for path in folder.glob(f"{name}.*"):
            path.unlink(missing_ok=True)
    held = files.read(folder)
    _remove_old(folder.glob("*.change.*"), set())
    _remove_old(folder.glob("*.parquet"), {file.name for file in _files(held)} if held else set())


def _remove_old(paths: Iterable[Path], kept: set[str]) -> None:
    limit = time.time() - files.GRACE.total_seconds()
    for path in paths:
        with suppress(FileNotFoundError):
            if path.name not in kept and path.stat().st_mtime < limit:
                path.unlink()
