"""What Streamlit serves beside the pages: bounded, for the app's own pages alone, or closed.

- Uploads: a file of at most 20 MB, into a session that is signed in (where people sign in) and holds fewer than
  `MAX_FILES` files, while all sessions together hold less than `MAX_HELD` bytes. All else is refused before it is read.
- WebSockets: from the origin that the browser calls the server by, or one in Streamlit's `server.corsAllowedOrigins`.
- Pages: framed by nothing but this origin. Prepared charts and files (`/media/`): kept by no cache.
- Streamlit's metrics and its agent API: closed.
"""

from __future__ import annotations

from typing import cast
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from usage_explore.api.asking import Turns
from usage_explore.api.negotiation import settle_encoding
from usage_explore.api.problems import Problem
from usage_explore.app import asker
from usage_explore.app.returning import base_path
from usage_explore.limits import MAX_UPLOAD_MEGABYTES

MAX_FILES = 10
"""Files that one session holds; another file takes the place of one that is removed."""

MAX_HELD = 10 * MAX_UPLOAD_MEGABYTES * 2**20
"""Bytes of files that all sessions hold together."""

_AT_ONCE, _PATIENCE = 4, 10  # uploads that are read at the same time; seconds that another one waits
_CLOSED = ("/_stcore/metrics", "/_stcore/agent/")
_UPLOADS = "/_stcore/upload_file/"
_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """ASGI middleware around the app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._turns = Turns(_AT_ONCE, _PATIENCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        path = str(scope.get("path", "")).removeprefix(base_path())
        if scope["type"] == "websocket" and not _is_own(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        settle_encoding(scope)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if path.startswith("/media/"):
                    headers["Cache-Control"] = "private, no-store"
            await send(message)

        if path.startswith(_CLOSED):
            await PlainTextResponse("Not found\n", 404)(scope, receive, answer)
        elif path.startswith(_UPLOADS) and scope["method"] == "PUT":
            await self._upload(path, scope, receive, answer)
        else:
            await self.app(scope, receive, answer)

    async def _upload(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        session_id = path.removeprefix(_UPLOADS).partition("/")[0]
        try:
            async with self._turns.one():
                status, words = _refusal(session_id)
                if status is None:
                    await self.app(scope, receive, send)
                    return
        except Problem:
            status, words = 503, "Too many files are being uploaded right now; try again shortly."
        await PlainTextResponse(f"{words}\n", status, {"Connection": "close"})(scope, receive, send)


def _refusal(session_id: str) -> tuple[int | None, str]:
    """Why the session may not upload a file now, as a status with words; None where it may."""
    server = runtime.get_instance()
    session = server.get_app_session(session_id)
    if session is None or not asker.may_upload(session._user_info):
        return 403, "Sign in, or reload the page, before you upload a file."
    files = cast("MemoryUploadedFileManager", server.uploaded_file_mgr)
    if len(files.get_files(session_id, list(files.file_storage.get(session_id, ())))) >= MAX_FILES:
        return 429, f"This page holds {MAX_FILES} files already; remove one, or reload the page."
    if _held(files) >= MAX_HELD:
        _release(server, files)
    if _held(files) >= MAX_HELD:
        return 503, "The server holds as many files as it may; try again later."
    return None, ""


def _held(files: MemoryUploadedFileManager) -> int:
    return sum(len(file.data) for held in list(files.file_storage.values()) for file in list(held.values()))


def _release(server: Runtime, files: MemoryUploadedFileManager) -> None:
    """Forget the files of pages that are closed; Streamlit keeps them until other pages are closed too."""
    for session_id in list(files.file_storage):
        if not server.is_active_session(session_id):
            files.remove_session_files(session_id)


def _is_own(headers: Headers) -> bool:
    """Whether a WebSocket comes from a page of this server; what is no browser names no origin."""
    origins, host = headers.getlist("origin"), headers.get("host")
    allowed = [str(each).strip() for each in st.get_option("server.corsAllowedOrigins") or ()]
    return all(each in allowed or (host and urlsplit(each).netloc == host) for each in origins)
