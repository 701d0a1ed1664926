"""The `load` command and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from usage_explore.cli.main import main
from usage_explore.errors import DatabaseError

ORG = "00000000-0000-4000-8000-000000000001"


VIEW = (
    f"/?organization_id={ORG}&metric_key=tokens&since=2026-01-31T08:00:00Z&until=2026-01-31T08:01:00Z"
    "&bucket=hour&metric=sum_quantity"
)
ELSEWHERE = "USAGE_EXPLORE_APP_URL names another one"


@pytest.fixture
def run(database_url, tmp_path):
    def command(*arguments: str | Path) -> Result:
        words = ["load", *map(str, arguments), "--database-url", database_url]
        return CliRunner().invoke(main, words)

    return command


def test_a_file_is_loaded_and_the_second_time_it_says_so(run, load, table_of):
    path = load.file("events.csv", table_of().replace("quantity", "Usage"))
    words = [path, "--map", "quantity=Usage", "--organization-id", ORG]
    first, again = run(*words), run(*words)
    assert first.exit_code == again.exit_code == 0
    window = f"  from 2026-01-31 08:00:00 +00:00 to 2026-01-31 08:00:00 +00:00, 1 customer, organization {ORG}"
    link = (
        f"In the app, once `usage-explore app` runs at its default address ({ELSEWHERE}): http://127.0.0.1:8501{VIEW}"
    )
    assert first.stdout.splitlines() == [f"{path}: loaded 1 event (0 already there, 0 rejected)", window, link]
    assert again.stdout.splitlines() == [
        f"{path}: loaded 0 events (1 already there, 0 rejected)",
        window,
        "  every row was in the table already; nothing was added",
        link,
    ]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("own_column", [False, True])
def test_a_load_without_events_of_a_new_organization_is_no_error(run, load, table_of, stored, own_column):
    """It ended with "is not an organization you may see", as the organization has no events afterwards either."""
    if stored:
        assert run(load.file("first.csv", table_of()), "--organization-id", ORG).exit_code == 0
    text = table_of({"organization_id": ORG, "idempotency_key": "k3"}) if own_column else table_of().splitlines()[0]
    done = run(load.file("events.csv", text), "--organization-id", "00000000-0000-4000-8000-000000000009")
    assert (done.exit_code, done.stderr) == (0, "")
    assert own_column or "loaded 0 events" in done.stdout
    assert own_column or "the file has no rows" in done.stdout


def test_the_link_is_that_of_the_app_whose_address_is_set(run, load, table_of, monkeypatch):
    """Without it nobody knows whether an app runs, and where: the line says so."""
    monkeypatch.setenv("USAGE_EXPLORE_APP_URL", "https://usage.example.com")
    done = run(load.file("events.csv", table_of()), "--organization-id", ORG)
    assert done.stdout.splitlines()[-1] == f"In the app: https://usage.example.com{VIEW}"


def test_rejected_rows_end_the_command_unless_skipped(run, load, table_of):
    path = load.file("events.csv", table_of({}, {"quantity": "x", "idempotency_key": "k2"}))
    refused = run(path, "--organization-id", ORG)
    assert refused.exit_code == 1
    assert f"Error: {path}, line 3, quantity: 'x' is not a decimal number" in refused.stderr
    assert load.count() == 0
    skipped = run(path, "--organization-id", ORG, "--skip-bad")
    assert skipped.exit_code == 0
    lines = skipped.stdout.splitlines()
    assert lines[0] == f"{path}: loaded 1 event (0 already there, 1 rejected)"
    assert lines[2] == f"  {path}, line 3, quantity: 'x' is not a decimal number"


def test_the_organization_of_the_environment_is_the_option(run, load, table_of, monkeypatch):
    path = load.file("events.csv", table_of())
    monkeypatch.setenv("USAGE_EXPLORE_ORGANIZATION_ID", ORG)
    assert run(path).exit_code == 0
    assert [str(row[0]) for row in load.rows("organization_id")] == [ORG]


def test_progress_goes_to_the_end_or_is_silent(load, table_of, capsys):
    import pandas as pd

    rows = [{"idempotency_key": f"k{i}"} for i in range(2500)]
    load.csv(table_of(*rows), progress=True)
    said = capsys.readouterr().err.splitlines()
    size = (load.folder / "events.csv").stat().st_size
    assert said.count(f"events.csv: {size:,} of {size:,} bytes") == 1
    path = load.folder / "events.parquet"
    pd.read_csv(load.folder / "events.csv", dtype=str).to_parquet(path)
    load(path, progress=True)
    assert "2,500 of 2,500 rows" in capsys.readouterr().err
    load(path, progress=False)
    assert capsys.readouterr().err == ""


def test_the_report_comes_before_the_extract(run, load, table_of, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise DatabaseError("the extract failed")

    monkeypatch.setattr("usage_explore.extract.refresh.refresh", fail)
    path = load.file("events.csv", table_of())
    ended = run(path, "--organization-id", ORG)
    assert ended.exit_code == 0  # queries read the event from the database
    assert ended.stdout.startswith(f"{path}: loaded 1 event (0 already there, 0 rejected)")
    assert "the extract failed" in ended.stderr
