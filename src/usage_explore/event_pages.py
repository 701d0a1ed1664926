"""Pages of raw events, and all events of a query in memory, each with its query."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from usage_explore.decimals import json_text
from usage_explore.errors import (
    DatabaseError,
    DatabaseUnavailable,
    Fault,
    QueryError,
)
from usage_explore.names import NO_NAMES, Names
from usage_explore.query.describe import describe
from usage_explore.query.queries import EventQuery
from usage_explore.query.url_params import link
from usage_explore.results import arrow, frames
from usage_explore.results.types import Event, Served

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

    from usage_explore.records.links import SharedLink


_MAX_OUTAGE_SECONDS = 30.0
"""Time that iterating over pages waits for a database that is unavailable."""


_RETRY_SECONDS = 0.5
"""Time between two attempts."""


class PageSource(Protocol):
    """The part of the store that a page needs for its neighbours."""

    @property
    def app_url(self) -> str:
        """The start of links into the app."""
        ...

    def events(self, query: EventQuery, /) -> EventPage:
        """A page of events."""
        ...

    def events_before(self, page: EventPage, /) -> EventPage | None:
        """The previous page, None for the first."""
        ...

    @property
    def share(self) -> Callable[..., SharedLink]:
        """The method that makes a short link to a query, pinned."""
        ...


@dataclass(frozen=True)
class EventPage:
    """One page of events, newest first.

    `query` is the query as it took effect, `cursor` that of the next page, None on the last one. Iterating yields all
    events from this page to the last page. While the database is unavailable, as during a restart, iterating waits for
    up to 30 seconds and resumes; then, and for other errors, `DatabaseError.cursor` is the position where it stopped.
    `names` has the names of the ids in its events and filters, `hints` what Python warned of. A page can be pickled,
    without its store.
    """

    query: EventQuery
    events: tuple[Event, ...]
    cursor: str | None
    store: PageSource = field(compare=False)
    names: Names = field(default=NO_NAMES, compare=False, repr=False)
    hints: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per event, the table's columns: ids as str, decimals as `Decimal`, times as datetime64[us, UTC].

        Then, if an id has a name, `customer_name`, `product_name`, `subscription_name` and `organization_name` (str).
        """
        return frames.events(self.events)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The page's events for Arrow: `pa.table(page)`, with the columns of `Events.table`."""
        texts = [json_text(event.dimensions) for event in self.events]
        frame = self.frame.assign(dimensions=texts)
        return arrow.c_stream(frames.arrow_table(frame, arrow.DECIMALS), requested_schema)

    def next(self) -> EventPage | None:
        """The next page, None after the last."""
        return self.store.events(self.query.replace(cursor=self.cursor)) if self.cursor else None

    def previous(self) -> EventPage | None:
        """The previous page, None before the first."""
        return self.store.events_before(self)

    def __iter__(self) -> Iterator[Event]:
        page: EventPage | None = self
        while page is not None:
            yield from page.events
            page = page._next_with_retries()

    def _next_with_retries(self) -> EventPage | None:
        """The next page; waits while the database is unavailable."""
        deadline = time.monotonic() + _MAX_OUTAGE_SECONDS
        while True:
            try:
                return self.next()
            except DatabaseError as error:
                if not isinstance(error, DatabaseUnavailable) or time.monotonic() > deadline:
                    error.cursor = self.cursor
                    error.add_note(f"Resume with store.events(page.query.replace(cursor={self.cursor!r}))")
                    raise
            time.sleep(_RETRY_SECONDS)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("store", "frame")}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            if name == "store":
                raise QueryError([Fault("page", "has no store, because it was pickled; call store.events(page.query)")])
            raise AttributeError(name)

    def __repr__(self) -> str:
        more = "more pages follow" if self.cursor else "the last page"
        return f"<EventPage: {len(self.events):,} events, {more}; {self.names.in_text(describe(self.query))}>"

    def _repr_html_(self) -> str:
        return f"<p>{escape(repr(self)[1:-1])}</p>{self.frame.to_html(max_rows=20)}"

    def url(self) -> str:
        """The link that opens this page in the app."""
        return link(self.store.app_url, "events", self.query)

    def share(self, **options: Any) -> SharedLink:
        """A short link to the pinned query, from its first page on; options and errors are those of `Store.share`."""
        return self.store.share(self.query, **options)

    def to_dict(self) -> dict[str, Any]:
        """The answer as the API returns it in JSON."""
        return {
            "data": [event.to_dict() for event in self.events],
            "pagination": {
                "cursor": self.cursor,
                "has_more": self.cursor is not None,
                "limit": self.query.limit,
            },
            "hints": list(self.hints),
        }


@dataclass(frozen=True)
class Events:
    """All events of a query, newest first, in memory. It can be pickled.

    `query` is the query as it took effect, its `limit` without meaning. `table` is a `pyarrow.Table` with the columns
    of a Parquet export: `id`, `idempotency_key` and `dimensions` (JSON) string, decimals decimal128(38, s), s their
    largest scale, or string with a note in the field's metadata if that cannot represent all of them, times
    timestamp[us, UTC]; then, if the organization has names, `customer_name`, `product_name`, `subscription_name` and
    `organization_name`. All other text, of ids, keys, currencies and names, is dictionary<int32, string>, which takes
    4 bytes a row: `table[column].cast("string")` has it plain. The types are the same whatever the values are.
    """

    query: EventQuery
    table: pa.Table = field(repr=False)
    served: Served = field(compare=False)

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The events for Arrow: `pl.DataFrame(events)`, `pa.table(events)`, DuckDB's `FROM events`; text is string."""
        return arrow.c_stream(arrow.plain(self.table), requested_schema)

    def to_pandas(self) -> pd.DataFrame:
        """One row per event with the columns of `table`, as in `EventPage.frame`.

        Ids are str, decimals `Decimal` objects, times datetime64[us, UTC], `dimensions` parsed JSON. Altair cannot
        write `Decimal`: give it the columns to draw, with `astype({"quantity": float})`.
        """
        from usage_explore.db.engine import parsed_json

        return arrow.to_pandas(self.table, parsed_json)

    def __repr__(self) -> str:
        return f"<Events: {len(self):,} events; {describe(self.query)}>"
