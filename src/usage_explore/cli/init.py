"""`usage-explore init`: create or complete the events table, as the server stores it best."""

from __future__ import annotations

from datetime import timedelta

import click

from usage_explore.cli.options import common, connected


@click.command()
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
    """Create the events table, or give an existing one the indexes and statistics that it lacks.

    With TimescaleDB it becomes a hypertable with a columnstore. Safe to run again: the settings of a table that is
    there change only where an option asks for it.
    """
    from usage_explore.db import StorageOptions, catalog, ddl
    from usage_explore.db.ddl import migrate_table

    options = StorageOptions(
        events_per_day=events_per_day,
        columnstore_after=None if columnstore_after is None else timedelta(days=columnstore_after),
        migrate=migrate,
        distribute=distribute,
    )
    with connected() as (connection, settings):
        created = ddl.ensure_schema(connection, settings.table, options)
        connection.commit()
        if not created:
            migrate_table(connection, settings.table, options, click.echo)
        found = catalog.relation(connection, settings.table)
    kind = "table"
    if found is not None and found.hypertable:
        kind = "hypertable"
    elif found is not None and found.distributed:
        kind = "distributed table"
    click.echo(f"{'Created' if created else 'Already there:'} the {kind} {settings.table}.")
