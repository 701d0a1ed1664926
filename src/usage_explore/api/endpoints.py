"""The operations: each parses its query, runs it in a thread, and writes the answer in the negotiated media type.

Queries are parsed from the raw query string by the package's own `from_params` alone. Events of any number are streamed
as CSV, complete or recognizably broken off: see `Endpoints.export`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Generator, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar, cast
from uuid import UUID

from anyio import to_thread
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from usage_explore.answers import Aggregate, Leaderboards
from usage_explore.api import problems, service
from usage_explore.api.lookups import Lookup
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.responses import CSV, JSON, PNG, SVG, XLSX, is_pinned, json_bytes, negotiated, response
from usage_explore.api.service import ClientGone, Service, run_in_thread
from usage_explore.db import catalog, engine
from usage_explore.db.timeouts import HeldConnections, cancellable
from usage_explore.errors import Fault, QueryError, ScopeError, TableMismatch
from usage_explore.query import url_params, validators
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_PICTURE_POINTS
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.url_params import query_string, to_pairs
from usage_explore.remote import wire
from usage_explore.results import formulas, frames
from usage_explore.store import Store

if TYPE_CHECKING:
    from usage_explore.db.ddl import Connection

_Q = TypeVar("_Q", bound=Query)
_P = TypeVar("_P", bound=BaseModel)
_T = TypeVar("_T")

_MAX_LINK_CHARACTERS = 4_000
"""Length up to which the next page is a `Link` header: clients and proxies limit headers."""

_PICTURE_WIDTH_PIXELS = 960
_READINESS_SECONDS = 3.0
"""Time that the database has to answer a readiness probe."""

_SVG_HEADERS = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox"}

_PIECE_BYTES = 65_536
"""Bytes that are sent at a time; the client must take them within `Limits.stall_seconds`."""

_SLOWNESS_CHECK_SECONDS = 1.0
"""How often a client that has not taken what was sent is compared with `Limits`."""

_FULL_BUFFER_SECONDS = 0.05
"""Once a client was waited for as long, the buffers between are full: it takes what it reads, not what they hold."""

_ACCESS_CHECK_SECONDS = 1.0
"""How often the key of an export that runs is looked up: one that is revoked ends it."""

_EXPORT_HEADERS = {"Cache-Control": "no-store", "Vary": "Accept, Authorization"}
_EXPORT_SUFFIXES = {CSV: "csv", wire.ARROW: "arrows"}


class View(BaseModel):
    """Presentation parameters of a picture."""

    chart: Literal["bars", "lines", "area"] = Field("bars", description="The kind of chart.")
    theme: Literal["light", "dark"] = Field("light", description="Colours for a light or a dark page.")


class Csv(BaseModel):
    """Presentation parameters of CSV."""

    escape_formulas: Literal["false", "true"] = Field("false", description=f"CSV only. {formulas.MEANING}")

    @property
    def escapes(self) -> bool:
        """Whether formulas are escaped."""
        return self.escape_formulas == "true"


def parse(
    model: type[_Q], presentation: type[_P], given: Iterable[tuple[str, str]], *, without: tuple[str, ...] = ()
) -> tuple[_Q, _P]:
    """The query, and the parameters for the presentation of its answer.

    Parameters in `without` are errors. Raises `QueryError` with every fault of both.
    """
    given = list(given)
    names = presentation.model_fields
    view, faults = parse_presentation(presentation, [pair for pair in given if pair[0] in names])
    try:
        query = parse_query(model, [pair for pair in given if pair[0] not in names], without)
    except QueryError as error:
        raise QueryError([*error.faults, *faults]) from None
    if faults:
        raise QueryError(faults)
    return query, view


def parse_query(model: type[_Q], given: url_params.Pairs, without: tuple[str, ...] = ()) -> _Q:
    """The query of a request's parameters; those in `without` and of the display are errors. Raises `QueryError`."""
    names = dict.fromkeys(name for name, _ in given)
    faults = [Fault(name, "unknown parameter here") for name in names if name in without]
    faults += [
        Fault(name, "unknown parameter; it is a display option of the app") for name in names if name in model.VIEW
    ]
    try:
        query = model.from_params([pair for pair in given if pair[0] not in without])
    except QueryError as error:
        raise QueryError([*faults, *error.faults]) from None
    if faults:
        raise QueryError(faults)
    return query


