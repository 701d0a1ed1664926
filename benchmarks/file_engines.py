"""Engines on the same rows in files of their own: DuckDB's native table, chDB's MergeTree."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa

from benchmarks import plain
from benchmarks.answers import board, folded
from benchmarks.questions import Aggregated, Query, Ranked
from benchmarks.rows import DIMENSION_KEYS

_IDS = ("id", "organization_id", "customer_id", "product_id", "subscription_id")


class DuckDB:
    """DuckDB in this process, on a native table in `file`, made of Parquet files unless it is there.

    As it comes the rows are in the order of their ingestion and the dimensions are JSON; `tuned`, the rows are in the
    order of organization and time and every dimension key has a column of its own beside the JSON.
    """

    def __init__(self, parquet: Path, file: Path, *, tuned: bool = False) -> None:
        import duckdb

        self.tuned = tuned
        if not file.exists():
            unfinished = _unfinished(file)
            made = duckdb.connect(str(unfinished))
            made.execute("SET enable_progress_bar = false")
            made.execute("SET memory_limit = '50%'")  # a server and the system's cache want some, too
            cast = ", ".join(f"{name}::UUID AS {name}" for name in _IDS)
            made.execute(
                f"CREATE TABLE {plain.TABLE} AS SELECT * REPLACE ({cast}, timestamp::TIMESTAMP AS timestamp,"
                " ingested_at::TIMESTAMP AS ingested_at,"
                f" dimensions::JSON AS dimensions){_KEYS if tuned else ''}"
                f" FROM '{parquet}/*.parquet' {'ORDER BY organization_id, timestamp' if tuned else ''}"
            )
            made.close()
            unfinished.rename(file)
        self.connection = duckdb.connect(str(file))
        self._set(self.connection)

    @staticmethod
    def _set(connection: Any) -> None:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET enable_progress_bar = false")

    def before(self, question: Query) -> None:
        pass

    def ask(self, question: Query) -> Any:
        return self.connection.execute(self._statement(question)).fetchall()

    def client(self) -> Callable[[Query], Any]:
        """How one of several clients asks, who may ask at the same time."""
        cursor = self.connection.cursor()
        self._set(cursor)
        return lambda question: cursor.execute(self._statement(question)).fetchall()

    def _statement(self, question: Query) -> str:
        if isinstance(question, Ranked):
            return plain.boards(question.query, question.groups, self)
        assert isinstance(question, Aggregated)
        return plain.aggregate(question.query, self)

    def after(self) -> None:
        pass

    def read(self, question: Query, found: Any) -> Any:
        """Buckets come by the zone's wall clock."""
        if isinstance(question, Ranked):
            groups: dict[str, list[tuple[str | None, int]]] = {group: [] for group in question.groups}
            for bits, key, value in found:
                groups[question.groups[plain.board_number(bits, len(groups))]].append((key, value))
            return {group: board(rows, question.query.replace(group_by=group)) for group, rows in groups.items()}
        assert isinstance(question, Aggregated)
        zone = ZoneInfo(question.query.timezone)
        rows = [(_moment(start).replace(tzinfo=zone).astimezone(UTC), key, value) for start, key, value in found]
        return folded(rows, question.query)

    def how(self, found: Any) -> str | None:
        return None

    def close(self) -> None:
        self.connection.close()

    def bucket(self, size: str, zone: str) -> str:
        local = "timestamp" if zone == "UTC" else f"timezone('{zone}', timezone('UTC', timestamp))"
        return f"date_trunc('{size}', {local})"

    def instant(self, at: datetime) -> str:
        return f"TIMESTAMP '{at:%Y-%m-%d %H:%M:%S.%f}'"

    def dimension(self, key: str) -> str:
        return key if self.tuned else f"dimensions ->> '$.{key}'"


class ChDB:
    """ClickHouse in this process, on a MergeTree in `folder`, made of Parquet files unless it is there."""

    def __init__(self, parquet: Path, folder: Path) -> None:
        from chdb import session

        if not folder.exists():
            unfinished = _unfinished(folder)
            made = session.Session(str(unfinished))
            made.query(_MERGE_TREE)
            made.query(
                f"INSERT INTO {plain.TABLE} SELECT * REPLACE (dimensions::JSON AS dimensions)"
                f" FROM file('{parquet}/*.parquet')"
            )
            made.query(f"OPTIMIZE TABLE {plain.TABLE} FINAL")
            made.close()
            unfinished.rename(folder)
        self.session = session.Session(str(folder))

    def before(self, question: Query) -> None:
        pass

    def ask(self, question: Query) -> Any:
        if isinstance(question, Ranked):
            statements = (plain.board(question.query, group, self) for group in question.groups)
            return [self._rows(statement, ("key", "value")) for statement in statements]
        assert isinstance(question, Aggregated)
        return self._rows(plain.aggregate(question.query, self), ("time", "key", "value"))

    def _rows(self, statement: str, names: tuple[str, ...]) -> list[Any]:
        answer = self.session.query(statement, "Arrow")
        columns = pa.ipc.open_file(answer.bytes()).read_all()
        return list(zip(*(columns[name].to_pylist() for name in names), strict=True))

    def after(self) -> None:
        pass

    def read(self, question: Query, found: Any) -> Any:
        """Buckets come as seconds since 1970, weeks as dates."""
        if isinstance(question, Ranked):
            pairs = zip(question.groups, found, strict=True)
            return {group: board(rows, question.query.replace(group_by=group)) for group, rows in pairs}
        assert isinstance(question, Aggregated)
        rows = [(_moment(start).replace(tzinfo=UTC), key, value) for start, key, value in found]
        return folded(rows, question.query)

    def how(self, found: Any) -> str | None:
        return None

    def close(self) -> None:
        self.session.close()

    def bucket(self, size: str, zone: str) -> str:
        if size == "week":
            return f"toStartOfWeek(timestamp, 1, '{zone}')"
        return f"toStartOf{size.title()}(toTimeZone(timestamp, '{zone}'))"

    def instant(self, at: datetime) -> str:
        return f"toDateTime64('{at:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"

    def dimension(self, key: str) -> str:
        return f"dimensions.{key}.:String"


_KEYS = "".join(f", dimensions ->> '$.{key}' AS {key}" for key in DIMENSION_KEYS)

_MERGE_TREE = f"""
CREATE TABLE {plain.TABLE} (
    id UUID, organization_id UUID, customer_id UUID, product_id Nullable(UUID), subscription_id Nullable(UUID),
    metric_key LowCardinality(String), price_key LowCardinality(Nullable(String)), quantity Decimal(18, 3),
    timestamp DateTime64(6, 'UTC'), ingested_at DateTime64(6, 'UTC'), idempotency_key String,
    external_cost_amount Nullable(Decimal(18, 6)), external_cost_currency LowCardinality(Nullable(String)),
    wallet_currency LowCardinality(Nullable(String)), dimensions JSON
) ENGINE = MergeTree ORDER BY (organization_id, timestamp)
"""


def _moment(start: date | int) -> datetime:
    """When a bucket begins, given as a time, as a date, or as seconds since 1970."""
    if isinstance(start, int):
        return datetime.fromtimestamp(start, UTC)
    return start if isinstance(start, datetime) else datetime(start.year, start.month, start.day)  # noqa: DTZ001


def _unfinished(path: Path) -> Path:
    """Where a file or folder is made before it takes its name; what an interrupted run left there is removed."""
    found = path.with_name(f"{path.name}.new")
    shutil.rmtree(found, ignore_errors=True)
    found.unlink(missing_ok=True)
    return found
