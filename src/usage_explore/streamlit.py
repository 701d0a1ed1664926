"""A store as a connection of Streamlit: `st.connection("usage", type=UsageConnection)`.

In `.streamlit/secrets.toml`, each line optional as in `usage_explore.connect`:

    [connections.usage]
    url = "https://usage.example.com"
    key = "ue_…"
    organization_id = "…"
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import streamlit as st
from streamlit.connections import BaseConnection

from usage_explore.answers import Aggregate
from usage_explore.errors import ConfigurationError
from usage_explore.event_pages import EventPage
from usage_explore.open_store import connect
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.store import Store

_OPTIONS = ("url", "key", "organization_id", "table", "names_table", "home", "statement_timeout")


class UsageConnection(BaseConnection[Store]):
    """A store that all sessions of an app share; keyword arguments of `st.connection` override the secrets.

    Raises `ConfigurationError` for an invalid or unknown one.
    """

    def _connect(self, **options: Any) -> Store:
        given = {**dict(self._secrets), **options}
        if unknown := sorted(set(given) - set(_OPTIONS)):
            where = f"connections.{self._connection_name}"
            raise ConfigurationError(f"{where}: unknown {', '.join(unknown)}; the options are {', '.join(_OPTIONS)}")
        return connect(**given)

    @property
    def store(self) -> Store:
        """The store, with all its methods."""
        return self._instance

    def aggregate(self, query: AggregateQuery, ttl: float | timedelta | None = None) -> Aggregate:
        """`store.aggregate`; with `ttl` (seconds) the answer is kept that long for equal queries of all sessions."""
        return cast("Aggregate", self._kept(self.store.aggregate, query, ttl))

    def events(self, query: EventQuery, ttl: float | timedelta | None = None) -> EventPage:
        """`store.events`; with `ttl` (seconds) the page is kept that long for equal queries of all sessions."""
        return cast("EventPage", self._kept(self.store.events, query, ttl))

    def close(self) -> None:
        """Close the store's connections."""
        if self._raw_instance is not None:
            self._raw_instance.close()

    def _kept(self, ask: Any, query: AggregateQuery | EventQuery, ttl: float | timedelta | None) -> Any:
        if ttl is None:
            return ask(query)

        @st.cache_data(ttl=ttl, show_spinner=False)
        def answered(connection: str, kind: str, parameters: str) -> Any:
            return ask(query)

        return answered(str(self._connection_instance_id), type(query).__name__, query.query_string())
