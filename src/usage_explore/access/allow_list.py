"""Who may see which organizations in the app: a table in a TOML file, by e-mail address.

    email_verified = "required"

    ["ana@example.com"]
    organizations = ["1ed3d322-7883-5d6d-a210-80e3680a7cba"]

    ["audit@example.com"]
    organizations = "all"

As soon as the file is there, the app asks everybody to sign in. Addresses compare without case. The file is read
at each look: taking somebody out takes effect at once. `email_verified`, by default "required", says whether the
provider must say that it verified the address; "optional" is for providers that say nothing about it and verify all
the same. One that says no is believed either way.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from usage_explore.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Grant:
    """What one person may see: these organizations, or every one."""

    organizations: frozenset[UUID]
    every: bool = False

    def allows(self, organization_id: UUID) -> bool:
        """Whether the person may see the organization."""
        return self.every or organization_id in self.organizations


EVERYTHING = Grant(frozenset(), every=True)


@dataclass(frozen=True, slots=True)
class People:
    """The allow-table in one file, which need not exist."""

    path: Path

    @property
    def required(self) -> bool:
        """Whether the app must ask people to sign in; a link that leads nowhere lets nobody in."""
        return self.path.exists() or self.path.is_symlink()

    def grant(self, email: str, verified: object = True) -> Grant | None:
        """What the person may see, None when nothing.

        `verified` is what the provider says of the address (`email_verified`), None where it says nothing.
        Raises `ConfigurationError` when the file cannot be read: a broken table lets nobody in.
        """
        silence, table = self._read()
        said = silence if verified is None else str(verified).lower() == "true"
        return table.get(email.strip().casefold()) if said else None

    def check(self) -> None:
        """Raise `ConfigurationError` when the file is there and cannot be read."""
        self._read()

    def _read(self) -> tuple[bool, dict[str, Grant]]:
        """Whether an address counts of which the provider says nothing, and who may see what."""
        try:
            entries = tomllib.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return False, {}
        except OSError as error:
            raise ConfigurationError(f"people: {self.path} cannot be read ({error.strerror})") from error
        except ValueError as error:
            raise ConfigurationError(f"people: {self.path} is not TOML: {error}") from error
        needed = entries.pop("email_verified", "required")
        if needed not in ("required", "optional"):
            raise ConfigurationError(f'people: {self.path}: email_verified is "required" or "optional"')
        return needed == "optional", {
            email.strip().casefold(): self._grant(email, entry) for email, entry in entries.items()
        }

    def _grant(self, email: str, entry: Any) -> Grant:
        named = entry.get("organizations") if isinstance(entry, dict) and set(entry) == {"organizations"} else None
        if named == "all":
            return EVERYTHING
        try:
            if not isinstance(named, list):
                raise ValueError
            return Grant(frozenset(UUID(organization) for organization in named))
        except (ValueError, AttributeError, TypeError):
            raise ConfigurationError(
                f'people: {self.path}: ["{email}"] needs one line, organizations = "all" or a list of UUIDs in quotes'
            ) from None
