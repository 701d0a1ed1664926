"""Validations and ratings as jobs: started by POST, followed by GET with the progress, ended by DELETE.

Jobs live in the server's memory. One runs at a time (`Limits.validations`), others wait; an organization has at most
`MAX_UNFINISHED_PER_ORGANIZATION` of a kind, and finished ones are kept for `KEPT_FOR`. A deleted job's statement is
cancelled in the database. An organization sees its own jobs alone: the id of another one is unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import re
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from anyio import to_thread
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from usage_explore.api import problems, service
from usage_explore.api.auth import refuse_other_sites
from usage_explore.api.problems import Problem, ProblemType
from usage_explore.api.responses import JSON, json_bytes, negotiated, response
from usage_explore.api.service import Service
from usage_explore.db.timeouts import cancellable, interruptible
from usage_explore.decimals import rfc3339
from usage_explore.errors import Fault, QueryError, ScopeError
from usage_explore.files.tables import read_until
from usage_explore.formatting import path_text
from usage_explore.query import validators
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES
from usage_explore.query.queries import Period
from usage_explore.remote import operations, wire
from usage_explore.remote.operations import RatingQuery, ValidationQuery
from usage_explore.store import Store
from usage_explore.validation.inputs import given_files, read_inputs
from usage_explore.validation.reconciliation.invoices import read_invoices

State = Literal["queued", "running", "done", "failed", "cancelled"]

MAX_UNFINISHED = 8
"""Jobs that run or wait, of all organizations."""

MAX_UNFINISHED_PER_ORGANIZATION = 2

MAX_KEPT = 16
"""Finished jobs, of all organizations: the oldest are dropped."""

MAX_KEPT_PER_ORGANIZATION = 4

KEPT_FOR = timedelta(hours=1)
"""Time for which a finished job can be read."""

_SUFFIX = re.compile(r"(?:\.[a-z0-9]{1,8}){1,2}$")


@dataclass(frozen=True, slots=True)
class JobKind:
    """An operation that runs as a job: its `path`, the name of one job, its query, and the files that it takes.

    `check` reads the files, to say at once what is wrong with them, `run` answers; both raise as the store does.
    """

    path: str
    noun: str
    query: type[Period]
    files: tuple[str, ...]
    check: Callable[[Any, Mapping[str, Path]], object]
    run: Callable[[Store, Any, Mapping[str, Path], Callable[[str, float], object]], Any]

    @property
    def plural(self) -> str:
        """Several jobs, also in JSON: `validations`."""
        return f"{self.noun}s"


def _check_validation(query: ValidationQuery, files: Mapping[str, Path]) -> None:
    from usage_explore.validation import registry
    from usage_explore.validation.bounds import read_bounds

    registry.chosen(query.checks or None)
    if query.tolerance is not None and "invoices" not in files:
        raise QueryError([Fault("tolerance", "is for invoice lines; send them as the file invoices")])
    read_inputs(**{name: source for name, source in _inputs(query, files).items() if name != BOUNDS})
    if BOUNDS in files:
        read_bounds(files[BOUNDS], registry.all_bounds())


def _validate(store: Store, query: ValidationQuery, files: Mapping[str, Path], progress: Callable[..., object]) -> Any:
    given = _inputs(query, files)
    validation = store.validate(_period(query), checks=query.checks or None, progress=progress, **given)
    return replace(validation, files=given_files(**{name: path for name, path in files.items() if name != BOUNDS}))


def _inputs(query: ValidationQuery, files: Mapping[str, Path]) -> dict[str, Any]:
    """The files, the invoice lines read with their tolerance."""
    if query.tolerance is None:
        return {**files}
    return {**files, "invoices": read_invoices(files["invoices"], query.tolerance)}


def _check_rating(_: RatingQuery, files: Mapping[str, Path]) -> None:
    from usage_explore.pricing.read import read_prices
    from usage_explore.validation.inputs import read_preferences

    for name, read in (("prices", read_prices), ("wallets", read_preferences)):
        if name in files:
            read(files[name])


def _rate(store: Store, query: RatingQuery, files: Mapping[str, Path], progress: Callable[..., object]) -> Any:
    result = store.rate(_period(query), **files)
    progress("usage", 1.0)
    return result


BOUNDS = "bounds"
"""The file with the bounds of a validation's checks."""

