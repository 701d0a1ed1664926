"""Errors as `application/problem+json` (RFC 9457).

`type` is a URN for programs, such as `urn:usage-explore:problem:query`; `detail` is text for people and says what to
do; `errors` lists the faulty parameters of a query; `request_id` finds the request in the server's log.
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
from starlette.routing import Match

from usage_explore.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    DrawingError,
    Fault,
    LinkGone,
    NotExact,
    QueryError,
    RecordError,
    StatementTimeout,
    TableMismatch,
    UsageExploreError,
    is_out_of_files,
)

MEDIA_TYPE = "application/problem+json"
URN = "urn:usage-explore:problem:"
RETRY_AFTER_SECONDS = 5
"""`Retry-After` of every 503."""


class ProblemType(Enum):
    """The types of problems: status, title, and when it is returned."""

    def __init__(self, status: HTTPStatus, title: str, when: str) -> None:
        self.status = status
        self.title = title
        self.when = when

    QUERY = (HTTPStatus.BAD_REQUEST, "Invalid query", "`errors` lists each faulty parameter.")
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
    METHOD = (HTTPStatus.METHOD_NOT_ALLOWED, "This address does not take the method", "")
    NOT_ACCEPTABLE = (
        HTTPStatus.NOT_ACCEPTABLE,
        "No acceptable media type",
        "`Accept` allows none of the media types of this operation.",
    )
    NOT_EXACT = (
        HTTPStatus.CONFLICT,
        "There is no exact answer",
        "The sum would include NaN or infinite quantities, or exceeds what the database can hold; metric=count works.",
    )
    GONE = (
        HTTPStatus.GONE,
        "There is no such link",
        "It is unknown, has expired or was revoked: the answer is the same.",
    )
    TOO_LARGE = (HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too large", "The body has too many bytes.")
    UNSUPPORTED = (
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "The body has another media type",
        "Files are sent as multipart/form-data, a new link as application/json.",
    )
    TOO_LONG = (HTTPStatus.REQUEST_URI_TOO_LONG, "The query is too long", "The query string has too many bytes.")
    TOO_MANY = (
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many wrong keys",
        "Try again after `Retry-After` seconds; valid keys are accepted meanwhile.",
    )
    TOO_MANY_JOBS = (
        HTTPStatus.TOO_MANY_REQUESTS,
        "Too many jobs",
        "Try again after `Retry-After` seconds, or delete one that runs or waits.",
    )
    MISDIRECTED = (
        HTTPStatus.MISDIRECTED_REQUEST,
        "Only this machine is answered",
        "There are no API keys, and the request does not come from this machine under its own name; or a browser sends "
        "it from a page of another site.",
    )
    INTERNAL = (HTTPStatus.INTERNAL_SERVER_ERROR, "Internal error", "A fault of the server.")
    RECORD = (
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "A saved record cannot be read or written",
        "A row of the records is damaged, or they cannot be written; the server's log names it.",
    )
    NOT_DRAWN = (
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "The chart could not be drawn",
        "Drawing took too long or failed; the numbers are at the same address without `.png` or `.svg`.",
    )
    UNAVAILABLE = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "The database is unavailable or busy",
        "Try again after `Retry-After` seconds.",
    )
    MISMATCH = (
        HTTPStatus.SERVICE_UNAVAILABLE,
        "A table does not fit",
        "The events table is missing, or its columns, values or permissions or the database's settings do not fit;"
        " `usage-explore doctor` says more.",
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
        """The problem's `type`: `urn:usage-explore:problem:` and the member's name."""
        return URN + self.name.lower().replace("_", "-")


class Problem(Exception):
    """An error with its HTTP response."""

    def __init__(
        self,
        problem_type: ProblemType,
        detail: str,
        errors: Iterable[Fault] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.type = problem_type
        self.detail = detail
        self.errors = tuple(errors)
        self.headers = dict(headers or {})

    def body(self, request_id: str) -> dict[str, object]:
        """The problem as JSON has it."""
        body: dict[str, object] = {
            "type": self.type.urn,
            "title": self.type.title,
            "status": self.type.status.value,
            "detail": self.detail,
            "request_id": request_id,
        }
        if self.errors:
            body["errors"] = [{"parameter": fault.parameter, "message": fault.message} for fault in self.errors]
        return body

    def response(self, request_id: str) -> Response:
        """The problem as a response, never cached; with `Retry-After` if its status is 503."""
        headers = {"Cache-Control": "no-store", "Vary": "Accept, Authorization", **self.headers}
        if self.type.status is HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        content = json.dumps(self.body(request_id), ensure_ascii=False).encode()
        return Response(content, self.type.status.value, headers, MEDIA_TYPE)


def busy() -> Problem:
    """The 503 for a limit of concurrency, or of time, that is used up."""
    return Problem(ProblemType.UNAVAILABLE, "Too many queries are running; try again shortly.")


def stopped() -> Problem:
    """The 503 for what still runs when the server stops and the grace time is over."""
    return Problem(ProblemType.UNAVAILABLE, "The server is being stopped; try again shortly.")


def request_id(request: Request) -> str:
    """The request's id in the log."""
    return str(request.scope.get("state", {}).get("request_id") or uuid.uuid4().hex)


