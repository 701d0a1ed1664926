"""Reading events from PostgreSQL: COPY as CSV, decoded by Arrow a few megabytes at a time.

CSV keeps NULL (nothing) apart from an empty text (two quotes). PostgreSQL itself makes the texts of the dimensions, so
they are the same as in its answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa
from psycopg import sql
from pyarrow import csv
from sqlalchemy import Table

from usage_explore.db.catalog import check_instants
from usage_explore.db.ddl import Connection
from usage_explore.errors import TableMismatch
from usage_explore.extract import visibility
from usage_explore.extract.key_columns import MAX_COLUMNS_OF_KEYS, MIN_KEY_SHARE
from usage_explore.extract.manifest import IDS, TEXTS, instant, micros
from usage_explore.extract.segments import Totals
from usage_explore.query.validators import EARLIEST, LATEST
from usage_explore.results.arrow import DECIMALS
from usage_explore.sql.identifiers import identifier

MAX_ROWS_PER_READ = 500_000
MAX_BYTES_PER_READ = 512_000_000
"""Rows and bytes of CSV from which a segment is written, and the next one begun."""

BEGINNING, END = micros(EARLIEST), micros(LATEST)
"""Microseconds since 1970 that all rows lie in."""

_SAMPLE_ROWS = 10_000
_BLOCK_BYTES = 8_000_000

_IDS_PER_READ = 20_000

_TIMES = {"timestamp": "ts", "ingested_at": "ing"}
_VARYING = {"id", "idempotency_key", "quantity", "external_cost_amount", "rare", "dimensions"}
_INSTANT = pa.timestamp("us", tz="UTC")
_DICTIONARY = pa.dictionary(pa.int32(), pa.string())

Condition = sql.Composable


class Events:
    """One organization's events in a table, as the connection's role sees them."""

    def __init__(self, connection: Connection, table: Table, organization_id: UUID) -> None:
        self.connection, self.table, self.organization_id = connection, table, organization_id

    def relation(self) -> int:
        """The table's oid. Raises `TableMismatch` if it is gone, or its times have no zone."""
        check_instants(self.connection, self.table.fullname)
        name = identifier(self.table).as_string(self.connection)
        (oid,) = self._row(sql.SQL("SELECT to_regclass({})::oid::bigint").format(sql.Literal(name)))
        if oid is None:
            raise TableMismatch(f"{self.table.fullname}: there is no such table or view in this database")
        return int(oid)

    def fingerprint(self, relation: int) -> str:
        """What decides which rows the role sees in the table."""
        return visibility.fingerprint(self.connection, relation)

    def transaction(self) -> int:
        """The id of the database's next transaction; 0 on a replica."""
        (number,) = self._row(sql.SQL("SELECT {}").format(sql.SQL(visibility.TRANSACTION)))
        return number or 0

    def now(self) -> int:
        """The database's clock."""
        (now,) = self._row(sql.SQL("SELECT clock_timestamp()"))
        return micros(now)

    def next_ingested(self, since: int, until: int) -> int | None:
        """When the first event was ingested at `since` or later, before `until`."""
        statement = sql.SQL("SELECT ingested_at FROM {} WHERE {} ORDER BY ingested_at LIMIT 1")
        found = self._rows(statement, within("ingested_at", since, until))
        return micros(found[0][0]) if found else None

    def first(self, until: int) -> int | None:
        """The time of the first event ingested before `until`."""
        (found,) = self._rows(sql.SQL("SELECT min(timestamp) FROM {} WHERE {}"), within("ingested_at", None, until))[0]
        return None if found is None else micros(found)

    def in_order(self, until: int) -> Generator[dict[str, int]]:
        """The ids of the events ingested before `until` with their times, earliest first, `_IDS_PER_READ` at a time."""
        statement = sql.SQL("SELECT id::text, timestamp FROM {} WHERE {} ORDER BY timestamp").format(
            identifier(self.table), self._all(within("ingested_at", None, until))
        )
        with self.connection.cursor("in_order") as cursor:
            cursor.execute(statement)
            while rows := cursor.fetchmany(_IDS_PER_READ):
                yield {name: micros(moment) for name, moment in rows}

    def sample_keys(self, since: int, until: int) -> list[str]:
        """Keys of dimensions that are frequent among some events ingested in a span, the most frequent first."""
        statement = sql.SQL(
            "SELECT key, count(*), (SELECT count(*) FROM sample) FROM sample,"
            " LATERAL jsonb_object_keys(CASE jsonb_typeof(dimensions) WHEN 'object' THEN dimensions ELSE '{}' END)"
            " AS keys (key) GROUP BY 1"
        )
        counted: Counter[str] = Counter()
        for order in (sql.SQL("ASC"), sql.SQL("DESC")):
            sample = sql.SQL(
                "WITH sample AS (SELECT dimensions FROM {} WHERE {} ORDER BY ingested_at {} LIMIT {}) {}"
            ).format(
                identifier(self.table),
                self._all(within("ingested_at", since, until)),
                order,
                sql.Literal(_SAMPLE_ROWS),
                statement,
            )
            for key, events, rows in self.connection.execute(sample).fetchall():
                if events >= rows * MIN_KEY_SHARE:
                    counted[key] += events
        return [key for key, _ in sorted(counted.items(), key=lambda item: (-item[1], item[0]))[:MAX_COLUMNS_OF_KEYS]]

    def totals(self, key: str, condition: Condition) -> dict[int, Totals]:
        """Counts and sums by hour of `ingested_at` or by day of `timestamp`, numbered since 1970."""
        width = timedelta(hours=1) if key == "ingested_at" else timedelta(days=1)
        statement = sql.SQL(
            "SELECT date_bin({}, {}, {}), count(*), sum(quantity)::text, count(external_cost_amount),"
            " sum(external_cost_amount)::text FROM {} WHERE {} GROUP BY 1"
        ).format(
            sql.Literal(width), sql.Identifier(key), sql.Literal(EARLIEST), identifier(self.table), self._all(condition)
        )
        return {
            (start - EARLIEST) // width: Totals(
                events=events, quantity=_decimal(quantity), costed=costed, cost=_decimal(cost)
            )
            for start, events, quantity, costed, cost in self.connection.execute(statement).fetchall()
        }

    def contents(self, condition: Condition) -> dict[int, int]:
        """Sums of 32 bits of the MD5 of each row but its decimals, by hour of `ingested_at` since 1970."""
        names = [*IDS, *TEXTS]
        texts = [sql.SQL("{}::text").format(sql.Identifier(name)) for name in names]
        microseconds = sql.SQL("(extract(epoch FROM {}) * 1000000::numeric)::bigint::text")
        texts += [microseconds.format(sql.Identifier(name)) for name in _TIMES]
        parts = [sql.SQL("coalesce({}, chr(1))").format(text) for text in (*texts, sql.SQL("dimensions::text"))]
        statement = sql.SQL(
            "SELECT date_bin('1 hour', ingested_at, {}),"
            " sum(('x' || left(md5(concat_ws(chr(2), {})), 8))::bit(32)::bigint & 4294967295)"
            " FROM {} WHERE {} GROUP BY 1"
        ).format(sql.Literal(EARLIEST), sql.SQL(", ").join(parts), identifier(self.table), self._all(condition))
        hour = timedelta(hours=1)
        return {
            (start - EARLIEST) // hour: int(content) for start, content in self.connection.execute(statement).fetchall()
        }

    def read(self, keys: Sequence[str], condition: Condition) -> Generator[pa.Table]:
        """The events of a condition, up to `MAX_ROWS_PER_READ` at a time, with the columns `segments.write` expects."""
        (timeout,) = self._row(sql.SQL("SELECT current_setting('statement_timeout')"))
        self._limit("0")  # the time of writing the files counts, too
        tables: list[pa.Table] = []
        block: list[bytes] = []
        rows = block_bytes = total_bytes = 0
        with self.connection.cursor() as cursor, cursor.copy(self._copy(keys, condition)) as copy:
            for row in copy:  # a message of the protocol is a row, whatever line breaks its values have
                block.append(row)  # type: ignore[arg-type]
                block_bytes += len(row)
                full = rows + len(block) >= MAX_ROWS_PER_READ or total_bytes + block_bytes >= MAX_BYTES_PER_READ
                if full or block_bytes >= _BLOCK_BYTES:
                    tables.append(_decoded(b"".join(block), keys))
                    rows, total_bytes = rows + len(block), total_bytes + block_bytes
                    block, block_bytes = [], 0
                if full:
                    yield pa.concat_tables(tables)
                    tables = []
                    rows = total_bytes = 0
        if block:
            tables.append(_decoded(b"".join(block), keys))
        self._limit(timeout)
        if tables:
            yield pa.concat_tables(tables)

    def _limit(self, timeout: str) -> None:
        """Bound the next statements of the transaction."""
        self.connection.execute("SELECT set_config('statement_timeout', %s, true)", [timeout])

    def _copy(self, keys: Sequence[str], condition: Condition) -> sql.Composed:
        columns: list[sql.Composable] = [sql.Identifier(name) for name in (*IDS, *TEXTS, *DECIMALS, *_TIMES)]
        columns += [sql.SQL("dimensions ->> {}::text").format(sql.Literal(key)) for key in keys]
        columns += [_rare(keys), sql.Identifier("dimensions")]
        return sql.SQL("COPY (SELECT {} FROM {} WHERE {}) TO STDOUT (FORMAT csv)").format(
            sql.SQL(", ").join(columns), identifier(self.table), self._all(condition)
        )

    def _all(self, condition: Condition) -> sql.Composed:
        """The organization's events with times from 1970 to 2200 that pass a condition."""
        return sql.SQL(
            "organization_id = {} AND {} AND ingested_at >= {} AND ingested_at < {} AND timestamp >= {}"
            " AND timestamp < {}"
        ).format(
            sql.Literal(self.organization_id),
            condition,
            *(sql.Literal(instant(bound)) for bound in (BEGINNING, END, BEGINNING, END)),
        )

    def _rows(self, statement: sql.SQL, condition: Condition) -> list[tuple[Any, ...]]:
        return self.connection.execute(statement.format(identifier(self.table), self._all(condition))).fetchall()

    def _row(self, statement: sql.SQL | sql.Composed) -> tuple[Any, ...]:
        row = self.connection.execute(statement).fetchone()
        assert row is not None  # noqa: S101 - a select without FROM has one row
        return row


