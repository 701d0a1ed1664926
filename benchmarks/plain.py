"""The plain statement that a dashboard's panel sends: bucket, group, filters and values written in, nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from benchmarks.questions import Paged, Picked
from usage_explore import AggregateQuery, EventQuery

TABLE = "usage_events"


class Dialect(Protocol):
    """How an engine's SQL says what differs between engines."""

    def bucket(self, size: str, zone: str) -> str: ...

    def instant(self, at: datetime) -> str: ...

    def dimension(self, key: str) -> str: ...


@dataclass(frozen=True)
class Postgres:
    """PostgreSQL as Grafana, Metabase and Superset speak it."""

    def bucket(self, size: str, zone: str) -> str:
        return f"date_trunc('{size}', timestamp, '{zone}')"

    def instant(self, at: datetime) -> str:
        return f"'{at.isoformat()}'"

    def dimension(self, key: str) -> str:
        return f"dimensions ->> '{key}'"


def aggregate(query: AggregateQuery, dialect: Dialect) -> str:
    """All groups, neither ranked nor folded, empty buckets left out: columns `time`, `key` and `value`."""
    key = "NULL" if query.group_by == "none" else _group(query.group_by, dialect)
    value = "count(*)" if query.metric == "count" else "sum(quantity)"
    by = "1" if query.group_by == "none" else "1, 2"
    return (
        f"SELECT {dialect.bucket(query.bucket, query.timezone)} AS time, {key} AS key, {value} AS value"
        f" FROM {TABLE} WHERE {_span(query, dialect)} GROUP BY {by} ORDER BY {by}"
    )


def _span(query: AggregateQuery, dialect: Dialect) -> str:
    """The condition of a resolved query: its filters and its window."""
    since, until = query.span
    where = _where(query, dialect)
    return " AND ".join([*where, f"timestamp >= {dialect.instant(since)}", f"timestamp < {dialect.instant(until)}"])


def board(query: AggregateQuery, group: str, dialect: Dialect) -> str:
    """All values of a group with their number of events: columns `key` and `value`."""
    key = _group(group, dialect)
    return f"SELECT {key} AS key, count(*) AS value FROM {TABLE} WHERE {_span(query, dialect)} GROUP BY 1"


def boards(query: AggregateQuery, groups: tuple[str, ...], dialect: Dialect) -> str:
    """All values of several groups in one statement: columns `board` (the bits of `grouping`), `key` and `value`."""
    names = [f"g{number}" for number in range(len(groups))]
    columns = ", ".join(f"{_group(group, dialect)} AS {name}" for group, name in zip(groups, names, strict=True))
    key = f"coalesce({', '.join(f'{name}::VARCHAR' for name in names)})"
    return (
        f"SELECT grouping({', '.join(names)}) AS board, {key} AS key, count(*) AS value"
        f" FROM (SELECT {columns} FROM {TABLE} WHERE {_span(query, dialect)})"
        f" GROUP BY GROUPING SETS ({', '.join(f'({name})' for name in names)})"
    )


def board_number(bits: int, groups: int) -> int:
    """The index of the group that a row of `boards` is grouped by: its bit is 0, the first group's is the highest."""
    return groups - ((1 << groups) - 1 - bits).bit_length()


def page(asked: Paged, dialect: Dialect) -> str:
    """A page by OFFSET, as a table panel has it."""
    return (
        f"SELECT * FROM {TABLE} WHERE {' AND '.join(_where(asked.query, dialect))}"
        f" ORDER BY timestamp DESC, id DESC LIMIT {asked.query.limit} OFFSET {asked.depth}"
    )


def values(asked: Picked, organization_id: object, dialect: Dialect) -> str:
    """The values of a group with their number of events."""
    group = "jsonb_object_keys(dimensions)" if asked.group == "keys" else _group(asked.group, dialect)
    return (
        f"SELECT value, count(*) FROM (SELECT {group} AS value FROM {TABLE}"
        f" WHERE organization_id = '{organization_id}') AS v WHERE value IS NOT NULL GROUP BY 1 ORDER BY 2 DESC, 1"
        " LIMIT 1000"
    )


def _where(query: AggregateQuery | EventQuery, dialect: Dialect) -> list[str]:
    found = [f"organization_id = '{query.organization_id}'"]
    if query.customer_id:
        found.append(f"customer_id = '{query.customer_id}'")
    if query.metric_key:
        found.append(f"metric_key IN ({', '.join(map(repr, query.metric_key))})")
    for key, wanted in query.dimensions:
        found.append(f"{dialect.dimension(key)} IN ({', '.join(map(repr, wanted))})")
    for group, values in query.exclude:
        column = _group(group, dialect)
        found.append(f"({column} IS NULL OR {column} NOT IN ({', '.join(map(repr, values))}))")
    if query.as_of:
        found.append(f"ingested_at <= {dialect.instant(query.as_of)}")
    return found


def _group(name: str, dialect: Dialect) -> str:
    return dialect.dimension(name.removeprefix("dim:")) if name.startswith("dim:") else name
