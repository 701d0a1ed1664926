"""Responses: media type by `Accept` (RFC 9110, with quality values), compression, and caching.

The answer to a pinned query never changes and may be cached for ever. A query is pinned if it names its organization,
its window is absolute and its `as_of` is at or before the latest `ingested_at` that is at least the settle time old
(`Store.is_settled`). Its answer has a strong ETag; `If-None-Match` is answered with 304. No other answer may be cached.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from usage_explore.api.problems import Problem, ProblemType
from usage_explore.query.base import Query, Windowed
from usage_explore.store import Store

JSON = "application/json"
CSV = "text/csv"
PNG = "image/png"
SVG = "image/svg+xml"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

MIN_COMPRESSED_BYTES = 500
"""Size from which a response body is compressed."""

_CACHE_FOR_EVER = "private, max-age=31536000, immutable"
_CACHE_NEVER = "no-store"
_VARY = "Accept, Authorization"
_QUALITY = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)", re.ASCII)

_encoded = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


def json_bytes(value: dict[str, Any] | None) -> bytes:
    """A document as JSON in UTF-8."""
    return _json_text(value).encode()


def _json_text(value: Any) -> str:
    """JSON, the items of a document's lists one by one: the encoder lets no other thread run until it ends."""
    if isinstance(value, dict) and all(isinstance(name, str) for name in value):
        return f"{{{','.join([f'{_encoded(name)}:{_json_text(member)}' for name, member in value.items()])}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_encoded, value))}]"
    return _encoded(value)


def is_pinned(store: Store, query: Query) -> bool:
    """Whether the query's answer can never change from now on; call it before the query runs."""
    if query.as_of is None or (query.organization_id is None and store.organization_id is None):
        return False
    if isinstance(query, Windowed) and query.is_relative:
        return False
    return store.is_settled(query)


def response(
    request: Request, body: bytes, media_type: str, *, pinned: bool, headers: Mapping[str, str] | None = None
) -> Response:
    """The response with its caching headers, or 304 if the client's `If-None-Match` has its ETag."""
    headers = {**(headers or {}), "Cache-Control": _CACHE_FOR_EVER if pinned else _CACHE_NEVER, "Vary": _VARY}
    if pinned:
        headers["ETag"] = _etag(request, body, media_type)
        if _matches(request.headers.get("If-None-Match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _etag(request: Request, body: bytes, media_type: str) -> str:
    """A tag of the bytes as they are sent: compressed ones differ."""
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    compressed = len(body) >= MIN_COMPRESSED_BYTES and media_type != PNG and accepts_gzip(request)
    return f'"{digest}-gzip"' if compressed else f'"{digest}"'


def accepts_gzip(request: Request) -> bool:
    """Whether the response may be compressed, by a header that `normalize_accept_encoding` has replaced."""
    return "gzip" in request.headers.get("Accept-Encoding", "")


def _matches(if_none_match: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in if_none_match.split(",")}
    return "*" in tags or etag in tags


def negotiated(request: Request, *offers: str) -> str:
    """The media type of `offers` that the request's `Accept` ranks highest; the first of equals, or without `Accept`.

    Raises `Problem` (406) if it accepts none of them.
    """
    return best_offer(",".join(request.headers.getlist("accept")), offers)


def best_offer(accept: str | None, offers: Sequence[str]) -> str:
    """`negotiated` for the text of an `Accept` header."""
    if accept is None or not accept.strip():
        return offers[0]
    ranges = [parsed for item in accept.split(",") if (parsed := _parsed_range(item))]
    qualities = {offer: _quality(offer, ranges) for offer in offers}
    best = max(offers, key=lambda offer: qualities[offer])
    if not qualities[best]:
        detail = f"Accept takes none of {', '.join(offers)}; name one of them, or */*."
        raise Problem(ProblemType.NOT_ACCEPTABLE, detail)
    return best


class Compression(GZipMiddleware):
    """Compresses responses where `Accept-Encoding` allows it; Starlette's own ignores quality values such as q=0."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        normalize_accept_encoding(scope)
        await super().__call__(scope, receive, send)


def normalize_accept_encoding(scope: Scope) -> None:
    """Replace a request's `Accept-Encoding` by `gzip`, or by `identity` if gzip has quality 0 or is not named."""
    if scope["type"] != "http":
        return
    headers = MutableHeaders(scope=scope)
    items = ",".join(headers.getlist("Accept-Encoding")).split(",")
    codings = dict(parsed for item in items if (parsed := _parsed_range(item)))
    headers["Accept-Encoding"] = "gzip" if codings.get("gzip", codings.get("*", 0.0)) > 0 else "identity"


def _parsed_range(item: str) -> tuple[str, float] | None:
    """A media range or coding and its quality; None if malformed, or with parameters other than charset=utf-8."""
    name, *parameters = (part.strip().lower() for part in item.split(";"))
    quality = 1.0
    for parameter in parameters:
        key, _, value = (part.strip() for part in parameter.partition("="))
        if key == "q":
            if not _QUALITY.fullmatch(value):
                return None
            quality = float(value)
            break
        if parameter and not (key == "charset" and value.strip('"') == "utf-8"):
            return None
    return name, quality


def _quality(offer: str, ranges: Sequence[tuple[str, float]]) -> float:
    """The quality of the most specific range that includes the offer."""
    for wanted in (offer, offer.partition("/")[0] + "/*", "*/*"):
        matching = [quality for name, quality in ranges if name == wanted]
        if matching:
            return max(matching)
    return 0.0
