"""`usage-explore rollup`: create, refresh, show, verify, schedule and drop the rollup, and choose its dimensions."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from usage_explore.cli.options import common, connected, instant, on_sigterm, organization, say, span
from usage_explore.console import progress_bar
from usage_explore.errors import ConfigurationError, DatabaseError

if TYPE_CHECKING:
    from sqlalchemy import Table

    from usage_explore.config import Settings
    from usage_explore.db.ddl import Connection

_MAX_RETRY_SECONDS = 60.0
"""Seconds between two attempts to reach a database that does not answer, at most."""


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
    from usage_explore.rollup import refresh_run
    from usage_explore.rollup.status import SAMPLE

    wanted = dict(map(refresh_run.parse_keep, keep)) | {
        refresh_run.parse_dimension(name, "--leave-out"): None for name in leave_out
    }
    forgotten = [refresh_run.parse_dimension(name, "--forget") for name in forget]
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
    if every is not None:
        _refresh_every(every, wanted, forgotten)
        return
    with on_sigterm(lambda _: KeyboardInterrupt()), _connected_to_table() as (connection, table, settings):
        if drop:
            _drop(connection, table)
        elif show:
            _show(connection, table)
        elif verify:
            _verify(connection, table, None if all_ else sample or SAMPLE)
        elif rebuild:
            _rebuild(connection, table, since, until)
        elif unschedule:
            _unschedule(connection, table)
        else:
            _change(connection, table, settings, wanted, forgotten)
            _refresh(connection, table, settings, again=bool(wanted or forgotten), showing=schedule is None)
            if schedule:
                _schedule(connection, table, settings, schedule)


def _check_choice(
    wanted: dict[str, timedelta | None], forgotten: list[str], keep: tuple[str, ...], leave_out: tuple[str, ...]
) -> None:
    named = [option.rpartition("=")[0] for option in keep] + [*leave_out, *forgotten]
    twice = sorted({name for name in named if named.count(name) > 1})
    if twice:
        raise ConfigurationError(f"--keep, --leave-out, --forget: {', '.join(twice)} is given twice; keep one")


def _check_together(tasks: dict[str, bool], *, changing: bool) -> None:
    chosen = [name for name, given in tasks.items() if given]
    if len(chosen) > 1:
        raise ConfigurationError(f"{', '.join(chosen)}: are tasks of their own; give one of them")
    if changing and chosen and chosen != ["--every"]:
        raise ConfigurationError(f"{chosen[0]}: changes nothing of what is kept; give --keep and the like alone")


def refresh_rollup(connection: Connection, settings: Settings, added: int) -> None:
    """Refresh the rollup after a number of events was added; say on stderr if this role may not."""
    from usage_explore.db.schema import events_table
    from usage_explore.rollup import refresh_run

    with _progress("refreshing the rollup") as progress:
        refused = refresh_run.refresh_after_loading(
            connection,
            events_table(settings.table),
            added,
            settle=settings.settle_time,
            timeout=settings.long_statement_timeout,
            progress=progress,
        )
    if refused:
        say(refused, err=True)


def _allow_long_statements(connection: Connection, settings: Settings) -> None:
    """Bound the connection's statements by the long statement timeout."""
    milliseconds = int(settings.long_statement_timeout.total_seconds() * 1000)
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(milliseconds)])
    connection.commit()


@contextmanager
def _connected_to_table() -> Iterator[tuple[Connection, Table, Settings]]:
    """A connection with the timeout of long statements, the events table and the settings."""
    from usage_explore.db.schema import events_table

    with connected() as (connection, settings):
        _allow_long_statements(connection, settings)
        yield connection, events_table(settings.table), settings


def _change(
    connection: Connection,
    table: Table,
    settings: Settings,
    wanted: dict[str, timedelta | None],
    forgotten: list[str],
) -> None:
    """Store which dimensions to keep or to forget, and create a missing rollup. Raises `ScopeError`."""
    from usage_explore.rollup import catalog, refresh_run

    if not (wanted or forgotten):
        return
    with connection.transaction():
        table = catalog.placed(connection, table)
    catalog.create(connection, table)
    if wanted:
        refresh_run.set_overrides(connection, table, wanted, settings.organization_id)
    if forgotten:
        refresh_run.forget_overrides(connection, table, forgotten, settings.organization_id)


def _refresh(connection: Connection, table: Table, settings: Settings, *, again: bool, showing: bool) -> None:
    """Refresh the rollup and print what happened."""
    from usage_explore.rollup import refresh_run

    with _progress("rollup") as progress:
        report = refresh_run.refresh(
            connection, table, settle=settings.settle_time, progress=progress, choose_again=again
        )
    if showing:
        _show(connection, table)
    if report.mended:
        click.echo(f"{report.mended:,} slots of ingestion had changed behind the watermark and were counted again.")
    if report.unfit:
        click.echo(f"{report.unfit:,} dimensions could not be kept and were left out; --show says why.")
    if report.safe.until is None or report.safe.since is not None:
        say(report.safe, err=True)


