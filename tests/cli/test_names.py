"""`usage-explore names`: a customer list becomes the directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid5

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import JUNE, SINCE, SMALL, beside, event, store_of
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.names import NAMESPACE

Run = Callable[..., Result]


@pytest.fixture
def run(events_connection: ddl.Connection, events_database_url: str) -> Run:
    store_of(events_connection, events_database_url, [event(SINCE), event(SINCE, customer_id=SMALL)]).close()
    events_connection.commit()

    def command(*arguments: object) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments), "--database-url", events_database_url])

    return command


def rows(connection: ddl.Connection) -> list[tuple[object, ...]]:
    connection.commit()
    return connection.execute(
        "SELECT kind, id, external_id, name, preferred_currency FROM usage_names ORDER BY kind, external_id, name"
    ).fetchall()


def test_a_customer_list_is_loaded_and_listed(run: Run, events_connection: ddl.Connection, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    file.write_text(
        "Id,Name,kind,preferred_currency,Segment\n"
        f"{JUNE},Acme,,EUR,big\n"
        "cus_7,Birch & Sons,,,\n"
        "prod_1,Search,product,,\n"
        ",Metering GmbH,organization,USD,\n"
    )
    result = run("names", "load", file)
    assert result.exit_code == 0, result.output
    changes = "2 customers, 1 organization, 1 product; 4 new or changed"
    assert f"{changes}, of organization Metering GmbH ({ORGANIZATION})." in result.output
    made = uuid5(NAMESPACE, "customer=cus_7")
    assert rows(events_connection) == [
        ("customer", made, "cus_7", "Birch & Sons", None),
        ("customer", JUNE, None, "Acme", "EUR"),
        ("organization", ORGANIZATION, None, "Metering GmbH", "USD"),
        ("product", uuid5(NAMESPACE, "product=prod_1"), "prod_1", "Search", None),
    ]
    assert "0 new or changed" in run("names", "load", file).output
    listed = run("names", "list", "birch").output
    assert str(made) in listed
    assert "Acme" not in listed
    assert run("organizations").output == f"{ORGANIZATION}  Metering GmbH\n"


def test_units_of_metrics_are_loaded_and_listed(run: Run, events_connection: ddl.Connection, tmp_path: Path) -> None:
    file = tmp_path / "units.csv"
    file.write_text(f"metric,unit\ntokens_in,tokens\n{JUNE},kWh\n")
    assert "2 metrics; 2 new or changed" in run("names", "load", file).output
    file.write_text("kind,external_id,name,unit\nmetric,tokens_in,,units of text\n,cus_7,Birch,\n")
    assert "1 customer, 1 metric; 2 new or changed" in run("names", "load", file).output
    events_connection.commit()
    statement = "SELECT id, external_id, unit FROM usage_names WHERE kind = 'metric' ORDER BY external_id"
    assert events_connection.execute(statement).fetchall() == [
        (uuid5(NAMESPACE, f"metric={JUNE}"), str(JUNE), "kWh"),  # a key that reads like an id is no id
        (uuid5(NAMESPACE, "metric=tokens_in"), "tokens_in", "units of text"),
    ]
    listed = run("names", "list").output
    assert "Birch" in listed
    assert "units of text" in listed
    assert "Birch" not in run("names", "list", "--kind", "metric").output


def test_an_external_id_of_the_directory_stands_for_its_id(
    run: Run, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    events_connection.execute(
        "INSERT INTO usage_names (organization_id, kind, id, external_id, name)"
        " VALUES (%s, 'customer', %s, 'acct-9', 'Old'), (%s, 'customer', %s, 'acct-9', 'Neighbour')",
        [ORGANIZATION, JUNE, NEIGHBOUR, SMALL],
    )
    events_connection.commit()
    table = pa.table(
        {"external_id": ["acct-9", str(SMALL)], "name": ["New", None], "preferred_currency": [None, "GBP"]}
    )
    pq.write_table(table, tmp_path / "names.parquet")
    assert run("names", "load", tmp_path / "names.parquet").exit_code == 0
    found = rows(events_connection)
    assert ("customer", JUNE, "acct-9", "New", None) in found
    assert ("customer", SMALL, str(SMALL), None, "GBP") in found
    assert ("customer", SMALL, "acct-9", "Neighbour", None) in found  # of the other organization
    (tmp_path / "names.jsonl").write_text('{"id": "acct-9", "name": "Newer"}\n')
    assert run("names", "load", tmp_path / "names.jsonl").exit_code == 0
    assert ("customer", JUNE, "acct-9", "Newer", None) in rows(events_connection)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("id,name,kind\na,Acme,vendor\n", "line 2: kind 'vendor' is none"),
        ("id,name\na,Acme\na,Acme Inc\n", "is given again, after line 2"),
        ("id,name\na,Acme\n,Birch\n", "line 3: has neither id nor external_id"),
        ("id,name\na,\n", "line 2: has neither name nor preferred_currency"),
        ("id,external_id,name\na,b,Acme\n", "id is no UUID, and external_id is another text"),
        ("customer,title\na,Acme\n", "has no column id or external_id"),
        ("id,title\na,Acme\n", "has no column name or preferred_currency"),
        (f"id,name,kind\n{JUNE},Acme,organization\n", f"names organization {JUNE}, not {ORGANIZATION}"),
        ("id,name\n", "no rows"),
        ("metric,unit\ntokens,\n", "line 2: has no unit"),
        ("metric,unit\n,tokens\n", "line 2: unit is not of kind customer"),
        ("metric,unit,kind\na,tokens,product\n", "line 2: metric is not of kind product"),
        ("metric,unit,name\na,tokens,A\n", "line 2: name is not of kind metric"),
        ("metric,unit,external_id\na,tokens,b\n", "line 2: metric and external_id are two keys"),
        ("metric,unit\na,tokens\na,seconds\n", "is given again, after line 2"),
        (f"metric,unit\na,{'x' * 41}\n", "line 2: unit is longer than 40 characters"),
        ("metric,units\na,tokens\n", "has no column"),
    ],
)
def test_a_faulty_row_is_named_and_nothing_is_loaded(
    run: Run, events_connection: ddl.Connection, tmp_path: Path, content: str, fault: str
) -> None:
    (tmp_path / "names.csv").write_text(content)
    result = run("names", "load", tmp_path / "names.csv")
    assert result.exit_code == 1, result.output
    assert fault in result.output
    assert rows(events_connection) == []


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('[{"id": "a", "name": {"first": "A"}}]', "name {'first': 'A'} is not text"),
        ('[{"id": "a", "name": true}]', "name True is not text"),
        ('[{"id": "a", "name": 1e2000}]', "name '1e2000' has more than 1,000 digits before its decimal point"),
        ('[{"id": "a", "name": "A", "Name": "B"}]', "name is 'A' in one column and 'B' in another"),
    ],
)
def test_a_cell_that_is_no_text_is_no_name(
    run: Run, events_connection: ddl.Connection, tmp_path: Path, rows: str, problem: str
) -> None:
    """It was stored as Python writes it, such as "<Unreadable object at 0x7f…>"."""
    file = tmp_path / "customers.json"
    file.write_text(rows)
    result = run("names", "load", file)
    assert result.exit_code == 1
    assert problem in " ".join(result.output.split())
    assert "object at" not in result.output


def test_an_id_that_is_a_number_is_that_of_the_events(
    run: Run, events_connection: ddl.Connection, tmp_path: Path
) -> None:
    file = tmp_path / "customers.json"
    file.write_text('[{"external_id": 1E3, "name": "Acme", "NAME": "Acme"}]')
    assert run("names", "load", file).exit_code == 0
    assert rows(events_connection) == [("customer", uuid5(NAMESPACE, "customer=1000"), "1000", "Acme", None)]


def test_the_organization_must_be_clear(
    run: Run, events_connection: ddl.Connection, events_database_url: str, tmp_path: Path
) -> None:
    store_of(events_connection, events_database_url, beside([event(SINCE)])).close()
    events_connection.commit()
    (tmp_path / "names.csv").write_text(f"id,name\n{JUNE},Acme\n")
    refused = run("names", "load", tmp_path / "names.csv")
    assert refused.exit_code == 1
    assert "--organization-id: is missing" in refused.output
    assert run("names", "load", tmp_path / "names.csv", "--organization-id", NEIGHBOUR).exit_code == 0
    assert run("names", "list", "--organization-id", ORGANIZATION).output.startswith("No names")
    assert "Acme" in run("names", "list", "--organization-id", NEIGHBOUR).output


def test_names_of_another_table(run: Run, events_connection: ddl.Connection, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text(f"id,name\n{JUNE},Acme\n")
    result = run("names", "load", tmp_path / "names.csv", "--names-table", "crm_names")
    assert result.exit_code == 0, result.output
    events_connection.commit()
    assert events_connection.execute("SELECT id, name FROM crm_names").fetchall() == [(UUID(int=JUNE.int), "Acme")]
    assert rows(events_connection) == []
    wrong = run("names", "list", "--names-table", "a.b.c")
    assert wrong.exit_code == 1
    assert "names_table: 'a.b.c' is not a table name" in wrong.output


def test_control_characters_of_a_name_do_not_reach_the_terminal(run: Run, tmp_path: Path) -> None:
    (tmp_path / "names.jsonl").write_text(
        f'{{"id": "{JUNE}", "name": "Ac\\u001b[31mme"}}\n{{"kind": "organization", "name": "Me\\u001b]0;x"}}\n'
    )
    assert run("names", "load", tmp_path / "names.jsonl").exit_code == 0
    for command in (("names", "list"), ("organizations",)):
        assert "\x1b" not in run(*command).output.replace("\x1b[0m", "").replace("\x1b[1m", "")
