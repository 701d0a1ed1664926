"""The state of a page as a value: its query and its display options, such as the chart's kind or the open finding.

A view is parsed from URL parameters and written as URL parameters. All faults of a link are reported together.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Self, cast
from uuid import UUID

from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import Query
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.query.url_params import START
from usage_explore.results.types import SeriesKind
from usage_explore.store.display import DISPLAY, ChartKind, Order, Span, Tab
from usage_explore.validation import Finding
from usage_explore.validation.review import Review

Pairs = tuple[tuple[str, str], ...]
"""URL parameters as (name, value), in order; a name may repeat."""

_WINDOW_PARAMETERS = ("since", "until", "window")
_CUSTOMER_PARAMETERS = ("organization_id", "customer_id", *_WINDOW_PARAMETERS, "timezone", "as_of", "complete_until")


@dataclass(frozen=True)
class ExploreView:
    """The Explore page: a query, the chart's kind, the selected bar or span, the order of the ranking, the open tab.

    `series` is the (kind, key) of the selected series, None for all series; `span` is the selected time. With either,
    headline, ranking, leaderboards and rows are those of the selection.
    """

    path: ClassVar[str] = ""
    query: AggregateQuery
    chart: ChartKind = "bars"
    series: tuple[SeriesKind, str | None] | None = None
    span: Span | None = None
    order: Order = "total"
    tab: Tab = "events"

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link; the start page if it has no parameter but `organization_id`. Raises `QueryError`."""
        query_pairs, values, faults = _split(pairs, DISPLAY["explore"])
        query = _query(AggregateQuery, started(query_pairs, START["AggregateQuery"]), faults)
        if "rank" in values:
            values["order"] = values.pop("rank")
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
        if self.order != "total":
            own.append(("rank", self.order))
        if self.tab != "events":
            own.append(("tab", self.tab))
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
            return ExploreView(changed, self.chart, order=self.order, tab=self.tab)
        series = self.series if changed.group_by == self.query.group_by else None
        return self.replace(query=changed, series=series)

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
        query_pairs, values, faults = _split(pairs, DISPLAY["events"])
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


@dataclass(frozen=True)
class ValidateView:
    """The Validate page. An empty tuple does not filter the list of findings.

    `customers` are ids, `metrics` metric keys, `states` those of a review; `finding` is the id of the open finding.
    """

    path: ClassVar[str] = "validate"
    query: Period
    severities: tuple[str, ...] = ()
    checks: tuple[str, ...] = ()
    customers: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    finding: str | None = None
    states: tuple[str, ...] = ()

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link; last month if it has no parameter but `organization_id`. Raises `QueryError`."""
        faults: list[Fault] = []
        filters = {field: _read(name, pairs, faults) for field, name in _LISTS.items()}
        opened = _read("finding", pairs, faults)
        if len(opened) > 1:
            faults.append(Fault("finding", "is given more than once; give it once"))
        query_pairs = started(tuple(pair for pair in pairs if pair[0] not in DISPLAY["validate"]), START["Period"])
        try:
            query = Period.from_params(query_pairs)
        except QueryError as error:
            raise QueryError([*error.faults, *faults]) from None
        if faults:
            raise QueryError(faults)
        return cls(query, **filters, finding=opened[0] if opened else None)

    def to_params(self) -> Pairs:
        """The view as URL parameters, without defaults."""
        own = [(name, value) for field, name in _LISTS.items() for value in getattr(self, field)]
        return (*explicit(self.query), *own, *((("finding", self.finding),) if self.finding else ()))

    @property
    def timezone(self) -> str:
        """The time zone of all times on the page."""
        return self.query.timezone

    def in_timezone(self, timezone: str) -> ValidateView:
        """The same view in another time zone."""
        return self.with_query(self.query.replace(timezone=timezone))

    def with_query(self, query: Query) -> ValidateView:
        """The view of another `Period`, without the open finding and the list's filters on customers and metrics."""
        return ValidateView(cast("Period", query), self.severities, self.checks, states=self.states)

    def replace(self, **changes: Any) -> ValidateView:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def listed(self, findings: Iterable[Finding], review: Review | None = None) -> tuple[Finding, ...]:
        """The findings that match the view's filters, in the given order; those on states need a review."""
        wanted = (
            (self.severities, "severity"),
            (self.checks, "check"),
            (self.customers, "customer_id"),
            (self.metrics, "metric_key"),
        )
        return tuple(
            finding
            for finding in findings
            if all(not values or str(getattr(finding, field)) in values for values, field in wanted)
            and (review is None or not self.states or set(self.states).intersection(review.of(finding).states))
        )


