"""The store: one organization's events in one table, and the only room that talks to the database to read.

Each question is resolved once with the database's clock, inside the READ ONLY transaction that answers it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import UUID

import psycopg
from sqlalchemy import Connection, Engine, Table

from usage_explore import config
from usage_explore.answers import Aggregate, EventPage
from usage_explore.console import progress_bar
from usage_explore.db import engine as reading
from usage_explore.db.catalog import check_instants
from usage_explore.db.schema import events_table
from usage_explore.db.tenancy import Scope
from usage_explore.decimals import decimal_context
from usage_explore.errors import Fault, QueryError, ScopeError
from usage_explore.export import ExportReport, Progress, csv_page, csv_pages, export
from usage_explore.query import cursor, filters, validators
from usage_explore.query.base import Question, expect
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.results.types import Event
from usage_explore.rollup.routing import Paths
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters as statements
from usage_explore.sql import hints, keyset
from usage_explore.sql.rollup_plan import KEYS

if TYPE_CHECKING:
    from usage_explore.explain import Baseline, Explanation
    from usage_explore.validation.reconciliation.invoices import InvoiceSource
    from usage_explore.validation.result import Validation
    from usage_explore.validation.wallet_preferences import PreferenceSource

_Q = TypeVar("_Q", bound=Question)

_MOST_CHOICES = 100_000

_RECENT = (timedelta(days=1), timedelta(days=30))
"""How far back the latest arrival is looked for: TimescaleDB's columnstore skips what arrived before, unread."""


class Choice(NamedTuple):
    """A value to pick, and how many events have it."""

    value: str
    events: int


def connect(
    url: str | None = None,
    organization_id: UUID | str | None = None,
    *,
    table: str | None = None,
    home: Path | str | None = None,
    statement_timeout: timedelta | float | None = None,
) -> Store:
    """A store on the database at `url`, else the configured one, else the embedded one.

    Without `organization_id` the configured one is taken, else the only one in the table. `table` is a table or
    view, `name` or `schema.name`; `statement_timeout` a timedelta or seconds, default 30.

    Raises `ConfigurationError` for a value that cannot work. The database itself is asked only later.

    >>> store = connect()  # doctest: +SKIP
    >>> store.aggregate(AggregateQuery(group_by="metric_key")).frame  # doctest: +SKIP
    """
    settings = config.settings(
        database_url=url,
        organization_id=organization_id,
        table=table,
        home=home,
        statement_timeout=statement_timeout,
    )
    return opened(settings)


