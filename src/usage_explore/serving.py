"""The API served: alone under uvicorn, or mounted beside the app; the same paths, under /api, in both."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount

from usage_explore import config
from usage_explore.api import create_app
from usage_explore.api.problems import handlers
from usage_explore.api.requests import Requests
from usage_explore.api.scope import Access
from usage_explore.config import Settings
from usage_explore.keys import Keyring
from usage_explore.people import People
from usage_explore.store import connect, opened

PREFIX = "/api"
_GRACE = 10  # seconds that running questions get to end
_REQUEST_LINE = 131_072  # bytes of a request's line and headers


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
    """Serve the API until told to stop; running questions may end first."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("usage_explore").setLevel(logging.INFO)

    uvicorn.run(
        standalone(create_app(partial(opened, settings), scope=access(settings))),
        host=host,
        port=port,
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
        h11_max_incomplete_event_size=_REQUEST_LINE,
    )
