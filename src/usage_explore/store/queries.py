"""The queries: events, aggregates, leaderboards, comparisons, explanations, validations.

A query is resolved once, with the database's clock, in the READ ONLY transaction that answers it.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING, cast

from usage_explore.answers import Aggregate, Leaderboards
from usage_explore.comparison import compared
from usage_explore.db.names import Directory
from usage_explore.decimals import decimal_context
from usage_explore.errors import Fault, QueryError, TableMismatch
from usage_explore.event_pages import EventPage
from usage_explore.extract.leaderboards import leaderboards
from usage_explore.names import Names
from usage_explore.query import filters, validators
from usage_explore.query.base import expect, expect_instance
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
from usage_explore.results.named import event_ids, named_boards, named_events, named_series
from usage_explore.results.types import Comparison, Event
from usage_explore.results.units import QUANTITIES, AddedMetrics, common_unit
from usage_explore.sql import aggregate as aggregation
from usage_explore.sql import filters as statements
from usage_explore.sql import hints
from usage_explore.store.base import current_time, event_of, position_of
from usage_explore.store.lookups import Lookups
from usage_explore.store.rates import Rates

if TYPE_CHECKING:
    import pandas as pd

    from usage_explore.answers import PinSource
    from usage_explore.event_pages import PageSource
    from usage_explore.explain import Baseline, Explanation
    from usage_explore.pricing.read import PriceSource
    from usage_explore.records.signoffs import SignOff
    from usage_explore.validation.bounds import BoundsSource
    from usage_explore.validation.check import Finding
    from usage_explore.validation.control.totals import ControlSource
    from usage_explore.validation.inputs import PreferenceSource
    from usage_explore.validation.reconciliation.invoices import InvoiceSource
    from usage_explore.validation.result import Validation


NO_COSTS = "metric: none of the query's events has a cost (external_cost_amount)"
"""The hint of an answer whose costs are 0, and unit costs None, because no event has one."""


class Queries(Rates, Lookups):
    """The methods of `Store` that run queries."""

    def events(self, query: EventQuery | None = None) -> EventPage:
        """A page of raw events, newest first.

        Raises `QueryError` for a cursor that is damaged or of another query, `ScopeError`, `DatabaseError`.
        """
        requested = expect(EventQuery, EventQuery() if query is None else query)
        with self._transaction(requested, empty=False) as (connection, query):
            after = position_of(query)
            times = self._times(connection, query)
            rows = statements.rows_after(connection, self.table, query, query.limit + 1, after, times)
            hinted: tuple[str, ...] = ()
            if after is None:
                since = None
                if query.occurred_after is not None:  # only a window can begin before the first event
                    since = self._paths(connection).exists_since(query)
                hinted = self._hint(connection, query, empty=not rows, exists_since=since)
            events = [event_of(row) for row in rows]
            names = self._directory(connection, query).names(event_ids(events))
        following = None
        if len(events) > query.limit:
            events = events[: query.limit]
            following = encode_cursor(Position(events[-1].timestamp, events[-1].id), query)
        return self._page(query, events, names, following, hinted)

    def events_before(self, page: EventPage) -> EventPage | None:
        """The events right before `page`, fewer than its limit if there are no more, None if it is the first."""
        if not isinstance(page, EventPage):
            raise QueryError([Fault("page", f"{validators.shorten(page)} is not a page of events")])
        if page.query.cursor is None:
            return None
        with self._transaction(page.query) as (connection, query):
            after = decode_cursor(page.query.cursor, query)
            times = self._times(connection, query)
            rows = statements.rows_before(connection, self.table, query, query.limit + 1, after, times)
            events = [event_of(row) for row in reversed(rows[: query.limit])]
            names = self._directory(connection, query).names(event_ids(events))
        if not events:
            return None
        start = None
        if len(rows) > query.limit:  # the last row before the previous page
            start = encode_cursor(Position(rows[-1].timestamp, rows[-1].id), query)
        return self._page(query.replace(cursor=start), events, names, following=query.cursor)

    def count(self, query: EventQuery) -> int:
        """The number of events of the query, on all pages."""
        with self._transaction(expect(EventQuery, query), snapshot=True, empty=False) as (connection, scoped):
            paths = self._paths(connection)
            events = paths.count(scoped, indexed=self._is_indexed(connection, scoped))
            self._hint(connection, scoped, empty=not events, exists_since=paths.exists_since(scoped))
            return events

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
            directory = self._directory(connection, resolved)
            prepare = partial(directory.prepare, units=resolved.metric in QUANTITIES)
            series, metrics, currencies, served = paths.aggregate(resolved, beside=prepare)
            units_of = partial(_units, directory, resolved)
            units = units_of(metrics)
            comparison = None
            if resolved.compare is not None:
                began = time.perf_counter()
                closed_until = resolved.closed_until(now)
                unit = common_unit(metrics.number, units)
                comparison = compared(paths, resolved, series, currencies, closed_until, unit, units_of)
                took = served.took + timedelta(seconds=time.perf_counter() - began)
                served = dataclasses.replace(served, took=took)
            keys = (item.key for item in series if item.key) if resolved.group_by in filters.ID_COLUMNS else ()
            names = directory.names((resolved.group_by, key) for key in keys)
            has_keys = resolved.group_by == "none" or any(item.kind == "value" for item in series)
            # no metric of a cost is no cost, or no event
            has_events = bool(metrics.number) or (resolved.metric in COST_METRICS and paths.count(resolved) > 0)
            empty = not has_keys or not has_events
            hinted = self._hint(connection, resolved, empty=empty, exists_since=served.exists_since)
        if comparison is not None:
            named = named_series(comparison.series, resolved, names)
            comparison = dataclasses.replace(comparison, series=named)
        if self.hints and resolved.metric in COST_METRICS and has_events and not currencies:
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
            metrics=metrics.number,
            units=units,
            currencies=currencies,
            app_url=self.app_url,
            served=served,
            store=cast("PinSource", self),
            hints=hinted,
        )

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
            units_of = partial(_units, self._directory(connection, scoped), scoped)
            closed_until = answer.closed_until
            return compared(paths, scoped, answer.series, answer.currencies, closed_until, answer.unit, units_of)

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
        requested = leaderboard_query(query, top)
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
            directory = self._directory(connection, resolved)
            names = directory.names(ids)
            units = _units(directory, resolved, metrics)
            hinted = self._hint(
                connection, resolved, empty=not any(board.leaders for board in boards), exists_since=served.exists_since
            )
        return Leaderboards(
            query=resolved,
            boards=named_boards(boards, names),
            total=total,
            metrics=metrics.number,
            units=units,
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
        control: ControlSource | None = None,
        prices: PriceSource | None = None,
        bounds: BoundsSource | None = None,
        checks: Iterable[str] | None = None,
        progress: Callable[[str, float], object] | None = None,
    ) -> Validation:
        """Validate a billing period, by default last month: findings with their events and amounts.

        Examines the events ingested until the period's `as_of`, by default the settle time ago, so that a repetition
        gives the same numbers (of a period that is over the last arrival, or a sign-off's `as_of`, until then); later
        arrivals are counted in `unexamined`. A more recent `as_of` is used as given, and may still gain events.
        `invoices` are the lines to reconcile (a `.csv`, `.xlsx` or `.parquet` file, or a frame), `wallets` the
        customers' preferred currencies (the same, or a mapping), `control` the totals by day that a gateway, provider
        or FOCUS bill counted (as invoices), `prices` the price book that the lines' amounts are compared with, as for
        `rate` (by default the table `usage_prices`); `bounds` override those of the checks (a `.toml` file, or its
        tables as a mapping), by default the configured ones; `checks` names checks, default all; `progress` is
        called with a check's name and the part of it that is done, 0 to 1.

        Raises `QueryError` for an invalid query, check, invoice line, preference, control total or bound, `ScopeError`,
        `DatabaseError`.

        >>> store.validate(Period(window="last_month")).frame  # doctest: +SKIP
        """
        from usage_explore.validation import registry
        from usage_explore.validation.bounds import NO_BOUNDS, read_bounds
        from usage_explore.validation.inputs import given_files, read_inputs

        requested = expect(Period, Period(window="last_month") if period is None else period)
        inputs = read_inputs(invoices=invoices, wallets=wallets, control=control, prices=prices)
        given = self.bounds if bounds is None else bounds
        changed = NO_BOUNDS if given is None else read_bounds(given, registry.all_bounds())
        plan = registry.Plan(checks=registry.chosen(checks), inputs=inputs, bounds=changed)
        signed = self._signoffs_of(requested, with_usage=inputs.invoices is not None)
        timeout = self.long_statement_timeout
        with self._transaction(requested, snapshot=True, statement_timeout=timeout) as (connection, scoped):
            now = current_time(connection)
            settled, settle = self._settled(connection, scoped, now)
            if requested.as_of is None and settled.as_of is not None:
                times = [settled.as_of, *(one.as_of for one in signed if one.as_of <= now - self.settle)]
                settled = settled.replace(as_of=max(times))
            directory = self._directory(connection, scoped)
            inputs, texts = self._with_directory_ids(directory, inputs)
            plan = dataclasses.replace(plan, inputs=inputs)
            if plan.lacks_preferences:
                plan = plan.preferring(directory.preferred_currencies())
            if plan.lacks_prices:
                stored, reason = None, ""
                try:
                    stored = self._stored_prices(connection, scoped)
                except TableMismatch as error:
                    reason = str(error)
                more = dataclasses.replace(plan.inputs, prices=stored, no_prices=reason)
                plan = dataclasses.replace(plan, inputs=more)
            validation = plan.validation(
                connection,
                self.table,
                settled,
                now,
                self.extracts,
                self.app_url,
                progress,
                settle,
                directory.names,
                signed,
                bool(signed) and self._scope.holds_several(connection, self.table),
            )
            self._hint(connection, settled, empty=not (validation.totals.events or validation.unexamined))
            names = texts | directory.names(validation.ids())
            files = given_files(prices=prices, invoices=invoices, control=control, wallets=wallets)
            return dataclasses.replace(validation, names=names, files=files)

    def _signoffs_of(self, period: Period, *, with_usage: bool) -> Sequence[SignOff]:
        """The sign-offs of a period, newest first; `with_usage` with that of the newest four."""
        return ()

    def duplicate_pairs(self, validation: Validation, finding: Finding) -> pd.DataFrame:
        """The superfluous events of a finding of the check `duplicates`, each beside the event that counts.

        They are all of its customer, metrics, time and kind: a few may belong to another finding in the same time.
        Columns: `idempotency_key` (str), then with `kept_` and `copy_` before them `id`, `customer_id`, `metric_key`
        (str), `timestamp`, `ingested_at` (datetime64[us, UTC]), `quantity`, `external_cost_amount` (`Decimal` or None),
        `external_cost_currency` (str). At most 100,000 pairs, in order of the copies.
        Raises `QueryError` for a finding of another check, `ScopeError`, `DatabaseError`.
        """
        from usage_explore.validation.bounds import in_force
        from usage_explore.validation.check import Finding
        from usage_explore.validation.checks import duplicates
        from usage_explore.validation.handover import MAX_PAIRS, pair_frame
        from usage_explore.validation.result import Validation

        expect_instance("validation", validation, Validation)
        expect_instance("finding", finding, Finding)
        if finding.check != duplicates.NAME:
            raise QueryError([Fault("finding", f"is of the check {finding.check}; pairs are of {duplicates.NAME}")])
        timeout = self.long_statement_timeout
        with (
            self._transaction(validation.period, statement_timeout=timeout) as (connection, scoped),
            in_force(validation.bounds),
        ):
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
            paths = self._paths(connection)
            resolved, _ = _in_effect(scoped, paths.now)
            explanation = explain(paths, resolved, bucket, baseline, amount)
            names = self._directory(connection, resolved).names(explanation.ids())
            return dataclasses.replace(explanation, names=names)

    def sql(self, query: AggregateQuery | EventQuery) -> str:
        """The SQL of the query for psql, with inline values; it reads the events, not the extract."""
        requested = query if isinstance(query, EventQuery) else expect(AggregateQuery, query)
        with self._transaction(requested) as (connection, scoped):
            if isinstance(scoped, EventQuery):
                after = position_of(scoped)
                return statements.to_sql(statements.page(self.table, scoped, scoped.limit, after))
            effective, _ = _in_effect(scoped, current_time(connection))
            text = statements.to_sql(aggregation.aggregate(self.table, effective))
            return (
                f"-- points per bucket, before they are added up (cumulative)\n{text}" if effective.cumulative else text
            )

    def _page(
        self,
        query: EventQuery,
        events: list[Event],
        names: Names,
        following: str | None,
        hinted: tuple[str, ...] = (),
    ) -> EventPage:
        return EventPage(
            query=query,
            events=named_events(events, names),
            cursor=following,
            store=cast("PageSource", self),
            names=names,
            hints=hinted,
        )


def _units(directory: Directory, query: AggregateQuery | LeaderboardQuery, metrics: AddedMetrics) -> dict[str, str]:
    """The units of the metrics whose quantities a query adds up, or divides by."""
    return directory.units(metrics.keys) if query.metric in QUANTITIES else {}


def _in_effect(query: AggregateQuery, now: datetime) -> tuple[AggregateQuery, bool]:
    """The query with an absolute window of at most `MAX_AGGREGATE_BUCKETS`, and whether that moved its `since`."""
    resolved = query.resolve(now)
    first = resolved.edges()[0]
    capped = first > resolved.span[0]
    return resolved.replace(since=first) if capped else resolved, capped


def leaderboard_query(query: AggregateQuery | LeaderboardQuery | None, top: int | None) -> LeaderboardQuery:
    """The query of `Store.leaderboards` for its arguments. Raises `QueryError`."""
    given = LeaderboardQuery() if query is None else query
    if isinstance(given, AggregateQuery):
        return LeaderboardQuery(**{**given.shared_with(LeaderboardQuery), "top": top})
    return expect(LeaderboardQuery, given).replace(**({} if top is None else {"top": top}))
