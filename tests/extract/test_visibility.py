"""An extract is read only while the policies of row-level security are those that its rows were read under."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import pytest
from psycopg import sql

from extract.small_extract import HOUR, NOON, ORGANIZATION, Extract, event
from support.database_servers import drop_role
from support.timescale_layouts import without_columnstore
from usage_explore import AggregateQuery, connect
from usage_explore.db import ddl

LATER = NOON + HOUR
QUERY = AggregateQuery(window="2026-10", metric="count")


@pytest.fixture
def readers(events_database_url: str, events_connection: ddl.Connection) -> Iterator[tuple[str, str]]:
    """Two roles of whom row-level security shows the first the events of a metric."""
    names = f"reader_{uuid4().hex[:8]}", f"other_{uuid4().hex[:8]}"
    without_columnstore(events_connection)
    for name in names:
        for statement in ("CREATE ROLE {} LOGIN", "GRANT SELECT ON usage_events TO {}"):
            events_connection.execute(sql.SQL(statement).format(sql.Identifier(name)))
    events_connection.execute("ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY")
    policy = "CREATE POLICY shown ON usage_events FOR SELECT TO {} USING (metric_key = 'tokens')"
    events_connection.execute(sql.SQL(policy).format(sql.Identifier(names[0])))
    events_connection.commit()
    yield names
    events_connection.rollback()
    for name in names:
        drop_role(events_database_url, name)


def test_changed_policies_are_noticed_at_once(
    readers: tuple[str, str], events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    owner = Extract(events_database_url, events_connection, tmp_path / "owner")
    owner.add(*(event(NOON) for _ in range(3)), *(event(NOON, metric_key="images") for _ in range(4)))
    owner.refresh(LATER)
    parts = urlsplit(events_database_url)
    url = urlunsplit(parts._replace(netloc=f"{readers[0]}@{parts.netloc.rpartition('@')[2]}"))

    def alter(statement: str) -> None:
        owner.execute(statement.format(*(f'"{name}"' for name in readers)))

    with ddl.connect(url) as connection, connect(url, ORGANIZATION, home=tmp_path) as store:
        extract = Extract(url, connection, tmp_path)
        extract.refresh(LATER)

        def counted() -> tuple[object, str]:
            answer = store.aggregate(QUERY)
            return answer.total, answer.served.because or "" if answer.served.path == "events" else "extract"

        assert counted() == (3, "extract")
        alter("CREATE POLICY of_another ON usage_events FOR SELECT TO {1} USING (true)")
        assert counted() == (3, "extract")
        alter("ALTER POLICY shown ON usage_events USING (metric_key = 'images')")
        total, because = counted()
        assert total == 4
        assert "row-level security was changed" in because
        assert "row-level security" in extract.refresh(LATER).rebuilt
        assert counted() == (4, "extract")
        alter("GRANT {1} TO {0}")
        total, because = counted()
        assert total == 7
        assert "row-level security was changed" in because
    assert owner.refresh(LATER).rebuilt == ""
