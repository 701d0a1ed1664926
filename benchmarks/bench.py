"""One run over one number of rows: everything that is measured, as one value."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks import database, ingest, paging, redraw, sizes
from benchmarks.crowd import crowd
from benchmarks.file_engines import ChDB, DuckDB
from benchmarks.home import Home
from benchmarks.postgres_engines import Panel, UsageExplore
from benchmarks.questions import aggregates, pages, pickers
from benchmarks.rows import Rows, organization
from benchmarks.side_by_side import compare
from benchmarks.worker import Worker
from usage_explore.db import ddl, embedded
from usage_explore.errors import UsageExploreError

OURS, RAW, PANEL = "usage-explore", "without rollup", "panel statement"
DUCKDB, TUNED, CHDB = "DuckDB", "DuckDB, tuned", "chDB"
_CROWDED = ("Q1", "Q2", "Q3", "Q5", "Q6", "Q7")

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run: rows, in which server (None is the embedded one), with which other engines, how often."""

    home: Home
    files: tuple[str, ...]
    parts: tuple[str, ...]
    server: str = "postgresql"
    url: str | None = None
    rounds: int = 7
    clients: int = 20
    seconds: float = 20

    @property
    def rows(self) -> Rows:
        """The rows of the run."""
        return self.home.rows

    def address(self) -> str:
        """The server's URL; the embedded one is started."""
        return self.url or embedded.start(self.home.postgres)


def run(plan: Plan, say: Say) -> dict[str, Any]:
    """Make or find the database, then measure the parts of the plan."""
    with _connection(plan) as connection:
        loaded = database.prepare(connection, plan.rows, say, distribute=plan.server == "citus")
        found: dict[str, Any] = {
            "server": plan.server,
            "rows": plan.rows.number,
            "seed": plan.rows.seed,
            "until": plan.rows.until.isoformat(),
            "rounds": plan.rounds,
            "machine": sizes.machine(connection),
            "load_before": round(os.getloadavg()[0], 1),
            "made_in_seconds": loaded.seconds,
            "disk": loaded.disk,
            "skipped": {},
        }
    with _connection(plan) as connection:  # an embedded server has stopped and starts again: the first answers are cold
        url = plan.address()
        workers = (
            Worker(OURS, UsageExplore, url, organization()),
            Worker(RAW, UsageExplore, url, organization(), rollup=False),
            Worker(PANEL, Panel, url, organization()),
        )
        with contextlib.ExitStack() as stack:
            for worker in workers:
                stack.enter_context(worker)
            running = _Running(plan, connection, workers, found, say)
            for part in plan.parts:
                say(f"{plan.server}, {plan.rows.number:,} rows: {part}")
                try:
                    _PARTS[part](running)
                except (psycopg.Error, UsageExploreError, RuntimeError) as error:  # what the others find is kept
                    found["skipped"][part] = " ".join(str(error).split())
                    say(f"Without {part}: {found['skipped'][part]}")
        found["load_after"] = round(os.getloadavg()[0], 1)
    return found


@contextlib.contextmanager
def _connection(plan: Plan) -> Iterator[ddl.Connection]:
    """A connection that may write; an embedded server runs as long as it is open."""
    try:
        with contextlib.closing(ddl.connect(plan.address())) as connection:
            yield connection
    finally:
        if plan.url is None:
            embedded.release(plan.home.postgres)


@dataclass(frozen=True)
class _Running:
    """What the parts work with: `workers` are usage-explore, the same without rollup, and the panel."""

    plan: Plan
    connection: ddl.Connection
    workers: tuple[Worker, ...]
    found: dict[str, Any]
    say: Say


def _questions(running: _Running) -> None:
    plan, found = running.plan, running.found
    with contextlib.ExitStack() as stack:
        workers = list(running.workers)
        for name in plan.files:
            label, engine, file, more = _FILES[name]
            running.say(f"{label} …")
            worker = stack.enter_context(Worker(label, engine, plan.home.parquet(), plan.home.path / file, **more))
            try:
                worker.wait()
            except RuntimeError as error:
                found["skipped"][name] = str(error).strip().splitlines()[-1]
                running.say(f"Without {name}: {found['skipped'][name]}")
            else:
                workers.append(worker)
                found["disk"][name] = plan.home.size(file)
        found["questions"] = compare(workers, PANEL, aggregates(plan.rows.until), plan.rounds, running.say)
        found["memory"] = {worker.name: round(worker.peak_memory()) for worker in workers}
    found["memory"]["server"] = sizes.server_memory(running.connection)


def _pages(running: _Running) -> None:
    plan = running.plan
    asked = [page for page in pages() if page.depth < plan.rows.number / 2]
    ours, _, panel = running.workers
    found = compare([ours, panel], PANEL, asked, plan.rounds, running.say)
    engine = UsageExplore(plan.address(), organization())
    in_server = paging.in_server(running.connection, engine, asked, plan.rounds * 3)
    engine.close()
    running.found["pages"] = [entry | {"in_server": in_server[entry["name"]]} for entry in found]


def _pickers(running: _Running) -> None:
    rounds = min(running.plan.rounds, 3)
    running.found["pickers"] = compare(running.workers, PANEL, pickers(), rounds, running.say)


def _crowd(running: _Running) -> None:
    """The panel may use every index here: hiding them would need the table for one client alone."""
    plan, url = running.plan, running.plan.address()
    asked = [each for each in aggregates(plan.rows.until) if each.name in _CROWDED]
    shared = UsageExplore(url, organization())
    panels = [Panel(url, organization(), paging_only=False) for _ in range(plan.clients)]
    running.found["crowd"] = {
        OURS: crowd([shared.ask] * plan.clients, asked, plan.seconds),
        PANEL: crowd([panel.ask for panel in panels], asked, plan.seconds),
    }
    for engine in (shared, *panels):
        engine.close()


def _refresh(running: _Running) -> None:
    running.found["refresh"] = ingest.refreshing(running.connection, running.plan.rows, 5)


def _ingest(running: _Running) -> None:
    plan = running.plan
    running.found["ingest"] = ingest.ingesting(plan.address(), plan.rows, plan.seconds, 2, running.say)


def _redraw(running: _Running) -> None:
    running.found["redraw"] = redraw.redraws(running.plan.address(), running.plan.rows)


_FILES: dict[str, tuple[str, Callable[..., Any], str, dict[str, Any]]] = {
    "duckdb": (DUCKDB, DuckDB, "duckdb.db", {}),
    "duckdb-tuned": (TUNED, DuckDB, "duckdb-tuned.db", {"tuned": True}),
    "chdb": (CHDB, ChDB, "chdb", {}),
}
FILES = {name: file for name, (_, _, file, _) in _FILES.items()}
"""The engines in files of their own, and the names of the files."""

_PARTS = {
    "questions": _questions,
    "pages": _pages,
    "pickers": _pickers,
    "crowd": _crowd,
    "refresh": _refresh,
    "redraw": _redraw,
    "ingest": _ingest,
}
PARTS = tuple(_PARTS)
"""What can be measured, in this order."""
