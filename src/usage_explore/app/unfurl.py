"""The head of the app's pages for programs that show a link as a card, such as a chat: title, description, picture.

Streamlit serves one file for every address, with the title "Streamlit"; the middleware writes the head of the link into
it, for every client. Where API keys or people are configured, or the client is on another machine, it is the product's
title alone, as it is for an address that is not a page: a link's query may hold names, and the client is not signed in.
Nothing is queried but names, which are cached for a minute; the picture is drawn when a program fetches it.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl

import anyio
from anyio import to_thread
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from usage_explore import config
from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.api import PREFIX
from usage_explore.api.auth import Access
from usage_explore.app import cache
from usage_explore.app.middleware import base_path
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView, HomeView, ValidateView
from usage_explore.errors import ScopeError, UsageExploreError
from usage_explore.names import NO_NAMES, Names
from usage_explore.query import url_params
from usage_explore.query.base import Query
from usage_explore.query.describe import describe, window_words
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.url_params import query_string
from usage_explore.records.links import PATH
from usage_explore.web.pages import Card

_VIEWS: dict[str, type[ExploreView | EventsView | ValidateView | CustomerView | HomeView]] = {
    "": ExploreView,
    "explore": ExploreView,
    "events": EventsView,
    "validate": ValidateView,
    "customer": CustomerView,
    "home": HomeView,
    "load": HomeView,
}
_TITLE = re.compile(rb"<title>Streamlit</title>")
_OTHERS = (f"{PREFIX}/", PATH, "/_stcore/", "/static/", "/media/", "/component/", "/auth/")
"""Paths that are not answered with Streamlit's page."""

_MAX_NAME_SECONDS = 0.5
"""Time that the head waits for the organization's name; without it, the card has none."""


class Unfurl:
    """ASGI middleware that writes the head of a link into Streamlit's page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; its page gets the head of its link."""
        path = scope["path"].removeprefix(base_path()) if scope["type"] == "http" else ""
        if (
            scope["type"] != "http"
            or path == "/embed"
            or path.startswith(_OTHERS)
            or scope["method"] not in ("GET", "HEAD")
        ):
            await self.app(scope, receive, send)
            return
        page = path.strip("/")
        headers = MutableHeaders(scope=scope)
        for name in ("If-None-Match", "If-Modified-Since", "Range"):  # those of Streamlit's file, not of this page
            del headers[name]
        headers["Accept-Encoding"] = "identity"
        start: Message | None = None
        parts: list[bytes] = []

        async def answer(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                if message["status"] == 200 and Headers(raw=message["headers"]).get("content-type", "").startswith(
                    "text/html"
                ):
                    start = message
                    return
            elif start is not None and message["type"] == "http.response.body":
                parts.append(message.get("body", b""))
                if message.get("more_body"):
                    return
                head = (await _card(page, Request(scope))).html().encode()
                body = _TITLE.sub(lambda _: head, b"".join(parts), count=1)
                response = MutableHeaders(raw=start["headers"])
                response["Content-Length"] = str(len(body) if scope["method"] == "GET" else _length(response, head))
                for name in ("ETag", "Last-Modified", "Accept-Ranges"):
                    del response[name]
                await send(start)
                await send({**message, "body": body})
                return
            await send(message)

        await self.app(scope, receive, answer)


def _length(headers: MutableHeaders, head: bytes) -> int:
    """The length of the page for HEAD, whose body is not sent."""
    return int(headers.get("content-length", "0")) + len(head) - len(b"<title>Streamlit</title>")


async def _card(page: str, request: Request) -> Card:
    """The card of a link: the product's title alone for a client that may not read everything, and a faulty link."""
    settings = config.settings()
    if page not in _VIEWS or not Access(Keyring(settings.keys), People(settings.people)).is_open(request):
        return Card()
    try:
        text = request.scope["query_string"].decode("ascii", "replace")
        url_params.pairs(f"?{text}")
        view = _VIEWS[page].from_params(tuple(parse_qsl(text, keep_blank_values=True)))
        picture = query_string(_picture(view))
    except (UsageExploreError, ValueError):
        return Card()
    query = view.query
    organization, names = await _names(query) if query.organization_id else ("", NO_NAMES)
    title = "Load events from a file" if page == "load" else names.in_text(_title(view, names))
    url = f"{settings.app_url}/{page}" + (f"?{query_string(view.to_params())}" if query.organization_id else "")
    image = ""
    if query.organization_id and page != "load":
        image = f"{settings.app_url}{PREFIX}/v1/usage-events/aggregate.png?{picture}"
    return Card(title, " · ".join(filter(None, [organization, "Metered usage, explored live"])), image, url)


def _picture(view: ExploreView | EventsView | ValidateView | CustomerView | HomeView) -> tuple[tuple[str, str], ...]:
    """The parameters of the chart of a view: that of Explore, of others the usage under their filters."""
    if isinstance(view, ExploreView):
        return (*view.query.to_params(), ("chart", view.chart))
    given = view.query.shared_with(AggregateQuery)
    if isinstance(view, EventsView):
        window = {"since": view.query.occurred_after, "until": view.query.occurred_before, "timezone": view.timezone}
        given |= {name: value for name, value in window.items() if value is not None}
    return AggregateQuery(**{"group_by": "metric_key", **given}).to_params()


def _title(view: ExploreView | EventsView | ValidateView | CustomerView | HomeView, names: Names) -> str:
    """The view in words: "Events per day by model, last 30 days, UTC"."""
    query = view.query
    match view:
        case HomeView():
            return "Saved views and the state of the data"
        case CustomerView():
            if query.customer_id is None:
                return "Customers"
            return f"Customer {names.label('customer', query.customer_id)}, {window_words(view.query)}, {view.timezone}"
        case ValidateView():
            words = describe(query, whole_seconds=True)
            return f"Validation of {words[0].lower()}{words[1:]}"
        case _:
            return describe(query, whole_seconds=True)


async def _names(query: Query) -> tuple[str, Names]:
    """The organization's own name, and the names of the query's ids; "" and none without them or if it takes long."""

    def read() -> tuple[str, Names]:
        own = cache.every_organization_name().known("organization", str(query.organization_id)) or ""
        return own, cache.every_name(query)

    with anyio.move_on_after(_MAX_NAME_SECONDS):
        try:
            return await to_thread.run_sync(read, abandon_on_cancel=True)
        except (UsageExploreError, ScopeError):
            return "", NO_NAMES
    return "", NO_NAMES
