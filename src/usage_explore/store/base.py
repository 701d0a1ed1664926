"""The store: runs queries on one organization's events in one table.

A query is resolved once, with the database's clock, in the READ ONLY transaction that answers it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

import psycopg
import pyarrow as pa
from sqlalchemy import Connection, Engine, Table

from usage_explore import config
from usage_explore.answers import Aggregate, EventPage, Events, Leaderboards
from usage_explore.comparison import compared
from usage_explore.console import progress_bar
from usage_explore.db import catalog
from usage_explore.db import engine as db_engine
from usage_explore.db.catalog import check_instants
from usage_explore.db.names import Directory, Entry, of_organizations
from usage_explore.db.schema import names_table
from usage_explore.db.tenancy import Scope
from usage_explore.decimals import decimal_context
from usage_explore.errors import ConfigurationError, Fault, NotExact, QueryError, ScopeError, StatementTimeout
from usage_explore.export import EventPages, ExportReport, Progress, csv_page, csv_pages, export, file_kind
from usage_explore.extract import retention, routing
from usage_explore.extract.engine import Extracts, ExtractUnusable
from usage_explore.extract.leaderboards import Match, leaderboards, matches
from usage_explore.extract.manifest import instant
from usage_explore.extract.read import ExtractReader
from usage_explore.extract.routing import Paths
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import filters, validators
from usage_explore.query.base import Query, expect
from usage_explore.query.describe import describe
from usage_explore.query.queries import (
    COST_METRICS,
    AggregateQuery,
    EventQuery,
    LeaderboardQuery,
    Period,
    Position,
    decode_cursor,
    encode_cursor,
)
from usage_explore.query.url_params import link
from usage_explore.records import views
from usage_explore.records.places import Places, Records
from usage_explore.records.views import LOCAL_AUTHOR, Headline, SavedView, ViewState
from usage_explore.results import arrow
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.types import (
    Choice,
    Comparison,
    Event,
    Hit,
    Served,
    event_ids,
    named_boards,
    named_events,
    named_series,
)
from usage_explore.results.workbook import About, query_facts
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters as statements
from usage_explore.sql import hints

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.explain import Baseline, Explanation
    from usage_explore.validation.check import Finding, Validation
    from usage_explore.validation.input_tables import PreferenceSource
    from usage_explore.validation.reconciliation.invoices import InvoiceSource

_Q = TypeVar("_Q", bound=Query)

_MAX_CHOICES = 100_000
"""Values of a group that one call returns."""

_MAX_READ_EVENTS = 10_000_000
"""Events that `Store.read` keeps in memory, about 500 bytes each."""

NO_COSTS = "metric: none of the query's events has a cost (external_cost_amount)"
"""The hint of an answer whose costs are 0, and unit costs None, because no event has one."""

_RECENT_ARRIVALS = (timedelta(days=1), timedelta(days=30))
"""Windows before now in which the latest arrival is searched first: TimescaleDB's columnstore skips older chunks."""


