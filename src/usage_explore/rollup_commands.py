"""`usage-explore rollup`: make and refresh it, look at it, compare it with the events, say what it keeps."""

from __future__ import annotations

import re
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from usage_explore.errors import ConfigurationError, DatabaseError, TableMismatch
from usage_explore.options import common, organization, settings_in_force

if TYPE_CHECKING:
    from sqlalchemy import Table

    from usage_explore.config import Settings
    from usage_explore.writing import Connection

_SPANS = {"s": timedelta(seconds=1), "m": timedelta(minutes=1), "h": timedelta(hours=1), "d": timedelta(days=1)}
_LONGEST_WAIT = 60.0
"""Seconds between two attempts to reach a database that does not answer."""


@click.command()
@click.option("--show", is_flag=True, help="Say what is kept, what is left out and why, and change nothing.")
@click.option("--every", metavar="SPAN", help="Keep going: refresh again and again, such as 5m, until it is ended.")
@click.option("--keep", multiple=True, metavar="DIMENSION=GRAIN", help="Keep dim:model=hour, customer_id=day, …")
@click.option("--leave-out", multiple=True, metavar="DIMENSION", help="Do not keep a dimension, whatever is measured.")
@click.option("--forget", multiple=True, metavar="DIMENSION", help="Go back to what is measured.")
@click.option("--verify", is_flag=True, help="Count the events again and compare; exit code 1 on differences.")
@click.option("--sample", type=click.IntRange(1), metavar="N", help="Days of ingestion to compare.  [default: 10]")
@click.option("--all", "all_", is_flag=True, help="Compare all of them.")
@click.option("--rebuild", is_flag=True, help="Make rows anew from the events; all, or by --since and --until.")
@click.option("--since", metavar="TIME", help="Ingested then or later; RFC 3339, with --rebuild.")
@click.option("--until", metavar="TIME", help="Ingested before; RFC 3339, with --rebuild.")
@click.option("--schedule", metavar="SPAN", help="Let TimescaleDB refresh it so often, such as 5m, as a job.")
@click.option("--unschedule", is_flag=True, help="Take that job away.")
@click.option("--drop", is_flag=True, help="Take the rollup away; questions are answered from the events then.")
@organization
@common
def rollup(
    show: bool,
    every: str | None,
    keep: tuple[str, ...],
    leave_out: tuple[str, ...],
    forget: tuple[str, ...],
    verify: bool,
    sample: int | None,
    all_: bool,
    rebuild: bool,
    since: str | None,
    until: str | None,
    schedule: str | None,
    unschedule: bool,
    drop: bool,
) -> None:
    """Count events ahead, so that answers take milliseconds: create the rollup, and bring it up to now.

    What is kept is measured: dimensions with few values by the hour, with many by the day. --keep, --leave-out and
    --forget change that for good, for every organization or with --organization-id for one. It is safe to run at any
    time, several times at once, and to interrupt.
    """
    from usage_explore.rollup import wishes
    from usage_explore.rollup.verify import SAMPLE

    wanted = dict(map(wishes.grain, keep)) | {wishes.dimension(each, "--leave-out"): None for each in leave_out}
    forgotten = [wishes.dimension(each, "--forget") for each in forget]
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
    first, last = _instant("--since", since), _instant("--until", until)
    if first and last and first >= last:
        raise ConfigurationError(f"--since, --until: {since} is not before {until}")
    settings = settings_in_force()
    span = _span("--every", every)
    planned = _span("--schedule", schedule)
    if span is not None:
        _keep_going(settings, span, wanted, forgotten)
        return
    with _interruptible(), _connected(settings) as (connection, table):
        if drop:
            _drop(connection, table)
        elif show:
            _show(connection, table)
        elif verify:
            _verify(connection, table, None if all_ else sample or SAMPLE)
        elif rebuild:
            _rebuild(connection, table, first, last)
        elif unschedule:
            _unschedule(connection, table)
        else:
            _change(connection, table, settings, wanted, forgotten)
            _refresh(connection, table, settings, again=bool(wanted or forgotten), show=planned is None)
            if planned:
                _schedule(connection, table, settings, planned)


