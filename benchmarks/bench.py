"""One run over one number of rows: everything that is measured, as one value."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg

from benchmarks import database, exporting, ingest, paging, redraw, sizes
from benchmarks.crowd import crowd
from benchmarks.extract import Extract
from benchmarks.file_engines import ChDB, DuckDB
from benchmarks.home import Home
from benchmarks.postgres_engines import Panel, UsageExplore
from benchmarks.questions import aggregates, leaderboards, pages, pickers
from benchmarks.rows import Rows, organization
from benchmarks.side_by_side import compare
from benchmarks.worker import Worker
from usage_explore.db import ddl, embedded
from usage_explore.errors import UsageExploreError

OURS, EVENTS, PANEL = "usage-explore", "without extract", "panel statement"
DUCKDB, TUNED, CHDB = "DuckDB", "DuckDB, tuned", "chDB"
BEHIND = "usage-explore, extract behind"
_CROWDED = {
    "Q1 to Q5": ("Q1", "Q2", "Q3", "Q4", "Q5"),
    "Q8 to Q13": ("Q8", "Q9", "Q10", "Q11", "Q12", "Q13"),
}

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

    @property
    def extract(self) -> Extract:
        """The extract of the run, beside the rows; its server is started."""
        return Extract(self.address(), self.home.path / f"extract-{self.server}", self.rows)

    def address(self) -> str:
        """The server's URL; the embedded one is started."""
        return self.url or embedded.start(self.home.postgres)


def run(plan: Plan, say: Say) -> dict[str, Any]:
    """Make or find the database, then measure the parts of the plan."""
    with _connection(plan) as connection:
        loaded = database.prepare(
            connection, plan.rows, say, distribute=plan.server == "citus", extract_only=plan.home.extract_only
        )
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
        if "extract" in plan.parts:
            say(f"{plan.server}, {plan.rows.number:,} rows: extract")
            found["extract"] = plan.extract.build(min(plan.rounds, 5))
        else:
            plan.extract.ensure()
        workers = [Worker(OURS, UsageExplore, url, organization(), plan.extract.home("current"))]
        if not plan.home.extract_only:
            workers += [
                Worker(EVENTS, UsageExplore, url, organization()),
                Worker(PANEL, Panel, url, organization()),
            ]
        with contextlib.ExitStack() as stack:
            for worker in workers:
                stack.enter_context(worker)
            running = _Running(plan, connection, workers, found, say)
            for part in (part for part in plan.parts if part in _PARTS):
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
    """What the parts work with: `workers` are usage-explore and, where all indexes are, the same without
    extract, and the panel.
    """

    plan: Plan
    connection: ddl.Connection
    workers: list[Worker]
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
        asked = [*aggregates(plan.rows.until), leaderboards(plan.rows.until)]
        found["questions"] = compare(
            workers, OURS if plan.home.extract_only else PANEL, asked, plan.rounds, running.say
        )
        found["memory"] = {worker.name: round(worker.peak_memory()) for worker in workers}
    found["memory"]["server"] = sizes.server_memory(running.connection)


def _tail(running: _Running) -> None:
    """The same questions with an extract that lacks the newest 100,000 events, beside one that lacks an hour's."""
    plan, ours = running.plan, running.workers[0]
    home = plan.extract.home("behind")
    with Worker(BEHIND, UsageExplore, plan.address(), organization(), home) as behind:
        questions = [each for each in aggregates(plan.rows.until) if not each.query.as_of]
        running.found["tail"] = compare([ours, behind], OURS, questions, plan.rounds, running.say)


def _pages(running: _Running) -> None:
    plan = running.plan
    asked = [page for page in pages() if page.depth < plan.rows.number / 2]
    ours, _, panel = running.workers
    found = compare([ours, panel], PANEL, asked, plan.rounds, running.say)
    engine = UsageExplore(plan.address(), organization(), plan.extract.home("current"))
    in_server = paging.in_server(running.connection, engine, asked, plan.rounds * 3)
    engine.close()
    running.found["pages"] = [entry | {"in_server": in_server[entry["name"]]} for entry in found]


def _pickers(running: _Running) -> None:
    rounds = min(running.plan.rounds, 3)
    running.found["pickers"] = compare(running.workers, PANEL, pickers(), rounds, running.say)


def _crowd(running: _Running) -> None:
    """The panel may use every index here: hiding them would need the table for one client alone.

    Tuned DuckDB shows what an engine in one process can answer on this machine, without ranks, folds and newest events.
    """
    plan, url = running.plan, running.plan.address()
    shared = UsageExplore(url, organization(), plan.extract.home("current"))
    panels = [Panel(url, organization(), paging_only=False) for _ in range(plan.clients)]
    tuned = [DuckDB(plan.home.parquet(), plan.home.path / FILES[_TUNED], tuned=True)] if _TUNED in plan.files else []
    running.found["crowd"] = {}
    for words, names in _CROWDED.items():
        asked = [each for each in aggregates(plan.rows.until) if each.name in names]
        running.found["crowd"][words] = found = {
            OURS: crowd([shared.ask] * plan.clients, asked, plan.seconds),
            PANEL: crowd([panel.ask for panel in panels], asked, plan.seconds),
        }
        for each in tuned:
            found[TUNED] = crowd([each.client() for _ in range(plan.clients)], asked, plan.seconds)
    for engine in (shared, *panels, *tuned):
        engine.close()


def _export(running: _Running) -> None:
    plan = running.plan
    running.found["export"] = exporting.exports(
        plan.address(), plan.extract.home("current"), plan.home.path / "exports", plan.rows
    )


def _ingest(running: _Running) -> None:
    plan = running.plan
    running.found["ingest"] = ingest.ingesting(
        plan.address(), plan.extract.folder / "ingest", plan.rows, plan.seconds, 2, running.say
    )


def _redraw(running: _Running) -> None:
    running.found["redraw"] = redraw.redraws(
        running.plan.address(), running.plan.extract.copy("current", "app"), running.plan.rows
    )


_TUNED = "duckdb-tuned"

_FILES: dict[str, tuple[str, Callable[..., Any], str, dict[str, Any]]] = {
    "duckdb": (DUCKDB, DuckDB, "duckdb.db", {}),
    _TUNED: (TUNED, DuckDB, "duckdb-tuned.db", {"tuned": True}),
    "chdb": (CHDB, ChDB, "chdb", {}),
}
FILES = {name: file for name, (_, _, file, _) in _FILES.items()}
"""The engines in files of their own, and the names of the files."""

_PARTS = {
    "questions": _questions,
    "tail": _tail,
    "pages": _pages,
    "pickers": _pickers,
    "crowd": _crowd,
    "export": _export,
    "redraw": _redraw,
    "ingest": _ingest,
}
PARTS = ("extract", *_PARTS)
"""What can be measured, in this order."""
