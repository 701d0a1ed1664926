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
    since, until = query.span
    where = _where(query, dialect)
    where += [f"timestamp >= {dialect.instant(since)}", f"timestamp < {dialect.instant(until)}"]
    key = "NULL" if query.group_by == "none" else _group(query.group_by, dialect)
    value = "count(*)" if query.metric == "count" else "sum(quantity)"
    by = "1" if query.group_by == "none" else "1, 2"
    return (
        f"SELECT {dialect.bucket(query.bucket, query.timezone)} AS time, {key} AS key, {value} AS value"
        f" FROM {TABLE} WHERE {' AND '.join(where)} GROUP BY {by} ORDER BY {by}"
    )


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
    if query.as_of:
        found.append(f"ingested_at <= {dialect.instant(query.as_of)}")
    return found


def _group(name: str, dialect: Dialect) -> str:
    return dialect.dimension(name.removeprefix("dim:")) if name.startswith("dim:") else name
