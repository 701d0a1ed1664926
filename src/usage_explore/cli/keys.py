"""`usage-explore keys`: create, list and revoke the API keys of the HTTP API."""

from __future__ import annotations

import click

from usage_explore.cli.options import common, organization, settings_in_force
from usage_explore.errors import ConfigurationError


@click.group()
def keys() -> None:
    """API keys of the HTTP API, each for one organization. As soon as there is a key, the API requires one."""


@keys.command()
@click.option("--name", required=True, help="What or whom the key is for.")
@organization
@common
def create(name: str) -> None:
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


@keys.command(name="list")
@common
def list_() -> None:
    """List the keys, oldest first: id, organization, when made, valid or revoked, name."""
    from usage_explore.access.api_keys import Keyring

    for key in Keyring(settings_in_force().keys).listed():
        state = f"revoked {key.revoked}" if key.revoked else "valid"
        click.echo(f"{key.id}  {key.organization_id}  made {key.created}  {state}  {key.name}")


@keys.command()
@click.argument("key_id", metavar="ID")
@common
def revoke(key_id: str) -> None:
    """Revoke a key; running servers refuse it from their next request on."""
    from usage_explore.access.api_keys import Keyring

    key = Keyring(settings_in_force().keys).revoke(key_id)
    click.echo(f"Revoked {key.id} ({key.name}).")