def parse_presentation(model: type[_P], given: url_params.Pairs) -> tuple[_P, list[Fault]]:
    """The presentation parameters, and the faults of those that are not among the allowed values."""
    fields, faults = url_params.from_pairs(model, given)
    chosen: dict[str, str] = {}
    allowed = {name: schema["enum"] for name, schema in model.model_json_schema()["properties"].items()}
    for name, value in fields.items():
        try:
            chosen[name] = validators.choice(value, allowed[name])
        except ValueError as error:
            faults.append(Fault(name, str(error)))
    return model.model_validate(chosen), faults


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
        media_type = negotiated(request, JSON, CSV, wire.MEDIA_TYPE)
        query, options = _parse_for(EventQuery, request, media_type)

        def work(store: Store) -> _Body:
            pinned = is_pinned(store, query)
            if media_type == CSV:
                content, cursor = store.events_csv(query, escape_formulas=options.escapes)
                return _Body(content, pinned, None, cursor)
            page = store.events(query)
            return _Body(*_written(page, page.to_dict, media_type, pinned), len(page.events), page.cursor)

        body = await self.service.run(request, query, work)
        request.state.rows = body.rows
        headers = _next_page_headers(query, options, body.cursor)
        return response(request, body.content, media_type, pinned=body.pinned, headers=headers)

    async def aggregate(self, request: Request) -> Response:
        """A time-bucketed aggregate, as JSON, CSV or an Excel workbook."""
        media_type = negotiated(request, JSON, CSV, XLSX, wire.MEDIA_TYPE)
        query, options = _parse_for(AggregateQuery, request, media_type)

        def work(store: Store) -> tuple[bytes, bool, Aggregate]:
            pinned = is_pinned(store, query)
            answer = store.aggregate(query)
            if media_type == CSV:
                return frames.to_csv(answer, escape_formulas=options.escapes), pinned, answer
            if media_type == XLSX:
                return answer.xlsx(answer.organization, answer.url(), answer.url(pinned=True)), pinned, answer
            return *_written(answer, answer.to_dict, media_type, pinned), answer

        content, pinned, answer = await self.service.run(request, query, work)
        request.state.query, request.state.rows = answer.query, _points(answer)
        return response(request, content, media_type, pinned=pinned, headers=_timing_headers(answer))

    def lookup(self, operation: Lookup) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of an operation that one method of the store answers, as JSON."""

        async def answered(request: Request) -> Response:
            media_type = negotiated(request, JSON, wire.MEDIA_TYPE)
            query = parse_query(operation.query, service.pairs(request), operation.without)

            def work(store: Store) -> tuple[bytes, bool, Any]:
                pinned = operation.pinned and is_pinned(store, query)
                answer = operation.answer(store, query)
                return *_written(answer, lambda: operation.document(answer), media_type, pinned), answer

            content, pinned, answer = await self.service.run(request, query, work)
            headers = {}
            if isinstance(answer, Leaderboards):
                request.state.query, request.state.rows = answer.query, sum(len(item.leaders) for item in answer.boards)
                headers = _timing_headers(answer)
            elif isinstance(answer, list):
                request.state.rows = len(answer)
            return response(request, content, media_type, pinned=pinned, headers=headers)

        return answered

    async def export(self, request: Request) -> Response:
        """Every event of the query as streamed CSV or Arrow, from its cursor on if it has one.

        One connection is held from the first page to the last. Errors before the first page are problems as in every
        operation. A stream that fails later ends without the last chunk of its transfer encoding, so that no HTTP
        client takes it for complete, CSV with a line `# error: …` before. If the client disconnects, or reads too
        slowly (see `Limits`), the statement is cancelled and the connection returns to the pool.
        """
        media_type = negotiated(request, CSV, wire.ARROW)
        query, options = parse(EventQuery, Csv, service.pairs(request), without=("limit",))
        _check_options(options, media_type)
        if request.scope["http_version"] == "1.0":
            detail = "Use HTTP/1.1; an HTTP/1.0 client cannot tell a broken export from a complete one."
            raise Problem(ProblemType.HTTP_VERSION, detail)
        request.state.query = query
        if request.method == "HEAD":  # one event is enough to check organization, key, cursor and table
            first_event = query.replace(limit=1)
            await self.service.run(request, query, lambda store: store.events_csv(first_event))
            return _without_length(Response(headers=_export_headers(media_type), media_type=media_type))
        owner: UUID | None = request.state.organization_id
        async with contextlib.AsyncExitStack() as resources:
            await resources.enter_async_context(self.service.exports.slot(owner))
            try:
                store = await run_in_thread(request, lambda: self.service.store_for(request))
                chunks = _ChunkReader(
                    store.export_csv(query, escape_formulas=options.escapes)
                    if media_type == CSV
                    else store.export_arrow(query)
                )
                resources.push_async_callback(chunks.close)
                disconnected = asyncio.ensure_future(service.wait_for_disconnect(request.receive))
                resources.callback(disconnected.cancel)
                first = await chunks.next(disconnected)
            except ScopeError:
                raise self.service.scope_problem(request, query) from None
            except TableMismatch:
                await to_thread.run_sync(service.check_being_made, store, limiter=service.thread_limiter())
                raise
            return _ExportResponse(media_type, first, chunks, disconnected, resources.pop_all(), self.service, owner)
        raise AssertionError  # no resource suppresses an exception

    async def png(self, request: Request) -> Response:
        """The chart of an aggregate as PNG."""
        return await self._picture(request, PNG, "png")

    async def svg(self, request: Request) -> Response:
        """The chart of an aggregate as SVG, without scripts and external resources."""
        return await self._picture(request, SVG, "svg", _SVG_HEADERS)

    async def alive(self, request: Request) -> Response:
        """The liveness probe: the process answers."""
        return response(request, json_bytes({"state": "ok"}), negotiated(request, JSON), pinned=False)

    async def ready(self, request: Request) -> Response:
        """The readiness probe: the database answers within 3 seconds and the table fits."""
        media_type = negotiated(request, JSON)
        await run_in_thread(request, lambda: _check_table(self.service.store()), timeout_seconds=_READINESS_SECONDS)
        return response(request, json_bytes({"state": "ok"}), media_type, pinned=False)

    async def _picture(
        self, request: Request, media_type: str, form: Literal["png", "svg"], headers: dict[str, str] | None = None
    ) -> Response:
        negotiated(request, media_type)
        query, view = parse(AggregateQuery, View, service.pairs(request))

        from usage_explore import charts

        def work(store: Store) -> tuple[Aggregate, bool, str, tuple[str, ...]]:
            pinned = is_pinned(store, query)
            answer = store.aggregate(query)
            caption = charts.caption(answer, answer.organization)
            return answer, pinned, caption, store.frequent_values(answer.query)

        answer, pinned, caption, frequent = await self.service.run(request, query, work)
        request.state.query, request.state.rows = answer.query, _points(answer)
        async with self.service.pictures.slot(request.state.organization_id):
            content = await run_in_thread(request, lambda: _drawn(answer, view, form, caption, frequent))
        headers = (headers or {}) | _timing_headers(answer)
        return response(request, content, media_type, pinned=pinned, headers=headers)


def _points(answer: Aggregate) -> int:
    return sum(len(series.points) for series in answer.series)


def _timing_headers(answer: Aggregate | Leaderboards) -> dict[str, str]:
    """Which path answered, `extract` or `events`, and the database's milliseconds."""
    milliseconds = answer.served.took / timedelta(milliseconds=1)
    return {"Server-Timing": f"{answer.served.path};dur={milliseconds:.1f}"}


