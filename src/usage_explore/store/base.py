"""What all parts of the store share: one organization's events in one table, READ ONLY transactions, names, hints."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Self, TypeVar
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, Table

from usage_explore import config
from usage_explore.db import catalog
from usage_explore.db import engine as db_engine
from usage_explore.db.catalog import check_instants
from usage_explore.db.names import Directory, of_organizations
from usage_explore.db.schema import names_table
from usage_explore.db.tenancy import Scope
from usage_explore.errors import ScopeError
from usage_explore.extract import retention, routing
from usage_explore.extract.engine import Extracts
from usage_explore.extract.routing import Paths
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import filters, validators
from usage_explore.query.base import Query, expect
from usage_explore.query.queries import (
    EventQuery,
    Period,
    Position,
    decode_cursor,
)
from usage_explore.records.places import Records
from usage_explore.results.types import (
    Event,
)
from usage_explore.sql import filters as statements
from usage_explore.sql import hints

_Q = TypeVar("_Q", bound=Query)


_RECENT_ARRIVALS = (timedelta(days=1), timedelta(days=30))
"""Windows before now in which the latest arrival is searched first: TimescaleDB's columnstore skips older chunks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class StoreBase:
    """An organization's events in a table; see `Store`."""

    engine: Engine
    table: Table
    organization_id: UUID | None
    settle: timedelta
    app_url: str
    allowed: frozenset[UUID] | None = None
    extracts: Extracts | None = None
    hints: bool = True
    warns: bool = True
    escaped_commas: bool = False
    long_statement_timeout: timedelta = config.DEFAULT_LONG_STATEMENT_TIMEOUT
    names_table: str | None = None
    given_names: Names = dataclasses.field(default=NO_NAMES, repr=False)
    records: Records | None = None
    bounds: Path | None = None
    _seen: dict[UUID, float] = dataclasses.field(default_factory=dict, repr=False, compare=False)
    _frequent: dict[tuple[UUID, str], tuple[float, tuple[str, ...]]] = dataclasses.field(
        default_factory=dict, repr=False, compare=False
    )

    def __repr__(self) -> str:
        organization = self.organization_id or "not chosen"
        address = self.engine.url.set(drivername="postgresql", query={})  # repr hides a password, except in the query
        return f"<Store: {self.table.fullname} at {address!r}, organization {organization}>"

    def close(self) -> None:
        """Close all connections of the pool, and the extracts. `with connect() as store:` does it at the end."""
        self.engine.dispose()
        if self.extracts is not None:
            self.extracts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def scoped(self, organization_id: UUID | str) -> Self:
        """The store for one organization.

        Raises `ScopeError` if this store is for another one, or the table has no such organization.
        """
        with self._transaction(Query(organization_id=organization_id)) as (_, scoped):
            return dataclasses.replace(self, organization_id=scoped.organization_id)

    def restricted(self, organizations: Iterable[UUID]) -> Self:
        """The store for a caller who may see only these organizations, of those that this store may."""
        try:
            ids = frozenset(validators.uuid(organization_id) for organization_id in organizations)
        except (TypeError, ValueError) as error:
            raise ScopeError(f"organizations: {error}") from None
        return dataclasses.replace(self, allowed=ids if self.allowed is None else self.allowed & ids)

    def organizations(self) -> tuple[UUID, ...]:
        """The organizations to choose from: this store's own, else all in the table that are allowed."""
        with db_engine.transaction(self.engine) as connection:
            return self._scope.organizations(connection, self.table)

    def organization_names(self) -> Names:
        """The own names of the organizations to choose from."""
        with db_engine.transaction(self.engine) as connection:
            visible = self._scope.organizations(connection, self.table)
            return of_organizations(connection, names_table(self.names_table, self.table), visible)

    def organization_name(self, query: Query) -> str:
        """The name and id of the query's organization, "Acme (1a2b3c4d-…)"; the id alone without a name."""
        with self._transaction(expect(Query, query)) as (connection, scoped):
            return self._organization_name(connection, scoped)

    def now(self) -> datetime:
        """The database's clock."""
        with db_engine.transaction(self.engine) as connection:
            return current_time(connection)

    @contextmanager
    def _transaction(
        self, query: _Q, *, snapshot: bool = False, statement_timeout: timedelta | None = None, empty: bool = True
    ) -> Iterator[tuple[Connection, _Q]]:
        """A read-only transaction, and the query with its organization. Raises `ScopeError`.

        Raises `QueryError` for a list written as one value; with `empty` False only `_hint` does, for an empty answer.
        """
        self._scope.check(query)
        with db_engine.transaction(self.engine, snapshot=snapshot, statement_timeout=statement_timeout) as connection:
            self._check_times(connection)
            scoped = self._scope.of(query, connection, self.table)
            self._check_commas(connection, scoped, empty=empty)
            yield connection, scoped

    def _hint(
        self, connection: Connection, query: Query, *, empty: bool, exists_since: datetime | None = None
    ) -> tuple[str, ...]:
        """Raise for an empty answer, or return hints and warn of them, if the query probably means something else."""
        if empty:
            self._check_commas(connection, query, empty=True)
        if not self.hints:
            return ()
        messages = hints.suspicious(connection, self.table, query, empty=empty)
        if exists_since is not None:
            messages = (*messages, retention.sentence(exists_since))
        if self.warns:
            for message in messages:
                hints.warn(message)
        return messages

    def _check_commas(self, connection: Connection, query: Query, *, empty: bool) -> None:
        hints.check_commas(connection, self.table, query, empty=empty, escaped=self.escaped_commas)

    def _known(self, connection: Connection, query: Query, now: datetime) -> datetime | None:
        """The latest arrival that has settled at `now`, searched in recent arrivals first."""
        until = now - self.settle
        for since in (*(until - back for back in _RECENT_ARRIVALS), None):
            statement = statements.known(self.table, query, since, until)
            latest: datetime | None = connection.execute(statement).scalar_one()
            if latest is not None:
                return latest
        return None

    def _settled(self, connection: Connection, period: Period, now: datetime) -> tuple[Period, timedelta | None]:
        """The resolved period with its `as_of`, and the settle time behind it; None behind a given one."""
        settled = period.pin(now, self.settle, self._known(connection, period, now))
        return (settled, self.settle) if period.as_of is None else (settled.replace(as_of=min(period.as_of, now)), None)

    def _check_times(self, connection: Connection) -> None:
        """Raise `TableMismatch` if a time column has no zone; looked up once per connection and table."""
        checked: set[str] = connection.info.setdefault("checked", set())
        driver = connection.connection.driver_connection
        if self.table.fullname not in checked and isinstance(driver, psycopg.Connection):
            check_instants(driver, self.table.fullname)
            checked.add(self.table.fullname)

    @property
    def _scope(self) -> Scope:
        return Scope(self.organization_id, self.allowed, self._seen)

    def _paths(self, connection: Connection) -> Paths:
        return routing.opened(connection, self.table, self.extracts)

    def _organization_name(self, connection: Connection, query: Query) -> str:
        id_ = str(query.organization_id)
        return self._directory(connection, query).names([("organization_id", id_)]).full("organization", id_)

    def _times(self, connection: Connection, query: EventQuery) -> list[datetime] | None:
        """The times of the events of ids or idempotency keys, where the extract finds them faster than the table."""
        looked_up = any(getattr(query, name) for name in filters.LOOKED_UP)
        if not looked_up or self._is_indexed(connection, query):
            return None
        return self._paths(connection).times(query)

    def _is_indexed(self, connection: Connection, query: EventQuery) -> bool:
        """Whether an index finds the query's ids or idempotency keys; looked up once per connection and table."""
        columns = tuple(name for name in filters.LOOKED_UP if getattr(query, name))
        driver = connection.connection.driver_connection
        if not columns or not isinstance(driver, psycopg.Connection):
            return False
        known: dict[tuple[str, ...], bool] = connection.info.setdefault("finds", {})
        key = (self.table.fullname, *columns)
        if key not in known:
            known[key] = catalog.finds(driver, self.table.fullname, columns)
        return known[key]

    def _directory(self, connection: Connection, query: Query) -> Directory:
        return Directory(connection, _names_table(self.names_table, self.table), query, self.given_names)


@lru_cache(maxsize=64)
def _names_table(name: str | None, events: Table) -> Table:
    """The directory's table, made once: it takes a millisecond."""
    return names_table(name, events)


def current_time(connection: Connection) -> datetime:
    """The time of the transaction, by the database's clock."""
    return connection.execute(statements.now()).scalar_one()


def position_of(query: EventQuery) -> Position | None:
    """The position after which the query's page begins, None for the first page."""
    return decode_cursor(query.cursor, query) if query.cursor else None


def event_of(row: Any) -> Event:
    """The event of a row with every column of the table."""
    return Event(**row._mapping)
