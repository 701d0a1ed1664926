"""The pages' queries to the store, cached for a minute and shared by all sessions.

Results are frozen values. The cache key is the organization and the resolved query, with the database's time rounded
down to the minute: no number is older than the header's "as of". Errors are not cached. Access is checked before
every look into the cache.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import streamlit as st

from usage_explore.access import logs
from usage_explore.answers import Aggregate, Leaderboards
from usage_explore.app import query_edits, sign_in
from usage_explore.comparison import compare
from usage_explore.db import timeouts
from usage_explore.db.names import Entry
from usage_explore.decimals import Number
from usage_explore.errors import QueryError, ScopeError, StatementTimeout
from usage_explore.event_pages import EventPage
from usage_explore.explain import Explanation
from usage_explore.export import ExportReport, Progress
from usage_explore.names import NO_NAMES, Names
from usage_explore.open_store import connect
from usage_explore.query.base import Query, Windowed
from usage_explore.query.queries import AggregateQuery, EventQuery, LeaderboardQuery, Period
from usage_explore.records.links import SharedLink
from usage_explore.records.views import SavedView
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.named import filtered_ids
from usage_explore.results.types import Choice, Comparison, Hit, Series, SeriesKind
from usage_explore.store import ExtractState, Store
from usage_explore.store.lookups import FREQUENT_SECONDS

_Q = TypeVar("_Q", bound=Query)

_log = logging.getLogger(__name__)

MAX_SEARCH_HITS = 20
"""Names that a search in a picker returns."""

Key = tuple[SeriesKind, str | None]
"""(kind, key) of a series."""

_MINUTE, _TEN_MINUTES = 60, 600  # seconds that results are cached
_KEYS: dict[str | type[Any], Callable[[Any], Any]] = dict.fromkeys(
    (AggregateQuery, EventQuery, LeaderboardQuery, Period), repr
)


class _NotCached(Exception):
    """The cache has no explanation of the change."""


@dataclass(frozen=True)
class Totals:
    """The total of every value of a group, by (kind, key), and the names of its ids."""

    by_key: dict[Key, Number | None]
    names: Names


@dataclass(frozen=True)
class Newest:
    """What the organization has `now`, by the database's clock; None without events."""

    now: datetime
    extent: tuple[datetime, datetime] | None
    arrival: datetime | None


