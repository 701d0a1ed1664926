"""DuckDB in this process, restricted to the folder of the extracts, and the files that it may trust.

One instance for all threads: each statement runs on a cursor of its own. It can load no extension, reach no file
outside the folder and no network, and its memory, threads and time are limited.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import psutil  # type: ignore[import-untyped]
import pyarrow as pa

from usage_explore.db import timeouts
from usage_explore.errors import DatabaseUnavailable, StatementTimeout
from usage_explore.extract import manifest
from usage_explore.extract.connection import Resources, connect
from usage_explore.extract.folder import is_whole
from usage_explore.extract.manifest import File, Manifest, Segment

_Result = TypeVar("_Result")
_Parser = Callable[[duckdb.DuckDBPyConnection, str], duckdb.Statement]

_IDLE_SECONDS = 10.0
"""Seconds without a query after which the thread ends; the next query starts another one."""

_MAX_PARSED, _MAX_PARSED_LENGTH = 64, 20_000
"""Parsed statements that are kept, and their characters: parsing takes a tenth of DuckDB's time for few rows."""

_REPEAT_SECONDS = 0.5
"""Seconds after which a block that goes on is interrupted again: it may have been between two statements."""


_ROWS_AT_ONCE = 2_000
"""Rows that DuckDB makes into Python's objects before other threads run."""


@dataclass(eq=False, slots=True)
class _Limit:
    """A running block: when it must end, how to end it, and whether that was done."""

    deadline: float
    interrupt: Callable[[], object]
    is_expired: bool = False


@dataclass(eq=False)
class Watchdog:
    """Interrupts blocks that run for too long, by one thread: starting one for each takes longer than short queries.

    Thread-safe.
    """

    _changed: threading.Condition = field(default_factory=threading.Condition)
    _limits: set[_Limit] = field(default_factory=set)
    _thread: threading.Thread | None = None
    _wakes: float = 0.0
    _stopping: bool = False

    def stop(self) -> None:
        """End the thread if nothing runs; the next block starts another one."""
        with self._changed:
            thread, self._stopping = self._thread, True
            self._changed.notify()
        if thread is not None and thread.is_alive() and not self._limits:
            thread.join(_REPEAT_SECONDS)

    @contextlib.contextmanager
    def limited(self, timeout: timedelta, interrupt: Callable[[], object]) -> Iterator[Callable[[], bool]]:
        """Call `interrupt` when the block has run for `timeout`; gives a function that says whether that happened."""
        limit = _Limit(time.monotonic() + timeout.total_seconds(), interrupt)
        with self._changed:
            self._limits.add(limit)
            self._stopping = False
            if self._thread is None or not self._thread.is_alive():  # not alive: in the child of a fork
                self._wakes = limit.deadline
                self._thread = threading.Thread(target=self._watch, name="usage-explore-watchdog", daemon=True)
                self._thread.start()
            elif limit.deadline < self._wakes:
                self._changed.notify()
        try:
            yield lambda: limit.is_expired
        finally:
            with self._changed:
                self._limits.discard(limit)

    def _watch(self) -> None:
        with self._changed:
            idle_since = time.monotonic()
            while True:
                now = time.monotonic()
                for limit in self._limits:
                    if limit.deadline <= now:
                        limit.is_expired = True
                        limit.deadline = now + _REPEAT_SECONDS
                        limit.interrupt()
                if self._limits:
                    idle_since = now
                elif self._stopping or now - idle_since >= _IDLE_SECONDS:
                    self._thread = None
                    return
                self._wakes = min([now + _IDLE_SECONDS, *(limit.deadline for limit in self._limits)])
                self._changed.wait(max(self._wakes - now, 0))


class ExtractUnusable(Exception):
    """The extract cannot answer; the events can. The message follows "because"."""


@dataclass(frozen=True, slots=True)
class _Seen:
    """A manifest as it was read, and the state of its file then."""

    state: tuple[int, int, int]
    manifest: Manifest | None


def _fetched(result: duckdb.DuckDBPyConnection, at_once: int, most: int = sys.maxsize) -> list[Any]:
    """At most `most` rows, some at once."""
    rows: list[Any] = []
    while len(rows) < most and (piece := result.fetchmany(min(at_once, most - len(rows)))):
        rows += piece
    return rows


