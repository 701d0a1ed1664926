"""Running the checks: with progress, cancelled when the user leaves, and cached.

The checks run in a thread, while the page's thread draws their progress. When Streamlit stops the page's thread (the
user left, or changed a control), the statements in the database are cancelled.

The session keeps its last validation. All sessions share the validations of the last hour; the cache key is the
organization and the period. What is added to a validation, such as a rating, has the moment of its run in its key, too:
events may be edited between two runs with the same `as_of`. Access is checked before every look into the cache.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import streamlit as st

from usage_explore import formatting
from usage_explore.app import cache, markdown
from usage_explore.app.cache import Source
from usage_explore.app.uploads import File, private_copy
from usage_explore.db import timeouts
from usage_explore.errors import QueryError
from usage_explore.names import Names
from usage_explore.pricing.book import PriceBook
from usage_explore.pricing.rating import Rating
from usage_explore.pricing.read import read_prices
from usage_explore.query import validators
from usage_explore.query.queries import Period
from usage_explore.validation import Validation
from usage_explore.validation.check import Check
from usage_explore.validation.file_kinds import READERS, FileKind, Recognized, read_names, recognized
from usage_explore.validation.folding import folded
from usage_explore.validation.registry import waits

_T = TypeVar("_T")

Note = Callable[[str, float], None]
"""Called with a check's name and its progress from 0 to 1."""

Show = Callable[[dict[str, float], float], None]
"""Called with the progress of each check that has started, and the seconds since the start of the run."""

RUN_WANTED = "run_wanted"
"""Session state: the Validate page is to run the checks, as a button to run them was clicked."""

_SESSION_KEY = "validation"  # session state: the last (requested period, validation)
_CACHE_SECONDS, _MAX_CACHED = 3_600, 20
_MAX_CACHED_NAMES = 2
"""Files of names that are kept: one of 15 MB takes 370 MB of memory."""
_REFRESH_SECONDS = 0.25  # between two updates of the progress


class _NotCached(Exception):
    """The cache has no validation of the period."""


class _Cancelled(Exception):
    """The page stopped waiting for the run."""


def known(source: Source, period: Period) -> Validation | None:
    """The validation of the period by this session, or by any session within the last hour; else None."""
    key = period.resolve(source.now)
    held: tuple[Period, Validation] | None = st.session_state.get(_SESSION_KEY)
    # a relative window moves on every minute: its validation stays until the checks run again
    if held and held[0] == period and (not period.window or held[1].period.span == key.span):
        return held[1]
    with contextlib.suppress(_NotCached):
        return _cached(_not_cached, source.store.organization_id, key)
    return None


def run(source: Source, period: Period, show: Show) -> None:
    """Run every check over the period and cache the validation, also for the pinned period of a shared link.

    Raises `UsageExploreError`.
    """
    key = period.resolve(source.now)
    made = _run(source, period, show, lambda note: source.store.validate(period, progress=note))
    for cached_period in (key, made.period):
        _cached.clear(lambda: made, source.store.organization_id, cached_period)
        _cached(lambda: made, source.store.organization_id, cached_period)
    st.session_state[_SESSION_KEY] = period, made


def with_files(
    source: Source, validation: Validation, check: str, files: Mapping[FileKind, File], show: Show
) -> Validation:
    """The validation with one check run again with files as arguments of `Store.validate`; names are beside those of
    the directory.

    The period and `as_of` are the same, so all numbers fit together. Raises `UsageExploreError`; a `QueryError` has
    a fault per invalid line.
    """
    digests = tuple((argument, file.digest) for argument, file in files.items())
    key = validation.period, validation.now, check, digests
    organization_id = source.store.organization_id

    def work_on_files(note: Note) -> Validation:
        store = source.store
        if "names" in files:
            store = replace(store, given_names=names(files["names"]))
        with contextlib.ExitStack() as copies:
            paths: dict[FileKind, Any] = {
                argument: price_book(file) if argument == "prices" else copies.enter_context(private_copy(file))
                for argument, file in files.items()
                if argument != "names"
            }
            with _named({path: files[argument] for argument, path in paths.items()}):
                return store.validate(validation.period, checks=[check], progress=note, **paths)

    try:
        again = _cached_with_files(_not_cached, organization_id, *key)
    except _NotCached:
        made = _run(source, validation.period, show, work_on_files)
        again = _cached_with_files(lambda: made, organization_id, *key)
    (renewed,) = again.results
    # as of a given time, no check waits for what has not settled; that of the page follows from the settle time
    renewed = waits(renewed.check, validation.unexamined, validation.totals.events) or renewed
    results = tuple(renewed if result.check.name == check else result for result in validation.results)
    rows = {**validation.rows, **again.rows}
    return replace(validation, results=folded(results), names=validation.names | again.names, rows=rows)