@dataclass(frozen=True)
class Source:
    """One organization's store, and the database's clock rounded down to the minute."""

    store: Store
    now: datetime

    def aggregate(self, query: AggregateQuery) -> Aggregate:
        """The result of a query, as of this minute."""
        return _aggregate(self.store, self.store.organization_id, query.resolve(self.now), self.now)

    def comparison(self, answer: Aggregate) -> Comparison | str:
        """The result compared with the period before, or the reason why it is not compared."""
        return _comparison(self.store, self.store.organization_id, answer, answer.query, self.now)

    def totals(self, query: AggregateQuery) -> Totals | None:
        """The total of every value of the query's group in its window; None if those are more than an answer holds."""
        whole = query.replace(bucket="week", top=0, compare=None, cumulative=None)
        return _totals(self.store, self.store.organization_id, whole, self.now)

    def lines(self, query: AggregateQuery, keys: Iterable[Key]) -> dict[Key, Series]:
        """The series of these values of the query's group in its window, by (kind, key); without those of no event."""
        wanted = tuple(sorted({*keys}, key=lambda key: (key[0], key[1] or "")))
        return _lines(self.store, self.store.organization_id, query, wanted, self.now) if wanted else {}

    def leaderboards(self, query: AggregateQuery, top: int) -> Leaderboards:
        """The largest values of every column and dimension in the query's window, as of this minute."""
        return _leaderboards(self.store, self.store.organization_id, query, top, self.now)

    def explanation(
        self,
        query: AggregateQuery,
        before: tuple[datetime, datetime],
        watch: Callable[[Callable[[], Explanation]], Explanation],
    ) -> Explanation:
        """The values that account for the change of a resolved query against another window.

        `watch` runs the search if needed, and may show progress and cancel it. Cached for ten minutes, while both
        windows have as many events: an edit that leaves both numbers alike shows after that.
        """
        events = [
            query_edits.events_of(query.replace(since=since, until=until)) for since, until in (before, query.span)
        ]
        key = self.store.organization_id, query, before, tuple(self.count(each) for each in events)
        with suppress(_NotCached):
            return _explanation(_not_cached, *key)
        with logged_work("explanation", self.store.organization_id, query):
            made = watch(lambda: self.store.explain(query, baseline=before))
        return _explanation(lambda: made, *key)

    def first_event(self, as_of: datetime | None) -> datetime | None:
        """The time of the organization's first event known at `as_of`; None without events."""
        return _first_event(self.store, self.store.organization_id, as_of, self.now)

    def page(self, query: EventQuery) -> EventPage:
        """A page of events, as of this minute."""
        return _page(self.store, self.store.organization_id, query, self.now)

    def count(self, query: EventQuery) -> int:
        """The number of events on all pages of the query, as of this minute."""
        return _count(self.store, self.store.organization_id, query.replace(cursor=None, limit=None), self.now)

    def export(
        self, query: EventQuery, path: Path, progress: Progress, escape_formulas: bool, timezone: str | None = None
    ) -> ExportReport:
        """Write all pages of the query to a file."""
        with logged_work("export", self.store.organization_id, query):
            return self.store.export(query, path, progress, escape_formulas=escape_formulas, timezone=timezone)

    def sql(self, query: AggregateQuery | EventQuery) -> str:
        """The SQL of the query, as of this minute."""
        return _sql(self.store, self.store.organization_id, query.resolve(self.now))

    def pinned(self, query: _Q) -> _Q:
        """The query with absolute times and `as_of`, whose result never changes."""
        return query.pin(self.now, self.store.settle, _known(self.store, self.store.organization_id, self.now))

    def extent(self, within: EventQuery = EventQuery()) -> tuple[datetime, datetime] | None:  # noqa: B008 - frozen
        """The times of the first and last event of a query, by default of the organization; None without events."""
        return _extent(self.store, self.store.organization_id, within, self.now)

    def dimension_keys(self) -> tuple[str, ...]:
        """Every dimension key in the organization's events, most frequent first; up to ten minutes old."""
        return _dimension_keys(self.store, self.store.organization_id)

    def names(self, query: Query) -> Names:
        """The names of the ids in the query's filters; up to a minute old."""
        ids = tuple(filtered_ids(query))
        return _names(self.store, self.store.organization_id, ids) if ids else NO_NAMES

    def names_of(self, ids: Iterable[tuple[str, str]]) -> Names:
        """The names of these (column, id); up to a minute old."""
        wanted = tuple(sorted({*ids}))
        return _names(self.store, self.store.organization_id, wanted) if wanted else NO_NAMES

    def search(self, column: str, text: str) -> tuple[Entry, ...]:
        """The first customers, products or subscriptions with the text in their name or id; up to a minute old."""
        return _search(self.store, self.store.organization_id, column, text)

    def views(self) -> tuple[SavedView, ...]:
        """The organization's saved views, by name; those of other people up to a minute old."""
        return _views(self.store, self.store.organization_id)

    def newest(self) -> Newest:
        """The database's clock, the times of the first and last event, and the latest arrival: all read now."""
        with logged_work("newest", self.store.organization_id):
            known = dataclasses.replace(self.store, settle=timedelta(0)).known()
            return Newest(self.store.now(), self.store.extent(EventQuery()), known)

    def extract(self) -> ExtractState | str:
        """What the extract of this organization holds, or why there is none."""
        return _extract(self.store, self.store.organization_id, self.now)

    def find(self, text: str, within: LeaderboardQuery, most: int) -> tuple[Hit, ...]:
        """Where a text occurs, at most `most` values of each column; up to a minute old."""
        return _find(self.store, self.store.organization_id, text, within.resolve(self.now), most)

    def currencies(self, within: Query) -> tuple[CurrencyCost, ...]:
        """The currencies of the costs of the events of a query, that of most events first; up to ten minutes old."""
        return _currencies(self.store, self.store.organization_id, within)

    def values(self, group: str, within: Query) -> tuple[Choice, ...]:
        """The values of a group among the events of a query; up to ten minutes old."""
        return _values(self.store, self.store.organization_id, group, within)

    def missing(self, group: str, within: Query) -> int | None:
        """The number of events of a query without the group; None if counting exceeds the statement timeout.

        As old as the numbers of `values`, beside which it is drawn.
        """
        without = query_edits.only(within, group, None)
        if isinstance(without, Windowed):
            query = query_edits.events_of(without.resolve(self.now))
        else:
            query = EventQuery(**without.shared_with(EventQuery))
        return _missing(self.store, self.store.organization_id, group, within, query)

    def frequent(self, group: str) -> tuple[str, ...]:
        """The most frequent values of a group in all events of the organization, which fix their colours.

        Empty if they cannot be counted within `MAX_FREQUENT_SECONDS`. Up to an hour old, as colours should not change.
        """
        return () if group == "none" else _frequent(self.store, self.store.organization_id, group)