@dataclass(frozen=True, slots=True)
class Cursor:
    """A cursor of DuckDB for the statements of one query; `parse` makes them of texts."""

    connection: duckdb.DuckDBPyConnection
    parse: Callable[[str], duckdb.Statement | str]

    def run(self, statement: str, parameters: list[Any], at_once: int = _ROWS_AT_ONCE) -> list[Any]:
        """The rows of a statement, made `at_once`: no other thread runs meanwhile."""
        parsed = self.parse(statement)
        return self._signalled(lambda: _fetched(self.connection.execute(parsed, parameters), at_once))

    def rows_up_to(self, number: int, statement: str, parameters: list[Any]) -> list[Any] | None:
        """The rows of a statement; None for more than `number`."""
        rows = _fetched(self.connection.execute(self.parse(statement), parameters), _ROWS_AT_ONCE, number + 1)
        return rows if len(rows) <= number else None

    def arrow(self, statement: str, parameters: list[Any]) -> pa.Table:
        """The result of a statement as an Arrow table."""

        def read() -> pa.Table:
            table: pa.Table = self.connection.sql(statement, params=parameters).to_arrow_table()
            return table

        return self._signalled(read)

    def _signalled(self, read: Callable[[], _Result]) -> _Result:
        """What `read` returns; the exception of a signal's handler, such as that of Ctrl-C, ends it at once.

        Handlers run in the main thread when Python code does, and not while DuckDB makes an Arrow table; DuckDB also
        hides their exception. So `read` has a thread of its own, and the main thread waits for it.
        """
        if threading.current_thread() is not threading.main_thread():
            return read()
        with self.beside(read) as result:
            return result()

    @contextlib.contextmanager
    def beside(self, read: Callable[[], _Result]) -> Iterator[Callable[[], _Result]]:
        """Run `read` in a thread beside the block, which calls what is given for the result.

        DuckDB is interrupted where the block ends before it.
        """
        result: Future[_Result] = Future()

        def work() -> None:
            try:
                result.set_result(read())
            except BaseException as error:
                result.set_exception(error)

        thread = threading.Thread(target=work, name="usage-explore-duckdb", daemon=True)
        try:
            thread.start()
            yield result.result
        finally:
            while thread.is_alive() and not result.done():
                self.connection.interrupt()
                thread.join(_REPEAT_SECONDS)


