"""The refresh as a job of TimescaleDB's: the same rows as the command makes."""

from __future__ import annotations

import secrets
import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from psycopg import sql

from support.database_servers import kind
from support.partial_rollup import TABLE, Ahead
from usage_explore.db import ddl
from usage_explore.errors import ConfigurationError
from usage_explore.rollup import catalog, refresh
from usage_explore.rollup.schedule import procedure, schedule, unschedule
from usage_explore.rollup.status import verify
from usage_explore.sql.rollup_plan import floor

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
CALL = """CALL usage_events_rollup_refresh(0, '{"settle": "1 second"}')"""
WAITING = "SELECT FROM pg_locks WHERE pid = %s AND locktype = 'advisory' AND NOT granted"


def call(ahead: Ahead) -> None:
    """Run the procedure as a job would."""
    with ahead.connection.transaction():
        table = catalog.placed(ahead.connection, TABLE)
        ahead.connection.execute(procedure(ahead.connection, table))
    ahead.connection.autocommit = True
    ahead.connection.execute(CALL)
    ahead.connection.autocommit = False


def differing(ahead: Ahead) -> int:
    return verify(ahead.connection, TABLE, sample=None).differing


def test_the_procedure_makes_the_rows_that_the_command_makes(ahead: Ahead) -> None:
    now = datetime.now(UTC)
    ahead.add(*(now - number * 5 * HOUR for number in range(2, 90)))
    ahead.add(now - 3 * HOUR, ingested_at="-infinity")
    ahead.keep(none=HOUR, keys=timedelta(minutes=15), dim__model=DAY, customer_id=HOUR)
    ahead.summarize("none")
    ahead.summarize("dim:model")
    call(ahead)
    assert ahead.entry("none").watermark == floor(now - timedelta(seconds=1), HOUR)
    made = ahead.rows()
    assert differing(ahead) == 0
    ahead.connection.execute("UPDATE usage_events_rollup_kept SET watermark = NULL, days_until = NULL")
    ahead.connection.execute("DELETE FROM usage_events_rollup")
    ahead.connection.commit()
    refresh.advance(ahead.connection, TABLE, now - timedelta(seconds=1))
    assert ahead.rows() == made


@pytest.mark.parametrize("zone", ["Asia/Kathmandu", "America/Havana"])
def test_the_days_of_the_procedure_are_utcs_whatever_the_roles_clock(ahead: Ahead, zone: str) -> None:
    now = datetime.now(UTC)
    ahead.add(*(now - number * 5 * HOUR for number in range(2, 90)))
    ahead.keep(none=HOUR, dim__model=DAY)
    ahead.connection.execute(sql.SQL("SET TimeZone = {}").format(sql.Literal(zone)))
    ahead.connection.execute("SET DateStyle = German")
    ahead.connection.commit()
    call(ahead)
    ahead.connection.execute("SET DateStyle = ISO")
    ahead.connection.commit()
    for dimension in ("none", "dim:model"):
        entry = ahead.entry(dimension)
        assert entry.watermark == floor(now - timedelta(seconds=1), HOUR)
        assert entry.days_until is not None
        assert entry.days_until == floor(entry.days_until, DAY)
    assert differing(ahead) == 0


def test_the_procedure_goes_on_where_the_command_stopped(ahead: Ahead, server_url: str) -> None:
    if kind(server_url) == "citus":
        pytest.skip("Citus runs no jobs, and words what does not fit otherwise")
    now = datetime.now(UTC)
    ahead.add(*(now - number * 5 * HOUR for number in range(2, 90)))
    ahead.keep(none=HOUR, dim__model=DAY, customer_id=DAY)
    for dimension in ("none", "dim:model", "customer_id"):
        ahead.summarize(dimension)
    ahead.advance(now - 11 * DAY)
    ahead.add(now - 4 * HOUR, dimensions={"model": secrets.token_urlsafe(6_000)})
    call(ahead)
    assert differing(ahead) == 0
    assert ahead.entry("customer_id").kept is not None
    assert str(ahead.entry("dim:model").reason).startswith(catalog.UNFIT)


def test_what_the_procedure_waited_for_is_counted(ahead: Ahead) -> None:
    now = datetime.now(UTC)
    ahead.add(now - 9 * HOUR)
    ahead.keep(none=HOUR)
    ahead.advance(now - 8 * HOUR)
    ahead.connection.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'").format(
            sql.Identifier(ahead.connection.info.dbname)
        )
    )
    ahead.connection.commit()
    with psycopg.connect(ahead.url, autocommit=True) as job, ddl.connect(ahead.url) as writer:
        table = catalog.placed(ahead.connection, TABLE)
        job.execute(procedure(job, table))
        ahead.connection.commit()
        catalog.lock(writer, table)
        running = threading.Thread(target=job.execute, args=[CALL])
        running.start()
        while ahead.connection.execute(WAITING, [job.info.backend_pid]).rowcount == 0:
            ahead.connection.rollback()
            time.sleep(0.02)
        ahead.connection.rollback()
        ahead.add(now - 6 * HOUR)
        writer.commit()
        running.join()
    assert ahead.entry("none").watermark == floor(now - timedelta(seconds=1), HOUR)
    assert differing(ahead) == 0


def test_timescaledb_runs_it(ahead: Ahead) -> None:
    with ahead.connection.transaction():
        table = catalog.placed(ahead.connection, TABLE)
        there = ahead.connection.execute("SELECT FROM pg_extension WHERE extname = 'timescaledb'").fetchone()
    if there is None:
        with pytest.raises(ConfigurationError, match="--schedule: this database has no TimescaleDB"):
            schedule(ahead.connection, table, 5 * timedelta(minutes=1), timedelta(0))
        pytest.skip("no TimescaleDB here; USAGE_EXPLORE_TEST_DATABASE_URL may name one")
    now = datetime.now(UTC)
    ahead.add(*(now - number * 5 * HOUR for number in range(2, 9)))
    ahead.keep(none=HOUR)
    for _ in range(2):
        job = schedule(ahead.connection, table, timedelta(hours=1), timedelta(0))
    ahead.connection.autocommit = True
    ahead.connection.execute("CALL run_job(%s)", [job])
    ahead.connection.autocommit = False
    assert ahead.entry("none").watermark is not None
    assert differing(ahead) == 0
    assert unschedule(ahead.connection, table)
    assert not unschedule(ahead.connection, table)
