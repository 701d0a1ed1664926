"""The refresh as a job in the database, where TimescaleDB runs jobs: a procedure of the same SQL that Python sends.

It goes on with what is kept, a day and a dimension at a time. Choosing what is kept, and mending what changed behind
the watermark, stay with `usage-explore rollup`.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta

from psycopg import sql
from sqlalchemy import Table

from usage_explore.db import timescale
from usage_explore.db.ddl import Connection
from usage_explore.errors import ConfigurationError
from usage_explore.rollup import catalog, watermark
from usage_explore.rollup.catalog import fill, merge
from usage_explore.rollup.refresh import BY_THE_HOUR
from usage_explore.sql.identifiers import identifier
from usage_explore.sql.rollup_plan import SUMMARY, kept_table, rollup_table

_PROCEDURE = """
CREATE OR REPLACE PROCEDURE {procedure} (job_id integer, config jsonb) LANGUAGE plpgsql AS $procedure$
DECLARE
    _settle interval := greatest((config ->> 'settle')::interval, {least});
    _target timestamptz;
    _kept record;
    _line record;
    _mark timestamptz;
    _end timestamptz;
    _days timestamptz;
    _owners uuid[]; _dimensions text[]; _grains interval[]; _since timestamptz[]; _until timestamptz[];
    _days_until timestamptz[]; _summaries boolean[]; _organizations uuid[]; _first timestamptz; _last timestamptz;
BEGIN
    PERFORM set_config('default_transaction_isolation', 'read committed', false);
    PERFORM set_config('TimeZone', 'UTC', false);  -- days are as long as UTC's, whatever the role's clock
    COMMIT;  -- from here on, who waits for a turn sees what was done meanwhile
    SELECT date_bin('1 hour', least(o.now - _settle, o.since), '1970-01-01Z') INTO _target
    FROM ({oldest}) AS o (now, since, pid, role);
    IF EXISTS ({hidden}) THEN
        RAISE WARNING 'transactions of other roles are open: GRANT pg_read_all_stats TO %', current_user;
        RETURN;
    END IF;
    FOR _kept IN SELECT organization_id, dimension FROM {kept} WHERE grain IS NOT NULL AND organization_id <> {every}
    LOOP
        LOOP
            PERFORM {lock};
            SELECT k.grain, k.watermark, k.days_until, k.summary INTO _line FROM {kept} k
            WHERE k.organization_id = _kept.organization_id AND k.dimension = _kept.dimension;
            EXIT WHEN _line.grain IS NULL OR _line.watermark >= _target;
            _mark := coalesce(_line.watermark, '-infinity');
            _end := coalesce((SELECT e.ingested_at FROM {events} e
                              WHERE e.organization_id = _kept.organization_id AND e.ingested_at >= _mark
                              ORDER BY e.ingested_at LIMIT 1), _target);
            _end := least(date_bin('1 day', least(greatest(_end, '1970-01-01Z'), _target), '1970-01-01Z')
                          + interval '1 day', _target);
            _days := least(date_bin('1 day', _end, '1970-01-01Z'), date_bin('1 day', _target, '1970-01-01Z')
                           - CASE WHEN _line.grain = interval '1 day' THEN interval '0' ELSE {by_the_hour} END);
            _days := greatest(_days, _line.days_until);
            _owners := ARRAY[_kept.organization_id];
            _organizations := _owners;
            _dimensions := ARRAY[_kept.dimension];
            _grains := ARRAY[_line.grain];
            _since := ARRAY[_mark];
            _until := ARRAY[_end];
            _days_until := ARRAY[_days];
            _summaries := ARRAY[_line.summary];
            _first := _mark;
            _last := _end;
            BEGIN
                {fill};
                IF _line.days_until < least(_line.watermark, _days) THEN
                    _since := ARRAY[_line.days_until];
                    _until := _days_until;
                    {merge};
                END IF;
                UPDATE {kept} k SET watermark = _end, days_until = _days
                WHERE k.organization_id = _kept.organization_id AND k.dimension = _kept.dimension;
            EXCEPTION WHEN program_limit_exceeded OR data_exception THEN
                DELETE FROM {rows} r
                WHERE r.organization_id = _kept.organization_id
                  AND r.dimension IN (_kept.dimension, {summary} || _kept.dimension);
                UPDATE {kept} k SET grain = NULL, watermark = NULL, days_until = NULL, reason = {unfit} || SQLERRM
                WHERE k.organization_id = _kept.organization_id AND k.dimension = _kept.dimension;
            END;
            COMMIT;
        END LOOP;
        COMMIT;
    END LOOP;
