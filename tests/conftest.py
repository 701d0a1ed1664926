"""Databases for tests: the embedded PostgreSQL, or the server in USAGE_EXPLORE_TEST_DATABASE_URL."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import gc
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import hypothesis
import psycopg
import pytest
from altair.utils.schemapi import SchemaBase
from sqlalchemy import Engine, create_engine
from sqlalchemy.util import LRUCache

from support import generated_events
from support.database_servers import forgo_durability, fresh_database, kind, remove_server, short_folder
from support.demo_database import demo_database
from support.query_oracle import Row
from support.reused_databases import ReusedDatabases
from support.thoroughness import THOROUGH, cases, repetitions
from support.timescale_layouts import LAYOUTS, insert_in_layout
from usage_explore import Store, connect, open_store
from usage_explore.db import ddl, embedded
from usage_explore.db import engine as pools
from usage_explore.db.schema import DEFAULT_TABLE
from usage_explore.validation.check import Outcome
from usage_explore.validation.registry import CHECKS

# where Python is told to write no compiled modules, each process of a test would compile the package again: 4 s CPU
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# databases are files that come and go by the thousand, which a disk takes a fifth of the CPU for: they and temporary
# folders, 3 GB in all, are in memory where that has room and may hold programs
MEMORY = Path("/dev/shm")
if (
    "TMPDIR" not in os.environ
    and MEMORY.is_dir()
    and shutil.disk_usage(MEMORY).free > 6 * 1024**3
    and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
):
    os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = str(MEMORY)
    tempfile.tempdir = None

# a test on a busy machine is slow, not wrong
hypothesis.settings.register_profile("untimed", deadline=None, max_examples=cases(100))
hypothesis.settings.load_profile("untimed")

DATABASE_FIXTURES = {"server_url", "home", "primary"}
"""Fixtures that start a PostgreSQL server or connect to one: their tests get the marker `database`."""

DATABASE_PATHS = ("app/test_pages.py", "browser/", "faults/")
"""Files and folders under tests/ that reach a database in another way than by a declared fixture."""

SLOW_PATHS = (
    *(
        "access/test_api_keys.py",
        "access/test_bind_check.py",
        "api/test_openapi.py",
        "app/test_middleware.py",
        "app/validate/test_run.py",
        "db/test_backup.py",
        "extract/test_ranking.py",
        "files/test_excel.py",
        "files/test_formats.py",
        "query/test_queries_in_python.py",
        "results/test_workbook.py",
    ),
    *("validation/reconciliation/test_invoices.py", "validation/reconciliation/test_reconciliation.py"),
    *("validation/report/test_page.py", "validation/test_bursty_usage.py", "validation/test_plug_ins.py"),
    *("browser/", "charts/", "cli/", "demo/", "detector/", "explain/", "faults/", "hostile/", "load/", "packaging/"),
)
"""Files and folders under tests/ that start processes, compile charts or try many values: marker `slow`."""

FIRST_PATHS = ("browser/test_explore_and_events.py", "browser/")
"""Files that run first: they are half of the CPU time. One that begins late would keep one worker after the others."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto` is one worker more than processors: tests wait for processes, time limits and a browser."""
    return len(os.sched_getaffinity(0)) + 1 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 1


def pytest_configure(config: pytest.Config) -> None:
    """Workers begin to collect at different files: each rewrites its share of assertions, 20 s of CPU in all."""
    worker: dict[str, Any] = getattr(config, "workerinput", {})
    if worker and config.args == config.getini("testpaths"):
        files = sorted(map(str, Path(__file__).parent.rglob("test_*.py")))
        first = len(files) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        config.args = files[first:] + files[:first]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Set the markers by fixture and by folder; a test sets one itself where neither says it. Order the files.

    Repetitions of the claim of other tests are left out unless USAGE_EXPLORE_TEST_THOROUGH=1.
    """
    root = Path(__file__).parent
    if not THOROUGH and (left_out := repetitions(items)):
        config.hook.pytest_deselected(items=list(left_out))
        items[:] = [item for item in items if item not in left_out]

    def place(item: pytest.Item) -> tuple[int, Path]:
        path = item.path.relative_to(root).as_posix()
        firsts = (number for number, first in enumerate(FIRST_PATHS) if path.startswith(first))
        return next(firsts, len(FIRST_PATHS)), item.path

    items.sort(key=place)
    for item in items:
        path = item.path.relative_to(root).as_posix()
        if path.startswith(DATABASE_PATHS) or DATABASE_FIXTURES & set(getattr(item, "fixturenames", ())):
            item.add_marker("database")
        if path.startswith("browser/"):
            item.add_marker("browser")
        if path.startswith(SLOW_PATHS):
            item.add_marker("slow")


def pytest_collection_finish() -> None:
    """Leave what is imported and collected out of garbage collections, a million objects that stay; collect seldom."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)  # of Python's own 700, collections take 7 % of the CPU