@st.cache_resource(show_spinner=False, on_release=Store.close)
def store() -> Store:
    """The store on the configured database, shared by all sessions."""
    shared = dataclasses.replace(connect(), hints=False, escaped_commas=True)  # the app says itself what is missing
    timeouts.watch(shared.engine)
    return shared


def organizations() -> tuple[UUID, ...]:
    """The organizations that are visible to the user. Raises `ScopeError` if none may be."""
    granted = sign_in.grant()
    visible = tuple(organization_id for organization_id in _organizations() if granted.allows(organization_id))
    if not visible:
        _organizations.clear()
    if not visible and not granted.every:
        raise ScopeError("There are no events here that you may see; ask the administrator.")
    return visible


def organization_names() -> Names:
    """The own names of the organizations that are visible to the user."""
    granted = sign_in.grant()
    names = every_organization_name()
    return Names({key: name for key, name in names.by_id.items() if granted.allows(UUID(key[1]))})


def every_name(query: Query) -> Names:
    """The names of the ids in a query's filters, up to a minute old: for a client that may see everything.

    Raises `ScopeError` if the table has no such organization, `DatabaseError`.
    """
    ids = tuple(filtered_ids(query))
    if not ids or query.organization_id is None:
        return NO_NAMES
    return _names(store().scoped(query.organization_id), query.organization_id, ids)


def short_links(source: Source) -> tuple[SharedLink, ...]:
    """The organization's short links, newest first; read now."""
    with logged_work("links", source.store.organization_id):
        return tuple(source.store.links())


def source(organization_id: UUID) -> Source:
    """The organization's events, at this minute of the database's clock.

    Raises `ScopeError` if it is not visible to the user, `DatabaseError`.
    """
    if not sign_in.grant().allows(organization_id):
        raise ScopeError.refusing(organization_id)
    scoped = _scoped(organization_id)
    return Source(scoped, scoped.now().replace(second=0, microsecond=0))


def renew() -> None:
    """Forget the results of this minute, after events were added that the pages announced."""
    for cached in (_organizations, _first_event, _page, _count, _extent, _known, _extract):
        cached.clear()
    for of_query in (_aggregate, _comparison, _totals, _lines, _leaderboards, _explanation):
        of_query.clear()


def forget_views() -> None:
    """Forget the saved views, after one was saved, changed or deleted."""
    _views.clear()


