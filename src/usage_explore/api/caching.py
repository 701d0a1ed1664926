"""What may be kept: the answer to a pinned question never changes, every other one is asked again.

A question is pinned when it names its organization, its window is absolute and its `as_of` lies at or before the latest
`ingested_at` that is at least the settle time old (`Store.is_settled`). Its answer carries a strong ETag;
`If-None-Match` is answered with 304.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from usage_explore.query.base import Question
from usage_explore.query.queries import AggregateQuery
from usage_explore.store import Store

FOREVER = "private, max-age=31536000, immutable"
NEVER = "no-store"
VARY = "Accept, Authorization"
GZIP_FROM = 500
"""Bytes from which answers are compressed."""


def is_pinned(store: Store, question: Question) -> bool:
    """Whether the question's answer can never change from now on; to be asked before the answer is."""
    if question.as_of is None or (question.organization_id is None and store.organization_id is None):
        return False
    if isinstance(question, AggregateQuery) and question.is_relative:
        return False
    return store.is_settled(question)


def answered(
    request: Request, body: bytes, media_type: str, *, pinned: bool, headers: Mapping[str, str] | None = None
) -> Response:
    """The answer with what caches may do with it, or 304 where the client has it already."""
    headers = {**(headers or {}), "Cache-Control": FOREVER if pinned else NEVER, "Vary": VARY}
    if pinned:
        headers["ETag"] = _etag(request, body, media_type)
        if _matches(request.headers.get("If-None-Match", ""), headers["ETag"]):
            return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _etag(request: Request, body: bytes, media_type: str) -> str:
    """A tag of these very bytes: compressed they are others."""
    digest = hashlib.blake2b(body, digest_size=16).hexdigest()
    compressed = (
        len(body) >= GZIP_FROM and media_type != "image/png" and "gzip" in request.headers.get("Accept-Encoding", "")
    )
    return f'"{digest}-gzip"' if compressed else f'"{digest}"'


def _matches(given: str, etag: str) -> bool:
    tags = {tag.strip().removeprefix("W/") for tag in given.split(",")}
    return "*" in tags or etag in tags
