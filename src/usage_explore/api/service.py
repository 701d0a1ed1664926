"""The store behind the endpoints: authorization, limits of concurrency, worker threads, and cancellation.

A query waits a bounded time for a free slot, then runs in a thread. If the client disconnects, or the server stops and
the grace time is over, its statement is cancelled in the database and the connection returns to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from usage_explore.api import problems
from usage_explore.api.auth import Access
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.request_metrics import RequestMetrics
from usage_explore.db import timeouts
from usage_explore.db.timeouts import HeldConnections, cancellable
from usage_explore.errors import Fault, QueryError, ScopeError
from usage_explore.query import url_params
from usage_explore.query.base import Query
from usage_explore.query.limits import MAX_QUERY_STRING_BYTES
from usage_explore.remote import wire
from usage_explore.store import Store

_T = TypeVar("_T")

_CANCEL_INTERVAL_SECONDS = 0.1
"""Time between attempts to cancel: a statement may be just about to begin."""

_MAX_THREADS = 64


def pairs(request: Request) -> url_params.Pairs:
    """The request's parameters as (name, value) pairs.

    Raises `QueryError` for a malformed query string, `Problem` (414) for one that is too long.
    """
    raw = request.scope["query_string"]
    if len(raw) > MAX_QUERY_STRING_BYTES:
        detail = f"The query string has {len(raw):,} bytes, more than {MAX_QUERY_STRING_BYTES:,}; shorten it."
        raise Problem(ProblemType.TOO_LONG, detail)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        raise QueryError([Fault("query string", "is not valid percent-encoded UTF-8; encode it again")]) from None
    if "#" in text:  # parameters after it would be dropped as a fragment, which widens the answer
        raise QueryError([Fault("query string", "contains a raw #; in a URL write %23 for it")])
    return url_params.pairs("?" + text)  # with "?", no part of it is parsed as scheme or path


class ClientGone(Exception):
    """The client disconnected."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of concurrency, and of waiting.

    `queries` answered, `exports` streamed and `validations` run at the same time: together fewer than the pool's 10
    connections, so that readiness can still be checked. `pictures` drawn at the same time, which holds no connection.
    `wait_seconds` for a free slot; `stall_seconds` for a client that reads nothing of its export.
    """

    queries: int = 6
    exports: int = 2
    validations: int = 1
    pictures: int = 1
    wait_seconds: float = 10
    stall_seconds: float = 60


class ConcurrencyLimit:
    """At most `size` holders of a slot at a time; others wait at most `wait_seconds`."""

    def __init__(self, size: int, wait_seconds: float) -> None:
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._wait_seconds = wait_seconds
        self._running = self._waiting = 0

    @property
    def load(self) -> tuple[int, int, int]:
        """The numbers of holders of a slot, of those who wait for one, and of slots."""
        return self._running, self._waiting, self._size

    @contextlib.asynccontextmanager
    async def slot(self) -> AsyncIterator[None]:
        """Hold a slot. Raises `Problem` (503) if none becomes free in time."""
        self._waiting += 1
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._free.acquire()
        except TimeoutError:
            raise problems.busy() from None
        finally:
            self._waiting -= 1
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            self._free.release()


class Service:
    """One store served over HTTP; a store factory is called on the first query."""

    def __init__(self, store: Store | Callable[[], Store], access: Access, limits: Limits) -> None:
        self._source = store
        self._store: Store | None = None
        self._opening = threading.Lock()
        self.access = access
        self.limits = limits
        self.requests = RequestMetrics()
        self.queries = ConcurrencyLimit(limits.queries, limits.wait_seconds)
        self.pictures = ConcurrencyLimit(limits.pictures, limits.wait_seconds)
        self.exports = ConcurrencyLimit(limits.exports, limits.wait_seconds)

    def store(self) -> Store:
        """The store, opened on first use."""
        with self._opening:
            if self._store is None:
                store = self._source if isinstance(self._source, Store) else self._source()
                # answers carry hints; warnings of them are for the caller in Python, and would go to the log here
                self._store = dataclasses.replace(store, warns=False, escaped_commas=True)
                timeouts.watch(self._store.engine)
            return self._store

    def authorized(
        self, endpoint: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint behind authorization, which comes before the query is parsed."""

        async def wrapped(request: Request) -> Response:
            request.state.organization_id = self.access(request)
            return await endpoint(request)

        return wrapped

    def store_for(self, request: Request) -> Store:
        """The store, restricted to what an authorized request may read. Raises `Problem` (403) if that is nothing."""
        store, own = self.store(), request.state.organization_id
        if wire.MEDIA_TYPE in request.headers.get("Accept", ""):
            store = dataclasses.replace(store, escaped_commas=False)  # Python's queries, which are no links
        if own is None:
            return store
        if store.organization_id not in (None, own):
            raise Problem(ProblemType.FORBIDDEN, "The key is for an organization that this server does not show.")
        return dataclasses.replace(store.restricted([own]), organization_id=own)

    async def run(self, request: Request, query: Query, work: Callable[[Store], _T]) -> _T:
        """The result of `work` on the request's store, within the limit of queries.

        Raises `Problem`, `ClientGone` and the store's errors.
        """
        request.state.query = query
        async with self.queries.slot():
            try:
                return await run_in_thread(request, lambda: work(self.store_for(request)))
            except ScopeError:
                raise self.scope_problem(request, query) from None

    def scope_problem(self, request: Request, query: Query) -> Problem:
        """The problem for a query without an organization that may be read; says nothing about other organizations."""
        if query.organization_id or request.state.organization_id or self.store().organization_id:
            detail = "organization_id: this is not an organization you may see; choose another one."
            return Problem(ProblemType.FORBIDDEN, detail)
        fault = Fault("organization_id", "is missing, and there is not exactly one; write organization_id=<UUID>")
        return Problem(ProblemType.QUERY, "Name the organization.", [fault])

    def close(self) -> None:
        """Close the store if this service opened it."""
        with self._opening:
            if self._store is not None and not isinstance(self._source, Store):
                self._store.close()
                self._store = None