def freshen(connection: Connection, settings: Settings) -> None:
    """Bring the rollup up to now after events were added, where this role may; else say on stderr what to do."""
    import psycopg

    from usage_explore.rollup import maintain
    from usage_explore.schema import events_table

    connection.commit()
    bound(connection, settings)
    try:
        with _progress("rollup") as progress:
            maintain.refresh(
                connection, events_table(settings.table), settle=settings.settle, progress=progress, choose_again=True
            )
    except (TableMismatch, psycopg.errors.InsufficientPrivilege) as error:
        words = " ".join(str(error).split())
        click.echo(f"The rollup was left as it is, to be refreshed by the role that owns it: {words}", err=True)


def bound(connection: Connection, settings: Settings) -> None:
    """Give the connection's statements the time of what works through the whole table."""
    milliseconds = int(settings.long_statement_timeout.total_seconds() * 1000)
    connection.execute("SELECT set_config('statement_timeout', %s, false)", [str(milliseconds)])
    connection.commit()


@contextmanager
def _connected(settings: Settings) -> Iterator[tuple[Connection, Table]]:
    from usage_explore import config, writing
    from usage_explore.schema import events_table

    connection = writing.connect(config.database_url(settings))
    try:
        bound(connection, settings)
        yield connection, events_table(settings.table)
    finally:
        connection.close()


def _change(
    connection: Connection,
    table: Table,
    settings: Settings,
    wanted: dict[str, timedelta | None],
    forgotten: list[str],
) -> None:
    from usage_explore.rollup import catalogue, wishes

    if not (wanted or forgotten):
        return
    with connection.transaction():
        table = catalogue.placed(connection, table)
    catalogue.create(connection, table)
    if wanted:
        wishes.wish(connection, table, wanted, settings.organization_id)
    if forgotten:
        wishes.forget(connection, table, forgotten, settings.organization_id)


def _refresh(connection: Connection, table: Table, settings: Settings, *, again: bool, show: bool) -> None:
    from usage_explore.rollup import maintain

    with _progress("rollup") as progress:
        report = maintain.refresh(connection, table, settle=settings.settle, progress=progress, choose_again=again)
    if show:
        _show(connection, table)
    if report.mended:
        click.echo(f"{report.mended:,} slots of ingestion had changed behind the watermark and were counted again.")
    if report.unfit:
        click.echo(f"{report.unfit:,} dimensions could not be kept and were left out; --show says why.")
    if report.safe.until is None or report.safe.since is not None:
        click.echo(str(report.safe), err=True)


def _show(connection: Connection, table: Table) -> None:
    from usage_explore.rollup.overview import overview

    click.echo(str(overview(connection, _there(connection, table))))


def _verify(connection: Connection, table: Table, sample: int | None) -> None:
    from usage_explore.rollup.verify import verify

    table = _there(connection, table)
    with _parts("verify") as progress:
        found = verify(connection, table, sample=sample, progress=progress)
    compared = f"{found.compared:,} of {found.days:,} days of ingestion compared with the events"
    if not found.differing:
        click.echo(f"{compared}: no difference.")
        return
    for difference in found.differences:
        click.echo(str(difference))
    click.echo(
        f"{compared}: {found.differing:,} keys differ, {len(found.differences):,} are listed. `usage-explore rollup"
        " --rebuild --since TIME --until TIME` counts what was ingested between the two again."
    )
    sys.exit(1)


def _rebuild(connection: Connection, table: Table, since: datetime | None, until: datetime | None) -> None:
    from usage_explore.rollup.refresh import renew

    table = _there(connection, table)
    with _progress("rebuild") as progress:
        rows = renew(connection, table, since, until, progress)
    click.echo(f"Made {rows:,} rows anew.")


def _drop(connection: Connection, table: Table) -> None:
    from usage_explore.rollup import catalogue
    from usage_explore.rollup.schedule import unschedule

    table = _there(connection, table)
    unschedule(connection, table)
    catalogue.drop(connection, table)
    click.echo("Dropped the rollup.")


