"""Short links: the pinned query of a page under an address of 128 random bits.

A link belongs to one organization, whose users all see it and may revoke it. Every function but `find` takes the
organization from the caller, who has checked that it is visible. A link opens without sign-in only from a place whose
rows delegate what their author sees (`db.owners`); others are as if they needed one.
"""

from __future__ import annotations

import binascii
import secrets
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, insert, select, update

from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, LinkGone, QueryError, RecordError
from usage_explore.query import url_params, validators
from usage_explore.query.base import Query
from usage_explore.query.url_params import query_string
from usage_explore.records import texts
from usage_explore.records.places import DatabasePlace, FilePlace, PlaceName, Places, records
from usage_explore.records.views import PAGES, Headline, ViewState, parsed

MAX_LINKS = 2_000
"""Short links of an organization, in each place."""

PATH = "/s/"
"""Where links are in the app: `/s/<token>`."""

_ID_BYTES = 16
_TOKEN_CHARACTERS = 22
_OPENED_INTERVAL = timedelta(minutes=1)
"""How exactly the last opening is kept: a link that is opened often is written once in this time."""

_ANYONE, _SIGN_IN = "anyone", "sign-in"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedLink:
    """A short link. `url` is its address, `params` the pinned query string of `page` without the organization.

    With `without_sign_in` everyone who has the address sees this view, and nothing else. `author` is an e-mail address,
    the name of an API key, or "local". `expires_at` is None for a link that does not expire, `opened_at` the last time
    that it was opened, to the minute. `place` is "table" for a link beside the events, "file" for one in the data
    folder.
    """

    id: UUID = field(repr=False)
    organization_id: UUID
    author: str
    created_at: datetime
    page: str
    params: str
    without_sign_in: bool
    expires_at: datetime | None
    opened_at: datetime | None
    place: PlaceName
    app_url: str = field(compare=False, repr=False)

    @property
    def token(self) -> str:
        """The last part of the address: 22 letters, digits, `-` and `_`."""
        return urlsafe_b64encode(self.id.bytes).decode().rstrip("=")

    @property
    def url(self) -> str:
        """The address of the link."""
        return f"{self.app_url}{PATH}{self.token}"

    @property
    def query(self) -> Query:
        """The pinned query. Raises `QueryError` if this version cannot parse it, such as a parameter of a later one."""
        return parsed(self.page, url_params.pairs(self.params)).replace(organization_id=self.organization_id)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """The URL parameters of the page, with the organization, not validated."""
        return (("organization_id", str(self.organization_id)), *url_params.pairs(self.params))

    @property
    def target(self) -> str:
        """The path and query of the page that the link opens. Raises `LinkGone` for a page of a later version."""
        if self.page not in PAGES:
            raise LinkGone
        return f"/{self.page}?{query_string(self.pairs())}"

    def to_dict(self) -> dict[str, Any]:
        """The link as JSON carries it."""
        return {
            "token": self.token,
            "url": self.url,
            "organization_id": str(self.organization_id),
            "by": self.author,
            "created_at": rfc3339(self.created_at),
            "page": self.page,
            "params": self.params,
            "without_sign_in": self.without_sign_in,
            "expires_at": rfc3339(self.expires_at) if self.expires_at else None,
            "opened_at": rfc3339(self.opened_at) if self.opened_at else None,
        }


def link_id(token: str) -> UUID:
    """The id of a link from its whole address, or the part of it after `PATH`. Raises `LinkGone`."""
    text = token.rpartition(PATH)[2] if isinstance(token, str) else ""
    try:
        content = urlsafe_b64decode(f"{text}==") if len(text) == _TOKEN_CHARACTERS and text.isascii() else b""
    except (binascii.Error, ValueError):
        content = b""
    # 22 characters hold 4 bits more than an id: only one spelling of each id is taken
    if len(content) != _ID_BYTES or urlsafe_b64encode(content).decode().rstrip("=") != text:
        raise LinkGone
    return UUID(bytes=content)


