"""The store works in threads, a bounded number of them; who goes away takes the statement along.

A question waits a bounded time for its turn. While it runs, the request is watched: when the client hangs up, or the
server stops and the grace is over, the statement is cancelled in the database and the connection returns to the pool.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
from anyio import to_thread
from starlette.requests import Request
from starlette.types import Receive

from usage_explore.api import problems
from usage_explore.db.cancellation import Work, working

_T = TypeVar("_T")

_AGAIN = 0.1
"""Seconds between attempts to cancel: a statement may just be about to begin."""


class ClientGone(Exception):
    """Nobody is there any more to take the answer."""


_endings: set[asyncio.Future[None]] = set()
"""Work that nobody waits for any more, until it has ended."""


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

    Raises `ClientGone`, and `Problem` (503) at once when it takes longer than `within` seconds or the server stops.
    """
    with working() as held:
        running = asyncio.ensure_future(to_thread.run_sync(work, limiter=threads()))
    gone = asyncio.ensure_future(hung_up(request.receive))
    over = asyncio.ensure_future(stopping().wait())
    try:
        await asyncio.wait({running, gone, over}, timeout=within, return_when=asyncio.FIRST_COMPLETED)
        if running.done():
            return running.result()
        if gone.done():
            raise ClientGone
        raise problems.stopped() if over.done() else problems.busy()
    finally:
        gone.cancel()
        over.cancel()
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


_stopping: anyio.lowlevel.RunVar[asyncio.Event] = anyio.lowlevel.RunVar("usage_explore_api_stopping")


def stopping() -> asyncio.Event:
    """Set when this event loop's server stops and what still runs has had its grace."""
    try:
        return _stopping.get()
    except LookupError:
        event = asyncio.Event()
        _stopping.set(event)
        return event


_limiter: anyio.lowlevel.RunVar[anyio.CapacityLimiter] = anyio.lowlevel.RunVar("usage_explore_api_threads")


def threads() -> anyio.CapacityLimiter:
    """Threads of our own, so that nobody's files or uploads wait for the database; turns bound their number."""
    try:
        return _limiter.get()
    except LookupError:
        limiter = anyio.CapacityLimiter(64)
        _limiter.set(limiter)
        return limiter
