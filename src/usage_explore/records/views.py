"""Saved views: a query of a page under a name, live and pinned to the time when it was saved.

A view belongs to one organization, whose users all see it and may change it. Every function takes the organization
from the caller, who has checked that it is visible.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from functools import partial
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from usage_explore.decimals import plain
from usage_explore.errors import Fault, QueryError, RecordError
from usage_explore.query import url_params, validators
from usage_explore.query.base import Query
from usage_explore.query.queries import AggregateQuery, EventQuery, Period
from usage_explore.query.url_params import query_string
from usage_explore.records import texts
from usage_explore.records.places import DatabasePlace, FilePlace, PlaceName, Places, records
from usage_explore.records.texts import MAX_NOTE_CHARACTERS

MAX_VIEWS = 500
"""Saved views of an organization, in each place."""

MAX_VIEW_NAME_CHARACTERS = 100
"""Characters of a view's name."""

MAX_VIEW_NOTE_CHARACTERS = MAX_NOTE_CHARACTERS

MAX_VIEW_BYTES = 16_384
"""Bytes of each query string of a view."""

MAX_VIEW_PARAMETERS = 900
"""`name=value` pairs of each query string of a view: fewer than a link into the app can have."""

PAGES: dict[str, type[Query]] = {
    "explore": AggregateQuery,
    "events": EventQuery,
    "validate": Period,
    "customer": AggregateQuery,
}
"""The pages whose views can be saved, with the class of their queries."""

_CUSTOMER_DISPLAY = ("currency",)
"""Parameters of a customer's page that only concern the display."""

