"""Two tables that record which demo data a database has: one row for each day, one for each planted incident.

They are in the connection's default schema, with the name of the events table in a column. They are written in the
transaction that adds the events, so an interrupted process leaves whole days and a correct ledger.
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
    """Create both tables where missing; concurrent calls wait for each other."""
    connection.execute("SELECT pg_advisory_xact_lock(hashtext('usage-explore demo'))")
    connection.execute(_CREATE)


def lock(connection: Connection) -> None:
    """Let other demos wait until the transaction ends; readers do not wait."""
    connection.execute("LOCK TABLE usage_explore_demo IN SHARE ROW EXCLUSIVE MODE")


def loaded(connection: Connection, events_table: str) -> dict[date, datetime]:
    """Day -> the instant up to which its arrivals are in the events table."""
    rows = connection.execute(
        "SELECT day, loaded_until FROM usage_explore_demo WHERE events_table = %s", [events_table]
    )
    return dict(rows)


def made_with(connection: Connection, events_table: str) -> tuple[int, int] | None:
    """(seed, per_day) of the demo in the events table; None without a demo."""
    row = connection.execute(
        "SELECT seed, per_day FROM usage_explore_demo WHERE events_table = %s LIMIT 1", [events_table]
    ).fetchone()
    return None if row is None else (row[0], row[1])


def forget(connection: Connection, events_table: str) -> None:
    """Delete the rows of an events table that was emptied or recreated."""
    for table in (DAYS_TABLE, INCIDENTS_TABLE):
        connection.execute(
            sql.SQL("DELETE FROM {} WHERE events_table = %s").format(sql.Identifier(table)),
            [events_table],
        )


def record_day(
    connection: Connection, events_table: str, day: date, *, seed: int, per_day: int, until: datetime, events: int
) -> None:
    """Record that the day's arrivals up to `until` are in the table, `events` in number."""
    connection.execute(
        "INSERT INTO usage_explore_demo (events_table, day, seed, per_day, loaded_until, events)"
        " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (events_table, day)"
        " DO UPDATE SET loaded_until = excluded.loaded_until, events = excluded.events",
        [events_table, day, seed, per_day, until, events],
    )


def record_incident(connection: Connection, events_table: str, incident: Incident) -> None:
    """Record an incident, or the number of its events that have arrived since."""
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
        (exists,) = cursor.execute("SELECT to_regclass(%s) IS NOT NULL", [INCIDENTS_TABLE]).fetchone() or (False,)
    if not exists:
        return []
    with connection.cursor(row_factory=class_row(Incident)) as cursor:
        cursor.execute(
            "SELECT kind, day, organization_id, customer_id, metric_key, starts, ends, events, sentence"
            " FROM usage_explore_demo_incidents ORDER BY starts, kind, events_table"
        )
        return cursor.fetchall()