async def run_in_thread(request: Request, work: Callable[[], _T], timeout_seconds: float | None = None) -> _T:
    """The result of `work`, run in a thread; its statement is cancelled in the database if the client disconnects.

    Raises `ClientGone`; `Problem` (503) at once if it takes longer than `timeout_seconds` or the server stops.
    """
    with cancellable() as held:
        running = asyncio.ensure_future(to_thread.run_sync(work, limiter=thread_limiter()))
    disconnected = asyncio.ensure_future(wait_for_disconnect(request.receive))
    stopped = asyncio.ensure_future(stopping().wait())
    try:
        watched = {running, disconnected, stopped}
        await asyncio.wait(watched, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        if disconnected.done():
            raise ClientGone
        raise problems.stopped() if stopped.done() else problems.busy()
    finally:
        disconnected.cancel()
        stopped.cancel()
        if timeout_seconds is None:
            await cancel_until_done(running, held)
        else:
            cancelling = asyncio.ensure_future(cancel_until_done(running, held))
            _cancelling.add(cancelling)
            cancelling.add_done_callback(_cancelling.discard)


_cancelling: set[asyncio.Future[None]] = set()
"""References that keep cancellations in the background from being garbage-collected."""


async def cancel_until_done(running: asyncio.Future[Any], held: HeldConnections) -> None:
    """Cancel the statements on the held connections until the thread ends; its result or error is dropped."""
    while not running.done():
        await to_thread.run_sync(held.cancel, limiter=thread_limiter())
        await asyncio.wait({running}, timeout=_CANCEL_INTERVAL_SECONDS)
    if not running.cancelled():
        running.exception()


async def wait_for_disconnect(receive: Receive) -> None:
    """Return when the client has disconnected."""
    while (await receive())["type"] != "http.disconnect":
        pass


_stopping: anyio.lowlevel.RunVar[asyncio.Event] = anyio.lowlevel.RunVar("usage_explore_api_stopping")


def stopping() -> asyncio.Event:
    """Set when the server of this event loop stops and the grace time of running requests is over."""
    try:
        return _stopping.get()
    except LookupError:
        event = asyncio.Event()
        _stopping.set(event)
        return event


_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("usage_explore_api_threads")


def thread_limiter() -> anyio.CapacityLimiter:
    """The API's own threads, so that uploads and static files never wait for the database."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(_MAX_THREADS)
        _limiter.set(limiter)
        return limiter
