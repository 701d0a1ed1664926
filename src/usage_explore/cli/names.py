"""`usage-explore names`: the directory of names of organizations, customers, products and subscriptions, and units."""

from __future__ import annotations

from pathlib import Path

import click

from usage_explore.cli.options import common, connected, organization, say, settings_in_force
from usage_explore.console import table
from usage_explore.formatting import MAX_VALUE_CHARACTERS, counted, shortened
from usage_explore.names import KINDS, METRIC
from usage_explore.query.limits import MAX_NAMES


@click.group()
def names() -> None:
    """Names of organizations, customers, products and subscriptions, and units of metrics, shown with their numbers."""


@names.command(name="load")
@click.argument("file", type=click.Path(path_type=Path))
@organization
@common
def load_names(file: Path) -> None:
    """Load names and units from FILE: CSV, Parquet or JSON Lines; all rows or none.

    Columns: id (a UUID, or any text) or external_id, name, kind (customer, product, subscription or organization;
    default customer), preferred_currency. What a row gives replaces what is stored, what it leaves out stays. A text
    stands for the id that `load` makes of it.

    A row with the columns metric and unit gives the unit of a metric's quantities, such as tokens_in, tokens.
    """
    from usage_explore.db import ddl, schema
    from usage_explore.load.names import load_names, without_events

    with connected() as (connection, settings):
        ddl.ensure_schema(connection, settings.table, names_table_name=settings.names_table)
        events = schema.events_table(settings.table)
        report = load_names(
            connection, events, schema.names_table(settings.names_table, events), file, settings.organization_id
        )
        connection.commit()
        warning = without_events(connection, events, report.organization_id)
    say(report)
    if warning:
        say(warning, err=True)


@names.command(name="list")
@click.argument("text", required=False, default="")
@click.option("--kind", type=click.Choice((*KINDS, METRIC)), show_default="all", help="Only this kind.")
@organization
@common
def list_names(text: str, kind: str | None) -> None:
    """List the names that contain TEXT, in name, external id or id, and units of metrics; all without TEXT."""
    from usage_explore.open_store import opened

    with opened(settings_in_force()) as store:
        kinds = [kind] if kind else [None, METRIC]
        found = [store.search_names(text, one, MAX_NAMES) for one in kinds]
    entries = [entry for some in found for entry in some]
    rows = [
        (
            entry.kind,
            str(entry.id),
            *(shortened(value or "", MAX_VALUE_CHARACTERS) for value in (entry.external_id, entry.name)),
            entry.preferred_currency or "",
            shortened(entry.unit or "", MAX_VALUE_CHARACTERS),
        )
        for entry in entries[:MAX_NAMES]
    ]
    if not rows:
        click.echo(
            "No names; load some with `usage-explore names load FILE`." if not text else "No name contains that."
        )
        return
    headings = ("kind", "id", "external id", "name", "currency", "unit")
    for line in table([(heading, "left") for heading in headings], rows):
        click.echo(line)
    if len(entries) > MAX_NAMES or any(len(some) == MAX_NAMES for some in found):
        say(f"Only the first {counted(MAX_NAMES, 'name')} are listed; name a text to see others.", err=True)
