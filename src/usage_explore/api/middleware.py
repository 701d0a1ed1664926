"""Around every request: an id, a line in the log, headers that every answer has, and no fault of ours shown raw."""

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
from usage_explore.api.problems import Kind, Problem, of
from usage_explore.api.threads import ClientGone

_log = logging.getLogger("usage_explore.api")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LOOKED_AT = 8_192
"""Bytes of a query string that the log looks at where it is no question."""


class Requests:
    """ASGI middleware: `X-Request-ID` in and out, and one line in the log for each request.

    What is known of a request gathers in its `state`: `question` as it took effect, `asker` (the key's id and name),
    `organization_id`, `rows`, and `failure`, the exception that the answer tells of.
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
            state["request_id"] = given if _ID.fullmatch(given) else uuid.uuid4().hex
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
                await Problem(Kind.UNAVAILABLE, "The client went away.").response(request_id)(scope, receive, answer)
                status = 499
            except Exception as error:
                state["failure"] = error
                if not status:  # a started answer is cut off instead
                    await of(error).response(request_id)(scope, receive, answer)
        finally:
            if outermost:
                _write(scope, status, size, began)


def _write(scope: Scope, status: int, size: int, began: float) -> None:
    """The request's line in the log."""
    state = scope["state"]
    question, asker, failure = state.get("question"), state.get("asker"), state.get("failure")
    organization_id = getattr(question, "organization_id", None) or state.get("organization_id")
    client = scope.get("client")
    fields: dict[str, Any] = {
        "request_id": state["request_id"],
        "method": logs.truncated(scope["method"]),
        "path": logs.truncated(scope["path"]),
        "question": logs.query_fields(question) if question else _unread(scope["query_string"]),
        "organization_id": organization_id and str(organization_id),
        "asker": asker,
        "client": client and client[0],
        "status": status,
        "ms": logs.milliseconds_since(began),
        "rows": state.get("rows"),
        "bytes": size,
    }
    level, trace = logging.INFO, None
    if failure is not None:
        kind = of(failure).kind
        fields |= {"problem": kind.urn.rpartition(":")[2], "reason": logs.reason(failure)}
        if kind is Kind.INTERNAL:
            level, trace = logging.ERROR, failure
        elif kind.status.value >= 500 or status < 400:  # a problem after the first byte: an answer that broke off
            level = logging.WARNING
    _log.log(level, "request", exc_info=trace, extra={"fields": fields})


def _unread(query_string: bytes) -> dict[str, list[str]]:
    """The parameters of what is no question."""
    text = query_string[:_LOOKED_AT].decode("ascii", "backslashreplace")
    return logs.parameter_fields(parse_qsl(text, keep_blank_values=True))
