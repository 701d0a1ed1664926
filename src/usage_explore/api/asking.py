"""The store works in threads, a bounded number of them; who goes away takes the statement along.

A question waits a bounded time for its turn. While it runs, the request is watched: when the client hangs up, the
statement is cancelled in the database and the connection returns to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import psycopg
from anyio import to_thread
from sqlalchemy import Engine, event
from starlette.requests import Request
from starlette.types import Receive

from usage_explore.api import problems

_T = TypeVar("_T")

_AGAIN = 0.1
"""Seconds between attempts to cancel: a statement may just be about to begin."""


class ClientGone(Exception):
    """Nobody is there any more to take the answer."""


class Work:
    """The connections that one request's work holds at this moment."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: list[psycopg.Connection[Any]] = []

    def took(self, connection: psycopg.Connection[Any]) -> None:
        """A connection left the pool for this work."""
        with self._lock:
            self._held.append(connection)

    def gave(self, connection: psycopg.Connection[Any]) -> None:
        """A connection goes back to the pool."""
        with self._lock:
            if connection in self._held:
                self._held.remove(connection)

    def cancel(self) -> None:
        """Cancel what runs on the connections; none returns to the pool meanwhile, so nobody else is hit."""
        with self._lock:
            for connection in self._held:
                with contextlib.suppress(psycopg.Error):
                    connection.cancel_safe(timeout=1)


_endings: set[asyncio.Future[None]] = set()
"""Work that nobody waits for any more, until it has ended."""

_current: ContextVar[Work | None] = ContextVar("work", default=None)


def watch(engine: Engine) -> None:
    """Let the engine's pool tell the work of a request which connections it holds."""
    if not event.contains(engine, "checkout", _checkout):
        event.listen(engine, "checkout", _checkout)
        event.listen(engine, "checkin", _checkin)


@contextlib.contextmanager
def working(work: Work | None = None) -> Iterator[Work]:
    """Everything that is asked inside, in threads started from here too, belongs to one work."""
    work = work or Work()
    token = _current.set(work)
    try:
        yield work
    finally:
        _current.reset(token)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is done at once.

    `questions` answered at the same time and `exports` streamed beside them (together fewer than the pool's 10
    connections, so that readiness can still be asked), `pictures` drawn, which holds no connection, `patience`
    seconds waited for a turn, `stall` seconds waited for a client that takes nothing of its export.
    """

    questions: int = 6
    exports: int = 3
    pictures: int = 1
    patience: float = 10
    stall: float = 60


class Turns:
    """A bounded number of turns, waited for a bounded time."""

    def __init__(self, size: int, patience: float) -> None:
        self._free = asyncio.Semaphore(size)
        self._patience = patience

    @contextlib.asynccontextmanager
    async def one(self) -> AsyncIterator[None]:
        """Hold a turn. Raises `Problem` (503) when none became free in time."""
        try:
            async with asyncio.timeout(self._patience):
                await self._free.acquire()
        except TimeoutError:
            raise problems.busy() from None
        try:
            yield
        finally:
            self._free.release()


async def answer(request: Request, work: Callable[[], _T], within: float | None = None) -> _T:
    """What `work` returns, done in a thread; cancelled in the database when the client goes away.

    Raises `ClientGone`, and `Problem` (503) at once when it takes longer than `within` seconds.
    """
    with working() as held:
        running = asyncio.ensure_future(to_thread.run_sync(work, limiter=threads()))
    gone = asyncio.ensure_future(hung_up(request.receive))
    try:
        await asyncio.wait({running, gone}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        if gone.done():
            raise ClientGone
        raise problems.busy()
    finally:
        gone.cancel()
        if within is None:
            await ended(running, held)
        else:
            ending = asyncio.ensure_future(ended(running, held))
            _endings.add(ending)
            ending.add_done_callback(_endings.discard)


async def ended(running: asyncio.Future[Any], held: Work) -> None:
    """Cancel until the work has ended, whatever comes of it."""
    while not running.done():
        await to_thread.run_sync(held.cancel, limiter=threads())
        await asyncio.wait({running}, timeout=_AGAIN)
    if not running.cancelled():
        running.exception()


async def hung_up(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass


_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("usage_explore_api_threads")


def threads() -> anyio.CapacityLimiter:
    """Threads of our own, so that nobody's files or uploads wait for the database; turns bound their number."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(64)
        _limiter.set(limiter)
        return limiter


def _checkout(connection: psycopg.Connection[Any], *_: object) -> None:
    if (work := _current.get()) is not None:
        work.took(connection)


def _checkin(connection: psycopg.Connection[Any] | None, *_: object) -> None:
    if connection is not None and (work := _current.get()) is not None:
        work.gave(connection)
