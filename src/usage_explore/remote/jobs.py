"""Jobs on a server: validations and ratings, which are started, waited for and cancelled."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast

from usage_explore.errors import ConfigurationError, DatabaseUnavailable, UsageExploreError
from usage_explore.query.url_params import Pairs
from usage_explore.remote import wire
from usage_explore.remote.client import Client, problem_error
from usage_explore.remote.replies import Job

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