VALIDATION = JobKind(
    path=operations.VALIDATIONS,
    noun="validation",
    query=ValidationQuery,
    files=(*inspect.signature(read_inputs).parameters, BOUNDS),
    check=_check_validation,
    run=_validate,
)
RATING = JobKind(
    path=operations.RATINGS,
    noun="rating",
    query=RatingQuery,
    files=("prices", "wallets"),
    check=_check_rating,
    run=_rate,
)


@dataclass(slots=True)
class _Job:
    query: Period
    organization_id: UUID
    folder: Path
    files: dict[str, Path]
    id: str = field(default_factory=lambda: secrets.token_hex(16))
    created: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None
    state: State = "queued"
    progress: dict[str, float] = field(default_factory=dict)
    result: Any = None
    problem: dict[str, Any] | None = None
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    def document(self, *, exact: bool) -> dict[str, Any]:
        """The job for JSON, or with `exact` for `wire`."""
        result = self.result
        return {
            "id": self.id,
            "state": self.state,
            "created": rfc3339(self.created),
            "progress": dict(self.progress),
            "result": result if exact or result is None else result.to_dict(),
            "problem": self.problem,
        }


class Jobs:
    """The jobs of one kind of one service, and their endpoints; `slots` are those in which jobs of all kinds run."""

    def __init__(self, service: Service, kind: JobKind, slots: asyncio.Semaphore) -> None:
        self.service = service
        self.kind = kind
        self._slots = slots
        self._jobs: dict[str, _Job] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def load(self) -> tuple[int, int, int]:
        """The numbers of jobs that run, that wait, and that may run at the same time."""
        states = [job.state for job in self._jobs.values()]
        return states.count("running"), states.count("queued"), self.service.limits.validations

    async def start(self, request: Request) -> Response:
        """Start a job; 202 with its state and address."""
        media_type = negotiated(request, JSON, wire.MEDIA_TYPE)
        refuse_other_sites(request)
        kind = self.kind
        query: Any = kind.query.from_params(service.pairs(request))
        folder = Path(tempfile.mkdtemp(prefix="usage-explore-"))
        try:
            files = await _received(request, folder, kind.files)

            def checked(store: Store) -> UUID:
                with _without_folder(folder):
                    kind.check(query, files)
                organization_id = store.pin(_period(query)).organization_id
                assert organization_id is not None  # noqa: S101 - `pin` names it
                return organization_id

            organization_id = await self.service.run(request, query, checked)
            self._check_room(organization_id)
            job = _Job(query.replace(organization_id=organization_id), organization_id, folder, files)
            store = self.service.store_for(request)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._jobs[job.id] = job
        task = asyncio.ensure_future(self._run(job, store))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        headers = {"Location": f"{request.scope.get('root_path', '')}{kind.path}/{job.id}"}
        return self._response(request, job.document(exact=False), media_type, 202, headers)

    async def listed(self, request: Request) -> Response:
        """The jobs of the request's organization, newest first, without their results."""
        media_type = negotiated(request, JSON)
        _no_parameters(request)
        self._forget_old()
        own = await self._seen(request, [job for job in self._jobs.values() if self._may_see(request, job)])
        listed = [{**job.document(exact=True), "result": None} for job in reversed(own)]
        return self._response(request, {self.kind.plural: listed}, media_type)

    async def read(self, request: Request) -> Response:
        """A job, with its result as soon as it is done."""
        media_type = negotiated(request, JSON, wire.MEDIA_TYPE)
        _no_parameters(request)
        job, exact = await self._job(request), media_type == wire.MEDIA_TYPE
        content = await to_thread.run_sync(
            lambda: wire.dumps(job.document(exact=True)) if exact else json_bytes(job.document(exact=False)),
            limiter=service.thread_limiter(),
        )
        return response(request, content, media_type, pinned=False)

    async def delete(self, request: Request) -> Response:
        """Cancel and forget a job."""
        refuse_other_sites(request)
        _no_parameters(request)
        job = await self._job(request)
        job.cancelled.set()
        self._jobs.pop(job.id, None)
        return Response(status_code=204, headers={"Cache-Control": "no-store"})

    async def _run(self, job: _Job, store: Store) -> None:
        try:
            waiting = asyncio.ensure_future(self._slots.acquire())
            if not await _first_of(waiting, job):
                waiting.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    if await waiting:
                        self._slots.release()
                job.state = "cancelled"
                return
            try:
                await self._examine(job, store)
            finally:
                self._slots.release()
        finally:
            job.ended = datetime.now(UTC)
            shutil.rmtree(job.folder, ignore_errors=True)
            self._forget_old()

    async def _examine(self, job: _Job, store: Store) -> None:
        job.state = "running"

        def work() -> Any:
            with _without_folder(job.folder):
                return self.kind.run(store, job.query, job.files, job.progress.__setitem__)

        with cancellable() as held:
            running = asyncio.ensure_future(to_thread.run_sync(work, limiter=service.thread_limiter()))
        if not await _first_of(running, job):
            await service.cancel_until_done(running, held)
            job.state = "cancelled"
            return
        try:
            job.result = running.result()
            job.state = "done"
        except Exception as error:
            job.problem = problems.from_error(error).body(job.id)
            job.state = "failed"

    def _check_room(self, organization_id: UUID) -> None:
        """Raise `Problem` (429) if too many jobs run or wait."""
        unfinished = [job for job in self._jobs.values() if job.ended is None]
        own = sum(job.organization_id == organization_id for job in unfinished)
        if own >= MAX_UNFINISHED_PER_ORGANIZATION or len(unfinished) >= MAX_UNFINISHED:
            detail = f"Too many {self.kind.plural} run or wait; try again when one has ended, or delete one."
            headers = {"Retry-After": str(problems.RETRY_AFTER_SECONDS)}
            raise Problem(ProblemType.TOO_MANY_JOBS, detail, headers=headers)

    def _forget_old(self) -> None:
        now = datetime.now(UTC)
        ended = sorted((job for job in self._jobs.values() if job.ended is not None), key=lambda job: job.ended or now)
        kept: list[_Job] = []
        for job in reversed(ended):
            own = sum(other.organization_id == job.organization_id for other in kept)
            too_old = job.ended is not None and now - job.ended > KEPT_FOR
            if too_old or len(kept) >= MAX_KEPT or own >= MAX_KEPT_PER_ORGANIZATION:
                del self._jobs[job.id]
            else:
                kept.append(job)

    async def _job(self, request: Request) -> _Job:
        """The job of the request's path. Raises `Problem` (404) also for one of another or a hidden organization."""
        self._forget_old()
        job = self._jobs.get(request.path_params["id"])
        if job is None or not self._may_see(request, job) or not await self._seen(request, [job]):
            detail = f"There is no {self.kind.noun} of this id; finished ones are kept for an hour."
            raise Problem(ProblemType.NOT_FOUND, detail)
        return job

    async def _seen(self, request: Request, jobs: list[_Job]) -> list[_Job]:
        """The jobs without those that have ended and are of an organization which the database no longer shows."""
        ended = {job.organization_id for job in jobs if job.state not in ("queued", "running")}
        if not ended:
            return jobs

        def hidden() -> set[UUID]:
            store = self.service.store_for(request)
            return {organization_id for organization_id in ended if not _is_shown(store, organization_id)}

        async with self.service.queries.slot(request.state.organization_id):
            gone = await service.run_in_thread(request, hidden)
        return [job for job in jobs if job.organization_id not in gone]

    def _may_see(self, request: Request, job: _Job) -> bool:
        return request.state.organization_id in (None, job.organization_id)

    def _response(
        self,
        request: Request,
        content: dict[str, Any],
        media_type: str,
        status: int = 200,
        headers: dict[str, str] | None = None,
    ) -> Response:
        body = wire.dumps(content) if media_type == wire.MEDIA_TYPE else json_bytes(content)
        made = response(request, body, media_type, pinned=False, headers=headers)
        made.status_code = status
        return made