def within(column: str, since: int | None, until: int | None) -> sql.Composable:
    """The condition of a half-open span of a time column, in microseconds since 1970."""
    bounds = [
        sql.SQL("{} {} {}").format(sql.Identifier(column), sql.SQL(operator), sql.Literal(instant(bound)))
        for operator, bound in ((">=", since), ("<", until))
        if bound is not None
    ]
    return sql.SQL(" AND ").join(bounds) if bounds else sql.SQL("true")


def _rare(keys: Sequence[str]) -> sql.Composed:
    """A JSON object with the texts of the other keys, NULL without any."""
    rest = sql.SQL("(dimensions - {}::text[])").format(sql.Literal(list(keys)))
    return sql.SQL(
        "CASE jsonb_typeof(dimensions) WHEN 'object' THEN CASE WHEN {rest} <> '{{}}' THEN"
        " (SELECT jsonb_object_agg(key, value) FROM jsonb_each_text({rest})) END END"
    ).format(rest=rest)


def _names(keys: Sequence[str]) -> list[str]:
    return [*IDS, *TEXTS, *DECIMALS, *_TIMES, *(f"d{number}" for number in range(len(keys))), "rare", "dimensions"]


def _decoded(data: bytes, keys: Sequence[str]) -> pa.Table:
    """Rows of CSV. Columns of few values are dictionaries, which take a fraction of the memory."""
    names = _names(keys)
    types = {name: pa.string() if name in _VARYING else _DICTIONARY for name in names} | dict.fromkeys(_TIMES, _INSTANT)
    rows = csv.read_csv(
        pa.BufferReader(data),  # type: ignore[arg-type] # the stubs lack it
        csv.ReadOptions(column_names=names, block_size=len(data) + 1),
        csv.ParseOptions(newlines_in_values=True),
        csv.ConvertOptions(
            column_types=types, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    for name, short in _TIMES.items():
        place = names.index(name)
        rows = rows.set_column(place, short, rows.column(place).cast(pa.int64()))
    return rows


def _decimal(text: str | None) -> Decimal | None:
    return None if text is None else Decimal(text)
