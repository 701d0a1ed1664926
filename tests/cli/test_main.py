"""The command: what it says, where it says it, and the exit code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import urlopen

import click
import pytest
from click.testing import CliRunner, Result

from support.ports import free_port
from support.waiting import PATIENCE
from usage_explore.cli import uvicorn_server
from usage_explore.cli.main import main
from usage_explore.db import ddl
from usage_explore.errors import ConfigurationError

Run = Callable[..., Result]

CSV = """\
id,organization_id,customer_id,metric_key,quantity,timestamp,idempotency_key
6f1c2d3e-0000-4000-8000-00000000000{n},{owner},6f1c2d3e-0000-4000-8000-0000000000cc,tokens,{n}.5,2026-03-01T00:00:0{n}Z,k{n}
"""
OWNERS = ("6f1c2d3e-0000-4000-8000-0000000000aa", "6f1c2d3e-0000-4000-8000-0000000000bb")


@pytest.fixture
def run(database_url: str) -> Run:
    """Run the command on the fresh database."""

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["--database-url", database_url, *arguments])

    return run


@pytest.fixture
def loaded(run: Run, tmp_path: Path) -> Run:
    """The same, with one event of each of two organizations."""
    for n, owner in enumerate(OWNERS, 1):
        (tmp_path / f"{n}.csv").write_text(CSV.format(n=n, owner=owner))
    result = run("load", str(tmp_path / "1.csv"), str(tmp_path / "2.csv"))
    assert result.exit_code == 0, result.output
    return run


def test_every_command_has_help() -> None:
    for name, command in main.commands.items():
        result = CliRunner().invoke(main, [name, "--help"])
        assert result.exit_code == 0
        assert command.help


@pytest.mark.parametrize(
    ("code", "heavy"),
    [
        (
            "from usage_explore.cli.main import main; main(['doctor', '--help'], standalone_mode=False)",
            {"duckdb", "numpy", "pandas", "psycopg", "pyarrow", "sqlalchemy"},
        ),
        ("import usage_explore.cli.uvicorn_server", {"altair", "pandas", "streamlit"}),
        ("import usage_explore.cli.app_server", {"altair", "pandas"}),
        ("import usage_explore.app.load.work", {"openpyxl"}),
    ],
    ids=["help", "the API", "the app", "the page Load"],
)
def test_what_a_start_does_not_wait_for(code: str, heavy: set[str]) -> None:
    """Help needs no driver and no data frames, API and app need charts and data frames when the first one is drawn.

    Excel workbooks are read when the first one is given: to load what reads them takes 0.15 s of CPU.
    """
    code += f"; import sys; print('loaded:', *sorted({heavy!r} & {{*sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded:"


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output.startswith("usage-explore, version ")


def test_init_says_what_it_did(run: Run) -> None:
    first, second = run("init"), run("init")
    events, views = first.output.splitlines()
    assert events in ("Created the table usage_events.", "Created the hypertable usage_events.")
    assert views == (
        "Created the tables usage_decisions, usage_links, usage_prices, usage_signoffs, usage_validation_runs and"
        " usage_views beside it, for prices and for what people save and decide."
    )
    assert second.output.splitlines() == [events.replace("Created", "Already there:")]


@pytest.mark.parametrize("place", ["before", "after"])
def test_options_go_before_or_after_the_command(run: Run, connection: ddl.Connection, place: str) -> None:
    option = ["--table", "metering.events"]
    result = run(*option, "init") if place == "before" else run("init", *option)
    assert "metering.events" in result.output
    assert connection.execute("SELECT to_regclass('metering.events') IS NOT NULL").fetchone() == (True,)


@pytest.mark.parametrize("place", ["before", "after"])
def test_options_beat_the_environment(run: Run, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.setenv("USAGE_EXPLORE_TABLE", "not.here")
    option = ["--table", "metering.events"]
    result = run(*option, "init") if place == "before" else run("init", *option)
    assert "metering.events" in result.output


def test_load_then_doctor_then_export(loaded: Run, tmp_path: Path) -> None:
    examined = loaded("doctor")
    assert (examined.exit_code, "0 faults, 0 warnings" in examined.output) == (0, True)
    exported = loaded(
        "export", str(tmp_path / "out.csv"), "--organization-id", OWNERS[1], "--query", "metric_key=tokens"
    )
    assert exported.output == f"Wrote 1 event to {tmp_path / 'out.csv'}.\n"
    assert OWNERS[1] in (tmp_path / "out.csv").read_text()
    assert OWNERS[0] not in (tmp_path / "out.csv").read_text()


def test_query_may_be_a_link(loaded: Run, tmp_path: Path) -> None:
    link = f"http://127.0.0.1:8501/events?organization_id={OWNERS[0]}&metric_key=other"
    assert "Wrote 0 events" in loaded("export", str(tmp_path / "out.csv"), "--query", link).output
    of_page = f"{link}&limit=50"
    assert "Wrote 0 events" in loaded("export", str(tmp_path / "out.csv"), "--query", of_page).output


def test_a_file_name_of_two_lines_makes_no_second_line(run: Run, tmp_path: Path) -> None:
    result = run("load", str(tmp_path / "a\nError: done.csv"))
    assert result.exit_code == 1
    assert result.stderr == f"Error: {tmp_path}/a\\nError: done.csv: there is no such file\n"


def test_organizations_are_listed(loaded: Run) -> None:
    assert loaded("organizations").output.split() == list(OWNERS)


def test_mapping_names_the_files_columns(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text(CSV.format(n=1, owner=OWNERS[0]).replace("timestamp", "at", 1).replace("quantity", "qty", 1))
    assert run("load", str(path)).exit_code == 1
    assert "loaded 1 event" in run("load", str(path), "--map", "timestamp=at", "--map", "quantity=qty").output


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["timestamp"], "'timestamp' is not COLUMN=SOURCE"),
        (["=at"], "'=at' is not COLUMN=SOURCE"),
        (["timestamp=a", "timestamp=b"], "timestamp is given twice"),
    ],
)
def test_bad_mapping_is_refused(run: Run, tmp_path: Path, pairs: list[str], said: str) -> None:
    arguments = [word for pair in pairs for word in ("--map", pair)]
    result = run("load", str(tmp_path / "any.csv"), *arguments)
    assert (result.exit_code, result.stderr.startswith(f"Error: --map: {said}")) == (1, True)


def test_demo_appends_and_lists_its_incidents(run: Run) -> None:
    assert "No planted incidents" in run("demo", "--incidents").output
    until = ["--until", "2026-09-03T00:00:00Z", "--days", "2"]
    first, second = run("demo", *until), run("demo", *until)
    assert first.stdout.startswith("Appended ")
    assert "Demo data: 3 of 3 days\n" in first.stderr
    assert second.stdout.startswith("Nothing to append")
    header, *lines = run("demo", "--incidents").output.splitlines()
    assert header.split() == ["day", "kind", "events", "what"]
    assert [line.split()[:2] for line in lines] == [["2026-09-02", "mispriced_cost"]]


@pytest.mark.parametrize("until", ["yesterday", "2026-09-01T00:00:00"])
def test_until_needs_an_offset(run: Run, until: str) -> None:
    result = run("demo", "--until", until)
    assert (result.exit_code, result.stderr.startswith("Error: --until: ")) == (1, True)


def test_demo_is_not_mixed_into_somebody_elses_events(loaded: Run) -> None:
    result = loaded("demo", "--days", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: table: ")


def test_wrong_question_is_code_2(loaded: Run, tmp_path: Path) -> None:
    result = loaded("export", str(tmp_path / "out.csv"), "--query", "metrik_key=tokens")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: metrik_key: unknown parameter")
    result = loaded("export", str(tmp_path / "out.csv"), "--query", "limit=5")
    assert (result.exit_code, result.stderr.startswith("Error: limit: has no effect on an export")) == (2, True)
    result = loaded("export", str(tmp_path / "out.csv"), "--query", "https://usage.example.com/s/0a1b2c3d4e5f6a7b")
    assert (result.exit_code, result.stderr.startswith("Error: link: is a short link")) == (2, True)


def test_several_organizations_need_a_choice(loaded: Run, tmp_path: Path) -> None:
    result = loaded("export", str(tmp_path / "out.csv"))
    assert (result.exit_code, result.stderr.startswith("Error: organization_id: ")) == (1, True)


def test_database_that_is_away_is_one_sentence() -> None:
    result = CliRunner().invoke(main, ["init", "--database-url", "postgresql://127.0.0.1:1/nothing"])
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("Error: The database does not answer: ")
    assert len(result.stderr.splitlines()) == 1


def test_databases_refusal_is_one_sentence(run: Run, connection: ddl.Connection) -> None:
    connection.execute("CREATE TABLE usage_events_cover ()")
    connection.commit()
    result = run("init")
    assert result.exit_code == 1
    assert result.stderr.startswith('Error: The database refused: relation "usage_events_cover" already exists')


def test_doctor_fails_where_there_are_faults(run: Run) -> None:
    result = run("doctor")
    assert result.exit_code == 1
    assert "FAULT    table: usage_events does not exist" in result.output
    assert "1 fault, 0 warnings in 3 checks." in result.output


def test_table_name_that_cannot_be_one(run: Run) -> None:
    assert run("doctor", "--table", "a b").stderr.startswith("Error: table: 'a b' is not a table name")


def test_taken_port_is_refused() -> None:
    with socket.create_server((uvicorn_server.HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"--port: {port} is in use"):
            uvicorn_server.free_port(port)
    assert uvicorn_server.free_port(port) == port


@pytest.fixture
def app(home: Path) -> Iterator[subprocess.Popen[str]]:
    """The app on an embedded database without events, in a process group of its own."""
    port = free_port()
    with subprocess.Popen(
        [sys.executable, "-m", "usage_explore", "app", "--home", str(home), "--port", str(port), "--no-demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # a shell that runs the tests in the background has them ignore Ctrl-C, and children inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        yield process
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)


# by kill, by a service manager, and by Ctrl-C
@pytest.mark.parametrize(
    ("number", "whom"),
    [
        (signal.SIGTERM, "the command"),
        pytest.param(signal.SIGTERM, "its group", marks=pytest.mark.thorough),
        (signal.SIGINT, "its group"),
    ],
)
def test_app_answers_and_ends_in_order(
    app: subprocess.Popen[str], home: Path, number: signal.Signals, whom: str
) -> None:
    assert app.stdout is not None
    line = next(line for line in app.stdout if "usage-explore is at" in line)
    url = line.split()[3]
    assert url.startswith("http://127.0.0.1:")
    with urlopen(f"{url}/_stcore/health") as response:
        assert response.status == 200
    assert (home / "data" / "postmaster.pid").exists()
    (app.send_signal if whom == "the command" else lambda sent: os.killpg(app.pid, sent))(number)
    rest = app.communicate(timeout=PATIENCE)[0]
    assert "Traceback" not in rest
    assert not (home / "data" / "postmaster.pid").exists()


def test_commands_are_the_documented_ones() -> None:
    assert isinstance(main, click.Group)
    assert sorted(main.commands) == [
        "api",
        "app",
        "backup",
        "decide",
        "decisions",
        "demo",
        "doctor",
        "export",
        "extract",
        "init",
        "keys",
        "load",
        "names",
        "organizations",
        "prices",
        "rate",
        "restore",
        "signoffs",
        "stop",
        "validate",
    ]


def test_a_key_for_an_organization_without_events_is_made_with_a_warning(
    loaded: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("USAGE_EXPLORE_HOME", str(tmp_path))
    known, unknown = (
        loaded("keys", "create", "--name", "bot", "--organization-id", owner)
        for owner in (OWNERS[0], OWNERS[0][:-1] + "0")
    )
    assert (known.exit_code, unknown.exit_code) == (0, 0)
    assert "no events" not in known.stderr
    assert unknown.stderr.endswith(
        "It has no events yet: until it has, the key opens nothing. Check the id if it should.\n"
    )
    away = CliRunner().invoke(
        main,
        [
            "keys",
            "create",
            "--name",
            "b",
            "--organization-id",
            OWNERS[0],
            "--database-url",
            "postgresql://127.0.0.1:1/x",
        ],
    )
    assert away.exit_code == 0
    assert away.stderr.endswith("Whether it has events is not known: the database did not answer.\n")


def test_a_load_speaks_of_the_extracts_of_what_it_loaded(loaded: Run, database_url: str, tmp_path: Path) -> None:
    with ddl.connect(database_url) as connection:
        connection.execute(
            "UPDATE usage_events SET quantity = 'NaN', ingested_at = '2026-03-02Z' WHERE organization_id = %s",
            [OWNERS[0]],
        )
    loaded("extract", "--drop")
    said = {}
    for n, owner in enumerate(reversed(OWNERS), 3):
        path = tmp_path / f"{n}.csv"
        path.write_text(CSV.format(n=n, owner=owner))
        said[owner] = loaded("load", str(path)).stderr
    refused = f"No extract of organization {OWNERS[0]}: quantity is NaN"
    assert [refused in said[owner] for owner in OWNERS] == [True, False]
