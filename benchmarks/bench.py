"""One run over one number of rows: everything that is measured, as one value."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks import database, ingest, paging, redraw, sizes
from benchmarks.crowd import crowd
from benchmarks.file_engines import ChDB, DuckDB
from benchmarks.home import Home
from benchmarks.postgres_engines import Panel, UsageExplore
from benchmarks.questions import Aggregated, aggregates, pages, pickers
from benchmarks.rows import Rows, organization
from benchmarks.side_by_side import compare
from benchmarks.worker import Worker
from usage_explore import embedded, writing

OURS, RAW, PANEL, DUCKDB, CHDB = "usage-explore", "without rollup", "panel statement", "DuckDB", "chDB"
_CROWDED = ("Q1", "Q2", "Q3", "Q5", "Q6", "Q7")

Say = Callable[[str], object]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What to run: rows, in which server (None is the embedded one), with which other engines, how often."""

    home: Home
    server: str = "postgresql"
    url: str | None = None
    files: tuple[str, ...] = ("duckdb", "chdb")
    parts: tuple[str, ...]
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
        loaded = database.prepare(connection, plan.rows, say)
        found: dict[str, Any] = {
            "server": plan.server,
            "rows": plan.rows.number,
            "seed": plan.rows.seed,
            "until": plan.rows.until.isoformat(),
            "rounds": plan.rounds,
            "machine": sizes.machine(connection),
            "load_before": round(os.getloadavg()[0], 1),
            "made_in_seconds": loaded.seconds,
            "disk": sizes.tables(connection, organization(), plan.server),
            "skipped": {},
        }
    with _connection(plan) as connection:  # an embedded server has stopped and starts again: the first answers are cold
        for part in plan.parts:
            say(f"{plan.server}, {plan.rows.number:,} rows: {part}")
            _PARTS[part](plan, connection, found, say)
        found["load_after"] = round(os.getloadavg()[0], 1)
    return found


@contextlib.contextmanager
def _connection(plan: Plan) -> Iterator[writing.Connection]:
    """A connection that may write; an embedded server runs as long as it is open."""
    url = plan.address()
    try:
        with contextlib.closing(writing.connect(url)) as connection:
            yield connection
    finally:
        if plan.url is None:
            embedded.release(plan.home.postgres)


def _questions(plan: Plan, connection: writing.Connection, found: dict[str, Any], say: Say) -> None:
    url = plan.address()
    with contextlib.ExitStack() as stack:
        workers = _on_server(stack, url)
        for name in plan.files:
            try:
                made = partial(_FILES[name][1], plan.home.parquet(), plan.home.path)
                workers.append(stack.enter_context(Worker(_FILES[name][0], made)))
            except RuntimeError as error:
                found["skipped"][name] = str(error).strip().splitlines()[-1]
                say(f"without {name}: {found['skipped'][name]}")
        found["questions"] = compare(workers, PANEL, aggregates(plan.rows.until), plan.rounds, say)
        found["memory"] = {worker.name: round(worker.peak_memory()) for worker in workers}
    found["memory"]["server"] = sizes.server_memory(connection)
    for name in plan.files:
        if name not in found["skipped"]:
            found["disk"][name] = plan.home.size(_FILES[name][2])


def _pages(plan: Plan, connection: writing.Connection, found: dict[str, Any], say: Say) -> None:
    url = plan.address()
    asked = [page for page in pages() if page.depth < plan.rows.number / 2]
    with contextlib.ExitStack() as stack:
        ours, _, panel = _on_server(stack, url)
        found["pages"] = compare([ours, panel], PANEL, asked, plan.rounds, say)
    engine = UsageExplore(url, organization())
    in_server = paging.in_server(connection, engine, asked, plan.rounds * 3)
    engine.close()
    for entry in found["pages"]:
        entry["in_server"] = in_server[entry["name"]]


def _pickers(plan: Plan, connection: writing.Connection, found: dict[str, Any], say: Say) -> None:
    with contextlib.ExitStack() as stack:
        found["pickers"] = compare(_on_server(stack, plan.address()), PANEL, pickers(), min(plan.rounds, 3), say)


def _crowd(plan: Plan, connection: writing.Connection, found: dict[str, Any], say: Say) -> None:
    """The panel may use every index here: hiding them would need the table for one client alone."""
    url = plan.address()
    asked = [each for each in aggregates(plan.rows.until) if each.name in _CROWDED]
    one = UsageExplore(url, organization())
    found["crowd"] = {OURS: crowd(lambda: one.ask, asked, plan.clients, plan.seconds)}
    one.close()
    panels: list[Panel] = []

    def panel() -> Callable[[Aggregated], object]:
        panels.append(Panel(url, organization(), paging_only=False))
        return panels[-1].ask

    found["crowd"][PANEL] = crowd(panel, asked, plan.clients, plan.seconds)
    for each in panels:
        each.close()


def _refresh(plan: Plan, connection: writing.Connection, found: dict[str, Any], say: Say) -> None:
    found["refresh"] = ingest.refreshing(connection, plan.rows, 5)


def _ingest(plan: Plan, connection: writing.Connection, found: dict[str, Any], say: Say) -> None:
    found["ingest"] = ingest.ingesting(plan.address(), plan.rows, plan.seconds, 2, say)


def _redraw(plan: Plan, connection: writing.Connection, found: dict[str, Any], say: Say) -> None:
    found["redraw"] = redraw.redraws(plan.address(), plan.rows)


def _on_server(stack: contextlib.ExitStack, url: str) -> list[Worker]:
    return [
        stack.enter_context(Worker(OURS, UsageExplore, url, organization())),
        stack.enter_context(Worker(RAW, UsageExplore, url, organization(), rollup=False)),
        stack.enter_context(Worker(PANEL, Panel, url, organization())),
    ]


_FILES = {"duckdb": (DUCKDB, DuckDB, "duckdb.db"), "chdb": (CHDB, ChDB, "chdb")}
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