def _parse_for(model: type[_Q], request: Request, media_type: str) -> tuple[_Q, Csv]:
    """The query and the CSV options. Raises `QueryError`, also for CSV options of another media type."""
    query, options = parse(model, Csv, service.pairs(request))
    _check_options(options, media_type)
    return query, options


def _check_options(options: Csv, media_type: str) -> None:
    if options.escapes and media_type != CSV:
        raise QueryError([Fault("escape_formulas", "is for CSV; add the header Accept: text/csv, or leave it out")])


def _written(answer: object, document: Callable[[], Any], media_type: str, pinned: bool) -> tuple[bytes, bool]:
    """The answer as JSON, or as the package sends it to itself, which has its time of reading and is never cached."""
    if media_type == wire.MEDIA_TYPE:
        return wire.dumps(answer), False
    return json_bytes(document()), pinned


def _export_headers(media_type: str) -> dict[str, str]:
    name = f"usage-events.{_EXPORT_SUFFIXES[media_type]}"
    return {**_EXPORT_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}


def _drawn(
    answer: Aggregate, view: View, form: Literal["png", "svg"], caption: str, frequent: tuple[str, ...]
) -> bytes:
    from usage_explore import charts

    check_picture(answer)
    dark = view.theme == "dark"
    chart = charts.chart(
        answer,
        kind=view.chart,
        dark=dark,
        width=_PICTURE_WIDTH_PIXELS,
        interactive=False,
        frequent=frequent,
        caption=caption,
    )
    return charts.image(chart, form)


