"""The answers of the store: aggregates and leaderboards, each with its query; see `event_pages` for events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from html import escape
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any, Protocol

from usage_explore.db.timeouts import interruptible
from usage_explore.decimals import Number, instant_texts, plain, rfc3339
from usage_explore.errors import (
    ConfigurationError,
    Fault,
    QueryError,
    UsageExploreError,
)
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import url_params, validators
from usage_explore.query.base import EventFilters, Query, parsed_instant
from usage_explore.query.describe import describe
from usage_explore.query.filters import DIMENSION, TEXT_COLUMNS, dimension_key
from usage_explore.query.queries import AggregateQuery, EventQuery, LeaderboardQuery
from usage_explore.query.url_params import link
from usage_explore.results import arrow, frames, workbook
from usage_explore.results.currencies import Currencies
from usage_explore.results.leaders import Leaderboard
from usage_explore.results.types import AggregateData, Comparison, Series, Served, json_value
from usage_explore.results.units import HasUnit, unit_text
from usage_explore.results.whole_file import whole_file

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from usage_explore.records.links import SharedLink


class PinSource(Protocol):
    """The part of the store that an aggregate needs for its pinned link."""

    def pin(self, query: AggregateQuery, /) -> AggregateQuery:
        """The query with the latest settled arrival as `as_of`."""
        ...

    def organization_name(self, query: Query, /) -> str:
        """The name and id of the query's organization."""
        ...

    def frequent_values(self, query: AggregateQuery, /) -> tuple[str, ...]:
        """The most frequent values of the query's group in all events."""
        ...

    @property
    def share(self) -> Callable[..., SharedLink]:
        """The method that makes a short link to a query, pinned."""
        ...


