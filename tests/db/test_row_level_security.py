"""The organization's wall in the database too: row-level security, as SECURITY.md shows it, with a role of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import psycopg
import pytest

from support import generated_events
from support.database_servers import drop_role
from support.query_oracle import Row
from support.timescale_layouts import without_columnstore
from usage_explore import AggregateQuery, EventQuery, Store, connect, doctor
from usage_explore.config import DEFAULT_STATEMENT_TIMEOUT
from usage_explore.db import ddl
from usage_explore.errors import ScopeError

SECURITY = Path(__file__).parents[2] / "SECURITY.md"


def documented() -> str:
    """The statements that SECURITY.md tells people to run."""
    (statements,) = re.findall(r"```sql\n(.*?)```", SECURITY.read_text(), re.DOTALL)
    return statements


@pytest.fixture
def reader(events_database_url: str, generated: list[Row]) -> Iterator[Store]:
    """A store that connects as a role which may see the main organization's rows alone."""
    role = f"reader_{uuid4().hex[:8]}"
    statements = documented().replace("acme_reader", role).replace("…", str(generated_events.ORGANIZATION))
    with ddl.connect(events_database_url) as connection:
        generated_events.insert(connection, generated)
        without_columnstore(connection)
        for statement in statements.split(";\n"):
            connection.execute(statement)
        connection.commit()
    parts = urlsplit(events_database_url)
    host = parts.netloc.rpartition("@")[2]
    store = connect(urlunsplit(parts._replace(netloc=f"{role}@{host}")))
    yield store
    store.close()
    drop_role(events_database_url, role)


def test_the_role_sees_one_organization_and_nothing_of_the_other(reader: Store, own: list[Row]) -> None:
    assert reader.organizations() == (generated_events.ORGANIZATION,)
    assert reader.count(EventQuery()) == len(own)
    answer = reader.aggregate(AggregateQuery(since="2011-01-01T00:00:00Z", bucket="week", group_by="dim:model", top=2))
    assert answer.total == len(own)
    with pytest.raises(ScopeError):
        reader.count(EventQuery(organization_id=generated_events.NEIGHBOUR))
    with reader.engine.connect() as connection:
        seen = connection.exec_driver_sql("SELECT DISTINCT organization_id FROM usage_events").scalars().all()
    assert seen == [generated_events.ORGANIZATION]


def test_the_role_can_do_nothing_but_read(reader: Store) -> None:
    with psycopg.connect(reader.engine.url.set(drivername="postgresql").render_as_string(False)) as connection:
        for statement in ("DELETE FROM usage_events", "UPDATE usage_events SET quantity = 0", "TRUNCATE usage_events"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(statement)
            connection.rollback()


def test_a_role_without_visible_rows_hears_of_row_level_security(
    events_database_url: str, reader: Store, generated: list[Row]
) -> None:
    """The policy lets the reader see one organization; when its rows are gone the table is not empty for all that."""
    with ddl.connect(events_database_url) as connection:
        connection.execute("DELETE FROM usage_events WHERE organization_id = %s", [generated_events.ORGANIZATION])
        connection.commit()
    with pytest.raises(ScopeError, match="row-level security or a view hides them"):
        reader.count(EventQuery())
    url = reader.engine.url.set(drivername="postgresql").render_as_string(False)
    found = {finding.name: finding for finding in doctor.examine(url, "usage_events", DEFAULT_STATEMENT_TIMEOUT)}
    assert "row-level security hides all of them" in found["organizations"].message


def test_the_doctor_has_nothing_to_say_against_it(reader: Store) -> None:
    url = reader.engine.url.set(drivername="postgresql").render_as_string(False)
    findings = doctor.examine(url, "usage_events", DEFAULT_STATEMENT_TIMEOUT)
    assert [finding.message for finding in findings if finding.state == "fault"] == []
