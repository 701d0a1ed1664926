"""Ingesting with and without refreshes of the extract at work.

The events belong to an organization of their own, which has its own extract; both are removed afterwards.
"""

from __future__ import annotations

import itertools
import shutil
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa

from benchmarks import database
from benchmarks.database import TABLE
from benchmarks.extract import HOUR, hour, refresh, target
from benchmarks.rows import Rows
from usage_explore.db import ddl
from usage_explore.db.ddl import Connection

BATCH = 10_000
PAUSE = 2.0
"""Seconds between two refreshes while events are ingested; in use there are minutes."""

_BATCH_LASTS = timedelta(minutes=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_STRANGER = uuid4()

Say = Callable[[str], object]


def ingesting(url: str, home: Path, rows: Rows, seconds: float, turns: int, say: Say) -> dict[str, Any]:
    """Events per second by COPY in batches, with and without refreshes that keep up with them, in turns."""
    stream = _Stream(rows)
    rates: dict[bool, list[float]] = {False: [], True: []}
    refreshes: list[float] = []
    with ddl.connect(url) as connection:
        try:
            for turn in range(turns * 2):
                busy = turn % 4 in (1, 2)  # without, with, with, without: a slow drift meets both
                say(f"ingest for {seconds:g} s {'with' if busy else 'without'} refreshes …")
                rates[busy].append(_rate(connection, stream, seconds, (url, home), refreshes if busy else None))
        finally:
            say("remove what was ingested …")
            with connection.transaction():
                connection.execute(f"DELETE FROM {TABLE.name} WHERE organization_id = %s".encode(), [_STRANGER])
            shutil.rmtree(home, ignore_errors=True)
            database.run(connection, f"VACUUM ANALYZE {TABLE.name}")
    without, along = statistics.median(rates[False]), statistics.median(rates[True])
    return {
        "per_second": round(without),
        "per_second_with_refreshes": round(along),
        "kept": round(along / without, 3),
        "events": stream.sent,
        "refreshes": len(refreshes),
        "refresh_seconds": round(statistics.median(refreshes), 2) if refreshes else None,
    }


class _Stream:
    """Events of a new organization in batches without an end; an hour of them is 600,000."""

    def __init__(self, rows: Rows) -> None:
        self.sent = 0
        self.reached = hour(rows.until) + HOUR
        """Up to when, by their own clock, events were sent."""
        self._drawn = self._draw(rows)

    def next(self) -> pa.Table:
        """The next batch, ingested in the next minute."""
        batch = next(self._drawn)
        ingested = batch["ingested_at"].cast(pa.int64()).to_numpy()
        lag = ingested - batch["timestamp"].cast(pa.int64()).to_numpy()
        first = (self.reached - _EPOCH) // timedelta(microseconds=1)
        moved = first + np.arange(len(batch)) * (_BATCH_LASTS // timedelta(microseconds=1) // len(batch))
        own = pa.array([str(_STRANGER)] * len(batch), pa.string())
        for name, column in (("organization_id", own), ("timestamp", moved - lag), ("ingested_at", moved)):
            kind = batch.schema.field(name)
            values = column if isinstance(column, pa.Array) else pa.array(column, pa.int64()).cast(kind.type)
            batch = batch.set_column(batch.schema.get_field_index(name), kind, values)
        return batch

    def done(self, batch: pa.Table) -> None:
        """The batch is committed."""
        self.sent += len(batch)
        self.reached += _BATCH_LASTS

    @staticmethod
    def _draw(rows: Rows) -> Iterator[pa.Table]:
        for seed in itertools.count(rows.seed + 1):
            for chunk in replace(rows, number=1_000_000, seed=seed).chunks():
                yield from (chunk.slice(first, BATCH) for first in range(0, len(chunk), BATCH))


def _rate(
    connection: Connection, stream: _Stream, seconds: float, where: tuple[str, Path], refreshes: list[float] | None
) -> float:
    """Events per second of the time that COPY and COMMIT took; making the events is not counted."""
    end = threading.Event()
    thread = threading.Thread(target=_refresh, args=(*where, stream, end, refreshes), daemon=True)
    if refreshes is not None:
        thread.start()
    sent, working, began = 0, 0.0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        batch = stream.next()
        started = time.perf_counter()
        with connection.transaction():
            database.copy(connection, batch)
        working += time.perf_counter() - started
        stream.done(batch)
        sent += len(batch)
    end.set()
    if refreshes is not None:
        thread.join()
    return sent / working


def _refresh(url: str, home: Path, stream: _Stream, end: threading.Event, refreshes: list[float]) -> None:
    with ddl.connect(url) as connection:
        while not end.is_set():
            began = time.perf_counter()
            refresh(connection, target(connection, url, home, _STRANGER), stream.reached)
            refreshes.append(time.perf_counter() - began)
            end.wait(PAUSE)
