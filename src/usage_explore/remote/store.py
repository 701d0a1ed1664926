"""The store of a server: each method of `Store` as a request, with the same arguments, answers and errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, cast
from uuid import UUID

import duckdb

from usage_explore import config
from usage_explore.answers import Aggregate, Leaderboards
from usage_explore.console import progress_bar
from usage_explore.db.names import Entry
from usage_explore.db.schema import events_table
from usage_explore.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Fault,
    QueryError,
    ScopeError,
)
from usage_explore.event_pages import EventPage, Events
from usage_explore.export import ExportReport, Progress, export, file_kind
from usage_explore.extract.relation import of_table
from usage_explore.names import METRIC, NO_NAMES, Names, kind_of
from usage_explore.query import validators
from usage_explore.query.base import Query, expect, parsed_instant
from usage_explore.query.filters import ID_COLUMNS
from usage_explore.query.limits import MAX_VALUES
from usage_explore.query.queries import AggregateQuery, EventQuery, LeaderboardQuery, Period
from usage_explore.remote import jobs, operations, wire
from usage_explore.remote.client import Client
from usage_explore.remote.operations import (
    ChoiceQuery,
    ComparisonQuery,
    ExplanationQuery,
    NamesQuery,
    OrganizationQuery,
    RatingQuery,
    SearchQuery,
    ValidationQuery,
    WithinQuery,
)
from usage_explore.remote.reading import Stream, opened_stream
from usage_explore.results import arrow
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.named import filtered_ids
from usage_explore.results.types import Choice, Comparison, Hit, Served
from usage_explore.results.whole_file import whole_file
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import hints
from usage_explore.store import Store
from usage_explore.store.files import about, check_memory, workbook_zone
from usage_explore.store.queries import leaderboard_query

if TYPE_CHECKING:
    from usage_explore.explain import Baseline, Explanation
    from usage_explore.pricing.book import PriceBook
    from usage_explore.pricing.rating import Rating
    from usage_explore.pricing.read import PriceSource
    from usage_explore.records.views import SavedView
    from usage_explore.validation.inputs import PreferenceSource
    from usage_explore.validation.result import Validation

_Q = TypeVar("_Q", bound=Query)


@dataclass(frozen=True, kw_only=True, repr=False)
class RemoteStore(Store):
    """An organization's events on a usage-explore server; made by `connect("https://…", key="ue_…")`.

    Keys read: changing saved views, decisions and sign-offs, and SQL, raise `ConfigurationError`.
    """

    client: Client

    def __repr__(self) -> str:
        return f"<Store: {self.client.url}, organization {self.organization_id or 'that of the key'}>"

    def close(self) -> None:
        """Close the connections to the server."""
        self.client.close()

    @contextmanager
    def _transaction(self, *_: Any, **__: Any) -> Iterator[Any]:
        self._refuse()
        yield

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise ConfigurationError(
            "store: a store over HTTP does not offer this: a key reads one organization, and changes no saved view,"
            " decision or sign-off; use the app, or connect to the database"
        )

    share = link = _refuse
    _saved = _recorded = _transaction

    def _ask(self, path: str, query: Query, read: Callable[[Any], Any]) -> Any:
        """What `read` makes of the answer to a query, which is scoped as a local store would. Raises `ScopeError`."""
        return self._request(query, lambda pairs: self.client.get(path, pairs, self, read))

    def _request(self, query: Query, send: Callable[[list[tuple[str, str]]], Any]) -> Any:
        scoped = self._scoped_query(query)
        with self._scope_errors(scoped):
            return send(list(scoped.to_params()))

    def _scoped_query(self, query: _Q) -> _Q:
        """The query with its organization, without one if it is left to the server. Raises `ScopeError`."""
        self._scope.check(query)
        claim = query.organization_id or self.organization_id
        if claim is None and self.allowed is not None:
            visible = self.organizations()
            if len(visible) != 1:
                raise self._scope.unresolved(len(visible), is_empty=True)
            claim = visible[0]
        return query.replace(organization_id=claim)

    def _warned(self, answer: Any) -> Any:
        for message in answer.hints if self.warns else ():
            hints.warn(message)
        return answer

    def scoped(self, organization_id: UUID | str) -> Self:
        """The store for one organization.

        Raises `ScopeError` if this store is for another one, or the server does not show it.
        """
        query = OrganizationQuery(organization_id=organization_id)
        self._ask(operations.ORGANIZATIONS, query, jobs.listed_organizations)
        return replace(self, organization_id=query.organization_id)

    def organizations(self) -> tuple[UUID, ...]:
        """The organizations that the key, or without keys the server, shows."""
        return tuple(id_ for id_, _ in self._organizations())

    def organization_names(self) -> Names:
        """The own names of the organizations to choose from."""
        return Names({("organization", str(id_)): name for id_, name in self._organizations() if name})

    def organization_name(self, query: Query) -> str:
        """The name and id of the query's organization; the id alone without a name."""
        return self._state(query.organization_id).organization

    def now(self) -> datetime:
        """The clock of the server's database."""
        return self.client.get(operations.ORGANIZATIONS, [], None, lambda found: datetime.fromisoformat(found["now"]))  # type: ignore[no-any-return]

    def known(self) -> datetime | None:
        """The latest `ingested_at` of the organization that is at least the settle time old; None without one."""
        return self._state(None).known

    def pin(self, query: _Q) -> _Q:
        """The query whose numbers stay the same, as of the latest settled arrival. Raises as a local store."""
        expect(Query, query)
        state = self._state(query.organization_id)
        return query.replace(organization_id=state.organization_id).pin(state.now, state.settle, state.known)

    def is_settled(self, query: Query) -> bool:
        """Whether the query's `as_of` is at or before `known`."""
        if expect(Query, query).as_of is None:
            return False
        state = self._state(query.organization_id)
        is_known = state.known is not None and cast("datetime", query.as_of) <= state.known
        return is_known and not query.is_open(state.now)

    def search_names(self, text: str, column: str | None = None, most: int = 50) -> list[Entry]:
        """At most `most` customers, products and subscriptions with the text in name, external id or id."""
        column = column if column in (None, METRIC) or str(column).endswith("_id") else f"{column}_id"
        query = NamesQuery(text=text or None, column=column, most=most)
        return cast("list[Entry]", self._ask(operations.NAMES, query, wire.listed(Entry)))

    def names(self, ids: Iterable[tuple[str, UUID | str]]) -> Names:
        """The names of some (column, id) of the organization, those in the filters of a page of events."""
        wanted = {(kind_of(column), str(id_)) for column, id_ in ids}
        found = self.organization_names() if any(kind == "organization" for kind, _ in wanted) else NO_NAMES
        named = sorted(key for key in wanted if f"{key[0]}_id" in ID_COLUMNS)
        for start in range(0, len(named), MAX_VALUES):
            excluded: dict[str, list[str]] = {}
            for kind, id_ in named[start : start + MAX_VALUES]:
                excluded.setdefault(f"{kind}_id", []).append(id_)
            found |= self._ask(operations.EVENTS, EventQuery(limit=1, exclude=excluded), wire.one(EventPage)).names
        return Names({key: name for key, name in found.by_id.items() if key in wanted}, found.shared & wanted)

    def extent(self, query: EventQuery | None = None) -> tuple[datetime, datetime] | None:
        """The times of the first and last event of a query; None without events."""
        requested = expect(EventQuery, EventQuery() if query is None else query)
        extent = self._ask(operations.EXTENT, _whole(requested), wire.one(tuple, None))
        return cast("tuple[datetime, datetime] | None", extent)

    def first_event(self, as_of: datetime | None = None) -> datetime | None:
        """The time of the organization's first event, None without events."""
        extent = self.extent(EventQuery(as_of=as_of))
        return extent and extent[0]

    def currencies(self, within: Query | None = None) -> list[CurrencyCost]:
        """The currencies of the costs of the events of `within`, that of most events first."""
        query = WithinQuery.of(within and expect(Query, within))
        return cast("list[CurrencyCost]", self._ask(operations.CURRENCIES, query, wire.listed(CurrencyCost)))

    def search(self, text: str, within: LeaderboardQuery | AggregateQuery | None = None, most: int = 5) -> list[Hit]:
        """Where a text occurs, as in a local store."""
        given = LeaderboardQuery() if within is None else within
        shared = given.shared_with(LeaderboardQuery) | {"metric": None, "top": most}
        if isinstance(text, str):
            text = text.strip()
        query = SearchQuery(**shared, text=text or " ")
        return cast("list[Hit]", self._ask(operations.SEARCH, query, wire.listed(Hit)))

    def _choices(
        self,
        within: Query | None,
        group: str,
        most: int | None,
        events: Callable[..., Any],
        timeout: timedelta | None = None,
    ) -> list[Choice]:
        given = within and expect(Query, within)
        path, query = operations.DIMENSIONS, WithinQuery.of(given)
        if group != aggregation.KEYS:
            path, query = operations.CHOICES, ChoiceQuery.of(given, group=group, most=most)
        return cast("list[Choice]", self._ask(path, query, wire.listed(Choice)))

    def frequent_values(self, query: AggregateQuery) -> tuple[str, ...]:
        """The most frequent values of the query's group in all events, which fix their colours; cached for an hour."""
        if query.group_by == "none":
            return ()
        organization_id = query.organization_id or self._state(None).organization_id
        return self._cached_frequent(organization_id, query.group_by)

    def events(self, query: EventQuery | None = None) -> EventPage:
        """A page of raw events, newest first. Raises as a local store."""
        requested = expect(EventQuery, EventQuery() if query is None else query)
        return cast("EventPage", self._warned(self._ask(operations.EVENTS, requested, wire.one(EventPage))))

    def events_before(self, page: EventPage) -> EventPage | None:
        """The page before `page`, None if it is the first."""
        if not isinstance(page, EventPage):
            raise QueryError([Fault("page", f"{validators.shorten(page)} is not a page of events")])
        if page.query.cursor is None:
            return None
        return cast("EventPage | None", self._ask(operations.PREVIOUS, page.query, wire.one(EventPage, None)))

    def count(self, query: EventQuery) -> int:
        """The number of events of the query, on all pages."""
        return cast("int", self._ask(operations.COUNT, _whole(expect(EventQuery, query)), wire.one(int)))

    def aggregate(self, query: AggregateQuery | None = None) -> Aggregate:
        """Usage over time. Raises as a local store."""
        requested = expect(AggregateQuery, AggregateQuery() if query is None else query)
        return cast("Aggregate", self._warned(self._ask(operations.AGGREGATE, requested, wire.one(Aggregate))))

    def compare(self, answer: Aggregate) -> Comparison:
        """The answer compared with its query's `compare`, by default with the period before, read now.

        Raises as a local store, and `DatabaseUnavailable` if the answer's series are not those of now any more.
        """
        if not isinstance(answer, Aggregate):
            raise QueryError([Fault("answer", f"{validators.shorten(answer)} is not an answer of store.aggregate")])
        query = answer.query
        asked = ComparisonQuery(**query.given() | {"compare": query.compare or "previous", "read_at": answer.now})
        comparison = cast("Comparison", self._ask(operations.COMPARISON, asked, wire.one(Comparison)))
        compared = [(item.kind, item.key) for item in comparison.series]
        if [(item.kind, item.key) for item in answer.series] != compared[: len(answer.series)]:
            raise DatabaseUnavailable("events arrived that change the series of the answer; run its query again")
        return comparison

    def leaderboards(
        self, query: AggregateQuery | LeaderboardQuery | None = None, top: int | None = None
    ) -> Leaderboards:
        """The `top` largest values of every column and dimension, as in a local store."""
        requested = leaderboard_query(query, top)
        return cast("Leaderboards", self._warned(self._ask(operations.LEADERBOARDS, requested, wire.one(Leaderboards))))

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
        """The change in a bucket, or in the whole window, and the values that account for it, as in a local store."""
        from usage_explore.explain import Explanation
        from usage_explore.explain.run import number

        window = {name: value for name, value in (("since", since), ("until", until)) if value is not None}
        requested = expect(AggregateQuery, question).replace(**window)
        at = None if bucket is None else parsed_instant("bucket", bucket)
        query = ExplanationQuery(**requested.given(), at=at, expected=number(expected), baseline=baseline)
        try:
            return cast("Explanation", self._ask(operations.EXPLANATION, query, wire.one(Explanation)))
        except QueryError as error:
            faults = [Fault("bucket", item.message) if item.parameter == "at" else item for item in error.faults]
            raise QueryError(faults) from None

    def validate(
        self,
        period: Period | None = None,
        *,
        checks: Iterable[str] | None = None,
        progress: Callable[[str, float], object] | None = None,
        **files: Any,
    ) -> Validation:
        """Validate a billing period on the server, as in a local store; it is cancelled if this call is interrupted."""
        from usage_explore.remote.uploads import uploads
        from usage_explore.validation import registry
        from usage_explore.validation.reconciliation.invoices import Invoices
        from usage_explore.validation.result import Validation

        requested = expect(Period, Period(window="last_month") if period is None else period)
        chosen = None if checks is None else [check.name for check in registry.chosen(checks)]
        tolerance = files["invoices"].tolerance if isinstance(files.get("invoices"), Invoices) else None
        query = ValidationQuery(**requested.given(), checks=chosen, tolerance=tolerance or None)
        sent = uploads(**{name: value for name, value in files.items() if value is not None})
        return cast("Validation", self._ended(operations.VALIDATIONS, query, Validation, sent, progress))

    def rate(
        self,
        period: Period | None = None,
        *,
        prices: PriceSource | None = None,
        wallets: PreferenceSource | None = None,
    ) -> Rating:
        """Expected amounts of a period, rated on the server, as in a local store; cancelled if interrupted."""
        from usage_explore.pricing.rating import Rating
        from usage_explore.pricing.read import read_prices
        from usage_explore.remote.uploads import rating_uploads

        requested = expect(Period, Period(window="last_month") if period is None else period)
        book = None if prices is None else read_prices(prices)
        query = RatingQuery(**requested.given())
        sent = rating_uploads(book, wallets)
        result = cast("Rating", self._ended(operations.RATINGS, query, Rating, sent, None))
        if book is None:
            return result
        rows = (int(line.price.place.rpartition(" ")[2].replace(",", "")) for line in result.lines)  # of the sent file
        places = (book.prices[row - 1].place for row in rows)
        lines = (
            replace(line, price=replace(line.price, place=place))
            for line, place in zip(result.lines, places, strict=True)
        )
        return replace(result, source=book.source, lines=tuple(lines))

    def views(self) -> list[SavedView]:
        """The organization's saved views, by name, read only: `store.aggregate(view.query)` opens one."""
        from usage_explore.records.views import SavedView

        return cast("list[SavedView]", self._ask(operations.VIEWS, OrganizationQuery(), wire.listed(SavedView)))

    def prices(self) -> PriceBook | None:
        """The organization's price book in the server's table `usage_prices`, as in a local store."""
        from usage_explore.pricing.book import PriceBook

        return cast("PriceBook | None", self._ask(operations.PRICES, OrganizationQuery(), wire.one(PriceBook, None)))

    def _ended(
        self,
        path: str,
        query: Period,
        kind: type[Any],
        files: dict[str, Any],
        progress: Callable[[str, float], object] | None,
    ) -> Any:
        """The result of a job on the server."""
        return jobs.ended(self.client, path, partial(self._request, query), kind, files, progress)

    def read(self, query: EventQuery | None = None) -> Events:
        """All events of the query as an Arrow table, streamed, newest first, as in a local store."""
        requested = expect(EventQuery, EventQuery() if query is None else query)
        began = time.perf_counter()
        with self._streamed(requested) as stream:
            check_memory(stream.total)
            table = arrow.collected(stream.schema.empty_table(), stream.tables(stream.schema))
        self._warned(stream)
        took = timedelta(seconds=time.perf_counter() - began)
        return Events(query=stream.query, table=table, served=Served(stream.because, took, stream.exists_since))

    def export(
        self,
        query: EventQuery,
        path: Path | str,
        progress: bool | Progress = True,
        *,
        escape_formulas: bool = False,
        timezone: str | None = None,
    ) -> ExportReport:
        """Write every event of the query to a `.csv`, `.parquet` or `.xlsx` file, as in a local store."""
        kind = file_kind(path)
        zone = workbook_zone(timezone, kind)
        with progress_bar("export", "events", shown=bool(progress) and not callable(progress)) as show:
            report = progress if callable(progress) else show
            if kind == ".csv":
                return self._export_csv(expect(EventQuery, query), Path(path), report, escape_formulas=escape_formulas)
            with self._streamed(expect(EventQuery, query)) as stream:
                sheet = None
                if kind == ".xlsx":
                    scoped = stream.query
                    state, names = self._state(scoped.organization_id), self.names(filtered_ids(scoped))
                    sheet = about(scoped, state.organization, state.now, names, zone, self.app_url)
                written = export(stream, path, report, escape_formulas, None, sheet)
                self._warned(stream)
                return written

    def export_csv(self, query: EventQuery, *, escape_formulas: bool = False) -> Generator[bytes]:
        """The CSV of `export` in chunks. Raises as a local store while it is iterated."""
        options = [("escape_formulas", "true")] if escape_formulas else []
        pairs = [*self._export_pairs(expect(EventQuery, query)), *options]
        with self._scope_errors(query), self.client.stream(operations.EXPORT, pairs, "text/csv") as chunks:
            yield from chunks

    def _export_csv(self, query: EventQuery, path: Path, progress: Progress, *, escape_formulas: bool) -> ExportReport:
        total = self.count(query) if query.cursor is None else 0
        lines, quoted = 0, False
        with whole_file(path) as part, part.open("wb") as file:
            for chunk in self.export_csv(query, escape_formulas=escape_formulas):
                file.write(chunk)
                for number, piece in enumerate(chunk.split(b'"')):
                    quoted ^= number > 0
                    lines += 0 if quoted else piece.count(b"\n")
                progress(max(lines - 1, 0), max(total, lines - 1))
        return ExportReport(path, lines - 1)

    def _export_pairs(self, query: EventQuery) -> list[tuple[str, str]]:
        return list(self._scoped_query(query).replace(limit=None).to_params())

    def relation(self) -> duckdb.DuckDBPyRelation:
        """The organization's events as a relation of DuckDB, as in a local store; all are held in memory."""
        return of_table(self.read(EventQuery()).table)

    @contextmanager
    def _streamed(self, query: EventQuery) -> Iterator[Stream]:
        with self._scope_errors(query), opened_stream(self.client, self._export_pairs(query), query) as stream:
            yield stream

    @contextmanager
    def _scope_errors(self, query: Query) -> Iterator[None]:
        """Refusals of the organization as a local store words them."""
        claim = query.organization_id or self.organization_id
        try:
            yield
        except QueryError as error:
            if [fault.parameter for fault in error.faults] != ["organization_id"]:
                raise
            raise self._scope.unresolved(len(self.organizations()), is_empty=True) from None
        except ScopeError:
            if claim is None:
                raise
            raise ScopeError.refusing(claim) from None

    def _organizations(self) -> list[tuple[UUID, str | None]]:
        query = OrganizationQuery(organization_id=self.organization_id)
        with self._scope_errors(query):
            pairs = list(query.to_params())
            listed = self.client.get(operations.ORGANIZATIONS, pairs, read=jobs.listed_organizations)
        return [(id_, name) for id_, name in listed if self._scope.may_see(id_)]

    def _state(self, organization_id: UUID | None) -> jobs.State:
        query = OrganizationQuery(organization_id=organization_id)
        return cast("jobs.State", self._ask(operations.STATE, query, jobs.State.of))


def opened(settings: config.Settings) -> RemoteStore:
    """The store of the server at the settings' database URL; the first query connects. Raises `ConfigurationError`."""
    client = Client(str(settings.database_url), settings.key, settings.statement_timeout)
    return RemoteStore(
        client=client,
        engine=cast("Any", None),  # there is no database here; `_transaction` says so
        table=events_table(settings.table),
        organization_id=settings.organization_id,
        settle=settings.settle_time,
        app_url=client.url,
    )


def _whole(query: EventQuery) -> EventQuery:
    """The query without its page."""
    return query.replace(limit=None, cursor=None)
