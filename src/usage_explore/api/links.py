"""Short links over HTTP: making, listing and revoking them.

They are written as saved views are, in a transaction of their own; the events are only read. A browser sends these
requests only from a page of this server: the body is JSON, and an `Origin` must be the server's own.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from usage_explore.api.auth import refuse_other_sites
from usage_explore.api.endpoints import parse_query
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.responses import JSON, json_bytes, negotiated, response
from usage_explore.api.service import Service, pairs
from usage_explore.errors import Fault, QueryError
from usage_explore.query import url_params
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES
from usage_explore.query.queries import EventQuery
from usage_explore.records.links import SharedLink
from usage_explore.records.texts import LOCAL_AUTHOR
from usage_explore.records.views import PAGES, parsed
from usage_explore.store import Store
from usage_explore.store.display import DISPLAY

MAX_BODY_BYTES = 2 * MAX_QUERY_STRING_BYTES
"""Bytes of a request's body."""

Page = Literal["explore", "events", "validate", "customer"]
assert set(get_args(Page)) == set(PAGES)  # noqa: S101 - at import


class NewLink(BaseModel):
    """The body of a request for a short link."""

    model_config = ConfigDict(extra="forbid", strict=True)

    page: Page = Field("explore", description="The page that the link opens.")
    params: str = Field("", description="The query string of the page, as in its link; it is pinned.")
    expires: str | None = Field(None, description="When the link expires, RFC 3339; null: never.")
    without_sign_in: bool = Field(
        False,
        description="Whether everyone who has the link sees this view, and nothing else; for `explore` only.",
    )


class LinkEndpoints:
    """The endpoints of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def listed(self, request: Request) -> Response:
        """The organization's links, newest first."""
        media_type = negotiated(request, JSON)
        query = _organization(request)

        def work(store: Store) -> list[SharedLink]:
            return _of(store, query).links()

        links = await self.service.run(request, query, work)
        request.state.rows = len(links)
        content = json_bytes({"data": [link.to_dict() for link in links]})
        return response(request, content, media_type, pinned=False)

    async def make(self, request: Request) -> Response:
        """A new link."""
        media_type = negotiated(request, JSON)
        refuse_other_sites(request)
        if given := pairs(request):
            raise QueryError([Fault(name, f"unknown parameter here; {_place(name)}") for name, _ in given])
        new = await _body(request)
        query, display = _parsed(new)
        key = getattr(request.state, "api_key", None)
        author = str(key["name"] or key["key"]) if key else LOCAL_AUTHOR

        def work(store: Store) -> SharedLink:
            return store.share(
                query,  # type: ignore[arg-type]
                expires=new.expires,
                without_sign_in=new.without_sign_in,
                author=author,
                display=display,
                page=new.page,
            )

        link = await self.service.run(request, query, work)
        headers = {"Cache-Control": "no-store", "Vary": "Accept, Authorization", "Location": link.url}
        return Response(json_bytes(link.to_dict()), 201, headers, media_type)

    async def revoke(self, request: Request) -> Response:
        """Revoke a link. Raises `LinkGone` for one that the organization does not have."""
        refuse_other_sites(request)
        query, token = _organization(request), request.path_params["token"]
        await self.service.run(request, query, lambda store: _of(store, query).revoke_link(token))
        return Response(status_code=204, headers={"Cache-Control": "no-store"})


def _of(store: Store, query: Query) -> Store:
    return store.scoped(query.organization_id) if query.organization_id else store


def _organization(request: Request) -> EventQuery:
    """The organization in the query string. Raises `QueryError` for any other parameter."""
    given = pairs(request)
    faults = [
        Fault(name, "unknown parameter here; there is organization_id")
        for name, _ in given
        if name != "organization_id"
    ]
    if faults:
        raise QueryError(faults)
    return parse_query(EventQuery, given)


async def _body(request: Request) -> NewLink:
    """The body. Raises `QueryError` with all its faults, `Problem`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != JSON:
        raise Problem(ProblemType.UNSUPPORTED, f"Send the body as {JSON}.")
    content = b""
    async for chunk in request.stream():
        content += chunk
        if len(content) > MAX_BODY_BYTES:
            raise Problem(ProblemType.TOO_LARGE, f"The body has more than {MAX_BODY_BYTES:,} bytes; shorten it.")
    try:
        value: Any = json.loads(content, object_pairs_hook=_object)
    except (ValueError, RecursionError):
        raise QueryError([Fault("body", "is not JSON")]) from None
    try:
        return NewLink.model_validate(value)
    except ValidationError as error:
        raise QueryError(
            [
                Fault(name := ".".join(map(str, fault["loc"])) or "body", _words(fault, name))
                for fault in error.errors(include_url=False, include_context=False, include_input=False)
            ]
        ) from None


def _object(given: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of the body. Raises `QueryError` for names that are given twice."""
    twice = [name for name, times in Counter(name for name, _ in given).items() if times > 1]
    if twice:
        raise QueryError([Fault(name, "is given twice in the body; give it once") for name in twice])
    return dict(given)


def _words(fault: Any, name: str) -> str:
    """What is wrong with a field of the body."""
    return f"unknown in the body; {_place(name)}" if fault["type"] == "extra_forbidden" else fault["msg"].lower()


def _place(name: str) -> str:
    """Where a parameter belongs: a field of its own, or a parameter of the page."""
    if name in NewLink.model_fields:
        return "it belongs into the JSON of the body"
    return "a parameter of the page, such as organization_id, belongs into params of the body"


def _parsed(new: NewLink) -> tuple[Query, tuple[tuple[str, str], ...]]:
    """The query of a new link, and its display parameters. Raises `QueryError`."""
    if "#" in new.params:
        raise QueryError([Fault("params", "contains a raw #; in a query string write %23 for it")])
    given = tuple(url_params.pairs(f"?{new.params.removeprefix('?')}"))
    query = parsed(new.page, given)
    return query, tuple(pair for pair in given if pair[0] in DISPLAY[new.page])