END
$procedure$
"""

_JOBS = "SELECT job_id FROM timescaledb_information.jobs WHERE proc_schema = %s AND proc_name = %s ORDER BY 1"


def schedule(connection: Connection, events: Table, every: timedelta, settle: timedelta) -> int:
    """Let the database refresh the rollup, which must be there, `every` so often; the job's number.

    An earlier job makes room for the new one. It runs as this role, which needs `pg_read_all_stats` to see since when
    others' transactions are open. Raises `ConfigurationError` where there is no TimescaleDB, `TableMismatch` where the
    role may not see every event.
    """
    with connection.transaction():
        _check(connection)
        watermark.check_visible(connection, events)
        unschedule(connection, events)
        connection.execute(procedure(connection, events))
        row = connection.execute(
            sql.SQL("SELECT {}.add_job({}::regproc, %s, config => %s)").format(
                timescale.extension(connection),
                sql.Literal(identifier(events, _procedure(events)).as_string(connection)),
            ),
            [every, json.dumps({"settle": f"{settle.total_seconds()} seconds"})],
        ).fetchone()
    assert row is not None  # noqa: S101 - a select without FROM has one row
    return int(row[0])


def unschedule(connection: Connection, events: Table) -> bool:
    """Take the job and its procedure away; True if there was one."""
    with connection.transaction():
        if not _is_there(connection):
            return False
        jobs = connection.execute(_JOBS, [events.schema, _procedure(events)]).fetchall()
        for (job,) in jobs:
            connection.execute(sql.SQL("SELECT {}.delete_job(%s)").format(timescale.extension(connection)), [job])
        connection.execute(
            sql.SQL("DROP PROCEDURE IF EXISTS {} (integer, jsonb)").format(identifier(events, _procedure(events)))
        )
    return bool(jobs)


def procedure(connection: Connection, events: Table) -> sql.Composed:
    """CREATE PROCEDURE, from the SQL that refreshing, rebuilding and verifying share."""

    def inlined(statement: sql.Composed | sql.SQL) -> sql.SQL:
        """The statement with the procedure's variables where it takes parameters."""
        return sql.SQL(re.sub(r"%\((\w+)\)s", r"_\1", statement.as_string(connection)).replace("%%", "%"))

    return sql.SQL(_PROCEDURE).format(
        procedure=identifier(events, _procedure(events)),
        least=sql.Literal(watermark.LEAST_SETTLE),
        oldest=inlined(sql.SQL(watermark.OLDEST)),
        hidden=inlined(sql.SQL(watermark.HIDDEN)),
        lock=inlined(catalog.lock_call(connection, events)),
        every=sql.Literal(catalog.EVERY),
        unfit=sql.Literal(catalog.UNFIT),
        summary=sql.Literal(SUMMARY),
        events=identifier(events),
        rows=identifier(rollup_table(events)),
        kept=identifier(kept_table(events)),
        merge=inlined(merge(events)),
        by_the_hour=sql.Literal(BY_THE_HOUR),
        fill=inlined(fill(events)),
    )


def _check(connection: Connection) -> None:
    if not _is_there(connection):
        raise ConfigurationError(
            "--schedule: this database has no TimescaleDB to run jobs; use --every in a service of its own, or cron"
        )


def _procedure(events: Table) -> str:
    return f"{events.name}_rollup_refresh"


def _is_there(connection: Connection) -> bool:
    row = connection.execute("SELECT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')").fetchone()
    return bool(row and row[0])
