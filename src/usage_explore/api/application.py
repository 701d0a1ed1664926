"""The FastAPI application: its routes, their place in the OpenAPI document, the middleware around them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from usage_explore.api import openapi, openapi_text, problems
from usage_explore.api.auth import Access
from usage_explore.api.caching import GZIP_FROM
from usage_explore.api.endpoints import Endpoints
from usage_explore.api.export_stream import Exporting
from usage_explore.api.middleware import Requests
from usage_explore.api.negotiation import CSV, PNG, SVG, Compressed
from usage_explore.api.problems import Kind
from usage_explore.api.request_query import Csv, View
from usage_explore.api.schemas import components
from usage_explore.api.service import Door
from usage_explore.api.threads import Limits
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.store import Store

Endpoint = Callable[[Request], Awaitable[Response]]

_EVENTS = "/v1/usage-events"


def create_app(
    store: Store | Callable[[], Store], *, scope: Access | None = None, limits: Limits | None = None
) -> FastAPI:
    """The HTTP door to a store, to be mounted under `/api`.

    A callable is asked for the store when the first question comes. `scope` decides what the asker of a request
    may see, by default everything for the one person on this machine. `app.state.door.close()` closes a store that
    was made here.
    """
    door = Door(store, scope or Access(), limits or Limits())
    endpoints = Endpoints(door)
    app = FastAPI(
        title=openapi_text.TITLE,
        description=openapi_text.DESCRIPTION,
        version=version("usage-explore"),
        openapi_url=None,  # served below, with the parameters that the questions declare
        docs_url=None,  # FastAPI's pages load their scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=problems.handlers(),
        middleware=[Middleware(Requests), Middleware(Compressed, minimum_size=GZIP_FROM, compresslevel=6)],
    )
    app.state.door = door
    aggregate, text = openapi.parameters(AggregateQuery), openapi.parameters(Csv)
    picture = [*aggregate, *openapi.parameters(View)]
    sums, drawn = openapi_text.failures(Kind.NOT_EXACT), openapi_text.failures(Kind.NOT_EXACT, Kind.NOT_DRAWN)
    _add(
        app,
        _EVENTS,
        door.admitting(endpoints.events),
        "List usage events",
        "Raw events, newest first. All filters AND together.",
        [*openapi.parameters(EventQuery), *text],
        openapi_text.answers("EventPage", CSV, description="A page of events.", link=True) | openapi_text.failures(),
    )
    _add(
        app,
        f"{_EVENTS}/aggregate",
        door.admitting(endpoints.aggregate),
        "Time-bucketed usage aggregate",
        "A metric per bucket of the window, by group, the largest series and the rest as Other. Totals are exact.",
        [*aggregate, *text],
        openapi_text.answers("Aggregate", CSV, description="The question as it took effect, and its series.") | sums,
    )
    for name, endpoint, media_type in (("png", endpoints.png, PNG), ("svg", endpoints.svg, SVG)):
        _add(
            app,
            f"{_EVENTS}/aggregate.{name}",
            door.admitting(endpoint),
            f"The aggregate as {name.upper()}",
            "The chart itself, so that a link can be an image.",
            picture,
            openapi_text.answers(None, media_type, description="The chart.") | drawn,
        )
    _add(
        app,
        f"{_EVENTS}/export",
        door.admitting(Exporting(door).events),
        "Export usage events",
        "Any number of events as CSV, streamed from one snapshot. `limit` has no place here; `cursor` begins further "
        "on. What ends without the last chunk of its transfer is not whole.",
        [*openapi.parameters(EventQuery, without=("limit",)), *text],
        openapi_text.STREAM | openapi_text.failures(Kind.HTTP_VERSION),
    )
    _add(app, "/healthz", endpoints.alive, "Is the process there", "", None, openapi_text.STATE)
    _add(
        app,
        "/readyz",
        endpoints.ready,
        "Can questions be answered",
        "The database answers in a short time and the table fits.",
        None,
        openapi_text.STATE | openapi_text.NOT_READY,
    )
    _describe(app, door.scope)
    return app


def _add(
    app: FastAPI,
    path: str,
    endpoint: Endpoint,
    summary: str,
    description: str,
    parameters: list[dict[str, Any]] | None,
    responses: dict[int | str, dict[str, Any]],
) -> None:
    """Add a path; one without parameters is no question and open to everybody."""
    app.add_api_route(
        path,
        endpoint,
        methods=["GET"],
        response_class=Response,
        operation_id=summary.lower().replace(" ", "-"),
        summary=summary,
        description=description,
        responses=responses,
        openapi_extra={"security": []} if parameters is None else {"parameters": parameters},
    )
    app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _describe(app: FastAPI, scope: Access) -> None:
    """Serve the OpenAPI document, naming the place the application is mounted at and whether keys are needed."""
    found = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes, openapi_version="3.1.0"
    )
    found["components"] = {"schemas": components(), "securitySchemes": openapi_text.SECURITY_SCHEMES}

    async def openapi(request: Request) -> Response:
        servers = [{"url": request.scope.get("root_path") or "/"}]
        security: list[dict[str, list[str]]] = [{openapi_text.KEY: []}]
        if not scope.needs_key():
            security.append({})
        return JSONResponse({**found, "servers": servers, "security": security}, headers={"Cache-Control": "no-cache"})

    app.openapi = lambda: found  # type: ignore[method-assign]
    app.add_api_route("/openapi.json", openapi, methods=["GET", "HEAD"], include_in_schema=False)
