"""Explore metered usage exactly: questions as values, answers as frames, charts and links.

>>> from usage_explore import AggregateQuery, connect
>>> store = connect()  # doctest: +SKIP
>>> store.aggregate(AggregateQuery(group_by="metric_key")).chart()  # doctest: +SKIP

A name is imported when it is first used: `usage-explore --help` needs neither pandas nor a database driver.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from usage_explore.answers import Aggregate, Leaderboards
    from usage_explore.errors import QueryError, UsageExploreError
    from usage_explore.event_pages import EventPage, Events
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

_MODULES = {
    "answers": ("Aggregate", "Leaderboards"),
    "event_pages": ("EventPage", "Events"),
    "errors": ("QueryError", "UsageExploreError"),
    "open_store": ("connect",),
    "query.describe": ("describe",),
    "query.queries": ("AggregateQuery", "EventQuery", "LeaderboardQuery", "Period"),
    "results.types": ("Event",),
    "store": ("Store",),
}
"""The public names, by the module below `usage_explore` that defines them."""


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            value = getattr(import_module(f"{__name__}.{module}"), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
