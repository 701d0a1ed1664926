"""Around every request: an id, a line in the log, headers that every answer has, and no fault of ours shown raw."""

from __future__ import annotations

import logging
import re
import time
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from usage_explore.api.asking import ClientGone
from usage_explore.api.problems import Kind, Problem, of

_log = logging.getLogger("usage_explore.api")
_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class Requests:
    """ASGI middleware: `X-Request-ID` in and out, the question and its duration in the log."""

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
        status = 0

        async def answer(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            await send(message)

        try:
            await self.app(scope, receive, answer)
        except ClientGone:
            await Problem(Kind.UNAVAILABLE, "The client went away.").response(request_id)(scope, receive, answer)
            status = 499
        except Exception as error:
            _log.exception("%s failed", request_id)
            if not status:  # a started answer is cut off instead
                await of(error).response(request_id)(scope, receive, answer)
        if outermost:
            question = _printable(scope["query_string"])
            took = (time.perf_counter() - began) * 1000
            _log.info("%s %s %s?%s %d %.0f ms", request_id, scope["method"], scope["path"], question, status, took)


def _printable(query_string: bytes, most: int = 2_000) -> str:
    """The question for the log: one line, cut where it is long."""
    text = query_string[:most].decode("ascii", "backslashreplace")
    return "".join(letter if letter.isprintable() else "?" for letter in text)
