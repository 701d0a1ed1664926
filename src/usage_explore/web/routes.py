"""The routes `/s/<token>`, its picture and data, and `/embed`: who gets them, their headers and limits.

- A short link that opens without sign-in is answered here: with the answer to its own query, whatever else the request
  says. Its page has no script and needs no other address of the server.
- Every other short link leads to the app: to its page where no one signs in, else to `/open`, which asks for a sign-in
  first. The link says nothing of its query to a client that is not signed in.
- Unknown, expired and revoked links are one 410.
- `/embed?<query>` is answered where the app itself needs no sign-in; `/embed?link=<token>` for a link that opens
  without one. The setting `embed_sites` names the sites that may frame it.

A client sends at most `MAX_REQUESTS_PER_MINUTE`, and what was rendered for a link is kept for ten minutes.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple, get_args
from uuid import UUID

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from usage_explore import config
from usage_explore.access import logs
from usage_explore.api import problems
from usage_explore.api.endpoints import View, parse
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.responses import CSV, PNG
from usage_explore.api.service import ClientGone, Service, pairs, run_in_thread
from usage_explore.errors import Fault, LinkGone, QueryError, ScopeError, UsageExploreError
from usage_explore.query.queries import AggregateQuery
from usage_explore.records.links import PATH, SharedLink
from usage_explore.results import frames
from usage_explore.store import Store
from usage_explore.web import pages
from usage_explore.web.pages import Shown
from usage_explore.web.rate import RateLimit

MAX_REQUESTS_PER_MINUTE = 120
"""Requests for links, their files and embedded charts that one address may send in a minute."""

MAX_KEPT_BYTES = 32 * 2**20
"""Bytes of rendered pages and files that are kept."""

_KEPT_SECONDS = 600.0

OPEN_PAGE = "open"
"""The app's page that opens a short link after the sign-in."""

