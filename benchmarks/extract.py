"""The extract of the organization that is queried, in three states below folders of their own.

`current` reaches up to the last full hour before `until`, as in use: queries also read up to an hour of events from the
database. `before` is an hour behind it, and `behind` lacks the newest 100,000 events.
"""

from __future__ import annotations

import os
import shutil
import statistics
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

from benchmarks.rows import Rows, organization
from benchmarks.worker import Worker
from usage_explore import config
from usage_explore.db import ddl
from usage_explore.extract import background, manifest
from usage_explore.extract.refresh import Report, Target
from usage_explore.extract.refresh import refresh as refresh_now

State = Literal["current", "before", "behind", "app"]

HOUR = timedelta(hours=1)
MAX_TAIL_EVENTS = 100_000
"""Events that the state `behind` lacks, at most an eighth of the rows."""

_TIMEOUT = HOUR
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hour(at: datetime) -> datetime:
    """The full hour at or before a time."""
    return at - (at - _EPOCH) % HOUR


def target(connection: ddl.Connection, url: str, home: Path, organization_id: UUID) -> Target:
    """The extract of an organization below a data folder."""
    settings = config.settings(database_url=url, home=home)
    return background.target(background.source(connection, settings), settings, organization_id)


def refresh(connection: ddl.Connection, wanted: Target, until: datetime) -> Report:
    """Refresh an extract as it would have been refreshed at `until`."""
    with connection.transaction():
        row = connection.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return refresh_now(connection, wanted, settle=row[0] - until, timeout=_TIMEOUT)


class Refresher:
    """Refreshes the extract in a process of its own, whose memory is the refresh's."""

    def __init__(self, url: str) -> None:
        self.url = url

    def before(self, question: object) -> None:
        pass

    def ask(self, question: tuple[Path, datetime]) -> Report:
        home, until = question
        with closing(ddl.connect(self.url)) as connection:
            return refresh(connection, target(connection, self.url, home, organization()), until)

    def after(self) -> None:
        pass

    def read(self, question: object, found: Report) -> dict[str, Any]:
        held = found.manifest
        if held.unfit or held.watermark is None:
            raise RuntimeError(held.unfit or "the extract was not built")
        summaries = [summary.file for segment in held.segments for summary in segment.summaries]
        return {
            "read": found.rows,
            "events": held.rows,
            "bytes": held.bytes,
            "segments": len(held.segments),
            "summary_rows": sum(file.rows for file in summaries),
            "summary_bytes": sum(file.bytes for file in summaries),
            "summary_columns": _summarized(held.segments),
            "dimensions": list(held.segments[-1].layout.dimensions) if held.segments else [],
        }

    def how(self, found: object) -> None:
        return None

    def close(self) -> None:
        pass


@dataclass(frozen=True)
class Extract:
    """The extract's states below `folder`, of the database at `url`."""

    url: str
    folder: Path
    rows: Rows

    def home(self, state: State) -> Path:
        """The data folder of a state."""
        return self.folder / state

    def ensure(self) -> None:
        """Build the states unless they are there, in this version's form."""
        if not all(self._is_there(state) for state in ("current", "before", "behind")):
            self.build(1)

    def build(self, rounds: int) -> dict[str, Any]:
        """Build the states anew; seconds and memory of the build and of a refresh after one more hour of events."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        now = hour(self.rows.until)
        with Worker("extract", Refresher, self.url) as worker:
            worker.wait()
            built = worker.ask((self.home("behind"), self._behind()))  # type: ignore[arg-type]
            memory = worker.peak_memory()
            self.copy("behind", "before")
            rest = worker.ask((self.home("before"), now - HOUR))  # type: ignore[arg-type]
            took = []
            for _ in range(rounds):
                self.copy("before", "current")
                refreshed = worker.ask((self.home("current"), now))  # type: ignore[arg-type]
                took.append(refreshed.took / 1000)
        return {
            **refreshed.answer,
            "build_seconds": round((built.took + rest.took) / 1000, 1),
            "build_peak_mib": round(memory),
            "refresh_seconds": round(statistics.median(took), 2),
        }

    def copy(self, state: State, to: State) -> Path:
        """Copy a state: its files, which never change, as hard links."""
        shutil.rmtree(self.home(to), ignore_errors=True)
        shutil.copytree(
            self.home(state), self.home(to), copy_function=os.link, ignore=shutil.ignore_patterns("lock", "tmp")
        )
        return self.home(to)

    def _is_there(self, state: State) -> bool:
        with closing(ddl.connect(self.url)) as connection:
            held = manifest.read(target(connection, self.url, self.home(state), organization()).folder)
        return held is not None and held.watermark is not None

    def _behind(self) -> datetime:
        """When the event was ingested that has `MAX_TAIL_EVENTS` after it."""
        events = min(MAX_TAIL_EVENTS, self.rows.number // 8)
        with closing(ddl.connect(self.url)) as connection:
            row = connection.execute(
                "SELECT ingested_at FROM usage_events WHERE organization_id = %s ORDER BY ingested_at DESC"
                " OFFSET %s LIMIT 1",
                [organization(), events - 1],
            ).fetchone()
        assert row is not None
        found: datetime = row[0]
        return found


def _summarized(segments: tuple[manifest.Segment, ...]) -> list[str]:
    """The columns of the largest segment's summaries, by the names of groups, each with its unit in hours."""
    largest = max(segments, key=lambda one: one.rows.rows, default=None)
    if largest is None:
        return []
    names = {f"d{number}": f"dim:{key}" for number, key in enumerate(largest.layout.dimensions)}
    return [
        f"{summary.unit / manifest.HOUR:g} h: {' '.join(names.get(name, name) for name in summary.columns)}"
        for summary in largest.summaries
    ]
