"""What comes back: pages of events, and aggregates with the question that made them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Literal, NoReturn
from uuid import UUID

from usage_explore import frames, parameters, parse
from usage_explore.describe import describe
from usage_explore.errors import ConfigurationError, DatabaseError, DatabaseUnavailable, Fault, QueryError
from usage_explore.filters import DIMENSION, dimension_key
from usage_explore.numbers import Number, exact_sum, plain, rfc3339
from usage_explore.parameters import query_string
from usage_explore.query import AggregateQuery, EventQuery
from usage_explore.question import Question, at

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from usage_explore.store import Store

_AWAY, _PAUSE = 30.0, 0.5
"""Seconds that iterating waits for a database that is away, and between two attempts."""

Kind = Literal["all", "value", "missing", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the table. `quantity` and `external_cost_amount` are exact; times are aware, in UTC."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    product_id: UUID | None
    subscription_id: UUID | None
    metric_key: str
    price_key: str | None
    quantity: Decimal
    timestamp: datetime
    ingested_at: datetime
    idempotency_key: str
    external_cost_amount: Decimal | None
    external_cost_currency: str | None
    wallet_currency: str | None
    dimensions: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON carries it: ids, times and decimals as text, nulls kept."""
        values = {name: _json(getattr(self, name)) for name in self.__slots__}
        return {**values, "dimensions": _json_numbers(self.dimensions)}