def _schedule(connection: Connection, table: Table, settings: Settings, every: timedelta) -> None:
    from usage_explore.rollup.schedule import schedule

    job = schedule(connection, _there(connection, table), every, settings.settle)
    click.echo(
        f"Job {job} refreshes the rollup every {every} from now on, as this role. Run `usage-explore rollup` once a day"
        " beside it: that measures what is kept, and mends what changed behind the watermark."
    )


def _unschedule(connection: Connection, table: Table) -> None:
    from usage_explore.rollup.schedule import unschedule

    there = unschedule(connection, _there(connection, table))
    click.echo("The database no longer refreshes the rollup." if there else "There was no job.")


def _there(connection: Connection, table: Table) -> Table:
    """The table, which has a rollup."""
    from usage_explore.rollup import catalogue

    with connection.transaction():
        table = catalogue.placed(connection, table)
        if not catalogue.exists(connection, table):
            raise ConfigurationError(f"{table.fullname}: has no rollup; `usage-explore rollup` makes it")
    return table


def _keep_going(settings: Settings, span: timedelta, wanted: dict[str, timedelta | None], forgotten: list[str]) -> None:
    """Refresh every `span` until Ctrl-C or SIGTERM. What fails after the first time is logged, and tried again."""
    import psycopg

    pause = span.total_seconds()
    with suppress(KeyboardInterrupt), _interruptible():
        with _connected(settings) as (connection, table):
            _change(connection, table, settings, wanted, forgotten)
            _refresh(connection, table, settings, again=bool(wanted or forgotten), show=True)
        wait = pause
        while True:
            time.sleep(wait)
            began = time.monotonic()
            try:
                with _connected(settings) as (connection, table):
                    _refresh(connection, table, settings, again=False, show=False)
                wait = max(pause - (time.monotonic() - began), 0.0)
            except (psycopg.Error, DatabaseError) as error:
                wait = min(pause, _LONGEST_WAIT)
                words = " ".join(str(error).split())
                click.echo(
                    f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} not refreshed, again in {wait:g} s: {words}", err=True
                )
    click.echo("Stopped.", err=True)


@contextmanager
def _interruptible() -> Iterator[None]:
    """SIGTERM interrupts as Ctrl-C does, which cancels the statement that runs, too."""

    def end(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _progress(name: str) -> Iterator[Any]:
    """A bar of hours of ingestion, on a terminal; it begins anew where more dimensions come."""
    from tqdm import tqdm

    bars: list[Any] = []
    reached: datetime | None = None

    def show(start: datetime, now: datetime, target: datetime) -> None:
        nonlocal reached
        if reached is None or start < reached:
            for bar in bars:
                bar.close()
            hours = max(round((target - start) / timedelta(hours=1)), 1)
            bars.append(tqdm(total=hours, desc=name, unit="h", disable=not sys.stderr.isatty(), file=sys.stderr))
            bars[-1].update(round((now - start) / timedelta(hours=1)))
        else:
            bars[-1].update(round((now - reached) / timedelta(hours=1)))
        reached = now

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()


@contextmanager
def _parts(name: str) -> Iterator[Any]:
    from tqdm import tqdm

    with tqdm(desc=name, unit="part", disable=not sys.stderr.isatty(), file=sys.stderr) as bar:

        def show(done: int, all_: int) -> None:
            bar.total = all_
            bar.update(done - bar.n)

        yield show


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


def _span(option: str, text: str | None) -> timedelta | None:
    if text is None:
        return None
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    span = int(found[1]) * _SPANS[found[2]] if found else timedelta(0)
    if not timedelta(seconds=1) <= span <= timedelta(days=7):
        raise ConfigurationError(f"{option}: {text!r} is not a span between 1s and 7d; write 30s, 5m or 1h")
    return span


def _instant(option: str, value: str | None) -> datetime | None:
    from usage_explore import parse

    try:
        return None if value is None else parse.instant(value)
    except ValueError as error:
        raise ConfigurationError(f"{option}: {error}") from None