_HTML = "text/html; charset=utf-8"
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none';"
    " frame-ancestors "
)
_HEADERS = {
    "Cache-Control": "private, no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}
_FRAMED_BY_NONE = {"Content-Security-Policy": f"{_POLICY}'none'", "X-Frame-Options": "DENY"}

_Form = Literal["", "csv", "png"]
_log = logging.getLogger(__name__)


class _Rendered(NamedTuple):
    content: bytes
    media_type: str


class Cache:
    """What was rendered for links, for ten minutes and up to `MAX_KEPT_BYTES`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[UUID, str], tuple[float, _Rendered]] = OrderedDict()

    def get(self, key: tuple[UUID, str]) -> _Rendered | None:
        """What is kept; None if nothing is."""
        with self._lock:
            ends, rendered = self._kept.get(key, (0.0, None))
            return rendered if self._clock() < ends else None

    def put(self, key: tuple[UUID, str], rendered: _Rendered) -> None:
        """Keep it, in the place of the oldest."""
        with self._lock:
            self._kept.pop(key, None)
            self._kept[key] = (self._clock() + _KEPT_SECONDS, rendered)
            while sum(len(one.content) for _, one in self._kept.values()) > MAX_KEPT_BYTES:
                self._kept.popitem(last=False)


def routes(service: Service, base: Callable[[], str]) -> list[BaseRoute]:
    """The routes of short links and embedded charts; `base` gives the path that the app is served under."""
    links = _Links(service, base)
    return [
        _Route(f"{PATH}{{name:path}}", links.answered(links.shared), base),
        _Route("/embed", links.answered(links.embedded), base),
    ]


class _Route(Route):
    """A route below the path that the app is served under."""

    def __init__(self, path: str, endpoint: Callable[[Request], Awaitable[Response]], base: Callable[[], str]) -> None:
        super().__init__(path, endpoint)
        self.path_regex = re.compile(self.path_regex.pattern, re.DOTALL)  # a line break in a path is below it, too
        self._base = base

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Whether the route is that of a request."""
        if scope["type"] != "http":
            return Match.NONE, {}
        return super().matches({**scope, "path": scope["path"].removeprefix(self._base())})


class _Links:
    """The endpoints."""

    def __init__(self, service: Service, base: Callable[[], str]) -> None:
        self.service, self._base = service, base
        self._rate = RateLimit(MAX_REQUESTS_PER_MINUTE)
        self._cache = Cache()

    def answered(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint within the limit of its client, with its errors as pages, and a line in the log."""

        async def wrapped(request: Request) -> Response:
            began = time.perf_counter()
            address = request.client.host if request.client else ""
            failure: Exception | None = None
            if seconds := self._rate.seconds_to_wait(address):
                content = pages.message_page("Too many requests", f"Try again in {seconds} s.")
                response = _page(content, 429, {"Retry-After": str(seconds)})
            else:
                try:
                    response = await endpoint(request)
                except ClientGone:
                    response = _page(b"", 503)
                except (UsageExploreError, Problem) as error:
                    failure = error
                    response = _refusal(error)
            query = getattr(request.state, "query", None)
            fields = {
                "path": "/embed" if request.scope["path"].endswith("/embed") else f"{PATH}…",
                "query": logs.query_fields(query) if query else None,
                "organization_id": str(query.organization_id) if query and query.organization_id else None,
                "client": address,
                "status": response.status_code,
                "ms": logs.milliseconds_since(began),
            }
            if failure is not None and response.status_code >= 500:
                fields["reason"] = logs.reason(failure)
            _log.info("link", extra={"fields": fields})
            return response

        return wrapped

    async def shared(self, request: Request) -> Response:
        """A short link: its page or file, or the way to the app."""
        token, form = _named(request.path_params["name"])
        link = await self._link(request, token)
        if not _opens_without_sign_in(link):
            if form:  # only a link that opens without sign-in has files
                raise LinkGone
            is_open = self.service.access.is_open(request)
            target = link.target if is_open else f"/{OPEN_PAGE}?link={link.token}"
            task = BackgroundTask(self._opened, link) if is_open else None
            return RedirectResponse(f"{self._base()}{target}", 302, _HEADERS | _FRAMED_BY_NONE, task)
        rendered = self._cache.get((link.id, form))
        if rendered is None:
            shown = await self._shown(request, link)
            async with self.service.pictures.slot():
                rendered = await run_in_thread(request, lambda: _rendered(shown, link, form))
            self._cache.put((link.id, form), rendered)
        headers = _HEADERS | _FRAMED_BY_NONE
        if form == "csv":
            headers |= {"Content-Disposition": 'attachment; filename="usage.csv"'}
        return Response(rendered.content, 200, headers, rendered.media_type, BackgroundTask(self._opened, link))

    async def embedded(self, request: Request) -> Response:
        """A chart for a frame."""
        given = pairs(request)
        if "link" in dict(given):
            if len(given) > 1:
                raise QueryError([Fault("link", "stands alone: the link names its query")])
            link = await self._link(request, given[0][1])
            if not _opens_without_sign_in(link):
                raise LinkGone
            shown = await self._shown(request, link)
        elif not self.service.access.is_open(request):
            detail = (
                "This server shows charts to those who sign in. Embed a short link that opens without: /embed?link=…"
            )
            raise Problem(ProblemType.UNAUTHORIZED, detail)
        else:
            query, view = parse(AggregateQuery, View, given)
            shown = await self._answer(request, query, view, None)
        async with self.service.pictures.slot():
            content = await run_in_thread(request, lambda: pages.embedded_page(shown))
        sites = " ".join(config.settings().embed_sites) or "'none'"
        return Response(content, 200, _HEADERS | {"Content-Security-Policy": _POLICY + sites}, _HTML)

    async def _link(self, request: Request, token: str) -> SharedLink:
        return await run_in_thread(request, lambda: self.service.store().link(token))

    async def _shown(self, request: Request, link: SharedLink) -> Shown:
        """The answer to a link's query, on a store that sees its organization alone."""
        query, view = _view(link)
        try:
            return await self._answer(request, query, view, link.organization_id)
        except Problem as problem:
            if problem.type is ProblemType.FORBIDDEN:  # the organization has no events any more, or is hidden
                raise LinkGone from None
            raise

    async def _answer(self, request: Request, query: AggregateQuery, view: View, own: UUID | None) -> Shown:
        request.state.organization_id = own

        def work(store: Store) -> Shown:
            answer = store.aggregate(query)
            return Shown(answer, answer.organization, store.frequent_values(answer.query), view)

        shown = await self.service.run(request, query, work)
        request.state.query = shown.answer.query
        return shown

    def _opened(self, link: SharedLink) -> None:
        try:
            self.service.store().link_opened(link)
        except (UsageExploreError, ScopeError) as error:
            _log.info("link: the time of opening was not kept", extra={"fields": {"reason": logs.reason(error)}})


def _named(name: str) -> tuple[str, _Form]:
    """The token and the form of the last part of a path: `abc`, `abc.csv`, `abc.png`."""
    token, _, suffix = name.partition(".")
    forms: tuple[_Form, ...] = get_args(_Form)
    if suffix not in forms or name.endswith("."):
        raise LinkGone
    return token, suffix


def _opens_without_sign_in(link: SharedLink) -> bool:
    return link.without_sign_in and config.settings().public_links


def _view(link: SharedLink) -> tuple[AggregateQuery, View]:
    """The query of a link and the kind of its chart. A link of a later version is gone here."""
    query, given = link.query, dict(link.pairs())
    if not isinstance(query, AggregateQuery) or link.page != "explore":
        raise LinkGone
    chart = given.get("chart", "bars")
    return query, View(chart=chart if chart in ("lines", "area") else "bars")


def _rendered(shown: Shown, link: SharedLink, form: _Form) -> _Rendered:
    if form == "csv":
        return _Rendered(frames.to_csv(shown.answer, escape_formulas=True), CSV)
    if form == "png":
        from usage_explore import charts

        return _Rendered(charts.image(pages.chart_of(shown, title=True), "png"), PNG)
    return _Rendered(pages.shared_page(shown, link.url, f"{link.token}.csv", f"{link.token}.png"), _HTML)


def _refusal(error: Exception) -> Response:
    """The page of an error, with its status. It is the same for every link that is gone."""
    problem = problems.from_error(error)
    lines = [problem.detail, *(str(fault) for fault in problem.errors)]
    headers = {"Retry-After": str(problems.RETRY_AFTER_SECONDS)} if problem.type.status.value == 503 else {}
    return _page(pages.message_page(problem.type.title, " ".join(lines)), problem.type.status.value, headers)


def _page(content: bytes, status: int, more: dict[str, str] | None = None) -> Response:
    return Response(content, status, {**_HEADERS, **_FRAMED_BY_NONE, **(more or {})}, _HTML)
