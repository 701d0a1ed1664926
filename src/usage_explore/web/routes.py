"""The routes `/s/<token>`, its picture and data, and `/embed`: who gets them, their headers and limits.

- A short link that opens without sign-in is answered here: with the answer to its own query, whatever else the request
  says. Its page has no script and needs no other address of the server.
- Every other short link leads to the app: to its page where no one signs in, else to `/open`, which asks for a sign-in
  first. The link says nothing of its query to a client that is not signed in.
- Unknown, expired and revoked links are one 410.
- `/embed?<query>` is answered where the app itself needs no sign-in; `/embed?link=<token>` for a link that opens
  without one. The setting `embed_sites` names the sites that may frame it.

A client sends at most `MAX_REQUESTS_PER_MINUTE`. What a link shows is rendered once, for all who wait for it, and kept
for ten minutes; links are drawn one at a time, beside the pictures of clients that have signed in.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import replace
from math import ceil
from typing import Literal, NamedTuple, get_args
from uuid import UUID
from weakref import WeakValueDictionary

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from usage_explore import config
from usage_explore.access import logs
from usage_explore.api import problems
from usage_explore.api.auth import network
from usage_explore.api.endpoints import View, parse, parse_presentation
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.responses import CSV, PNG
from usage_explore.api.service import ClientGone, ConcurrencyLimit, Service, pairs, run_in_thread
from usage_explore.errors import Fault, LinkGone, QueryError, ScopeError, UsageExploreError
from usage_explore.query.queries import AggregateQuery
from usage_explore.query.url_params import Pairs
from usage_explore.records.links import PATH, SharedLink
from usage_explore.results import frames
from usage_explore.results.types import SeriesKind
from usage_explore.store import Store
from usage_explore.store.display import DISPLAY, Span
from usage_explore.web import pages
from usage_explore.web.pages import Shown

_WINDOW_SECONDS = 60.0
_MAX_ADDRESSES = 10_000
"""Addresses that are remembered; beyond, the oldest is forgotten."""


class RateLimit:
    """At most `most` requests of an address, for IPv6 a /64 network, in a minute."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most, self._clock = most, clock
        self._windows: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def seconds_to_wait(self, address: str) -> int:
        """Count a request: 0 if it may be answered, else the seconds until the address may send another."""
        key, now = network(address), self._clock()
        ends, number = self._windows.get(key, (0.0, 0))
        if ends <= now:
            self._windows.pop(key, None)
            while len(self._windows) >= _MAX_ADDRESSES:
                self._windows.popitem(last=False)
            ends, number = now + _WINDOW_SECONDS, 0
        self._windows[key] = (ends, number + 1)
        return ceil(ends - now) if number >= self._most else 0


MAX_REQUESTS_PER_MINUTE = 120
"""Requests for links, their files and embedded charts that one address may send in a minute."""

MAX_KEPT_BYTES = 32 * 2**20
"""Bytes of rendered pages and files that are kept."""

_KEPT_SECONDS, _FAILURE_SECONDS = 600.0, 60.0
_MAX_FAILURES = 1_000

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

_ERROR_TITLES = {
    ProblemType.QUERY: "This view cannot be shown",
    ProblemType.UNAUTHORIZED: "Charts are for those who sign in",
    ProblemType.INTERNAL: "This view cannot be shown",
    ProblemType.RECORD: "This view cannot be shown",
}
"""Titles of error pages, which people read, where those for programs are another."""

_METHODS = ("GET", "HEAD")
_Form = Literal["", "csv", "png"]
_Chosen = tuple[tuple[SeriesKind, str | None] | None, Span | None]
"""The selected series and time."""

_Key = tuple[UUID, str]
"""The id of a link, and what of it is shown: a `_Form`, or "embed light" or "embed dark"."""

_log = logging.getLogger(__name__)


class _Rendered(NamedTuple):
    content: bytes
    media_type: str
    query: AggregateQuery


