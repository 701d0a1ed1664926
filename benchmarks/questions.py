"""What is asked: aggregates Q1 to Q10, pinned ones, pages and pickers, all over windows that end at `until`."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from benchmarks.rows import customer, organization
from usage_explore import AggregateQuery, EventQuery

PINNED_AGO = timedelta(hours=20)
"""How long ago the pinned questions were pinned; their window ended then."""

SETTLE = timedelta(minutes=5)
DEPTH = 1_000_000
RARE = 1_500
"""The rank of a customer with about one event in 12,000."""


@dataclass(frozen=True)
class Aggregated:
    """An aggregate. `served`: by the rollup, or raw where two dimensions or the zone forbid that."""

    name: str
    words: str
    query: AggregateQuery
    served: Literal["rollup", "raw"] = "rollup"


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


Query = Aggregated | Paged | Picked


def aggregates(until: datetime) -> list[Aggregated]:
    """Q1 to Q10, one customer by a dimension, and Q1 to Q5 as they were pinned 20 hours before."""

    def asked(name: str, words: str, days: int, served: Any = "rollup", **given: Any) -> Aggregated:
        since = until - timedelta(days=days)
        query = AggregateQuery(organization_id=organization(), since=since, until=until, **given)
        return Aggregated(name, words, query, served)

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
        asked("Q8", "30 days by day, one region by model", 30, "raw", group_by="dim:model", dimensions=west),
        asked("Q9", "30 days by day in Asia/Kathmandu (+05:45)", 30, "raw", timezone="Asia/Kathmandu"),
        asked(
            "Q10",
            "120 days by week, quantity by wallet",
            120,
            bucket="week",
            metric="sum_quantity",
            group_by="wallet_currency",
        ),
        asked("Q11", "30 days by day, a customer by model", 30, "raw", group_by="dim:model", customer_id=ranked),
    ]
    pinned = [
        Aggregated(f"{each.name}p", f"{each.words}; pinned", _pinned(each.query, until - PINNED_AGO))
        for each in live[:5]
    ]
    return live + pinned


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
