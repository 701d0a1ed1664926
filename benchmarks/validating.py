"""How long a validation takes, check by check, over all the rows a benchmark has made.

    python -m benchmarks.validating --rows 10000000

It validates the 120 days of the organization with most of the events, with its extract, and writes
benchmarks/results/validation.md. `python -m benchmarks` makes the rows and the extract.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import click
import psutil  # type: ignore[import-untyped]

from benchmarks.command import RESULTS, last
from benchmarks.extract import Extract
from benchmarks.home import Home, default_folder
from benchmarks.rows import Rows, organization
from usage_explore import Period, connect
from usage_explore.db import embedded
from usage_explore.validation import Validation

_EVERY = 0.2
_MEBIBYTE = 2**20


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rows", default=10_000_000, help="How many events, made before by python -m benchmarks.")
@click.option("--seed", default=1, help="Of the events.")
@click.option("--folder", type=click.Path(path_type=Path), default=default_folder, show_default="a cache folder")
@click.option("--results", type=click.Path(path_type=Path), default=RESULTS, show_default="benchmarks/results")
def main(rows: int, seed: int, folder: Path, results: Path) -> None:
    """Validate the benchmark's rows and write down what each check took."""
    until = last(folder, rows, seed)
    home = Home(folder, Rows(number=rows, seed=seed, until=until))
    if not home.postgres.exists():
        raise click.ClickException(f"{home.postgres} is not there; run python -m benchmarks --rows {rows} first")
    whole = Period(since=until - timedelta(days=120), until=until, finalized_at=until + timedelta(minutes=1))
    url = embedded.start(home.postgres)
    extract = Extract(url, home.path / "extract-postgresql", home.rows)
    extract.ensure()
    with connect(url, organization(), home=extract.home("current")) as store:
        began = time.perf_counter()
        with _watched() as highest:
            validation = store.validate(whole)
        took = time.perf_counter() - began
        page = _page(validation, took, highest(), rows)
    (results / "validation.md").write_text(page)
    click.echo(page)


@contextmanager
def _watched() -> Iterator[Callable[[], float]]:
    """The most memory that this process has at any time, in MiB."""
    ending, seen = threading.Event(), [0.0]
    process = psutil.Process()

    def watch() -> None:
        while not ending.wait(_EVERY):
            seen.append(process.memory_info().rss / _MEBIBYTE)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield lambda: max(seen)
    finally:
        ending.set()
        thread.join()


def _page(validation: Validation, took: float, memory: float, rows: int) -> str:
    spent = sum(result.took.total_seconds() for result in validation.results)
    lines = [
        "# A validation",
        "",
        f"`python -m benchmarks.validating --rows {rows}`: {validation.totals.events:,} events of one organization in"
        f" 120 days, among {rows:,} in the table, on {psutil.cpu_count()} cores. All checks took {took:.1f} s;"
        f" this process had {memory:,.0f} MiB at most.",
        "",
        "| check | seconds | share | looked at | findings |",
        "|---|--:|--:|---|--:|",
    ]
    for result in validation.results:
        seconds = result.took.total_seconds()
        outcome = result.outcome
        seen = f"{outcome.looked_at:,} {result.check.unit}" if outcome else result.skipped or result.failed
        found = f"{len(outcome.findings):,}" if outcome else ""
        lines.append(f"| {result.check.name} | {seconds:.1f} | {seconds / spent:.0%} | {seen} | {found} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    main()