class Cache:
    """What was rendered for links, for ten minutes and up to `MAX_KEPT_BYTES`, and for a minute why nothing was.

    It is used by one event loop.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[_Key, tuple[float, _Rendered]] = OrderedDict()
        self._failures: OrderedDict[_Key, tuple[float, Problem]] = OrderedDict()
        self._rendering: WeakValueDictionary[_Key, asyncio.Lock] = WeakValueDictionary()

    async def rendered(self, key: _Key, render: Callable[[], Awaitable[_Rendered]]) -> _Rendered:
        """What is kept, else what `render` gives; those who ask meanwhile wait for the first one's.

        Raises what `render` raises; a refusal that does not pass by itself, as a `Problem`, for a minute.
        """
        lock = self._rendering.setdefault(key, asyncio.Lock())
        async with lock:
            ends, rendered = self._kept.get(key, (0.0, None))
            if rendered is not None and self._clock() < ends:
                return rendered
            ends, failure = self._failures.get(key, (0.0, None))
            if failure is not None and self._clock() < ends:
                raise failure
            try:
                rendered = await render()
            except (UsageExploreError, Problem) as error:
                problem = problems.from_error(error)
                if problem.type.status.value != 503:
                    self._failures[key] = (self._clock() + _FAILURE_SECONDS, problem)
                    while len(self._failures) > _MAX_FAILURES:
                        self._failures.popitem(last=False)
                raise
            self._keep(key, rendered)
            return rendered

    def _keep(self, key: _Key, rendered: _Rendered) -> None:
        """Keep it, in the place of the oldest."""
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
        self.methods = None  # the endpoint refuses other methods than these, and counts them
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
        self._drawing = ConcurrencyLimit(1, service.limits.wait_seconds, max_waiting=service.limits.waiting)

    def answered(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint within the limit of its client, with its errors as pages, and a line in the log."""

        async def wrapped(request: Request) -> Response:
            began = time.perf_counter()
            address = request.client.host if request.client else ""
            is_chart = request.scope["path"].endswith("/embed")
            framed = _framed_by_named() if is_chart else _FRAMED_BY_NONE
            failure: Exception | None = None
            if seconds := self._rate.seconds_to_wait(address):
                content = pages.message_page("Too many requests", f"Try again in {seconds} s.")
                response = _page(content, 429, framed | {"Retry-After": str(seconds)})
            else:
                try:
                    if request.method not in _METHODS:
                        raise Problem(ProblemType.METHOD, "Use GET.", headers={"Allow": ", ".join(_METHODS)})
                    response = await endpoint(request)
                except ClientGone:
                    response = _page(b"", 503, framed)
                except Exception as error:  # also a fault of the server
                    failure = error
                    response = _refusal(error, framed, "" if is_chart else f"{self._base()}/")
            query = getattr(request.state, "query", None)
            self.service.requests.observe(
                "/embed" if is_chart else f"{PATH}{{token}}",
                request.method,
                response.status_code,
                time.perf_counter() - began,
                failure,
            )
            fields = {
                "path": "/embed" if is_chart else f"{PATH}…",
                "query": logs.query_fields(query) if query else None,
                "organization_id": str(query.organization_id) if query and query.organization_id else None,
                "client": address,
                "status": response.status_code,
                "ms": logs.milliseconds_since(began),
            }
            level = logging.INFO
            if failure is not None and response.status_code >= 500:
                fields["reason"] = logs.reason(failure)
                if problems.from_error(failure).type is ProblemType.INTERNAL:
                    level, fields["reason"] = logging.ERROR, type(failure).__name__  # its words may have the address
                    fields["trace"] = "".join(traceback.format_tb(failure.__traceback__))
            _log.log(level, "link", extra={"fields": fields})
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
        rendered = await self._rendered(request, link, form)
        headers = _HEADERS | _FRAMED_BY_NONE
        if form == "csv":
            headers |= {"Content-Disposition": 'attachment; filename="usage.csv"'}
        return Response(rendered.content, 200, headers, rendered.media_type, BackgroundTask(self._opened, link))

    async def embedded(self, request: Request) -> Response:
        """A chart for a frame."""
        given = pairs(request)
        if "link" in dict(given):
            token, theme = _link_and_theme(given)
            link = await self._link(request, token)
            if not _opens_without_sign_in(link):
                raise LinkGone
            content = (await self._rendered(request, link, f"embed {theme}")).content
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
        return Response(content, 200, _HEADERS | _framed_by_named(), _HTML)

    async def _rendered(self, request: Request, link: SharedLink, form: str) -> _Rendered:
        """What a link shows, rendered at most once in ten minutes."""

        async def render() -> _Rendered:
            try:
                shown = await self._shown(request, link)
            except QueryError:
                detail = "This version of usage-explore cannot answer the link's query; ask its author for a new link."
                raise Problem(ProblemType.QUERY, detail) from None
            async with self._drawing.slot():
                return await run_in_thread(request, lambda: _rendered(shown, link, form))

        rendered = await self._cache.rendered((link.id, form), render)
        request.state.query = rendered.query
        return rendered

    async def _link(self, request: Request, token: str) -> SharedLink:
        return await run_in_thread(request, lambda: self.service.store().link(token))

    async def _shown(self, request: Request, link: SharedLink) -> Shown:
        """The answer to a link's query, on a store that sees its organization alone."""
        query, view, chosen = _view(link)
        try:
            return await self._answer(request, query, view, link.organization_id, chosen)
        except Problem as problem:
            if problem.type is ProblemType.FORBIDDEN:  # the organization has no events any more, or is hidden
                raise LinkGone from None
            raise

    async def _answer(
        self, request: Request, query: AggregateQuery, view: View, own: UUID | None, chosen: _Chosen = (None, None)
    ) -> Shown:
        request.state.organization_id = own

        def work(store: Store) -> Shown:
            from usage_explore.selection import selected, whole_of  # with the package of charts

            answer = store.aggregate(query)
            shown = Shown(answer, answer.organization, store.frequent_values(answer.query), view)
            selection = selected(answer, *chosen, store.names)
            if not selection:
                return shown
            return replace(shown, selection=selection, part=store.aggregate(whole_of(selection)))

        shown = await self.service.run(request, query, work)
        request.state.query = shown.answer.query
        return shown

    def _opened(self, link: SharedLink) -> None:
        try:
            self.service.store().link_opened(link)
        except (UsageExploreError, ScopeError) as error:
            _log.info("link: the time of opening was not kept", extra={"fields": {"reason": logs.reason(error)}})


