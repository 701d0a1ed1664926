"""`usage-explore rollup`: make and refresh it, look at it, compare it with the events, say what it keeps."""

from __future__ import annotations

from datetime import datetime, timedelta

import click

from usage_explore.cli import rollup_run
from usage_explore.cli.options import common, instant, organization, settings_in_force, span
from usage_explore.errors import ConfigurationError


@click.command()
@click.option("--show", is_flag=True, help="Say what is kept, what is left out and why, and change nothing.")
@click.option(
    "--every", metavar="SPAN", callback=span, help="Keep going: refresh again and again, such as 5m, until it is ended."
)
@click.option("--keep", multiple=True, metavar="DIMENSION=GRAIN", help="Keep dim:model=hour, customer_id=day, …")
@click.option("--leave-out", multiple=True, metavar="DIMENSION", help="Do not keep a dimension, whatever is measured.")
@click.option("--forget", multiple=True, metavar="DIMENSION", help="Go back to what is measured.")
@click.option("--verify", is_flag=True, help="Count the events again and compare; exit code 1 on differences.")
@click.option(
    "--sample", type=click.IntRange(1), metavar="N", show_default="10 days", help="Days of ingestion to compare."
)
@click.option("--all", "all_", is_flag=True, help="Compare all of them.")
@click.option("--rebuild", is_flag=True, help="Make rows anew from the events; all, or by --since and --until.")
@click.option("--since", metavar="TIME", callback=instant, help="Ingested then or later; RFC 3339, with --rebuild.")
@click.option("--until", metavar="TIME", callback=instant, help="Ingested before; RFC 3339, with --rebuild.")
@click.option(
    "--schedule", metavar="SPAN", callback=span, help="Let TimescaleDB refresh it so often, such as 5m, as a job."
)
@click.option("--unschedule", is_flag=True, help="Take that job away.")
@click.option("--drop", is_flag=True, help="Take the rollup away; questions are answered from the events then.")
@organization
@common
def rollup(
    show: bool,
    every: timedelta | None,
    keep: tuple[str, ...],
    leave_out: tuple[str, ...],
    forget: tuple[str, ...],
    verify: bool,
    sample: int | None,
    all_: bool,
    rebuild: bool,
    since: datetime | None,
    until: datetime | None,
    schedule: timedelta | None,
    unschedule: bool,
    drop: bool,
) -> None:
    """Count events ahead, so that answers take milliseconds: create the rollup, and bring it up to now.

    What is kept is measured: dimensions with few values by the hour, with many by the day. --keep, --leave-out and
    --forget change that for good, for every organization or with --organization-id for one. It is safe to run at any
    time, several times at once, and to interrupt.
    """
    from usage_explore.rollup import overrides
    from usage_explore.rollup.verify import SAMPLE

    wanted = dict(map(overrides.grain, keep)) | {overrides.dimension(each, "--leave-out"): None for each in leave_out}
    forgotten = [overrides.dimension(each, "--forget") for each in forget]
    _check_choice(wanted, forgotten, keep, leave_out)
    _check_together(
        {
            "--show": show,
            "--verify": verify,
            "--rebuild": rebuild,
            "--schedule": schedule is not None,
            "--unschedule": unschedule,
            "--drop": drop,
            "--every": every is not None,
        },
        changing=bool(wanted or forgotten),
    )
    if (sample is not None or all_) and not verify:
        raise ConfigurationError("--sample, --all: say how much to compare; give --verify too")
    if sample is not None and all_:
        raise ConfigurationError("--sample, --all: are both given; keep one")
    if (since or until) and not rebuild:
        raise ConfigurationError("--since, --until: say what to rebuild; give --rebuild too")
    if since and until and since >= until:
        raise ConfigurationError(f"--since, --until: {since.isoformat()} is not before {until.isoformat()}")
    settings = settings_in_force()
    if every is not None:
        rollup_run.keep_going(settings, every, wanted, forgotten)
        return
    with rollup_run.interruptible(), rollup_run.connected(settings) as (connection, table):
        if drop:
            rollup_run.drop(connection, table)
        elif show:
            rollup_run.show(connection, table)
        elif verify:
            rollup_run.verify(connection, table, None if all_ else sample or SAMPLE)
        elif rebuild:
            rollup_run.rebuild(connection, table, since, until)
        elif unschedule:
            rollup_run.unschedule(connection, table)
        else:
            rollup_run.change(connection, table, settings, wanted, forgotten)
            rollup_run.refresh(connection, table, settings, again=bool(wanted or forgotten), showing=schedule is None)
            if schedule:
                rollup_run.schedule(connection, table, settings, schedule)


def _check_choice(
    wanted: dict[str, timedelta | None], forgotten: list[str], keep: tuple[str, ...], leave_out: tuple[str, ...]
) -> None:
    named = [each.rpartition("=")[0] for each in keep] + [*leave_out, *forgotten]
    twice = sorted({each for each in named if named.count(each) > 1})
    if twice:
        raise ConfigurationError(f"--keep, --leave-out, --forget: {', '.join(twice)} is given twice; keep one")


def _check_together(tasks: dict[str, bool], *, changing: bool) -> None:
    given = [name for name, asked in tasks.items() if asked]
    if len(given) > 1:
        raise ConfigurationError(f"{', '.join(given)}: are tasks of their own; give one of them")
    if changing and given and given != ["--every"]:
        raise ConfigurationError(f"{given[0]}: changes nothing of what is kept; give --keep and the like alone")
