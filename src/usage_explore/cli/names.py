"""`usage-explore names`: the directory of names of organizations, customers, products and subscriptions."""

from __future__ import annotations

from pathlib import Path

import click

from usage_explore.cli.options import common, connected, organization, say, settings_in_force
from usage_explore.console import table
from usage_explore.formatting import MAX_VALUE_CHARACTERS, counted, shortened
from usage_explore.names import KINDS

_MAX_LISTED = 1_000
"""Rows that `list` prints."""


@click.group()
def names() -> None:
    """Names of organizations, customers, products and subscriptions, shown wherever their ids are."""


@names.command(name="load")
@click.argument("file", type=click.Path(path_type=Path))
@organization
@common
def load_names(file: Path) -> None:
    """Load names from FILE: CSV, Parquet or JSON Lines; all rows or none.

    Columns: id (a UUID, or any text) or external_id, name, kind (customer, product, subscription or organization;
    default customer), preferred_currency. What a row gives replaces what is stored, what it leaves out stays. A text
    stands for the id that `load` makes of it.
    """
    from usage_explore.db import ddl, schema
    from usage_explore.load.names import load_names

    with connected() as (connection, settings):
        ddl.ensure_schema(connection, settings.table, names_table_name=settings.names_table)
        events = schema.events_table(settings.table)
        report = load_names(
            connection, events, schema.names_table(settings.names_table, events), file, settings.organization_id
        )
        connection.commit()
    say(report)


@names.command(name="list")
@click.argument("text", required=False, default="")
@click.option("--kind", type=click.Choice(KINDS), show_default="all", help="Only names of this kind.")
@organization
@common
def list_names(text: str, kind: str | None) -> None:
    """List the names that contain TEXT, in name, external id or id; all without TEXT."""
    from usage_explore.open_store import opened

    with opened(settings_in_force()) as store:
        entries = store.search_names(text, kind, _MAX_LISTED + 1)
    rows = [
        (
            entry.kind,
            str(entry.id),
            *(shortened(value or "", MAX_VALUE_CHARACTERS) for value in (entry.external_id, entry.name)),
            entry.preferred_currency or "",
        )
        for entry in entries[:_MAX_LISTED]
    ]
    if not rows:
        click.echo(
            "No names; load some with `usage-explore names load FILE`." if not text else "No name contains that."
        )
        return
    headings = ("kind", "id", "external id", "name", "currency")
    for line in table([(heading, "left") for heading in headings], rows):
        click.echo(line)
    if len(entries) > _MAX_LISTED:
        say(f"The first {counted(_MAX_LISTED, 'name')}; name a text to see others.", err=True)