@dataclass(frozen=True)
class Aggregate(AggregateData):
    """Usage over time: the answer to an `AggregateQuery`, exact to the last digit.

    `query` is the query as it took effect: absolute, of one organization, with a later `since` if `capped`. `now` is
    the database's clock. Counts are `int`, sums and unit costs `Decimal`, None where a unit cost has no quantity to
    divide by. `metrics` is the number of different metrics in the sum. `unit` is that of a sum of quantities, and of
    what a unit cost is divided by, such as "tokens": None where it is unknown, and for a sum of tokens and seconds.
    `currency` is that of a cost, None for several and without one (`currencies`). `served` says whether the extract or
    the events were read, and how long it took. `hints` are sentences on what is probably a mistake in the query, such
    as a window without any events; Python warned of them. With
    `cumulative` each point is the running total since the window's start, also in buckets that have not begun; totals
    are unchanged. With `compare` the other period is in `comparison`.
    """

    app_url: str = field(compare=False)
    store: PinSource | None = field(default=None, compare=False, repr=False)
    hints: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The answer as a tidy frame: one row per series and bucket, series by rank.

        Columns: `start`, `end` (datetime64[us, zone]), `complete` (bool), `key`, `kind`, `label` (str, distinct:
        "Other (folded)" beside a value "Other"; the name of an id that has one), `value` (int64 for counts, `Decimal`
        objects for sums; for unit costs None, too). If compared, also `earlier_start` (datetime64[us, zone]), where the
        bucket of the other period starts, its value `earlier`, and `change`, the value of equally much elapsed time
        less `earlier` (Int64 for counts, else `Decimal` objects); without a counterpart NaT, and NA or None. What only
        the other period has is a series Other of 0. Altair cannot write `Decimal`: give it `plot_frame`.
        """
        return frames.aggregate(self)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns of `frame` for Arrow, exact, numbers last: counts int64, else decimal128(38, s), or text."""
        return arrow.c_stream(frames.aggregate_table(self), requested_schema)

    def pivot(self) -> pd.DataFrame:
        """The exact values: one row per bucket (index `start`), one column per series, named by its label.

        Excel has no time zones: `answer.pivot().tz_localize(None).to_excel("usage.xlsx")` writes local times.
        """
        return frames.pivot(self)

    def wide(self) -> pd.DataFrame:
        """`pivot` for a spreadsheet: the columns `start`, `end` and `complete`, then one per series.

        A series labelled like one of those three is "start (value)". Excel has no time zones, so `to_excel` refuses
        these times; `to_xlsx` converts them.
        """
        return frames.wide_frame(self)

    @property
    def plot_frame(self) -> pd.DataFrame:
        """`frame` for plotting libraries, as in `alt.Chart(answer.plot_frame)`: rounded, not for sums.

        `value` is float64, `start` and `end` are local times without a zone (an hour that the clock shows twice appears
        twice), and `label` is an ordered category, largest series first.

        Raises `QueryError`, naming `metric`, for values that a chart cannot draw: beyond 1E-290 to 1E+290.
        """
        from usage_explore.charts.labels import undrawable

        if reason := undrawable(self):
            raise QueryError([Fault("metric", reason)])
        return frames.plot(self)

    def __repr__(self) -> str:
        size = f"{len(self.series):,} series × {len(self.edges) - 1:,} buckets"
        adds = f", {self.adds}" if self.adds else ""
        total = "none" if self.total is None else plain(self.total)
        unit = f" {self.currency or unit_text(self.unit)}" if self.currency or self.unit else ""
        return f"<Aggregate: {size}, total {total}{unit}{adds}; {self.names.in_text(describe(self.query))}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{frames.totals(self).to_html(max_rows=20)}"

    def chart(self, **options: Any) -> alt.Chart | alt.LayerChart:
        """The chart of the answer; see `usage_explore.charts.chart` for the options.

        Without `frequent`, values have the colours that the app gives them: the most frequent values of the group are
        counted in all events of the organization, at most once an hour, if the database is available.
        """
        from usage_explore import charts

        if "frequent" not in options and self.store is not None:
            with suppress(UsageExploreError):
                options["frequent"] = self.store.frequent_values(self.query)
        return charts.chart(self, **options)

    @cached_property
    def organization(self) -> str:
        """The name and id of the organization, "Acme (1a2b3c4d-…)"; the id alone without a name, or after unpickling.

        Reading the name runs a statement, once. Raises `DatabaseError`.
        """
        return str(self.query.organization_id) if self.store is None else self.store.organization_name(self.query)

    def to_csv(self, path: Path | str, *, wide: bool = False, escape_formulas: bool = False) -> None:
        """Write `frame`, or with `wide` the columns of `wide()`, to a CSV file with exact decimals.

        Times are ISO 8601 with the zone's offset. `escape_formulas` puts an apostrophe before text that a spreadsheet
        would run. Raises `ConfigurationError` for a path that cannot be written.
        """
        content = frames.to_csv(self, wide=wide, escape_formulas=escape_formulas)
        with whole_file(Path(path)) as part:
            part.write_bytes(content)

    def to_xlsx(self, path: Path | str) -> None:
        """Write an Excel workbook: the sheets "Long", a row per series and bucket, "Query", and "Wide", one per bucket.

        Numbers of more than 15 significant digits, which Excel would round, are text. Times are on the query's clock.
        "Query" has the sentence, organization, as-of, parameters, and links. Text is never a formula. Runs two
        statements, for the name of the organization and the pinned link. Raises `ConfigurationError` for a path that
        cannot be written, and `DatabaseError`.
        """
        content = self.xlsx(self.organization, self.url(), None if self.store is None else self.url(pinned=True))
        with whole_file(Path(path)) as part:
            part.write_bytes(content)

    def xlsx(self, organization: str, link: str, pinned: str | None = None) -> bytes:
        """The content of `to_xlsx`, with the organization and links as given. `CancelledError` if its request ends."""
        links = [("Link", link)]
        if pinned:
            links.append(("Pinned link", pinned))
        if pinned and self.query.as_of is None:
            links.append(
                ("", "pinned to the events that had settled: the newest ones in this file may not be among them")
            )
        sink, cancelled = BytesIO(), Event()
        with interruptible(cancelled.set):
            workbook.write_aggregate(self, sink, organization, links, cancelled.is_set)
        return sink.getvalue()

    def url(self, *, pinned: bool = False) -> str:
        """The link that opens this query in the app; with `pinned`, its numbers stay the same.

        Pinning runs a statement, see `Store.pin`. Raises `DatabaseError`, and `ConfigurationError` after unpickling.
        """
        if not pinned:
            return link(self.app_url, "", self.query)
        if self.store is None:
            raise ConfigurationError("pinned: an answer that was pickled has no store; run its query again")
        return link(self.app_url, "", self.store.pin(self.query))

    def share(self, **options: Any) -> SharedLink:
        """A short link to the pinned query; options and errors are those of `Store.share`.

        Raises `ConfigurationError` after unpickling.

        >>> answer.share(expires="2199-01-01T00:00:00Z", without_sign_in=True).url  # doctest: +SKIP
        """
        if self.store is None:
            raise ConfigurationError("share: an answer that was pickled has no store; run its query again")
        return self.store.share(self.query, **options)

    def __getstate__(self) -> dict[str, Any]:
        """The state without the store, whose connections belong to this process."""
        return {**self.__dict__, "store": None}  # an organization's name that was read stays

    def events_at(self, series: Series, start: datetime | None = None, end: datetime | None = None) -> EventQuery:
        """The query for the events behind a series, in the buckets from `start` to `end`, by default in all.

        Of a cumulative answer they begin at the window's start, as its running totals do.

        Their number is exactly the count of the points. Raises `QueryError` for a naive time, for anything but a
        series, and for a key that is longer than a value may be.
        """
        if not isinstance(series, Series):
            raise QueryError(
                [Fault("series", f"{validators.shorten(series)} is not a series; take one of answer.series")]
            )
        start, end = (
            None if edge is None else parsed_instant(name, edge) for name, edge in (("start", start), ("end", end))
        )
        shared = self.query.shared_with(EventQuery)
        since, until = self.query.span
        after = since if self.query.cumulative else max(since, start or since)
        before = min(until, end or until)
        return EventQuery(**{**shared, **self._behind(series), "occurred_after": after, "occurred_before": before})

    def to_dict(self) -> dict[str, Any]:
        """The answer as the API returns it in JSON."""
        query, instant = self.query, instant_texts()
        since, until = query.span
        return {
            "bucket": query.bucket,
            "group_by": query.group_by,
            "metric": query.metric,
            "since": rfc3339(since),
            "until": rfc3339(until),
            "timezone": query.timezone,
            "top": query.top,
            "cumulative": query.cumulative,
            "compare": query.compare,
            "as_of": rfc3339(query.as_of) if query.as_of else None,
            "capped": self.capped,
            "exists_since": rfc3339(self.served.exists_since) if self.served.exists_since else None,
            "metrics": self.metrics,
            "unit": self.unit,
            "currency": self.currency,
            "filters": _filters(query),
            "series": [self._series_dict(series, instant) for series in self.series],
            "comparison": self.comparison.to_dict() if self.comparison else None,
            "hints": list(self.hints),
        }

    def _series_dict(self, series: Series, instant: Callable[[datetime], str]) -> dict[str, Any]:
        return {
            "key": series.key,
            "kind": series.kind,
            "label": series.label,
            "name": series.name,
            "total": json_value(series.total),
            "points": [
                {
                    "start": instant(point.start),
                    "end": instant(point.end),
                    "value": json_value(point.value),
                    "complete": point.complete,
                }
                for point in series.points
            ],
        }

    def _behind(self, series: Series) -> dict[str, Any]:
        group = self.query.group_by
        if series.kind == "all":
            return {}
        if series.kind == "missing":
            return {"missing": sorted({*self.query.missing, group})}
        if series.kind == "value":
            if group.startswith(DIMENSION):
                return {"dimensions": {**dict(self.query.dimensions), dimension_key(group): series.key}}
            return {group: [series.key] if group in TEXT_COLUMNS else series.key}
        excluded = {name: set(values) for name, values in self.query.exclude}
        for kept in self.series:
            if kept.kind == "value" and kept.key is not None:
                excluded.setdefault(group, set()).add(kept.key)
            elif kept.kind == "missing":
                excluded.setdefault("missing", set()).add(group)
        return {"exclude": excluded}


