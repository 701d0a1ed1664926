"""The head of the app's pages for programs that show a link as a card, such as a chat: title, description, picture.

Streamlit serves one file for every page, with the title "Streamlit"; the middleware writes the head of the link into
it, for every client. Where API keys or people are configured, or the client is on another machine, it is the product's
title alone: a link's query may hold names, and nobody has signed in yet. Nothing is queried but the organizations'
names, which are cached for a minute; the picture is drawn when a program fetches it.
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
from usage_explore.app.middleware import PAGES, base_path
from usage_explore.app.page_state import CustomerView, EventsView, ExploreView, HomeView, ValidateView
from usage_explore.errors import UsageExploreError
from usage_explore.query import url_params
from usage_explore.query.describe import describe
from usage_explore.query.url_params import query_string
from usage_explore.web.heads import Card

_VIEWS: dict[str, type[ExploreView | EventsView | ValidateView | CustomerView | HomeView]] = {
    "": ExploreView,
    "explore": ExploreView,
    "events": EventsView,
    "validate": ValidateView,
    "customer": CustomerView,
    "home": HomeView,
}
_TITLE = re.compile(rb"<title>[^<]*</title>")
_MAX_NAME_SECONDS = 0.5
"""Time that the head waits for the organization's name; without it, the card has none."""


class Unfurl:
    """ASGI middleware that writes the head of a link into Streamlit's page."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; its page gets the head of its link."""
        page = scope["path"].removeprefix(base_path()).strip("/") if scope["type"] == "http" else None
        if page not in PAGES or scope["method"] not in ("GET", "HEAD"):
            await self.app(scope, receive, send)
            return
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
    except (UsageExploreError, ValueError):
        return Card()
    query = view.query
    words = "Saved views and recent links" if isinstance(view, HomeView) else describe(query, whole_seconds=True)
    title = words if isinstance(view, ExploreView) else f"{(view.path or 'explore').capitalize()}: {words}"
    name = await _organization(str(query.organization_id)) if query.organization_id else ""
    url = f"{settings.app_url}/{page}" + (f"?{query_string(view.to_params())}" if query.organization_id else "")
    image = ""
    if isinstance(view, ExploreView) and query.organization_id:
        shown = (*query.to_params(), ("chart", view.chart))
        image = f"{settings.app_url}{PREFIX}/v1/usage-events/aggregate.png?{query_string(shown)}"
    return Card(title, " · ".join(filter(None, [name, "Metered usage, explored live"])), image, url)


async def _organization(organization_id: str) -> str:
    """The organization's own name, from the cache of the pages; "" without one or if it takes too long."""
    with anyio.move_on_after(_MAX_NAME_SECONDS):
        try:
            names = await to_thread.run_sync(cache.every_organization_name, abandon_on_cancel=True)
        except UsageExploreError:
            return ""
        return names.known("organization", organization_id) or ""
    return ""