def check_picture(answer: Aggregate) -> None:
    """Raise `QueryError` if the answer has more points than a picture may have."""
    points = _points(answer)
    if points > MAX_PICTURE_POINTS:
        message = f"the picture would have {points:,} points, more than {MAX_PICTURE_POINTS:,}; keep fewer series"
        raise QueryError([Fault("top", message)])


def _next_page_headers(query: EventQuery, options: Csv, cursor: str | None) -> dict[str, str]:
    """The next page as a relative `Link`, if it is short enough for a header."""
    if cursor is None:
        return {}
    address = "?" + query_string((*to_pairs(query.replace(cursor=cursor)), *to_pairs(options)))
    return {"Link": f'<{address}>; rel="next"'} if len(address) <= _MAX_LINK_CHARACTERS else {}


def _check_table(store: Store) -> None:
    """Check in the catalog that the table exists, is readable and fits.

    Raises `DatabaseUnavailable`, `TableMismatch`, or `Problem` (503) while it is being made.
    """
    with engine.transaction(store.engine) as connection:
        driver = cast("Connection", connection.connection.driver_connection)
        relation = catalog.relation(driver, store.table.fullname)
    if relation is None:
        service.check_being_made(store)
        raise TableMismatch("The table is missing; `usage-explore init` makes one.")
    misfits = [] if relation.readable else ["it may not be read"]
    misfits += catalog.misfits(relation)
    if misfits:
        raise TableMismatch(f"The table does not fit: {'; '.join(misfits)}.")


