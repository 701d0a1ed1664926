"""`usage-explore prices` and `usage-explore rate`: a book becomes the table, a period its expected amounts."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import psycopg
import pytest
from click.testing import CliRunner, Result

from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.plain_events import SINCE, SMALL, beside, event, store_of
from usage_explore import connect
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.names import made_id

Run = Callable[..., Result]
BOOK = """
[[prices]]
metric_key = "tokens"
model = "staircase"
tiers = [{up_to = 10, unit_amount = 0.10}, {unit_amount = 0.05}]
currency = "USD"
"""


@pytest.fixture
def run(events_connection: ddl.Connection, events_database_url: str) -> Run:
    events = [event(SINCE, quantity=15), event(SINCE, customer_id=SMALL, metric_key="other", quantity=7)]
    store_of(events_connection, events_database_url, [*events, *beside(events[:1])]).close()
    events_connection.commit()

    def command(*arguments: object) -> Result:
        return CliRunner().invoke(main, [*map(str, arguments), "--database-url", events_database_url])

    return command


SEPTEMBER = ("--since", "2026-09-01T00:00:00Z", "--until", "2026-10-01T00:00:00Z")
OWN = ("--organization-id", str(ORGANIZATION))


def book(folder: Path, text: str = BOOK, name: str = "prices.toml") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_period_is_rated_by_a_file(run: Run, tmp_path: Path) -> None:
    lines, document = tmp_path / "lines.csv", tmp_path / "rating.json"
    result = run("rate", *SEPTEMBER, *OWN, "--prices", book(tmp_path), "--csv", lines, "--json", document, "--margins")
    assert result.exit_code == 0, result.output
    assert "10 x 0.1 = 1; 5 x 0.05 = 0.25" in result.stdout
    assert "Total of 1 line: 1.25 USD" in result.stdout
    assert "1 event without a price, on no invoice:" in result.stdout
    assert "no price covers it" in result.stdout
    with lines.open(newline="") as opened:
        (row,) = csv.DictReader(opened)
    assert (row["amount"], row["quantity"], row["metric_key"]) == ("1.25", "15", "tokens")
    read = json.loads(document.read_text())
    assert read["totals"] == [{"currency": "USD", "amount": "1.25"}]
    assert [(usage["metric_key"], usage["quantity"]) for usage in read["unpriced"]] == [("other", "7")]


def test_what_has_just_arrived_is_not_rated_and_said(run: Run, tmp_path: Path) -> None:
    """The total of a period lacked a file that had been loaded minutes before, without a word."""
    file = tmp_path / "more.csv"
    file.write_text("timestamp,customer_id,metric_key,quantity\n2026-09-03T00:00:00Z,late,tokens,1000\n")
    loaded = run("load", file, *OWN)
    assert loaded.exit_code == 0, loaded.output
    rated = run("rate", *SEPTEMBER, *OWN, "--prices", book(tmp_path), "--json", "-")
    told = json.loads(rated.stdout)
    assert (rated.exit_code, told["totals"], told["unexamined"]["events"]) == (
        0,
        [{"currency": "USD", "amount": "1.25"}],
        1,
    )
    assert "Warning: 1 event of the period arrived in the last 5 minutes and is not rated; wait" in rated.stderr
    assert f"or pass --as-of {told['unexamined']['latest_ingested_at']}." in rated.stderr


@pytest.mark.filterwarnings("always::usage_explore.sql.hints.HintWarning")
@pytest.mark.parametrize("command", ["rate", "validate"])
def test_a_misspelled_name_is_warned_of_once(run: Run, tmp_path: Path, command: str) -> None:
    prices = ("--prices", book(tmp_path)) if command == "rate" else ()
    nothing = run(command, *SEPTEMBER, *OWN, *prices, "--metric-key", "tokenz")
    assert nothing.exit_code != 0
    hint = "none of the newest 10,000 events has 'tokenz', did you mean tokens?"
    assert nothing.stderr == f"Warning: metric_key: {hint}\n"


@pytest.mark.parametrize(("options", "metric"), [((), "=cmd"), (("--escape-formulas",), "'=cmd")])
def test_formulas_in_the_file_for_billing_can_be_escaped(
    run: Run, events_connection: ddl.Connection, tmp_path: Path, options: tuple[str, ...], metric: str
) -> None:
    events_connection.execute("UPDATE usage_events SET metric_key = '=cmd'")
    events_connection.commit()
    prices, lines = book(tmp_path, BOOK.replace("tokens", "=cmd")), tmp_path / "lines.csv"
    assert run("rate", *SEPTEMBER, *OWN, "--prices", prices, "--csv", lines, *options).exit_code == 0
    with lines.open(newline="") as opened:
        assert {row["metric_key"] for row in csv.DictReader(opened)} == {metric}


@pytest.mark.parametrize("command", [("rate", *SEPTEMBER), ("signoffs",)])
def test_formulas_are_escaped_in_csv_alone(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, *OWN, "--escape-formulas")
    assert (result.exit_code, "--escape-formulas: is for --csv" in result.stderr) == (1, True)


@pytest.mark.parametrize("option", ["--csv", "--json"])
def test_stdout_has_the_data_alone(run: Run, tmp_path: Path, option: str) -> None:
    result = run("rate", *SEPTEMBER, *OWN, "--prices", book(tmp_path), option, "-")
    assert "Total of 1 line" in result.stderr
    if option == "--json":
        assert json.loads(result.stdout)["events"] == 2
    else:
        assert len(result.stdout.splitlines()) == 2


def test_a_loaded_book_is_the_default_and_replaced_as_a_whole(
    run: Run, tmp_path: Path, events_database_url: str
) -> None:
    refused = run("rate", *SEPTEMBER, *OWN)
    assert (refused.exit_code, "usage-explore prices load FILE" in refused.stderr) == (2, True)
    assert "No prices" in run("prices", "list", *OWN).stdout
    assert f"1 price, of organization {ORGANIZATION}." in run("prices", "load", book(tmp_path), *OWN).stdout
    assert "1.25 USD" in run("rate", *SEPTEMBER, *OWN).stdout
    assert "10:0.1;:0.05" in run("prices", "list", *OWN).stdout
    other = book(tmp_path, "metric_key,unit_amount,currency\nother,0.5,KWD\n", "prices.csv")
    assert "1 price instead of 1 price" in run("prices", "load", other, *OWN).stdout
    assert "3.500 KWD" in run("rate", *SEPTEMBER, *OWN).stdout
    with connect(events_database_url, NEIGHBOUR) as neighbour:
        assert neighbour.prices() is None


def test_an_organization_without_events_is_warned_of(run: Run, tmp_path: Path) -> None:
    """With a wrong organization id, prices and names are stored and never used."""
    names = book(tmp_path, f"id,name\n{UUID(int=1)},Acme\n", "names.csv")
    for command in (("prices", "load", book(tmp_path)), ("names", "load", names)):
        loaded = run(*command, "--organization-id", UUID(int=7))
        assert loaded.exit_code == 0
        assert f"organization {UUID(int=7)} has no events, others have; check --organization-id" in loaded.stderr
        assert run(*command, *OWN).stderr == ""


@pytest.mark.filterwarnings("always::usage_explore.sql.hints.HintWarning")
def test_a_book_of_a_customer_that_no_file_has_is_warned_of(run: Run, tmp_path: Path) -> None:
    """A price of "cus_0S", for "cus_05", was loaded without a word and concerned nobody."""
    file = tmp_path / "more.csv"
    file.write_text("timestamp,customer_id,metric_key,quantity\n2026-09-03T00:00:00Z,cus_05,tokens,1\n")
    names = book(tmp_path, f"id,external_id,name\n{made_id('customer', 'cus_05')},C-5,Five\n", "names.csv")
    assert run("load", file, *OWN).exit_code == 0
    row = "tokens,{},0.5,USD"
    for text, is_known in (("cus_05", True), ("cus_0S", False), ("C-5", False)):
        prices = book(tmp_path, f"metric_key,customer_id,unit_amount,currency\n{row.format(text)}\n", "prices.csv")
        expected = (
            f"customer {text}: not in the directory of names; correct a typing error, else it applies to no usage"
        )
        for command in (("prices", "load", prices), ("rate", "--prices", prices, *SEPTEMBER)):
            said = run(*command, *OWN).stderr
            assert said.count(expected) == said.count("Warning: customer") == int(not is_known), said
    assert run("names", "load", names, *OWN).exit_code == 0
    for text in ("cus_05", "C-5"):
        prices = book(tmp_path, f"metric_key,customer_id,unit_amount,currency\n{row.format(text)}\n", "prices.csv")
        assert run("prices", "load", prices, *OWN).stderr == ""
        assert "typing error" not in run("rate", "--prices", prices, *SEPTEMBER, *OWN).stderr


def test_a_faulty_book_changes_nothing(run: Run, tmp_path: Path, events_database_url: str) -> None:
    run("prices", "load", book(tmp_path), *OWN)
    faulty = book(tmp_path, "metric_key,unit_amount,currency\na,1,USD\nb,x,USD\nc,1,\n", "faulty.csv")
    result = run("prices", "load", faulty, *OWN)
    assert result.exit_code == 2
    assert "faulty.csv line 3: unit_amount: 'x' is not a decimal number" in result.stderr
    assert "faulty.csv line 4: currency: is missing" in result.stderr
    with connect(events_database_url, ORGANIZATION) as store:
        stored = store.prices()
        assert stored is not None
        assert [price.metric_key for price in stored.prices] == ["tokens"]
        assert stored.source == "public.usage_prices"


def test_init_makes_the_table_that_prices_are_read_from(
    run: Run, tmp_path: Path, events_connection: ddl.Connection, events_database_url: str
) -> None:
    assert "usage_prices" in run("init").stdout
    assert "usage_prices" not in run("init").stdout, "it is there"
    with connect(events_database_url, ORGANIZATION) as store:
        assert store.prices() is None, "an empty table is no book"
    run("prices", "load", book(tmp_path), *OWN)
    with connect(events_database_url, ORGANIZATION) as store:
        assert store.prices() is not None


def test_a_table_of_other_columns_is_left_alone(run: Run, tmp_path: Path, events_connection: ddl.Connection) -> None:
    events_connection.execute("CREATE TABLE usage_prices (id integer)")
    events_connection.commit()
    result = run("prices", "load", book(tmp_path), *OWN)
    assert (result.exit_code, "has other columns" in result.stderr) == (1, True)
    assert "No prices" in run("prices", "list", *OWN).stdout
    with pytest.raises(psycopg.errors.UndefinedColumn):
        events_connection.execute("SELECT metric_key FROM usage_prices")
    events_connection.rollback()
