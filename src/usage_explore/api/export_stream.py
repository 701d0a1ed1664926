"""Any number of events as streamed CSV: complete, or recognizably broken off.

One connection is held from the first page to the last. A stream that fails ends with a line `# error: …` and without
the last chunk of its transfer encoding, so that no HTTP client takes it for complete. If the client disconnects, or
reads nothing for `Limits.stall_seconds`, the statement is cancelled and the connection returns to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from usage_explore.api import problems, service
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.request_query import Csv, pairs, parse
from usage_explore.api.responses import CSV, negotiated
from usage_explore.api.service import ClientGone, Service
from usage_explore.db.timeouts import HeldConnections, cancellable
from usage_explore.errors import ScopeError
from usage_explore.query.queries import EventQuery

_T = TypeVar("_T")

_PIECE_BYTES = 65_536
"""Bytes that are sent at a time; the client must take them within `Limits.stall_seconds`."""

_HEADERS = {
    "Cache-Control": "no-store",
    "Vary": "Accept, Authorization",
    "Content-Disposition": 'attachment; filename="usage-events.csv"',
}


class ExportEndpoint:
    """The export endpoint of one service."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def events(self, request: Request) -> Response:
        """Every event of the query, from its cursor on if it has one.

        Errors before the first page are problems as in every operation.
        """
        negotiated(request, CSV)
        query, options = parse(EventQuery, Csv, pairs(request), without=("limit",))
        if request.scope["http_version"] == "1.0":
            detail = "Use HTTP/1.1; an HTTP/1.0 client cannot tell a broken export from a complete one."
            raise Problem(ProblemType.HTTP_VERSION, detail)
        request.state.query = query
        if request.method == "HEAD":  # one event is enough to check organization, key, cursor and table
            first_event = query.replace(limit=1)
            await self.service.run(request, query, lambda store: store.events_csv(first_event))
            return _without_length(Response(headers=_HEADERS, media_type=CSV))
        async with contextlib.AsyncExitStack() as resources:
            await resources.enter_async_context(self.service.exports.slot())
            try:
                store = await service.run_in_thread(request, lambda: self.service.store_for(request))
                chunks = _ChunkReader(store.export_csv(query, escape_formulas=options.escapes))
                resources.push_async_callback(chunks.close)
                disconnected = asyncio.ensure_future(service.wait_for_disconnect(request.receive))
                resources.callback(disconnected.cancel)
                first = await chunks.next(disconnected)
            except ScopeError:
                raise self.service.scope_problem(request, query) from None
            stall_seconds = self.service.limits.stall_seconds
            return _ExportResponse(first, chunks, disconnected, resources.pop_all(), stall_seconds)
        raise AssertionError  # no resource suppresses an exception


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


class _ExportResponse(Response):
    """The chunks of an export, sent at the client's speed."""

    def __init__(
        self,
        first: bytes | None,
        chunks: _ChunkReader,
        disconnected: asyncio.Future[None],
        resources: contextlib.AsyncExitStack,
        stall_seconds: float,
    ) -> None:
        super().__init__(headers=_HEADERS, media_type=CSV)
        _without_length(self)
        self._first, self._chunks, self._disconnected = first, chunks, disconnected
        self._resources, self._stall_seconds = resources, stall_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send all chunks; on an error end without the last chunk of the transfer encoding."""
        request = Request(scope)
        request_id = problems.request_id(request)
        async with self._resources:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                chunk = self._first
                while chunk is not None:
                    await self._send(chunk, send)
                    chunk = await self._chunks.next(self._disconnected)
            except ClientGone:
                return
            except TimeoutError:
                detail = f"The client read nothing of its export for {self._stall_seconds:g} s."
                request.state.failure = Problem(ProblemType.UNAVAILABLE, detail)
                return
            except Exception as error:
                problem = problems.from_error(error)
                request.state.failure = error
                line = f"# error: {problem.detail} This file is not complete. (request {request_id})\n"
                await self._send(line.encode(), send)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, chunk: bytes, send: Send) -> None:
        for start in range(0, len(chunk), _PIECE_BYTES):
            piece = {"type": "http.response.body", "body": chunk[start : start + _PIECE_BYTES], "more_body": True}
            await asyncio.wait_for(send(piece), self._stall_seconds)


def _without_length(response: Response) -> Response:
    """The response without `Content-Length`, which is not known before the end."""
    del response.headers["Content-Length"]
    return response
