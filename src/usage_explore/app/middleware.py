"""ASGI middleware around Streamlit: access rules of what it serves, limits of links, and the return from sign-in.

`Guard`:

- Hosts: without an allow list only names of this machine; the API under `/api/` checks its requests itself.
- Uploads: files of at most 20 MB, at most `MAX_FILES` per session and `MAX_HELD` bytes in all sessions, only into a
  session of a user with access. A file counts from its admission. Others are refused before their body is read.
- WebSockets: only from this origin, or one in Streamlit's `server.corsAllowedOrigins`. Of Streamlit's messages only
  those that the app's pages need: none that clears the caches of all users. Their number per second is bounded, in
  each tab and in all tabs of a user, or of all those without access.
- Pages: framed by this origin only, and they send other sites no referrer. Charts and files (`/media/`): not cached.
  Cookies: sent over TLS only, if the request came over TLS or users sign in at an `https` address.
- Streamlit's metrics and its agent API: 404.

`LinkLimits` refuses a query string beyond Streamlit's bounds, of which Streamlit reads nothing: without its filters the
page would show more than the link's.

`SignInRedirect` returns the user to the page from which they signed in; Streamlit's sign-in ends at `/`. The page comes
from the `Referer` header and is kept in a cookie for `_COOKIE_MINUTES`. Only the app's own pages are returned to, so a
forged header or cookie leads nowhere else.

`MessageRate` says which messages of a page's WebSocket take their turn, `PageOfTab` which come from a page that was
left already.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, unquote, urlsplit
from weakref import WeakValueDictionary

import streamlit as st
from google.protobuf.message import DecodeError
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect, HTTPConnection
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import runtime
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager
from streamlit.web.server.starlette import starlette_websocket
from streamlit.web.server.starlette.starlette_server_config import USER_COOKIE_NAME

from usage_explore.api import PREFIX
from usage_explore.api.problems import Problem
from usage_explore.api.responses import normalize_accept_encoding
from usage_explore.api.service import ConcurrencyLimit
from usage_explore.app import sign_in
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES, MAX_UPLOAD_MEGABYTES

if TYPE_CHECKING:
    from streamlit.proto.ClientState_pb2 import ClientState

_log = logging.getLogger(__name__)

MAX_FILES = 10
"""Uploaded files per session."""

_MAX_FILE_BYTES = MAX_UPLOAD_MEGABYTES * 2**20

MAX_HELD = 10 * _MAX_FILE_BYTES
"""Bytes of uploaded files in all sessions."""

MAX_READ_PARAMETERS = 1_000
"""URL parameters that Streamlit reads; of a link with more it reads none."""

COOKIE = "usage_explore_return"
_COOKIE_MINUTES = 10
PAGES = ("", "explore", "events", "validate", "customer", "load", "home", "open")
"""The paths of the app's pages."""


_MAX_UPLOADS, _MAX_UPLOADS_OF_USER, _MAX_UPLOADS_OF_SESSION = 8, 4, 2
"""Concurrent uploads. Without sign-in all sessions are one user's."""

_WAIT_SECONDS = 10
_PROTOCOL_ERROR, _UNSUPPORTED_DATA = 1002, 1003

_TAB_MESSAGES, _USER_MESSAGES, _STRANGERS_MESSAGES = (10, 60), (10, 120), (20, 60)
"""Messages per second, and at once, of a tab, of a user's tabs, and of all tabs of those without access."""

_MESSAGES = ("rerun_script", "stop_script", "app_heartbeat")
"""What a page of the app sends, beside what names files."""

_MAX_NAMES = 100
"""Files that are dropped on a page at once; of these it takes `MAX_FILES`."""

