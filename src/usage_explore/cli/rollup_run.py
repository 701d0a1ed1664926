"""What `usage-explore rollup` does, and says on the terminal while it does it."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

import click

from usage_explore.cli.options import say
from usage_explore.console import progress_bar
from usage_explore.errors import ConfigurationError, DatabaseError, TableMismatch

if TYPE_CHECKING:
    from sqlalchemy import Table

    from usage_explore.config import Settings
    from usage_explore.db.ddl import Connection

_LONGEST_WAIT = 60.0
"""Seconds between two attempts to reach a database that does not answer."""

_MANY = 10_000


def freshen(connection: Connection, settings: Settings, added: int) -> None:
    """Bring the rollup up to now after so many events were added, where this role may; else say on stderr who may.

    After many, what is worth keeping is measured again.
    """
    import psycopg

    from usage_explore.db.schema import events_table
    from usage_explore.rollup import refresh_run

    connection.commit()
    _bound(connection, settings)
    try:
        with _progress("rollup") as progress:
            refresh_run.refresh(
                connection,
                events_table(settings.table),
                settle=settings.settle_time,
                progress=progress,
                choose_again=added >= _MANY,
            )
    except (TableMismatch, psycopg.errors.InsufficientPrivilege) as error:
        words = " ".join(str(error).split())
        say(f"The rollup was left as it is, to be refreshed by the role that owns it: {words}", err=True)


def _bound(connection: Connection, settings: Settings) -> None:
    """Give the connection's statements the time of what works through the whole table."""
    milliseconds = int(settings.long_statement_timeout.total_seconds() * 1000)
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(milliseconds)])
    connection.commit()


@contextmanager
def connected(settings: Settings) -> Iterator[tuple[Connection, Table]]:
    """A connection with the time for long statements, and the events table."""
    from usage_explore import config
    from usage_explore.db import ddl
    from usage_explore.db.schema import events_table

    connection = ddl.connect(config.database_url(settings))
    try:
        _bound(connection, settings)
        yield connection, events_table(settings.table)
    finally:
        connection.close()


def change(
    connection: Connection,
    table: Table,
    settings: Settings,
    wanted: dict[str, timedelta | None],
    forgotten: list[str],
) -> None:
    """Write down what is wanted, making the rollup where it is missing. Raises `ScopeError`."""
    from usage_explore.rollup import catalog, overrides

    if not (wanted or forgotten):
        return
    with connection.transaction():
        table = catalog.placed(connection, table)
    catalog.create(connection, table)
    if wanted:
        overrides.wish(connection, table, wanted, settings.organization_id)
    if forgotten:
        overrides.forget(connection, table, forgotten, settings.organization_id)


def refresh(connection: Connection, table: Table, settings: Settings, *, again: bool, showing: bool) -> None:
    """Refresh, and say what there is to say."""
    from usage_explore.rollup import refresh_run

    with _progress("rollup") as progress:
        report = refresh_run.refresh(
            connection, table, settle=settings.settle_time, progress=progress, choose_again=again
        )
    if showing:
        show(connection, table)
    if report.mended:
        click.echo(f"{report.mended:,} slots of ingestion had changed behind the watermark and were counted again.")
    if report.unfit:
        click.echo(f"{report.unfit:,} dimensions could not be kept and were left out; --show says why.")
    if report.safe.until is None or report.safe.since is not None:
        say(report.safe, err=True)


def show(connection: Connection, table: Table) -> None:
    """Print what is kept. Raises `ConfigurationError` without a rollup, as all below."""
    from usage_explore.rollup.status import overview

    click.echo(str(overview(connection, _there(connection, table))))


def verify(connection: Connection, table: Table, sample: int | None) -> None:
    """Compare a sample of days, None for all; exit code 1 on differences."""
    from usage_explore.rollup import verify as comparison

    table = _there(connection, table)
    with progress_bar("verify", "parts", shown=sys.stderr.isatty()) as progress:
        found = comparison.verify(connection, table, sample=sample, progress=progress)
    compared = f"{found.compared:,} of {found.days:,} days of ingestion compared with the events"
    if not found.differing:
        click.echo(f"{compared}: no difference.")
        return
    for difference in found.differences:
        say(difference)
    click.echo(
        f"{compared}: {found.differing:,} keys differ, {len(found.differences):,} are listed. `usage-explore rollup"
        " --rebuild --since TIME --until TIME` counts what was ingested between the two again."
    )
    sys.exit(1)


def rebuild(connection: Connection, table: Table, since: datetime | None, until: datetime | None) -> None:
    """Make the rows of what was ingested between two times anew."""
    from usage_explore.rollup.refresh import renew

    table = _there(connection, table)
    with _progress("rebuild") as progress:
        rows = renew(connection, table, since, until, progress)
    click.echo(f"Made {rows:,} rows anew.")


def drop(connection: Connection, table: Table) -> None:
    """Take the rollup away, and the job that refreshes it."""
    from usage_explore.rollup import catalog, schedule

    table = _there(connection, table)
    schedule.unschedule(connection, table)
    catalog.drop(connection, table)
    click.echo("Dropped the rollup.")


def schedule(connection: Connection, table: Table, settings: Settings, every: timedelta) -> None:
    """Let the database refresh it so often."""
    from usage_explore.rollup import schedule as jobs

    job = jobs.schedule(connection, _there(connection, table), every, settings.settle_time)
    click.echo(
        f"Job {job} refreshes the rollup every {every} from now on, as this role. Run `usage-explore rollup` once a day"
        " beside it: that measures what is kept, and mends what changed behind the watermark."
    )


def unschedule(connection: Connection, table: Table) -> None:
    """Take that job away."""
    from usage_explore.rollup import schedule as jobs

    there = jobs.unschedule(connection, _there(connection, table))
    click.echo("The database no longer refreshes the rollup." if there else "There was no job.")


def _there(connection: Connection, table: Table) -> Table:
    """The table, which has a rollup."""
    from usage_explore.rollup import catalog

    with connection.transaction():
        table = catalog.placed(connection, table)
        if not catalog.exists(connection, table):
            raise ConfigurationError(f"{table.fullname}: has no rollup; `usage-explore rollup` makes it")
    return table


def keep_going(settings: Settings, span: timedelta, wanted: dict[str, timedelta | None], forgotten: list[str]) -> None:
    """Refresh every `span` until Ctrl-C or SIGTERM. What fails after the first time is logged, and tried again."""
    import psycopg

    pause = span.total_seconds()
    with suppress(KeyboardInterrupt), interruptible():
        with connected(settings) as (connection, table):
            change(connection, table, settings, wanted, forgotten)
            refresh(connection, table, settings, again=bool(wanted or forgotten), showing=True)
        wait = pause
        while True:
            time.sleep(wait)
            began = time.monotonic()
            try:
                with connected(settings) as (connection, table):
                    refresh(connection, table, settings, again=False, showing=False)
                wait = max(pause - (time.monotonic() - began), 0.0)
            except (psycopg.Error, DatabaseError) as error:
                wait = min(pause, _LONGEST_WAIT)
                words = " ".join(str(error).split())
                say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} not refreshed, again in {wait:g} s: {words}", err=True)
    click.echo("Stopped.", err=True)


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGTERM interrupts as Ctrl-C does, which cancels the statement that runs, too."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[datetime, datetime, datetime], None]]:
    """A bar of hours of ingestion, on a terminal."""
    with progress_bar(name, "hours", shown=sys.stderr.isatty()) as show:
        hour = timedelta(hours=1)
        yield lambda start, now, target: show((now - start) / hour, (target - start) / hour)
