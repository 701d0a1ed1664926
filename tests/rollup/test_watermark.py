"""The watermark stays behind every transaction that may still commit, and says which."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import sql

from usage_explore.db import ddl
from usage_explore.rollup import watermark

NO_SETTLING = timedelta(0)


def began(connection: ddl.Connection) -> object:
    row = connection.execute("SELECT now()").fetchone()
    assert row is not None
    return row[0]


def test_an_open_transaction_holds_it_back(events_connection: ddl.Connection, events_database_url: str) -> None:
    with ddl.connect(events_database_url) as writer:
        since = began(writer)
        time.sleep(1.1)  # longer than the least settle time
        found = watermark.safe(events_connection, NO_SETTLING)
        assert (found.until, found.since, found.pid) == (since, since, writer.info.backend_pid)
        assert f"by pid {writer.info.backend_pid}" in str(found)
        writer.commit()
        found = watermark.safe(events_connection, NO_SETTLING)
        assert found.until is not None
        assert (found.since, found.until > since) == (None, True)


def test_it_stays_behind_the_settle_time(events_connection: ddl.Connection) -> None:
    now = began(events_connection)
    events_connection.commit()
    found = watermark.safe(events_connection, timedelta(minutes=5))
    assert found.until is not None
    assert timedelta(0) <= found.until + timedelta(minutes=5) - now < timedelta(minutes=1)


def test_another_roles_transaction_is_seen_by_who_may(
    events_connection: ddl.Connection, events_database_url: str, other_role: str
) -> None:
    role = urlsplit(other_role).username or ""
    events_connection.execute(sql.SQL("GRANT pg_read_all_stats TO {}").format(sql.Identifier(role)))
    events_connection.commit()
    since = began(events_connection)
    time.sleep(1.1)
    with psycopg.connect(other_role) as connection:
        assert watermark.safe(connection, NO_SETTLING).until == since


def test_another_roles_transaction_is_waited_for_by_who_may_not(
    events_connection: ddl.Connection, other_role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    since = began(events_connection)
    with psycopg.connect(other_role) as connection:
        with monkeypatch.context() as patch:
            patch.setattr(watermark, "_PATIENCE", 0.3)
            held = watermark.safe(connection, NO_SETTLING)
        assert (held.until, held.hidden) == (None, (events_connection.info.backend_pid,))
        assert "GRANT pg_read_all_stats" in str(held)
        threading.Timer(0.5, events_connection.commit).start()
        found = watermark.safe(connection, NO_SETTLING)
    assert found.until is not None
    assert found.until >= since - watermark.LEAST_SETTLE
