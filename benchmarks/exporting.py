"""How long reading and exporting the newest 1,000,000 events take, each in a process of its own, and their memory."""

from __future__ import annotations

import shutil
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.rows import Rows, organization
from benchmarks.worker import Worker
from usage_explore import EventQuery, connect
from usage_explore.db import ddl
from usage_explore.event_pages import Events
from usage_explore.export import ExportReport

MAX_EXPORTED_EVENTS = 1_000_000

_ROUNDS = 3


def exports(url: str, home: Path, folder: Path, rows: Rows) -> dict[str, Any]:
    """By format, and for `read`, the fastest of three in seconds, events, bytes and the process's memory."""
    with closing(ddl.connect(url)) as connection:
        row = connection.execute(
            "SELECT timestamp FROM usage_events WHERE organization_id = %s ORDER BY timestamp DESC OFFSET %s LIMIT 1",
            [organization(), min(MAX_EXPORTED_EVENTS, rows.number // 4) - 1],
        ).fetchone()
    assert row is not None
    found = {}
    folder.mkdir(exist_ok=True)
    try:
        for form in ("read", "parquet", "csv"):
            path = folder / f"events.{form}"
            with Worker(form, Exporter, url, home, row[0], path) as worker:
                worker.wait()
                before = worker.peak_memory()
                answers = [worker.ask(None) for _ in range(_ROUNDS)]  # type: ignore[arg-type]
                found[form] = {
                    "seconds": round(min(answer.took for answer in answers) / 1000, 2),
                    "events": answers[0].answer[0],
                    "bytes": answers[0].answer[1],
                    "peak_mib": round(worker.peak_memory()),
                    "before_mib": round(before),
                }
    finally:
        shutil.rmtree(folder)
    return found


class Exporter:
    """Exports the events from a time on to a file, or with the suffix `.read` reads them into memory."""

    def __init__(self, url: str, home: Path, since: datetime, path: Path) -> None:
        self.store = connect(url, organization(), home=home, statement_timeout=600)
        self.query, self.path = EventQuery(occurred_after=since), path

    def before(self, question: None) -> None:
        pass

    def ask(self, question: None) -> ExportReport | Events:
        if self.path.suffix == ".read":
            return self.store.read(self.query)
        return self.store.export(self.query, self.path, progress=False)

    def after(self) -> None:
        pass

    def read(self, question: None, found: ExportReport | Events) -> tuple[int, int]:
        """Events and bytes."""
        if isinstance(found, Events):
            return len(found), found.table.nbytes
        return found.events, self.path.stat().st_size

    def how(self, found: object) -> None:
        return None

    def close(self) -> None:
        self.store.close()
