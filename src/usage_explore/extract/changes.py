"""Announcements of events that a load inserts or deletes behind the watermark of an extract on this machine.

A load announces them before it commits, and again afterwards for extracts whose first build began meanwhile. From then
on the extract does not answer, until a refresh that began after the load's transaction ended has read these events
again. What a load superseded is announced with it: these events are gone from the table, and no retention has removed
them. Announcements of loads that were undone cost a reading, and hide a removal of just the events that they would have
superseded if it comes before the next refresh.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from pathlib import Path
from secrets import token_hex
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Table

from usage_explore.db.ddl import Connection
from usage_explore.extract import manifest
from usage_explore.extract.manifest import SLOT, micros
from usage_explore.query.validators import EARLIEST, LATEST
from usage_explore.sql.identifiers import identifier

_ENDING = ".change"


@dataclass(frozen=True, slots=True)
class Change:
    """Events ingested from `first` to `last`, both inclusive, may differ; by a transaction that began at `at`.

    Microseconds since 1970. Each is a file of its own, `name`. `superseded` has the number of deleted events by the
    15-minute slot of their `timestamp`, as pairs, JSON having no other keys than text.
    """

    at: int
    first: int
    last: int
    name: str = ""
    superseded: Iterable[tuple[int, int]] = ()


class Changes(NamedTuple):
    """The changes of a load by organization: first and last `ingested_at` of the events, deleted ones by `slot`.

    `name` is that of their announcements.
    """

    ingested: Mapping[UUID, tuple[datetime, datetime]] = {}
    superseded: Mapping[UUID, Mapping[int, int]] = {}
    name: str = ""


def slot(timestamp: datetime) -> int:
    """The number of 15-minute slots from 1970 to that of the time."""
    return micros(timestamp) // SLOT


def new_name() -> str:
    """A name for the announcements of one load."""
    return f"{token_hex(8)}{_ENDING}"


def announce(
    connection: Connection,
    table: Table,
    home: Path,
    ingested: Mapping[UUID, tuple[datetime, datetime]],
    superseded: Mapping[UUID, Mapping[int, int]] | None = None,
    name: str = "",
    *,
    committed: bool = False,
) -> None:
    """Announce changes to the extracts of a table below `home`: of every role, for these organizations.

    What changed is given as in `Changes`. Belongs into the transaction that makes the changes; after it with
    `committed` and the same `name`, so that the deleted events count once.
    """
    if not ingested:
        return
    row = connection.execute(
        "SELECT to_regclass(%s)::oid::bigint, transaction_timestamp()", [identifier(table).as_string(connection)]
    ).fetchone()
    assert row is not None  # noqa: S101 - a select without FROM has one row
    relation, began = row
    at = EARLIEST if committed else began
    for organization_id, (first, last) in ingested.items():
        slots = tuple((superseded or {}).get(organization_id, {}).items())
        change = Change(micros(at), micros(first), micros(last), name or new_name(), slots)
        for folder in (home / "extract").glob(f"*/{organization_id}"):
            held = manifest.read(folder)
            if held is not None and held.relation == relation:
                manifest.replace(folder / change.name, asdict(change))


def pending(folder: Path) -> bool:
    """Whether the extract has changes that it does not hold yet."""
    return any(folder.glob(f"*{_ENDING}"))


def announced(folder: Path) -> tuple[list[Change], list[Change]]:
    """The announced changes; and those in damaged files, which may be any, by a transaction before the file's time."""
    readable, damaged = [], []
    for path in folder.glob(f"*{_ENDING}"):
        try:
            if not path.is_file() and path.exists():
                raise TypeError("it is no file")
            change = Change(**manifest.checked(path.read_bytes(), required=True))
            readable.append(replace(change, name=path.name))
        except FileNotFoundError:
            continue
        except (ValueError, TypeError):
            written = path.stat().st_mtime_ns // 1000
            damaged.append(Change(at=written, first=micros(EARLIEST), last=micros(LATEST), name=path.name))
    return readable, damaged


def superseded(folder: Path) -> Counter[int]:
    """How many events the announced loads deleted, by `slot`."""
    slots: Counter[int] = Counter()
    for change in announced(folder)[0]:
        slots.update(dict(change.superseded))
    return slots


def forget(folder: Path, done: Iterable[Change]) -> None:
    """Remove the announcements that the extract holds now; others stay."""
    for change in done:
        (folder / change.name).unlink(missing_ok=True)