_ONE_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Headline:
    """The headline number of a view; `currency` is that of a cost. `total` is None where there is no number."""

    total: Decimal | int | None
    currency: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedView:
    """A saved view. `params` and `pinned` are its query strings, live and as of `as_of`, without the organization.

    `total` is the headline number of the pinned query when it was saved: an aggregate's total, else the number of
    events; None where it had none. `currency` is that of a cost. `saved_at` is the time of these, `changed_at`
    that of the newest change, such as of the name. `author` is an e-mail address, a name, or "local"
    without sign-in. `place` is "table" for a view beside the events, "file" for one in the data folder.
    """

    id: UUID
    organization_id: UUID
    name: str
    note: str
    author: str
    created_at: datetime
    changed_at: datetime
    saved_at: datetime
    page: str
    params: str
    pinned: str
    total: Decimal | None
    currency: str | None
    as_of: datetime
    place: PlaceName

    @property
    def query(self) -> Query:
        """The live query. Raises `QueryError` if this version cannot parse it, such as a parameter of a later one."""
        return self._parsed(self.params)

    @property
    def pinned_query(self) -> Query:
        """The query with absolute times and `as_of`. Raises `QueryError` as `query`."""
        return self._parsed(self.pinned)

    def pairs(self, *, pinned: bool = False) -> tuple[tuple[str, str], ...]:
        """The URL parameters of the page, with the organization, not validated. Raises `QueryError` if damaged."""
        own = url_params.pairs(self.pinned if pinned else self.params)
        return (("organization_id", str(self.organization_id)), *own)

    def url(self, app_url: str, *, pinned: bool = False) -> str:
        """The link that opens the view in the app at `app_url`."""
        return f"{app_url}/{self.page}?{query_string(self.pairs(pinned=pinned))}"

    def _parsed(self, text: str) -> Query:
        return parsed(self.page, url_params.pairs(text)).replace(organization_id=self.organization_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewState:
    """What a view opens: the query, and the URL parameters that only concern the display, such as `chart=lines`.

    `pinned` is the query with absolute times and `as_of`, `headline` its number. `page` is one of `PAGES`, None for the
    first one of the query's class.
    """

    query: Query
    pinned: Query
    headline: Headline
    display: tuple[tuple[str, str], ...] = ()
    page: str | None = None

    def columns(self) -> dict[str, object]:
        """The values of the state's columns. Raises `QueryError` for a query string that is too long."""
        pages = [name for name, model in PAGES.items() if type(self.query) is model]
        if not pages:
            kinds = ", ".join(dict.fromkeys(model.__name__ for model in PAGES.values()))
            raise QueryError([Fault("query", f"{validators.shorten(self.query)} is not one of {kinds}")])
        page = self.page or pages[0]
        if page not in pages:
            message = f"{validators.shorten(page)} has no {type(self.query).__name__}; it can be {' or '.join(pages)}"
            raise QueryError([Fault("page", message)])
        if page == "customer" and self.query.customer_id is None:
            raise QueryError([Fault("query", "has no customer_id; the view of a customer's page needs one")])
        return {
            "page": page,
            "params": self._text(page, self.query),
            "pinned": self._text(page, self.pinned),
            "total": None if self.headline.total is None else plain(self.headline.total),
            "currency": self.headline.currency,
            "as_of": self.pinned.as_of,
        }

    def _text(self, page: str, query: Query) -> str:
        pairs = query.replace(organization_id=None).to_params()
        named = page == "customer" and any(name in ("since", "until", "window") for name, _ in pairs)
        if not (named if page == "customer" else pairs) and not isinstance(query, EventQuery):
            # without any parameter, on a customer's page without a window, a link opens the start view
            pairs = (*pairs, ("since", str(query.since)))  # type: ignore[attr-defined]
        parsed(page, (*pairs, *self.display))  # raises for a parameter that the page has not
        text = query_string((*pairs, *self.display))
        if len(text) > MAX_VIEW_BYTES:
            message = f"has {len(text):,} bytes as a link, more than the {MAX_VIEW_BYTES:,} of a view; remove filters"
            raise QueryError([Fault("query", message)])
        if (number := len(pairs) + len(self.display)) > MAX_VIEW_PARAMETERS:
            message = f"has {number:,} parameters, more than the {MAX_VIEW_PARAMETERS:,} of a view; remove filters"
            raise QueryError([Fault("query", message)])
        return text


def parsed(page: str, pairs: Iterable[tuple[str, str]]) -> Query:
    """The query of a page's parameters. Raises `QueryError`."""
    if page not in PAGES:
        raise QueryError([Fault("page", f"{validators.shorten(page)} is not a page of this version")])
    own = tuple(pair for pair in pairs if page != "customer" or pair[0] not in _CUSTOMER_DISPLAY)
    return PAGES[page].from_params(own)


def headline_query(query: Query) -> AggregateQuery | EventQuery:
    """The query of a view's headline number: the ungrouped aggregate, all events, or a period's number of events."""
    if isinstance(query, EventQuery):
        return query.replace(cursor=None, limit=None)
    if isinstance(query, AggregateQuery):
        return query.replace(group_by=None, top=None, compare=None, cumulative=None)
    return AggregateQuery(**query.shared_with(AggregateQuery))


def saved_views(places: Places, organization_id: UUID) -> list[SavedView]:
    """The views of the organization, by name. Raises `RecordError`."""
    views = [
        view
        for place in places.all
        for view in records(place, _of(place, organization_id).limit(MAX_VIEWS), partial(_view, place=place.name))
    ]
    return sorted(views, key=lambda view: (view.name.casefold(), view.name, view.created_at))


def save(
    places: Places, organization_id: UUID, state: ViewState, *, name: str, note: str, author: str, now: datetime
) -> SavedView:
    """Save a new view. Raises `QueryError` for a name that is taken or too long, `RecordError`, `DatabaseError`."""
    own = {**_texts(name=name, note=note), "author": texts.author(author)}
    values = {**own, **state.columns(), "organization_id": organization_id, "id": uuid4()}
    return _inserted(places.saving, organization_id, {**values, "created_at": now, "changed_at": now, "saved_at": now})


def restore(places: Places, view: SavedView) -> SavedView:
    """Save a deleted view again, as it was. Raises as `save`."""
    columns = {column.name for column in places.file.table.columns}
    values = {name: getattr(view, name) for name in columns}
    values["total"] = None if view.total is None else plain(view.total)
    place = next((place for place in places.all if place.name == view.place), places.saving)
    return _inserted(place, view.organization_id, values)


def change(
    places: Places,
    view: SavedView,
    now: datetime,
    *,
    name: str | None = None,
    note: str | None = None,
    state: ViewState | None = None,
) -> SavedView:
    """The view with another name, note or state. Raises `RecordError` if it was changed or deleted meanwhile."""
    values: dict[str, Any] = {**_texts(name=name, note=note), **(state.columns() if state else {})}
    changed = {**values, "changed_at": max(now, view.changed_at + _ONE_MICROSECOND)}
    if state is not None:
        changed["saved_at"] = changed["changed_at"]

    def write(place: DatabasePlace | FilePlace) -> None:
        with place.writing() as writer:
            c = writer.table.c
            unchanged = (c.organization_id == view.organization_id, c.id == view.id, c.changed_at == view.changed_at)
            if not writer.change(update(writer.table).where(*unchanged).values(**changed)):
                raise RecordError(
                    f"The view {validators.shorten(view.name)} was changed or deleted meanwhile; look at it again."
                )

    place = places.named(view.place)
    _unless_taken(lambda: write(place), str(values.get("name", view.name)))
    if "total" in changed:
        changed["total"] = _decimal(changed["total"])
    return replace(view, **changed)


def remove(places: Places, view: SavedView) -> SavedView:
    """Delete the view, and return it as it was; `restore` undoes it. Raises `RecordError` if it is gone already."""
    place = places.named(view.place)
    with place.writing() as writer:
        row = writer.row(view.organization_id, view.id)
        c = writer.table.c
        own = (c.organization_id == view.organization_id, c.id == view.id)
        if row is None or not writer.change(delete(writer.table).where(*own)):
            raise RecordError(f"The view {validators.shorten(view.name)} was deleted already.")
    return _view(row, place.name)


def _inserted(place: DatabasePlace | FilePlace, organization_id: UUID, values: dict[str, Any]) -> SavedView:
    def write() -> None:
        with place.writing() as writer:
            if writer.count(organization_id) >= MAX_VIEWS:
                raise RecordError(f"There are {MAX_VIEWS:,} views already, the most there may be; delete some first.")
            writer.change(insert(writer.table).values(**values))

    _unless_taken(write, values["name"])
    return SavedView(**{**values, "total": _decimal(values["total"])}, place=place.name)


def _unless_taken(write: Callable[[], None], name: str) -> None:
    try:
        write()
    except IntegrityError:
        message = f"{validators.shorten(name)} is the name of another view; choose another name, or overwrite that view"
        raise QueryError([Fault("name", message)]) from None


def _of(place: DatabasePlace | FilePlace, organization_id: UUID) -> Select[Any]:
    table = place.table
    return select(table).where(table.c.organization_id == organization_id).order_by(table.c.name)


def _view(row: Row[Any], place: PlaceName) -> SavedView:
    values = dict(row._mapping)
    return SavedView(**{**values, "total": _decimal(values["total"])}, place=place)


def _decimal(text: str | None) -> Decimal | None:
    try:
        return None if text is None else Decimal(text)
    except InvalidOperation:
        raise RecordError(f"The total of a saved view is {validators.shorten(text)}, which is no number.") from None


def _texts(**given: str | None) -> dict[str, str]:
    """The name and the note that are not None, validated."""
    read_texts: dict[str, str] = {}
    faults: list[Fault] = []
    readers: Iterable[tuple[str, Callable[[str], str]]] = (("name", _name), ("note", texts.note))
    for parameter, read in readers:
        if (value := given.get(parameter)) is not None:
            try:
                read_texts[parameter] = read(value)
            except ValueError as error:
                faults.append(Fault(parameter, str(error)))
    if faults:
        raise QueryError(faults)
    return read_texts


def _name(value: str) -> str:
    text = unicodedata.normalize("NFC", validators.text(value, blank=True).strip())
    if not text:
        raise ValueError("is blank; give the view a name")
    if not texts.is_printable(text):
        raise ValueError("has a line break, a control character or an invisible one; write it in plain text")
    return texts.bounded(text, MAX_VIEW_NAME_CHARACTERS)
