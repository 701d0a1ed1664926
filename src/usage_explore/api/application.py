"""The FastAPI application: routes, their entries in the OpenAPI document, and the middleware around them.

The middleware `RequestLog` gives every request an id and a log line, and makes a problem of each error.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import logging
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from functools import cache, lru_cache
from importlib.metadata import version
from typing import Any
from urllib.parse import parse_qsl

import h11
from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from usage_explore.access import logs
from usage_explore.api import openapi, problems
from usage_explore.api.auth import Access
from usage_explore.api.endpoints import Csv, Endpoints, View
from usage_explore.api.jobs import RATING, VALIDATION, Jobs
from usage_explore.api.links import LinkEndpoints, NewLink
from usage_explore.api.lookups import LOOKUPS
from usage_explore.api.metrics import MetricsEndpoint
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.request_metrics import RequestMetrics
from usage_explore.api.responses import (
    CSV,
    JSON,
    MIN_COMPRESSED_BYTES,
    PNG,
    SVG,
    XLSX,
    Compression,
    accepts_gzip,
    json_bytes,
)
from usage_explore.api.service import ClientGone, Limits, Service
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.remote import operations
from usage_explore.store import Store

Endpoint = Callable[[Request], Awaitable[Response]]

PREFIX = "/api"
"""Path that the API is mounted at, alone and beside the app."""

_log = logging.getLogger("usage_explore.api")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_LINK = re.compile(r"(/v1/links/|/s/|/embed/).*", re.DOTALL)
"""The address of a short link, which opens it, also one of the app that is sent here; no log has it."""

_MAX_LOGGED_BYTES = 8_192
"""Bytes of an invalid query string that are parsed for the log."""

_MAX_DOCUMENTS = 8
"""Forms of the OpenAPI document that are kept: mounted path, with or without a key, compressed or not."""

_CLIENT_CLOSED_REQUEST = 499
"""Status in the log if the client disconnected, as nginx has it; no client receives it."""


def create_app(
    store: Store | Callable[[], Store], *, access: Access | None = None, limits: Limits | None = None
) -> FastAPI:
    """The HTTP API of a store, to be mounted under `/api`.

    A store factory is called on the first query. `access` decides which organization a request may read, by default
    every one, for requests from this machine only. `app.state.service.close()` closes a store that the factory opened.
    """
    service = Service(store, access or Access(), limits or Limits())
    endpoints = Endpoints(service)
    app = FastAPI(
        title=openapi.TITLE,
        description=openapi.DESCRIPTION,
        version=version("usage-explore"),
        openapi_url=None,  # served below, with the parameters that the queries declare
        docs_url=None,  # FastAPI's pages load scripts from other hosts
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=problems.handlers(),
        middleware=[
            Middleware(RequestLog, metrics=service.requests),
            Middleware(Compression, minimum_size=MIN_COMPRESSED_BYTES, compresslevel=6),
        ],
    )
    app.state.service = service
    aggregate, csv = openapi.parameters(AggregateQuery), openapi.parameters(Csv)
    picture = [*aggregate, *openapi.parameters(View)]
    _add(
        app,
        operations.EVENTS,
        service.authorized(endpoints.events),
        "List usage events",
        "Raw events, newest first. All filters AND together.",
        [*openapi.parameters(EventQuery), *csv],
        openapi.answer_responses("EventPage", CSV, description="A page of events.", link=True)
        | openapi.problem_responses(),
    )
    _add(
        app,
        operations.AGGREGATE,
        service.authorized(endpoints.aggregate),
        "Time-bucketed usage aggregate",
        "A metric per bucket of the window, by group: the largest series, and the rest as Other. Totals are exact.",
        [*aggregate, *csv],
        openapi.answer_responses("Aggregate", CSV, XLSX, description="The query as it took effect, and its series.")
        | openapi.problem_responses(ProblemType.NOT_EXACT),
    )
    for lookup in LOOKUPS:
        _add(
            app,
            lookup.path,
            service.authorized(endpoints.lookup(lookup)),
            lookup.summary,
            lookup.description,
            openapi.parameters(lookup.query, without=lookup.without),
            openapi.answer_responses(
                lookup.schema, description=lookup.description, timed=lookup.schema == "Leaderboards"
            )
            | openapi.problem_responses(*lookup.problems),
        )
    for name, endpoint, media_type in (("png", endpoints.png, PNG), ("svg", endpoints.svg, SVG)):
        _add(
            app,
            f"{operations.AGGREGATE}.{name}",
            service.authorized(endpoint),
            f"The aggregate as {name.upper()}",
            "The chart as a picture.",
            picture,
            openapi.answer_responses(None, media_type, description="The chart.")
            | openapi.problem_responses(ProblemType.NOT_EXACT, ProblemType.NOT_DRAWN),
        )
    _add(
        app,
        operations.EXPORT,
        service.authorized(endpoints.export),
        "Export usage events",
        "Any number of events as CSV or as an Arrow stream, from one snapshot. Takes no `limit`; `cursor` starts after "
        "a page. A transfer without its last chunk is not complete.",
        [*openapi.parameters(EventQuery, without=("limit",)), *csv],
        openapi.EXPORT | openapi.problem_responses(ProblemType.HTTP_VERSION),
    )
    slots = asyncio.Semaphore(service.limits.validations)
    jobs = {
        Jobs(service, VALIDATION, slots): "Runs the checks over a billing period as a job, with files such as invoice"
        " lines and prices.",
        Jobs(service, RATING, slots): "Rates the usage of a billing period by a price book as a job: expected amounts,"
        " with their tiers.",
    }
    for of_kind, description in jobs.items():
        _add_jobs(app, of_kind, description)
    _add_links(app, service)
    _add(app, "/healthz", endpoints.alive, "Is the process there", "", None, openapi.ALIVE)
    _add(
        app,
        "/readyz",
        endpoints.ready,
        "Can questions be answered",
        "The database answers within 3 seconds and the table fits.",
        None,
        openapi.ALIVE | openapi.NOT_READY,
    )
    _add(
        app,
        "/metrics",
        MetricsEndpoint(service, tuple(jobs)).metrics,
        "Metrics of the server",
        "Requests, latencies, connections, queue and extracts in Prometheus's text format, for this machine or with "
        "the metrics key.",
        [],
        openapi.METRICS,
        security=[{openapi.METRICS_SCHEME: []}, {}],
    )
    _serve_openapi(app, service.access)
    return app


def _add(
    app: FastAPI,
    path: str,
    endpoint: Endpoint,
    summary: str,
    description: str,
    parameters: list[dict[str, Any]] | None,
    responses: dict[int | str, dict[str, Any]],
    method: str = "GET",
    **extra: Any,
) -> None:
    """Add a path for GET and HEAD, or another method; `parameters` None means no query, and no key needed."""
    app.add_api_route(
        path,
        endpoint,
        methods=[method],
        response_class=Response,
        operation_id=summary.lower().replace(" ", "-"),
        summary=summary,
        description=description,
        responses=responses,
        openapi_extra={"security": []} if parameters is None else {"parameters": parameters, **extra},
    )
    if method == "GET":
        app.add_api_route(path, endpoint, methods=["HEAD"], include_in_schema=False)


def _add_jobs(app: FastAPI, jobs: Jobs, description: str) -> None:
    """Add the paths of the jobs of a kind."""
    kind = jobs.kind
    path, one, noun = kind.path, f"{kind.path}/{{id}}", kind.noun
    refused, own = (
        openapi.problem_responses(ProblemType.TOO_LARGE, ProblemType.UNSUPPORTED, ProblemType.TOO_MANY_JOBS),
        [openapi.JOB_ID],
    )
    unknown = openapi.problem_responses(ProblemType.NOT_FOUND)
    steps = "each check" if kind is VALIDATION else "the reading"
    for where, endpoint, summary, text, parameters, responses, method, extra in (
        (
            *(path, jobs.start, f"Start a {noun}", description, openapi.parameters(kind.query)),
            *(openapi.job_started(noun) | refused, "POST", openapi.files(kind.files)),
        ),
        (
            *(
                path,
                jobs.listed,
                f"List {kind.plural}",
                "The organization's jobs, newest first, without results.",
            ),
            *([], openapi.jobs(noun) | openapi.problem_responses(), "GET", {}),
        ),
        (
            *(one, jobs.read, f"Read a {noun}", f"The progress of {steps}, then the result or the problem."),
            *(own, openapi.job(noun) | unknown, "GET", {}),
        ),
        (
            *(one, jobs.delete, f"Delete a {noun}", "Cancels it if it runs, and forgets its result."),
            *(own, openapi.JOB_DELETED | unknown, "DELETE", {}),
        ),
    ):
        _add(app, where, jobs.service.authorized(endpoint), summary, text, parameters, responses, method, **extra)


def _add_links(app: FastAPI, service: Service) -> None:
    """Add the paths of short links."""
    endpoints = LinkEndpoints(service)
    organization = [parameter for parameter in openapi.parameters(EventQuery) if parameter["name"] == "organization_id"]
    problems = openapi.problem_responses(ProblemType.GONE, ProblemType.UNSUPPORTED, ProblemType.TOO_LARGE)
    _add(
        app,
        "/v1/links",
        service.authorized(endpoints.listed),
        "List short links",
        "The organization's short links, newest first, expired ones among them: who made them, when, last opened.",
        organization,
        openapi.LINKS | problems,
    )
    _add(
        app,
        "/v1/links",
        service.authorized(endpoints.make),
        "Make a short link",
        "A short link to a pinned query.",
        [],
        openapi.NEW_LINK | problems,
        "POST",
        requestBody=openapi.body(NewLink),
    )
    _add(
        app,
        "/v1/links/{token}",
        service.authorized(endpoints.revoke),
        "Revoke a short link",
        "From now on the link is unknown.",
        [openapi.TOKEN, *organization],
        openapi.REVOKED | problems,
        "DELETE",
    )


def _serve_openapi(app: FastAPI, access: Access) -> None:
    """Add the path of the OpenAPI document, with the mounted path and whether a key is required at that moment.

    The document is made when it is first asked for, so that a server starts sooner; its bytes, which need no key and
    are large, are made and compressed once.
    """

    @cache
    def document() -> dict[str, Any]:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            openapi_version="3.1.0",
        )
        made["components"] = {"schemas": openapi.components(), "securitySchemes": openapi.SECURITY_SCHEMES}
        return made

    @lru_cache(maxsize=_MAX_DOCUMENTS)
    def encoded(path: str, needs_key: bool, compressed: bool) -> bytes:
        security: list[dict[str, list[str]]] = [{openapi.SECURITY_SCHEME: []}, *([] if needs_key else [{}])]
        body = json_bytes({**document(), "servers": [{"url": path}], "security": security})
        return gzip.compress(body) if compressed else body

    async def serve(request: Request) -> Response:
        compressed = accepts_gzip(request)
        body = encoded(request.scope.get("root_path") or "/", access.needs_key(), compressed)
        headers = {"Cache-Control": "no-cache", "Vary": "Accept-Encoding"}
        return Response(body, headers=headers | ({"Content-Encoding": "gzip"} if compressed else {}), media_type=JSON)

    app.openapi = document  # type: ignore[method-assign]
    app.add_api_route("/openapi.json", serve, methods=["GET", "HEAD"], include_in_schema=False)


class RequestLog:
    """ASGI middleware: accepts and returns `X-Request-ID`, and logs each request in one line.

    Endpoints add to the request's `state`: `query` (as it took effect), `api_key` (its id and name), `organization_id`,
    `rows`, and `failure`, the exception behind a problem.
    """

    def __init__(self, app: ASGIApp, metrics: RequestMetrics) -> None:
        self.app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        state = scope.setdefault("state", {})
        outermost = "request_id" not in state
        if outermost:
            given = Headers(scope=scope).get("X-Request-ID", "")
            state["request_id"] = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        request_id = state["request_id"]
        began = time.perf_counter()
        status = size = 0

        async def answer(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
            size += len(message.get("body", b""))
            try:
                await send(message)
            except h11.LocalProtocolError:  # what followed the request is no HTTP, and no response can be sent any more
                raise ClientGone from None

        try:
            try:
                await self.app(scope, receive, answer)
            except (ClientGone, ClientDisconnect):  # the latter while its body was read
                state["is_gone"] = True
                if not status:
                    problem = Problem(ProblemType.UNAVAILABLE, "The client disconnected.")
                    with contextlib.suppress(ClientGone):
                        await problem.response(request_id)(scope, receive, answer)
            except Exception as error:
                state["failure"] = error
                if not status:  # a response that has begun is cut off instead
                    await problems.from_error(error).response(request_id)(scope, receive, answer)
        finally:
            if outermost:
                status = _CLIENT_CLOSED_REQUEST if "is_gone" in state else status
                self._metrics.observe(
                    _route(scope), scope["method"], status, time.perf_counter() - began, state.get("failure")
                )
                _log_request(scope, status, size, began)


def _route(scope: Scope) -> str | None:
    """The declared path of the request, None if it has none."""
    route = scope.get("route")  # that of a mounted application if none of it fits
    return f"{PREFIX}{route.path}" if isinstance(route, APIRoute) else None


def _log_request(scope: Scope, status: int, size: int, began: float) -> None:
    state = scope["state"]
    query, failure = state.get("query"), state.get("failure")
    organization_id = getattr(query, "organization_id", None) or state.get("organization_id")
    client = scope.get("client")
    fields: dict[str, Any] = {
        "request_id": state["request_id"],
        "method": logs.truncated(scope["method"]),
        "path": logs.truncated(_LINK.sub(r"\1…", scope["path"])),
        "query": logs.query_fields(query) if query else _invalid_query_fields(scope["query_string"]),
        "organization_id": organization_id and str(organization_id),
        "user": state.get("api_key"),
        "client": client and client[0],
        "status": status,
        "ms": logs.milliseconds_since(began),
        "rows": state.get("rows"),
        "bytes": size,
    }
    level, trace = logging.INFO, None
    if failure is not None:
        problem_type = problems.from_error(failure).type
        fields |= {"problem": problem_type.urn.rpartition(":")[2], "reason": logs.reason(failure)}
        if problem_type is ProblemType.INTERNAL:
            level, trace = logging.ERROR, failure
        elif problem_type.status.value >= 500 or status < 400:  # an error status < 400: the response broke off
            level = logging.WARNING
    _log.log(level, "request", exc_info=trace, extra={"fields": fields})


def _invalid_query_fields(query_string: bytes) -> dict[str, list[str]]:
    """The parameters of a query string that did not parse."""
    text = query_string[:_MAX_LOGGED_BYTES].decode("ascii", "backslashreplace")
    return logs.parameter_fields(parse_qsl(text, keep_blank_values=True))