def forget() -> None:
    """Forget the results of all queries, names and choices, after a file was loaded."""
    renew()
    every_organization_name.clear()
    for cached in (_sql, _names, _search, _find, _dimension_keys, _currencies, _values, _missing, _frequent):
        cached.clear()


@st.cache_resource(ttl=_MINUTE, max_entries=1, show_spinner=False)
def _organizations() -> tuple[UUID, ...]:
    with logged_work("organizations", None):
        return store().organizations()


@st.cache_resource(ttl=_MINUTE, max_entries=1, show_spinner=False)
def every_organization_name() -> Names:
    """The own names of all organizations, up to a minute old: for a client that may see everything."""
    with logged_work("organization names", None):
        return store().organization_names()


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False)
def _names(_store: Store, organization_id: UUID | None, ids: tuple[tuple[str, str], ...]) -> Names:
    with logged_work("names", organization_id):
        return _store.names(ids)


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False)
def _search(_store: Store, organization_id: UUID | None, column: str, text: str) -> tuple[Entry, ...]:
    with logged_work("search names", organization_id):
        return tuple(_store.search_names(text, column, MAX_SEARCH_HITS))


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner="Searching", hash_funcs=_KEYS)
def _find(
    _store: Store, organization_id: UUID | None, text: str, within: LeaderboardQuery, most: int
) -> tuple[Hit, ...]:
    with logged_work("search", organization_id, within):
        return tuple(_store.search(text, within, most))


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False)
def _views(_store: Store, organization_id: UUID | None) -> tuple[SavedView, ...]:
    with logged_work("views", organization_id):
        return tuple(_store.views())


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False)
def _extract(_store: Store, organization_id: UUID | None, now: datetime) -> ExtractState | str:
    with logged_work("extract", organization_id):
        return _store.extract_state()


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner=False)
def _scoped(organization_id: UUID) -> Store:
    return store().scoped(organization_id)


@st.cache_resource(ttl=_MINUTE, max_entries=30, show_spinner=False, hash_funcs=_KEYS)
def _aggregate(_store: Store, organization_id: UUID | None, query: AggregateQuery, now: datetime) -> Aggregate:
    with logged_work("aggregate", organization_id, query):
        return _store.aggregate(query)


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False, hash_funcs=_KEYS)
def _comparison(
    _store: Store, organization_id: UUID | None, _answer: Aggregate, query: AggregateQuery, now: datetime
) -> Comparison | str:
    with logged_work("comparison", organization_id, query):
        return compare(_store, _answer)


@st.cache_resource(ttl=_MINUTE, max_entries=60, show_spinner=False, hash_funcs=_KEYS)
def _totals(_store: Store, organization_id: UUID | None, query: AggregateQuery, now: datetime) -> Totals | None:
    with logged_work("totals", organization_id, query):
        try:
            answer = _store.aggregate(query)
        except QueryError:
            return None
    return Totals({(series.kind, series.key): series.total for series in answer.series}, answer.names)


@st.cache_resource(ttl=_MINUTE, max_entries=60, show_spinner=False, hash_funcs=_KEYS)
def _lines(
    _store: Store, organization_id: UUID | None, query: AggregateQuery, keys: tuple[Key, ...], now: datetime
) -> dict[Key, Series]:
    values = [key for kind, key in keys if kind == "value" and key is not None]
    queries = query_edits.of_values(query.replace(top=0, compare=None), values, missing=("missing", None) in keys)
    with logged_work("lines", organization_id, query):
        try:
            answers = [_store.aggregate(edited) for edited in queries]
        except QueryError:  # more points, or longer values, than a query holds
            return {}
    found = {(series.kind, series.key): series for answer in answers for series in answer.series}
    return {key: found[key] for key in keys if key in found}


@st.cache_resource(ttl=_MINUTE, max_entries=60, show_spinner=False, hash_funcs=_KEYS)
def _leaderboards(
    _store: Store, organization_id: UUID | None, query: AggregateQuery, top: int, now: datetime
) -> Leaderboards:
    with logged_work("leaderboards", organization_id, query):
        return _store.leaderboards(query, top)


