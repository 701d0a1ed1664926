"""Explore metered usage exactly: questions as values, answers as frames, charts and links.

>>> from usage_explore import AggregateQuery, connect
>>> store = connect()  # doctest: +SKIP
>>> store.aggregate(AggregateQuery(group_by="metric_key")).chart()  # doctest: +SKIP
"""

from usage_explore.answers import Aggregate, EventPage, Events, Leaderboards
from usage_explore.errors import QueryError, UsageExploreError
from usage_explore.open_store import connect
from usage_explore.query.describe import describe
from usage_explore.query.queries import AggregateQuery, EventQuery, LeaderboardQuery, Period
from usage_explore.results.types import Event
from usage_explore.store import Store

__all__ = [
    "Aggregate",
    "AggregateQuery",
    "Event",
    "EventPage",
    "EventQuery",
    "Events",
    "LeaderboardQuery",
    "Leaderboards",
    "Period",
    "QueryError",
    "Store",
    "UsageExploreError",
    "connect",
    "describe",
]