@contextlib.contextmanager
def _named(copies: Mapping[Any, File]) -> Iterator[None]:
    """Let errors name the uploaded files, not the paths of their copies: on the page, and in the log."""
    try:
        yield
    except QueryError as error:
        faults = list(error.faults)
        for path, file in copies.items():
            named = validators.named(file.name)
            faults = [replace(fault, message=fault.message.replace(str(path), named)) for fault in faults]
        raise QueryError(faults) from None


def faults_of(kind: FileKind, file: File) -> QueryError | None:
    """Why the file cannot be read as one of the kind, before any check reads it; None if it can."""

    def read() -> QueryError | None:
        try:
            if kind == "prices":
                price_book(file)
            else:
                with private_copy(file) as path, _named({path: file}):
                    READERS[kind](path)
        except QueryError as error:
            return error
        return None

    return _cached_faults(read, kind, file.digest)


def price_book(file: File) -> PriceBook:
    """The price book in a file, which keeps its name. Raises `QueryError` with a fault per invalid row."""

    def read() -> PriceBook:
        with private_copy(file) as path:
            return read_prices(path, name=file.name)

    return _cached_book(read, file.digest)


def names(file: File) -> Names:
    """The names in a file. Raises `QueryError` for what cannot be read."""

    def read() -> Names:
        with private_copy(file) as path:
            return read_names(path)

    return _cached_names(read, file.digest)


def unknown_texts(source: Source, argument: FileKind, file: File) -> str:
    """A warning of texts in a price book or preferred currencies that the directory of names lacks; "" for none.

    Raises `UsageExploreError`.
    """

    def read() -> str:
        with private_copy(file) as path:
            given: dict[str, Any] = {argument: price_book(file) if argument == "prices" else path}
            return source.store.unknown_texts(**given)

    return _cached_unknown(read, source.store.organization_id, argument, file.digest)


def recognized_file(file: File) -> Recognized:
    """What a file is, by its columns, and how many rows it has."""

    def read() -> Recognized:
        with private_copy(file) as path:
            return recognized(path, file.name)

    return _cached_kind(read, file.digest)


def rating(
    source: Source, validation: Validation, book: PriceBook, wallets: File | None, directory: File | None
) -> Rating:
    """The expected amounts of a validation's period, by a price book and the dropped preferred currencies, if any.

    With the dropped names, `directory`, beside those of the directory.
    Each run of the checks rates anew. Raises `UsageExploreError`.
    """
    period = validation.period
    key = period, validation.now, hash(book.prices), tuple(file.digest if file else "" for file in (wallets, directory))
    organization_id = source.store.organization_id

    def rate(note: Note) -> Rating:
        with contextlib.ExitStack() as copies:
            path = copies.enter_context(private_copy(wallets)) if wallets else None
            store = replace(source.store, given_names=names(directory)) if directory else source.store
            return store.rate(period, prices=book, wallets=path)

    place = st.empty()  # in every run: what follows would move, and fields that are drawn anew lose what is typed
    try:
        return _cached_rating(_no_rating, organization_id, *key)
    except _NotCached:
        bar = place.progress(0.0, "Rating the usage")
        with cache.logged_work("rate", organization_id, period):
            made = watched(rate, lambda _, seconds: _show_seconds(bar, seconds))
        bar.empty()
        return _cached_rating(lambda: made, organization_id, *key)


def _run(source: Source, period: Period, show: Show, task: Callable[[Note], _T]) -> _T:
    with cache.logged_work("validate", source.store.organization_id, period):
        return watched(task, show)