class _ChunkReader:
    """Reads the chunks of an export in threads."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self._chunks = chunks
        self._connections = HeldConnections()

    async def next(self, disconnected: asyncio.Future[None]) -> bytes | None:
        """The next chunk, None after the last.

        Raises `ClientGone`, `Problem` (503) if the server stops, and the store's errors.
        """
        reading = self._in_thread(lambda: next(self._chunks, None))
        stopped = asyncio.ensure_future(service.stopping().wait())
        watched: set[asyncio.Future[Any]] = {reading, disconnected, stopped}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if disconnected.done():
                raise ClientGone
            if stopped.done():
                raise problems.stopped()
            return reading.result()
        finally:
            stopped.cancel()
            await service.cancel_until_done(reading, self._connections)

    async def close(self) -> None:
        """Return the connection to the pool."""
        await self._in_thread(self._chunks.close)

    def _in_thread(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        with cancellable(self._connections):
            return asyncio.ensure_future(to_thread.run_sync(work, limiter=service.thread_limiter()))


class _SlowClient(Exception):
    """The client reads its export too slowly."""


class _ExportResponse(Response):
    """The chunks of an export, sent at the client's speed."""

    def __init__(
        self,
        media_type: str,
        first: bytes | None,
        chunks: _ChunkReader,
        disconnected: asyncio.Future[None],
        resources: contextlib.AsyncExitStack,
        service: Service,
        owner: UUID | None,
    ) -> None:
        super().__init__(headers=_export_headers(media_type), media_type=media_type)
        _without_length(self)
        self._first, self._chunks, self._disconnected = first, chunks, disconnected
        self._resources, self._limits = resources, service.limits
        self._exports, self._owner, self._access = service.exports, owner, service.access
        self._checked_at = time.monotonic()
        self._read_bytes = 0
        self._waited_seconds = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all chunks; on an error end without the last chunk of the transfer encoding."""
        request = Request(scope)
        request_id = problems.request_id(request)
        async with self._resources:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                chunk = self._first
                while chunk is not None:
                    await self._send(chunk, send, request)
                    chunk = await self._chunks.next(self._disconnected)
            except ClientGone:
                return
            except _SlowClient as slow:
                request.state.failure = Problem(ProblemType.UNAVAILABLE, str(slow))
                return
            except Exception as error:
                problem = problems.from_error(error)
                request.state.failure = error
                if self.media_type == CSV:
                    line = f"# error: {problem.detail} This file is not complete. (request {request_id})\n"
                    with contextlib.suppress(_SlowClient):
                        await self._send(line.encode(), send)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, chunk: bytes, send: Send, request: Request | None = None) -> None:
        """Send a chunk in pieces; with its request, while that may read them."""
        for start in range(0, len(chunk), _PIECE_BYTES):
            piece = chunk[start : start + _PIECE_BYTES]
            started = time.monotonic()
            if request is not None and started >= self._checked_at + _ACCESS_CHECK_SECONDS:
                self._access.check_again(request)
                self._checked_at = started
            sending = asyncio.ensure_future(send({"type": "http.response.body", "body": piece, "more_body": True}))
            try:
                while not sending.done():
                    await asyncio.wait({sending}, timeout=min(_SLOWNESS_CHECK_SECONDS, self._limits.stall_seconds))
                    self._check_pace(time.monotonic() - started, is_sent=sending.done())
                sending.result()
            finally:
                sending.cancel()
            self._waited_seconds += time.monotonic() - started
            if self._waited_seconds >= _FULL_BUFFER_SECONDS:
                self._read_bytes += len(piece)

    def _check_pace(self, seconds: float, *, is_sent: bool) -> None:
        """Raises `_SlowClient` if the client may not have this export any longer, after `seconds` with one piece."""
        stall_seconds = self._limits.stall_seconds
        if not is_sent and seconds >= stall_seconds:
            raise _SlowClient(f"The client read nothing of its export for {stall_seconds:g} s.")
        waited = self._waited_seconds + seconds
        slow = waited >= self._limits.wait_seconds / 2 and self._read_bytes < waited * self._limits.slow_bytes
        if slow and self._exports.is_contended(self._owner):
            pace = f"{self._read_bytes / waited:,.0f} bytes per second"
            raise _SlowClient(f"The client read {pace} of its export, and another export waited for its turn.")


def _without_length(response: Response) -> Response:
    """The response without `Content-Length`, which is not known before the end."""
    del response.headers["Content-Length"]
    return response