def _is_shown(store: Store, organization_id: UUID) -> bool:
    try:
        store.scoped(organization_id)
    except ScopeError:
        return False
    return True


async def _first_of(waiting: asyncio.Future[Any], job: _Job) -> bool:
    """Whether the future is done, before the job is cancelled or the server stops."""
    ends = [asyncio.ensure_future(event.wait()) for event in (job.cancelled, service.stopping())]
    try:
        await asyncio.wait({waiting, *ends}, return_when=asyncio.FIRST_COMPLETED)
        return waiting.done() and not job.cancelled.is_set()
    finally:
        for end in ends:
            end.cancel()


def _period(query: Period) -> Period:
    return Period(**query.shared_with(Period))


@contextlib.contextmanager
def _without_folder(folder: Path) -> Iterator[None]:
    """Errors in files name them without the server's folder; reading them ends when the request or job is cancelled."""
    ended = threading.Event()
    try:
        with interruptible(ended.set), read_until(ended):
            yield
    except QueryError as error:
        faults = [Fault(fault.parameter, fault.message.replace(f"{path_text(folder)}/", "")) for fault in error.faults]
        raise QueryError(faults) from None


async def _received(request: Request, folder: Path, known: tuple[str, ...]) -> dict[str, Path]:
    """The uploaded files by their known names, written into the folder.

    Raises `QueryError` for other fields, `Problem` (413, 415) for too many bytes and for another media type.
    """
    received, end = 0, b""

    async def bounded() -> Message:
        nonlocal received, end
        message = await request.receive()
        received += len(message.get("body", b""))
        end = (end + message.get("body", b""))[-4:]
        if received > MAX_UPLOAD_MEGABYTES * 2**20:
            detail = (
                f"The files have more than {MAX_UPLOAD_MEGABYTES} MB; validate with the command, beside the database."
            )
            raise Problem(ProblemType.TOO_LARGE, detail)
        return message

    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if media_type != "multipart/form-data":
        if media_type or (await bounded()).get("body"):
            detail = f"Send files as multipart/form-data, named {' and '.join(known)}; without files send no body."
            raise Problem(ProblemType.UNSUPPORTED, detail)
        return {}
    files: dict[str, Path] = {}
    faults: list[Fault] = []
    try:
        async with Request(request.scope, bounded).form(max_files=len(known), max_fields=len(known)) as form:
            for name, value in form.multi_items():
                if name not in known or name in files or not isinstance(value, UploadFile):
                    message = "is not a file that is known here, or given twice; the files are "
                    faults.append(Fault(validators.named(name), message + ", ".join(known)))
                    continue
                suffix = _SUFFIX.search((value.filename or "").lower())
                files[name] = folder / f"{name}{suffix[0] if suffix else '.csv'}"
                await to_thread.run_sync(_copy, value, files[name], limiter=service.thread_limiter())
    except HTTPException as error:
        raise QueryError(
            [Fault("body", f"is no readable multipart/form-data ({error.detail}); encode it again")]
        ) from None
    if not end.rstrip().endswith(b"--"):
        raise QueryError([Fault("body", "ends before its last boundary; send it again")])
    if faults:
        raise QueryError(faults)
    return files


def _copy(upload: UploadFile, path: Path) -> None:
    with path.open("wb") as file:
        shutil.copyfileobj(upload.file, file)


def _no_parameters(request: Request) -> None:
    faults = [Fault(validators.named(name), "unknown parameter here") for name, _ in service.pairs(request)]
    if faults:
        raise QueryError(faults)
