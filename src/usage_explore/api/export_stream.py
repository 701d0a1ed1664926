"""Any number of events as CSV, streamed: whole, or visibly not.

One connection is held from the first page to the last. A stream that breaks ends with a line `# error: …` and without
the end of its transfer, so that no HTTP client takes it for whole. When the client goes away, or takes nothing for
too long, the statement is cancelled and the connection returned at once.
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

from usage_explore.api import problems, threads
from usage_explore.api.negotiation import CSV, chosen
from usage_explore.api.problems import Kind, Problem
from usage_explore.api.request_query import Csv, asked_with, pairs
from usage_explore.api.service import Door
from usage_explore.db.cancellation import Work, working
from usage_explore.errors import ScopeError
from usage_explore.query.queries import EventQuery

_T = TypeVar("_T")

_PIECE = 65_536
_HEADERS = {
    "Cache-Control": "no-store",
    "Vary": "Accept, Authorization",
    "Content-Disposition": 'attachment; filename="usage-events.csv"',
}


class Exporting:
    """The export endpoint of one door."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def events(self, request: Request) -> Response:
        """Every event of the question, from the cursor on where there is one.

        What goes wrong before the first page is a problem as everywhere.
        """
        chosen(",".join(request.headers.getlist("accept")), (CSV,))
        question, text = asked_with(EventQuery, Csv, pairs(request), without=("limit",))
        if request.scope["http_version"] == "1.0":
            raise Problem(Kind.HTTP_VERSION, "Ask with HTTP/1.1; HTTP/1.0 takes a broken export for a whole one.")
        request.state.question = question
        if request.method == "HEAD":  # one event shows whether GET would begin: organization, key, cursor and table
            one = question.replace(limit=1)
            await self.door.ask(request, question, lambda store: store.events_csv(one))
            return _without_length(Response(headers=_HEADERS, media_type=CSV))
        async with contextlib.AsyncExitStack() as holding:
            await holding.enter_async_context(self.door.exports.one())
            try:
                store = await threads.answer(request, lambda: self.door.seen_by(request))
                pages = Pages(store.export_csv(question, escape_formulas=text.escapes))
                holding.push_async_callback(pages.close)
                gone = asyncio.ensure_future(threads.hung_up(request.receive))
                holding.callback(gone.cancel)
                first = await pages.next(gone)
            except ScopeError:
                raise self.door.refused(request, question) from None
            return Streamed(first, pages, gone, holding.pop_all(), self.door.limits.stall)
        raise AssertionError  # nothing in the stack suppresses an exception


class Pages:
    """The chunks of an export, made in threads."""

    def __init__(self, chunks: Generator[bytes]) -> None:
        self._chunks = chunks
        self._work = Work()

    async def next(self, gone: asyncio.Future[None]) -> bytes | None:
        """The next chunk, None after the last. Raises `ClientGone`, a `Problem` at the end, the store's errors."""
        making = self._started(lambda: next(self._chunks, None))
        over = asyncio.ensure_future(threads.stopping().wait())
        watched: set[asyncio.Future[Any]] = {making, gone, over}
        try:
            await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                raise threads.ClientGone
            if over.done():
                raise problems.stopped()
            return making.result()
        finally:
            over.cancel()
            await threads.ended(making, self._work)

    async def close(self) -> None:
        """Give the connection back."""
        await self._started(self._chunks.close)

    def _started(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        with working(self._work):
            return asyncio.ensure_future(to_thread.run_sync(work, limiter=threads.threads()))


class Streamed(Response):
    """The chunks as they come, in pieces that the client takes at its own speed."""

    def __init__(
        self,
        first: bytes | None,
        pages: Pages,
        gone: asyncio.Future[None],
        holding: contextlib.AsyncExitStack,
        stall: float,
    ) -> None:
        super().__init__(headers=_HEADERS, media_type=CSV)
        _without_length(self)
        self._first, self._pages, self._gone, self._holding, self._stall = first, pages, gone, holding, stall

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send everything, or break off without the end."""
        request = Request(scope)
        request_id = problems.request_id(request)
        async with self._holding:
            try:
                await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
                chunk = self._first
                while chunk is not None:
                    await self._send(chunk, send)
                    chunk = await self._pages.next(self._gone)
            except threads.ClientGone:
                return
            except TimeoutError:
                request.state.failure = Problem(
                    Kind.UNAVAILABLE, f"The client took nothing of its export for {self._stall:g} s."
                )
                return
            except Exception as error:
                problem = problems.of(error)
                request.state.failure = error
                words = f"# error: {problem.detail} This file is not whole. (request {request_id})\n"
                await self._send(words.encode(), send)
                return
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send(self, chunk: bytes, send: Send) -> None:
        for start in range(0, len(chunk), _PIECE):
            piece = {"type": "http.response.body", "body": chunk[start : start + _PIECE], "more_body": True}
            await asyncio.wait_for(send(piece), self._stall)


def _without_length(response: Response) -> Response:
    """The response of an export, whose length is known at its end only."""
    del response.headers["Content-Length"]
    return response
