"""What a page shows, as a value: its question and the few things that only concern the looking.

Each view is read from URL parameters and written as them. All faults of a link are reported together.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Self, cast, get_args
from uuid import UUID

from usage_explore.app.url import Pairs
from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError
from usage_explore.query import validators
from usage_explore.query.base import START, Question
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.results.types import SeriesKind

ChartKind = Literal["bars", "lines", "area"]
Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class ExploreView:
    """The Explore page: a question, how it is drawn, and the bar or span whose events are listed.

    `series` is the (kind, key) of a picked series, None for all of them; `span` the picked time.
    """

    query: AggregateQuery
    chart: ChartKind = "bars"
    series: tuple[SeriesKind, str | None] | None = None
    span: Span | None = None

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view a link asks for; where it names an organization at most, the start page. Raises `QueryError`."""
        question, own, faults = _split(pairs, ("chart", "series", "span"))
        found: dict[str, Any] = {}
        for name, read in (("chart", _chart), ("series", _series), ("span", _span)):
            if name in own:
                try:
                    found[name] = read(own[name])
                except ValueError as error:
                    faults.append(Fault(name, str(error)))
        query = _question(AggregateQuery, started(question, START["AggregateQuery"]), faults)
        return cls(cast("AggregateQuery", query), **found)

    def to_params(self) -> Pairs:
        """The view as URL parameters; defaults are left out."""
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
        """The zone of every time on the page."""
        return self.query.timezone

    def asking(self, query: Question) -> ExploreView:
        """The view of another `AggregateQuery`: the picked time stays, the picked series while the grouping does.

        Another organization's view has nothing picked.
        """
        asked = cast("AggregateQuery", query)
        if asked.organization_id != self.query.organization_id:
            return ExploreView(asked, self.chart)
        series = self.series if asked.group_by == self.query.group_by else None
        return ExploreView(asked, self.chart, series, self.span)

    def replace(self, **changes: Any) -> ExploreView:
        """A copy with some of the view's own fields changed."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class EventsView:
    """The Events page: a question, the zone its times are shown in, and the event shown in full.

    `event` is (timestamp, id): the time finds the event quickly however many came since.
    """

    query: EventQuery
    timezone: str = "UTC"
    event: tuple[datetime, UUID] | None = None

    @classmethod
    def from_params(cls, pairs: Pairs) -> Self:
        """The view a link asks for. Raises `QueryError`."""
        question, own, faults = _split(pairs, ("timezone", "event"))
        found: dict[str, Any] = {}
        for name, read in (("timezone", validators.zone_name), ("event", _event)):
            if name in own:
                try:
                    found[name] = read(own[name])
                except ValueError as error:
                    faults.append(Fault(name, str(error)))
        return cls(cast("EventQuery", _question(EventQuery, question, faults)), **found)

    def to_params(self) -> Pairs:
        """The view as URL parameters; defaults are left out."""
        own = []
        if self.timezone != "UTC":
            own.append(("timezone", self.timezone))
        if self.event:
            own.append(("event", f"{rfc3339(self.event[0])}/{self.event[1]}"))
        return (*self.query.to_params(), *own)

    def asking(self, query: Question) -> EventsView:
        """The view of another `EventQuery`, from its first page on."""
        return EventsView(cast("EventQuery", query).replace(cursor=None), self.timezone)

    def replace(self, **changes: Any) -> EventsView:
        """A copy with some of the view's own fields changed."""
        return dataclasses.replace(self, **changes)


def started(pairs: Pairs, start: Pairs) -> Pairs:
    """The parameters of a link's question: those the start page has where the link names an organization at most."""
    return pairs if any(name != "organization_id" for name, _ in pairs) else (*pairs, *start)


def explicit(query: AggregateQuery | Period) -> Pairs:
    """The question's parameters in a link; one of all defaults names its `since`, as it is not the start page's."""
    return started(query.to_params(), (("since", str(query.since)),))


def shared_filters(query: Question) -> dict[str, Any]:
    """What both questions have in common, to carry from one page to the other."""
    return {name: value for name, value in query.given().items() if name in Question.model_fields}


def _split(pairs: Pairs, names: tuple[str, ...]) -> tuple[Pairs, dict[str, str], list[Fault]]:
    own: dict[str, str] = {}
    faults = []
    for name, value in pairs:
        if name in names:
            if name in own:
                faults.append(Fault(name, "is given more than once; give it once"))
            own[name] = value
    return tuple(pair for pair in pairs if pair[0] not in names), own, faults


def _question(model: type[Question], pairs: Pairs, faults: list[Fault]) -> Question:
    try:
        question = model.from_params(pairs)
    except QueryError as error:
        raise QueryError([*error.faults, *faults]) from None
    if faults:
        raise QueryError(faults)
    return question


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
