"""Look-ups: values of columns and dimensions, names, search by text, times of events, currencies of costs."""

from __future__ import annotations

import dataclasses
import time
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import Table

from usage_explore.db.names import Entry
from usage_explore.errors import Fault, QueryError, StatementTimeout
from usage_explore.extract import retention
from usage_explore.extract.engine import ExtractUnusable
from usage_explore.extract.leaderboards import Match, matches
from usage_explore.extract.manifest import instant
from usage_explore.extract.routing import Paths
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import filters, validators
from usage_explore.query.base import Query, expect, expect_instance
from usage_explore.query.limits import MAX_CHOICES
from usage_explore.query.queries import (
    AggregateQuery,
    EventQuery,
    LeaderboardQuery,
)
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.types import (
    Choice,
    Hit,
)
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters as statements
from usage_explore.store.base import StoreBase, current_time

_Q = TypeVar("_Q", bound=Query)


_MAX_SEARCHED_NAMES = 1_000
"""Names with a text whose events a search counts."""

MAX_FREQUENT_SECONDS = 1
"""Seconds in which the values that fix the colours are counted."""

FREQUENT_SECONDS = 3_600
"""Seconds that they are cached."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExtractState:
    """What an extract holds: the events ingested before `watermark`, as of the last refresh at `refreshed`."""

    events: int
    watermark: datetime
    refreshed: datetime


class Lookups(StoreBase):
    """The methods of `Store` that look up values, names, times and currencies."""

    def names(self, ids: Iterable[tuple[str, UUID | str]]) -> Names:
        """The names of some (column, id) of the organization, such as ("customer_id", event.customer_id)."""
        with self._transaction(EventQuery()) as (connection, scoped):
            return self._directory(connection, scoped).names(ids)

    def search_names(self, text: str, column: str | None = None, most: int = 50) -> list[Entry]:
        """At most `most` customers, products and subscriptions with the text in name, external id or id, in any case.

        `column` is `customer_id`, `product_id` or `subscription_id` for one kind only, `organization_id` for the own
        name of the organization, or `metric` for units. Names that begin with the text come first, then other names,
        then ids.
        """
        with self._transaction(EventQuery()) as (connection, scoped):
            return self._directory(connection, scoped).search(text, column, most)

    def extent(self, query: EventQuery | None = None) -> tuple[datetime, datetime] | None:
        """The times of the first and last event of a query, by default of the organization; None without events.

        >>> store.extent(EventQuery(metric_key="tokens_in"))  # doctest: +SKIP
        """
        requested = expect(EventQuery, EventQuery() if query is None else query)
        with self._transaction(requested, empty=False) as (connection, scoped):
            first, last = connection.execute(statements.extent(self.table, scoped)).one()
            self._hint(connection, scoped, empty=first is None)
        return None if first is None else (first, last)

    def first_event(self, as_of: datetime | None = None) -> datetime | None:
        """The time of the organization's first event, None without events; with `as_of`, of the events known then.

        Where older events were removed, the first that was not: one before it came late, and others are missing.

        Raises `QueryError` for a naive time, `ScopeError`, `DatabaseError`.
        """
        with self._transaction(EventQuery(as_of=as_of)) as (connection, scoped):
            return retention.events_begin(connection, self.table, scoped, self._paths(connection).exists_since)

    def extract_state(self) -> ExtractState | str:
        """What the organization's extract holds, or why its events are read instead, in words."""
        with self._transaction(EventQuery()) as (connection, scoped):
            try:
                held = self._paths(connection).held(scoped)
            except ExtractUnusable as error:
                return str(error)
        return ExtractState(held.manifest.rows, instant(held.watermark), instant(held.manifest.refreshed))

    def pin(self, query: _Q) -> _Q:
        """The query whose numbers stay the same: absolute, with its organization, and `known` as `as_of`.

        >>> store.pin(AggregateQuery(window="last_month")).query_string()  # doctest: +SKIP
        """
        with self._transaction(query) as (connection, scoped):
            now = current_time(connection)
            return scoped.pin(now, self.settle, self._known(connection, scoped, now))

    def known(self) -> datetime | None:
        """The latest `ingested_at` of the organization that is at least the settle time old; None without one."""
        with self._transaction(EventQuery()) as (connection, scoped):
            return self._known(connection, scoped, current_time(connection))

    def is_settled(self, query: Query) -> bool:
        """Whether the query's `as_of` is at or before `known`, so that no event of its answer can still arrive."""
        with self._transaction(expect(Query, query)) as (connection, scoped):
            now = current_time(connection)
            if scoped.is_open(now) or scoped.as_of is None:
                return False
            until = now - self.settle
            later = statements.known(self.table, scoped, scoped.as_of, until)
            return connection.execute(later).scalar_one() is not None

    def currencies(self, within: Query | None = None) -> list[CurrencyCost]:
        """The currencies of the costs of the events of `within` (default: all events), that of most events first.

        A cost without a currency has the currency None; a sum is NaN or infinite if a cost is.
        """
        requested = expect(Query, EventQuery() if within is None else within)
        with self._transaction(requested, snapshot=True) as (connection, scoped):
            paths = self._paths(connection)
            return paths.costs(scoped.resolve(paths.now))

    def search(self, text: str, within: LeaderboardQuery | AggregateQuery | None = None, most: int = 5) -> list[Hit]:
        """Where a text occurs: as an event's id, an idempotency key, in a name or external id, or in a value.

        Ids of events and idempotency keys are found whole, among events of any time; names, external ids and values of
        columns and dimensions by any part, in any case: at most `most` of each, those with most events in the window
        and filters of `within` (default: the last 30 days). Where there is room, names come with 0 events, too. Of more
        than 1,000 names that have the text, the first 1,000 by name are looked at.
        Raises `QueryError`, `ScopeError`, `DatabaseError`.

        >>> store.search("claude", AggregateQuery(window="2026-09"))  # doctest: +SKIP
        """
        try:
            wanted = validators.text(text.strip() if isinstance(text, str) else text)
        except ValueError as error:
            raise QueryError([Fault("text", str(error))]) from None
        given = LeaderboardQuery() if within is None else within
        if isinstance(given, AggregateQuery):
            given = LeaderboardQuery(**given.shared_with(LeaderboardQuery) | {"metric": None, "top": None})
        query = expect(LeaderboardQuery, given).replace(metric="count", top=most)
        with self._transaction(query, snapshot=True) as (connection, scoped):
            paths = self._paths(connection)
            resolved, directory = scoped.resolve(paths.now), self._directory(connection, scoped)
            hits = [self._looked_up(paths, resolved, name, wanted) for name in filters.LOOKED_UP]
            entries = directory.search(wanted, None, _MAX_SEARCHED_NAMES)
            ids = [(f"{entry.kind}_id", str(entry.id)) for entry in entries]
            found = matches(paths, resolved, Match(wanted, tuple(id_ for _, id_ in ids)))
            counts = {(group, key): events for group, keys in found.items() for key, events in keys}
            named = sorted(counts, key=lambda pair: pair[0] not in filters.ID_COLUMNS)
            taken = Counter(group for group, _ in named)
            for group, key in ids:  # those without events, in a group that was not cut
                if group in filters.ID_COLUMNS and taken[group] < most and (group, key) not in counts:
                    taken[group] += 1
                    named.append((group, key))
            named.sort(key=lambda pair: pair[0] not in filters.ID_COLUMNS)
            names = directory.names(pair for pair in named if pair[0] in filters.ID_COLUMNS)
        values = [Hit(group, key, counts.get((group, key), 0), names.name(group, key)) for group, key in named]
        return [hit for hit in hits if hit] + values

    def _looked_up(self, paths: Paths, query: LeaderboardQuery, name: str, text: str) -> Hit | None:
        """The events of an id or idempotency key, None without any."""
        try:
            lookup = EventQuery(organization_id=query.organization_id, as_of=query.as_of, **{name: [text]})
        except QueryError:  # a text that is no UUID
            return None
        events = paths.count(lookup, indexed=self._is_indexed(paths.connection, lookup))
        return Hit(name, getattr(lookup, name)[0], events) if events else None

    def metric_keys(self, within: Query | None = None) -> list[Choice]:
        """The metric keys of the events of `within` (default: all events), most frequent first."""
        return self.values("metric_key", within)

    def dimension_keys(self, within: Query | None = None) -> list[Choice]:
        """The dimension keys of the events of `within` (default: all events), most frequent first.

        The empty key is left out: no query can name it.
        """
        return self._choices(within, aggregation.KEYS, None, statements.dimension_keys)

    def dimension_values(self, key: str, within: Query | None = None, most: int = 1_000) -> list[Choice]:
        """The values of one dimension, `model` or `dim:model`, as text, most frequent first; at most `most`."""
        group = filters.dimension_group(filters.dimension_key(key)) if isinstance(key, str) else key
        return self.values(group, within, most)

    def customers(self, within: Query | None = None, most: int = 1_000) -> list[Choice]:
        """The customers with the most events first; at most `most`."""
        return self.values("customer_id", within, most)

    def values(
        self, group: str, within: Query | None = None, most: int = 1_000, *, timeout: timedelta | None = None
    ) -> list[Choice]:
        """The values of a column or `dim:<key>`, most frequent first; at most `most`.

        `timeout` bounds each statement, by default the store's `statement_timeout`. Raises `QueryError` for an unknown
        group, `StatementTimeout`.
        """
        name = "group_by"
        try:
            filters.group(group)
            name = "most"
            validators.integer(most, 1, MAX_CHOICES)
        except ValueError as error:
            raise QueryError([Fault(name, str(error))]) from None
        if timeout is not None:
            expect_instance("timeout", timeout, timedelta)
        return self._choices(within, group, most, partial(statements.values, group=group, max_values=most), timeout)

    def frequent_values(self, query: AggregateQuery) -> tuple[str, ...]:
        """The most frequent values of the query's group in all events of its organization, which fix their colours.

        Empty without a group, and if they cannot be counted within `MAX_FREQUENT_SECONDS`. Cached for an hour, as
        colours should not change. Raises `QueryError`, `ScopeError`, `DatabaseError`.
        """
        query = expect(AggregateQuery, query)
        if query.group_by == "none":
            return ()
        with self._transaction(query) as (_, scoped):
            organization_id = scoped.organization_id
        assert organization_id is not None  # noqa: S101 - the scope has resolved it
        return self._cached_frequent(organization_id, query.group_by)

    def _cached_frequent(self, organization_id: UUID, group: str) -> tuple[str, ...]:
        key = organization_id, group
        expires, values = self._frequent.get(key, (0.0, ()))
        if time.monotonic() >= expires:
            values = self.count_frequent(*key)
            self._frequent[key] = time.monotonic() + FREQUENT_SECONDS, values
        return values

    def count_frequent(self, organization_id: UUID | None, group: str) -> tuple[str, ...]:
        """`frequent_values` of a group of an organization, counted now."""
        from usage_explore.charts import MAX_COLORS

        timeout = timedelta(seconds=MAX_FREQUENT_SECONDS)
        within = EventQuery(organization_id=organization_id)
        try:
            return tuple(choice.value for choice in self.values(group, within, MAX_COLORS, timeout=timeout))
        except StatementTimeout:
            return ()

    def _choices(
        self,
        within: Query | None,
        group: str,
        most: int | None,
        events: Callable[[Table, Query], Any],
        timeout: timedelta | None = None,
    ) -> list[Choice]:
        requested = expect(Query, EventQuery() if within is None else within)
        with self._transaction(requested, snapshot=True, statement_timeout=timeout) as (connection, scoped):
            paths = self._paths(connection)
            rows = paths.choices(scoped.resolve(paths.now), group, most, events)
            ids = [(group, value) for value, _ in rows] if group in filters.ID_COLUMNS else []
            names = self._directory(connection, scoped).names(ids) if ids else NO_NAMES
        return [Choice(value, events, names.name(group, value)) for value, events in rows]
