"""What is asked: aggregates Q1 to Q13, leaderboards, pages and pickers, all over windows that end at `until`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from benchmarks.rows import customer, organization
from usage_explore import AggregateQuery, EventQuery

PINNED_AGO = timedelta(hours=20)
"""How long ago the pinned questions were pinned; their window ended then."""

PINNED_BETWEEN = timedelta(days=3, hours=7, minutes=13, seconds=21, microseconds=654_321)
"""How long ago Q13 was pinned: at no full hour, minute or second."""

SETTLE = timedelta(minutes=5)
DEPTH = 1_000_000

BOARDS = (
    *("customer_id", "product_id", "subscription_id", "metric_key", "price_key", "wallet_currency"),
    *("dim:model", "dim:status", "dim:api_key"),
)
RARE = 1_500
"""The rank of a customer with about one event in 12,000."""


@dataclass(frozen=True)
class Aggregated:
    """An aggregate."""

    name: str
    words: str
    query: AggregateQuery


@dataclass(frozen=True)
class Ranked:
    """Leaderboards: the `top` values of each group under the query's filters, in its window."""

    name: str
    words: str
    query: AggregateQuery
    groups: tuple[str, ...]


@dataclass(frozen=True)
class Paged:
    """A page of events, `depth` events below the newest."""

    name: str
    words: str
    query: EventQuery
    depth: int = 0


@dataclass(frozen=True)
class Picked:
    """The values of a group with their number of events, or with `group` `keys` the dimension keys."""

    name: str
    words: str
    group: str


Query = Aggregated | Ranked | Paged | Picked


def aggregates(until: datetime) -> list[Aggregated]:
    """Q1 to Q13, and Q1 to Q5 as they were pinned 20 hours before."""

    def asked(name: str, words: str, days: int, **given: Any) -> Aggregated:
        since = until - timedelta(days=days)
        query = AggregateQuery(organization_id=organization(), since=since, until=until, **given)
        return Aggregated(name, words, query)

    west, ranked = {"region": "eu-west"}, customer(9)
    live = [
        asked("Q1", "30 days by day, events by metric", 30, group_by="metric_key"),
        asked("Q2", "90 days by hour, quantity", 90, bucket="hour", metric="sum_quantity"),
        asked("Q3", "30 days by day, quantity by model", 30, metric="sum_quantity", group_by="dim:model"),
        asked(
            "Q4", "90 days by week, a customer by metric", 90, bucket="week", group_by="metric_key", customer_id=ranked
        ),
        asked("Q5", "30 days by day, events by API key (500)", 30, group_by="dim:api_key"),
        asked("Q6", "90 days by day in Europe/Berlin, events", 90, timezone="Europe/Berlin"),
        asked("Q7", "30 days by day, one region by metric", 30, group_by="metric_key", dimensions=west),
        asked("Q8", "30 days by day, one region by model", 30, group_by="dim:model", dimensions=west),
        asked("Q9", "30 days by day in Asia/Kathmandu (+05:45)", 30, timezone="Asia/Kathmandu"),
        asked(
            "Q10",
            "120 days by week, quantity by wallet",
            120,
            bucket="week",
            metric="sum_quantity",
            group_by="wallet_currency",
        ),
        asked("Q11", "30 days by day, a customer by model", 30, group_by="dim:model", customer_id=ranked),
        asked(
            "Q12",
            "30 days by day, two regions without a model by status",
            30,
            group_by="dim:status",
            dimensions={"region": ["eu-west", "us-east"]},
            exclude={"dim:model": "mini"},
        ),
    ]
    pinned = [
        Aggregated(f"{each.name}p", f"{each.words}; pinned", _pinned(each.query, until - PINNED_AGO))
        for each in live[:5]
    ]
    between = Aggregated("Q13", "Q1 pinned at an arbitrary instant", _pinned(live[0].query, until - PINNED_BETWEEN))
    return [*live, between, *pinned]


def leaderboards(until: datetime) -> Ranked:
    """L: the five largest values of nine columns and dimensions in one region."""
    query = AggregateQuery(
        organization_id=organization(),
        since=until - timedelta(days=30),
        until=until,
        bucket="week",
        dimensions={"region": "eu-west"},
        top=5,
    )
    return Ranked("L", "30 days, nine leaderboards of one region", query, BOARDS)


def pages() -> list[Paged]:
    """The first page, a page far down, and first pages under filters that few events pass."""
    everything = EventQuery(organization_id=organization(), limit=100)
    rare = customer(RARE)
    return [
        Paged("P1", "first page", everything),
        Paged("P2", f"page at depth {DEPTH:,}", everything, DEPTH),
        Paged("P3", "first page of a rare customer", everything.replace(customer_id=rare)),
        Paged("P4", "first page of a rare API key", everything.replace(dimensions={"api_key": "key-499"})),
        Paged("P5", "first page of a metric (3 %)", everything.replace(metric_key="images")),
        Paged(
            "P6",
            "first page of a metric and a rare API key",
            everything.replace(metric_key="images", dimensions={"api_key": "key-499"}),
        ),
    ]


def pickers() -> list[Picked]:
    """What the app offers to choose from."""
    return [
        Picked("V1", "metric keys", "metric_key"),
        Picked("V2", "dimension keys", "keys"),
        Picked("V3", "values of a dimension", "dim:model"),
        Picked("V4", "customers", "customer_id"),
    ]


def _pinned(query: AggregateQuery, at: datetime) -> AggregateQuery:
    """The question as Share pinned it: its window ends at `at`, and what was learned later is left out."""
    since, until = query.span
    return query.replace(since=at - (until - since), until=at, as_of=at - SETTLE)
