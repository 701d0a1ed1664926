"""The limit on open connections of a server, and the time limits for slow clients.

A client has `HEADER_SECONDS` from the start of a connection, or the first byte of its next request, to the last header;
`BODY_SECONDS` for an announced body; `WRITE_SECONDS` to read what fills its socket. uvicorn closes idle connections.
At the connection limit, a new connection replaces the one that has waited longest for its client, so that `healthz` is
answered during a flood of half-sent requests. WebSockets, one for each open tab, take at most half of the limit.
"""

from __future__ import annotations

import asyncio
import logging
import resource
from collections import Counter
from typing import Any, cast

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

HEADER_SECONDS, BODY_SECONDS, WRITE_SECONDS = 20.0, 300.0, 90.0
MAX_CONNECTIONS = 500
_LOG_INTERVAL_SECONDS = 10.0
_TOO_MANY = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_log = logging.getLogger(__name__)


class Connections(ServerState):
    """The connections of one server: at most `MAX_CONNECTIONS`, or two fifths of the files that it may open.

    The event loop may accept as many again before `admit` is called; the rest is for files and the database.
    While `closing`, a connection answers the request that it has and ends.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        allowed = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files * 2 // 5)
        self.limit = max(allowed if limit is None else limit, 2)
        self.closing = False
        self._closed: Counter[str] = Counter()
        self._logged_at = float("-inf")

    def admit(self, arriving: TimedConnection) -> None:
        """Above the limit, close the connection that has waited longest for its client."""
        if len(self.connections) <= self.limit:
            return
        waiting = [other for other in self._http() if other is not arriving and other.client_timeout() is not None]
        self.close(min(waiting, key=lambda connection: connection.since, default=arriving), "too many connections")

    def takes_websocket(self) -> bool:
        """Whether another WebSocket may be opened."""
        if sum(not isinstance(connection, TimedConnection) for connection in self.connections) < self.limit // 2:
            return True
        self._closed["too many WebSockets"] += 1
        return False

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

    def close(self, connection: TimedConnection, why: str) -> None:
        """Close a connection at once."""
        self._closed[why] += 1
        self.connections.discard(connection)
        connection.transport.abort()

    def _http(self) -> list[TimedConnection]:
        return [connection for connection in self.connections if isinstance(connection, TimedConnection)]


class TimedConnection(H11Protocol):
    """One HTTP connection that knows how long its client may take."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._server = cast("Connections", server_state)
        self._pauses = 0
        self._state: tuple[object, ...] = ()
        self.since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Accept the connection, perhaps in place of another one."""
        super().connection_made(transport)
        self._server.admit(self)

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
        """Become a WebSocket, or answer 503 if there are too many."""
        if self._server.takes_websocket():
            super().handle_websocket_upgrade(event)
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

    def is_late(self, now: float) -> bool:
        """Whether the client has taken too long; called every second."""
        timeout = self.client_timeout()
        state = (timeout, id(self.cycle), self._pauses)
        if state != self._state:
            self._state, self.since = state, now
        return timeout is not None and now - self.since > timeout
