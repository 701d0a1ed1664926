"""Run the API with uvicorn, alone or mounted beside the app; its paths begin with /api in both.

After SIGTERM or Ctrl-C a server takes no more requests and lets running queries and exports end. What still runs after
the grace time is cancelled in the database, and its client gets an error. A second signal ends the server at once.

A client has `HEADER_SECONDS` from the start of a connection, or the first byte of its next request, to the last header;
`BODY_SECONDS` for an announced body; `WRITE_SECONDS` to read what fills its socket. uvicorn closes idle connections.
At the connection limit, a new connection replaces the one that has waited longest for its client, so that `healthz` is
answered during a flood of half-sent requests. WebSockets, one for each open tab, take at most half of the limit. A
quarter of the limit is never waited in: while running requests and WebSockets take the rest, `healthz` is answered, and
other requests get a 503 at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import os
import resource
import socket
import sys
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any, cast
from urllib.parse import urlsplit

import h11
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState

from usage_explore import config
from usage_explore.access import logs
from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring, open_to_all
from usage_explore.access.bind_check import is_this_machine
from usage_explore.api import PREFIX, create_app, service
from usage_explore.api.application import RequestLog
from usage_explore.api.auth import Access
from usage_explore.api.problems import Problem, ProblemType, handlers
from usage_explore.config import Settings
from usage_explore.db import timeouts
from usage_explore.errors import ConfigurationError
from usage_explore.open_store import connect, opened

HOST = "127.0.0.1"
_FIRST_PORT = 8501
_PORTS_TRIED = 100

HEADER_SECONDS, BODY_SECONDS, WRITE_SECONDS = 20.0, 300.0, 90.0
MAX_CONNECTIONS = 500

_MAX_FILES, _OTHER_FILES = 16_384, 100
"""Open files that the process asks for, within the hard limit; and those beside connections and sessions."""

_FILES_OF_SESSION, _CLOSED_SESSIONS = 3, 128
"""Open files of a session of Streamlit beside its WebSocket, which are those of its event loop; and the sessions that
Streamlit keeps for two minutes after their WebSocket was closed."""

_RESERVED = {f"{PREFIX}/healthz": 0, f"{PREFIX}/readyz": 8}
"""Parts of the connection limit, as 1/n, that requests of a path leave free for others, 0 for none."""

_RESERVED_OTHERWISE = 4

_NEW_SECONDS = 1.0
"""Time from the start of a connection in which the server may not have come to read its request."""

_LOG_INTERVAL_SECONDS = 10.0
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_LENGTHS = {b"content-length", b"transfer-encoding"}

_TOO_MANY_WORDS = "The server has too many requests; try again shortly."

_GRACE_SECONDS = 10
"""Time that running requests have to end after SIGTERM or Ctrl-C."""

_CANCEL_SECONDS = 5
"""Further time for cancelled requests to answer that they were cancelled."""

_LAST_WRITE_SECONDS = 2
"""Time after the grace time that a client has to read what was sent, such as the error of a cancelled export."""

_SECOND_SIGNAL_CANCEL_SECONDS = 1
"""Time that the database has to cancel statements after a second signal."""

_KEEP_ALIVE_SECONDS = 75
"""Time that an idle connection is kept: longer than clients and proxies keep theirs."""

_MAX_REQUEST_HEAD_BYTES = 262_144
"""Bytes of a request's line and headers; below it, a query that is too long gets an error that says so."""

_SWITCH_SECONDS = 0.0005
"""Time after which a thread that computes lets a waiting one run: the event loop waits for each such thread in turn,
several times for each request. Python's 5 ms kept `healthz` waiting for 20 s while four threads made large answers."""

_COLLECT_AFTER = 10_000
"""New objects after which Python looks for cycles: at its 700, a third of the time of a large answer."""

_M_ARENA_MAX, _M_TRIM_THRESHOLD = -8, -1  # of malloc.h

_log = logging.getLogger(__name__)


