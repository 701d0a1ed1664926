"""Short links to pinned queries of the organization."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from usage_explore import config
from usage_explore.db import engine as db_engine
from usage_explore.errors import ConfigurationError, Fault, LinkGone, QueryError
from usage_explore.query.base import expect_instance
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.records import links
from usage_explore.records.links import SharedLink
from usage_explore.records.tables import LINKS
from usage_explore.records.texts import LOCAL_AUTHOR
from usage_explore.store.base import current_time
from usage_explore.store.decisions import Decisions
from usage_explore.store.display import checked


class Links(Decisions):
    """The methods of `Store` that keep short links."""

    def share(
        self,
        query: AggregateQuery | EventQuery | Period,
        *,
        expires: datetime | timedelta | str | None = None,
        without_sign_in: bool = False,
        author: str = LOCAL_AUTHOR,
        display: Sequence[tuple[str, str]] = (),
        page: str | None = None,
    ) -> SharedLink:
        """A short link to the query, pinned; `url` is its address.

        `expires` is a time, or a timedelta from now; None: never. With `without_sign_in` everyone who has the address
        sees the numbers of this `AggregateQuery` and of nothing else, until the link expires or is revoked. `display`
        and `page` are those of `save_view`. Raises `QueryError`, `RecordError`, `ScopeError`, `DatabaseError`.

        >>> store.share(AggregateQuery(group_by="dim:model"), expires=timedelta(days=30)).url  # doctest: +SKIP
        """
        expect_instance("query", query, AggregateQuery, EventQuery, Period)
        expect_instance("author", author, str)
        expect_instance("without_sign_in", without_sign_in, bool)
        shown = checked(display, query, page)
        if without_sign_in and not config.settings().public_links:
            raise QueryError([Fault("without_sign_in", "is switched off here: USAGE_EXPLORE_PUBLIC_LINKS=false")])
        pinned = self.pin(query.replace(cursor=None) if isinstance(query, EventQuery) else query)
        if without_sign_in and isinstance(pinned, AggregateQuery):
            self.aggregate(pinned)  # raises for a question without an answer, before others have the link
        with self._recorded(LINKS, query.organization_id) as (_, places, own, now):
            return links.share(
                places,
                own,
                pinned,
                now,
                self.app_url,
                author=author,
                expires=expires,
                without_sign_in=without_sign_in,
                display=shown,
                page=page,
            )

    def links(self) -> list[SharedLink]:
        """The organization's short links, newest first. Raises `RecordError`, `ScopeError`, `DatabaseError`."""
        with self._recorded(LINKS) as (_, places, own, _):
            return links.links(places, own, self.app_url)

    def link(self, address: str) -> SharedLink:
        """The short link of an address, or of its last part, if events of its organization are visible.

        Raises `LinkGone` if there is none, it has expired or was revoked; `RecordError`, `DatabaseError`.
        """
        if self.records is None:
            raise ConfigurationError("records: this store keeps none; open it with connect()")
        links.link_id(address)
        with db_engine.transaction(self.engine) as connection:
            places = self.records.places(connection, self.table, LINKS)
            link = links.find(places, address, current_time(connection), self.app_url)
            if not self._scope.sees(connection, self.table, link.organization_id):
                raise LinkGone
        return link

    def link_opened(self, link: SharedLink) -> None:
        """Keep the time at which a link was opened, once a minute. Raises `RecordError`, `DatabaseError`."""
        expect_instance("link", link, SharedLink)
        with self._recorded(LINKS, link.organization_id) as (_, places, _, now):
            links.opened(places, link, now)

    def revoke_link(self, link: SharedLink | str) -> None:
        """Revoke a short link of the organization, by its address, too: it opens nothing from now on.

        Raises `LinkGone` if the organization has no such link, `RecordError`, `ScopeError`, `DatabaseError`.
        """
        expect_instance("link", link, SharedLink, str)
        id_ = links.link_id(link) if isinstance(link, str) else link.id
        with self._recorded(LINKS, None if isinstance(link, str) else link.organization_id) as (_, places, own, _):
            links.revoke(places, own, id_)
