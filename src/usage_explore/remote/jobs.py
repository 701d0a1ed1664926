"""Jobs on a server: validations and ratings, which are started, waited for and cancelled.

`Job` and `State` are what a server says of itself and of its jobs, from decoded JSON; other JSON raises `TypeError` and
the like.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, cast
from uuid import UUID

from usage_explore.errors import ConfigurationError, DatabaseUnavailable, UsageExploreError
from usage_explore.query.url_params import Pairs
from usage_explore.remote import wire
from usage_explore.remote.client import Client, problem_error

_MIN_POLL_SECONDS, _MAX_POLL_SECONDS = 0.05, 2.0
"""Time between two questions for the progress of a job; it grows from one to the other."""


def ended(
    client: Client,
    path: str,
    request: Callable[[Callable[[Pairs], Any]], Any],
    kind: type[Any],
    files: dict[str, Any],
    progress: Callable[[str, float], object] | None,
) -> Any:
    """The result of a job, an object of `kind`; the job is cancelled if this call is interrupted.

    `request` calls its argument with the parameters of the job.
    """

    def asked(method: str, path: str, pairs: Pairs, files: dict[str, Any] | None = None) -> Job:
        job = wire.loads(client.send(method, path, pairs, files).content, read=partial(Job.of, kind))
        return cast("Job", job)

    job: Job = request(lambda pairs: asked("POST", path, pairs, files))
    path = f"{path}/{job.id}"
    seen: dict[str, float] = {}
    seconds = _MIN_POLL_SECONDS
    try:
        while True:
            for name, part in job.progress.items():
                if progress is not None and seen.get(name) != part:
                    progress(name, part)
                seen[name] = part
            if job.state in ("done", "failed", "cancelled"):
                break
            time.sleep(seconds)
            seconds = min(seconds * 1.5, _MAX_POLL_SECONDS)
            try:
                job = asked("GET", path, [])
            except ConfigurationError as error:
                if not str(error).startswith("url: the server lacks"):
                    raise
                raise DatabaseUnavailable("The server has restarted and lost the job; ask again.") from error
    finally:
        with suppress(UsageExploreError):  # else its result is kept for an hour
            client.send("DELETE", path, [])
    if job.result is not None:
        return job.result
    raise problem_error(job.problem or {"type": "cancelled", "detail": "It was cancelled on the server."}, 200)


@dataclass(frozen=True, slots=True)
class State:
    """What a server says of an organization."""

    organization: str
    organization_id: UUID
    now: datetime
    known: datetime | None
    settle: timedelta

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> State:
        """The state that the operation `STATE` describes."""
        return cls(
            organization=str(found["organization"]),
            organization_id=UUID(found["organization_id"]),
            now=datetime.fromisoformat(found["now"]),
            known=found["known"] and datetime.fromisoformat(found["known"]),
            settle=timedelta(seconds=found["settle_seconds"]),
        )


@dataclass(frozen=True, slots=True)
class Job:
    """A job on the server; `problem` is why there is no result."""

    id: str
    state: str
    progress: Mapping[str, float]
    result: Any
    problem: Mapping[str, Any] | None

    @classmethod
    def of(cls, kind: type[Any], found: Mapping[str, Any]) -> Job:
        """A job whose result is of this type."""
        return cls(
            id=str(found["id"]),
            state=str(found["state"]),
            progress={str(name): float(part) for name, part in found["progress"].items()},
            result=wire.one(kind, None)(found["result"]),
            problem=wire.one(dict, None)(found["problem"]),
        )


def listed_organizations(found: Mapping[str, Any]) -> list[tuple[UUID, str | None]]:
    """Ids and names of organizations."""
    return [(UUID(row["id"]), wire.one(str, None)(row["name"])) for row in found["organizations"]]