_CLOSED = ("/_stcore/metrics", "/_stcore/agent/")
_UPLOADS = "/_stcore/upload_file/"
_HEADERS = {
    "Content-Security-Policy": "frame-ancestors 'self'",
    "X-Frame-Options": "SAMEORIGIN",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


@dataclass(frozen=True, slots=True, eq=False)
class _Upload:
    """An upload in progress."""

    session_id: str
    size: int


class Guard:
    """The access rules; see the module."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._limit = ConcurrencyLimit(_MAX_UPLOADS, _WAIT_SECONDS)
        self._limits: WeakValueDictionary[str, ConcurrencyLimit] = WeakValueDictionary()
        self._reading: set[_Upload] = set()
        self._strangers = MessageRate(*_STRANGERS_MESSAGES)
        self._users: WeakValueDictionary[str, MessageRate] = WeakValueDictionary()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        path = str(scope.get("path", "")).removeprefix(base_path())
        is_page = scope["type"] == "websocket" or (scope["type"] == "http" and not path.startswith(f"{PREFIX}/"))
        if is_page and not sign_in.may_connect(Headers(scope=scope).getlist("host")):
            await PlainTextResponse(f"{sign_in.MISDIRECTED}\n", 421, _HEADERS)(scope, receive, send)
            return
        if scope["type"] == "websocket" and not _is_own(Headers(scope=scope)):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] == "websocket":
            user = _with_access(scope)
            own = self._strangers if user is None else self._users.setdefault(user, MessageRate(*_USER_MESSAGES))
            await self.app(scope, _wanted_messages(receive, send, (MessageRate(*_TAB_MESSAGES), own)), send)
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        normalize_accept_encoding(scope)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                is_framing_set = "frame-ancestors" in headers.get("Content-Security-Policy", "")
                for name, value in _HEADERS.items():
                    if not (is_framing_set and name == "X-Frame-Options"):
                        headers.setdefault(name, value)
                if path.startswith("/media/"):
                    headers["Cache-Control"] = "private, no-store"
                if "set-cookie" in headers and (scope["scheme"] == "https" or sign_in.is_encrypted()):
                    message["headers"] = [_secure(*header) for header in message["headers"]]
            await send(message)

        if path.startswith(_CLOSED):
            await PlainTextResponse("Not found\n", 404)(scope, receive, answer)
        elif path.startswith(_UPLOADS) and scope["method"] == "PUT":
            await self._upload(path, scope, receive, answer)
        else:
            await self.app(scope, receive, answer)

    async def _upload(self, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        upload = _Upload(path.removeprefix(_UPLOADS).partition("/")[0], _size(Headers(scope=scope)))
        own = self._limits.setdefault(upload.session_id, ConcurrencyLimit(_MAX_UPLOADS_OF_SESSION, _WAIT_SECONDS))
        user = self._limits.setdefault(
            f"user {_user(upload.session_id)}", ConcurrencyLimit(_MAX_UPLOADS_OF_USER, _WAIT_SECONDS)
        )
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
        """Pass the upload to Streamlit; its bytes count as held until Streamlit answers."""
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
        except ClientDisconnect:  # which is logged already
            pass
        finally:
            self._reading.discard(upload)

    def _refusal(self, upload: _Upload) -> tuple[int | None, str]:
        """The status and message that refuse the upload; status None if it is admitted."""
        server, session_id = runtime.get_instance(), upload.session_id
        session = server.get_app_session(session_id)
        if session is None or not sign_in.may_upload(session._user_info):
            return 403, "Sign in, or reload the page, before you upload a file."
        files = cast("MemoryUploadedFileManager", server.uploaded_file_mgr)
        held = len(files.get_files(session_id, list(files.file_storage.get(session_id, ()))))
        if held + sum(reading.session_id == session_id for reading in self._reading) >= MAX_FILES:
            return 429, f"This page holds {MAX_FILES} files already; remove one, or reload the page."
        room = MAX_HELD - upload.size - sum(reading.size for reading in self._reading)
        if _held(files) > room:
            _release(server, files)
        if _held(files) > room:
            return 503, "The server holds as many files as it may; try again later."
        return None, ""


def _user(session_id: str) -> str:
    """The e-mail address of the session's user, blank without sign-in."""
    session = runtime.get_instance().get_app_session(session_id)
    return str(session._user_info.get("email") or "") if session is not None else ""


def _size(headers: Headers) -> int:
    """The upload's size in bytes from its headers; the maximum if unknown."""
    length = headers.get("content-length", "")
    return (
        min(int(length), _MAX_FILE_BYTES)
        if length.isdecimal() and "transfer-encoding" not in headers
        else _MAX_FILE_BYTES
    )


def _held(files: MemoryUploadedFileManager) -> int:
    return sum(len(file.data) for held in list(files.file_storage.values()) for file in list(held.values()))


def _release(server: Runtime, files: MemoryUploadedFileManager) -> None:
    """Delete the files of closed sessions, which Streamlit keeps until another session closes."""
    for session_id in list(files.file_storage):
        if not server.is_active_session(session_id):
            files.remove_session_files(session_id)


def _wanted_messages(receive: Receive, send: Send, rates: Sequence[MessageRate] = ()) -> Receive:
    """The messages of a WebSocket that the app's pages send, at these rates; others are left out.

    A text, or what is no message, ends it, as Streamlit logs a traceback for each. A client that leaves while its
    message waits for a turn ends it at once: its session has open files.
    """
    tab = PageOfTab()
    ahead: Message | None = None

    async def message() -> Message:
        nonlocal ahead
        while True:
            received, ahead = ahead or await receive(), None
            if received["type"] != "websocket.receive":
                return received
            if rates:
                has_turn, ahead = await _turn(rates, receive)
                if not has_turn:
                    continue
            data = received.get("bytes")
            if data is None:
                return await _ended(send, _UNSUPPORTED_DATA)
            sent = BackMsg()
            try:
                sent.ParseFromString(data)
            except DecodeError:
                return await _ended(send, _PROTOCOL_ERROR)
            is_left = sent.HasField("rerun_script") and tab.has_left(sent.rerun_script)
            if _is_wanted(sent) and not is_left:
                return received

    return message


async def _turn(rates: Sequence[MessageRate], receive: Receive) -> tuple[bool, Message | None]:
    """Wait for the turn of a message, or until its client leaves; and the message that came meanwhile, if any."""

    async def turns() -> None:
        for rate in rates:
            await rate.turn()

    turn, following = asyncio.ensure_future(turns()), asyncio.ensure_future(receive())
    try:
        await asyncio.wait((turn, following), return_when=asyncio.FIRST_COMPLETED)
        has_left = following.done() and following.result()["type"] != "websocket.receive"
        if not has_left:
            await turn
    finally:
        for task in (turn, following):
            task.cancel()
        await asyncio.wait((turn, following))
    return not has_left, None if following.cancelled() else following.result()


async def _ended(send: Send, code: int) -> Message:
    await send({"type": "websocket.close", "code": code})
    return {"type": "websocket.disconnect", "code": code}


def _is_wanted(sent: BackMsg) -> bool:
    kind = sent.WhichOneof("type")
    if kind == "file_urls_request":  # each name makes an answer a hundred times as long
        return len(sent.file_urls_request.file_names) <= _MAX_NAMES and _has_files(sent.file_urls_request.session_id)
    if kind == "backend_operation_request":
        operation = sent.backend_operation_request
        return operation.HasField("deferred_file") and _has_files(operation.session_id)  # made when it is downloaded
    return kind in _MESSAGES


def _has_files(session_id: str) -> bool:
    """Whether the session is of a user with access."""
    session = runtime.get_instance().get_app_session(session_id)
    return session is not None and sign_in.may_upload(session._user_info)


def _with_access(scope: Scope) -> str | None:
    """The address of a WebSocket's user, read as Streamlit does, "" without sign-in; None for one without access."""
    asked = HTTPConnection(scope)
    user: dict[str, Any] = {}
    try:
        cookie = starlette_websocket._get_signed_cookie_with_chunks(asked.cookies, USER_COOKIE_NAME)
        if cookie:
            user |= starlette_websocket._parse_decoded_user_cookie(cookie, asked.headers.get("origin", ""))
        user |= starlette_websocket.gather_user_info(asked.headers)
    except Exception:  # a cookie that cannot be read is none
        return None
    return str(user.get("email") or "") if sign_in.may_upload(user) else None


def _is_own(headers: Headers) -> bool:
    """Whether a WebSocket comes from a page of this server, or from a client that is no browser and sends no origin."""
    origins, host = headers.getlist("origin"), headers.get("host")
    allowed = [str(origin).strip() for origin in st.get_option("server.corsAllowedOrigins") or ()]
    return all(origin in allowed or (host and urlsplit(origin).netloc == host) for origin in origins)


class LinkLimits:
    """Refuses links that Streamlit would not read; the API has its own limits."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer 414."""
        page = scope["type"] == "http" and f"{PREFIX}/" not in scope["path"]
        query: bytes = scope.get("query_string", b"") if page else b""
        number = query.count(b"&") + 1
        if len(query) <= MAX_QUERY_STRING_BYTES and number <= MAX_READ_PARAMETERS:
            await self.app(scope, receive, send)
            return
        text = (
            f"This link cannot be shown: it has {number:,} parameters and {len(query):,} bytes, and the app reads at "
            f"most {MAX_READ_PARAMETERS:,} and {MAX_QUERY_STRING_BYTES:,}. "
            "Name fewer values; the API accepts a few more.\n"
        )
        await PlainTextResponse(text, 414, {"Cache-Control": "no-store"})(scope, receive, send)


class SignInRedirect:
    """Returns to the page from which the user signed in; also if the provider cannot be asked, and the page says so."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Set the cookie at the sign-in, and redirect to its page after it."""
        base = base_path()
        step = scope["path"].removeprefix(base) if scope["type"] == "http" else ""
        headers = Headers(scope=scope) if step in ("/auth/login", "/oauth2callback") else None
        if headers is None:
            await self.app(scope, receive, send)
            return
        page = _page(headers.get("referer", ""), base) if step == "/auth/login" else _page_in_cookie(headers, base)

        is_answered = False

        async def answer(message: Message) -> None:
            nonlocal is_answered
            if is_answered:
                return
            if message["type"] == "http.response.start":
                if step == "/auth/login" and message["status"] == HTTPStatus.BAD_REQUEST:
                    back = RedirectResponse(page or f"{base}/", HTTPStatus.FOUND, {"Cache-Control": "no-store"})
                    back.headers.append("Set-Cookie", _cookie(COOKIE, None, base))
                    back.headers.append("Set-Cookie", _cookie(sign_in.FAILED, sign_in.SILENT, base))
                    is_answered = True
                    await back(scope, receive, send)
                    return
                response = MutableHeaders(scope=message)
                if step == "/auth/login":
                    response.append("Set-Cookie", _cookie(COOKIE, page, base))
                    response.append("Set-Cookie", _cookie(sign_in.FAILED, None, base))
                elif response.get("location") == f"{base}/":
                    response["location"] = page or response["location"]
                    failed = None if _has_user(response) else "1"
                    response.append("Set-Cookie", _cookie(COOKIE, None, base))
                    response.append("Set-Cookie", _cookie(sign_in.FAILED, failed, base))
            await send(message)

        await self.app(scope, receive, answer)


def _page(url: str, base: str) -> str | None:
    """The path and query of a URL; None if it is no page of the app, or too long for a cookie."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    if parts.path.removeprefix(f"{base}/") not in PAGES or not parts.path.startswith(f"{base}/"):
        return None
    page = quote(f"{parts.path}?{parts.query}" if parts.query else parts.path, safe="/?&=%:+,;~!*'()-._@$")
    return None if sign_in.cookie_value(page) is None else page


def _page_in_cookie(headers: Headers, base: str) -> str | None:
    """The page in the cookie, checked like a `Referer`."""
    cookies = dict(part.strip().partition("=")[::2] for part in headers.get("cookie", "").split(";"))
    return _page(unquote(cookies[COOKIE]), base) if COOKIE in cookies else None


def _secure(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """The header of a response; a cookie that browsers send over TLS only, if it is one."""
    is_plain = name.lower() == b"set-cookie" and b"; secure" not in value.lower()
    return name, value + b"; Secure" if is_plain else value


def _has_user(response: Headers) -> bool:
    """Whether a response signs the user in: it sets Streamlit's cookie, or parts of it, and not only deletes it."""
    cookies = response.getlist("set-cookie")
    return any(cookie.startswith(USER_COOKIE_NAME) and "max-age=0" not in cookie.lower() for cookie in cookies)


def _cookie(name: str, text: str | None, base: str) -> str:
    """The Set-Cookie header that stores a text, or deletes the cookie."""
    value, age = (quote(text, safe=""), _COOKIE_MINUTES * 60) if text else ("", 0)
    return f"{name}={value}; Path={base}/; Max-Age={age}; HttpOnly; SameSite=Lax"


def base_path() -> str:
    """Streamlit's `server.baseUrlPath` with a leading slash, blank at the root."""
    folder = str(st.get_option("server.baseUrlPath") or "").strip("/")
    return f"/{folder}" if folder else ""


class MessageRate:
    """A bound of messages: `burst` of them at once, then `per_second`; others wait, and their senders with them.

    They take turns in the order in which they came; one that is cancelled takes none.
    """

    def __init__(self, per_second: float, burst: int) -> None:
        self._interval, self._burst = 1 / per_second, burst
        self._due = -math.inf  # the clock may be that of a machine which has just started
        self._waiting = asyncio.Lock()

    async def turn(self) -> None:
        """Wait for the turn of one message."""
        async with self._waiting:
            now = time.monotonic()
            due = max(self._due, now - self._burst * self._interval) + self._interval
            if due > now:
                await asyncio.sleep(due - now)
            self._due = due


class PageOfTab:
    """The page that a browser tab has gone to by its runs.

    The browser sends the run of a link's page first, with that page's parameters and without widgets. Until that page
    arrives, what a widget of the old page sends, such as a menu that the click closed, has the old page and the new
    parameters: run, it would show the old page with the parameters of another one.
    """

    def __init__(self) -> None:
        self._page = self._query = ""
        self._left: str | None = None
        """The page that a link has left, "" if unknown; None where no link was followed last."""

    def has_left(self, run: ClientState) -> bool:
        """Whether a run is of a widget on the page that was left."""
        page, has_widgets = run.page_script_hash, bool(run.widget_states.widgets)
        if page == self._page:
            return False
        if has_widgets and self._left in ("", page) and run.query_string == self._query:
            return True
        self._left = None if has_widgets else self._page
        self._page, self._query = page, run.query_string
        return False