@dataclasses.dataclass(frozen=True, slots=True)
class ExtractState:
    """What an extract holds: the events ingested before `watermark`, as of the last refresh at `refreshed`."""

    events: int
    watermark: datetime
    refreshed: datetime


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """One organization's events. Made by `connect`; thread-safe, with a pool of connections.

    `allowed` has the organizations that the caller may see, None for all. Without `extracts` every query is answered
    from the events. `hints` looks up, for an empty answer, names that no recent event has and where events lie; the
    answer has what was found, and Python warns of it if `warns`. `escaped_commas` says that queries come from links,
    where a metric key has a comma only if it was escaped. `long_statement_timeout` bounds each statement of a
    validation. `names_table` is the table or view of names, by default `usage_names` beside the events. Without
    `records` no views are saved.
    """

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
    records: Records | None = None
    _seen: dict[UUID, float] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def __repr__(self) -> str:
        organization = self.organization_id or "not chosen"
        address = self.engine.url.set(drivername="postgresql", query={})  # repr hides a password, except in the query
        return f"<Store: {self.table.fullname} at {address!r}, organization {organization}>"

    def close(self) -> None:
        """Close all connections of the pool, and the extracts. `with connect() as store:` does it at the end."""
        self.engine.dispose()
        if self.extracts is not None:
            self.extracts.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def scoped(self, organization_id: UUID | str) -> Store:
        """The store for one organization.

        Raises `ScopeError` if this store is for another one, or the table has no such organization.
        """
        with self._transaction(Query(organization_id=organization_id)) as (_, scoped):
            return dataclasses.replace(self, organization_id=scoped.organization_id)

    def restricted(self, organizations: Iterable[UUID]) -> Store:
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

    def names(self, ids: Iterable[tuple[str, UUID | str]]) -> Names:
        """The names of some (column, id) of the organization, such as ("customer_id", event.customer_id)."""
        with self._transaction(EventQuery()) as (connection, scoped):
            return self._directory(connection, scoped).names(ids)

    def search_names(self, text: str, column: str | None = None, most: int = 50) -> list[Entry]:
        """At most `most` customers, products and subscriptions with the text in name, external id or id, in any case.

        `column` is `customer_id`, `product_id` or `subscription_id` for one kind only. Names that begin with the text
        come first, then other names, then ids.
        """
        with self._transaction(EventQuery()) as (connection, scoped):
            return self._directory(connection, scoped).search(text, column, most)

    def now(self) -> datetime:
        """The database's clock."""
        with db_engine.transaction(self.engine) as connection:
            return _now(connection)

    def events(self, query: EventQuery | None = None) -> EventPage:
        """A page of raw events, newest first.

        Raises `QueryError` for a cursor that is damaged or of another query, `ScopeError`, `DatabaseError`.
        """
        requested = expect(EventQuery, EventQuery() if query is None else query)
        with self._transaction(requested, empty=False) as (connection, query):
            after = _position(query)
            times = self._times(connection, query)
            rows = statements.rows_after(connection, self.table, query, query.limit + 1, after, times)
            hinted: tuple[str, ...] = ()
            if after is None:
                since = None
                if query.occurred_after is not None:  # only a window can begin before the first event
                    since = self._paths(connection).exists_since(query)
                hinted = self._hint(connection, query, empty=not rows, exists_since=since)
            events = [_event(row) for row in rows]
            names = self._directory(connection, query).names(event_ids(events))
        return self._page(query, events, names, hinted)

    def events_before(self, page: EventPage) -> EventPage | None:
        """The page before `page`, None if it is the first."""
        if not isinstance(page, EventPage):
            raise QueryError([Fault("page", f"{validators.shorten(page)} is not a page of events")])
        query = page.query
        if query.cursor is None:
            return None
        after = decode_cursor(query.cursor, query)
        with self._transaction(query) as (connection, query):
            times = self._times(connection, query)
            rows = statements.rows_before(connection, self.table, query, query.limit + 1, after, times)
        if len(rows) <= query.limit:
            return self.events(query.replace(cursor=None))
        # the last row before the previous page
        position = Position(rows[-1].timestamp, rows[-1].id)
        return self.events(query.replace(cursor=encode_cursor(position, query)))

    def count(self, query: EventQuery) -> int:
        """The number of events of the query, on all pages."""
        with self._transaction(expect(EventQuery, query), snapshot=True, empty=False) as (connection, scoped):
            paths = self._paths(connection)
            events = paths.count(scoped, indexed=self._is_indexed(connection, scoped))
            self._hint(connection, scoped, empty=not events, exists_since=paths.exists_since(scoped))
            return events

    def extent(self, query: EventQuery | None = None) -> tuple[datetime, datetime] | None:
        """The times of the first and last event of a query, by default of the organization; None without events.

        >>> store.extent(EventQuery(customer_id=customer))  # doctest: +SKIP
        """
        requested = expect(EventQuery, EventQuery() if query is None else query)
        with self._transaction(requested, empty=False) as (connection, scoped):
            first, last = connection.execute(statements.extent(self.table, scoped)).one()
        return None if first is None else (first, last)

    def first_event(self, as_of: datetime | None = None) -> datetime | None:
        """The time of the organization's first event, None without events; with `as_of`, of the events known then.

        Raises `QueryError` for a naive time, `ScopeError`, `DatabaseError`.
        """
        with self._transaction(EventQuery(as_of=as_of)) as (connection, scoped):
            return connection.execute(statements.first(self.table, scoped)).scalar_one()

    def extract_state(self) -> ExtractState | str:
        """What the organization's extract holds, or why its events are read instead, in words."""
        with self._transaction(EventQuery()) as (connection, scoped):
            try:
                held = self._paths(connection).held(scoped)
            except ExtractUnusable as error:
                return str(error)
        return ExtractState(held.manifest.rows, instant(held.watermark), instant(held.manifest.refreshed))

    def read(self, query: EventQuery | None = None) -> Events:
        """All events of the query as an Arrow table, newest first, from its cursor on if it has one.

        They are held in memory, about 500 bytes each: more than 10,000,000 are an error, `export` writes any number.
        Raises `QueryError`, `ScopeError`, `DatabaseError`.

        >>> store.read(EventQuery(metric_key="tokens_in")).to_pandas()  # doctest: +SKIP
        """
        requested = expect(EventQuery, EventQuery() if query is None else query)
        with self._transaction(requested, snapshot=True, empty=False) as (connection, scoped):
            began = time.perf_counter()
            reader = self._reader(connection, scoped, as_csv=False)
            total, spans = reader.measure()
            if total > _MAX_READ_EVENTS:
                message = f"has {total:,} events, more than {_MAX_READ_EVENTS:,}; narrow it, or use store.export"
                raise QueryError([Fault("query", message)])
            schema = arrow.schema(reader.columns, spans)
            names_of = self._directory(connection, scoped).reader()
            tables = [arrow.with_names(table, names_of) for table in reader.tables(schema)]
            table = pa.concat_tables(tables or [arrow.with_names(schema.empty_table(), names_of)])
            took = timedelta(seconds=time.perf_counter() - began)
            since = reader.paths.exists_since(scoped)
            self._hint(connection, scoped, empty=not total, exists_since=since)
        return Events(query=scoped, table=table, served=Served(reader.because, took, since))

    def pin(self, query: _Q) -> _Q:
        """The query whose numbers stay the same: absolute, with its organization, and `known` as `as_of`.

        >>> store.pin(AggregateQuery(window="last_month")).query_string()  # doctest: +SKIP
        """
        with self._transaction(query) as (connection, scoped):
            now = _now(connection)
            return scoped.pin(now, self.settle, self._known(connection, scoped, now))

    def known(self) -> datetime | None:
        """The latest `ingested_at` of the organization that is at least the settle time old; None without one."""
        with self._transaction(EventQuery()) as (connection, scoped):
            return self._known(connection, scoped, _now(connection))

    def is_settled(self, query: Query) -> bool:
        """Whether the query's `as_of` is at or before `known`, so that no event of its answer can still arrive."""
        with self._transaction(expect(Query, query)) as (connection, scoped):
            if scoped.as_of is None:
                return False
            until = _now(connection) - self.settle
            later = statements.known(self.table, scoped, scoped.as_of, until)
            return connection.execute(later).scalar_one() is not None

    def aggregate(self, query: AggregateQuery | None = None) -> Aggregate:
        """Usage over time.

        Raises `QueryError` for an empty window, for an answer of more than 200,000 points, for costs in several
        currencies, and for a `compare` with a period before 1970 or of more than 2,400 buckets, `NotExact` for a sum of
        NaN or infinite quantities or costs, `ScopeError`, `DatabaseError`.
        """
        requested = expect(AggregateQuery, AggregateQuery() if query is None else query)
        with self._transaction(requested, snapshot=True, empty=False) as (connection, scoped):
            paths = self._paths(connection)
            now = paths.now
            resolved, capped = _in_effect(scoped, now)
            series, metrics, currencies, served = paths.aggregate(resolved)
            comparison = None
            if resolved.compare is not None:
                began = time.perf_counter()
                comparison = compared(paths, resolved, series, currencies, min(now, resolved.as_of or now))
                took = served.took + timedelta(seconds=time.perf_counter() - began)
                served = dataclasses.replace(served, took=took)
            keys = (item.key for item in series if item.key) if resolved.group_by in filters.ID_COLUMNS else ()
            names = self._directory(connection, resolved).names((resolved.group_by, key) for key in keys)
            has_keys = resolved.group_by == "none" or any(item.kind == "value" for item in series)
            empty = not has_keys or not metrics
            hinted = self._hint(connection, resolved, empty=empty, exists_since=served.exists_since)
        if comparison is not None:
            named = named_series(comparison.series, resolved, names)
            comparison = dataclasses.replace(comparison, series=named)
        if self.hints and resolved.metric in COST_METRICS and metrics and not currencies:
            hinted = (*hinted, NO_COSTS)
            if self.warns:
                hints.warn(NO_COSTS)
        return Aggregate(
            query=resolved,
            series=named_series(series, resolved, names),
            comparison=comparison,
            names=names,
            edges=resolved.edges(),
            now=paths.now,
            capped=capped,
            metrics=metrics,
            currencies=currencies,
            app_url=self.app_url,
            served=served,
            store=self,
            hints=hinted,
        )

    def currencies(self, within: Query | None = None) -> list[CurrencyCost]:
        """The currencies of the costs of the events of `within` (default: all events), that of most events first.

        A cost without a currency has the currency None; a sum is NaN or infinite if a cost is.
        """
        requested = expect(Query, EventQuery() if within is None else within)
        with self._transaction(requested, snapshot=True) as (connection, scoped):
            paths = self._paths(connection)
            return paths.costs(scoped.resolve(paths.now))

    def compare(self, answer: Aggregate) -> Comparison:
        """The answer compared with its query's `compare`, by default with the period before, read now.

        Raises `QueryError` for a period before 1970 or of more than 2,400 buckets, and for costs in other
        currencies, `ScopeError`, `DatabaseError`.
        """
        if not isinstance(answer, Aggregate):
            raise QueryError([Fault("answer", f"{validators.shorten(answer)} is not an answer of store.aggregate")])
        query = answer.query.replace(compare=answer.query.compare or "previous")
        with self._transaction(query, snapshot=True) as (connection, scoped):
            paths = self._paths(connection)
            return compared(paths, scoped, answer.series, answer.currencies, answer.closed_until)

    def leaderboards(
        self, query: AggregateQuery | LeaderboardQuery | None = None, top: int | None = None
    ) -> Leaderboards:
        """The `top` largest values of every column and dimension, by default 5, with their shares of the total.

        Of an `AggregateQuery` the filters, window, `as_of` and metric count; its window is not shortened, so
        `leaderboards(answer.query)` is about the same events as `answer`. Raises `QueryError`, for costs in several
        currencies and for unit costs too, which do not add up; `NotExact` for a sum of NaN or infinite quantities or
        costs, `ScopeError`, `DatabaseError`.

        >>> store.leaderboards(AggregateQuery(dimensions={"region": "eu-west"}), top=3).frame  # doctest: +SKIP
        """
        given = LeaderboardQuery() if query is None else query
        if isinstance(given, AggregateQuery):
            shared = given.shared_with(LeaderboardQuery)
            given = LeaderboardQuery(**{**shared, "top": top})
        requested = expect(LeaderboardQuery, given)
        if top is not None:
            requested = requested.replace(top=top)
        with self._transaction(requested, snapshot=True, empty=False) as (connection, scoped):
            paths = self._paths(connection)
            resolved = scoped.resolve(paths.now)
            boards, total, metrics, omitted, currencies, served = leaderboards(paths, resolved)
            ids = (
                (board.group, leader.key)
                for board in boards
                if board.group in filters.ID_COLUMNS
                for leader in board.leaders
                if leader.key
            )
            names = self._directory(connection, resolved).names(ids)
            hinted = self._hint(connection, resolved, empty=not metrics, exists_since=served.exists_since)
        return Leaderboards(
            query=resolved,
            boards=named_boards(boards, names),
            total=total,
            metrics=metrics,
            currencies=currencies,
            omitted=omitted,
            now=paths.now,
            served=served,
            names=names,
            hints=hinted,
        )

    @decimal_context()
    def validate(
        self,
        period: Period | None = None,
        *,
        invoices: InvoiceSource | None = None,
        wallets: PreferenceSource | None = None,
        checks: Iterable[str] | None = None,
        progress: Callable[[str, float], object] | None = None,
    ) -> Validation:
        """Validate a billing period, by default last month: findings with their events and amounts.

        Examines the events ingested until the period's `as_of`, by default the settle time ago, so that a repetition
        gives the same numbers; later arrivals are counted in `unexamined`. A more recent `as_of` is used as given, and
        may still gain events. `invoices` are the lines to reconcile (a `.csv` or `.parquet` file, or a frame),
        `wallets` the customers' preferred currencies (the same, or a mapping); `checks` names checks, default all;
        `progress` is called with a check's name and the part of it that is done, 0 to 1.

        Raises `QueryError` for an invalid query, check, invoice line or preference, `ScopeError`, `DatabaseError`.

        >>> store.validate(Period(window="last_month")).frame  # doctest: +SKIP
        """
        from usage_explore.validation import registry

        requested = expect(Period, Period(window="last_month") if period is None else period)
        plan = registry.plan(checks, invoices, wallets)
        timeout = self.long_statement_timeout
        with self._transaction(requested, snapshot=True, statement_timeout=timeout) as (connection, scoped):
            now = _now(connection)
            settled = scoped.pin(now, self.settle, self._known(connection, scoped, now))
            if scoped.as_of is not None:  # as given, even if it is more recent than the settle time
                settled = settled.replace(as_of=min(scoped.as_of, now))
            settle = self.settle if scoped.as_of is None else None
            if plan.lacks_preferences:
                plan = plan.preferring(self._directory(connection, scoped).preferred_currencies())
            validation = plan.validation(
                connection, self.table, settled, now, self.extracts, self.app_url, progress, settle
            )
            names = self._directory(connection, scoped).names(validation.ids())
            return dataclasses.replace(validation, names=names)

    def duplicate_pairs(self, validation: Validation, finding: Finding) -> pd.DataFrame:
        """The superfluous events of a finding of the check `duplicates`, each beside the event that counts.

        They are all of its customer, metrics, time and kind: a few may belong to another finding in the same time.
        Columns: `idempotency_key` (str), then with `kept_` and `copy_` before them `id`, `customer_id`, `metric_key`
        (str), `timestamp`, `ingested_at` (datetime64[us, UTC]), `quantity`, `external_cost_amount` (`Decimal` or None),
        `external_cost_currency` (str). At most 100,000 pairs, in order of the copies.
        Raises `QueryError` for a finding of another check, `ScopeError`, `DatabaseError`.
        """
        from usage_explore.validation.checks import duplicates
        from usage_explore.validation.handover import MAX_PAIRS, pair_frame

        if finding.check != duplicates.NAME:
            raise QueryError([Fault("finding", f"is of the check {finding.check}; pairs are of {duplicates.NAME}")])
        timeout = self.long_statement_timeout
        with self._transaction(validation.period, statement_timeout=timeout) as (connection, scoped):
            rows = connection.execute(duplicates.pairs(self.table, scoped, finding, MAX_PAIRS)).all()
        return pair_frame(rows, duplicates.PAIR_COLUMNS)

    @decimal_context()
    def explain(
        self,
        question: AggregateQuery,
        bucket: datetime | None = None,
        *,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        expected: Decimal | int | None = None,
        baseline: Baseline | tuple[datetime, datetime] | None = None,
    ) -> Explanation:
        """The change in the bucket that holds an instant, or in the whole window, and the values that account for it.

        `since` and `until` replace those of the query. It is compared with an `expected` number, else with another
        window. `baseline` is "week", the same hours one week before, the default for a bucket of an hour or a day;
        "before", the default else, the bucket, month, local days or duration right before; or any (since, until).
        An unfinished window is compared with equally much elapsed time. Raises `QueryError`, for costs in several
        currencies and for unit costs too, whose change is no sum; `NotExact`, `ScopeError`, `DatabaseError`.
        """
        from usage_explore.explain.run import explain, number

        window = {name: value for name, value in (("since", since), ("until", until)) if value is not None}
        requested, amount = expect(AggregateQuery, question).replace(**window), number(expected)
        with self._transaction(requested, snapshot=True) as (connection, scoped):
            now = _now(connection)
            resolved, _ = _in_effect(scoped, now)
            explanation = explain(connection, self.table, resolved, now, bucket, baseline, amount)
            names = self._directory(connection, resolved).names(explanation.ids())
            return dataclasses.replace(explanation, names=names)

    def export(
        self,
        query: EventQuery,
        path: Path | str,
        progress: bool | Progress = True,
        *,
        escape_formulas: bool = False,
        timezone: str | None = None,
    ) -> ExportReport:
        """Write every event of the query to a `.csv`, `.parquet` or `.xlsx` file, newest first, in bounded memory.

        All pages are written, from its cursor on if it has one. `progress` shows a bar, or is called with (written,
        total). `escape_formulas`, for `.csv`, puts an apostrophe before text that a spreadsheet would run. `timezone`,
        for `.xlsx`, is the clock of its times, by default UTC; such a file has at most 50,000 events, and a sheet on
        the query. The file gets its name when it is complete. Raises `ConfigurationError` for a path that cannot be
        written, `QueryError`, `ScopeError`, `DatabaseError`.
        """
        transaction = self._transaction(expect(EventQuery, query), snapshot=True)
        kind = file_kind(path)
        zone = _zone(timezone, kind)
        with (
            progress_bar("export", "events", shown=bool(progress) and not callable(progress)) as show,
            transaction as (connection, scoped),
        ):
            report = progress if callable(progress) else show
            names_of = self._directory(connection, scoped).reader()
            reader = self._reader(connection, scoped, as_csv=kind == ".csv")
            about = self._about(connection, scoped, zone) if kind == ".xlsx" else None
            written = export(reader, path, report, escape_formulas, names_of, about)
            since = reader.paths.exists_since(scoped)
            self._hint(connection, scoped, empty=not written.events, exists_since=since)
            return written

    def export_csv(self, query: EventQuery, *, escape_formulas: bool = False) -> Generator[bytes]:
        """The CSV of `export` in chunks; holds a connection until the generator ends or is closed.

        Raises `QueryError`, `ScopeError` and `DatabaseError` while it is iterated.
        """
        with self._transaction(expect(EventQuery, query), snapshot=True) as (connection, scoped):
            names_of = self._directory(connection, scoped).reader()
            yield from csv_pages(self._reader(connection, scoped, as_csv=True), escape_formulas, names_of)

    def events_csv(self, query: EventQuery, *, escape_formulas: bool = False) -> tuple[bytes, str | None]:
        """The page of `events` as the CSV of `export`, and the cursor of the next page."""
        with self._transaction(expect(EventQuery, query)) as (connection, scoped):
            names_of = self._directory(connection, scoped).reader()
            pages = EventPages(connection, self.table, scoped, _position(scoped), as_csv=True)
            page, following = csv_page(pages, escape_formulas, names_of)
        return page, encode_cursor(following, scoped) if following else None

    def sql(self, query: AggregateQuery | EventQuery) -> str:
        """The SQL of the query for psql, with inline values; it reads the events, not the extract."""
        requested = query if isinstance(query, EventQuery) else expect(AggregateQuery, query)
        with self._transaction(requested) as (connection, scoped):
            if isinstance(scoped, EventQuery):
                after = _position(scoped)
                return statements.to_sql(statements.page(self.table, scoped, scoped.limit, after))
            effective, _ = _in_effect(scoped, _now(connection))
            text = statements.to_sql(aggregation.aggregate(self.table, effective))
            return (
                f"-- points per bucket, before they are added up (cumulative)\n{text}" if effective.cumulative else text
            )

    def search(self, text: str, within: LeaderboardQuery | AggregateQuery | None = None, most: int = 5) -> list[Hit]:
        """Where a text occurs: as an event's id, an idempotency key, in a name or external id, or in a value.

        Ids of events and idempotency keys are found whole, among events of any time; names, external ids and values of
        columns and dimensions by any part, in any case, at most `most` of each, with their number of events in the
        window and filters of `within` (default: the last 30 days). Names come with 0 events, too.
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
            entries = directory.search(wanted, None, most)
            ids = [(f"{entry.kind}_id", str(entry.id)) for entry in entries]
            found = matches(paths, resolved, Match(wanted, tuple(id_ for _, id_ in ids)))
            counts = {(group, key): events for group, keys in found.items() for key, events in keys}
            named = dict.fromkeys([*(pair for pair in ids if pair[0] in filters.ID_COLUMNS), *counts])
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

    def views(self) -> list[SavedView]:
        """The organization's saved views, by name. Raises `RecordError`, `ScopeError`, `DatabaseError`."""
        with self._saved() as (places, own, _):
            return views.saved_views(places, own)

    def views_place(self) -> str:
        """Where the next view is saved: "the table public.usage_views of the database" or "the file /path"."""
        with self._saved() as (places, _, _):
            return f"{places.saving}" if places.saving.exists else f"{places.saving}, which is created for it"

    def save_view(
        self,
        name: str,
        query: AggregateQuery | EventQuery | Period,
        note: str = "",
        *,
        author: str = LOCAL_AUTHOR,
        display: Iterable[tuple[str, str]] = (),
    ) -> SavedView:
        """Save a query as a view that the app lists, with its pinned form and its headline number.

        `display` has URL parameters that only concern the display, such as ("chart", "lines"). The view is saved in
        `views_place()`; the events are only read. Raises `QueryError` for a name that is taken or too long, and a query
        that is too long; `RecordError`, `ScopeError`, `DatabaseError`.

        >>> store.save_view("Tokens by model", AggregateQuery(group_by="dim:model"))  # doctest: +SKIP
        """
        state = self._view_state(query, display)
        with self._saved() as (places, own, now):
            return views.save(places, own, state, name=name, note=note, author=author, now=now)

    def change_view(
        self,
        view: SavedView,
        *,
        name: str | None = None,
        note: str | None = None,
        query: AggregateQuery | EventQuery | Period | None = None,
        display: Iterable[tuple[str, str]] = (),
    ) -> SavedView:
        """The view with another name, note or query; None leaves it. Raises as `save_view`.

        `RecordError` too if the view was changed or deleted after it was read.
        """
        state = None if query is None else self._view_state(query, display)
        with self._saved(view) as (places, _, now):
            return views.change(places, view, now, name=name, note=note, state=state)

    def delete_view(self, view: SavedView) -> SavedView:
        """Delete a saved view, and return it as it was; `restore_view` undoes it.

        Raises `RecordError`, `ScopeError`, `DatabaseError`.
        """
        with self._saved(view) as (places, _, _):
            return views.remove(places, view)

    def restore_view(self, view: SavedView) -> SavedView:
        """Save a deleted view again, as it was. Raises as `save_view`."""
        with self._saved(view) as (places, _, _):
            return views.restore(places, view)

    def headline(self, query: AggregateQuery | EventQuery | Period) -> Headline:
        """The headline number of a view: an aggregate's total, else the number of events.

        It is None for costs in several currencies, an inexact sum and a statement that takes too long.

        >>> store.headline(AggregateQuery(window="last_month")).total  # doctest: +SKIP
        """
        wanted = views.headline_query(query)
        try:
            if isinstance(wanted, EventQuery):
                return Headline(self.count(wanted))
            answer = self.aggregate(wanted)
        except (QueryError, NotExact, StatementTimeout):
            return Headline(None)
        return Headline(answer.total, answer.currency)

    def _view_state(self, query: AggregateQuery | EventQuery | Period, display: Iterable[tuple[str, str]]) -> ViewState:
        if isinstance(query, EventQuery):
            query = query.replace(cursor=None)
        pinned = self.pin(query)
        return ViewState(query=query, pinned=pinned, headline=self.headline(pinned), display=tuple(display))

    @contextmanager
    def _saved(self, view: SavedView | None = None) -> Iterator[tuple[Places, UUID, datetime]]:
        """The places of the organization's views (that of `view`), its id, and the database's clock."""
        if self.records is None:
            raise ConfigurationError("records: this store keeps none; open it with connect()")
        query = EventQuery(organization_id=view.organization_id if view else None)
        with self._transaction(query) as (connection, scoped):
            assert scoped.organization_id is not None  # noqa: S101 - `_transaction` resolves it
            if view and view.organization_id != scoped.organization_id:
                raise ScopeError.refusing(view.organization_id)
            yield self.records.places(connection, self.table), scoped.organization_id, _now(connection)

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
            validators.integer(most, 1, _MAX_CHOICES)
        except ValueError as error:
            raise QueryError([Fault(name, str(error))]) from None
        return self._choices(within, group, most, partial(statements.values, group=group, max_values=most), timeout)

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

    def _reader(self, connection: Connection, query: EventQuery, *, as_csv: bool) -> ExtractReader:
        after = _position(query)
        pages = EventPages(connection, self.table, query, after, as_csv)
        return ExtractReader(self._paths(connection), query, after, as_csv, pages)

    def _organization_name(self, connection: Connection, query: Query) -> str:
        id_ = str(query.organization_id)
        return self._directory(connection, query).names([("organization_id", id_)]).full("organization", id_)

    def _about(self, connection: Connection, query: EventQuery, zone: ZoneInfo) -> About:
        """The sheet "Query" of a workbook of events."""
        names = self._directory(connection, query).names(())
        as_of = query.as_of or _now(connection)
        facts = query_facts(query, self._organization_name(connection, query), as_of, names, zone)
        words = names.in_text(describe(query.replace(as_of=None)), ids=True)
        return About(zone, [("Query", words), *facts, ("Link", link(self.app_url, "events", query))])

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
        return Directory(connection, names_table(self.names_table, self.table), query)

    def _page(self, query: EventQuery, events: list[Event], names: Names, hinted: tuple[str, ...]) -> EventPage:
        more = len(events) > query.limit
        events = events[: query.limit]
        following = None
        if more:
            following = encode_cursor(Position(events[-1].timestamp, events[-1].id), query)
        return EventPage(
            query=query, events=named_events(events, names), cursor=following, store=self, names=names, hints=hinted
        )


def _zone(timezone: str | None, kind: str) -> ZoneInfo:
    if timezone is None:
        return ZoneInfo("UTC")
    if kind != ".xlsx":
        raise ConfigurationError(f"timezone: is for .xlsx; leave it out for {kind}, whose times are in UTC")
    try:
        return ZoneInfo(validators.zone_name(timezone))
    except ValueError as error:
        raise QueryError([Fault("timezone", str(error))]) from None


def _position(query: EventQuery) -> Position | None:
    return decode_cursor(query.cursor, query) if query.cursor else None


def _now(connection: Connection) -> datetime:
    return connection.execute(statements.now()).scalar_one()


def _in_effect(query: AggregateQuery, now: datetime) -> tuple[AggregateQuery, bool]:
    """The query with an absolute window of at most `MAX_AGGREGATE_BUCKETS`, and whether that moved its `since`."""
    resolved = query.resolve(now)
    first = resolved.edges()[0]
    capped = first > resolved.span[0]
    return resolved.replace(since=first) if capped else resolved, capped


def _event(row: Any) -> Event:
    return Event(**row._mapping)
