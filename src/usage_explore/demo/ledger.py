"""What of the demo a database already holds: one row for each day, one for each planted incident.

Both tables live in the connection's default schema and name the events table they speak of. They are written in the
same transaction as the events, so a process killed half-way leaves whole days and a true ledger.
"""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import psycopg
from psycopg import sql
from psycopg.rows import class_row

from usage_explore.demo.planted_incidents import Incident

Connection = psycopg.Connection[tuple[Any, ...]]

DAYS_TABLE = "usage_explore_demo"
INCIDENTS_TABLE = "usage_explore_demo_incidents"

_CREATE = """
CREATE TABLE IF NOT EXISTS usage_explore_demo (
    events_table text NOT NULL,
    day date NOT NULL,
    seed bigint NOT NULL,
    per_day integer NOT NULL,
    loaded_until timestamptz NOT NULL,
    events bigint NOT NULL,
    PRIMARY KEY (events_table, day)
);
CREATE TABLE IF NOT EXISTS usage_explore_demo_incidents (
    events_table text NOT NULL,
    kind text NOT NULL,
    day date NOT NULL,
    organization_id uuid NOT NULL,
    customer_id uuid,
    metric_key text,
    starts timestamptz NOT NULL,
    ends timestamptz NOT NULL,
    events bigint NOT NULL,
    sentence text NOT NULL,
    PRIMARY KEY (events_table, kind, day)
);
"""


def create(connection: Connection) -> None:
    """Create both tables when missing; safe when several processes do it at once."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('usage-explore demo'))")
    connection.execute(_CREATE)


def lock(connection: Connection) -> None:
    """Keep other demos out until the transaction ends; readers are not held up."""
    connection.execute("LOCK TABLE usage_explore_demo IN SHARE ROW EXCLUSIVE MODE")


def loaded(connection: Connection, events_table: str) -> dict[date, datetime]:
    """Until when each day's arrivals are in the events table."""
    rows = connection.execute(
        "SELECT day, loaded_until FROM usage_explore_demo WHERE events_table = %s", [events_table]
    )
    return dict(rows)


def made_with(connection: Connection, events_table: str) -> tuple[int, int] | None:
    """The (seed, per_day) that the days in the events table were made with; None without a demo."""
    row = connection.execute(
        "SELECT seed, per_day FROM usage_explore_demo WHERE events_table = %s LIMIT 1", [events_table]
    ).fetchone()
    return None if row is None else (row[0], row[1])


def forget(connection: Connection, events_table: str) -> None:
    """Start anew, for an events table that was emptied or made again."""
    for table in (DAYS_TABLE, INCIDENTS_TABLE):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE events_table = %s").format(sql.Identifier(table)),
            [events_table],
        )


def record_day(
    connection: Connection, events_table: str, day: date, *, seed: int, per_day: int, until: datetime, events: int
) -> None:
    """Note that all of the day's arrivals up to `until` are in the table, `events` in number so far."""
    connection.execute(
        "INSERT INTO usage_explore_demo (events_table, day, seed, per_day, loaded_until, events)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (events_table, day)"
        " DO UPDATE SET loaded_until = excluded.loaded_until, events = excluded.events",
        [events_table, day, seed, per_day, until, events],
    )


def record_incident(connection: Connection, events_table: str, incident: Incident) -> None:
    """Note an incident, or how many more of its events have arrived."""
    connection.execute(
        "INSERT INTO usage_explore_demo_incidents (events_table, kind, day, organization_id, customer_id,"
        " metric_key, starts, ends, events, sentence) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)"
        " ON CONFLICT (events_table, kind, day) DO UPDATE SET events = excluded.events",
        [
            events_table,
            incident.kind,
            incident.day,
            incident.organization_id,
            incident.customer_id,
            incident.metric_key,
            incident.starts,
            incident.ends,
            incident.events,
            incident.sentence,
        ],
    )


def incidents(connection: Connection) -> list[Incident]:
    """The incidents planted in this database's demo data, oldest first; empty without a demo."""
    with connection.cursor() as cursor:
        (found,) = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [INCIDENTS_TABLE]).fetchone() or (False,)
    if not found:
        return []
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(
            "SELECT kind, day, organization_id, customer_id, metric_key, starts, ends, events, sentence"
            " FROM usage_explore_demo_incidents ORDER BY starts, kind, events_table"
        )
        return cursor.fetchall()
