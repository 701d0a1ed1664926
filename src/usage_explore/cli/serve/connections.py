"""How many connections a server holds, and how long it waits for a client: what is half sent never keeps others out.

Time limits: `HEADER` seconds from the start of a connection, or the first byte of its next request, to the last header;
`BODY` seconds for an announced body; `TAKING` seconds for a client to take what fills its socket. Idle connections are
closed by uvicorn. At the limit on connections, the one that has waited longest for its client makes room for the one
that arrives, so that `healthz` is answered during a flood of half-sent requests. WebSockets, one for each open tab,
take at most half.
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

HEADER, BODY, TAKING = 20.0, 300.0, 90.0
MAX_CONNECTIONS = 500
_SAY = 10.0  # seconds between two lines in the log
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 10\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

_log = logging.getLogger(__name__)


class Connections(ServerState):
    """The connections of one server: at most `MAX_CONNECTIONS`, or two fifths of the files that it may open.

    The event loop accepts as many again in one turn before `admit` is called; the rest is for files and the database.
    """

    def __init__(self, most: int | None = None) -> None:
        super().__init__()
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        allowed = MAX_CONNECTIONS if files == resource.RLIM_INFINITY else min(MAX_CONNECTIONS, files * 2 // 5)
        self.most = max(allowed if most is None else most, 2)
        self._closed: Counter[str] = Counter()
        self._said = float("-inf")

    def admit(self, arriving: Guarded) -> None:
        """Close the connection that has waited longest for its client, where there is one too many."""
        if len(self.connections) <= self.most:
            return
        waiting = [each for each in self._http() if each is not arriving and each.patience() is not None]
        self.close(min(waiting, key=lambda each: each.since, default=arriving), "too many connections")

    def takes_websocket(self) -> bool:
        """Whether another WebSocket may be opened."""
        if sum(not isinstance(each, Guarded) for each in self.connections) < self.most // 2:
            return True
        self._closed["too many WebSockets"] += 1
        return False

    def sweep(self, now: float) -> None:
        """Close what has waited too long for its client, and say in one line what was closed since the last one."""
        for each in self._http():
            if each.is_late(now):
                self.close(each, "client too slow")
        if self._closed and now >= self._said + _SAY:
            fields = {"closed": dict(self._closed), "open": len(self.connections), "limit": self.most}
            _log.warning("connections closed", extra={"fields": fields})
            self._closed.clear()
            self._said = now

    def close(self, connection: Guarded, why: str) -> None:
        """Close a connection at once."""
        self._closed[why] += 1
        self.connections.discard(connection)
        connection.transport.abort()

    def _http(self) -> list[Guarded]:
        return [each for each in self.connections if isinstance(each, Guarded)]


class Guarded(H11Protocol):
    """One connection that knows what it waits for, and since when."""

    def __init__(
        self, config: Config, server_state: ServerState, app_state: dict[str, Any], _loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._all = cast("Connections", server_state)
        self._pauses = 0
        self._state: tuple[object, ...] = ()
        self.since = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, perhaps in the place of another one."""
        super().connection_made(transport)
        self._all.admit(self)

    def pause_writing(self) -> None:
        """The client takes less than there is to send."""
        self._pauses += 1
        super().pause_writing()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Become a WebSocket, unless there are too many."""
        if self._all.takes_websocket():
            super().handle_websocket_upgrade(event)
        else:
            self.transport.write(_FULL)
            self.transport.close()

    def patience(self) -> float | None:
        """How many seconds the client has for what it does now; None while the server is the one at work."""
        if self.flow.write_paused:
            return TAKING
        if self.cycle is None or self.cycle.response_complete:
            idle = self.cycle is not None and self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]
            return self.timeout_keep_alive + HEADER if idle else HEADER
        return BODY if self.cycle.more_body else None

    def is_late(self, now: float) -> bool:
        """Whether the client has taken too long; looked at every second."""
        patience = self.patience()
        state = (patience, id(self.cycle), self._pauses)
        if state != self._state:
            self._state, self.since = state, now
        return patience is not None and now - self.since > patience
