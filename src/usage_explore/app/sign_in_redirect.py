"""Who signs in comes back to the link they opened, not to the front page.

Streamlit's sign-in ends at `/`. The way to it begins on one of our pages, whose address the browser names (`Referer`):
its path and query wait in a cookie for as long as signing in may take. Only a page of the app is ever returned to, so
whoever forges either of them leads nobody elsewhere.
"""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "usage_explore_return"
_PAGES = ("", "events", "validate")
_MINUTES = 10
_LONGEST = 3_500
"""Bytes that a cookie surely holds; who comes by a longer link opens it again."""


class Returning:
    """ASGI middleware around Streamlit's sign-in."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Remember the page on the way out, go there on the way back."""
        base = base_path()
        step = scope["path"].removeprefix(base) if scope["type"] == "http" else ""
        headers = Headers(scope=scope) if step in ("/auth/login", "/oauth2callback") else None
        if headers is None:
            await self.app(scope, receive, send)
            return
        page = _page(headers.get("referer", ""), base) if step == "/auth/login" else _kept(headers, base)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                if step == "/auth/login":
                    found.append("Set-Cookie", _cookie(page, base))
                elif found.get("location") == f"{base}/":
                    found["location"] = page or found["location"]
                    found.append("Set-Cookie", _cookie(None, base))
            await send(message)

        await self.app(scope, receive, answer)


def _page(address: str, base: str) -> str | None:
    """The path and query of an address, where it is a page of the app and not too long."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return None
    if parts.path.removeprefix(f"{base}/") not in _PAGES or not parts.path.startswith(f"{base}/"):
        return None
    found = quote(f"{parts.path}?{parts.query}" if parts.query else parts.path, safe="/?&=%:+,;~!*'()-._@$")
    return found if len(quote(found, safe="")) <= _LONGEST else None


def _kept(headers: Headers, base: str) -> str | None:
    """The page that waits in the cookie; what it holds is trusted no more than an address."""
    cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
    return _page(unquote(cookies[COOKIE]), base) if COOKIE in cookies else None


def _cookie(page: str | None, base: str) -> str:
    """The header that keeps a page, or forgets what was kept."""
    value, age = (quote(page, safe=""), _MINUTES * 60) if page else ("", 0)
    return f"{COOKIE}={value}; Path={base}/; Max-Age={age}; HttpOnly; SameSite=Lax"


def base_path() -> str:
    """The path that the app is served under, blank at the root."""
    folder = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{folder}" if folder else ""