def address(host: str, port: int) -> str:
    """The URL at which this machine reaches a server that listens at the host and port."""
    host = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104 - compared, not listened at
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def free_port(port: int | None, first: int = _FIRST_PORT, host: str = HOST) -> int:
    """The port, or for None the first free one of 100 from `first`.

    Raises `ConfigurationError` if none is free, or the host is not an address of this machine.
    """
    for candidate in [port] if port else range(first, first + _PORTS_TRIED):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError as error:
                if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                    words = f"--host: {host} is not an address of this machine; write one of its addresses"
                    raise ConfigurationError(words) from None
                continue
        return candidate
    raise ConfigurationError(f"--port: {port or f'{first} and the next ones'} is in use; choose another one")


def api() -> FastAPI:
    """The API for another application; the configured store is opened on the first query."""
    return create_app(connect, access=access(config.settings()))


def access(settings: Settings) -> Access:
    """Access by the configured API keys; where the app requires sign-in, the API requires a key."""
    host = urlsplit(settings.app_url).hostname or ""
    behind_proxy = bool(settings.trusted_proxies) or not is_this_machine(host)
    return Access(Keyring(settings.keys), People(settings.people), settings.metrics_key, behind_proxy)


def standalone(api: FastAPI) -> Starlette:
    """The API as an application of its own, which closes its store at the end."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        api.state.service.close()

    return Starlette(
        routes=[Mount(PREFIX, app=api)],
        exception_handlers=handlers(),
        middleware=[Middleware(RequestLog, metrics=api.state.service.requests)],
        lifespan=lifespan,
    )


def run(settings: Settings, host: str, port: int) -> None:
    """Serve the API alone until SIGTERM or Ctrl-C. Raises `ConfigurationError` for the address of a server."""
    if settings.is_remote:
        config.database_url(settings)
    serve(standalone(create_app(partial(opened, settings), access=access(settings))), host, port)


def serve(app: ASGIApp, host: str, port: int, started: Callable[[], object] = bool, **options: Any) -> None:
    """Serve an application until SIGTERM or Ctrl-C; `started` is called once it answers. Logs go to stderr."""
    logs.to_standard_error()
    _return_free_memory()
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.set_threshold(_COLLECT_AFTER, *gc.get_threshold()[1:])
    connections = Connections(files=_raise_file_limit())
    settings = config.settings()
    for warning in filter(None, map(open_to_all, (settings.keys, settings.people))):
        _log.warning(warning)
    proxies = settings.trusted_proxies
    served = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=TimedConnection,
        backlog=connections.limit // 2,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,  # a request sent while the server closes gets no answer
        timeout_graceful_shutdown=_GRACE_SECONDS + _CANCEL_SECONDS,
        h11_max_incomplete_event_size=_MAX_REQUEST_HEAD_BYTES,
        proxy_headers=bool(proxies),  # else clients could forge the address in logs and in the limit on wrong keys
        forwarded_allow_ips=list(proxies),
        **options,
    )
    _Server(served, connections, started).run()
    timeouts.cancel_all(_CANCEL_SECONDS)


def _raise_file_limit() -> int:
    """Let the process open `_MAX_FILES`, or as many as the hard limit allows; how many it may open."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft, hard = (sys.maxsize if limit == resource.RLIM_INFINITY else limit for limit in limits)
    wanted = min(_MAX_FILES, hard)
    if soft >= wanted:
        return soft
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, limits[1]))
        return wanted
    return soft


def _return_free_memory() -> None:
    """Let glibc, where it is used, share two memory pools among all threads and return free memory above 1 MiB each."""
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(_M_ARENA_MAX, 2)
        libc.mallopt(_M_TRIM_THRESHOLD, 1024 * 1024)