@dataclass(frozen=True)
class EventPage:
    """One page of events, newest first, and the way to its neighbours.

    `query` is the question as it took effect, `cursor` the way to the next page, None on the last.
    Iterating gives every event from this page on to the last page. While the database is away, as when it restarts,
    it waits and goes on where it was, for 30 seconds; then, and for what waiting cannot help, the `DatabaseError` says
    where it stopped (`error.cursor`). A page can be pickled, without its store.
    """

    query: EventQuery
    events: tuple[Event, ...]
    cursor: str | None
    store: Store = field(compare=False)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The events as a frame, one column each; decimals as `Decimal`, times as datetime64[us, UTC]."""
        return frames.events(self.events)

    def next(self) -> EventPage | None:
        """The page after this one, None after the last."""
        return self.store.events(self.query.replace(cursor=self.cursor)) if self.cursor else None

    def previous(self) -> EventPage | None:
        """The page before this one, None before the first."""
        return self.store.events_before(self)

    def __iter__(self) -> Iterator[Event]:
        page: EventPage | None = self
        while page is not None:
            yield from page.events
            page = page._following()

    def _following(self) -> EventPage | None:
        """The next page, waited for while the database is away."""
        deadline = time.monotonic() + _AWAY
        while True:
            try:
                return self.next()
            except DatabaseError as error:
                if not isinstance(error, DatabaseUnavailable) or time.monotonic() > deadline:
                    error.cursor = self.cursor
                    error.add_note(f"Go on with store.events(page.query.replace(cursor={self.cursor!r}))")
                    raise
            time.sleep(_PAUSE)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("store", "frame")}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name == "store":
                raise QueryError([Fault("page", "came without its store; ask store.events(page.query) again")])
            raise AttributeError(name)

    def __repr__(self) -> str:
        more = "more to come" if self.cursor else "the last page"
        return f"<EventPage: {len(self.events):,} events, {more}; {describe(self.query)}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{self.frame.to_html(max_rows=20)}"

    def url(self) -> str:
        """The link that opens this very page in the app."""
        return link(self.store.app_url, "events", self.query)

    def to_dict(self) -> dict[str, Any]:
        """The answer as the API gives it."""
        return {
            "data": [event.to_dict() for event in self.events],
            "pagination": {
                "cursor": self.cursor,
                "has_more": self.cursor is not None,
                "limit": self.query.limit,
            },
        }


@dataclass(frozen=True, slots=True)
class Point:
    """A series' value in one bucket `[start, end)`; not `complete` when the bucket is cut or still filling."""

    start: datetime
    end: datetime
    value: Number
    complete: bool


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the answer. `key` is None unless `kind` is "value"; `members` is how many keys it holds."""

    kind: Kind
    key: str | None
    total: Number
    members: int
    points: tuple[Point, ...] = field(repr=False)

    @property
    def label(self) -> str:
        """What to call the series: All, the value itself, (empty), (missing) or Other."""
        if self.kind == "value":
            return self.key or "(empty)"
        return {"all": "All", "missing": "(missing)", "other": "Other"}[self.kind]


@dataclass(frozen=True, slots=True)
class Served:
    """Which path answered, and how long the database took: the rollup, or the events `because` of something."""

    because: str | None
    took: timedelta

    @property
    def path(self) -> Literal["rollup", "events"]:
        """Where the numbers were read. Both paths give the same ones."""
        return "events" if self.because else "rollup"


@dataclass(frozen=True)
class Aggregate:
    """How much, over time: the answer to an `AggregateQuery`, exact to the last digit.

    `query` is the question as it took effect (absolute, scoped, the window capped when `capped`), `now` the
    database's clock. Counts are `int`, sums `Decimal`. `metrics` is how many different metrics are added up: the sum of
    tokens and seconds is a number without a unit. `served` says which path answered and how fast.
    """

    query: AggregateQuery
    series: tuple[Series, ...]
    edges: tuple[datetime, ...]
    now: datetime
    capped: bool
    metrics: int
    app_url: str
    served: Served = field(compare=False)
    store: Store | None = field(default=None, compare=False, repr=False)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The answer, tidy: one row per series and bucket, in ranked order.

        Columns: `start`, `end` (datetime64[us, zone]), `complete` (bool), `key`, `kind`, `label` (str, another for each
        series: "Other (folded)" beside a value "Other"), `value` (int64 for counts, `Decimal` objects for sums).
        """
        return frames.aggregate(self)

    def pivot(self) -> pd.DataFrame:
        """The answer, exact, as a table: a row per bucket (index `start`), a column per series, by its label.

        Excel holds no time zones: `answer.pivot().tz_localize(None).to_excel("usage.xlsx")` writes the zone's clock.
        """
        return frames.pivot(self)

    def wide(self) -> pd.DataFrame:
        """The same for a spreadsheet: the columns `start`, `end` and `complete`, then one per series.

        A series labelled like one of those three is "start (value)". Excel holds no time zones; for `to_excel` take
        them away, which leaves what the zone's clock reads:
        `wide.assign(start=wide["start"].dt.tz_localize(None), end=wide["end"].dt.tz_localize(None))`.
        """
        return frames.wide(self)

    @property
    def plot_frame(self) -> pd.DataFrame:
        """The frame for plotting libraries, as `alt.Chart(answer.plot_frame)`: rounded, to draw and not to add up.

        As `frame`, but `value` is float64, `start` and `end` are what the zone's clock reads, without a zone (an hour
        that the clock shows twice is there twice), and `label` is an ordered category, largest series first.

        Raises `QueryError`, naming `metric`, for values beyond what a chart can draw: 1E-290 to 1E+290.
        """
        from usage_explore.charts.words import undrawable

        if reason := undrawable(self):
            raise QueryError([Fault("metric", reason)])
        return frames.plot(self)

    @property
    def total(self) -> Number:
        """The sum over all series."""
        zero: Number = 0 if self.query.metric == "count" else Decimal(0)
        return exact_sum((series.total for series in self.series), zero)

    def __repr__(self) -> str:
        size = f"{len(self.series):,} series × {len(self.edges) - 1:,} buckets"
        adds = f", {self.adds}" if self.adds else ""
        return f"<Aggregate: {size}, total {plain(self.total)}{adds}; {describe(self.query)}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{frames.totals(self).to_html(max_rows=20)}"

    @property
    def adds(self) -> str:
        """What to know about a sum of unlike quantities: "adds 12 metrics". Empty for counts and for one metric."""
        return f"adds {self.metrics:,} metrics" if self.metrics > 1 and self.query.metric != "count" else ""

    @property
    def folded(self) -> int:
        """How many keys are folded into Other."""
        return sum(series.members for series in self.series if series.kind == "other")

    @property
    def closed_until(self) -> datetime:
        """Until when the answer can be complete: the database's now, or `as_of` where that is earlier."""
        return min(self.now, self.query.as_of or self.now)

    def chart(self, **options: Any) -> alt.Chart | alt.LayerChart:
        """The answer drawn; see `usage_explore.charts.chart` for the options."""
        from usage_explore import charts

        return charts.chart(self, **options)

    def url(self, *, pinned: bool = False) -> str:
        """The link that opens this question in the app; pinned, it shows the same numbers next year.

        To pin it the store is asked once more, see `Store.pin`. Raises `DatabaseError`.
        """
        if not pinned:
            return link(self.app_url, "", self.query)
        if self.store is None:
            raise ConfigurationError("pinned: an answer that was pickled has no store to ask; ask the question again")
        return link(self.app_url, "", self.store.pin(self.query))

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: an answer without its store, whose connections belong to this process."""
        return {**self.__dict__, "store": None}

    def events_at(self, series: Series, start: datetime | None = None, end: datetime | None = None) -> EventQuery:
        """The question for the rows behind a series: in the buckets from `start` to `end`, else in all.

        The law: they are exactly as many as the points count. Raises `QueryError` for a time that is naive, and where a
        kept key is longer than a value may be.
        """
        if not isinstance(series, Series):
            raise QueryError(
                [Fault("series", f"{parse.shorten(series)} is not a series of this answer; take one of its")]
            )
        since, until = self.query.span
        start, end = (None if edge is None else at(name, edge) for name, edge in (("start", start), ("end", end)))
        shared = {name: value for name, value in self.query.given().items() if name in Question.model_fields}
        after, before = max(since, start or since), min(until, end or until)
        return EventQuery(**{**shared, **self._behind(series), "occurred_after": after, "occurred_before": before})

    def to_dict(self) -> dict[str, Any]:
        """The answer as the API gives it."""
        query = self.query
        filters: dict[str, list[str]] = {}
        plain_names = set(type(query).model_fields) - set(Question.model_fields) | {
            "as_of",
            "organization_id",
        }
        for name, value in parameters.values(query):
            if name not in plain_names:
                filters.setdefault(name, []).append(value)
        since, until = query.span
        return {
            "bucket": query.bucket,
            "group_by": query.group_by,
            "metric": query.metric,
            "since": rfc3339(since),
            "until": rfc3339(until),
            "timezone": query.timezone,
            "top": query.top,
            "as_of": rfc3339(query.as_of) if query.as_of else None,
            "capped": self.capped,
            "metrics": self.metrics,
            "filters": filters,
            "series": [self._series_dict(series) for series in self.series],
        }

    def _series_dict(self, series: Series) -> dict[str, Any]:
        return {
            "key": series.key,
            "kind": series.kind,
            "label": series.label,
            "total": _json(series.total),
            "points": [
                {
                    "start": rfc3339(point.start),
                    "end": rfc3339(point.end),
                    "value": _json(point.value),
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
            return {group: series.key}
        excluded = {name: set(values) for name, values in self.query.exclude}
        for kept in self.series:
            if kept.kind == "value" and kept.key is not None:
                excluded.setdefault(group, set()).add(kept.key)
            elif kept.kind == "missing":
                excluded.setdefault("missing", set()).add(group)
        return {"exclude": excluded}


def link(app_url: str, page: str, query: Question) -> str:
    """The app's address for a question."""
    return f"{app_url}/{page}?{query_string(query.to_params())}"


def _json(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, UUID):
        return str(value)
    return value


def _json_numbers(value: Any) -> Any:
    """Dimensions for JSON: a number stays a number where a float carries it exactly, else it becomes text."""
    if isinstance(value, dict):
        return {key: _json_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_numbers(item) for item in value]
    if isinstance(value, Decimal):
        return float(value) if repr(float(value)) == str(value) else format(value, "f")
    return value
