"""Run the API with uvicorn, alone or mounted beside the app; its paths begin with /api in both.

After SIGTERM or Ctrl-C a server takes no more requests and lets running queries and exports end. What still runs after
the grace time is cancelled in the database, and its client gets an error. A second signal ends the server at once.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
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
from usage_explore.api import PREFIX, create_app, service
from usage_explore.api.application import RequestLog
from usage_explore.api.auth import Access
from usage_explore.api.problems import handlers
from usage_explore.cli.serve.connections import Connections, TimedConnection
from usage_explore.config import Settings
from usage_explore.db import cancellation
from usage_explore.store import connect, opened

_GRACE_SECONDS = 10
"""Time that running requests have to end after SIGTERM or Ctrl-C."""

_CANCEL_SECONDS = 5
"""Further time for cancelled requests to answer that they were cancelled."""

_SECOND_SIGNAL_CANCEL_SECONDS = 1
"""Time that the database has to cancel statements after a second signal."""

_KEEP_ALIVE_SECONDS = 75
"""Time that an idle connection is kept: longer than clients and proxies keep theirs."""

_MAX_REQUEST_HEAD_BYTES = 262_144
"""Bytes of a request's line and headers; below it, a query that is too long gets an error that says so."""

_M_ARENA_MAX, _M_TRIM_THRESHOLD = -8, -1  # of malloc.h


def mount() -> Mount:
    """The API as a route for another application; the configured store is opened on the first query."""
    return Mount(PREFIX, app=create_app(connect, access=access(config.settings())))


def access(settings: Settings) -> Access:
    """Access by the configured API keys; where the app requires sign-in, the API requires a key."""
    return Access(Keyring(settings.keys), People(settings.people))


def standalone(api: FastAPI) -> Starlette:
    """The API as an application of its own, which closes its store at the end."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        api.state.service.close()

    return Starlette(
        routes=[Mount(PREFIX, app=api)],
        exception_handlers=handlers(),
        middleware=[Middleware(RequestLog)],
        lifespan=lifespan,
    )


def run(settings: Settings, host: str, port: int) -> None:
    """Serve the API alone until SIGTERM or Ctrl-C."""
    serve(standalone(create_app(partial(opened, settings), access=access(settings))), host, port)


def serve(app: ASGIApp, host: str, port: int, started: Callable[[], object] = bool, **options: Any) -> None:
    """Serve an application until SIGTERM or Ctrl-C; `started` is called once it answers. Logs go to stderr."""
    logs.to_standard_error()
    _return_free_memory()
    connections = Connections()
    proxies = config.settings().trusted_proxies
    served = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=TimedConnection,
        backlog=connections.limit,
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
    cancellation.cancel_everything(_CANCEL_SECONDS)


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
            cancellation.cancel_everything(_SECOND_SIGNAL_CANCEL_SECONDS)
            os._exit(128 + sig)
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let running requests end; cancel them after the grace time."""
        self._connections.closing = True
        over = asyncio.get_running_loop().call_later(_GRACE_SECONDS, service.stopping().set)
        try:
            await super().shutdown(sockets)
        finally:
            over.cancel()
