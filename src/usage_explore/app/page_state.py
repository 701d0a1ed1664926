"""The state of a page as a value: its query and its display options, such as the chart's kind or the selected event.

A view is parsed from URL parameters and written as URL parameters. All faults of a link are reported together.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar, Literal, Self, cast, get_args
from uuid import UUID

from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import START, Query
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.results.types import SeriesKind

ChartKind = Literal["bars", "lines", "area"]
Span = tuple[datetime, datetime]
Pairs = tuple[tuple[str, str], ...]
"""URL parameters as (name, value), in order; a name may repeat."""


@dataclass(frozen=True)
class ExploreView:
    """The Explore page: a query, the chart's kind, and the selected bar or span, whose events are listed.

    `series` is the (kind, key) of the selected series, None for all series; `span` is the selected time.
    """

    path: ClassVar[str] = ""
    query: AggregateQuery
    chart: ChartKind = "bars"
    series: tuple[SeriesKind, str | None] | None = None
    span: Span | None = None

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link; the start page if it has no parameter but `organization_id`. Raises `QueryError`."""
        query_pairs, own, faults = _split(pairs, ("chart", "series", "span"))
        values: dict[str, Any] = {}
        for name, read in (("chart", _chart), ("series", _series), ("span", _span)):
            if name in own:
                try:
                    values[name] = read(own[name])
                except ValueError as error:
                    faults.append(Fault(name, str(error)))
        query = _query(AggregateQuery, started(query_pairs, START["AggregateQuery"]), faults)
        return cls(cast("AggregateQuery", query), **values)

    def to_params(self) -> Pairs:
        """The view as URL parameters, without defaults."""
        own: list[tuple[str, str]] = []
        if self.chart != "bars":
            own.append(("chart", self.chart))
        if self.series:
            kind, key = self.series
            own.append(("series", kind if key is None else f"{kind}:{key}"))
        if self.span:
            own.append(("span", "/".join(map(rfc3339, self.span))))
        return (*explicit(self.query), *own)

    @property
    def timezone(self) -> str:
        """The time zone of all times on the page."""
        return self.query.timezone

    def in_timezone(self, timezone: str) -> ExploreView:
        """The same view in another time zone."""
        return self.with_query(self.query.replace(timezone=timezone))

    def with_query(self, query: Query) -> ExploreView:
        """The view of another `AggregateQuery`. The selected span stays; the selected series if the grouping stays.

        The view of another organization has no selection.
        """
        changed = cast("AggregateQuery", query)
        if changed.organization_id != self.query.organization_id:
            return ExploreView(changed, self.chart)
        series = self.series if changed.group_by == self.query.group_by else None
        return ExploreView(changed, self.chart, series, self.span)

    def replace(self, **changes: Any) -> ExploreView:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class EventsView:
    """The Events page: a query, the time zone of the displayed times, and the event shown in full.

    `event` is (timestamp, id): with the timestamp, the event is found by an index scan.
    """

    path: ClassVar[str] = "events"
    query: EventQuery
    timezone: str = "UTC"
    event: tuple[datetime, UUID] | None = None

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link. Raises `QueryError`."""
        query_pairs, own, faults = _split(pairs, ("timezone", "event"))
        values: dict[str, Any] = {}
        for name, read in (("timezone", validators.zone_name), ("event", _event)):
            if name in own:
                try:
                    values[name] = read(own[name])
                except ValueError as error:
                    faults.append(Fault(name, str(error)))
        return cls(cast("EventQuery", _query(EventQuery, query_pairs, faults)), **values)

    def to_params(self) -> Pairs:
        """The view as URL parameters, without defaults."""
        own = []
        if self.timezone != "UTC":
            own.append(("timezone", self.timezone))
        if self.event:
            own.append(("event", f"{rfc3339(self.event[0])}/{self.event[1]}"))
        return (*self.query.to_params(), *own)

    def in_timezone(self, timezone: str) -> EventsView:
        """The same view in another time zone."""
        return self.replace(timezone=timezone)

    def with_query(self, query: Query) -> EventsView:
        """The first page of another `EventQuery`."""
        return EventsView(cast("EventQuery", query).replace(cursor=None), self.timezone)

    def replace(self, **changes: Any) -> EventsView:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def started(pairs: Pairs, start: Pairs) -> Pairs:
    """The parameters of a link's query, with those of the start page if it has none but `organization_id`."""
    return pairs if any(name != "organization_id" for name, _ in pairs) else (*pairs, *start)


def explicit(query: AggregateQuery | Period) -> Pairs:
    """The query's parameters in a link. A query of defaults only names its `since`, else it would be the start page."""
    return started(query.to_params(), (("since", str(query.since)),))


def _split(pairs: Pairs, names: tuple[str, ...]) -> tuple[Pairs, dict[str, str], list[Fault]]:
    own: dict[str, str] = {}
    faults = []
    for name, value in pairs:
        if name in names:
            if name in own:
                faults.append(Fault(name, "is given more than once; give it once"))
            own[name] = value
    return tuple(pair for pair in pairs if pair[0] not in names), own, faults


def _query(model: type[Query], pairs: Pairs, faults: list[Fault]) -> Query:
    try:
        query = model.from_params(pairs)
    except QueryError as error:
        raise QueryError([*error.faults, *faults]) from None
    if faults:
        raise QueryError(faults)
    return query


def _chart(value: str) -> str:
    return str(validators.choice(value, allowed=get_args(ChartKind)))


def _series(value: str) -> tuple[SeriesKind, str | None]:
    kind, colon, key = value.partition(":")
    if kind not in get_args(SeriesKind) or bool(colon) != (kind == "value"):
        raise ValueError("is not all, missing, other or value:<key>; click the bar again")
    return cast("SeriesKind", kind), key if colon else None


def _span(value: str) -> Span:
    since, slash, until = value.partition("/")
    if not slash:
        raise ValueError("is not two times with / between them; click the bar again")
    start, end = validators.instant(since), validators.instant(until)
    if start >= end:
        raise ValueError("does not start before it ends; click the bar again")
    return start, end


def _event(value: str) -> tuple[datetime, UUID]:
    moment, slash, identity = value.partition("/")
    if not slash:
        raise ValueError("is not a time and an id with / between them; select the event again")
    return validators.instant(moment).astimezone(UTC), validators.uuid(identity)