def from_error(error: Exception) -> Problem:
    """The problem for an error, without server internals; `INTERNAL` for errors that are not usage-explore's own."""
    match error:
        case Problem():
            return error
        case _ if is_out_of_files(error):  # a file of ours that cannot be opened is no wrong configuration
            return Problem(ProblemType.UNAVAILABLE, "The server has too many open files; try again shortly.")
        case QueryError():
            return Problem(ProblemType.QUERY, "Fix what `errors` lists, then try again.", error.faults)
        case LinkGone():
            return Problem(ProblemType.GONE, str(error))
        case RecordError():
            return Problem(ProblemType.RECORD, "The server's log names the row, and what to do about it.")
        case NotExact():
            return Problem(ProblemType.NOT_EXACT, str(error))
        case DrawingError():
            return Problem(ProblemType.NOT_DRAWN, str(error))
        case StatementTimeout():
            detail = "The statement took longer than allowed; narrow the window or add a filter."
            return Problem(ProblemType.TIMEOUT, detail)
        case DatabaseUnavailable():
            return Problem(ProblemType.UNAVAILABLE, error.public)
        case TableMismatch():
            return Problem(ProblemType.MISMATCH, error.public)
        case ConfigurationError():
            return Problem(ProblemType.INTERNAL, "The server's configuration is invalid; its log says what to mend.")
        case _:
            return Problem(ProblemType.INTERNAL, "The query is valid; the server's log has the cause.")


def handlers() -> dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]:
    """Exception handlers for a Starlette or FastAPI application."""
    return {UsageExploreError: _error_response, Problem: _error_response, HTTPException: _routing_error_response}


async def _error_response(request: Request, error: Exception) -> Response:
    request.state.failure = error  # for the request's log line
    return from_error(error).response(request_id(request))


async def _routing_error_response(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = _methods(request)
        problem = Problem(ProblemType.METHOD, f"Use {' or '.join(allowed)}.", headers={"Allow": ", ".join(allowed)})
        return await _error_response(request, problem)
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.NOT_FOUND:
        detail = "/api/openapi.json lists all addresses."
        return await _error_response(request, Problem(ProblemType.NOT_FOUND, detail))
    return await _error_response(request, error)


def _methods(request: Request) -> list[str]:
    """The methods that the request's address takes."""
    scope = {**request.scope, "method": "OPTIONS"}
    routes = [route for route in request.app.routes if route.matches(scope)[0] is not Match.NONE]
    return sorted({method for route in routes for method in getattr(route, "methods", None) or ()})
