"""Middleware around every request: request id, log line, common headers, and problem responses for errors."""

from __future__ import annotations

import logging
import re
import time
import uuid
from typing import Any
from urllib.parse import parse_qsl

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from usage_explore.access import logs
from usage_explore.api.problems import Problem, ProblemType, from_error
from usage_explore.api.service import ClientGone

_log = logging.getLogger("usage_explore.api")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MAX_LOGGED_BYTES = 8_192
"""Bytes of an invalid query string that are parsed for the log."""

_CLIENT_CLOSED_REQUEST = 499
"""Status in the log if the client disconnected, as nginx has it; no client receives it."""


class RequestLog:
    """ASGI middleware: accepts and returns `X-Request-ID`, and logs each request in one line.

    Endpoints add to the request's `state`: `query` (as it took effect), `api_key` (its id and name), `organization_id`,
    `rows`, and `failure`, the exception behind a problem.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        outermost = "request_id" not in state
        if outermost:
            given = Headers(scope=scope).get("X-Request-ID", "")
            state["request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request_id = state["request_id"]
        began = time.perf_counter()
        status = size = 0

        async def answer(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            size += len(message.get("body", b""))
            await send(message)

        try:
            try:
                await self.app(scope, receive, answer)
            except ClientGone:
                problem = Problem(ProblemType.UNAVAILABLE, "The client disconnected.")
                await problem.response(request_id)(scope, receive, answer)
                status = _CLIENT_CLOSED_REQUEST
            except Exception as error:
                state["failure"] = error
                if not status:  # a response that has begun is cut off instead
                    await from_error(error).response(request_id)(scope, receive, answer)
        finally:
            if outermost:
                _log_request(scope, status, size, began)


def _log_request(scope: Scope, status: int, size: int, began: float) -> None:
    state = scope["state"]
    query, failure = state.get("query"), state.get("failure")
    organization_id = getattr(query, "organization_id", None) or state.get("organization_id")
    client = scope.get("client")
    fields: dict[str, Any] = {
        "request_id": state["request_id"],
        "method": logs.truncated(scope["method"]),
        "path": logs.truncated(scope["path"]),
        "question": logs.query_fields(query) if query else _invalid_query_fields(scope["query_string"]),
        "organization_id": organization_id and str(organization_id),
        "asker": state.get("api_key"),
        "client": client and client[0],
        "status": status,
        "ms": logs.milliseconds_since(began),
        "rows": state.get("rows"),
        "bytes": size,
    }
    level, trace = logging.INFO, None
    if failure is not None:
        problem_type = from_error(failure).type
        fields |= {"problem": problem_type.urn.rpartition(":")[2], "reason": logs.reason(failure)}
        if problem_type is ProblemType.INTERNAL:
            level, trace = logging.ERROR, failure
        elif problem_type.status.value >= 500 or status < 400:  # an error status < 400: the response broke off
            level = logging.WARNING
    _log.log(level, "request", exc_info=trace, extra={"fields": fields})


def _invalid_query_fields(query_string: bytes) -> dict[str, list[str]]:
    """The parameters of a query string that did not parse."""
    text = query_string[:_MAX_LOGGED_BYTES].decode("ascii", "backslashreplace")
    return logs.parameter_fields(parse_qsl(text, keep_blank_values=True))
