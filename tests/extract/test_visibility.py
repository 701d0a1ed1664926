"""An extract is read only while the policies of row-level security are those that its rows were read under."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from extract.small_extract import HOUR, NOON, ORGANIZATION, TABLE, Extract, event
from support.database_servers import drop_role, fresh_database
from support.timescale_layouts import without_columnstore
from usage_explore import AggregateQuery, Store, connect
from usage_explore.db import ddl
from usage_explore.db.schema import events_table
from usage_explore.errors import DatabaseError
from usage_explore.extract import manifest

LATER = NOON + HOUR
QUERY = AggregateQuery(window="2026-10", metric="count")
CHANGED = "the table, its definition, privileges or row-level security was changed after the extract"


def answered(store: Store) -> tuple[object, str]:
    """The number of events, and where it is from: "extract", or why it is from the events."""
    answer = store.aggregate(QUERY)
    return answer.total, answer.served.because or "" if answer.served.path == "events" else "extract"


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

        assert answered(store) == (3, "extract")
        alter("CREATE POLICY of_another ON usage_events FOR SELECT TO {1} USING (true)")
        assert answered(store) == (3, "extract")
        alter("ALTER POLICY shown ON usage_events USING (metric_key = 'images')")
        total, because = answered(store)
        assert total == 4
        assert because == CHANGED
        assert "row-level security" in extract.refresh(LATER).rebuilt
        assert answered(store) == (4, "extract")
        alter("GRANT {1} TO {0}")
        total, because = answered(store)
        assert total == 7
        assert because == CHANGED
    assert owner.refresh(LATER).rebuilt == ""


def test_roles_that_read_as_the_same_role_have_an_extract_each(
    readers: tuple[str, str], events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    """A policy may go by who signed in, so the rows of one are never shown to the other."""
    owner = Extract(events_database_url, events_connection, tmp_path / "owner")
    owner.add(*(event(NOON) for _ in range(3)), *(event(NOON, metric_key="images") for _ in range(4)))
    reader, other = readers
    for statement in (
        "GRANT {0} TO {1}",
        "ALTER ROLE {1} SET role = {0}",
        f"ALTER POLICY shown ON usage_events USING ((session_user = '{other}') = (metric_key = 'images'))",
    ):
        owner.execute(statement.format(f'"{reader}"', f'"{other}"'))
    parts = urlsplit(events_database_url)
    for role, expected in ((reader, 3), (other, 4)):
        url = urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
        with ddl.connect(url) as connection, connect(url, ORGANIZATION, home=tmp_path) as store:
            assert answered(store) == (expected, "there is no extract of these events")
            Extract(url, connection, tmp_path).refresh(LATER)
            assert answered(store) == (expected, "extract")


@pytest.mark.parametrize("relation", ["usage_events", "shown_events"])
@pytest.mark.parametrize("kind", ["direct", "owners"])
def test_a_column_that_the_role_may_no_longer_read_is_in_no_answer(
    readers: tuple[str, str],
    events_database_url: str,
    events_connection: ddl.Connection,
    tmp_path: Path,
    relation: str,
    kind: str,
) -> None:
    """A pinned answer reads nothing of the events. Of a view, the privileges on what it reads are its owner's."""
    reader, owner = readers
    columns = ", ".join(each.name for each in TABLE.columns if each.name != "external_cost_amount")
    admin = Extract(events_database_url, events_connection, tmp_path / "owner")
    admin.add(*(event(NOON, external_cost_amount=2, external_cost_currency="EUR") for _ in range(3)))
    for statement in (
        "ALTER TABLE usage_events DISABLE ROW LEVEL SECURITY",
        "CREATE VIEW shown_events AS SELECT * FROM usage_events",
        f'ALTER VIEW shown_events OWNER TO "{owner}"',
        f'GRANT SELECT ON shown_events TO "{reader}"',
    ):
        admin.execute(statement)
    parts = urlsplit(events_database_url)
    url = urlunsplit(parts._replace(netloc=f"{reader}@{parts.netloc.rpartition('@')[2]}"))
    query = AggregateQuery(window="2026-10", metric="sum_cost", as_of=NOON + HOUR / 2)
    of_view = relation == "shown_events"
    whose, what = (owner, "usage_events") if of_view and kind == "owners" else (reader, relation)
    with ddl.connect(url) as connection, connect(url, ORGANIZATION, home=tmp_path, table=relation) as store:
        Extract(url, connection, tmp_path, table=events_table(relation)).refresh(LATER)
        assert store.aggregate(query).total == 6
        assert store.aggregate(query).served.path == "extract"
        admin.execute(f'REVOKE SELECT ON {what} FROM "{whose}"')
        admin.execute(f'GRANT SELECT ({columns}) ON {what} TO "{whose}"')
        with pytest.raises(DatabaseError, match="permission denied"):
            store.aggregate(query)


