"""Announcements of events that a load inserts or deletes behind the watermark of an extract on this machine.

A load announces them before it commits. From then on the extract does not answer, until a refresh that began after the
load's transaction ended has read these events again. Announcements of loads that were undone cost a reading, no more.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID

from usage_explore.extract import manifest
from usage_explore.extract.manifest import micros

NAME = "changes.jsonl"


@dataclass(frozen=True, slots=True)
class Change:
    """Events ingested from `first` to `last`, both inclusive, may differ; by a transaction that began at `at`.

    Microseconds since 1970.
    """

    at: int
    first: int
    last: int


def announce(home: Path, relation: int, at: datetime, ingested: Mapping[UUID, tuple[datetime, datetime]]) -> None:
    """Announce changes to the extracts of a table, by its oid, below `home`: of every role, for these organizations.

    `ingested` has the first and the last `ingested_at` of the changed events. Belongs into the transaction that makes
    the changes and began at `at`.
    """
    for organization_id, (first, last) in ingested.items():
        line = json.dumps({"at": micros(at), "first": micros(first), "last": micros(last)}) + "\n"
        for folder in (home / "extract").glob(f"*/{organization_id}"):
            held = manifest.read(folder)
            if held is not None and held.relation == relation:
                with (folder / NAME).open("a", encoding="ascii") as file:
                    file.write(line)
                    file.flush()
                    os.fsync(file.fileno())


def pending(folder: Path) -> bool:
    """Whether the extract has changes that it does not hold yet."""
    return (folder / NAME).exists()


def announced(folder: Path) -> list[Change]:
    """The announced changes."""
    try:
        lines = (folder / NAME).read_text("ascii").splitlines()
    except FileNotFoundError:
        return []
    return [Change(**json.loads(line)) for line in lines if line.endswith("}")]


def forget(folder: Path, done: list[Change]) -> None:
    """Remove the announcements that the extract holds now; others stay."""
    rest = [change for change in announced(folder) if change not in done]
    if not rest:
        with suppress(FileNotFoundError):
            (folder / NAME).unlink()
