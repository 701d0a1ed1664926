"""Whose events a question is about: one organization's, and only one that the asker may see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from sqlalchemy import Connection, Table
from sqlalchemy.exc import NotSupportedError

from usage_explore import statements
from usage_explore.errors import ScopeError
from usage_explore.question import Question

_Q = TypeVar("_Q", bound=Question)


@dataclass(frozen=True, slots=True)
class Scope:
    """What may be seen: `organization_id` alone where there is one, and of `allowed` only where it is not None."""

    organization_id: UUID | None
    allowed: frozenset[UUID] | None

    def may_see(self, organization_id: UUID) -> bool:
        """Whether the organization, if it exists, may be asked about."""
        own = self.organization_id in (None, organization_id)
        return own and (self.allowed is None or organization_id in self.allowed)

    def check(self, query: Question) -> None:
        """Refuse what is not the asker's before the database is touched: it takes as long whether it exists or not.

        Raises `ScopeError`.
        """
        claim = query.organization_id or self.organization_id
        if claim is not None and not self.may_see(claim):
            raise ScopeError.refusing(claim)

    def of(self, query: _Q, connection: Connection, table: Table) -> _Q:
        """The question with its organization: a claim is checked, a single one is taken without asking.

        Raises `ScopeError` where there is none or a choice of several.
        """
        if self.organization_id is not None:
            return query.replace(organization_id=self.organization_id)
        claim = query.organization_id
        if claim is not None:
            if connection.execute(statements.holds(table, claim)).scalar_one():
                return query
            raise ScopeError.refusing(claim)
        allowed = self.organizations(connection, table)
        if len(allowed) == 1:
            return query.replace(organization_id=allowed[0])
        if not allowed and self.allowed is not None:
            raise ScopeError("organization_id: there are no events here that you may see; ask whoever runs the server")
        if not allowed:
            raise ScopeError(
                "organization_id: the table holds no events yet; load some with `usage-explore load FILE` or try "
                "`usage-explore demo`"
            )
        raise ScopeError(
            f"organization_id: the table holds {len(allowed)} organizations; choose one with organization_id=… "
            "or USAGE_EXPLORE_ORGANIZATION_ID"
        )

    def organizations(self, connection: Connection, table: Table) -> tuple[UUID, ...]:
        """Every organization that may be asked about."""
        if self.organization_id is not None:
            return (self.organization_id,) if self.may_see(self.organization_id) else ()
        try:
            with connection.begin_nested():
                found = connection.execute(statements.organizations(table)).scalars().all()
        except NotSupportedError:  # by Citus
            found = connection.execute(statements.organizations(table, distributed=True)).scalars().all()
        return tuple(organization_id for organization_id in found if self.may_see(organization_id))