def watched(task: Callable[[Note], _T], show: Show) -> _T:
    """The result of the task, run in a thread; an exception of `show` cancels it."""
    connections, cancelled = timeouts.HeldConnections(), threading.Event()
    progress: dict[str, float] = {}
    began = time.monotonic()

    def note(name: str, done: float) -> None:
        if cancelled.is_set():
            raise _Cancelled
        progress[name] = done

    def working() -> _T:
        with timeouts.cancellable(connections):
            return task(note)

    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="validate") as pool:
        future = pool.submit(working)
        try:
            while not wait((future,), timeout=_REFRESH_SECONDS).done:
                show(dict(progress), time.monotonic() - began)
        finally:
            cancelled.set()
            while not wait((future,), timeout=_REFRESH_SECONDS).done:
                connections.cancel()
        return future.result()


def forget() -> None:
    """Forget the cached validations, after events were loaded."""
    _cached.clear()
    _cached_with_files.clear()
    _cached_rating.clear()
    _cached_unknown.clear()
    st.session_state.pop(_SESSION_KEY, None)


def _not_cached() -> Validation:
    raise _NotCached


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=_MAX_CACHED, show_spinner=False, hash_funcs={Period: repr})
def _cached(_make: Callable[[], Validation], organization_id: UUID | None, period: Period) -> Validation:
    return _make()


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=_MAX_CACHED, show_spinner=False, hash_funcs={Period: repr})
def _cached_with_files(
    _make: Callable[[], Validation],
    organization_id: UUID | None,
    period: Period,
    run_at: datetime,
    check: str,
    digests: tuple[tuple[str, str], ...],
) -> Validation:
    return _make()


def _show_seconds(bar: Any, seconds: float) -> None:
    bar.progress(0.5, f"Rating the usage · {seconds:.0f} s")


def _no_rating() -> Rating:
    raise _NotCached


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=_MAX_CACHED, show_spinner=False, hash_funcs={Period: repr})
def _cached_rating(
    _make: Callable[[], Rating],
    organization_id: UUID | None,
    period: Period,
    run_at: datetime,
    prices: int,
    digests: tuple[str, ...],
) -> Rating:
    return _make()


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=_MAX_CACHED, show_spinner=False)
def _cached_book(_make: Callable[[], PriceBook], digest: str) -> PriceBook:
    return _make()


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=_MAX_CACHED_NAMES, show_spinner=False)
def _cached_names(_make: Callable[[], Names], digest: str) -> Names:
    return _make()


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=_MAX_CACHED, show_spinner=False)
def _cached_unknown(_read: Callable[[], str], organization_id: UUID | None, argument: FileKind, digest: str) -> str:
    return _read()


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=5 * _MAX_CACHED, show_spinner=False)
def _cached_kind(_make: Callable[[], Recognized], digest: str) -> Recognized:
    return _make()


@st.cache_resource(ttl=_CACHE_SECONDS, max_entries=5 * _MAX_CACHED, show_spinner=False)
def _cached_faults(_read: Callable[[], QueryError | None], kind: FileKind, digest: str) -> QueryError | None:
    return _read()


class Progress:
    """A progress bar and a badge per check, drawn where the object is made; calling it updates them."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = checks
        self._bar = st.progress(0.0, "Adding up the period")
        self._states = st.empty()
        self._drawn: dict[str, float] | None = None

    def __call__(self, done: dict[str, float], seconds: float) -> None:
        """Draw the progress; `done` has the checks that have started."""
        finished = sum(done.get(check.name, 0.0) >= 1 for check in self._checks)
        running = next((check for check in self._checks if 0 <= done.get(check.name, -1.0) < 1), None)
        doing = "Adding up the period" if running is None else running.title
        self._bar.progress(
            min(sum(done.values()) / max(len(self._checks), 1), 1.0),
            markdown.plain(
                f"{doing} · {finished} of {formatting.counted(len(self._checks), 'check')} done · {seconds:.0f} s"
            ),
        )
        if done != self._drawn:
            self._drawn = done
            with self._states.container(horizontal=True, gap="small"):
                for check in self._checks:
                    _badge(check, done.get(check.name))

    def clear(self) -> None:
        """Remove it from the page."""
        self._bar.empty()
        self._states.empty()


def _badge(check: Check, done: float | None) -> None:
    title = markdown.plain(check.title)
    if done is None:
        st.badge(title, color="gray", icon=":material/schedule:")
    elif done < 1:
        st.badge(title + (f" {done:.0%}" if done else ""), color="blue", icon=":material/progress_activity:")
    else:
        st.badge(title, color="green", icon=":material/check:")
