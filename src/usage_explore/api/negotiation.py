"""Which form of the answer the client would rather have: RFC 9110's `Accept`, quality values included."""

from __future__ import annotations

import re
from collections.abc import Sequence

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from usage_explore.api.problems import Kind, Problem

JSON = "application/json"
CSV = "text/csv"
PNG = "image/png"
SVG = "image/svg+xml"

_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)


def chosen(accept: str | None, offers: Sequence[str]) -> str:
    """The offer the client ranks highest, the first among equals; any will do when it does not say.

    Raises `Problem` (406) when it takes none of them.
    """
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [found for item in accept.split(",") if (found := _range(item))]
    ranked = {offer: _quality(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: ranked[offer])
    if not ranked[best]:
        raise Problem(Kind.NOT_ACCEPTABLE, f"Accept takes none of {', '.join(offers)}; name one of them, or */*.")
    return best


class Compressed(GZipMiddleware):
    """Compresses answers for clients that take it; the original looks for the letters "gzip" alone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        settle_encoding(scope)
        await super().__call__(scope, receive, send)


def settle_encoding(scope: Scope) -> None:
    """Replace a request's `Accept-Encoding` by what it comes to: `gzip`, or `identity` where that has quality 0."""
    if scope["type"] != "http":
        return
    headers = MutableHeaders(scope=scope)
    codings = dict(found for item in ",".join(headers.getlist("Accept-Encoding")).split(",") if (found := _range(item)))
    headers["Accept-Encoding"] = "gzip" if codings.get("gzip", codings.get("*", 0.0)) > 0 else "identity"


def _range(item: str) -> tuple[str, float] | None:
    """A media range and its quality; None for one that cannot be read or asks for parameters we do not have."""
    kind, *parameters = (part.strip().lower() for part in item.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = (part.strip() for part in parameter.partition("="))
        if name == "q":
            if not _QUALITY.fullmatch(value):
                return None
            quality = float(value)
            break
        if parameter and not (name == "charset" and value.strip('"') == "utf-8"):
            return None
    return kind, quality


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that holds the offer."""
    for wanted in (offer, offer.partition("/")[0] + "/*", "*/*"):
        found = [quality for kind, quality in ranges if kind == wanted]
        if found:
            return max(found)
    return 0.0
