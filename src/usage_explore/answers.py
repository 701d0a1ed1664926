"""What comes back: pages of events, and aggregates with the question that made them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from usage_explore.decimals import plain, rfc3339
from usage_explore.errors import ConfigurationError, DatabaseError, DatabaseUnavailable, Fault, QueryError
from usage_explore.query import url_params, validators
from usage_explore.query.base import Question, parsed_instant
from usage_explore.query.describe import describe
from usage_explore.query.filters import DIMENSION, TEXT_COLUMNS, dimension_key
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.url_params import link
from usage_explore.results import frames
from usage_explore.results.types import AggregateData, Event, Series, json_value

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_AWAY, _PAUSE = 30.0, 0.5
"""Seconds that iterating waits for a database that is away, and between two attempts."""


class PageSource(Protocol):
    """What a page asks for its neighbours: the store that it came from."""

    @property
    def app_url(self) -> str:
        """What links into the app begin with."""
        ...

    def events(self, query: EventQuery, /) -> EventPage:
        """A page of events."""
        ...

    def events_before(self, page: EventPage, /) -> EventPage | None:
        """The page before, None before the first."""
        ...


class PinSource(Protocol):
    """What an answer asks for its pinned link: the store that it came from."""

    def pin(self, query: AggregateQuery, /) -> AggregateQuery:
        """The query as of the latest arrival that has settled."""
        ...


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
    store: PageSource = field(compare=False)

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


@dataclass(frozen=True)
class Aggregate(AggregateData):
    """How much, over time: the answer to an `AggregateQuery`, exact to the last digit.

    `query` is the question as it took effect (absolute, scoped, the window capped when `capped`), `now` the
    database's clock. Counts are `int`, sums `Decimal`. `metrics` is how many different metrics are added up: the sum of
    tokens and seconds is a number without a unit. `served` says which path answered and how fast.
    """

    app_url: str
    store: PinSource | None = field(default=None, compare=False, repr=False)

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
        from usage_explore.charts.labels import undrawable

        if reason := undrawable(self):
            raise QueryError([Fault("metric", reason)])
        return frames.plot(self)

    def __repr__(self) -> str:
        size = f"{len(self.series):,} series × {len(self.edges) - 1:,} buckets"
        adds = f", {self.adds}" if self.adds else ""
        return f"<Aggregate: {size}, total {plain(self.total)}{adds}; {describe(self.query)}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{frames.totals(self).to_html(max_rows=20)}"

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
                [Fault("series", f"{validators.shorten(series)} is not a series of this answer; take one of its")]
            )
        since, until = self.query.span
        start, end = (
            None if edge is None else parsed_instant(name, edge) for name, edge in (("start", start), ("end", end))
        )
        shared = self.query.shared_with(EventQuery)
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
        for name, value in url_params.values(query):
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
            "total": json_value(series.total),
            "points": [
                {
                    "start": rfc3339(point.start),
                    "end": rfc3339(point.end),
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


class AggregateSource(Protocol):
    """What comparisons and reports ask further aggregates of: the store."""

    def aggregate(self, query: AggregateQuery, /) -> Aggregate:
        """An answer."""
        ...

    def first_event(self, as_of: datetime | None, /) -> datetime | None:
        """When the organization's first event occurred."""
        ...