def test_a_view_that_is_defined_anew_is_noticed_at_once(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    without_columnstore(events_connection)
    view = "CREATE OR REPLACE VIEW {} AS SELECT * FROM {} WHERE {}"
    extract = Extract(events_database_url, events_connection, tmp_path)
    extract.add(*(event(NOON) for _ in range(3)), *(event(NOON, metric_key="images") for _ in range(4)))
    for statement in (
        "ALTER TABLE usage_events RENAME TO stored",
        view.format("inner_view", "stored", "true"),
        view.format("usage_events", "inner_view", "metric_key = 'tokens'"),
    ):
        extract.execute(statement)
    extract = Extract(events_database_url, events_connection, tmp_path)
    with connect(events_database_url, ORGANIZATION, home=tmp_path) as store:
        extract.refresh(LATER)
        assert answered(store) == (3, "extract")
        extract.execute(view.format("usage_events", "inner_view", "true"))
        assert answered(store) == (7, CHANGED)
        extract.refresh(LATER)
        assert answered(store) == (7, "extract")
        extract.execute(view.format("inner_view", "stored", "metric_key = 'images'"))
        assert answered(store) == (4, CHANGED)
        extract.refresh(LATER)
        extract.execute("ALTER TABLE stored ENABLE ROW LEVEL SECURITY")
        assert answered(store)[1] == CHANGED
        extract.refresh(LATER)
        assert answered(store) == (4, "extract")
        extract.execute("CREATE POLICY owners ON stored TO CURRENT_USER USING (true)")
        assert answered(store)[1] == CHANGED
        extract.refresh(LATER)
        extract.execute("ALTER VIEW inner_view SET (security_barrier = true)")
        assert answered(store)[1] == CHANGED
        extract.refresh(LATER)
        assert answered(store) == (4, "extract")
        extract.execute("CREATE INDEX ON stored (metric_key)")
        extract.execute("ALTER TABLE stored ADD COLUMN added int")
        assert answered(store) == (4, "extract")


def test_a_role_that_the_owner_of_a_view_becomes_a_member_of_is_noticed(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    """Policies of the table apply to the view's owner, who is not the reader."""
    owner, group = f"owner_{uuid4().hex[:8]}", f"group_{uuid4().hex[:8]}"
    without_columnstore(events_connection)
    extract = Extract(events_database_url, events_connection, tmp_path)
    extract.add(*(event(NOON) for _ in range(3)), *(event(NOON, metric_key="images") for _ in range(4)))
    try:
        for statement in (
            f"CREATE ROLE {owner}",
            f"CREATE ROLE {group}",
            "ALTER TABLE usage_events RENAME TO stored",
            f"GRANT SELECT ON stored TO {owner}",
            "ALTER TABLE stored ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY everybody ON stored USING (true)",
            f"CREATE POLICY members ON stored AS RESTRICTIVE TO {group} USING (metric_key = 'tokens')",
            "CREATE VIEW usage_events AS SELECT * FROM stored",
            f"ALTER VIEW usage_events OWNER TO {owner}",
        ):
            extract.execute(statement)
        extract = Extract(events_database_url, events_connection, tmp_path)
        with connect(events_database_url, ORGANIZATION, home=tmp_path) as store:
            extract.refresh(LATER)
            assert answered(store) == (7, "extract")
            extract.execute(f"GRANT {group} TO {owner}")
            assert answered(store) == (3, CHANGED)
    finally:
        events_connection.rollback()
        for name in (owner, group):
            extract.execute(f"DROP OWNED BY {name} CASCADE")
            extract.execute(f"DROP ROLE {name}")


def test_a_database_made_anew_from_a_template_is_another_one(
    events_database_url: str, events_connection: ddl.Connection, server_url: str, tmp_path: Path
) -> None:
    """Its name, the role, the server and the table's oid are as before."""
    with fresh_database(server_url) as url:
        name, template = (sql.Identifier(urlsplit(one).path.removeprefix("/")) for one in (url, events_database_url))
        events_connection.close()
        for number, before in ((3, None), (1, (0, CHANGED))):
            with psycopg.connect(server_url, autocommit=True) as admin:
                admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(name))
                admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(name, template))
            with ddl.connect(url) as connection, connect(url, ORGANIZATION, home=tmp_path) as store:
                assert before in (None, answered(store))
                extract = Extract(url, connection, tmp_path)
                extract.add(*(event(NOON) for _ in range(number)))
                extract.refresh(LATER)
                assert answered(store) == (number, "extract")


def test_a_watermark_in_the_future_is_not_believed(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    """The database's clock was put back: what is inserted now is before the watermark."""
    extract = Extract(events_database_url, events_connection, tmp_path)
    extract.add(event(NOON))
    now = datetime.now(UTC)
    with connect(events_database_url, ORGANIZATION, home=tmp_path) as store:
        extract.refresh(now + HOUR)
        extract.add(event(NOON, ingested_at=now))
        assert answered(store) == (2, "the database's clock was put back behind its watermark")


def test_a_database_that_was_put_back_is_not_the_one_that_was_read(
    events_database_url: str, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    """A snapshot of a server's files has the same system, database and table, but fewer transactions."""
    extract = Extract(events_database_url, events_connection, tmp_path)
    extract.add(*(event(NOON) for _ in range(3)))
    extract.refresh(LATER)
    with connect(events_database_url, ORGANIZATION, home=tmp_path) as store:
        assert answered(store) == (3, "extract")
        later = dataclasses.replace(extract.manifest, transaction=extract.manifest.transaction + 1_000)
        manifest.write(extract.folder, later)
        assert answered(store) == (3, "the database was put back to a time before the extract's last refresh")
        assert extract.refresh(LATER).rebuilt == "the database was put back to an earlier time"
        assert answered(store) == (3, "extract")
