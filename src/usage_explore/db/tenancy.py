"""The organization of a query, which must be one that the current user may see."""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from dataclasses import dataclass, field, replace
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Table
from sqlalchemy.exc import NotSupportedError

from usage_explore.errors import ScopeError
from usage_explore.query.base import Query
from usage_explore.sql import filters, hints

_Q = TypeVar("_Q", bound=Query)

_CACHE_SECONDS = 5
"""How long an organization that had events needs no second look: so long it may be answered with zeros once hidden."""


@dataclass(frozen=True, slots=True)
class Scope:
    """The visible organizations: `organization_id` alone if given, and only those in `allowed` if that is not None.

    `seen` has the time of `time.monotonic` at which an organization was last seen to have events.
    """

    organization_id: UUID | None
    allowed: frozenset[UUID] | None
    seen: MutableMapping[UUID, float] = field(default_factory=dict)

    def may_see(self, organization_id: UUID) -> bool:
        """Whether the organization is visible, if it exists."""
        own = self.organization_id in (None, organization_id)
        return own and (self.allowed is None or organization_id in self.allowed)

    def check(self, query: Query) -> None:
        """Raise `ScopeError` for an organization that is not visible.

        The database is not queried, so the time does not reveal whether it exists.
        """
        claim = query.organization_id or self.organization_id
        if claim is not None and not self.may_see(claim):
            raise ScopeError.refusing(claim)

    def of(self, query: _Q, connection: Connection, table: Table) -> _Q:
        """The query with its organization, which must have events; a single visible one is the default.

        Raises `ScopeError` if there are none, or several without a choice.
        """
        if self.organization_id is not None:
            self._check_own(connection, table, self.organization_id)
            if query.organization_id == self.organization_id:
                return query
            return query.replace(organization_id=self.organization_id)
        claim = query.organization_id
        if claim is not None:
            if self._has_events(connection, table, claim):
                return query
            raise ScopeError.refusing(claim)
        allowed = self.organizations(connection, table)
        if len(allowed) == 1:
            return query.replace(organization_id=allowed[0])
        is_empty = not allowed and bool(connection.execute(filters.is_empty(table)).scalar_one())
        raise self.unresolved(len(allowed), is_empty=is_empty)

    def unresolved(self, number: int, *, is_empty: bool) -> ScopeError:
        """The error for a query without organization, of which this number is visible; `is_empty`: no events."""
        if not number and self.allowed is not None:
            return ScopeError("organization_id: there are no events here that you may see; ask the administrator")
        if not number and not is_empty:
            return ScopeError(
                "organization_id: this database role sees no events: there are none, or row-level security or a view "
                "hides them; `usage-explore doctor` says more"
            )
        if not number:
            return ScopeError(
                "organization_id: the table holds no events yet; load some with `usage-explore load FILE` or try "
                "`usage-explore demo`"
            )
        return ScopeError(
            f"organization_id: the table holds {number} organizations; choose one with organization_id=… "
            "or USAGE_EXPLORE_ORGANIZATION_ID"
        )

    def sees(self, connection: Connection, table: Table, organization_id: UUID) -> bool:
        """Whether the organization is one of the scope's, and any of its events is visible."""
        return self.may_see(organization_id) and self._has_events(connection, table, organization_id)

    def organizations(self, connection: Connection, table: Table) -> tuple[UUID, ...]:
        """All visible organizations. Raises `ScopeError` if the scope's own one has no events."""
        if self.organization_id is not None:
            if not self.may_see(self.organization_id):
                return ()
            self._check_own(connection, table, self.organization_id)
            return (self.organization_id,)
        try:
            with connection.begin_nested():
                owners = connection.execute(filters.organizations(table)).scalars().all()
        except NotSupportedError:  # by Citus
            owners = connection.execute(filters.organizations(table, distributed=True)).scalars().all()
        return tuple(organization_id for organization_id in owners if self.may_see(organization_id))

    def holds_several(self, connection: Connection, table: Table) -> bool:
        """Whether the table has several organizations that are allowed, also if the scope is one of them."""
        return len(replace(self, organization_id=None).organizations(connection, table)) > 1

    def _check_own(self, connection: Connection, table: Table, own: UUID) -> None:
        """Raise `ScopeError` for the scope's organization if the table has events, but none of its are visible."""
        if self._has_events(connection, table, own):
            return
        if not connection.execute(filters.is_empty(table)).scalar_one():
            raise ScopeError.refusing(own)
        hints.warn(
            f"The table {table.fullname} holds no events yet, so every answer for organization {own} is empty; load "
            "some with `usage-explore load FILE`"
        )

    def _has_events(self, connection: Connection, table: Table, organization_id: UUID) -> bool:
        now = time.monotonic()
        if now - self.seen.get(organization_id, -_CACHE_SECONDS) < _CACHE_SECONDS:
            return True
        has_events = bool(connection.execute(filters.holds(table, organization_id)).scalar_one())
        if has_events:
            self.seen[organization_id] = now
        return has_events
