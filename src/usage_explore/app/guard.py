"""What Streamlit serves beside the pages: bounded, for the app's own pages alone, or closed.

- Hosts: without access control only this machine's own names; the API under `/api/` checks its requests itself.
- Uploads: a file of at most 20 MB, into a session that is signed in (where people sign in) and holds fewer than
  `MAX_FILES` files, while all sessions together hold at most `MAX_HELD` bytes with it. Files that are being read count
  from their admission. All else is refused before it is read.
- WebSockets: from the origin that the browser calls the server by, or one in Streamlit's `server.corsAllowedOrigins`.
- Pages: framed by nothing but this origin. Prepared charts and files (`/media/`): kept by no cache.
- Streamlit's metrics and its agent API: closed.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

from usage_explore.api import PREFIX
from usage_explore.api.problems import Problem
from usage_explore.api.responses import normalize_accept_encoding
from usage_explore.api.service import ConcurrencyLimit
from usage_explore.app import sign_in
from usage_explore.app.sign_in_redirect import base_path
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES

_log = logging.getLogger(__name__)

MAX_FILES = 10
"""Files that one session holds; another file takes the place of one that is removed."""

_MAX_FILE = MAX_UPLOAD_MEGABYTES * 2**20

MAX_HELD = 10 * _MAX_FILE
"""Bytes of files that all sessions hold together."""

_AT_ONCE, _OF_USER, _OF_SESSION = 8, 4, 2
"""Uploads read at once: of all, of one user (who is the same where nobody signs in), of one session."""

_PATIENCE = 10  # seconds that others wait
_CLOSED = ("/_stcore/metrics", "/_stcore/agent/")
_UPLOADS = "/_stcore/upload_file/"
_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Upload:
    """A file that is being read."""

    session_id: str
    size: int


class Guard:
    """ASGI middleware around the app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._limit = ConcurrencyLimit(_AT_ONCE, _PATIENCE)
        self._limits: WeakValueDictionary[str, ConcurrencyLimit] = WeakValueDictionary()
        self._reading: set[_Upload] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        path = str(scope.get("path", "")).removeprefix(base_path())
        is_page = scope["type"] == "websocket" or (scope["type"] == "http" and not path.startswith(f"{PREFIX}/"))
        if is_page and not sign_in.may_connect(Headers(scope=scope).getlist("host")):
            await PlainTextResponse(f"{sign_in.MISDIRECTED}\n", 421)(scope, receive, send)
            return
        if scope["type"] == "websocket" and not _is_own(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        normalize_accept_encoding(scope)

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
        upload = _Upload(path.removeprefix(_UPLOADS).partition("/")[0], _size(Headers(scope=scope)))
        own = self._limits.setdefault(upload.session_id, ConcurrencyLimit(_OF_SESSION, _PATIENCE))
        user = self._limits.setdefault(f"user {_user(upload.session_id)}", ConcurrencyLimit(_OF_USER, _PATIENCE))
        try:
            async with own.slot(), user.slot(), self._limit.slot():
                status, words = self._refusal(upload)
                if status is None:
                    await self._read(upload, scope, receive, send)
                    return
        except Problem:
            status, words = 503, "Too many files are being uploaded right now; try again shortly."
        await PlainTextResponse(f"{words}\n", status, {"Connection": "close"})(scope, receive, send)

    async def _read(self, upload: _Upload, scope: Scope, receive: Receive, send: Send) -> None:
        """Let Streamlit read the file, which counts as held until Streamlit holds it and answers."""
        received = 0

        async def chunk() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if message["type"] == "http.disconnect" and upload in self._reading:
                self._reading.remove(upload)
                _log.info("upload: the client went away", extra={"fields": {"bytes": received}})
            return message

        async def answer(message: Message) -> None:
            self._reading.discard(upload)
            await send(message)

        self._reading.add(upload)
        try:
            await self.app(scope, chunk, answer)
        finally:
            self._reading.discard(upload)

    def _refusal(self, upload: _Upload) -> tuple[int | None, str]:
        """Why the session may not upload the file now, as a status with words; None where it may."""
        server, session_id = runtime.get_instance(), upload.session_id
        session = server.get_app_session(session_id)
        if session is None or not sign_in.may_upload(session._user_info):
            return 403, "Sign in, or reload the page, before you upload a file."
        files = cast("MemoryUploadedFileManager", server.uploaded_file_mgr)
        held = len(files.get_files(session_id, list(files.file_storage.get(session_id, ()))))
        if held + sum(each.session_id == session_id for each in self._reading) >= MAX_FILES:
            return 429, f"This page holds {MAX_FILES} files already; remove one, or reload the page."
        room = MAX_HELD - upload.size - sum(each.size for each in self._reading)
        if _held(files) > room:
            _release(server, files)
        if _held(files) > room:
            return 503, "The server holds as many files as it may; try again later."
        return None, ""


def _user(session_id: str) -> str:
    """The e-mail address of who is signed in to the session, blank for others."""
    session = runtime.get_instance().get_app_session(session_id)
    return str(session._user_info.get("email") or "") if session is not None else ""


def _size(headers: Headers) -> int:
    """The bytes that a file may take: what the request says, at most what a file may have."""
    length = headers.get("content-length", "")
    return min(int(length), _MAX_FILE) if length.isdecimal() and "transfer-encoding" not in headers else _MAX_FILE


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