class _Server(uvicorn.Server):
    """Ends in order at the first signal, immediately at the second."""

    def __init__(self, config: uvicorn.Config, connections: Connections, started: Callable[[], object]) -> None:
        super().__init__(config)
        self.server_state = self._connections = connections
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        logs.to_standard_error()  # again: by now libraries have added handlers
        if self.started:
            self._when_started()

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second; closes connections of slow clients every second. Returns whether to end."""
        if counter % 10 == 0:
            self._connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop with exit code 0, not by the signal as uvicorn does."""
        if self.should_exit:
            timeouts.cancel_all(_SECOND_SIGNAL_CANCEL_SECONDS)
            os._exit(128 + sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end; cancel them after the grace time, and close the connections that do not read."""
        self._connections.closing = True
        loop = asyncio.get_running_loop()
        over = loop.call_later(_GRACE_SECONDS, service.stopping().set)
        stalled = loop.call_later(_GRACE_SECONDS + _LAST_WRITE_SECONDS, self._connections.close_stalled)
        try:
            await super().shutdown(sockets)
        finally:
            over.cancel()
            stalled.cancel()


class Connections(ServerState):
    """The connections of one server: at most `MAX_CONNECTIONS`, fewer if it may open few `files`.

    Half of them may be WebSockets. New ones may be half as many more, as long as their requests are unread; the event
    loop may accept another half before `admit` is called.
    While `closing`, a connection answers the request that it has and ends.
    """

    def __init__(self, limit: int | None = None, files: int = _MAX_FILES) -> None:
        super().__init__()
        room = files - _OTHER_FILES - _CLOSED_SESSIONS * _FILES_OF_SESSION
        allowed = min(MAX_CONNECTIONS, max(room * 2 // (2 * 2 + _FILES_OF_SESSION), files // 8))
        self.limit = max(allowed if limit is None else limit, 2)
        self.closing = False
        self.sessions: set[object] = set()
        """The WebSockets whose application has not ended, which may be after their clients have left."""
        self._closed: Counter[str] = Counter()
        self._logged_at = float("-inf")

    def admit(self, arriving: TimedConnection) -> None:
        """Above the limit, close those that have waited longest for their clients, new ones only above the half more.

        A new one may have sent its request, and it is not read yet.
        """
        excess = len(self.connections) - self.limit
        if excess <= 0:
            return
        waiting = [other for other in self._http() if other is not arriving and other.client_timeout() is not None]
        new_since = float("inf") if excess > self.limit // 2 else arriving.since - _NEW_SECONDS
        for longest in sorted(waiting, key=lambda connection: connection.since)[:excess] or [arriving]:
            if longest.since < new_since:
                self.close(longest, "too many connections")

    def takes_websocket(self) -> bool:
        """Whether another WebSocket may be opened."""
        opened = {connection for connection in self.connections if not isinstance(connection, TimedConnection)}
        if len(opened | self.sessions) < self.limit // 2 and self.has_room(arriving=1):
            return True
        self.count("too many WebSockets")
        return False

    def has_room(self, path: str = "", arriving: int = 0) -> bool:
        """Whether running requests and WebSockets, with those `arriving`, leave free what is reserved for others."""
        part = _RESERVED.get(path, _RESERVED_OTHERWISE)
        most = self.limit - (self.limit // part if part else 0)
        if len(self.connections) + arriving <= most:
            return True
        http = self._http()
        running = sum(connection.is_running() for connection in http)
        return len(self.connections) - len(http) + running + arriving <= most

    def count(self, why: str) -> None:
        """Count what was closed or refused, for the next line in the log."""
        self._closed[why] += 1

    def sweep(self, now: float) -> None:
        """Close connections of slow clients, and log what was closed since the last line."""
        for connection in self._http():
            if connection.is_late(now):
                self.close(connection, "client too slow")
        if self._closed and now >= self._logged_at + _LOG_INTERVAL_SECONDS:
            fields = {"closed": dict(self._closed), "open": len(self.connections), "limit": self.limit}
            _log.warning("connections closed", extra={"fields": fields})
            self._closed.clear()
            self._logged_at = now

    def close_stalled(self) -> None:
        """Close the connections whose clients do not read what is sent, such as a stalled export."""
        for connection in self._http():
            if connection.flow.write_paused:
                self.close(connection, "client reads nothing")

    def close(self, connection: TimedConnection, why: str) -> None:
        """Close a connection at once."""
        self.count(why)
        self.connections.discard(connection)
        connection.transport.abort()

    def _http(self) -> list[TimedConnection]:
        return [connection for connection in self.connections if isinstance(connection, TimedConnection)]


class TimedConnection(H11Protocol):
    """One HTTP connection that knows how long its client may take."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._server = cast("Connections", server_state)
        self._pauses = 0
        self._state: tuple[object, ...] = ()
        self.since = self.loop.time()
        self._begun: object = None
        self.app = self._answer_or_refuse

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, perhaps in place of another one."""
        super().connection_made(transport)
        self._server.admit(self)

    async def _answer_or_refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application, or answer 503 if too many requests are running, 400 to a body of two lengths.

        A proxy that believes the other one takes a part of the body for the next request: RFC 9112, 6.1.
        """
        self._begun = self.cycle
        if {name for name, _ in scope["headers"]} >= _LENGTHS:
            refusal = PlainTextResponse("Invalid HTTP request received.", 400, {"Connection": "close"})
            await refusal(scope, receive, send)
            return
        if self._server.has_room(scope["path"]):
            await self.config.loaded_app(scope, receive, send)
            return
        self._server.count("too many requests")
        problem = Problem(ProblemType.UNAVAILABLE, _TOO_MANY_WORDS, headers={"Connection": "close"})
        await problem.response(uuid.uuid4().hex)(scope, receive, send)

    def data_received(self, data: bytes) -> None:
        """Read what the client sent; a body that ends while too many requests are running is one more of them."""
        cycle = self.cycle
        was_sending = self._begun is cycle is not None and cycle.more_body
        super().data_received(data)
        if was_sending and self.is_running() and not self._server.has_room(self.scope["path"]):
            self._server.close(self, "too many requests")

    def on_response_complete(self) -> None:
        """Wait for the next request, or end: uvicorn does not see connections that it accepts while it stops."""
        super().on_response_complete()
        if self._server.closing and not self.transport.is_closing():
            self.shutdown()

    def pause_writing(self) -> None:
        """The client reads more slowly than the server writes."""
        self._pauses += 1
        super().pause_writing()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Become a WebSocket, or answer 503 if there are too many, 400 to one that has a body or is malformed."""
        if self._server.takes_websocket():
            super().handle_websocket_upgrade(event)
            opened = cast("WebSocketsSansIOProtocol", self.transport.get_protocol())
            if not opened.handshake_initiated:  # uvicorn would keep it without an answer, and fail when it stops
                self.send_400_response("Invalid WebSocket request.")
        else:
            self.transport.write(_TOO_MANY)
            self.transport.close()

    def client_timeout(self) -> float | None:
        """Seconds that the client has for its present step; None while the server works."""
        if self.flow.write_paused:
            return WRITE_SECONDS
        if self.cycle is None or self.cycle.response_complete:
            idle = self.cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
            return self.timeout_keep_alive + HEADER_SECONDS if idle else HEADER_SECONDS
        return BODY_SECONDS if self.cycle.more_body else None

    def is_running(self) -> bool:
        """Whether the application has begun the present request, and its client waits for the server."""
        return self._begun is self.cycle is not None and self.client_timeout() is None

    def is_late(self, now: float) -> bool:
        """Whether the client has taken too long; called every second."""
        timeout = self.client_timeout()
        state = (timeout, id(self.cycle), self._pauses)
        if state != self._state:
            self._state, self.since = state, now
        return timeout is not None and now - self.since > timeout


class WebSocketConnection(WebSocketsSansIOProtocol):
    """A WebSocket that counts until its application ends, since a session has open files of its own."""

    def __init__(self, config: uvicorn.Config, server_state: ServerState, app_state: dict[str, Any]) -> None:
        super().__init__(config, server_state, app_state)
        self._sessions = cast("Connections", server_state).sessions

    async def run_asgi(self) -> None:
        """Run the application."""
        self._sessions.add(self)
        try:
            await super().run_asgi()
        finally:
            self._sessions.discard(self)
