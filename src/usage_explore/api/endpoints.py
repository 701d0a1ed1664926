"""The operations: each parses its query, runs it in a thread, and writes the answer in the negotiated media type."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast

from starlette.requests import Request
from starlette.responses import Response

from usage_explore import charts
from usage_explore.answers import Aggregate
from usage_explore.api.request_query import Csv, View, pairs, parse
from usage_explore.api.responses import CSV, JSON, PNG, SVG, is_pinned, negotiated, response
from usage_explore.api.service import Service, run_in_thread
from usage_explore.db import catalog, engine
from usage_explore.errors import Fault, QueryError, TableMismatch
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_PICTURE_POINTS
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.url_params import query_string, to_pairs
from usage_explore.results import frames
from usage_explore.store import Store

if TYPE_CHECKING:
    from usage_explore.db.ddl import Connection

_Q = TypeVar("_Q", bound=Query)

_MAX_LINK_CHARACTERS = 4_000
"""Length up to which the next page is a `Link` header: clients and proxies limit headers."""

_PICTURE_WIDTH_PIXELS = 960
_READINESS_SECONDS = 3.0
"""Time that the database has to answer a readiness probe."""

_SVG_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}


class _Body(NamedTuple):
    content: bytes
    pinned: bool
    rows: int | None  # for the log; None in CSV
    cursor: str | None = None


class Endpoints:
    """The endpoints of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def events(self, request: Request) -> Response:
        """A page of raw events, as JSON or CSV."""
        media_type = negotiated(request, JSON, CSV)
        query, options = _parse_for(EventQuery, request, media_type)

        def work(store: Store) -> _Body:
            pinned = is_pinned(store, query)
            if media_type == CSV:
                content, cursor = store.events_csv(query, escape_formulas=options.escapes)
                return _Body(content, pinned, None, cursor)
            page = store.events(query)
            return _Body(_json(page.to_dict()), pinned, len(page.events), page.cursor)

        body = await self.service.run(request, query, work)
        request.state.rows = body.rows
        headers = _next_page_headers(query, options, body.cursor)
        return response(request, body.content, media_type, pinned=body.pinned, headers=headers)

    async def aggregate(self, request: Request) -> Response:
        """A time-bucketed aggregate, as JSON or CSV."""
        media_type = negotiated(request, JSON, CSV)
        query, options = _parse_for(AggregateQuery, request, media_type)

        def work(store: Store) -> tuple[bytes, bool, Aggregate]:
            pinned = is_pinned(store, query)
            answer = store.aggregate(query)
            if media_type == CSV:
                return frames.to_csv(answer, escape_formulas=options.escapes), pinned, answer
            return _json(answer.to_dict()), pinned, answer

        content, pinned, answer = await self.service.run(request, query, work)
        request.state.query, request.state.rows = answer.query, _points(answer)
        return response(request, content, media_type, pinned=pinned, headers=_timing_headers(answer))

    async def png(self, request: Request) -> Response:
        """The chart of an aggregate as PNG."""
        return await self._picture(request, PNG, "png")

    async def svg(self, request: Request) -> Response:
        """The chart of an aggregate as SVG, without scripts and external resources."""
        return await self._picture(request, SVG, "svg", _SVG_HEADERS)

    async def alive(self, request: Request) -> Response:
        """The liveness probe: the process answers."""
        return response(request, _json({"state": "ok"}), negotiated(request, JSON), pinned=False)

    async def ready(self, request: Request) -> Response:
        """The readiness probe: the database answers within 3 seconds and the table fits."""
        media_type = negotiated(request, JSON)
        await run_in_thread(request, lambda: _check_table(self.service.store()), timeout_seconds=_READINESS_SECONDS)
        return response(request, _json({"state": "ok"}), media_type, pinned=False)

    async def _picture(
        self, request: Request, media_type: str, form: Literal["png", "svg"], headers: dict[str, str] | None = None
    ) -> Response:
        negotiated(request, media_type)
        query, view = parse(AggregateQuery, View, pairs(request))

        def work(store: Store) -> tuple[Aggregate, bool]:
            pinned = is_pinned(store, query)
            return store.aggregate(query), pinned

        answer, pinned = await self.service.run(request, query, work)
        request.state.query, request.state.rows = answer.query, _points(answer)
        async with self.service.pictures.slot():
            content = await run_in_thread(request, lambda: _drawn(answer, view, form))
        headers = (headers or {}) | _timing_headers(answer)
        return response(request, content, media_type, pinned=pinned, headers=headers)


def _points(answer: Aggregate) -> int:
    return sum(len(series.points) for series in answer.series)


def _timing_headers(answer: Aggregate) -> dict[str, str]:
    """Which path answered, `rollup` or `events`, and the database's milliseconds."""
    milliseconds = answer.served.took / timedelta(milliseconds=1)
    return {"Server-Timing": f"{answer.served.path};dur={milliseconds:.1f}"}


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()


def _parse_for(model: type[_Q], request: Request, media_type: str) -> tuple[_Q, Csv]:
    """The query and the CSV options. Raises `QueryError`, also for CSV options of another media type."""
    query, options = parse(model, Csv, pairs(request))
    if options.escapes and media_type != CSV:
        raise QueryError([Fault("escape_formulas", "is for CSV; add the header Accept: text/csv, or leave it out")])
    return query, options


def _drawn(answer: Aggregate, view: View, form: Literal["png", "svg"]) -> bytes:
    points = _points(answer)
    if points > MAX_PICTURE_POINTS:
        message = f"the picture would have {points:,} points, more than {MAX_PICTURE_POINTS:,}; keep fewer series"
        raise QueryError([Fault("top", message)])
    dark = view.theme == "dark"
    chart = charts.chart(answer, kind=view.chart, dark=dark, width=_PICTURE_WIDTH_PIXELS, interactive=False)
    return charts.image(chart, form)


def _next_page_headers(query: EventQuery, options: Csv, cursor: str | None) -> dict[str, str]:
    """The next page as a relative `Link`, if it is short enough for a header."""
    if cursor is None:
        return {}
    address = "?" + query_string((*to_pairs(query.replace(cursor=cursor)), *to_pairs(options)))
    return {"Link": f'<{address}>; rel="next"'} if len(address) <= _MAX_LINK_CHARACTERS else {}


def _check_table(store: Store) -> None:
    """Check in the catalog that the table exists, is readable and fits.

    Raises `DatabaseUnavailable` or `TableMismatch`.
    """
    with engine.transaction(store.engine) as connection:
        driver = cast("Connection", connection.connection.driver_connection)
        relation = catalog.relation(driver, store.table.fullname)
    if relation is None:
        raise TableMismatch("The table is missing; `usage-explore init` makes one.")
    misfits = [] if relation.readable else ["it may not be read"]
    misfits += catalog.misfits(relation)
    if misfits:
        raise TableMismatch(f"The table does not fit: {'; '.join(misfits)}.")
