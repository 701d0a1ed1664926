"""Examinations: run with progress, ended when their asker leaves, and remembered.

A run works in a thread of its own while the page's thread shows how far it is. Where the page's thread is stopped (the
asker left, or changed something), what runs in the database is cancelled.

What was found is kept twice: the session keeps its last examination for as long as it lives, all sessions share those
of the last hour. Each is kept under its period, organization included; what the asker may see is decided before each
look.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar
from uuid import UUID

import streamlit as st

from usage_explore.app import cache
from usage_explore.app.cache import Source
from usage_explore.db import cancellation
from usage_explore.errors import QueryError
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.validation import Validation

_T = TypeVar("_T")

Note = Callable[[str, float], None]
"""Takes a check's name and how much of it is done, from 0 to 1."""

Show = Callable[[dict[str, float], float], None]
"""Takes how much of each check that began is done, and the seconds since the run began."""

_HELD = "validation"
_HOUR, _MOST = 3_600, 20
_TICK = 0.25  # seconds between two looks at how far a run is


@dataclass(frozen=True)
class File:
    """A file that somebody dropped."""

    name: str
    content: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """What tells it from every other file."""
        return hashlib.sha256(self.name.encode() + b"\0" + self.content).hexdigest()


class _NotKept(Exception):
    """There is nothing to be had without a run."""


class _Left(Exception):
    """The asker of a run left."""


def known(source: Source, asked: Period) -> Validation | None:
    """The examination of the period that this session, or within the last hour another one, has run."""
    key = asked.resolve(source.now)
    held: tuple[Period, Validation] | None = st.session_state.get(_HELD)
    # a window that ends now moves on every minute: what was examined stays until it is examined again
    if held and held[0] == asked and (not asked.window or held[1].period.span == key.span):
        return held[1]
    with contextlib.suppress(_NotKept):
        return _kept(_nothing, source.store.organization_id, key)
    return None


def run(source: Source, asked: Period, show: Show) -> None:
    """Run every check over the period; then it is known, and so is the pinned one that a shared link asks for.

    Raises `UsageExploreError`.
    """
    key = asked.resolve(source.now)
    made = _run(source, asked, show, lambda note: source.store.validate(asked, progress=note))
    for each in (key, made.period):
        _kept.clear(lambda: made, source.store.organization_id, each)
        _kept(lambda: made, source.store.organization_id, each)
    st.session_state[_HELD] = asked, made


def with_file(source: Source, validation: Validation, check: str, argument: str, given: File, show: Show) -> Validation:
    """The examination with one check run again on a file, passed as that argument of `Store.validate`.

    The same period as it was known at the same time, so all its numbers belong together. Raises `UsageExploreError`;
    a `QueryError` names each faulty line.
    """
    key = validation.period, check, given.digest
    organization_id = source.store.organization_id

    def work_on_file(note: Note) -> Validation:
        with tempfile.TemporaryDirectory(prefix="usage-explore-") as folder:
            path = Path(folder) / f"given{Path(given.name).suffix.lower()}"
            path.write_bytes(given.content)
            more = {argument: path}
            try:
                return source.store.validate(validation.period, checks=[check], progress=note, **more)
            except QueryError as error:  # the path is the server's own: the log and the page name what was dropped
                named = validators.named(given.name)
                raise QueryError(
                    replace(fault, message=fault.message.replace(str(path), named)) for fault in error.faults
                ) from None

    try:
        again = _kept_with_file(_nothing, organization_id, *key)
    except _NotKept:
        made = _run(source, validation.period, show, work_on_file)
        again = _kept_with_file(lambda: made, organization_id, *key)
    (renewed,) = again.results
    results = tuple(renewed if result.check.name == check else result for result in validation.results)
    return replace(validation, results=results)


def _run(source: Source, asked: Period, show: Show, task: Callable[[Note], _T]) -> _T:
    with cache.asking("validate", source.store.organization_id, asked):
        return watched(task, show)


def watched(task: Callable[[Note], _T], show: Show) -> _T:
    """What the task makes, in a thread of its own; whatever `show` raises ends it."""
    mine, left = cancellation.Work(), threading.Event()
    progress: dict[str, float] = {}
    began = time.monotonic()

    def note(name: str, done: float) -> None:
        if left.is_set():
            raise _Left
        progress[name] = done

    def working() -> _T:
        with cancellation.working(mine):
            return task(note)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="validate") as pool:
        future = pool.submit(working)
        try:
            while not wait((future,), timeout=_TICK).done:
                show(dict(progress), time.monotonic() - began)
        finally:
            left.set()
            while not wait((future,), timeout=_TICK).done:
                mine.cancel()
        return future.result()


def _nothing() -> Validation:
    raise _NotKept


@st.cache_resource(ttl=_HOUR, max_entries=_MOST, show_spinner=False, hash_funcs={Period: repr})
def _kept(_make: Callable[[], Validation], organization_id: UUID | None, period: Period) -> Validation:
    return _make()


@st.cache_resource(ttl=_HOUR, max_entries=_MOST, show_spinner=False, hash_funcs={Period: repr})
def _kept_with_file(
    _make: Callable[[], Validation], organization_id: UUID | None, period: Period, check: str, digest: str
) -> Validation:
    return _make()
