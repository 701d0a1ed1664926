"""`usage-explore extract`: create, refresh, show, verify and drop extracts."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from usage_explore.cli.options import common, connected, organization, say, span
from usage_explore.cli.signals import Signals
from usage_explore.console import progress_bar
from usage_explore.errors import ConfigurationError, DatabaseError, ScopeError, TableMismatch
from usage_explore.formatting import counted, duration, in_sentence, on_one_line, path_text, size

if TYPE_CHECKING:
    from uuid import UUID

    from usage_explore.config import Settings
    from usage_explore.db.ddl import Connection
    from usage_explore.extract.folder import Source
    from usage_explore.extract.manifest import Manifest
    from usage_explore.extract.refresh import Difference, Report, Target
    from usage_explore.extract.segments import Totals

_MAX_RETRY_SECONDS = 60.0
"""Seconds between two attempts to reach a database that does not answer, at most."""

_WAIT_SECONDS = 600.0
"""Seconds that a refresh waits for another process that refreshes the same extract."""

_BUILDS_ANEW = "queries read the events until `usage-explore extract` has built it anew"

_MAX_DIFFERENCES = 20
"""Differences that are printed; further ones are counted."""


@click.command()
@click.option("--show", is_flag=True, help="Say what the extract holds and whether it is whole; change nothing.")
@click.option("--verify", is_flag=True, help="Compare every value with the events; exit code 1 on differences.")
@click.option("--repair", is_flag=True, help="With --verify: read what differs again.")
@click.option(
    "--every", metavar="SPAN", callback=span, help="Keep going: refresh again and again, such as 5m, until it is ended."
)
@click.option("--drop", is_flag=True, help="Remove the extract; queries are answered from the events then.")
@organization
@common
def extract(show: bool, verify: bool, repair: bool, every: timedelta | None, drop: bool) -> None:
    """Copy events into columnar files on this machine, so that answers take milliseconds, and keep them up to date.

    Reads the events with SELECT alone; the files lie below --home. Without --organization-id it does so for every
    organization that this role sees. It is safe to run at any time, several times at once, and to interrupt: the next
    run goes on.
    """
    tasks = {"--show": show, "--verify": verify, "--every": every is not None, "--drop": drop}
    chosen = [name for name, given in tasks.items() if given]
    if len(chosen) > 1:
        raise ConfigurationError(f"{', '.join(chosen)}: are tasks of their own; give one of them")
    if repair and not verify:
        raise ConfigurationError("--repair: repairs what --verify shows to differ; give --verify too")
    if every is not None:
        _refresh_every(every)
        return
    signals = Signals.current()
    try:
        with signals.raised(), connected() as (connection, settings):
            if show:
                _show(connection, settings)
            elif verify:
                _verify(connection, settings, repair)
            elif drop:
                _drop(connection, settings)
            else:
                _refresh(connection, settings)
    except KeyboardInterrupt:
        click.echo("Stopped; what was read is kept, and the next run goes on from there.", err=True)
        sys.exit(signals.exit_code)


def refresh_extract(connection: Connection, settings: Settings, loaded: Collection[UUID] | None = None) -> None:
    """Refresh the extracts of the loaded organizations, or of every visible one; failures are said on stderr only.

    The events are in the database already, and queries read what an extract lacks from there.
    """
    import psycopg

    from usage_explore.extract import manifest as files
    from usage_explore.extract.background import long_build
    from usage_explore.extract.connection import ExtractError
    from usage_explore.extract.folder import ExtractBusy

    connection.commit()
    own = settings.organization_id
    if loaded is not None and (not loaded or (own is not None and own not in loaded)):
        return  # nothing new, and the organization may have no events at all
    try:
        for target in _targets(connection, settings):
            if loaded is not None and target.organization_id not in loaded:
                continue
            if files.read(target.folder) is not None or long_build(connection, settings) is None:
                _say(_refreshed(connection, settings, target))
    except (psycopg.Error, DatabaseError, ExtractBusy, ExtractError) as error:
        words = " ".join(str(error).split())
        say(f"The extract is not up to date, so queries read more events: {words}", err=True)
        say("Go on with: usage-explore extract", err=True)


def _refresh(connection: Connection, settings: Settings) -> None:
    targets = _targets(connection, settings)
    if not targets:
        say("No organization with events is visible to this role, so there is nothing to extract.", err=True)
    for target in targets:
        report = _refreshed(connection, settings, target, again=True)
        say(_state(target, report))
        _say(report)


def _refreshed(connection: Connection, settings: Settings, target: Target, *, again: bool = False) -> Report:
    from usage_explore.extract.refresh import refresh

    with _progress("extract") as progress:
        return refresh(
            connection,
            target,
            settle=settings.settle_time,
            timeout=settings.long_statement_timeout,
            progress=progress,
            wait=_WAIT_SECONDS,
            again=again,
        )


def _say(report: Report) -> None:
    """Print what a refresh came across."""
    manifest = report.manifest
    if manifest.unfit:
        say(f"No extract of organization {manifest.organization_id}: {manifest.unfit}", err=True)
    if report.rebuilt:
        say(f"The extract was built anew: {report.rebuilt}.", err=True)
    if report.corrected:
        hours = counted(report.corrected, "hour of ingestion or day", "hours of ingestion or days")
        say(f"Changed behind the watermark, and read again: {hours}.")
    if report.safe and (report.safe.until is None or report.safe.since is not None):
        say(report.safe, err=True)


def _state(target: Target, report: Report) -> str:
    """One line about an extract."""
    from usage_explore.extract.manifest import instant

    manifest = report.manifest
    if manifest.watermark is None:
        return f"Organization {target.organization_id}: nothing yet"
    since = manifest.removed_words and f"; {manifest.removed_words}"
    return (
        f"Organization {target.organization_id}: {counted(manifest.rows, 'event')} ingested before"
        f" {instant(manifest.watermark):%Y-%m-%d %H:%M:%S} UTC, {report.rows:,} of them read now, in"
        f" {size(manifest.bytes)}{since}"
    )


def _show(connection: Connection, settings: Settings) -> None:
    from usage_explore.extract import manifest as manifests
    from usage_explore.extract.folder import damaged

    for target in _targets(connection, settings):
        say(f"Organization {target.organization_id}: {target.folder}")
        manifest = manifests.read(target.folder)
        for words in (unreadable := manifests.unreadable(target.folder)):
            say(f"  {words}{'' if manifest else f'; {_BUILDS_ANEW}'}")
        for line in _lines(manifest) if manifest or not unreadable else ():
            say(f"  {line}")
        if manifest and (names := damaged(target.folder, manifest)):
            say(f"  damaged or missing: {', '.join(names)}; {_BUILDS_ANEW}")


def _lines(manifest: Manifest | None) -> Iterator[str]:
    """What an extract holds."""
    from usage_explore.extract.manifest import DAY, HOUR, SLOT, instant

    if manifest is None:
        yield "none; usage-explore extract makes it"
    elif manifest.unfit:
        yield f"none, so queries read the events: {manifest.unfit}"
    elif manifest.watermark is None:
        yield "not built yet"
    else:
        segments = counted(len(manifest.segments), "segment")
        each = f", {manifest.bytes / manifest.rows:.0f} bytes per event" if manifest.rows else ""
        yield f"{counted(manifest.rows, 'event')} in {segments}, {size(manifest.bytes)}{each}"
        age = duration(timedelta(microseconds=manifest.refreshed - manifest.watermark))
        yield f"ingested before {instant(manifest.watermark):%Y-%m-%d %H:%M:%S} UTC, {age} before the last refresh"
        if manifest.removed_words:
            yield manifest.removed_words
        if manifest.segments:
            keys = ", ".join(map(on_one_line, manifest.segments[-1].layout.dimensions))
            yield f"columns of dimensions: {keys or 'none'}"
        for segment in sorted(manifest.segments, key=lambda segment: -segment.rows.rows)[:1]:
            columns = {f"d{number}": f"dim:{on_one_line(key)}" for number, key in enumerate(segment.layout.dimensions)}
            for summary in segment.summaries:
                unit = {SLOT: "15 minutes", HOUR: "hour", DAY: "day"}[summary.unit]
                yield f"summary by {unit} and {', '.join(columns.get(name, name) for name in summary.columns)}"


def _verify(connection: Connection, settings: Settings, repair: bool) -> None:
    """Compare; exit code 1 on differences, also where they were repaired."""
    from usage_explore.extract.refresh import verify

    differs = False
    for target in _targets(connection, settings):
        result = verify(connection, target, timeout=settings.long_statement_timeout, fix=repair, wait=_WAIT_SECONDS)
        if result is None:
            say(f"Organization {target.organization_id}: no extract to compare")
            continue
        for name in result.damaged:
            say(f"Organization {target.organization_id}: damaged or missing, so a refresh builds it anew: {name}")
        for difference in result.differences[:_MAX_DIFFERENCES]:
            say(
                f"  ingested from {difference.hour:%Y-%m-%d %H:%M} UTC for an hour: {_totals(difference.events)};"
                f" in the extract: {_totals(difference.extract)}{_hint(difference)}"
            )
        if not result.damaged:
            number = len(result.differences)
            ending = f"{number:,} differ" if number else "no difference"
            fixed = ", now repaired" if number and repair else ""
            say(f"Organization {target.organization_id}: {counted(result.hours, 'hour')} compared, {ending}{fixed}.")
        differs = differs or bool(result.differences or result.damaged)
    if differs:
        if not repair:
            say("Read what differs again with: usage-explore extract --verify --repair")
        sys.exit(1)


def _hint(difference: Difference) -> str:
    return ", but other values in some columns" if difference.events == difference.extract else ""


def _totals(totals: Totals | None) -> str:
    if totals is None:
        return "no events"
    parts = [counted(totals.events, "event")]
    if totals.quantity is not None:
        parts.append(f"quantity {in_sentence(totals.quantity)}")
    if totals.cost is not None:
        parts.append(f"cost {in_sentence(totals.cost)}")
    return ", ".join(parts)


def _drop(connection: Connection, settings: Settings) -> None:
    from usage_explore.extract.folder import drop
    from usage_explore.extract.manifest import REMOVED, read
    from usage_explore.extract.refresh import find_removal

    for target in _targets(connection, settings, gone=True):
        is_known = find_removal(connection, target, timeout=settings.long_statement_timeout)
        there = drop(target.folder)
        say(f"Organization {target.organization_id}: {'removed' if there else 'there was no extract'}")
        if not is_known:
            say(
                "  Which events were removed since its last refresh could not be found out: it was damaged, or is large"
            )
        file = target.folder / REMOVED
        if file.exists():
            kept = read(target.folder, REMOVED)
            what = kept.removed_words if kept else "events were removed from the table"
            say(f"  Queries still say that {what}; to forget it, delete {path_text(file, whole=True)}")


def _refresh_every(pause: timedelta) -> None:
    """Refresh every `pause` until Ctrl-C or SIGTERM. A failure after the first refresh is printed and retried."""
    import psycopg

    from usage_explore.extract.connection import ExtractError
    from usage_explore.extract.folder import ExtractBusy

    signals = Signals.current()
    with suppress(KeyboardInterrupt), signals.raised():
        with connected() as (connection, settings):
            _refresh(connection, settings)
        wait = pause.total_seconds()
        while True:
            time.sleep(wait)
            began = time.monotonic()
            try:
                with connected() as (connection, settings):
                    for target in _targets(connection, settings):
                        _say(_refreshed(connection, settings, target))
                wait = max(pause.total_seconds() - (time.monotonic() - began), 0.0)
            except (psycopg.Error, DatabaseError, ExtractBusy, ExtractError) as error:
                signals.check()
                wait = min(pause.total_seconds(), _MAX_RETRY_SECONDS)
                words = " ".join(str(error).split())
                say(f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ} not refreshed, again in {wait:g} s: {words}", err=True)
    click.echo("Stopped.", err=True)


def _targets(connection: Connection, settings: Settings, *, gone: bool = False) -> list[Target]:
    """The extracts of the organization in the settings, or of all; with `gone`, also those without events any more."""
    from usage_explore.db.catalog import organizations, relation
    from usage_explore.db.schema import events_table
    from usage_explore.extract import background

    source = background.source(connection, settings)
    named = relation(connection, settings.table)
    if named is not None and named.aggregated and not gone:
        raise TableMismatch(
            f"{named.sql_name}: {named.why_aggregated}. Name the hypertable: --table {named.aggregated}"
        )
    found = set(organizations(connection, events_table(settings.table)))
    connection.commit()
    if gone:
        found |= set(_held(source, settings))
    if settings.organization_id is not None:
        if settings.organization_id not in found:
            raise ScopeError.refusing(settings.organization_id)
        found = {settings.organization_id}
    return [background.target(source, settings, owner) for owner in sorted(found)]


def _held(source: Source, settings: Settings) -> Iterator[UUID]:
    """The organizations that have an extract."""
    from uuid import UUID

    for path in (settings.home / "extract" / source.name).glob("*/"):
        with suppress(ValueError):
            yield UUID(path.name)


@contextmanager
def _progress(name: str) -> Iterator[Callable[[datetime, datetime, datetime], None]]:
    """A progress bar of hours of ingestion, on a terminal."""
    with progress_bar(name, "hours", shown=sys.stderr.isatty()) as show:
        hour = timedelta(hours=1)
        yield lambda start, now, target: show((now - start) / hour, (target - start) / hour)
