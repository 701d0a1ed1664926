"""The `usage-explore` command. Commands import what they need when they run, so that --help is fast."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from usage_explore.cli.backup import backup, restore
from usage_explore.cli.decisions import decide, list_decisions, list_signoffs
from usage_explore.cli.extract import extract
from usage_explore.cli.load import load
from usage_explore.cli.names import names
from usage_explore.cli.options import Group, common, connected, instant, organization, say, settings_in_force
from usage_explore.cli.prices import prices, rate
from usage_explore.cli.validate import validate
from usage_explore.console import table
from usage_explore.errors import ConfigurationError, DatabaseError, Fault, QueryError
from usage_explore.formatting import MAX_VALUE_CHARACTERS, counted, listed, on_one_line, path_text, shortened
from usage_explore.results import formulas

if TYPE_CHECKING:
    from usage_explore.config import Settings
    from usage_explore.db.ddl import Connection
    from usage_explore.demo import Incident
    from usage_explore.store import Store

_MARKS = {"ok": ("ok     ", "green"), "warning": ("warning", "yellow"), "fault": ("FAULT  ", "red")}


@contextmanager
def _reading() -> Iterator[Store]:
    from usage_explore.open_store import opened

    with opened(settings_in_force()) as store:
        yield replace(store, escaped_commas=True)


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(package_name="usage-explore", prog_name="usage-explore")
@common
def main() -> None:
    """Explore metered usage events exactly, in an embedded PostgreSQL or in your own."""


main.add_command(load)
main.add_command(names)
main.add_command(prices)
main.add_command(extract)
main.add_command(validate)
main.add_command(rate)
main.add_command(decide)
main.add_command(list_decisions)
main.add_command(list_signoffs)
main.add_command(backup)
main.add_command(restore)


@main.command()
@click.option(
    "--events-per-day",
    type=click.IntRange(1),
    metavar="N",
    show_default="chunks of 7 days",
    help="Volume for which a hypertable's chunk interval is chosen.",
)
@click.option(
    "--columnstore-after",
    type=click.IntRange(0, 36_500),
    metavar="DAYS",
    show_default="7 for a new table",
    help="Age at which chunks move to TimescaleDB's columnstore; 0 for never.",
)
@click.option("--migrate", is_flag=True, help="Turn a plain table with rows into a hypertable; it is locked meanwhile.")
@click.option("--distribute", is_flag=True, help="Spread the table over Citus's workers, by organization.")
@common
def init(events_per_day: int | None, columnstore_after: int | None, migrate: bool, distribute: bool) -> None:
    """Create the tables of events, names, saved views, decisions and sign-offs; bring an existing one up to date.

    An existing events table gets the indexes and statistics that it lacks.

    With TimescaleDB it becomes a hypertable with a columnstore. Safe to run again: the settings of a table that is
    there change only where an option asks for it.
    """
    from usage_explore.db import StorageOptions, catalog, ddl, owners
    from usage_explore.db.ddl import migrate_table
    from usage_explore.db.schema import events_table, names_table
    from usage_explore.doctor.ownership import ownership
    from usage_explore.sql.identifiers import quoted

    options = StorageOptions(
        events_per_day=events_per_day,
        columnstore_after=None if columnstore_after is None else timedelta(days=columnstore_after),
        migrate=migrate,
        distribute=distribute,
    )
    with connected() as (connection, settings):
        created = ddl.ensure_schema(connection, settings.table, options, settings.names_table)
        connection.commit()
        if not created:
            migrate_table(connection, settings.table, options, click.echo)
        relation = catalog.relation(connection, settings.table)
        new_tables = _create_small_tables(connection, settings.table)
        directory = names_table(settings.names_table, events_table(settings.table))
        warnings = ownership(connection, relation, directory) if relation is not None else []
        owner = owners.of_another_role(connection, relation.oid) if relation is not None else None
    kind = "table"
    if relation is not None and relation.hypertable:
        kind = "hypertable"
    elif relation is not None and relation.distributed:
        kind = "distributed table"
    of_role = f", which belongs to the role {quoted(owner)}" if owner else ""
    click.echo(f"{'Created' if created else 'Already there:'} the {kind} {settings.table}{of_role}.")
    if new_tables:
        tables = f"{'tables' if len(new_tables) > 1 else 'table'} {listed(new_tables, most=len(new_tables))}"
        click.echo(f"Created the {tables} beside it, for prices and for what people save and decide.")
    for warning in warnings:
        say(f"Warning: {on_one_line(warning.message)}. {warning.fix}".rstrip(), err=True)


def _create_small_tables(connection: Connection, table_name: str) -> tuple[str, ...]:
    """Create the tables of records and of prices that are missing; none if this role may not create them.

    Then a file keeps the records, and price books are given as files.
    """
    from psycopg import errors

    from usage_explore.db.schema import events_table
    from usage_explore.pricing.table import create_table
    from usage_explore.records.places import create_tables

    new_tables: tuple[str, ...] = ()
    events = events_table(table_name)
    try:
        with connection.transaction():
            new_tables = (*create_tables(connection, events), *create_table(connection, events))
    except errors.InsufficientPrivilege:
        pass
    connection.commit()
    return new_tables


@main.command()
@click.option(
    "--seed", type=int, show_default="1, or the seed of the demo in the table", help="Seed of the generated data."
)
@click.option(
    "--until", metavar="TIME", callback=instant, help="RFC 3339 time to reproduce, such as 2026-09-01T00:00:00Z."
)
@click.option("--days", type=int, default=92, help="Whole days before that on the first run.")
@click.option("--incidents", is_flag=True, help="List what was planted instead of appending.")
@click.option("--force", is_flag=True, help="Append beside other organizations' events.")
@click.option(
    "--files",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Also write a price book, invoice (with mistakes) and other files of last month, to validate it with.",
)
@common
def demo(seed: int | None, until: datetime | None, days: int, incidents: bool, force: bool, files: Path | None) -> None:
    """Append the demo's missing events up to now: three organizations, a dozen metrics, planted incidents.

    A table that is missing appears when all of its demo is there, and an interrupted run leaves nothing of it. Two runs
    take turns.
    """
    from usage_explore import demo
    from usage_explore.cli import demo_run

    with connected() as (connection, settings):
        if incidents:
            _print_incidents(demo.incidents(connection))
            return
        report = demo_run.run(connection, settings, seed=seed, until=until, days=days, force=force)
    click.echo(str(report))
    if files is not None:
        demo_run.write_files(settings, files)


def _port(first: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--port",
        type=click.IntRange(1, 65535),
        show_default=f"{first} or the next free",
        help="Port to listen at.",
    )


_HOST = click.option(
    "--host",
    default="127.0.0.1",
    metavar="ADDRESS",
    help="Address to listen at; addresses that other machines reach need access control.",
)


@main.command()
@_port(8501)
@_HOST
@click.option("--no-demo", is_flag=True, help="Start an empty embedded database without demo data.")
@organization
@common
def app(port: int | None, host: str, no_demo: bool) -> None:
    """Open the app in a local server; Ctrl-C ends it.

    In an embedded database without a table, demo data is made meanwhile, and a demo that is there is brought up to now;
    the page shows how far that is. A database of yours gets no demo data.
    """
    from usage_explore import config
    from usage_explore.access import bind_check
    from usage_explore.cli import demo_run

    settings = settings_in_force()
    if not bind_check.is_this_machine(host):
        from usage_explore.app import sign_in

        bind_check.check_app(host, settings, sign_in.sign_in_lacks())
    if port is not None:
        from usage_explore.cli import uvicorn_server

        uvicorn_server.free_port(port, host=host)  # before a database is created and filled
    if settings.database_url is None and not os.path.exists(settings.home / "data"):  # noqa: PTH110 - raises nothing
        click.echo(f"Creating the embedded PostgreSQL in {path_text(settings.home)}; this takes a few seconds, once.")
    url = config.database_url(settings)
    with demo_run.beside(settings, url, wanted=not no_demo) if settings.database_url is None else nullcontext():
        from usage_explore.cli import app_server

        app_server.launch(settings, port, click.echo, host)


@main.command()
@_port(8600)
@_HOST
@organization
@common
def api(port: int | None, host: str) -> None:
    """Serve the HTTP API alone; Ctrl-C ends it. `usage-explore app` serves it too, beside the app."""
    from usage_explore.access import bind_check
    from usage_explore.cli import uvicorn_server

    settings = settings_in_force()
    bind_check.check_api(host, settings)
    port = uvicorn_server.free_port(port, first=8600, host=host)
    click.echo(f"The API is at {uvicorn_server.address(host, port)}/api/openapi.json  (Ctrl-C ends it)")
    uvicorn_server.run(settings, host, port)


@main.command()
@common
def doctor() -> None:
    """Examine whether a database fits, and print what to do where it does not. Exit code 1 if there are faults."""
    from usage_explore import config, doctor

    settings = settings_in_force()
    url = config.database_url(settings)
    findings = doctor.examine(url, settings.table, settings.statement_timeout, settings.names_table, settings.home)
    for finding in findings:
        mark, colour = _MARKS[finding.state]
        click.echo(f"{click.style(mark, fg=colour)}  ", nl=False)
        say(f"{finding.name}: {on_one_line(finding.message)}")
        for line in finding.fix.split("\n") if finding.fix else ():
            say(f"           {line}")
    faults = sum(finding.state == "fault" for finding in findings)
    warnings = sum(finding.state == "warning" for finding in findings)
    click.echo(f"\n{counted(faults, 'fault')}, {counted(warnings, 'warning')} in {counted(len(findings), 'check')}.")
    if faults:
        sys.exit(1)


@main.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--query",
    default="",
    show_default=False,
    metavar="QUERY",
    help="Filters as in a link: metric_key=tokens_in&dim:model=large",
)
@click.option("--escape-formulas", is_flag=True, help=formulas.MEANING)
@click.option("--timezone", metavar="ZONE", help="For .xlsx: the clock of its times, such as Europe/Berlin.")
@organization
@common
def export(file: Path, query: str, escape_formulas: bool, timezone: str | None) -> None:
    """Write the events of a query to FILE, .csv, .parquet or .xlsx, in bounded memory; .xlsx holds up to 50,000."""
    from usage_explore.query import url_params
    from usage_explore.query.queries import EventQuery

    events = EventQuery.from_params(query)
    if url_params.page(query) is None and any(name == "limit" for name, _ in url_params.pairs(query)):
        raise QueryError([Fault("limit", "has no effect on an export, which has every event; leave it out")])
    with _reading() as store:
        report = store.export(events, file, sys.stderr.isatty(), escape_formulas=escape_formulas, timezone=timezone)
    say(f"Wrote {counted(report.events, 'event')} to {path_text(report.path)}.")


@main.command()
@common
def organizations() -> None:
    """List the organizations in the table, one UUID per line, followed by its name if it has one."""
    with _reading() as store:
        names = store.organization_names()
        for organization_id in store.organizations():
            name = names.name("organization", organization_id)
            say(f"{organization_id}  {shortened(name, MAX_VALUE_CHARACTERS)}" if name else organization_id)


@main.group()
def keys() -> None:
    """API keys of the HTTP API, each for one organization. As soon as there is a key, the API requires one."""


@keys.command(name="create")
@click.option("--name", required=True, help="What or whom the key is for.")
@organization
@common
def create_key(name: str) -> None:
    """Create a key for one organization and print it; only its hash is stored."""
    from usage_explore.access.api_keys import Keyring

    settings = settings_in_force()
    if settings.organization_id is None:
        raise ConfigurationError("--organization-id: is missing; name the organization that the key opens")
    if not name.strip() or not name.isprintable():
        raise ConfigurationError("--name: write a few plain words, such as 'billing bot'")
    text = Keyring(settings.keys).create(settings.organization_id, name.strip())
    click.echo(f"A key for organization {settings.organization_id}; it is shown this once:", err=True)
    click.echo(text)
    if warning := _without_events(settings):
        say(warning, err=True)


def _without_events(settings: Settings) -> str:
    """A warning if the organization of the settings has no events, "" if it has, or no database is known yet."""
    import psycopg

    from usage_explore.db.catalog import organizations
    from usage_explore.db.embedded import Server
    from usage_explore.db.schema import events_table

    if settings.is_remote or not (settings.database_url or Server(settings.home).data.exists()):
        return ""
    try:
        with connected() as (connection, _):
            known = settings.organization_id in organizations(connection, events_table(settings.table))
    except (DatabaseError, psycopg.Error):
        return "Whether it has events is not known: the database did not answer."
    return "" if known else "It has no events yet: until it has, the key opens nothing. Check the id if it should."


@keys.command(name="list")
@common
def list_keys() -> None:
    """List the keys, oldest first: id, organization, when made, valid or revoked, name."""
    from usage_explore.access.api_keys import Keyring, open_to_all

    path = settings_in_force().keys
    if warning := open_to_all(path):
        say(f"Warning: {warning}.", err=True)
    for key in Keyring(path).listed():
        state = f"revoked {key.revoked}" if key.revoked else "valid"
        click.echo(f"{key.id}  {key.organization_id}  made {key.created}  {state}  {key.name}")


@keys.command(name="revoke")
@click.argument("key_id", metavar="ID")
@common
def revoke_key(key_id: str) -> None:
    """Revoke a key; running servers refuse it from their next request on."""
    from usage_explore.access.api_keys import Keyring

    key = Keyring(settings_in_force().keys).revoke(key_id)
    click.echo(f"Revoked {key.id} ({key.name}).")


@main.command()
@common
def stop() -> None:
    """Stop the embedded PostgreSQL that a killed process left running; normally its last user stops it."""
    from usage_explore.db import embedded

    home = settings_in_force().home
    say(
        f"Stopped the embedded PostgreSQL under {path_text(home)}."
        if embedded.stop(home)
        else f"None runs under {path_text(home)}."
    )


def _print_incidents(planted: list[Incident]) -> None:
    if not planted:
        click.echo("No planted incidents here; `usage-explore demo` makes some.")
        return
    rows = [(str(one.day), one.kind, f"{one.events:,}", one.sentence) for one in planted]
    for line in table([("day", "left"), ("kind", "left"), ("events", "right"), ("what", "left")], rows):
        click.echo(line)
