"""The command: the same rows and questions through usage-explore and what one would do otherwise."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import click
import psycopg

from benchmarks import report, summary
from benchmarks.bench import FILES, PARTS, Plan, run
from benchmarks.home import Home, default_folder
from benchmarks.rows import Rows
from usage_explore.errors import UsageExploreError

RESULTS = Path(__file__).with_name("results")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--rows", default=10_000_000, help="How many events.")
@click.option("--rounds", default=7, help="Warm runs of each question; their median counts.")
@click.option("--seed", default=1, help="Of the events.")
@click.option(
    "--until",
    type=click.DateTime(("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S.%f")),
    help="UTC; when the last event was ingested.  [default: last made, else yesterday 13:57:42]",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=default_folder,
    show_default="a cache folder",
    help="Where the rows are kept for the next run.",
)
@click.option("--engines", default=",".join(FILES), help="Which of these to compare with; empty for none.")
@click.option("--only", default=",".join(PARTS), help="Which parts to measure.")
@click.option("--clients", default=20, help="How many at once.")
@click.option("--seconds", default=20.0, help="How long the clients ask, and each turn of ingesting lasts.")
@click.option("--timescaledb", metavar="URL", help="An empty database with TimescaleDB, measured as well.")
@click.option("--citus", metavar="URL", help="An empty database with Citus and workers, measured as well.")
@click.option(
    "--grow",
    default="",
    metavar="MILLIONS",
    help="Also how times grow, such as 1,10,50 million events, with the engines that the disk has room for: where it"
    " has none for all indexes, only with those of an extract, without the panel's statement and pages.",
)
@click.option("--note", default="", help="A sentence for the report, such as what else ran.")
@click.option(
    "--results",
    type=click.Path(path_type=Path),
    default=RESULTS,
    show_default="benchmarks/results",
    help="Where the report goes.",
)
def main(
    rows: int,
    rounds: int,
    seed: int,
    until: datetime | None,
    folder: Path,
    engines: str,
    only: str,
    clients: int,
    seconds: float,
    timescaledb: str | None,
    citus: str | None,
    grow: str,
    note: str,
    results: Path,
) -> None:
    """Compare usage-explore with the plain statement a dashboard's panel sends to the same server, and with DuckDB and
    chDB on the same rows; every answer is compared before a time counts. Writes bench.json, bench.md and bench.svg.
    """

    def plan(
        number: int, parts: tuple[str, ...], files: tuple[str, ...], *, grown: bool = False, **more: str | None
    ) -> Plan:
        instant = until.replace(tzinfo=UTC) if until else last(folder, number, seed)
        home = Home(folder, Rows(number=number, seed=seed, until=instant))
        if grown and home.room() < 0:
            home, parts = replace(home, extract_only=True), tuple(part for part in parts if part != "pages")
        given = {"rounds": rounds, "clients": clients, "seconds": seconds, **more}
        return Plan(home=home, parts=parts, files=files, **given)  # type: ignore[arg-type]

    files, parts = _listed("--engines", engines, tuple(FILES)), _listed("--only", only, PARTS)
    found = _ran(plan(rows, parts, files))
    if not found:
        return
    grown: list[dict[str, Any]] = []
    report.write(found, grown, note, results)
    for number in _sizes(grow):
        grown += (
            found[:1] if number == rows else _ran(plan(number, ("extract", "questions", "pages"), files, grown=True))
        )
        report.write(found, grown, note, results)  # each takes long, and may be the last
    for server, url in (("timescaledb", timescaledb), ("citus", citus)):
        if url:
            found += _ran(plan(rows, parts, (), server=server, url=url))
            report.write(found, grown, note, results)
    if results.resolve() == RESULTS and "questions" in found[0]:
        summary.renew(found[0])
    click.echo((results / "bench.md").read_text())


def _ran(plan: Plan) -> list[dict[str, Any]]:
    """What was found; nothing where it had to be left out, which is said: what others found is worth keeping."""
    what = f"{plan.rows.number:,} rows in {plan.server}"
    if (room := plan.home.room()) < 0:
        click.echo(f"Left out: {what}: the disk lacks {-room / 1e9:.0f} GB")
        return []
    files = plan.home.fitting({name: FILES[name] for name in plan.files})
    for name in sorted(set(plan.files) - set(files)):
        click.echo(f"Left out: {name} of {what}: the disk has no room for it")
    try:
        return [run(replace(plan, files=files), click.echo)]
    except (psycopg.Error, UsageExploreError, RuntimeError) as error:
        click.echo(f"Left out: {what}: {error}")
        return []


def last(folder: Path, number: int, seed: int) -> datetime:
    """The end of the rows that are there already, newest first; else yesterday, in the middle of the day."""
    there = sorted(folder.glob(f"{number}-{seed}-*"))
    if there:
        return datetime.strptime(there[-1].name.split("-")[-1], "%Y%m%dT%H%M%S.%f").replace(tzinfo=UTC)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    return datetime.combine(yesterday, time(13, 57, 42, 500_000), UTC)


def _sizes(grow: str) -> list[int]:
    try:
        return [int(millions) * 1_000_000 for millions in grow.split(",") if millions.strip()]
    except ValueError:
        raise click.BadParameter(f"{grow} is not a list of numbers; write 1,10,50", param_hint="--grow") from None


def _listed(option: str, given: str, known: tuple[str, ...]) -> tuple[str, ...]:
    chosen = {part.strip() for part in given.split(",") if part.strip()}
    if chosen - set(known):
        raise click.BadParameter(
            f"{', '.join(sorted(chosen - set(known)))} is none of {', '.join(known)}", param_hint=option
        )
    return tuple(name for name in known if name in chosen)
