"""Every error as RFC 9457 `application/problem+json`: what is wrong, and what to do about it.

`type` is a URN to branch on, such as `urn:usage-explore:problem:query`; `detail` is for people; `errors` names
each parameter of a wrong question; `request_id` finds the request in the server's log.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Coroutine, Iterable, Mapping
from enum import Enum
from http import HTTPStatus
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from usage_explore.errors import (
    DatabaseUnavailable,
    DrawingError,
    Fault,
    NotExact,
    QueryError,
    StatementTimeout,
    TableMismatch,
    UsageExploreError,
)

MEDIA_TYPE = "application/problem+json"
URN = "urn:usage-explore:problem:"
RETRY_AFTER = 5
"""Seconds after which asking again makes sense when the database is away or busy."""


class Kind(Enum):
    """The problems there are: status, title, and when each is the answer."""

    def __init__(self, status: HTTPStatus, title: str, when: str) -> None:
        self.status = status
        self.title = title
        self.when = when

    QUERY = (HTTPStatus.BAD_REQUEST, "The question is wrong", "Each fault is named in `errors`.")
    UNAUTHORIZED = (
        HTTPStatus.UNAUTHORIZED,
        "An API key is needed",
        "The key is missing, wrong or revoked: the answer is the same.",
    )
    FORBIDDEN = (
        HTTPStatus.FORBIDDEN,
        "Not an organization you may see",
        "The organization is not yours to see, or does not exist: the answer is the same.",
    )
    NOT_FOUND = (HTTPStatus.NOT_FOUND, "There is nothing at this address", "")
    METHOD = (HTTPStatus.METHOD_NOT_ALLOWED, "This address is only read", "")
    NOT_ACCEPTABLE = (
        HTTPStatus.NOT_ACCEPTABLE,
        "No form of the answer is acceptable",
        "`Accept` takes none of the forms there are.",
    )
    NOT_EXACT = (
        HTTPStatus.CONFLICT,
        "There is no exact answer",
        "NaN or infinite quantities, or more than the database can hold, would be summed; counting still works.",
    )
    TOO_LONG = (HTTPStatus.REQUEST_URI_TOO_LONG, "The question is too long", "The query string is too long.")
    TOO_MANY = (
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many wrong keys",
        "Ask again after `Retry-After` seconds; right keys are answered meanwhile.",
    )
    MISDIRECTED = (
        HTTPStatus.MISDIRECTED_REQUEST,
        "Only this machine is answered",
        "There are no API keys, and the request does not come from this machine under its own name.",
    )
    INTERNAL = (HTTPStatus.INTERNAL_SERVER_ERROR, "Something went wrong here", "A fault of the server.")
    NOT_DRAWN = (
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The chart could not be drawn",
        "It took too long, or drawing failed; the numbers themselves are at the same address without `.png` or `.svg`.",
    )
    UNAVAILABLE = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database is away or busy",
        "Ask again after `Retry-After` seconds.",
    )
    MISMATCH = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The events table does not fit",
        "The table is missing, or its columns or permissions do not fit; `usage-explore doctor` says more.",
    )
    TIMEOUT = (
        HTTPStatus.GATEWAY_TIMEOUT,
        "The statement took too long",
        "It was cancelled; narrow the window or add a filter.",
    )
    HTTP_VERSION = (
        HTTPStatus.HTTP_VERSION_NOT_SUPPORTED,
        "HTTP/1.1 is needed",
        "HTTP/1.0 cannot tell a broken export from a whole one.",
    )

    @property
    def urn(self) -> str:
        """The problem's `type`."""
        return URN + self.name.lower().replace("_", "-")


class Problem(Exception):
    """An error that is its own answer."""

    def __init__(
        self,
        kind: Kind,
        detail: str,
        errors: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def response(self, request_id: str) -> Response:
        """The problem as an answer."""
        body: dict[str, object] = {
            "type": self.kind.urn,
            "title": self.kind.title,
            "status": self.kind.status.value,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [{"parameter": fault.parameter, "message": fault.message} for fault in self.errors]
        headers = {"Cache-Control": "no-store", "Vary": "Accept, Authorization", **self.headers}
        if self.kind.status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER)
        content = json.dumps(body, ensure_ascii=False).encode()
        return Response(content, self.kind.status.value, headers, MEDIA_TYPE)


def busy() -> Problem:
    """Every connection that may be used is in use."""
    return Problem(Kind.UNAVAILABLE, "Too many questions are being answered right now; try again shortly.")


def stopped() -> Problem:
    """The server was told to end, and what runs has had its grace."""
    return Problem(Kind.UNAVAILABLE, "The server is being stopped; try again shortly.")


def request_id(request: Request) -> str:
    """What the log calls the request."""
    return str(request.scope.get("state", {}).get("request_id") or uuid.uuid4().hex)


def of(error: Exception) -> Problem:
    """The problem that an error of ours is, without the server's internals."""
    match error:
        case Problem():
            return error
        case QueryError():
            return Problem(Kind.QUERY, "Mend what `errors` names, then ask again.", error.faults)
        case NotExact():
            return Problem(Kind.NOT_EXACT, str(error))
        case DrawingError():
            return Problem(Kind.NOT_DRAWN, str(error))
        case StatementTimeout():
            return Problem(Kind.TIMEOUT, "The statement took longer than allowed; narrow the window or add a filter.")
        case DatabaseUnavailable():
            return Problem(Kind.UNAVAILABLE, error.public)
        case TableMismatch():
            return Problem(
                Kind.MISMATCH, "The events table is missing or does not fit; `usage-explore doctor` says what to do."
            )
        case _:
            return Problem(Kind.INTERNAL, "Nothing is wrong with the question; the server's log says what happened.")


async def of_ours(request: Request, error: Exception) -> Response:
    """Answer an error that was raised on purpose; the request's line in the log names it."""
    request.state.failure = error
    return of(error).response(request_id(request))


async def of_routing(request: Request, error: Exception) -> Response:
    """Answer what the router raises: nothing there, or not to be written to."""
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = {"Allow": "GET, HEAD"}
        return Problem(Kind.METHOD, "Ask with GET or HEAD.", headers=allowed).response(request_id(request))
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        words = "What there is, /api/openapi.json describes."
        return Problem(Kind.NOT_FOUND, words).response(request_id(request))
    return await of_ours(request, error)


def handlers() -> dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
    """Exception handlers for a Starlette or FastAPI application."""
    return {UsageExploreError: of_ours, Problem: of_ours, HTTPException: of_routing}
