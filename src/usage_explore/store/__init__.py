"""The store: runs queries on one organization's events in one table."""

from __future__ import annotations

import dataclasses

from usage_explore.store.files import Files
from usage_explore.store.links import Links
from usage_explore.store.lookups import ExtractState

__all__ = ["ExtractState", "Store"]


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Store(Links, Files):
    """One organization's events. Made by `connect`; thread-safe, with a pool of connections.

    `allowed` has the organizations that the caller may see, None for all. Without `extracts` every query is answered
    from the events. `hints` looks up, for an empty answer, names that no recent event has and where events lie; the
    answer has what was found, and Python warns of it if `warns`. `escaped_commas` says that queries come from links,
    where a metric key has a comma only if it was escaped. `long_statement_timeout` bounds each statement of a
    validation. `names_table` is the table or view of names, by default `usage_names` beside the events. Without
    `records` no views, links, runs, decisions and sign-offs are kept.
    """