def _not_cached() -> Explanation:
    raise _NotCached


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=60, show_spinner=False, hash_funcs=_KEYS)
def _explanation(
    _make: Callable[[], Explanation],
    organization_id: UUID | None,
    query: AggregateQuery,
    before: tuple[datetime, datetime],
    events: tuple[int, ...],
) -> Explanation:
    return _make()


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False)
def _first_event(_store: Store, organization_id: UUID | None, as_of: datetime | None, now: datetime) -> datetime | None:
    with logged_work("first event", organization_id):
        return _store.first_event(as_of)


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False, hash_funcs=_KEYS)
def _page(_store: Store, organization_id: UUID | None, query: EventQuery, now: datetime) -> EventPage:
    with logged_work("events", organization_id, query):
        return _store.events(query)


@st.cache_resource(ttl=_MINUTE, max_entries=200, show_spinner=False, hash_funcs=_KEYS)
def _count(_store: Store, organization_id: UUID | None, query: EventQuery, now: datetime) -> int:
    with logged_work("count", organization_id, query):
        return _store.count(query)


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner=False, hash_funcs=_KEYS)
def _sql(_store: Store, organization_id: UUID | None, query: AggregateQuery | EventQuery) -> str:
    return _store.sql(query)


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False, hash_funcs=_KEYS)
def _extent(
    _store: Store, organization_id: UUID | None, within: EventQuery, now: datetime
) -> tuple[datetime, datetime] | None:
    with logged_work("extent", organization_id):
        return _store.extent(within)


@st.cache_resource(ttl=_MINUTE, max_entries=100, show_spinner=False)
def _known(_store: Store, organization_id: UUID | None, now: datetime) -> datetime | None:
    with logged_work("known", organization_id):
        return _store.known()


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner=False, refresh_mode="background")
def _dimension_keys(_store: Store, organization_id: UUID | None) -> tuple[str, ...]:
    with logged_work("dimension keys", organization_id):
        return tuple(choice.value for choice in _store.dimension_keys())


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner="Counting values", hash_funcs=_KEYS)
def _values(_store: Store, organization_id: UUID | None, group: str, within: Query) -> tuple[Choice, ...]:
    with logged_work("values", organization_id, within, group=group):
        return tuple(_store.values(group, within))


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner=False, hash_funcs=_KEYS)
def _missing(_store: Store, organization_id: UUID | None, group: str, within: Query, _query: EventQuery) -> int | None:
    with logged_work("missing", organization_id, _query, group=group):
        try:
            return _store.count(_query)
        except StatementTimeout:
            return None


@st.cache_resource(ttl=_TEN_MINUTES, max_entries=100, show_spinner=False, hash_funcs=_KEYS)
def _currencies(_store: Store, organization_id: UUID | None, within: Query) -> tuple[CurrencyCost, ...]:
    with logged_work("currencies", organization_id, within):
        return tuple(_store.currencies(within))


@st.cache_resource(ttl=FREQUENT_SECONDS, max_entries=200, show_spinner=False, refresh_mode="background")
def _frequent(_store: Store, organization_id: UUID | None, group: str) -> tuple[str, ...]:
    with logged_work("frequent values", organization_id, group=group):
        return _store.count_frequent(organization_id, group)


@contextmanager
def logged_work(what: str, organization_id: UUID | None, query: Query | None = None, **more: str) -> Iterator[None]:
    """Log the work on the database within, and cancel it when the server stops."""
    fields = {
        "work": what,
        "organization_id": organization_id and str(organization_id),
        "query": query and logs.query_fields(query),
        "user": sign_in.current_user(),
        **more,
    }
    with logs.logged(_log, "query", **fields), timeouts.cancellable():
        yield