@dataclass(frozen=True)
class CustomerView:
    """The Customer page: one customer in a window, and the currency whose costs are drawn beside each metric.

    Of the query only the customer, the window, the time zone and `as_of` count. Without `customer_id` the page offers
    customers to choose from; without `currency` it draws costs in the currency of most events.
    """

    path: ClassVar[str] = "customer"
    query: AggregateQuery
    currency: str | None = None

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link; the last 30 days if it names no window. Raises `QueryError`."""
        query_pairs, values, faults = _split(pairs, DISPLAY["customer"])
        faults += [
            Fault(name, f"is not a parameter of this page; it has {', '.join(_CUSTOMER_PARAMETERS)} and currency")
            for name in dict.fromkeys(name for name, _ in query_pairs)
            if name not in _CUSTOMER_PARAMETERS
        ]
        known = tuple(pair for pair in query_pairs if pair[0] in _CUSTOMER_PARAMETERS)
        if not any(name in _WINDOW_PARAMETERS for name, _ in known):
            known = (*known, *(pair for pair in START["AggregateQuery"] if pair[0] == "since"))
        return cls(cast("AggregateQuery", _query(AggregateQuery, known, faults)), **values)

    @classmethod
    def of(cls, query: Query, customer_id: UUID | str | None, timezone: str | None = None, **window: Any) -> Self:
        """The page of a customer in the window and with the `as_of` of a query, without its other filters."""
        shared = {
            name: value for name, value in query.shared_with(AggregateQuery).items() if name in _CUSTOMER_PARAMETERS
        }
        more = {"customer_id": customer_id, **({"timezone": timezone} if timezone else {}), **window}
        return cls(AggregateQuery(**{**shared, **more}))

    def to_params(self) -> Pairs:
        """The view as URL parameters, without defaults; its window is always named."""
        pairs = tuple(pair for pair in self.query.to_params() if pair[0] in _CUSTOMER_PARAMETERS)
        if not any(name in _WINDOW_PARAMETERS for name, _ in pairs):
            pairs = (*pairs, ("since", str(self.query.since)))
        return (*pairs, *((("currency", self.currency),) if self.currency is not None else ()))

    @property
    def timezone(self) -> str:
        """The time zone of all times on the page."""
        return self.query.timezone

    def in_timezone(self, timezone: str) -> CustomerView:
        """The same view in another time zone."""
        return self.with_query(self.query.replace(timezone=timezone))

    def with_query(self, query: Query) -> CustomerView:
        """The view of another `AggregateQuery`. The currency stays with the customer."""
        same = query.customer_id == self.query.customer_id
        return CustomerView.of(query, query.customer_id).replace(currency=self.currency if same else None)

    def replace(self, **changes: Any) -> CustomerView:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class LoadView:
    """The Load page, with the organization of its links to the other pages; a file is in no link."""

    path: ClassVar[str] = "load"
    organization_id: UUID | None = None

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link. Raises `QueryError`."""
        others, values, faults = _split(pairs, {"organization_id": validators.uuid})
        faults += [Fault(name, "is not a parameter of this page; it has organization_id") for name, _ in others]
        if faults:
            raise QueryError(faults)
        return cls(**values)

    def to_params(self) -> Pairs:
        """The view as URL parameters."""
        return (("organization_id", str(self.organization_id)),) if self.organization_id else ()


@dataclass(frozen=True)
class HomeView:
    """The Home page: an organization, and the time zone of the displayed times."""

    path: ClassVar[str] = "home"
    query: EventQuery
    timezone: str = "UTC"

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view of a link. Raises `QueryError`."""
        others, values, faults = _split(pairs, {"organization_id": validators.uuid, "timezone": validators.zone_name})
        faults += [
            Fault(name, "is not a parameter of this page; it has organization_id, timezone") for name, _ in others
        ]
        if faults:
            raise QueryError(faults)
        return cls(EventQuery(organization_id=values.get("organization_id")), values.get("timezone", "UTC"))

    def to_params(self) -> Pairs:
        """The view as URL parameters, without defaults."""
        return (*self.query.to_params(), *((("timezone", self.timezone),) if self.timezone != "UTC" else ()))

    def in_timezone(self, timezone: str) -> HomeView:
        """The same view in another time zone."""
        return self.replace(timezone=timezone)

    def with_query(self, query: Query) -> HomeView:
        """The view of the query's organization."""
        return HomeView(EventQuery(organization_id=query.organization_id), self.timezone)

    def replace(self, **changes: Any) -> HomeView:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    @property
    def explore(self) -> ExploreView:
        """The start view of the Explore page."""
        shared = (("organization_id", self.query.organization_id), ("timezone", self.timezone))
        return ExploreView(AggregateQuery(**dict((*shared, *START["AggregateQuery"]))))

    @property
    def validate(self) -> ValidateView:
        """The start view of the Validate page."""
        shared = (("organization_id", self.query.organization_id), ("timezone", self.timezone))
        return ValidateView(Period(**dict((*shared, *START["Period"]))))


def started(pairs: Pairs, start: Pairs) -> Pairs:
    """The parameters of a link's query, with those of the start page if it has none but `organization_id`."""
    return pairs if any(name != "organization_id" for name, _ in pairs) else (*pairs, *start)


def explicit(query: AggregateQuery | Period) -> Pairs:
    """The query's parameters in a link. A query of defaults only names its `since`, else it would be the start page."""
    return started(query.to_params(), (("since", str(query.since)),))


def _split(pairs: Pairs, readers: Mapping[str, Callable[[str], Any]]) -> tuple[Pairs, dict[str, Any], list[Fault]]:
    """The query's parameters, the display options that `readers` parse, and the faults of the options."""
    own: dict[str, str] = {}
    values: dict[str, Any] = {}
    faults = []
    for name, value in pairs:
        if name in readers:
            if name in own:
                faults.append(Fault(name, "is given more than once; give it once"))
            own[name] = value
    for name, read in readers.items():
        if name in own:
            try:
                values[name] = read(own[name])
            except ValueError as error:
                faults.append(Fault(name, str(error)))
    return tuple(pair for pair in pairs if pair[0] not in readers), values, faults


def _query(model: type[Query], pairs: Pairs, faults: list[Fault]) -> Query:
    try:
        query = model.from_params(pairs)
    except QueryError as error:
        raise QueryError([*error.faults, *faults]) from None
    if faults:
        raise QueryError(faults)
    return query


def _read(name: str, pairs: Pairs, faults: list[Fault]) -> tuple[str, ...]:
    values = []
    for value in (value for parameter, value in pairs if parameter == name):
        try:
            values.append(DISPLAY["validate"][name](value))
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    return tuple(dict.fromkeys(values))


_LISTS = {
    "severities": "severity",
    "checks": "check",
    "customers": "about_customer",
    "metrics": "about_metric",
    "states": "state",
}
"""The list's filters: the view's field, and its URL parameter (repeatable)."""
