"""The API served: alone under uvicorn, or mounted beside the app; the same paths, under /api, in both.

Told to stop (SIGTERM, Ctrl-C), a server takes no more requests and lets running questions and exports end; what is not
done after the grace is cancelled in the database and says so to who waits. Told twice, it ends at once.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp

from usage_explore import config
from usage_explore.access import logs
from usage_explore.access.allow_list import People
from usage_explore.access.api_keys import Keyring
from usage_explore.api import create_app, threads
from usage_explore.api.auth import Access
from usage_explore.api.middleware import Requests
from usage_explore.api.prefix import PREFIX
from usage_explore.api.problems import handlers
from usage_explore.cli.serve import malloc
from usage_explore.cli.serve.connections import Connections, Guarded
from usage_explore.config import Settings
from usage_explore.db import cancellation
from usage_explore.store import connect, opened

_GRACE = 10  # seconds that running questions get to end
_LAST = 5  # seconds more in which they say that they did not
_AT_ONCE = 1  # seconds that the database has to cancel when told twice
_IDLE = 75  # seconds that a connection is kept without a request: longer than clients and proxies keep theirs
_REQUEST_LINE = 262_144  # bytes of a request's line and headers; a shorter question that is too long is told so


def mount() -> Mount:
    """The API as a route for another application; the configured store is made on the first question."""
    return Mount(PREFIX, app=create_app(connect, scope=access(config.settings())))


def access(settings: Settings) -> Access:
    """Who may ask, by the configured keys; where the app asks people to sign in, the API asks for a key."""
    return Access(Keyring(settings.keys), People(settings.people))


def standalone(api: FastAPI) -> Starlette:
    """The API as an application of its own, which closes the store that was made for it at the end."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        api.state.door.close()

    return Starlette(
        routes=[Mount(PREFIX, app=api)],
        exception_handlers=handlers(),
        middleware=[Middleware(Requests)],
        lifespan=lifespan,
    )


def run(settings: Settings, host: str, port: int) -> None:
    """Serve the API alone until told to stop."""
    serve(standalone(create_app(partial(opened, settings), scope=access(settings))), host, port)


def serve(app: ASGIApp, host: str, port: int, started: Callable[[], object] = bool, **options: Any) -> None:
    """Serve an application until told to stop; `started` is called once it answers. Logs go to standard error."""
    logs.to_standard_error()
    malloc.give_back()
    connections = Connections()
    proxies = config.settings().trusted_proxies
    served = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=Guarded,
        backlog=connections.most,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=_IDLE,  # who sends just as the server closes would get no answer
        timeout_graceful_shutdown=_GRACE + _LAST,
        h11_max_incomplete_event_size=_REQUEST_LINE,
        proxy_headers=bool(proxies),  # else who asks could name any address, to the log and the limit on wrong keys
        forwarded_allow_ips=list(proxies),
        **options,
    )
    _Server(served, connections, started).run()
    cancellation.cancel_everything(_LAST)


class _Server(uvicorn.Server):
    """Ends in order at the first signal, at once at the second."""

    def __init__(self, config: uvicorn.Config, connections: Connections, started: Callable[[], object]) -> None:
        super().__init__(config)
        self.server_state = self._connections = connections
        self._when_started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        logs.to_standard_error()  # once more: by now the libraries have made theirs
        if self.started:
            self._when_started()

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: whether to end; each second, what waits too long is closed."""
        if counter % 10 == 0:
            self._connections.sweep(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """A signal came; uvicorn's own way would end the process by it, not with 0."""
        if self.should_exit:
            cancellation.cancel_everything(_AT_ONCE)
            os._exit(128 + sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let what runs end; after the grace, say so where it did not."""
        over = asyncio.get_running_loop().call_later(_GRACE, threads.stopping().set)
        try:
            await super().shutdown(sockets)
        finally:
            over.cancel()