def _show(connection: Connection, table: Table) -> None:
    """Print the rollup's dimensions and size. Raises `ConfigurationError` without a rollup, as all below."""
    from usage_explore.rollup.status import overview

    click.echo(str(overview(connection, _table_with_rollup(connection, table))))


def _verify(connection: Connection, table: Table, sample: int | None) -> None:
    """Compare a sample of days, or all for None, with the events; exit code 1 on differences."""
    from usage_explore.rollup import status as comparison

    table = _table_with_rollup(connection, table)
    with progress_bar("verify", "parts", shown=sys.stderr.isatty()) as progress:
        result = comparison.verify(connection, table, sample=sample, progress=progress)
    compared = f"{result.compared:,} of {result.days:,} days of ingestion compared with the events"
    if not result.differing:
        click.echo(f"{compared}: no difference.")
        return
    for difference in result.differences:
        say(difference)
    click.echo(
        f"{compared}: {result.differing:,} keys differ, {len(result.differences):,} are listed. `usage-explore rollup"
        " --rebuild --since TIME --until TIME` counts what was ingested between the two again."
    )
    sys.exit(1)


def _rebuild(connection: Connection, table: Table, since: datetime | None, until: datetime | None) -> None:
    """Rebuild the rows of events ingested between two times."""
    from usage_explore.rollup.refresh import renew

    table = _table_with_rollup(connection, table)
    with _progress("rebuild") as progress:
        rows = renew(connection, table, since, until, progress)
    click.echo(f"Made {rows:,} rows anew.")


def _drop(connection: Connection, table: Table) -> None:
    """Drop the rollup and the job that refreshes it."""
    from usage_explore.rollup import catalog, schedule

    table = _table_with_rollup(connection, table)
    schedule.unschedule(connection, table)
    catalog.drop(connection, table)
    click.echo("Dropped the rollup.")


def _schedule(connection: Connection, table: Table, settings: Settings, every: timedelta) -> None:
    """Make a job of the database that refreshes the rollup at an interval."""
    from usage_explore.rollup import schedule as jobs

    job = jobs.schedule(connection, _table_with_rollup(connection, table), every, settings.settle_time)
    click.echo(
        f"Job {job} refreshes the rollup every {every} from now on, as this role. Run `usage-explore rollup` once a day"
        " beside it: that measures what is kept, and mends what changed behind the watermark."
    )


def _unschedule(connection: Connection, table: Table) -> None:
    """Delete that job."""
    from usage_explore.rollup import schedule as jobs

    there = jobs.unschedule(connection, _table_with_rollup(connection, table))
    click.echo("The database no longer refreshes the rollup." if there else "There was no job.")


def _table_with_rollup(connection: Connection, table: Table) -> Table:
    """The table as placed in its schema; `ConfigurationError` if it has no rollup."""
    from usage_explore.rollup import catalog

    with connection.transaction():
        table = catalog.placed(connection, table)
        if not catalog.exists(connection, table):
            raise ConfigurationError(f"{table.fullname}: has no rollup; `usage-explore rollup` makes it")
    return table


def _refresh_every(span: timedelta, wanted: dict[str, timedelta | None], forgotten: list[str]) -> None:
    """Refresh every `span` until Ctrl-C or SIGTERM. A failure after the first refresh is logged and retried."""
    import psycopg

    pause = span.total_seconds()
    with suppress(KeyboardInterrupt), on_sigterm(lambda _: KeyboardInterrupt()):
        with _connected_to_table() as (connection, table, settings):
            _change(connection, table, settings, wanted, forgotten)
            _refresh(connection, table, settings, again=bool(wanted or forgotten), showing=True)
        wait = pause
        while True:
            time.sleep(wait)
            began = time.monotonic()
            try:
                with _connected_to_table() as (connection, table, settings):
                    _refresh(connection, table, settings, again=False, showing=False)
                wait = max(pause - (time.monotonic() - began), 0.0)
            except (psycopg.Error, DatabaseError) as error:
                wait = min(pause, _MAX_RETRY_SECONDS)
                words = " ".join(str(error).split())
                say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} not refreshed, again in {wait:g} s: {words}", err=True)
    click.echo("Stopped.", err=True)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[datetime, datetime, datetime], None]]:
    """A progress bar of hours of ingestion, on a terminal."""
    with progress_bar(name, "hours", shown=sys.stderr.isatty()) as show:
        hour = timedelta(hours=1)
        yield lambda start, now, target: show((now - start) / hour, (target - start) / hour)