def opened(settings: config.Settings) -> Store:
    """The store that settings describe, on their database or the embedded one. Raises `ConfigurationError`."""
    url = config.database_url(settings)
    revive = None if settings.database_url else partial(config.database_url, settings)
    return Store(
        engine=reading.engine(url, settings.statement_timeout, revive),
        table=events_table(settings.table),
        organization_id=settings.organization_id,
        settle=settings.settle_time,
        app_url=settings.app_url,
        long_statement_timeout=settings.long_statement_timeout,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Store:
    """One organization's events. Made by `connect`; holds a pool, so one store serves many threads.

    `allowed` names the organizations that who asks may see, None for every one. With `rollup` False every question is
    answered from the events themselves; with `hints`, names that no recent event has are warned of; with
    `escaped_commas`, queries come from links, where a metric key has a comma only if it was escaped.
    `long_statement_timeout` bounds each statement of a validation.
    """

    engine: Engine
    table: Table
    organization_id: UUID | None
    settle: timedelta
    app_url: str
    allowed: frozenset[UUID] | None = None
    rollup: bool = True
    hints: bool = True
    escaped_commas: bool = False
    long_statement_timeout: timedelta = config.DEFAULT_LONG_STATEMENT_TIMEOUT
    _seen: dict[UUID, float] = dataclasses.field(default_factory=dict, repr=False, compare=False)

    def __repr__(self) -> str:
        organization = self.organization_id or "not chosen"
        address = self.engine.url.set(drivername="postgresql", query={})  # repr hides the password, a query's it shows
        return f"<Store: {self.table.fullname} at {address!r}, organization {organization}>"

    def close(self) -> None:
        """Close every connection of the pool. `with connect() as store:` does it at the end."""
        self.engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def scoped(self, organization_id: UUID | str) -> Store:
        """The same store for one organization.

        Raises `ScopeError` when this store is for another one already, or the table has no such organization.
        """
        with self._asking(Question(organization_id=organization_id)) as (_, scoped):
            return dataclasses.replace(self, organization_id=scoped.organization_id)

    def restricted(self, organizations: Iterable[UUID]) -> Store:
        """The same store for somebody who may see only these organizations; never more than before."""
        try:
            named = frozenset(validators.uuid(organization_id) for organization_id in organizations)
        except (TypeError, ValueError) as error:
            raise ScopeError(f"organizations: {error}") from None
        return dataclasses.replace(self, allowed=named if self.allowed is None else self.allowed & named)

    def organizations(self) -> tuple[UUID, ...]:
        """The organizations that can be chosen: this store's own, else every one in the table that is allowed."""
        with reading.transaction(self.engine) as connection:
            return self._scope.organizations(connection, self.table)

    def now(self) -> datetime:
        """The database's clock."""
        with reading.transaction(self.engine) as connection:
            return _now(connection)

    def events(self, query: EventQuery | None = None) -> EventPage:
        """A page of raw events, newest first.

        Raises `QueryError` for a damaged or foreign cursor, `ScopeError`, `DatabaseError`.
        """
        asking = expect(EventQuery, EventQuery() if query is None else query)
        with self._asking(asking, empty=False) as (connection, query):
            after = _position(query)
            rows = keyset.rows_after(connection, self.table, query, query.limit + 1, after)
            if after is None:
                self._hint(connection, query, empty=not rows)
        return self._page(query, [_event(row) for row in rows])

    def events_before(self, page: EventPage) -> EventPage | None:
        """The page before `page`, None when `page` is the first."""
        if not isinstance(page, EventPage):
            raise QueryError([Fault("page", f"{validators.shorten(page)} is not a page of events")])
        query = page.query
        if query.cursor is None:
            return None
        after = cursor.decode(query.cursor, query)
        with self._asking(query) as (connection, query):
            rows = keyset.rows_before(connection, self.table, query, query.limit + 1, after)
        if len(rows) <= query.limit:
            return self.events(query.replace(cursor=None))
        # the row just above the page before: the one that page begins after
        position = cursor.Position(rows[-1].timestamp, rows[-1].id)
        return self.events(query.replace(cursor=cursor.encode(position, query)))

    def count(self, query: EventQuery) -> int:
        """How many events the question finds on all its pages."""
        with self._asking(expect(EventQuery, query), snapshot=True, empty=False) as (connection, scoped):
            found = self._paths(connection, _now(connection)).count(scoped)
            self._hint(connection, scoped, empty=not found)
            return found

    def extent(self) -> tuple[datetime, datetime] | None:
        """When the organization's first and last event occurred, None where there are none."""
        with self._asking(EventQuery()) as (connection, scoped):
            first, last = connection.execute(statements.extent(self.table, scoped)).one()
        return None if first is None else (first, last)

    def first_event(self, as_of: datetime | None = None) -> datetime | None:
        """When the organization's first event occurred, None where there are none; with `as_of`, of those known then.

        Raises `QueryError` for a time that is naive, `ScopeError`, `DatabaseError`.
        """
        with self._asking(EventQuery(as_of=as_of)) as (connection, scoped):
            return connection.execute(statements.first(self.table, scoped)).scalar_one()

    def pin(self, query: _Q) -> _Q:
        """The question that shows the same numbers next year: absolute, its organization named, as of `known`.

        >>> store.pin(AggregateQuery(window="last_month")).query_string()  # doctest: +SKIP
        """
        with self._asking(query) as (connection, scoped):
            now = _now(connection)
            return scoped.pin(now, self.settle, self._known(connection, scoped, now))

    def known(self) -> datetime | None:
        """The latest `ingested_at` of the organization at least the settle time ago; None where there is none."""
        with self._asking(EventQuery()) as (connection, scoped):
            return self._known(connection, scoped, _now(connection))

    def is_settled(self, query: Question) -> bool:
        """Whether the question's `as_of` lies at or before `known`: nothing known by then can still arrive."""
        with self._asking(expect(Question, query)) as (connection, scoped):
            if scoped.as_of is None:
                return False
            until = _now(connection) - self.settle
            later = statements.known(self.table, scoped, scoped.as_of, until)
            return connection.execute(later).scalar_one() is not None

    def aggregate(self, query: AggregateQuery | None = None) -> Aggregate:
        """How much, over time.

        Raises `QueryError` when the window is empty or the answer would have more than 200,000 points,
        `NotExact` when NaN or infinite quantities would be summed, `ScopeError`, `DatabaseError`.
        """
        asking = expect(AggregateQuery, AggregateQuery() if query is None else query)
        with self._asking(asking, snapshot=True, empty=False) as (connection, asked):
            now = _now(connection)
            resolved, capped = _in_effect(asked, now)
            series, metrics, served = self._paths(connection, now).aggregate(resolved)
            named = resolved.group_by == "none" or any(each.kind == "value" for each in series)
            self._hint(connection, resolved, empty=not named or not any(each.total for each in series))
        return Aggregate(
            query=resolved,
            series=series,
            edges=resolved.edges(),
            now=now,
            capped=capped,
            metrics=metrics,
            app_url=self.app_url,
            served=served,
            store=self,
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
        """Examine a billing period: what is wrong with it, which events are to blame, what they are worth.

        Looks at what was ingested until the period's `as_of`, by default the settle time ago, so that the same numbers
        come out next year; what arrived since is counted in `unexamined`. A younger `as_of` is taken as it is, and
        may still gain events. `invoices` are the lines to reconcile (a `.csv` or `.parquet` file, or a frame),
        `wallets` the customers' preferred currencies (the same, or a mapping); `checks` names some checks, default all;
        `progress` is called with a check's name and how much of it is done.

        Raises `QueryError` for a wrong question, check, invoice line or preference, `ScopeError`, `DatabaseError`.

        >>> store.validate(Period(window="last_month")).frame  # doctest: +SKIP
        """
        from usage_explore.validation import run

        asking = expect(Period, Period(window="last_month") if period is None else period)
        plan = run.plan(checks, invoices, wallets)
        with self._asking(asking, snapshot=True, statement_timeout=self.long_statement_timeout) as (connection, asked):
            now = _now(connection)
            settled = asked.pin(now, self.settle, self._known(connection, asked, now))
            if asked.as_of is not None:  # a given time may be younger than the settle time: what was named is examined
                settled = settled.replace(as_of=min(asked.as_of, now))
            settle = self.settle if asked.as_of is None else None
            return plan.validation(connection, self.table, settled, now, self.rollup, self.app_url, progress, settle)

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
        An unfinished window is compared with equally much elapsed time. Raises `QueryError`, `NotExact`, `ScopeError`,
        `DatabaseError`.
        """
        from usage_explore.explain.run import explain, number

        window = {name: value for name, value in (("since", since), ("until", until)) if value is not None}
        asking, amount = expect(AggregateQuery, question).replace(**window), number(expected)
        with self._asking(asking, snapshot=True) as (connection, asked):
            now = _now(connection)
            resolved, _ = _in_effect(asked, now)
            return explain(connection, self.table, resolved, now, bucket, baseline, amount)

    def export(
        self, query: EventQuery, path: Path | str, progress: bool | Progress = True, *, escape_formulas: bool = False
    ) -> ExportReport:
        """Write every event of the question to a `.csv` or `.parquet` file, newest first, in bounded memory.

        All pages are written, from the cursor on where there is one. `progress` shows a bar, or is called with
        (written, total). `escape_formulas`, for `.csv`, puts an apostrophe before text that a spreadsheet would run.
        The file takes its name when it is whole. Raises `ConfigurationError` for a path that cannot be written,
        `QueryError`, `ScopeError`, `DatabaseError`.
        """
        asking = self._asking(expect(EventQuery, query), snapshot=True)
        with (
            progress_bar("export", "events", shown=bool(progress) and not callable(progress)) as show,
            asking as (connection, scoped),
        ):
            report = progress if callable(progress) else show
            written = export(connection, self.table, scoped, _position(scoped), path, report, escape_formulas)
            self._hint(connection, scoped, empty=not written.events)
            return written

    def export_csv(self, query: EventQuery, *, escape_formulas: bool = False) -> Generator[bytes]:
        """The bytes of `export`'s CSV as they are read, one connection held until the generator ends or is closed.

        Raises what `export` raises, when the bytes are asked for.
        """
        with self._asking(expect(EventQuery, query), snapshot=True) as (connection, scoped):
            yield from csv_pages(connection, self.table, scoped, _position(scoped), escape_formulas)

    def events_csv(self, query: EventQuery, *, escape_formulas: bool = False) -> tuple[bytes, str | None]:
        """The page that `events` gives, as `export` writes it to CSV, and its cursor."""
        with self._asking(expect(EventQuery, query)) as (connection, scoped):
            page, following = csv_page(connection, self.table, scoped, _position(scoped), escape_formulas)
        return page, cursor.encode(following, scoped) if following else None

    def sql(self, query: AggregateQuery | EventQuery) -> str:
        """The SQL that answers the question, values written in, to paste into psql."""
        asked = query if isinstance(query, EventQuery) else expect(AggregateQuery, query)
        with self._asking(asked) as (connection, scoped):
            if isinstance(scoped, EventQuery):
                after = _position(scoped)
                return statements.to_sql(statements.page(self.table, scoped, scoped.limit, after))
            effective, _ = _in_effect(scoped, _now(connection))
            return statements.to_sql(aggregation.aggregate(self.table, effective))

    def metric_keys(self, within: Question | None = None) -> list[Choice]:
        """The metric keys of the events that `within` finds (default: all), most frequent first."""
        return self.values("metric_key", within)

    def dimension_keys(self, within: Question | None = None) -> list[Choice]:
        """The dimension keys of the events that `within` finds (default: all), most frequent first.

        The empty key is left out: nothing can be asked about it.
        """
        return self._choices(within, KEYS, None, statements.dimension_keys)

    def dimension_values(self, key: str, within: Question | None = None, most: int = 1_000) -> list[Choice]:
        """The values of one dimension, `model` or `dim:model`, as text, most frequent first; at most `most`."""
        group = filters.dimension_group(filters.dimension_key(key)) if isinstance(key, str) else key
        return self.values(group, within, most)

    def customers(self, within: Question | None = None, most: int = 1_000) -> list[Choice]:
        """The customers with the most events first; at most `most`."""
        return self.values("customer_id", within, most)

    def values(self, group: str, within: Question | None = None, most: int = 1_000) -> list[Choice]:
        """The values of a column or `dim:<key>`, most frequent first; at most `most`.

        Raises `QueryError` for an unknown group.
        """
        name = "group_by"
        try:
            filters.group(group)
            name = "most"
            validators.integer(most, 1, _MOST_CHOICES)
        except ValueError as error:
            raise QueryError([Fault(name, str(error))]) from None
        return self._choices(within, group, most, partial(statements.values, group=group, most=most))

    def _choices(
        self, within: Question | None, group: str, most: int | None, events: Callable[[Table, Question], Any]
    ) -> list[Choice]:
        asking = expect(Question, EventQuery() if within is None else within)
        with self._asking(asking, snapshot=True) as (connection, scoped):
            now = _now(connection)
            found = self._paths(connection, now).choices(scoped.resolve(now), group, most, events)
        return [Choice(*row) for row in found]

    @contextmanager
    def _asking(
        self, query: _Q, *, snapshot: bool = False, statement_timeout: timedelta | None = None, empty: bool = True
    ) -> Iterator[tuple[Connection, _Q]]:
        """A transaction to answer the question in, and the question with its organization.

        Lists written as one value are refused at once; with `empty` False only by `_hint`, of an empty answer.
        """
        self._scope.check(query)
        with reading.transaction(self.engine, snapshot=snapshot, statement_timeout=statement_timeout) as connection:
            self._check_times(connection)
            scoped = self._scope.of(query, connection, self.table)
            self._check_commas(connection, scoped, empty=empty)
            yield connection, scoped

    def _hint(self, connection: Connection, query: Question, *, empty: bool) -> None:
        """Refuse of an empty answer, and warn of, what may have been meant otherwise."""
        if empty:
            self._check_commas(connection, query, empty=True)
        if self.hints:
            group_by = query.group_by if empty and isinstance(query, AggregateQuery) else "none"
            for words in hints.suspicious(connection, self.table, query, group_by, empty=empty):
                hints.warn(words)

    def _check_commas(self, connection: Connection, query: Question, *, empty: bool) -> None:
        hints.check_commas(connection, self.table, query, empty=empty, escaped=self.escaped_commas)

    def _known(self, connection: Connection, query: Question, now: datetime) -> datetime | None:
        """The latest arrival that has settled at `now`: looked for among the latest first, and only then among all."""
        until = now - self.settle
        for since in (*(until - back for back in _RECENT), None):
            found: datetime | None = connection.execute(statements.known(self.table, query, since, until)).scalar_one()
            if found is not None:
                return found
        return None

    def _check_times(self, connection: Connection) -> None:
        """Raise `TableMismatch` where times are without a zone; looked up once for each connection and table."""
        checked: set[str] = connection.info.setdefault("checked", set())
        driver = connection.connection.driver_connection
        if self.table.fullname not in checked and isinstance(driver, psycopg.Connection):
            check_instants(driver, self.table.fullname)
            checked.add(self.table.fullname)

    @property
    def _scope(self) -> Scope:
        return Scope(self.organization_id, self.allowed, self._seen)

    def _paths(self, connection: Connection, now: datetime) -> Paths:
        return Paths(connection, self.table, now, self.rollup)

    def _page(self, query: EventQuery, events: list[Event]) -> EventPage:
        more = len(events) > query.limit
        events = events[: query.limit]
        following = None
        if more:
            following = cursor.encode(cursor.Position(events[-1].timestamp, events[-1].id), query)
        return EventPage(query=query, events=tuple(events), cursor=following, store=self)


def _position(query: EventQuery) -> cursor.Position | None:
    return cursor.decode(query.cursor, query) if query.cursor else None


def _now(connection: Connection) -> datetime:
    return connection.execute(statements.now()).scalar_one()


def _in_effect(query: AggregateQuery, now: datetime) -> tuple[AggregateQuery, bool]:
    """The question with an absolute window of no more buckets than are allowed, and whether that cut it."""
    resolved = query.resolve(now)
    first = resolved.edges()[0]
    capped = first > resolved.span[0]
    return resolved.replace(since=first) if capped else resolved, capped


def _event(row: Any) -> Event:
    return Event(**row._mapping)
