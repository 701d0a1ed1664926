"""A link that is too long for the app is refused: of a query string beyond its bounds Streamlit reads nothing at all.

Without the filters that such a link names, the page would show more than was asked for.
"""

from __future__ import annotations

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from usage_explore.api import PREFIX
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES

MOST_PARAMETERS = 1_000
"""How many parameters Streamlit reads."""


class Bounded:
    """ASGI middleware around the app's pages; the API beside them has bounds of its own."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 414."""
        page = scope["type"] == "http" and f"{PREFIX}/" not in scope["path"]
        query: bytes = scope.get("query_string", b"") if page else b""
        number = query.count(b"&") + 1
        if len(query) <= MAX_QUERY_STRING_BYTES and number <= MOST_PARAMETERS:
            await self.app(scope, receive, send)
            return
        words = (
            f"This link cannot be shown: it has {number:,} parameters and {len(query):,} bytes, and the app reads at "
            f"most {MOST_PARAMETERS:,} and {MAX_QUERY_STRING_BYTES:,}. Name fewer values; the API accepts a few more.\n"
        )
        await PlainTextResponse(words, 414, {"Cache-Control": "no-store"})(scope, receive, send)
