"""The store behind the endpoints: authorization, limits of concurrency, worker threads, and cancellation.

A query waits a bounded time for a free slot, then runs in a thread. If the client disconnects, or the server stops and
the grace time is over, its statement is cancelled in the database and the connection returns to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeVar, cast
from weakref import WeakValueDictionary

import anyio
import anyio.lowlevel
from anyio import to_thread
from sqlalchemy import text
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive

from usage_explore.api import problems
from usage_explore.api.auth import Access
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.request_metrics import RequestMetrics
from usage_explore.db import catalog, ddl, demo_fill, engine, timeouts
from usage_explore.db.timeouts import HeldConnections, cancellable
from usage_explore.errors import Fault, QueryError, ScopeError, TableMismatch
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
    connections, so that readiness can still be checked. All `queries` and all `exports` but one may be one
    organization's. `pictures` drawn at the same time, which holds no connection. `wait_seconds` for a free slot:
    at most `waiting` requests of an organization for each kind, so that they leave connections to others.

    An export ends if its client reads nothing for `stall_seconds`. While others wait for its slot, it ends if it has
    waited for its client for half of `wait_seconds` in all, and that client reads fewer than `slow_bytes` per second.
    """

    queries: int = 5
    exports: int = 3
    validations: int = 1
    pictures: int = 1
    wait_seconds: float = 10
    waiting: int = 48
    stall_seconds: float = 60
    slow_bytes: int = 65_536


class ConcurrencyLimit:
    """At most `size` holders of a slot at a time; others wait at most `wait_seconds`.

    An owner, such as an organization, holds at most `size_per_owner` slots, and waits for them with at most
    `max_waiting` requests.
    """

    def __init__(
        self, size: int, wait_seconds: float, size_per_owner: int | None = None, max_waiting: int | None = None
    ) -> None:
        self._size = size
        self._free = asyncio.Semaphore(size)
        self._free_of_owner = WeakValueDictionary[Hashable, asyncio.Semaphore]()
        self._size_per_owner = size if size_per_owner is None else size_per_owner
        self._wait_seconds = wait_seconds
        self._max_waiting = max_waiting
        self._waiting_for_any, self._waiting_for_own = 0, Counter[Hashable]()
        self._running = 0

    @property
    def load(self) -> tuple[int, int, int]:
        """The numbers of holders of a slot, of those who wait for one, and of slots."""
        return self._running, self._waiting_for_any + self._waiting_for_own.total(), self._size

    def is_contended(self, owner: Hashable) -> bool:
        """Whether a caller waits that could have a slot of this owner."""
        return self._waiting_for_any + self._waiting_for_own[owner] > 0

    @contextlib.asynccontextmanager
    async def slot(self, owner: Hashable = None) -> AsyncIterator[None]:
        """Hold a slot. Raises `Problem` (503) if none becomes free in time, or too many of the owner's wait already."""
        if self._max_waiting is not None and self._waiting_for_own[owner] >= self._max_waiting:
            raise problems.busy()
        free_of_owner = self._free_of_owner.setdefault(owner, asyncio.Semaphore(self._size_per_owner))
        async with contextlib.AsyncExitStack() as held:
            try:
                async with asyncio.timeout(self._wait_seconds):
                    self._waiting_for_own[owner] += 1
                    try:
                        await held.enter_async_context(free_of_owner)
                    finally:
                        self._waiting_for_own[owner] -= 1
                    self._waiting_for_any += 1
                    try:
                        await held.enter_async_context(self._free)
                    finally:
                        self._waiting_for_any -= 1
            except TimeoutError:
                raise problems.busy() from None
            self._running += 1
            held.callback(self._end)
            yield

    def _end(self) -> None:
        self._running -= 1


class Service:
    """One store served over HTTP; a store factory is called on the first query."""

    def __init__(self, store: Store | Callable[[], Store], access: Access, limits: Limits) -> None:
        self._source = store
        self._store: Store | None = None
        self._opening = threading.Lock()
        self.access = access
        self.limits = limits
        self.requests = RequestMetrics()
        wait, waiting = limits.wait_seconds, limits.waiting
        self.queries = ConcurrencyLimit(limits.queries, wait, max(limits.queries - 1, 1), waiting)
        self.pictures = ConcurrencyLimit(limits.pictures, wait, max_waiting=waiting)
        self.exports = ConcurrencyLimit(limits.exports, wait, max(limits.exports - 1, 1), waiting)

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
        async with self.queries.slot(request.state.organization_id or query.organization_id):
            try:
                return await run_in_thread(request, lambda: _answered(self.store_for(request), work))
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


def _answered(store: Store, work: Callable[[Store], _T]) -> _T:
    try:
        return work(store)
    except TableMismatch:
        check_being_made(store)
        raise


def check_being_made(store: Store) -> None:
    """Raises `Problem` (503) if there is no table yet because demo data is being made."""
    with engine.transaction(store.engine) as connection:
        driver = cast("ddl.Connection", connection.connection.driver_connection)
        if catalog.relation(driver, store.table.fullname) is not None:
            return
        run = demo_fill.progress(connection.execute(text(demo_fill.SESSIONS)).scalars())
    if run is not None:
        days = f" ({run.done:,} of {run.total:,} days)" if run.total else ""
        detail = f"The tables are being made, with demo data{days}; wait, then try again."
        raise Problem(ProblemType.UNAVAILABLE, detail)


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
