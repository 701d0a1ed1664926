"""The results in a few lines, written between two marks of documents by a run into benchmarks/results.

docs/benchmarks.md has all questions, README.md some of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.bench import CHDB, DUCKDB, OURS, PANEL, TUNED

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- benchmarks -->\n", "<!-- /benchmarks -->\n"

_ENGINES = (OURS, PANEL, DUCKDB, TUNED, CHDB)
_SOME = ("Q1", "Q2", "Q5", "Q8", "Q12", "L")
_PINNED_TWICE = ("Q1p", "Q2p", "Q3p", "Q4p", "Q5p")


def renew(run: dict[str, Any], root: Path = ROOT) -> None:
    """Replace the text between the marks of the documents, where they have them, by the run's summary."""
    every = tuple(entry["name"] for entry in run["questions"] if entry["name"] not in _PINNED_TWICE)
    _replace(root / "docs" / "benchmarks.md", [*table(run, every, _ENGINES), "", " ".join(_sentences(run))])
    _replace(root / "README.md", table(run, _SOME, (OURS, PANEL, TUNED)))


def _replace(document: Path, lines: Iterable[str]) -> None:
    text = document.read_text()
    if BEGIN in text and END in text:
        before, _, rest = text.partition(BEGIN)
        document.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2])


def table(run: dict[str, Any], questions: tuple[str, ...], engines: tuple[str, ...]) -> Iterator[str]:
    """A table of some questions."""
    machine = run["machine"]
    shown = [name for name in engines if any(name in entry["warm"] for entry in run["questions"])]
    yield (
        f"Milliseconds from query to result, {run['rows'] / 1e6:g} million events, {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, PostgreSQL {machine['postgresql']}:"
    )
    yield ""
    yield f"| query | {' | '.join(shown)} |"
    yield f"|---|{'--:|' * len(shown)}"
    for entry in run["questions"]:
        if entry["name"] in questions:
            times = [entry["warm"].get(name) for name in shown]
            cells = ["differs" if took is None else f"{took:,.1f}" if took < 100 else f"{took:,.0f}" for took in times]
            yield f"| {entry['words']} | {' | '.join(cells)} |"


def _sentences(run: dict[str, Any]) -> Iterator[str]:
    if found := run.get("extract"):
        yield (
            f"The extract of {found['events'] / 1e6:.3g} million events takes {found['bytes'] / 1e6:,.0f} MB and is"
            f" built in {found['build_seconds']:.0f} s; a refresh after one more hour takes"
            f" {found['refresh_seconds']:g} s."
        )
    if found := run.get("ingest"):
        yield f"Ingesting keeps {min(found['kept'], 1):.0%} of its speed beside refreshes."
    if pages := {entry["name"]: entry for entry in run.get("pages", ())}:
        deep = f", at depth 1,000,000 {pages['P2']['in_server']:g} ms" if "P2" in pages else ""
        yield f"The first page of 100 events takes {pages['P1']['in_server']:g} ms in the server{deep}."
    if found := run.get("crowd"):
        for words, engines in found.items():
            ours, panel = engines[OURS], engines[PANEL]
            beside = f", by tuned DuckDB {engines[TUNED]['per_second']:,.0f}" if TUNED in engines else ""
            yield (
                f"{ours['clients']} clients at once get {ours['per_second']:,.0f} answers a second on {words}, by the"
                f" panel statement {panel['per_second']:,.1f}{beside}."
            )
    if found := run.get("redraw"):
        yield f"The app draws a changed filter in {found['p50_ms']:,} ms."
