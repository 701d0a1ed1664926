"""Saved views of the organization, with what changed since."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

from usage_explore.errors import ConfigurationError, NotExact, QueryError, ScopeError, StatementTimeout
from usage_explore.query.base import expect_instance
from usage_explore.query.queries import (
    AggregateQuery,
    EventQuery,
    Period,
)
from usage_explore.records import views
from usage_explore.records.places import Places
from usage_explore.records.texts import LOCAL_AUTHOR
from usage_explore.records.views import Headline, SavedView, ViewState
from usage_explore.store.base import current_time
from usage_explore.store.display import checked
from usage_explore.store.queries import Queries


class SavedViews(Queries):
    """The methods of `Store` that keep views."""

    def views(self) -> list[SavedView]:
        """The organization's saved views, by name. Raises `RecordError`, `ScopeError`, `DatabaseError`."""
        with self._saved() as (places, own, _):
            return views.saved_views(places, own)

    def views_place(self) -> str:
        """Where the next view is saved: "the table public.usage_views of the database" or "the file /path"."""
        with self._saved() as (places, _, _):
            return f"{places.saving}" if places.saving.exists else f"{places.saving}, which is created for it"

    def save_view(
        self,
        name: str,
        query: AggregateQuery | EventQuery | Period,
        note: str = "",
        *,
        author: str = LOCAL_AUTHOR,
        display: Sequence[tuple[str, str]] = (),
        page: str | None = None,
    ) -> SavedView:
        """Save a query as a view that the app lists, with its pinned form and its headline number.

        `display` has URL parameters that only concern the display, such as ("chart", "lines"). `page` is "customer" for
        an `AggregateQuery` of one customer on the Customer page, else that of the query's class. The view is saved in
        `views_place()`; the events are only read. Raises `QueryError` for a name that is taken or too long, and a query
        that is too long; `RecordError`, `ScopeError`, `DatabaseError`.

        >>> store.save_view("Tokens by model", AggregateQuery(group_by="dim:model"))  # doctest: +SKIP
        """
        expect_instance("author", author, str)
        state = self._view_state(query, display, page)
        with self._saved() as (places, own, now):
            return views.save(places, own, state, name=name, note=note, author=author, now=now)

    def change_view(
        self,
        view: SavedView,
        *,
        name: str | None = None,
        note: str | None = None,
        query: AggregateQuery | EventQuery | Period | None = None,
        display: Sequence[tuple[str, str]] = (),
        page: str | None = None,
    ) -> SavedView:
        """The view with another name, note or query; None leaves it. Raises as `save_view`.

        `RecordError` too if the view was changed or deleted after it was read.
        """
        expect_instance("view", view, SavedView)
        state = None if query is None else self._view_state(query, display, page)
        with self._saved(view) as (places, _, now):
            return views.change(places, view, now, name=name, note=note, state=state)

    def delete_view(self, view: SavedView) -> SavedView:
        """Delete a saved view, and return it as it was; `restore_view` undoes it.

        Raises `RecordError`, `ScopeError`, `DatabaseError`.
        """
        expect_instance("view", view, SavedView)
        with self._saved(view) as (places, _, _):
            return views.remove(places, view)

    def restore_view(self, view: SavedView) -> SavedView:
        """Save a deleted view again, as it was. Raises as `save_view`."""
        expect_instance("view", view, SavedView)
        with self._saved(view) as (places, _, _):
            return views.restore(places, view)

    def headline(self, query: AggregateQuery | EventQuery | Period) -> Headline:
        """The headline number of a view: an aggregate's total, else the number of events.

        It is None for costs in several currencies, an inexact sum and a statement that takes too long.

        >>> store.headline(AggregateQuery(window="last_month")).total  # doctest: +SKIP
        """
        expect_instance("query", query, AggregateQuery, EventQuery, Period)
        wanted = views.headline_query(query)
        try:
            if isinstance(wanted, EventQuery):
                return Headline(self.count(wanted))
            answer = self.aggregate(wanted)
        except (QueryError, NotExact, StatementTimeout):
            return Headline(None)
        return Headline(answer.total, answer.currency)

    def _view_state(
        self, query: AggregateQuery | EventQuery | Period, display: Sequence[tuple[str, str]], page: str | None
    ) -> ViewState:
        expect_instance("query", query, AggregateQuery, EventQuery, Period)
        shown = checked(display, query, page)
        if isinstance(query, EventQuery):
            query = query.replace(cursor=None)
        pinned = self.pin(query)
        return ViewState(query=query, pinned=pinned, headline=self.headline(pinned), display=shown, page=page)

    @contextmanager
    def _saved(self, view: SavedView | None = None) -> Iterator[tuple[Places, UUID, datetime]]:
        """The places of the organization's views (that of `view`), its id, and the database's clock."""
        if self.records is None:
            raise ConfigurationError("records: this store keeps none; open it with connect()")
        query = EventQuery(organization_id=view.organization_id if view else None)
        with self._transaction(query) as (connection, scoped):
            assert scoped.organization_id is not None  # noqa: S101 - `_transaction` resolves it
            if view and view.organization_id != scoped.organization_id:
                raise ScopeError.refusing(view.organization_id)
            yield self.records.places(connection, self.table), scoped.organization_id, current_time(connection)
