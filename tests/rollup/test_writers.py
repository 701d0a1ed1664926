"""Whoever writes, and whatever the database does to what is written: the rollup counts what the table holds."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from psycopg import sql

from support.database_servers import kind
from support.partial_rollup import ORGANIZATION, TABLE, Ahead
from support.query_oracle import utc
from support.timescale_layouts import without_columnstore
from usage_explore import AggregateQuery, Store
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.errors import TableMismatch
from usage_explore.load import load_files, staging
from usage_explore.rollup import catalog, refresh, refresh_run
from usage_explore.rollup.status import verify
from usage_explore.sql.rollup_plan import floor

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
FIRST = utc(2026, 3, 1)

MEANWHILE = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def old_file(folder: Path) -> Path:
    path = folder / "old.csv"
    path.write_text(
        "customer_id,metric_key,quantity,timestamp,ingested_at\n"
        f"{ORGANIZATION},tokens,1,2026-03-01T05:00:00Z,2026-03-01T05:00:00Z\n"
    )
    return path


def differing(ahead: Ahead) -> int:
    return verify(ahead.connection, TABLE, sample=None).differing


def total(store: Store) -> object:
    return store.aggregate(AggregateQuery(since=FIRST, until=FIRST + DAY, bucket="hour")).total


def test_a_rollup_that_is_first_made_during_a_load_of_history_holds_it(
    ahead: Ahead, fast: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.add(FIRST)

    def first_made() -> None:
        with ddl.connect(ahead.url) as connection:
            catalog.create(connection, TABLE)
            refresh_run.set_overrides(connection, TABLE, {"none": HOUR}, None)
            refresh.advance(connection, TABLE, FIRST + 20 * DAY)

    maker = threading.Thread(target=first_made)
    write = staging.Stage.write

    def written(stage: staging.Stage, settle: timedelta) -> staging.Written:
        found = write(stage, settle)
        maker.start()
        with ddl.connect(ahead.url) as looking:
            while maker.is_alive() and looking.execute(MEANWHILE).fetchone() == (0,):
                looking.rollback()
                time.sleep(0.02)
        return found

    monkeypatch.setattr(staging.Stage, "write", written)
    load_files(ahead.connection, TABLE, [old_file(tmp_path)], organization_id=ORGANIZATION)
    maker.join()
    assert differing(ahead) == 0
    assert total(fast) == 2


def test_what_a_trigger_makes_of_a_loaded_row_is_what_counts(ahead: Ahead, fast: Store, tmp_path: Path) -> None:
    if kind(ahead.url) == "citus":
        pytest.skip("Citus takes no triggers on distributed tables")
    ahead.add(FIRST)
    ahead.keep(none=HOUR)
    ahead.advance(FIRST + 20 * DAY)
    ahead.connection.execute(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.ingested_at := now(); RETURN NEW; END $$"
    )
    ahead.connection.execute("CREATE TRIGGER stamp BEFORE INSERT ON usage_events FOR EACH ROW EXECUTE FUNCTION stamp()")
    ahead.connection.commit()
    load_files(ahead.connection, TABLE, [old_file(tmp_path)], organization_id=ORGANIZATION)
    assert differing(ahead) == 0
    assert total(fast) == 2


def test_a_role_that_sees_a_part_of_the_events_cannot_count_them(ahead: Ahead, fast: Store, other_role: str) -> None:
    role = sql.Identifier(urlsplit(other_role).username or "")
    without_columnstore(ahead.connection)
    ahead.add(datetime.now(UTC) - DAY, number=3)
    ahead.keep(none=HOUR)
    refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0))
    ahead.connection.execute("ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY")
    ahead.connection.execute("CREATE POLICY large ON usage_events USING (quantity > 5)")
    for table in ("usage_events", "usage_events_rollup", "usage_events_rollup_kept"):
        ahead.connection.execute(sql.SQL("ALTER TABLE {} OWNER TO {}").format(sql.Identifier(table), role))
    ahead.connection.execute("ALTER TABLE usage_events FORCE ROW LEVEL SECURITY")
    ahead.connection.execute(sql.SQL("GRANT ALL ON SCHEMA public TO {}").format(role))
    ahead.connection.commit()
    with ddl.connect(other_role) as connection:
        with pytest.raises(TableMismatch, match="row-level security"):
            refresh_run.refresh(connection, TABLE, settle=timedelta(0))
        with pytest.raises(TableMismatch, match="row-level security"):
            refresh.renew(connection, TABLE, None, None)
    assert differing(ahead) == 0
    assert fast.aggregate(AggregateQuery()).total == 3


def test_events_without_a_time_of_ingestion_are_not_counted_ahead(ahead: Ahead) -> None:
    ahead.add(FIRST, FIRST + HOUR)
    ahead.connection.execute(
        "CREATE VIEW undated AS SELECT id, organization_id, customer_id, product_id, subscription_id, metric_key,"
        " price_key, quantity, timestamp, nullif(ingested_at, '2026-03-01') AS ingested_at, idempotency_key,"
        " external_cost_amount, external_cost_currency, wallet_currency, dimensions FROM usage_events"
    )
    ahead.connection.commit()
    with pytest.raises(TableMismatch, match="ingested_at is NULL"):
        refresh_run.refresh(ahead.connection, events_table("undated"), settle=timedelta(0))


def test_an_organization_whose_id_is_all_zeros_decides_for_no_other(ahead: Ahead, fast: Store) -> None:
    ahead.add(FIRST, number=200)
    ahead.add(FIRST, organization_id=catalog.EVERY, dimensions={"model": "x" * 900})
    refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0))
    with ahead.connection.transaction():
        assert catalog.wishes(ahead.connection, TABLE) == []
    assert ahead.entry("dim:model").grain is not None
    nobody = replace(fast, organization_id=catalog.EVERY).aggregate(AggregateQuery(since=FIRST, until=FIRST + DAY))
    assert (nobody.total, nobody.served.path) == (1, "events")


def test_a_change_is_mended_while_all_events_are_counted_anew(ahead: Ahead) -> None:
    today = floor(datetime.now(UTC), DAY)
    ahead.add(*(today - number * 12 * HOUR for number in range(1, 10)))
    ahead.keep(none=HOUR, dim__model=DAY)
    refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0))
    ahead.add(today - 2 * DAY)
    ahead.keep(none=timedelta(minutes=15))
    assert refresh_run.refresh(ahead.connection, TABLE, settle=timedelta(0)).mended == 1
    assert differing(ahead) == 0


def test_a_database_that_repeats_reads_by_default_changes_nothing(
    ahead: Ahead, fast: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ahead.add(FIRST)
    ahead.keep(none=HOUR)
    ahead.advance(FIRST + HOUR)
    ahead.connection.execute(
        sql.SQL("ALTER DATABASE {} SET default_transaction_isolation = 'repeatable read'").format(
            sql.Identifier(ahead.connection.info.dbname)
        )
    )
    ahead.connection.commit()
    write = staging.Stage.write

    def refreshed_meanwhile(stage: staging.Stage, settle: timedelta) -> staging.Written:
        ahead.advance(FIRST + 20 * DAY)
        return write(stage, settle)

    monkeypatch.setattr(staging.Stage, "write", refreshed_meanwhile)
    with ddl.connect(ahead.url) as connection:
        load_files(connection, TABLE, [old_file(tmp_path)], organization_id=ORGANIZATION)
    assert differing(ahead) == 0
    assert total(fast) == 2