def share(
    places: Places,
    organization_id: UUID,
    pinned: Query,
    now: datetime,
    app_url: str,
    *,
    author: str,
    expires: datetime | timedelta | str | None = None,
    without_sign_in: bool = False,
    display: tuple[tuple[str, str], ...] = (),
    page: str | None = None,
) -> SharedLink:
    """Keep a link to a pinned query. Raises `QueryError`, `RecordError`, `DatabaseError`."""
    state = ViewState(query=pinned, pinned=pinned, headline=Headline(None), display=display, page=page).columns()
    faults = []
    if without_sign_in and state["page"] != "explore":
        message = (
            "is for views of Explore (AggregateQuery); a link to another page needs a sign-in where people sign in"
        )
        faults.append(Fault("without_sign_in", message))
    try:
        expires_at = _expiry(expires, now)
    except (TypeError, ValueError) as error:
        faults.append(Fault("expires", str(error)))
    if faults:
        raise QueryError(faults)
    values = {
        "organization_id": organization_id,
        "id": UUID(bytes=secrets.token_bytes(_ID_BYTES)),
        "author": texts.author(author),
        "created_at": now,
        "page": state["page"],
        "params": state["pinned"],
        "access": _ANYONE if without_sign_in else _SIGN_IN,
        "expires_at": expires_at,
        "opened_at": None,
    }
    place = places.saving if places.saving.delegates or not without_sign_in else places.file
    with place.writing() as writer:
        if writer.count(organization_id) >= MAX_LINKS:
            c = writer.table.c
            writer.change(delete(writer.table).where(c.organization_id == organization_id, c.expires_at <= now))
        if writer.count(organization_id) >= MAX_LINKS:
            raise RecordError(f"There are {MAX_LINKS:,} links already, the most there may be; revoke some first.")
        writer.change(insert(writer.table).values(**values))
    return _link(values, place, app_url)


def links(places: Places, organization_id: UUID, app_url: str) -> list[SharedLink]:
    """The organization's links, newest first, expired ones among them. Raises `RecordError`."""
    kept = []
    for place in places.all:
        table = place.table
        statement = select(table).where(table.c.organization_id == organization_id)
        kept += records(place, statement, partial(_link, place=place, app_url=app_url))
    return sorted(kept, key=lambda link: (link.created_at, str(link.id)), reverse=True)


def find(places: Places, token: str, now: datetime, app_url: str) -> SharedLink:
    """The link of an address, of any organization. Raises `LinkGone` if it is unknown, has expired or was revoked."""
    id_ = link_id(token)
    for place in places.all:
        table = place.table
        statement = select(table).where(table.c.id == id_)
        for link in records(place, statement, partial(_link, place=place, app_url=app_url)):
            if link.expires_at is None or now < link.expires_at:
                return link
    raise LinkGone


def revoke(places: Places, organization_id: UUID, id_: UUID) -> None:
    """Delete a link of the organization, so that its address is unknown. Raises `LinkGone` if there is none."""
    gone = 0
    for place in places.all:
        table = place.table
        if place.rows(select(table.c.id).where(table.c.organization_id == organization_id, table.c.id == id_)):
            with place.writing() as writer:
                c = writer.table.c
                own = (c.organization_id == organization_id, c.id == id_)
                gone += writer.change(delete(writer.table).where(*own))
    if not gone:
        raise LinkGone


def opened(places: Places, link: SharedLink, now: datetime) -> None:
    """Keep that the link was opened; once a minute. Raises `RecordError`, `DatabaseError`."""
    if link.opened_at is not None and now < link.opened_at + _OPENED_INTERVAL:
        return
    with places.named(link.place).writing() as writer:
        c = writer.table.c
        own = (c.organization_id == link.organization_id, c.id == link.id)
        writer.change(update(writer.table).where(*own).values(opened_at=now))


def _expiry(value: datetime | timedelta | str | None, now: datetime) -> datetime | None:
    if value is None:
        return None
    try:
        end = now + value if isinstance(value, timedelta) else validators.instant(value)
        end = validators.instant(end)
    except OverflowError:
        raise ValueError("is too far away; name an earlier time") from None
    if end <= now:
        raise ValueError(f"is not after now, {rfc3339(now)}; name a later time")
    return end


def _link(row: Row[Any] | dict[str, Any], place: DatabasePlace | FilePlace, app_url: str) -> SharedLink:
    values = dict(row) if isinstance(row, dict) else dict(row._mapping)
    without_sign_in = values.pop("access") == _ANYONE and place.delegates
    return SharedLink(**values, without_sign_in=without_sign_in, place=place.name, app_url=app_url)
