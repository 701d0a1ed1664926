"""What every endpoint shares: the store, the asker's scope, a turn, a thread, and the words when it is refused."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from usage_explore.api import threads
from usage_explore.api.auth import Access
from usage_explore.api.problems import Kind, Problem
from usage_explore.api.threads import Limits, Turns
from usage_explore.db import cancellation
from usage_explore.errors import Fault, ScopeError
from usage_explore.query.base import Question
from usage_explore.store import Store

_T = TypeVar("_T")


class Door:
    """One store behind HTTP. The store may be made on the first question, so that a late database only delays."""

    def __init__(self, store: Store | Callable[[], Store], scope: Access, limits: Limits) -> None:
        self._make = store
        self._store: Store | None = None
        self._making = threading.Lock()
        self.scope = scope
        self.limits = limits
        self._questions = Turns(limits.questions, limits.patience)
        self.pictures = Turns(limits.pictures, limits.patience)
        self.exports = Turns(limits.exports, limits.patience)

    def store(self) -> Store:
        """The store, made when it is first needed."""
        with self._making:
            if self._store is None:
                made = self._make if isinstance(self._make, Store) else self._make()
                # a log is no place for hints
                self._store = dataclasses.replace(made, hints=False, escaped_commas=True)
                cancellation.watch(self._store.engine)
            return self._store

    def admitting(self, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint for those who may ask; the others learn nothing, not even what is wrong with their question."""

        async def admitted(request: Request) -> Response:
            request.state.organization_id = self.scope(request)
            return await endpoint(request)

        return admitted

    def seen_by(self, request: Request) -> Store:
        """The store as the asker, who was admitted, may see it. Raises `Problem` (403) where that is nothing."""
        store, own = self.store(), request.state.organization_id
        if own is None:
            return store
        if store.organization_id not in (None, own):
            raise Problem(Kind.FORBIDDEN, "The key is for an organization that this server does not show.")
        return dataclasses.replace(store.restricted([own]), organization_id=own)

    async def ask(self, request: Request, question: Question, find: Callable[[Store], _T]) -> _T:
        """What `find` finds for the asker, in its turn. Raises `Problem`, `ClientGone` and the store's errors."""
        request.state.question = question
        async with self._questions.one():
            try:
                return await threads.answer(request, lambda: find(self.seen_by(request)))
            except ScopeError:
                raise self.refused(request, question) from None

    def refused(self, request: Request, question: Question) -> Problem:
        """Why there is no organization to answer for, in words that tell nothing about the others."""
        if question.organization_id or request.state.organization_id or self.store().organization_id:
            words = "organization_id: this is not an organization you may see; choose another one."
            return Problem(Kind.FORBIDDEN, words)
        words = "is missing, and there is not exactly one to take; write organization_id=<UUID>"
        return Problem(Kind.QUERY, "Say whose events you ask about.", [Fault("organization_id", words)])

    def close(self) -> None:
        """Close the store, if this door made it."""
        with self._making:
            if self._store is not None and not isinstance(self._make, Store):
                self._store.close()
                self._store = None