def _named(name: str) -> tuple[str, _Form]:
    """The token and the form of the part of a path after `PATH`: `abc`, `abc.csv`, `abc.png`."""
    token, _, suffix = name.partition(".")
    forms: tuple[_Form, ...] = get_args(_Form)
    if suffix not in forms or name.endswith(".") or "/" in name:
        raise LinkGone
    return token, suffix


def _link_and_theme(given: Pairs) -> tuple[str, str]:
    """The token and the colours of a chart of a link. Raises `QueryError`, `LinkGone`."""
    view, faults = parse_presentation(View, [pair for pair in given if pair[0] == "theme"])
    tokens = [value for name, value in given if name == "link"]
    if len(tokens) > 1 or {name for name, _ in given} - {"link", "theme"}:
        faults.append(Fault("link", "stands alone or beside theme: the link names its query"))
    if faults:
        raise QueryError(faults)
    if "/" in tokens[0]:
        raise LinkGone
    return tokens[0], view.theme


def _opens_without_sign_in(link: SharedLink) -> bool:
    return link.without_sign_in and config.settings().public_links


def _view(link: SharedLink) -> tuple[AggregateQuery, View, _Chosen]:
    """The query of a link, the kind of its chart, and what is selected. A link of a later version is gone here.

    Raises `QueryError` for a selection that this version cannot read.
    """
    query, given = link.query, dict(link.pairs())
    if not isinstance(query, AggregateQuery) or link.page != "explore":
        raise LinkGone
    chart = given.get("chart", "bars")
    try:
        series, span = (DISPLAY["explore"][name](given[name]) if name in given else None for name in ("series", "span"))
    except ValueError as error:
        raise QueryError([Fault("span", str(error))]) from None
    return query, View(chart=chart if chart in ("lines", "area") else "bars"), (series, span)


def _rendered(shown: Shown, link: SharedLink, form: str) -> _Rendered:
    query = shown.answer.query
    match form:
        case "csv":
            return _Rendered(frames.to_csv(shown.answer, escape_formulas=True), CSV, query)
        case "png":
            from usage_explore import charts

            return _Rendered(charts.image(pages.chart_of(shown, title=True), "png"), PNG, query)
        case "embed light" | "embed dark":
            view = View(chart=shown.view.chart, theme="dark" if form == "embed dark" else "light")
            return _Rendered(pages.embedded_page(replace(shown, view=view)), _HTML, query)
        case _:
            page = pages.shared_page(shown, link.url, f"{link.token}.csv", f"{link.token}.png")
            return _Rendered(page, _HTML, query)


def _refusal(error: Exception, framed: dict[str, str], app: str) -> Response:
    """The page of an error, with its status and the way to the app. It is the same for every link that is gone."""
    problem = problems.from_error(error)
    faults = [str(fault) for fault in problem.errors]
    text = " ".join(faults) or problem.detail
    headers = dict(problem.headers)
    if problem.type.status.value == 503:
        headers["Retry-After"] = str(problems.RETRY_AFTER_SECONDS)
    title = _ERROR_TITLES.get(problem.type, problem.type.title)
    return _page(pages.message_page(title, text, app), problem.type.status.value, framed | headers)


def _page(content: bytes, status: int, more: dict[str, str]) -> Response:
    return Response(content, status, _HEADERS | more, _HTML)


def _framed_by_named() -> dict[str, str]:
    """The header by which the sites of the setting `embed_sites` may frame a page."""
    return {"Content-Security-Policy": _POLICY + (" ".join(config.settings().embed_sites) or "'none'")}
