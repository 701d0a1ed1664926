"""`usage-explore keys`: make, list and revoke the API keys of the HTTP door."""

from __future__ import annotations

import click

from usage_explore.cli.options import common, organization, settings_in_force
from usage_explore.errors import ConfigurationError


@click.group()
def keys() -> None:
    """API keys of the HTTP door: each opens one organization. With the first one, the door asks for a key."""


@keys.command()
@click.option("--name", required=True, help="What or whom the key is for.")
@organization
@common
def create(name: str) -> None:
    """Make a key for one organization and print it, this once: only its hash is kept."""
    from usage_explore.access.api_keys import Keyring

    settings = settings_in_force()
    if settings.organization_id is None:
        raise ConfigurationError("--organization-id: is missing; name the organization that the key opens")
    if not name.strip() or not name.isprintable():
        raise ConfigurationError("--name: write a few plain words, such as 'billing bot'")
    text = Keyring(settings.keys).create(settings.organization_id, name.strip())
    click.echo(f"A key for organization {settings.organization_id}; it is shown this once:", err=True)
    click.echo(text)


@keys.command(name="list")
@common
def list_() -> None:
    """List the keys, oldest first: id, organization, when made, whether revoked, name; never the key itself."""
    from usage_explore.access.api_keys import Keyring

    for key in Keyring(settings_in_force().keys).listed():
        state = f"revoked {key.revoked}" if key.revoked else "valid"
        click.echo(f"{key.id}  {key.organization_id}  made {key.created}  {state}  {key.name}")


@keys.command()
@click.argument("key_id", metavar="ID")
@common
def revoke(key_id: str) -> None:
    """Refuse a key from now on; the servers look at every request."""
    from usage_explore.access.api_keys import Keyring

    key = Keyring(settings_in_force().keys).revoke(key_id)
    click.echo(f"Revoked {key.id} ({key.name}).")