@dataclass(frozen=True)
class Leaderboards(HasUnit):
    """The largest values of every column and dimension under one query's filters: the answer to a `LeaderboardQuery`.

    `query` is the query as it took effect: absolute, of one organization. `boards` has a `Leaderboard` for each column
    that can be grouped by, then for each dimension key of the query's events, those of most events first: at most 50,
    `omitted` is the number of others. `total` is exact: `int` for counts, `Decimal` for sums; `metrics` is the number
    of different metrics in it, `unit` that of a sum of quantities. `now` is the database's clock, `served` and `hints`
    are those of an `Aggregate`. It can be pickled.
    """

    query: LeaderboardQuery
    boards: tuple[Leaderboard, ...]
    total: Number
    metrics: int
    omitted: int
    now: datetime = field(compare=False)
    served: Served = field(compare=False)
    names: Names = field(default=NO_NAMES, compare=False, repr=False)
    hints: tuple[str, ...] = field(default=(), compare=False, repr=False)
    currencies: Currencies = ()
    units: Mapping[str, str] = field(default_factory=dict, compare=False, repr=False)

    @property
    def currency(self) -> str | None:
        """The currency of the costs; None for other measures, and without one."""
        return self.currencies[0] if self.currencies else None

    def __getitem__(self, group: str) -> Leaderboard:
        """The leaderboard of a group such as `customer_id` or `dim:model`. Raises `KeyError`."""
        for board in self.boards:
            if board.group == group:
                return board
        raise KeyError(group)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per leaderboard and value, by rank.

        Columns: `group`, `kind` (value, missing or other), `key`, `label` (str, distinct within a group; the name of an
        id that has one, "Other (folded)" beside a value "Other"), `total` (int64 for counts, `Decimal` objects for
        sums), `share` (`Decimal`, 6 decimal places; None of a total of 0), `members` (int64: values in the row).
        Altair cannot write `Decimal`: give it `frame.astype({"total": float, "share": float})`.
        """
        return frames.leaderboards(self.boards, self.query.metric, self.names)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The columns of `frame` for Arrow, exact: counts int64, else decimal128(38, s), or text."""
        decimals = ("share",) if self.query.metric == "count" else ("total", "share")
        return arrow.c_stream(frames.arrow_table(self.frame, decimals), requested_schema)

    def __repr__(self) -> str:
        return (
            f"<Leaderboards: {len(self.boards):,} columns and dimensions, total {plain(self.total)};"
            f" {self.names.in_text(describe(self.query))}>"
        )

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{self.frame.to_html(max_rows=60)}"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "frame"}

    def to_dict(self) -> dict[str, Any]:
        """The answer as the API returns it in JSON."""
        query = self.query
        since, until = query.span
        return {
            "metric": query.metric,
            "since": rfc3339(since),
            "until": rfc3339(until),
            "timezone": query.timezone,
            "top": query.top,
            "as_of": rfc3339(query.as_of) if query.as_of else None,
            "total": json_value(self.total),
            "exists_since": rfc3339(self.served.exists_since) if self.served.exists_since else None,
            "metrics": self.metrics,
            "unit": self.unit,
            "currency": self.currency,
            "omitted": self.omitted,
            "filters": _filters(query),
            "leaderboards": [
                {
                    "group": board.group,
                    "values": board.values,
                    "leaders": [
                        {
                            "key": leader.key,
                            "kind": leader.kind,
                            "label": leader.label,
                            "name": leader.name,
                            "total": json_value(leader.total),
                            "share": json_value(leader.share),
                            "members": leader.members,
                        }
                        for leader in board.leaders
                    ],
                }
                for board in self.boards
            ],
            "hints": list(self.hints),
        }


def _filters(query: Query) -> dict[str, list[str]]:
    """The filter parameters, each with its values."""
    filters: dict[str, list[str]] = {}
    others = set(type(query).model_fields) - set(EventFilters.model_fields) | {"as_of", "organization_id"}
    for name, value in url_params.values(query):
        if name not in others:
            filters.setdefault(name, []).append(value)
    return filters


class AggregateSource(Protocol):
    """The part of the store that reports need."""

    def aggregate(self, query: AggregateQuery, /) -> Aggregate:
        """An answer."""
        ...


class ComparisonSource(Protocol):
    """The part of the store that a comparison needs."""

    def compare(self, answer: Aggregate, /) -> Comparison:
        """The answer compared with the period before."""
        ...
