"""An organization without events is refused at every door, so that nothing wrong is answered with zeros or "clean"."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner
from psycopg import sql
from sqlalchemy import event

from support import generated_events
from support.api_server import AGGREGATE, EVENTS, EXPORT, VALIDATIONS, asking
from support.database_servers import drop_role
from support.query_oracle import Row
from support.timescale_layouts import without_columnstore
from support.waiting import eventually
from usage_explore import AggregateQuery, EventQuery, Period, Store, connect
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access
from usage_explore.cli.main import main
from usage_explore.db import ddl, tenancy
from usage_explore.errors import ScopeError

UNKNOWN = UUID("0f0f0f0f-0000-4000-8000-00000000000f")
WINDOW = {"since": "2026-03-01T00:00:00Z", "until": "2026-11-10T00:00:00Z"}

ASKED: dict[str, Callable[[Store, Path], Any]] = {
    "events": lambda store, folder: store.events().events,
    "events_csv": lambda store, folder: store.events_csv(EventQuery()),
    "count": lambda store, folder: store.count(EventQuery()),
    "aggregate": lambda store, folder: store.aggregate(AggregateQuery(**WINDOW)).total,
    "extent": lambda store, folder: store.extent(),
    "explain": lambda store, folder: store.explain(AggregateQuery(**WINDOW)),
    "export": lambda store, folder: store.export(EventQuery(), folder / "never.csv", progress=False),
    "export_csv": lambda store, folder: list(store.export_csv(EventQuery())),
    "metric_keys": lambda store, folder: store.metric_keys(),
    "organizations": lambda store, folder: store.organizations(),
    "scoped": lambda store, folder: store.scoped(UNKNOWN),
    "sql": lambda store, folder: store.sql(EventQuery()),
    "validate": lambda store, folder: store.validate(Period(**WINDOW)),
}


@pytest.fixture(scope="module")
def generated() -> list[Row]:
    return generated_events.generate(per_scene=3)


@pytest.fixture
def filled(events_database_url: str, events_connection: ddl.Connection, generated: list[Row]) -> str:
    """A database with events of two organizations."""
    generated_events.insert(events_connection, generated)
    return events_database_url


@pytest.mark.parametrize("name", ASKED)
def test_python_refuses_it(filled: str, tmp_path: Path, name: str) -> None:
    with connect(filled, UNKNOWN) as store, pytest.raises(ScopeError, match=f"{UNKNOWN} is not an organization"):
        ASKED[name](store, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("known", [True, False])
def test_the_command_refuses_it(filled: str, tmp_path: Path, known: bool) -> None:
    page, file = tmp_path / "page.html", tmp_path / "events.csv"
    owner = str(generated_events.ORGANIZATION if known else UNKNOWN)
    options = ["--database-url", filled, "--organization-id", owner]
    validated = CliRunner().invoke(main, ["validate", *options, "--report", str(page), "--fail-on", "never"])
    exported = CliRunner().invoke(main, ["export", *options, str(file)])
    listed = CliRunner(env={"USAGE_EXPLORE_ORGANIZATION_ID": owner}).invoke(
        main, ["organizations", "--database-url", filled]
    )
    assert [page.exists(), file.exists()] == [known, known]
    for result in (exported, listed):
        assert (result.exit_code == 0) is known, result.output
    if not known:
        assert validated.exit_code == 1
        for result in (validated, exported, listed):
            assert result.stdout == ""
            assert f"Error: organization_id: {UNKNOWN} is not an organization you may see" in result.stderr


@pytest.mark.parametrize("door", ["server", "key", "claim"])
def test_http_refuses_it_as_it_refuses_another_ones(filled: str, tmp_path: Path, door: str) -> None:
    keyring = Keyring(tmp_path / "keys.json")
    access = Access(keyring)
    key = keyring.create(UNKNOWN if door == "key" else generated_events.NEIGHBOUR, "test")
    sent = {"Authorization": f"Bearer {key}"} if door != "server" else {}
    params = {"organization_id": str(UNKNOWN)} if door == "claim" else {}
    with connect(filled, UNKNOWN if door == "server" else None) as store:
        options = {} if door == "server" else {"access": access}
        with asking(store, **options) as client:
            for path in (EVENTS, AGGREGATE, EXPORT, f"{AGGREGATE}.svg"):
                answer = client.get(path, params=params, headers=sent)
                assert answer.status_code == 403, path
                assert "not an organization you may see" in answer.json()["detail"]


@pytest.fixture
def hidden(filled: str) -> Iterator[str]:
    """The same database, by a role from which row-level security hides every row."""
    role = f"blind_{uuid4().hex[:8]}"
    with ddl.connect(filled) as connection:
        without_columnstore(connection)
        for statement in (
            "CREATE ROLE {} LOGIN",
            "GRANT SELECT ON usage_events TO {}",
            "ALTER TABLE usage_events ENABLE ROW LEVEL SECURITY",
            "CREATE VIEW seen WITH (security_invoker) AS SELECT * FROM usage_events",
            "GRANT SELECT ON seen TO {}",
        ):
            connection.execute(sql.SQL(statement).format(sql.Identifier(role)))
        connection.commit()
    parts = urlsplit(filled)
    yield urlunsplit(parts._replace(netloc=f"{role}@{parts.netloc.rpartition('@')[2]}"))
    drop_role(filled, role)


@pytest.mark.parametrize("table", ["usage_events", "seen"])
def test_one_that_row_security_hides_is_refused_though_the_table_looks_empty(hidden: str, table: str) -> None:
    with (
        connect(hidden, generated_events.ORGANIZATION, table=table) as store,
        pytest.raises(ScopeError, match="not an organization"),
    ):
        store.validate(Period(**WINDOW))


@pytest.mark.parametrize("state", ["done", "failed"])
def test_a_job_goes_with_its_organization(
    hidden: str, events_connection: ddl.Connection, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    if state == "failed":

        def fails(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(Store, "validate", fails)
    monkeypatch.setattr(tenancy, "_CACHE_SECONDS", 0)
    events_connection.execute("CREATE POLICY shown ON usage_events USING (true)")
    events_connection.commit()
    params = {**WINDOW, "organization_id": str(generated_events.ORGANIZATION), "checks": "duplicates"}
    with connect(hidden) as store, asking(store) as client:
        job = client.post(VALIDATIONS, params=params).headers["location"].removeprefix("/api")
        eventually(lambda: client.get(job).json()["state"] == state)
        assert len(client.get(VALIDATIONS).json()["validations"]) == 1
        events_connection.execute("DROP POLICY shown ON usage_events")
        events_connection.commit()
        assert client.get(job).status_code == 404
        assert client.delete(job).status_code == 404
        assert client.get(VALIDATIONS).json() == {"validations": []}


def test_an_empty_table_answers_and_says_so(
    events_database_url: str, events_connection: ddl.Connection, generated: list[Row], tmp_path: Path
) -> None:
    with connect(events_database_url, UNKNOWN) as store:
        with pytest.warns(UserWarning, match="The table usage_events holds no events yet, so every answer"):
            assert store.events().events == ()
        with pytest.warns(UserWarning, match="no events yet"):
            assert store.aggregate(AggregateQuery()).total == 0
        with asking(store) as client, pytest.warns(UserWarning, match="no events yet"):
            assert client.get(EVENTS).json()["data"] == []
        generated_events.insert(events_connection, generated)
        with pytest.raises(ScopeError):  # nothing is remembered of an organization that has no events
            store.events()
        events_connection.execute("UPDATE usage_events SET organization_id = %s WHERE metric_key = 'a,b'", [UNKNOWN])
        events_connection.commit()
        assert store.count(EventQuery()) == sum(row.metric_key == "a,b" for row in generated)


@pytest.mark.filterwarnings("default")
def test_the_command_says_it_on_stderr(events_database_url: str, tmp_path: Path) -> None:
    options = ["--database-url", events_database_url, "--organization-id", str(UNKNOWN)]
    result = CliRunner().invoke(main, ["export", *options, str(tmp_path / "events.csv")])
    assert result.exit_code == 0
    assert "Warning: The table usage_events holds no events yet" in result.stderr
    assert "scoping.py" not in result.output


def test_looking_whether_it_exists_is_one_statement_a_minute(filled: str) -> None:
    sent: list[str] = []
    with connect(filled, generated_events.ORGANIZATION) as store:
        event.listen(store.engine, "before_cursor_execute", lambda *given: sent.append(given[2]))
        own = store.scoped(generated_events.ORGANIZATION)
        for _ in range(3):
            own.events()
            store.restricted([generated_events.ORGANIZATION]).events()
    assert sum("EXISTS (SELECT usage_events.id" in statement for statement in sent) == 1
