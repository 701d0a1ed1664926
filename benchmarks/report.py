"""What was found as files: bench.json, bench.md and the chart."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import drawing
from benchmarks.bars import bars
from benchmarks.bench import BEHIND, CHDB, DUCKDB, EVENTS, OURS, PANEL, TUNED
from benchmarks.extract import MAX_TAIL_EVENTS

_BARS_ROWS = 10_000_000
_ENGINES = (OURS, EVENTS, PANEL, DUCKDB, TUNED, CHDB)


def write(runs: list[dict[str, Any]], grown: list[dict[str, Any]], note: str, folder: Path) -> None:
    """Write bench.json, bench.md, bench.svg and bench.png; `grown` are runs over other numbers of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    day = f"{datetime.now(UTC):%Y-%m-%d}"
    for run in runs:
        run["bars"] = [asdict(bar) for bar in bars(run, grown)]
    found = {"day": day, "note": note, "runs": runs, "grown": grown}
    (folder / "bench.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (folder / "bench.md").write_text("\n".join(_markdown(found)))
    if "questions" in runs[0]:
        drawing.draw(runs[0], grown, folder)


def _markdown(found: dict[str, Any]) -> Iterator[str]:
    first = found["runs"][0]
    machine = first["machine"]
    yield "# Benchmarks"
    yield ""
    yield (
        f"Made by `make bench`, {found['day']}: {first['rows']:,} generated events of 120 days (seed {first['seed']}, "
        f"until {first['until']}), 80 % of them in the organization that is asked about. {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, Python {machine['python']}, PostgreSQL {machine['postgresql']} with "
        f"{machine['shared_buffers']} shared_buffers, "
        f"{', '.join(f'{name} {version}' for name, version in machine['packages'].items())}. "
        f"Load average before and after: {first['load_before']} and {first['load_after']}."
    )
    if found["note"]:
        yield f"\n**Note**: {found['note']}"
    if "questions" in first:
        yield "\n![Milliseconds by question and engine](bench.svg)"
    for run in found["runs"]:
        yield from _run(run)
    if found["grown"]:
        yield from _grown(found["grown"])
    yield _HOW


def _run(run: dict[str, Any]) -> Iterator[str]:
    yield f"\n## {_SERVERS[run['server']]}, {run['rows']:,} events\n"
    if run["rows"] != _BARS_ROWS:
        yield (
            f"The bars are set for {_BARS_ROWS:,} events: with fewer, a bar in seconds or milliseconds is easier, and"
            " one in times as fast as a panel statement is harder, because of what every query costs.\n"
        )
    yield "| bar | found | met |\n|---|---|---|"
    for bar in run["bars"]:
        yield f"| {bar['asked']} | {bar['found']} | {_MET[bar['met']]} |"
    if "questions" in run:
        yield "\nMilliseconds, fastest of the warm runs; in brackets how many times as long as usage-explore.\n"
        yield from _times(run["questions"], _ENGINES, "path")
        yield "\nThe first answers, of a server that has just started:\n"
        yield from _times(run["questions"], _ENGINES, None, "first")
    if "tail" in run:
        yield (
            f"\nThe same with an extract that lacks the newest {min(MAX_TAIL_EVENTS, run['rows'] // 8):,} events,"
            " beside one that lacks up to an hour of them:\n"
        )
        yield from _times(run["tail"], (OURS, BEHIND), None)
    if "pages" in run:
        yield "\nPages of 100 events; the panel statement skips with OFFSET.\n"
        yield from _times(run["pages"], (OURS, PANEL), "in_server")
    if "pickers" in run:
        yield "\nWhat the app offers to choose from:\n"
        yield from _times(run["pickers"], (OURS, EVENTS, PANEL), None)
    yield from _resources(run)


def _times(
    entries: list[dict[str, Any]], engines: tuple[str, ...], more: str | None, kind: str = "warm"
) -> Iterator[str]:
    shown = [name for name in engines if any(name in entry[kind] for entry in entries)]
    extra = {"path": "answered by", "in_server": "in the server"}.get(more or "", "")
    yield f"| | question | {' | '.join(shown)} |{f' {extra} |' if more else ''}"
    yield f"|---|---|{'--:|' * len(shown)}{'--:|' if more else ''}"
    for entry in entries:
        cells = [_cell(entry, name, kind) for name in shown]
        if more == "path":
            cells.append(entry["paths"].get(OURS, ""))
        elif more:
            cells.append(f"{entry['in_server']:g}")
        yield f"| {entry['name']} | {entry['words']} | {' | '.join(cells)} |"


def _cell(entry: dict[str, Any], name: str, kind: str) -> str:
    if name in entry["unequal"]:
        return "differs"
    if name not in entry[kind]:
        return "–"
    took, ours = entry[kind][name], entry[kind].get(OURS)
    words = f"{took:,.1f}" if took < 100 else f"{took:,.0f}"
    return (
        words
        if name == OURS or not ours
        else f"{words} ({took / ours:.2g}×)"
        if took / ours < 10
        else f"{words} ({took / ours:,.0f}×)"
    )


def _resources(run: dict[str, Any]) -> Iterator[str]:
    disk = run["disk"]
    sizes = {
        "table": "table",
        "indexes": "its indexes",
        "duckdb": DUCKDB,
        "duckdb-tuned": TUNED,
        "chdb": CHDB,
    }
    yield "\n| disk | MB | bytes per event |\n|---|--:|--:|"
    for name, words in sizes.items():
        if name in disk:
            yield f"| {words} | {disk[name] / 1e6:,.0f} | {disk[name] / run['rows']:,.0f} |"
    if held := run.get("extract"):
        size, events = held["bytes"], held["events"]
        yield f"| extract, of {events:,} events | {size / 1e6:,.0f} | {size / events:,.0f} |"
        yield (
            f"\nThe extract has {held['segments']} segments; their summaries have {held['summary_rows']:,} rows"
            f" ({'; '.join(held['summary_columns']) or 'none'}), and take {held['summary_bytes'] / 1e6:,.0f} MB of"
            f" it. It was built in {held['build_seconds']:g} s by a process of {held['build_peak_mib']:,} MiB at most;"
            f" a refresh after one more hour read {held['read']:,} events in {held['refresh_seconds']:g} s."
        )
    for form, made in run.get("export", {}).items():
        what = "`read`" if form == "read" else f"Export to {form}"
        yield (
            f"\n{what} of {made['events']:,} events, in {made['bytes'] / 1e6:,.0f} MB: {made['seconds']:g} s, in a"
            f" process of {made['peak_mib']:,} MiB at most ({made['before_mib']:,} before)."
        )
    if memory := run.get("memory"):
        yield "\n| memory | MiB at most |\n|---|--:|"
        for name, size in memory.items():
            if size is not None:
                yield f"| {name if name != 'server' else 'the PostgreSQL server, afterwards'} | {size:,} |"
    if crowd := run.get("crowd"):
        head = ("answers/s", "p50 ms", "p95 ms", "refused")
        clients = next(iter(crowd.values()))[OURS]["clients"]
        yield f"\n| {clients} clients at once | {' | '.join(head)} |\n|---|{'--:|' * len(head)}"
        for words, engines in crowd.items():
            for name, each in engines.items():
                times = f"{each['p50_ms']:,.0f} | {each['p95_ms']:,.0f}"
                yield f"| {words}, {name} | {each['per_second']:,.1f} | {times} | {each['refused']} |"
    if ingest := run.get("ingest"):
        yield (
            f"\nIngested by COPY in batches of 10,000 with every index: {ingest['per_second']:,} events/s, "
            f"{ingest['per_second_with_refreshes']:,} beside refreshes of what just came "
            f"({ingest['refreshes']} of them, {ingest['refresh_seconds']} s each)."
        )
    steps = ", ".join(f"{name} {took:g} s" for name, took in run["made_in_seconds"].items())
    yield f"\nMade in: {steps}."
    for name, why in run["skipped"].items():
        yield f"\nWithout {name}: {why}"


def _grown(runs: list[dict[str, Any]]) -> Iterator[str]:
    runs = sorted(runs, key=lambda run: run["rows"])
    yield "\n## How times grow\n\nMilliseconds, fastest of the warm runs, by number of events.\n"
    yield f"| | engine | {' | '.join(f'{rows:,}' for rows in (run['rows'] for run in runs))} |"
    yield f"|---|---|{'--:|' * len(runs)}"
    for entries in zip(*(run["questions"] for run in runs), strict=True):
        for engine in _ENGINES if entries[0]["name"] in _GROWING else ():
            times = [entry["warm"].get(engine) for entry in entries]
            if any(times):
                cells = " | ".join("–" if took is None else f"{took:,.1f}" for took in times)
                yield f"| {entries[0]['name']} | {engine} | {cells} |"


_GROWING = ("Q1", "Q2", "Q3", "Q5", "Q8")
_SERVERS = {"postgresql": "Embedded PostgreSQL", "timescaledb": "TimescaleDB", "citus": "Citus"}
_MET = {True: "yes", False: "**no**", None: ""}
_HOW = """
## How it is measured

Each engine lives in a process of its own. Every round asks every question of every engine once, taking turns; the first
round is cold (the server has just started, though the system may still cache its files) and does not count. A time
is taken in Python from the question to the answer: with usage-explore `store.aggregate(question)`, ranked and folded,
with the others the statement and all its rows. The fastest of the warm runs counts: what else the machine does can only
make a run slower. The answers are compared to the last digit, with the others' rows ranked and folded in Python,
outside of the time.

- **without extract**: usage-explore made to read the events themselves.
- **panel statement**: what Grafana, Metabase or Superset send to the same table: `date_trunc`, GROUP BY, all groups.
  While it is asked the table has its paging index only (the others are dropped in a transaction that is rolled back);
  of the clients at once it may use all of them.
- **DuckDB, chDB**: native tables in the process that asks. DuckDB as it comes has the rows in the order of their
  ingestion and JSON dimensions; tuned they are in order of organization and time, with a column for each dimension key.
  chDB has a MergeTree in that order, with JSON dimensions.

The extract reaches up to the last full hour, so every live answer also reads the events of up to an hour from the
database. Pinned questions were pinned 20 hours before, Q13 three days, seven hours and some minutes before. L is
`store.leaderboards`, which also gives the region's own board, nine panel statements, and one statement with GROUPING
SETS in DuckDB. Memory includes Python and the harness, about 150 MiB.
"""
