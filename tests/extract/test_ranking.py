"""Ranking in Python gives what ranking by DuckDB gives, to the last digit, and queries end in time."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from support.query_oracle import utc
from support.thoroughness import seeds
from usage_explore.errors import StatementTimeout
from usage_explore.extract import ranking, statement
from usage_explore.extract.connection import Resources
from usage_explore.extract.engine import Cursor, Extracts, Watchdog
from usage_explore.extract.statement import Measure
from usage_explore.query.queries import AggregateQuery

KEYS = (None, "", "a", "A", "é", "\U0001f600", "\uffff", "b", "0")


@pytest.fixture
def extracts(tmp_path: Path) -> Extracts:
    return Extracts(home=tmp_path, url="", resources=Resources(memory=100_000_000, threads=1))


def _query(draw: random.Random) -> AggregateQuery:
    return AggregateQuery(
        since=utc(2026, 3, 1),
        until=utc(2026, 3, draw.choice([2, 5, 31])),
        metric=draw.choice(["count", "sum_quantity"]),
        group_by=draw.choice(["none", "dim:model", "metric_key"]),
        top=draw.choice([0, 1, 2, 5, 20]),
    )


def _sums(query: AggregateQuery) -> dict[str, Any]:
    return {"sums": ("quantity",), "scales": (4,)} if query.metric == "sum_quantity" else {}


def _by_duckdb(
    extracts: Extracts, table: pa.Table, query: AggregateQuery, measure: Measure, only: list[str | None] | None = None
) -> list[ranking.Row]:
    with extracts.cursor(timedelta(seconds=30)) as cursor:
        cursor.connection.register("points", table)
        return [ranking.Row(*row) for row in cursor.run(*statement.ranked(query, measure, only))]


@pytest.mark.parametrize("seed", seeds(range(40)))
def test_python_and_duckdb_rank_alike(extracts: Extracts, seed: int) -> None:
    draw = random.Random(seed)
    query = _query(draw)
    size = len(query.edges()) - 1
    cells: list[tuple[int, str | None, int | Decimal]] = []  # some repeat
    for _ in range(draw.choice([0, 1, 30, 200])):
        key = draw.choice(KEYS) if query.group_by != "none" else None
        # so close to 38 digits that the default context would round, and often equal
        value = draw.choice([-1, 0, 1, 10**32 + 1]) * draw.randrange(3)
        cells.append((draw.randint(1, size), key, value % 1000 if query.metric == "count" else Decimal(f"{value}E-4")))
    type_ = pa.int64() if query.metric == "count" else pa.decimal128(38, 4)
    measure = Measure(group=query.group_by, metrics=draw.random() < 0.5, **_sums(query))
    if not measure.metrics:  # a filter of one metric, or the grouping, fixes the metrics
        query = query.replace(metric_key="x")
    metrics = ["x", "y", "x"] if measure.metrics and cells else []
    table = pa.table(
        {
            "bucket": pa.array([bucket for bucket, _, _ in cells] + [None for _ in metrics], pa.int64()),
            "key": pa.array([key for _, key, _ in cells] + metrics, pa.string()),
            "value": pa.array([*(value for _, _, value in cells), *(None for _ in metrics)], type_),
        }
    )
    only = draw.sample(KEYS, draw.randrange(4)) if draw.random() < 0.4 else None
    python = ranking.ranked(zip(*table.to_pydict().values(), strict=True), query, size, measure, only)
    sql = _by_duckdb(extracts, table, query, measure, only)
    assert [row[:5] for row in python] == [row[:5] for row in sql]
    for ours, theirs in zip(python, sql, strict=True):
        if ours.kind is not None:
            assert (str(ours.total), *ours[6:8]) == (str(theirs.total), *theirs[6:8])
            assert [str(value) for value in ours.points] == [str(value) for value in theirs.points]


def test_too_many_points_are_counted_alike(extracts: Extracts) -> None:
    query = AggregateQuery(since=utc(2026, 1, 1), until=utc(2026, 3, 31), bucket="hour", group_by="dim:model", top=0)
    query = query.replace(metric_key="x")
    size = len(query.edges()) - 1
    keys = [f"k{number}" for number in range(200_000 // size + 1)]
    measure = Measure(group="dim:model")
    python = ranking.ranked(((1, key, 1) for key in keys), query, size, measure)
    table = pa.table({"bucket": [1] * len(keys), "key": keys, "value": [1] * len(keys)})
    (sql,) = _by_duckdb(extracts, table, query, measure)
    assert [row[:5] for row in python] == [(len(keys), 1, ["x"], None, None)] == [sql[:5]]


_ENDLESS = "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b"


def _endless(cursor: Cursor) -> None:
    cursor.run(_ENDLESS, [])


def test_a_query_is_not_interrupted_by_the_timeout_of_another(extracts: Extracts) -> None:
    with extracts.cursor(timedelta(minutes=5)) as patient:
        with extracts.cursor(timedelta(seconds=0.2)) as cursor, pytest.raises(duckdb.InterruptException):
            _endless(cursor)
        assert patient.run("SELECT 1", []) == [(1,)]


def _pausing(extracts: Extracts) -> None:
    with extracts.cursor(timedelta(seconds=0.05)) as cursor:
        cursor.run("SELECT 1", [])
        time.sleep(0.2)  # the deadline passes while nothing runs
        _endless(cursor)


def test_a_query_that_was_between_two_statements_ends_too(extracts: Extracts) -> None:
    with pytest.raises(StatementTimeout, match="longer than the statement timeout"):
        _pausing(extracts)


class _StoppedError(BaseException):
    """What a handler of a signal raises."""


@pytest.mark.parametrize("method", ["run", "arrow"])
def test_the_exception_of_a_signal_ends_a_statement_and_stays_what_it_is(extracts: Extracts, method: str) -> None:
    def stop(*_: object) -> None:
        raise _StoppedError

    before = signal.signal(signal.SIGUSR1, stop)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    getattr(extracts, method)("SELECT 1", [], timedelta(minutes=5))  # on a busy machine to connect takes as long
    try:
        timer.start()
        with pytest.raises(_StoppedError):
            getattr(extracts, method)(_ENDLESS, [], timedelta(minutes=5))
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)
    assert extracts.run("SELECT 1", [], timedelta(minutes=5)) == [(1,)]


def test_a_text_is_parsed_once_for_all_threads(extracts: Extracts) -> None:
    def asked(number: int) -> list[tuple[int, int]]:
        return extracts.run("SELECT $1 + 1, sum(i)::BIGINT FROM range($1) AS r(i)", [number], timedelta(minutes=5))

    assert asked(0) == [(1, None)]
    with ThreadPoolExecutor(8) as pool:
        assert [*pool.map(asked, range(1, 200))] == [[(n + 1, n * (n - 1) // 2)] for n in range(1, 200)]
    assert extracts._parsed.cache_info().misses == 1
    extracts.close()
    assert asked(3) == [(4, 3)]


def test_a_block_that_ended_is_not_interrupted() -> None:
    watchdog, interrupted = Watchdog(), []
    with watchdog.limited(timedelta(seconds=0.3), lambda: interrupted.append("ended")):
        pass
    with watchdog.limited(timedelta(seconds=0.6), lambda: interrupted.append("late")) as expired:
        while not interrupted:
            time.sleep(0.01)
    assert expired()
    assert set(interrupted) == {"late"}


def test_the_thread_ends_with_the_extracts(extracts: Extracts) -> None:
    with extracts.cursor(timedelta(minutes=5)) as cursor:
        cursor.run("SELECT 1", [])
    thread = extracts._watchdog._thread
    assert thread is not None
    extracts.close()
    thread.join(10)
    assert not thread.is_alive()
    with extracts.cursor(timedelta(minutes=5)) as cursor:
        assert cursor.run("SELECT 2", []) == [(2,)]


def test_a_script_ends_without_a_word(tmp_path: Path) -> None:
    script = f"""
from datetime import timedelta
from pathlib import Path
from usage_explore.extract.connection import Resources
from usage_explore.extract.engine import Extracts

extracts = Extracts(home=Path({str(tmp_path)!r}), url="", resources=Resources(memory=100_000_000, threads=1))
assert extracts.run("SELECT 1", [], timedelta(minutes=5)) == [(1,)]
"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (ended.stdout, ended.stderr) == ("", "")
