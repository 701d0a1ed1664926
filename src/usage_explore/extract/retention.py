"""Since when events exist, where older ones have been removed: by a retention policy of TimescaleDB, or by DELETE.

A policy is in TimescaleDB's catalog. That events were deleted shows where an extract has older ones than the table.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError

from usage_explore.extract.manifest import Manifest, instant, micros
from usage_explore.query.base import Query, Windowed
from usage_explore.query.queries import EventQuery
from usage_explore.sql import filters
from usage_explore.sql.identifiers import quoted

_POLICY = text("""
SELECT p.age, (
    SELECT min(k.range_start) FROM timescaledb_information.chunks k
    WHERE (k.hypertable_schema, k.hypertable_name) = (p.hypertable_schema, p.hypertable_name)
      AND k.range_end > p.ran - p.age
) AS kept_since
FROM (
    SELECT j.hypertable_schema, j.hypertable_name, (j.config ->> 'drop_after'::text)::interval AS age,
           nullif(s.last_successful_finish, '-infinity') AS ran
    FROM timescaledb_information.jobs j
    JOIN pg_class c ON c.relname = j.hypertable_name
    JOIN pg_namespace n ON n.oid = c.relnamespace AND n.nspname = j.hypertable_schema
    LEFT JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
    WHERE j.proc_name = 'policy_retention' AND c.oid = to_regclass(:events)::oid
) AS p
""")
"""The age from which events are removed, and the start of the oldest chunk that the last run did not remove."""

_MAX_AGE_SECONDS = 60.0
"""Seconds after which a policy is looked up again: it may be new, or have run."""

_HAS_TIMESCALEDB = text("SELECT to_regclass('timescaledb_information.jobs') IS NOT NULL")


def exists_since(
    connection: Connection,
    table: Table,
    query: Query,
    now: datetime,
    extract: Manifest | None,
    first: datetime | None = None,
) -> datetime | None:
    """The start of the events that exist, if older ones were removed and the query's window begins before; else None.

    That is what a refresh found, see `Manifest`; before it, and under a policy, the time of the first event: `first`,
    where it is known already.
    """
    since = window_start(query)
    if since is None:
        return None
    policy = _policy(connection, table)
    by_policy = policy is not None and since < now - policy.age
    if not by_policy and extract is None:
        return None
    kept_since = policy.kept_since if by_policy and policy else None  # an event before then came after the others left
    if first is None or (kept_since is not None and first < kept_since):
        everything = EventQuery(organization_id=query.organization_id, occurred_after=kept_since)
        first = connection.execute(filters.first(table, everything)).scalar_one()
    if first is None:
        return now if by_policy else None
    if not by_policy and (extract is None or not _had_older(extract, first)):
        return None
    if extract is not None and extract.removed_before is not None:
        removed_before = instant(extract.removed_before)  # an event before then came after the others were removed
        is_seen = not any(segment.first < micros(first) for segment in extract.segments)
        is_known = is_seen and extract.removed_rows and (not by_policy or first < removed_before + timedelta(days=1))
        first = removed_before if is_known else max(first, removed_before)
    return first if since < first else None


def removed_by_policy(connection: Connection, table: Table, query: Query, now: datetime) -> datetime | None:
    """The time before which a retention policy removes events of the query's window; None if none does.

    That is the start of the oldest chunk that its last run left, or where its age ends if no run is noted.
    """
    since, policy = window_start(query), _policy(connection, table)
    if since is None or policy is None:
        return None
    until = policy.kept_since or now - policy.age
    return until if since < until else None


def events_begin(
    connection: Connection, table: Table, query: Query, exists_since: Callable[[Query], datetime | None]
) -> datetime | None:
    """The time of the organization's first event known at the query's `as_of`, None without one.

    Where older ones were removed, of the first that was not: an event before it came late, and others are missing.
    """
    every = EventQuery(organization_id=query.organization_id, as_of=query.as_of)
    first: datetime | None = connection.execute(filters.first(table, every)).scalar_one()
    return first and (exists_since(every.replace(occurred_after=first)) or first)


def window_start(query: Query) -> datetime | None:
    """The start of the query's window, None if it is open."""
    if isinstance(query, Windowed):
        return query.span[0]
    return query.occurred_after if isinstance(query, EventQuery) else None


def _had_older(extract: Manifest, first: datetime) -> bool:
    """Whether the extract has, or had, events older than the table's first one."""
    return extract.removed_before is not None or any(segment.first < micros(first) for segment in extract.segments)


def sentence(boundary: datetime) -> str:
    """What an answer says whose window begins before the events that still exist."""
    return (
        f"Events before {boundary:%Y-%m-%d %H:%M} UTC have been removed from the table, so numbers before then are too"
        " small or 0"
    )


class _Policy(NamedTuple):
    """The age from which a policy removes events; since when there are all of them, if the policy has run."""

    age: timedelta
    kept_since: datetime | None


def _policy(connection: Connection, table: Table) -> _Policy | None:
    """The table's retention policy; looked up once in `_MAX_AGE_SECONDS` for each connection and table."""
    known: dict[str, tuple[float, _Policy | None]] = connection.info.setdefault("retention", {})
    at, policy = known.get(table.fullname, (-_MAX_AGE_SECONDS, None))
    if time.monotonic() - at >= _MAX_AGE_SECONDS:
        policy = _looked_up(connection, table)
        known[table.fullname] = time.monotonic(), policy
    return policy


def _looked_up(connection: Connection, table: Table) -> _Policy | None:
    try:
        with connection.begin_nested():
            if not connection.execute(_HAS_TIMESCALEDB).scalar_one():
                return None
            row = connection.execute(_POLICY, {"events": quoted(table.name, table.schema)}).first()
    except DBAPIError:  # a role that may not read the catalog, or an interval with months that Python cannot hold
        return None
    return _Policy(*row) if row is not None and row.age is not None else None
