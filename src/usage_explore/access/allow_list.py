"""The allow list: the organizations that each person may see in the app, by email address, in a TOML file.

    email_verified = "required"

    ["ana@example.com"]
    organizations = ["1ed3d322-7883-5d6d-a210-80e3680a7cba"]

    ["audit@example.com"]
    organizations = "all"

If the file exists, the app requires sign-in, until it is started again without the file. Addresses compare without the
case of A to Z. The file is read at each request, so that removing a person takes effect at once. With `email_verified`
"required", the default, the provider must confirm that it verified the address; with "optional", a provider may omit
the claim. An address that it calls unverified is refused.
"""

from __future__ import annotations

import string
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from usage_explore.access.api_keys import is_closed, regular_text
from usage_explore.errors import ConfigurationError
from usage_explore.files.toml import parsed_toml
from usage_explore.files.values import InvalidValue
from usage_explore.formatting import path_text

_MAX_PEOPLE = 1_000_000

_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _address(email: str) -> str:
    """What of an address is compared: other letters than A to Z may be another person's, such as `ß` and `ss`."""
    return email.translate(_LOWER)


@dataclass(frozen=True, slots=True)
class Grant:
    """The organizations that one person may see."""

    organizations: frozenset[UUID]
    every: bool = False

    def allows(self, organization_id: UUID) -> bool:
        """Whether the person may see the organization."""
        return self.every or organization_id in self.organizations


EVERYTHING = Grant(frozenset(), every=True)


@dataclass(frozen=True, slots=True)
class People:
    """The allow list in a file, which need not exist."""

    path: Path

    @property
    def required(self) -> bool:
        """Whether the app requires sign-in; a dangling symbolic link counts as a file, one that is gone as empty."""
        return is_closed(self.path, self.path.exists() or self.path.is_symlink())

    def grant(self, email: str, verified: object = True) -> Grant | None:
        """The organizations that the person may see; None for no access.

        `verified` is the provider's `email_verified` claim, None if it has none.
        Raises `ConfigurationError` if the file cannot be read: a damaged file grants no access.
        """
        return self._read()[1].get(_address(email)) if self.accepts(verified) else None

    def accepts(self, verified: object) -> bool:
        """Whether an address with this `email_verified` claim of the provider, None if it has none, is a person's."""
        return self._read()[0] if verified is None else str(verified).lower() == "true"

    def check(self) -> None:
        """Raise `ConfigurationError` if the file exists and cannot be read."""
        self._read()

    def _read(self) -> tuple[bool, dict[str, Grant]]:
        """Whether an address without an `email_verified` claim is accepted, and the grants by address."""
        try:
            entries = parsed_toml(regular_text(self.path), max_tables=_MAX_PEOPLE)
        except FileNotFoundError:
            return False, {}
        except OSError as error:
            raise ConfigurationError(f"people: {path_text(self.path)} cannot be read ({error.strerror})") from error
        except InvalidValue as error:
            raise ConfigurationError(f"people: {path_text(self.path)} {error}") from error
        except UnicodeDecodeError as error:
            raise ConfigurationError(f"people: {path_text(self.path)} is not UTF-8; save it so") from error
        needed = entries.pop("email_verified", "required")
        if needed not in ("required", "optional"):
            raise ConfigurationError(f'people: {path_text(self.path)}: email_verified is "required" or "optional"')
        table: dict[str, Grant] = {}
        for name, entry in entries.items():
            email = name.strip()
            if not _address(email) or _address(email) in table:
                what = "is there twice" if _address(email) else "is no address"
                raise ConfigurationError(f'people: {path_text(self.path)}: ["{name}"] {what}')
            table[_address(email)] = self._grant(email, entry)
        return needed == "optional", table

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
                f'people: {path_text(self.path)}: ["{email}"] needs one line, organizations = "all" or a list'
                " of UUIDs in quotes"
            ) from None