@dataclass(eq=False)
class Extracts:
    """The extracts below `home` of the database at `url`. Thread-safe. `resources` limit DuckDB."""

    home: Path
    url: str = field(repr=False)
    resources: Resources
    many_points: dict[tuple[Path, str], int] = field(default_factory=dict, repr=False)
    """The fewest buckets with which a folder's group had too many points for `ranking`; see `routing`."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _watchdog: Watchdog = field(default_factory=Watchdog, repr=False)
    _database: duckdb.DuckDBPyConnection | None = field(default=None, repr=False)
    _manifests: dict[Path, _Seen] = field(default_factory=dict, repr=False)
    _verified: dict[str, tuple[int, int, int]] = field(default_factory=dict, repr=False)
    _parsed: _Parser = field(default_factory=lambda: lru_cache(_MAX_PARSED)(_statement), repr=False)

    def __post_init__(self) -> None:
        # at the end of the process too: a thread that waits then keeps DuckDB's objects alive, which it reports
        weakref.finalize(self, self._watchdog.stop)

    def manifest(self, folder: Path) -> Manifest | None:
        """The manifest of a folder, read again when its file has changed; None if there is none."""
        state = _state(folder / manifest.NAME)
        if state is None:
            return None
        seen = self._manifests.get(folder)
        if seen is None or seen.state != state:
            seen = _Seen(state, manifest.read(folder))
            self._manifests[folder] = seen
            for path in map(Path, list(self._verified)):
                if path.parent == folder and not path.exists():
                    self._verified.pop(str(path), None)
        return seen.manifest

    def close(self) -> None:
        """End the DuckDB; the next statement starts another one."""
        self._watchdog.stop()
        self._parsed = lru_cache(_MAX_PARSED)(_statement)
        with self._lock:
            if self._database is not None:
                with contextlib.suppress(duckdb.Error):  # a thread still reads: the process ends
                    self._database.close()
                self._database = None

    def check(self, folder: Path, segments: list[Segment]) -> None:
        """Compare the files of segments with the manifest: size and CRC-32, once for each state of a file.

        Raises `ExtractUnusable` for a missing or damaged file.
        """
        start = str(folder)
        for segment in segments:
            for file in segment.files:
                self._check(os.path.join(start, file.name), file)  # noqa: PTH118 - for dozens of files in each query

    def _check(self, path: str, file: File) -> None:
        state = _state(path)
        if state is None:
            raise ExtractUnusable(f"its file {file.name} is missing")
        if self._verified.get(path) == state:
            return
        if not is_whole(Path(path), file):
            raise ExtractUnusable(f"its file {file.name} is damaged")
        self._verified[path] = state

    def run(self, statement: str, parameters: list[Any], timeout: timedelta) -> list[Any]:
        """The rows of a statement.

        Raises `StatementTimeout` after `timeout`, `ExtractUnusable` for a sum of more digits than DuckDB has, a file
        that went away, or too little memory.
        """
        with self.cursor(timeout) as cursor:
            return cursor.run(statement, parameters)

    def arrow(self, statement: str, parameters: list[Any], timeout: timedelta) -> pa.Table:
        """The result of a statement as an Arrow table. Raises as `run`."""
        with self.cursor(timeout) as cursor:
            return cursor.arrow(statement, parameters)

    @contextlib.contextmanager
    def cursor(self, timeout: timedelta) -> Iterator[Cursor]:
        """A cursor whose statements end together after `timeout`, and when the request is cancelled.

        Raises as `run`.
        """
        database = self._instance()
        cursor = database.cursor()

        def interrupt() -> None:
            with contextlib.suppress(duckdb.ConnectionException):  # it was closed meanwhile
                cursor.interrupt()

        try:
            with (
                self._watchdog.limited(timeout, interrupt) as expired,
                timeouts.interruptible(interrupt),
                _errors(),
            ):
                yield Cursor(cursor, partial(self._parse, database))
        except duckdb.InterruptException as error:
            if expired():
                raise StatementTimeout(
                    "The query of the extract took longer than the statement timeout and was cancelled; narrow the"
                    " window, add a filter, or raise the timeout (USAGE_EXPLORE_STATEMENT_TIMEOUT, in seconds)."
                ) from error
            raise DatabaseUnavailable("The query of the extract was cancelled; ask again.") from error
        finally:
            cursor.close()

    def _parse(self, database: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement | str:
        """A statement, parsed once for all cursors, which copy it, or a text that is too long to keep."""
        return self._parsed(database, text) if len(text) <= _MAX_PARSED_LENGTH else text

    def _instance(self) -> duckdb.DuckDBPyConnection:
        with self._lock:
            if self._database is None:
                self._database = _connected(self.home / "extract", self.resources)
            return self._database


def _statement(database: duckdb.DuckDBPyConnection, text: str) -> duckdb.Statement:
    """A text with one statement, parsed."""
    (statement,) = database.extract_statements(text)
    return statement


@contextlib.contextmanager
def _errors() -> Iterator[None]:
    """Raise `ExtractUnusable` for what only the events can answer."""
    try:
        yield
    except duckdb.OutOfRangeException as error:
        raise ExtractUnusable("a sum has more than 38 digits") from error
    except duckdb.ConversionException as error:
        raise ExtractUnusable("a number has more than 38 digits") from error
    except duckdb.OutOfMemoryException as error:
        raise ExtractUnusable("its answer needs more memory than USAGE_EXPLORE_EXTRACT_MEMORY") from error
    except (duckdb.IOException, duckdb.InvalidInputException) as error:
        raise ExtractUnusable("a file of it cannot be read") from error


def _connected(root: Path, resources: Resources) -> duckdb.DuckDBPyConnection:
    """A DuckDB for the folders below `root`, which spills to `root/tmp/<process id>`.

    Folders of processes that have ended are removed.
    """
    spilled = root / "tmp"
    for place in spilled.glob("*"):
        if place.name.isdecimal() and not psutil.pid_exists(int(place.name)):
            shutil.rmtree(place, ignore_errors=True)
    return connect(root, resources, spilled / str(os.getpid()))


def _state(path: Path | str) -> tuple[int, int, int] | None:
    """Size, time of change and inode of a file; None if there is none."""
    try:
        status = os.stat(path)  # noqa: PTH116 - as above
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino
