"""The operations that one method of the store answers: parameters, method, and the answer as JSON.

Each is a row of `LOOKUPS`; routes and the OpenAPI document are made from the rows. A client that accepts
`wire.MEDIA_TYPE` gets what the method returned, exact, instead of the JSON.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from usage_explore.answers import Aggregate, Leaderboards
from usage_explore.api.problems import ProblemType
from usage_explore.db.names import Entry
from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError, ScopeError
from usage_explore.event_pages import EventPage
from usage_explore.explain import Explanation
from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.fields import row as fields_of_price
from usage_explore.query.base import Query
from usage_explore.query.queries import AggregateQuery, EventQuery, LeaderboardQuery
from usage_explore.records.views import SavedView
from usage_explore.remote import operations
from usage_explore.remote.operations import (
    ChoiceQuery,
    ComparisonQuery,
    ExplanationQuery,
    NamesQuery,
    OrganizationQuery,
    SearchQuery,
    WithinQuery,
)
from usage_explore.results.currencies import CurrencyCost
from usage_explore.results.types import Choice, Comparison, Hit, json_value
from usage_explore.store import Store

_FILTERS = tuple(name for name in Query.model_fields if name != "organization_id")
"""Parameters that a question about the whole organization has not."""

BUCKET = "bucket"
"""The argument of `Store.explain` that is the parameter `at` over HTTP."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup:
    """An operation: `answer` runs the query, `document` makes the JSON of its result, of the `schema`.

    `pinned` says that the result follows from the query alone once its `as_of` has settled, so that it can be cached.
    `without` are parameters of the query that the operation has not.
    """

    path: str
    summary: str
    description: str
    query: type[Query]
    answer: Callable[[Store, Any], Any]
    document: Callable[[Any], Any]
    schema: str
    pinned: bool = True
    without: tuple[str, ...] = ()
    problems: tuple[ProblemType, ...] = ()


def _previous(store: Store, query: EventQuery) -> EventPage | None:
    if query.cursor is None:  # the first page: nothing is before, but who may not see its organization gets no answer
        store.events(query.replace(limit=1))
        return None
    return store.events_before(EventPage(query=query, events=(), cursor=None, store=store))


def _compare(store: Store, query: ComparisonQuery) -> Comparison:
    given = AggregateQuery(**query.shared_with(AggregateQuery))
    answer = store.aggregate(given.replace(compare=None))
    compared = answer.query.replace(compare=given.compare or "previous")
    return store.compare(replace(answer, query=compared, now=query.read_at or answer.now))


def _explain(store: Store, query: ExplanationQuery) -> Explanation:
    baseline: Any = query.baseline
    if baseline and "/" in baseline:
        baseline = tuple(baseline.split("/"))
    plain = AggregateQuery(**query.shared_with(AggregateQuery))
    try:
        return store.explain(plain, query.at, expected=query.expected, baseline=baseline)
    except QueryError as error:
        faults = [Fault("at", fault.message) if fault.parameter == BUCKET else fault for fault in error.faults]
        raise QueryError(faults) from None


def _search(store: Store, query: SearchQuery) -> list[Hit]:
    within = LeaderboardQuery(**query.shared_with(LeaderboardQuery))
    return store.search(query.text or "", within, query.top)


def _within(query: WithinQuery) -> WithinQuery:
    return WithinQuery(**query.shared_with(WithinQuery))


def _choices(choices: Sequence[Choice]) -> dict[str, Any]:
    return {"choices": [{"value": item.value, "events": item.events, "name": item.name} for item in choices]}


def _currencies(costs: Sequence[CurrencyCost]) -> dict[str, Any]:
    rows = [{"currency": item.currency, "events": item.events, "cost": json_value(item.cost)} for item in costs]
    return {"currencies": rows}


def _hits(hits: Sequence[Hit]) -> dict[str, Any]:
    rows = [{"group": hit.group, "value": hit.value, "name": hit.name, "events": hit.events} for hit in hits]
    return {"hits": rows}


def _entries(entries: Sequence[Entry]) -> dict[str, Any]:
    return {"names": [{name: json_value(value) for name, value in entry._asdict().items()} for entry in entries]}


def _views(views: Sequence[SavedView]) -> dict[str, Any]:
    return {"views": [{item.name: json_value(getattr(view, item.name)) for item in fields(view)} for view in views]}


def _prices(book: PriceBook | None) -> dict[str, Any]:
    rows = [] if book is None else book.prices
    prices = [{name: json_value(value) for name, value in fields_of_price(price).items()} for price in rows]
    return {"source": None if book is None else book.source, "prices": prices}


def _extent(extent: Any) -> dict[str, Any]:
    first, last = extent or (None, None)
    return {"first": first and rfc3339(first), "last": last and rfc3339(last)}


def state(store: Store, query: OrganizationQuery) -> dict[str, Any]:
    """The organization, the latest arrival that has settled, the database's clock and the settle time."""
    own = OrganizationQuery(organization_id=store.pin(query).organization_id)
    return {
        "organization_id": str(own.organization_id),
        "organization": store.organization_name(own),
        "now": rfc3339(store.now()),
        "known": (known := store.scoped(own.organization_id).known()) and rfc3339(known),  # type: ignore[arg-type]
        "settle_seconds": store.settle.total_seconds(),
        "app_url": store.app_url,
    }


def organizations(store: Store, query: OrganizationQuery) -> dict[str, Any]:
    """The organizations that may be read, with their names, and the database's clock."""
    names = store.organization_names()
    visible, chosen = store.organizations(), query.organization_id
    if chosen is not None:
        if chosen not in visible:
            raise ScopeError.refusing(chosen)
        visible = (chosen,)
    return {
        "now": rfc3339(store.now()),
        "organizations": [{"id": str(id_), "name": names.name("organization_id", id_)} for id_ in visible],
    }


def _unchanged(result: Any) -> Any:
    return result


def _to_dict(result: Aggregate | Comparison | EventPage | Explanation | Leaderboards | None) -> Any:
    return None if result is None else result.to_dict()


LOOKUPS: tuple[Lookup, ...] = (
    Lookup(
        path=operations.PREVIOUS,
        summary="The page before",
        description="The page before that of `cursor`; null before the first.",
        query=EventQuery,
        answer=_previous,
        document=_to_dict,
        schema="PreviousPage",
    ),
    Lookup(
        path=operations.COUNT,
        summary="Count usage events",
        description="The number of events of the query, on all pages.",
        query=EventQuery,
        without=("limit", "cursor"),
        answer=lambda store, query: store.count(query),
        document=lambda events: {"events": events},
        schema="Count",
    ),
    Lookup(
        path=operations.EXTENT,
        summary="First and last event",
        description="The times of the first and the last event of the query; null without events.",
        query=EventQuery,
        without=("limit", "cursor"),
        answer=lambda store, query: store.extent(query),
        document=_extent,
        schema="Extent",
    ),
    Lookup(
        path=operations.LEADERBOARDS,
        summary="Leaderboards",
        description="The largest values of every column and dimension under the query's filters and window, with their"
        " shares.",
        query=LeaderboardQuery,
        answer=lambda store, query: store.leaderboards(query),
        document=_to_dict,
        schema="Leaderboards",
        problems=(ProblemType.NOT_EXACT,),
    ),
    Lookup(
        path=operations.COMPARISON,
        summary="Compare with another period",
        description="The `comparison` of the aggregate with another period, by default the one before.",
        query=ComparisonQuery,
        answer=_compare,
        document=_to_dict,
        schema="Comparison",
        pinned=False,
        problems=(ProblemType.NOT_EXACT,),
    ),
    Lookup(
        path=operations.EXPLANATION,
        summary="Why did it change",
        description="The change in a bucket, or in the whole window, and the few values that account for it: cells"
        " without common events, which add up to the change with the rest.",
        query=ExplanationQuery,
        answer=_explain,
        document=_to_dict,
        schema="Explanation",
        pinned=False,
        problems=(ProblemType.NOT_EXACT,),
    ),
    Lookup(
        path=operations.CHOICES,
        summary="Values to choose from",
        description="The values of a column or dimension with their number of events, most frequent first.",
        query=ChoiceQuery,
        answer=lambda store, query: store.values(query.group, _within(query), query.most),
        document=_choices,
        schema="Choices",
    ),
    Lookup(
        path=operations.DIMENSIONS,
        summary="Dimensions to choose from",
        description="The dimension keys with their number of events, most frequent first.",
        query=WithinQuery,
        answer=lambda store, query: store.dimension_keys(query),
        document=_choices,
        schema="Choices",
    ),
    Lookup(
        path=operations.CURRENCIES,
        summary="Currencies of costs",
        description="The currencies of the costs, with their events and exact sums; null is a cost without a currency.",
        query=WithinQuery,
        answer=lambda store, query: store.currencies(query),
        document=_currencies,
        schema="Currencies",
    ),
    Lookup(
        path=operations.SEARCH,
        summary="Search",
        description="Where a text occurs: as an event's id or an idempotency key, whole and at any time; in names and"
        " values of columns and dimensions, any part, with their events in the window.",
        query=SearchQuery,
        without=("metric",),
        answer=_search,
        document=_hits,
        schema="Hits",
        pinned=False,
    ),
    Lookup(
        path=operations.NAMES,
        summary="Search names",
        description="Customers, products and subscriptions with the text in name, external id or id.",
        query=NamesQuery,
        without=_FILTERS,
        answer=lambda store, query: store.scoped(store.pin(query).organization_id).search_names(
            query.text or "", query.column, query.most
        ),
        document=_entries,
        schema="Names",
        pinned=False,
    ),
    Lookup(
        path=operations.VIEWS,
        summary="List saved views",
        description="The organization's saved views, by name: their queries, live and pinned, and the headline number"
        " of the pinned one.",
        query=OrganizationQuery,
        without=_FILTERS,
        answer=lambda store, query: store.scoped(store.pin(query).organization_id).views(),
        document=_views,
        schema="Views",
        pinned=False,
    ),
    Lookup(
        path=operations.PRICES,
        summary="Price book",
        description="The organization's price book in the table `usage_prices`: the prices by which ratings and invoice"
        " lines are computed. `source` is null without a book.",
        query=OrganizationQuery,
        without=_FILTERS,
        answer=lambda store, query: store.scoped(store.pin(query).organization_id).prices(),
        document=_prices,
        schema="Prices",
        pinned=False,
    ),
    Lookup(
        path=operations.STATE,
        summary="State of the organization",
        description="The organization, the latest arrival that has settled, the database's clock and the settle time:"
        " what a client pins a query with.",
        query=OrganizationQuery,
        without=_FILTERS,
        answer=state,
        document=_unchanged,
        schema="OrganizationState",
        pinned=False,
    ),
    Lookup(
        path=operations.ORGANIZATIONS,
        summary="Organizations",
        description="The organizations that may be read, and the database's clock.",
        query=OrganizationQuery,
        without=_FILTERS,
        answer=organizations,
        document=_unchanged,
        schema="Organizations",
        pinned=False,
    ),
)