def pytest_unconfigure() -> None:
    """Let go of it in the end: DuckDB reports what is never collected as leaks."""
    gc.unfreeze()


@pytest.fixture(autouse=True, scope="session")
def _clean_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the settings of the user who runs it, nor writes into that user's data folder."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("USAGE_EXPLORE_")]:
            if name != "USAGE_EXPLORE_TEST_DATABASE_URL":
                patch.delenv(name)
        patch.setenv("USAGE_EXPLORE_HOME", str(tmp_path_factory.mktemp("home")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _one_list_of_authorities() -> Iterator[None]:
    """Read the certificate authorities once; each HTTP client would, for 30 ms of CPU, whatever it asks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(httpx._transports.default, "create_ssl_context", functools.cache(httpx.create_ssl_context))
        yield


class _Errors(logging.Handler):
    """Keeps the errors that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(logging.Formatter().format(record))


@pytest.fixture(autouse=True)
def unexpected_failures() -> Iterator[list[str]]:
    """The unexpected errors of checks, with their tracebacks: a test that does not clear the list fails by them."""
    errors, logger = _Errors(), logging.getLogger("usage_explore.validation.registry")
    logger.addHandler(errors)
    yield errors.lines
    logger.removeHandler(errors)
    assert not errors.lines, "\n".join(errors.lines)


class _Statements(LRUCache[Any, Any]):
    """Compiled statements by what they are, whichever engine asks: SQLAlchemy's key begins with its dialect."""

    def get(self, key: Any, default: Any = None) -> Any:
        return super().get(key[1:], default)

    def __setitem__(self, key: Any, value: Any) -> None:
        super().__setitem__(key[1:], value)


@pytest.fixture(autouse=True, scope="session")
def _one_compilation() -> Iterator[None]:
    """Compile each statement of stores once; each test has its own engine, which would compile all of them again."""
    statements = _Statements(500)

    def created(*arguments: Any, **options: Any) -> Engine:
        engine = create_engine(*arguments, **options)
        engine.update_execution_options(compiled_cache=statements)
        return engine

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pools, "create_engine", created)
        patch.setattr(open_store, "events_table", functools.cache(open_store.events_table))
        yield


@pytest.fixture
def brief_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks that judge usage itself find nothing, at once: they are two thirds of the CPU of a validation.

    Those of repeated and late events and of what is given, such as invoices, are run.
    """
    for name in ("look_alikes", "impossible_times", "quantities", "unit_slips", "shifts", "silence", "new_usage"):
        brief = dataclasses.replace(CHECKS[name], examine=lambda _: Outcome())
        monkeypatch.setitem(CHECKS, name, brief)


INITDB = embedded.Server.create
"""Makes a cluster of the embedded PostgreSQL."""


@pytest.fixture(autouse=True, scope="session")
def _one_initdb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Make one cluster by `initdb` and copy it where a test needs another."""
    made = tmp_path_factory.mktemp("cluster") / "data"

    def create(server: embedded.Server) -> None:
        if made.exists():
            subprocess.run(["cp", "-a", made, server.data], check=True)
            return
        INITDB(server)
        subprocess.run(["cp", "-a", server.data, made.with_name("copied")], check=True)
        made.with_name("copied").rename(made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded.Server, "create", create)
        yield


@pytest.fixture
def initdb(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters are made by `initdb`, as they are outside of tests."""
    monkeypatch.setattr(embedded.Server, "create", INITDB)


VALIDATE = vars(SchemaBase)["validate"]
"""Altair's validation of a chart, and of every part of it, against Vega-Lite's schema."""


@pytest.fixture(autouse=True, scope="session")
def _unvalidated_charts() -> Iterator[None]:
    """Charts are not validated against Vega-Lite's schema, which is more than half of what it costs to make one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SchemaBase, "validate", classmethod(lambda *_: None))
        yield


@pytest.fixture
def validated_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Charts are validated, as they are outside of tests."""
    monkeypatch.setattr(SchemaBase, "validate", VALIDATE)


@pytest.fixture
def home() -> Iterator[Path]:
    """A short temporary folder for an embedded server that other OS users can enter, and its end."""
    folder = short_folder()
    yield folder
    remove_server(folder)


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A server where databases can be created: its URL, with some database that is not the tests' own."""
    given = os.environ.get("USAGE_EXPLORE_TEST_DATABASE_URL")
    if given:
        yield given
        return
    folder = short_folder()
    url = embedded.start(folder)
    forgo_durability(url)
    yield url
    remove_server(folder)


@pytest.fixture
def database_url(server_url: str) -> Iterator[str]:
    """A fresh, empty database, dropped afterwards."""
    with fresh_database(server_url) as url:
        yield url


@pytest.fixture(scope="session")
def _template(server_url: str) -> Iterator[str]:
    """The name of a database that holds the empty events table, to copy."""
    with fresh_database(server_url) as url:
        with ddl.connect(url) as connection:
            ddl.ensure_schema(connection, DEFAULT_TABLE)
            # a permission that was granted and revoked leaves no trace where the owner's are written down
            connection.execute("GRANT ALL ON usage_events, usage_names TO CURRENT_USER")
        yield psycopg.conninfo.conninfo_to_dict(url)["dbname"]


@pytest.fixture(scope="session")
def _events_databases(server_url: str, _template: str) -> Iterator[ReusedDatabases]:
    with contextlib.closing(ReusedDatabases(server_url, _template)) as databases:
        yield databases


@pytest.fixture
def events_database_url(_events_databases: ReusedDatabases) -> Iterator[str]:
    """A database with the empty events table and its indexes, which is no other test's meanwhile."""
    with _events_databases.one() as url:
        yield url


@pytest.fixture(scope="session")
def demo_url(server_url: str, _template: str) -> Iterator[str]:
    """A small demo database that never changes."""
    with demo_database(server_url, _template) as url:
        yield url


@pytest.fixture
def connection(database_url: str) -> Iterator[ddl.Connection]:
    """A connection that may write to the fresh, empty database."""
    with ddl.connect(database_url) as opened:
        yield opened


@pytest.fixture
def events_connection(events_database_url: str) -> Iterator[ddl.Connection]:
    """A connection that may write to the fresh database with the events table."""
    with ddl.connect(events_database_url) as opened:
        yield opened


@pytest.fixture
def insert(events_connection: ddl.Connection) -> generated_events.Insert:
    """Writes events into the fresh database."""

    def inserted(rows: list[Row]) -> None:
        generated_events.insert(events_connection, rows)
        events_connection.commit()

    return inserted


@pytest.fixture(scope="session")
def generated() -> list[Row]:
    return generated_events.generate()


def _layouts() -> list[str]:
    """How the rows of `everyone` lie: on TimescaleDB as rows, as columns, and both, else as the server keeps them."""
    given = os.environ.get("USAGE_EXPLORE_TEST_DATABASE_URL")
    return list(LAYOUTS) if given and kind(given) == "timescaledb" else [LAYOUTS[0]]


@pytest.fixture(scope="session", params=_layouts())
def everyone(request: pytest.FixtureRequest, server_url: str, _template: str, generated: list[Row]) -> Iterator[Store]:
    """A store on the generated rows that was not told which organization."""
    with fresh_database(server_url, _template) as url:
        with ddl.connect(url) as connection:
            insert_in_layout(connection, generated, request.param)
        store = connect(url)
        yield store
        store.close()


@pytest.fixture(scope="session")
def store(everyone: Store) -> Store:
    """A store for the generated rows' main organization."""
    return everyone.scoped(generated_events.ORGANIZATION)


@pytest.fixture(scope="session")
def own(generated: list[Row]) -> list[Row]:
    """The main organization's rows."""
    return [row for row in generated if row.organization_id == generated_events.ORGANIZATION]
